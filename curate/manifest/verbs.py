"""`log`, `diff`, `verify`, `sign` and `gc`: references in, what a person or a machine reads out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow.compute as pc

from curate.errors import ConfigError
from curate.manifest import life, log
from curate.manifest.diff import Diff, diff
from curate.manifest.diff_causes import cause_text
from curate.manifest.diff_soft import LEAST
from curate.manifest.inputs import input_text
from curate.manifest.place import Place, names_in
from curate.manifest.publish import collect_leftovers
from curate.manifest.read import NEWER, load_evidence, load_manifest
from curate.manifest.signatures import sign
from curate.manifest.tombstone import read_tombstone
from curate.manifest.verify import Promise, require, verify

SHORT_ID = 7


def log_entries(root: Place, name: str) -> list[dict[str, Any]]:
    """Return the log of a release, newest first; `retracted` says when and why, in the entries of such a version.

    Raises:
        ConfigError: nothing was published under that name.
    """
    entries = log.read_log(root, name)
    if not entries:
        log.resolve(root, name)  # says which releases there are if this is none
    base = log.release_folder(root, name)
    told = [_bare(asdict(entry)) for entry in reversed(entries)]
    retracted = log.retractions(entries)
    for entry in told:
        if entry["kind"] != "retract" and entry["id"] in retracted:
            said = retracted[entry["id"]]
            entry["retracted"] = {"at": said.at, "why": said.why}
        gone = read_tombstone(base, entry["id"])
        if gone is not None:
            entry["tombstone"] = gone.to_json()
    return told


def _bare(entry: dict[str, Any]) -> dict[str, Any]:
    """Leave out what an entry of its kind does not have."""
    return {key: value for key, value in entry.items() if value or key not in {"why", "tag", "more"}}


def log_row(entry: Mapping[str, Any]) -> Sequence[Any]:
    """Return the cells of an entry as the terminal shows them."""
    counts = entry["counts"]
    version = f"v{entry['number']}" if entry["kind"] in log.NUMBERED else entry["kind"]
    version += " (erased)" if "tombstone" in entry else ""
    version += " (RETRACTED)" if "retracted" in entry else ""
    rows = (counts.get("n_released", ""), counts.get("n_excluded", ""))
    return (version, entry["id"][:SHORT_ID], entry["at"], *rows, entry["gates"], entry["host"])


def log_remarks(entries: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return a line for each entry with a tag or a reason: beside a table, a narrow terminal has no room for it."""
    told = []
    for entry in entries:
        said = ": ".join(part for part in (entry.get("tag", ""), entry.get("why", "")) if part)
        if said:
            told.append(f"{entry['kind']} {entry['id'][:SHORT_ID]}: {said}")
    return told


@dataclass(frozen=True, slots=True)
class ShownDiff:
    """A diff with at most `limit` rows of each kind written out."""

    diff: Diff
    limit: int
    page: Path | None = None

    def to_json(self) -> dict[str, Any]:
        """Return it for machines: the summary, and every changed row."""
        summary = dict(self.diff.summary)
        return {"before": self.diff.before, "after": self.diff.after, "summary": summary} | {
            "rows": self.diff.rows.to_pylist(),
            "page": str(self.page) if self.page else None,
        }

    def lines(self) -> list[str]:
        """Return it for people."""
        told = [f"{self.diff.before[:SHORT_ID]} → {self.diff.after[:SHORT_ID]}"]
        page = [f"page → {self.page}"] if self.page else []
        if self.diff.summary["inputs_changed"]:
            told.append(
                f"what went in differs in: {', '.join(map(input_text, self.diff.summary['inputs_changed']))}"
            )
        for kind, rows in self.diff.summary["beside"].items():
            told.append(f"{kind}/ differs: {rows['n_rows_before']:,} → {rows['n_rows_after']:,} rows")
        told += self._soft_lines()
        if self.diff.is_empty:
            return [*told, "No released row differs.", *page]
        counts = {row["values"]: row["counts"] for row in pc.value_counts(self.diff.rows["change"]).to_pylist()}
        for change, count in counts.items():
            told.append(f"{change}: {count:,}")
            rows = self.diff.rows.filter(pc.equal(self.diff.rows["change"], change)).slice(0, self.limit)
            told += [f"  {_change(row)}" for row in rows.to_pylist()]
            if count > self.limit:
                told.append(f"  … and {count - self.limit:,} more (--limit, --json, --html)")
        return [*told, *page]

    def _soft_lines(self) -> list[str]:
        """Return how many soft labels and class maps differ, those too that are not far enough apart to be told."""
        soft, told = self.diff.summary["soft"], []
        for change, what in (("soft label changed", "soft labels"), ("class map changed", "class maps")):
            n_told = self.diff.summary["changes"][change]
            if change in soft and soft[change]["n_differ"]:
                n, n_differ = (soft[change][name] for name in ("n_compared", "n_differ"))
                far = f"{n_told:,} by {soft['told_from']:g} or more (--soft-from)"
                told.append(f"{what}: {n_differ:,} of {n:,} compared differ, {far}")
        return told


def _change(row: Mapping[str, Any]) -> str:
    causes = ", ".join(sorted({cause_text(code) for code in row["causes"]}))
    arrow = " → ".join("–" if value is None else value for value in (row["before"], row["after"]))  # noqa: RUF001 - a dash for nothing
    action = f" ({row['action_after']})" if row["action_after"] else ""
    return f"{row['uri']}: {arrow}{action} because of {causes}"


def diff_versions(
    root: Place,
    before: str,
    after: str,
    *,
    limit: int,
    soft_from: float = LEAST,
) -> ShownDiff:
    """Return what changed from one version to another.

    Args:
        root: where releases are.
        before: NAME, NAME@ID, NAME@vN or NAME@TAG.
        after: the same, or only what stands after the @.
        limit: rows of each kind that are written out for people.
        soft_from: distance from which a soft label is told.

    Raises:
        ConfigError: no such version.
        VerificationError: a version cannot be read.
    """
    name = before.partition("@")[0]
    later = after if "@" in after or log.read_log(root, after) else f"{name}@{after}"
    return ShownDiff(diff(log.resolve(root, before), log.resolve(root, later), soft_from=soft_from), limit)


@dataclass(frozen=True, slots=True)
class Verification:
    """What `verify` found, promise by promise."""

    path: Place
    promises: Sequence[Promise]
    only_bytes: bool = False

    @property
    def ok(self) -> bool:
        """Whether no promise is broken."""
        return all(promise.ok is not False for promise in self.promises)

    def to_json(self) -> dict[str, Any]:
        """Return it for machines."""
        rows = [{"promise": p.name, "ok": p.ok, "detail": p.detail} for p in self.promises]
        return {"version": str(self.path), "ok": self.ok, "promises": rows}

    def lines(self) -> list[str]:
        """Return it for people: a line per promise."""
        marks = {True: "ok    ", False: "BROKEN", None: "-     "}
        told = [f"{self.path}"] + [f"  {marks[p.ok]} {p.name}: {p.detail}" for p in self.promises]
        gone = " But it was RETRACTED: do not use it." if any(p.name == "retracted" for p in self.promises) else ""
        broken = {promise.name for promise in self.promises if promise.ok is False}
        if broken == {"signature"}:
            return [*told, "As it was published, but NOT signed by the key that was asked for." + gone]
        if any(NEWER in promise.detail for promise in self.promises if promise.ok is False):
            return [*told, "Nothing was checked: a newer curate wrote it." + gone]
        if broken:
            again = "Restore it from a copy; or curate run on the same input writes it again."
            return [*told, f"NOT as it was published. {again}"]
        kept = (
            "The bytes are as published; nothing else was checked." if self.only_bytes else "Every promise is kept."
        )
        return [*told, kept + gone]


def verify_version(
    root: Place,
    reference: str,
    *,
    deep: bool = False,
    only_bytes: bool = False,
    key: Path | None = None,
    progress: Callable[[int, int | None], None] | None = None,
) -> Verification:
    """Check every promise of a version.

    Raises:
        ConfigError: no such version.
        VerificationError: the log itself is damaged.
    """
    if not reference:
        raise ConfigError("verify needs a version: NAME, NAME@ID, NAME@vN or NAME@TAG.")
    if deep and only_bytes:
        raise ConfigError("--deep looks into every table and --bytes into none; take one of them.")
    path = log.resolve(root, reference)
    return Verification(
        path, verify(path, progress=progress, deep=deep, only_bytes=only_bytes, key=key), only_bytes
    )


def sign_version(root: Place, reference: str, key: Path) -> dict[str, Any]:
    """Sign a version that is what was published; return the signature's place and key.

    Raises:
        ConfigError: no such version, a retracted one, or no key.
        MissingExtraError: the extra `sign` is not installed.
        VerificationError: the version is damaged, and so is not signed.
    """
    path = log.resolve(root, reference)
    life.refuse_retracted(root, reference, path.name, allowed=False)
    promises = verify(path)
    require(promises, path)
    manifest, _ = load_manifest(path)
    signed = sign(path, manifest, load_evidence(path, "gates")["rows"], key)
    return {
        "id": signed.version_id,
        "key_id": signed.key_id,
        "signature": str(signed.path),
        "is_new": signed.is_new,
    }


def collect(root: Place, name: str | None) -> dict[str, Any]:
    """Remove what killed publications left, of one release or of all; return what was removed by release.

    Raises:
        ConfigError: nothing was published under that name.
    """
    known = log.begun_names(root)
    if name is not None and name not in known:
        log.resolve(root, name)  # says which releases there are
    return {one: collect_leftovers(root, one) for one in ([name] if name else known)}


def unlisted(root: Place, name: str | None) -> dict[str, list[str]]:
    """Return, by release, the ids of versions that stand in their place and that its log does not name.

    Their publisher was cut off in between, or is at work. The same run lists them; they are never removed, since a
    log that was lost would take every version with it.
    """
    told = {}
    for one in [name] if name else log.begun_names(root):
        known = {entry.id for entry in log.read_log(root, one)}
        told[one] = [found for found in names_in(log.release_folder(root, one) / "versions") if found not in known]
    return {one: found for one, found in told.items() if found}
