"""`log`, `diff` and `verify` over a workspace: references in, what a person or a machine reads out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow.compute as pc

from curate.errors import ConfigError
from curate.manifest import log
from curate.manifest.diff import Diff, diff
from curate.manifest.tombstone import read_tombstone
from curate.manifest.verify import Promise, verify

SHORT_ID = 7


def log_entries(workspace: Path, name: str) -> list[dict[str, Any]]:
    """Return the log of a release, newest first.

    Raises:
        ConfigError: nothing was published under that name.
    """
    root = workspace / "manifests"
    log.resolve(root, name)  # says which releases there are if this is none
    base = log.release_folder(root, name)
    entries = [asdict(entry) for entry in reversed(log.read_log(root, name))]
    for entry in entries:
        gone = read_tombstone(base, entry["id"])
        if gone is not None:
            entry["tombstone"] = gone.to_json()
    return entries


def log_row(entry: Mapping[str, Any]) -> Sequence[Any]:
    """Return the cells of an entry as the terminal shows them."""
    counts = entry["counts"]
    version = f"v{entry['number']}" if entry["kind"] in log.NUMBERED else entry["kind"]
    version += " (erased)" if "tombstone" in entry else ""
    rows = (counts.get("n_released", "?"), counts.get("n_excluded", "?"))
    return (version, entry["id"][:SHORT_ID], entry["at"], *rows, entry["gates"], entry["host"])


@dataclass(frozen=True, slots=True)
class ShownDiff:
    """A diff with at most `limit` rows of each kind written out."""

    diff: Diff
    limit: int

    def to_json(self) -> dict[str, Any]:
        """Return it for machines: the summary, and every changed row."""
        summary = dict(self.diff.summary)
        return {"before": self.diff.before, "after": self.diff.after, "summary": summary} | {
            "rows": self.diff.rows.to_pylist()
        }

    def lines(self) -> list[str]:
        """Return it for people."""
        told = [f"{self.diff.before[:SHORT_ID]} → {self.diff.after[:SHORT_ID]}"]
        if self.diff.is_empty:
            return [*told, "No released row differs."]
        counts = {row["values"]: row["counts"] for row in pc.value_counts(self.diff.rows["change"]).to_pylist()}
        for change, count in counts.items():
            told.append(f"{change}: {count:,}")
            rows = self.diff.rows.filter(pc.equal(self.diff.rows["change"], change)).slice(0, self.limit)
            told += [f"  {_change(row)}" for row in rows.to_pylist()]
            if count > self.limit:
                told.append(f"  … and {count - self.limit:,} more (--limit, --json)")
        return told


def _change(row: Mapping[str, Any]) -> str:
    codes = row["reason_codes_after"] or row["reason_codes_before"] or []
    because = f" because of {', '.join(sorted(set(codes))).replace('_', ' ')}" if codes else ""
    arrow = f"{row['before'] if row['before'] is not None else '–'} → {row['after'] if row['after'] is not None else '–'}"  # noqa: RUF001 - a dash for nothing
    action = f" ({row['action_after']})" if row["action_after"] else ""
    return f"{row['uri']}: {arrow}{action}{because}"


def diff_versions(workspace: Path, before: str, after: str, *, limit: int) -> ShownDiff:
    """Return what changed from one version to another of a workspace.

    Raises:
        ConfigError: no such version.
        VerificationError: a version cannot be read.
    """
    root = workspace / "manifests"
    name = before.partition("@")[0]
    later = after if "@" in after or log.read_log(root, after) else f"{name}@{after}"
    return ShownDiff(diff(log.resolve(root, before), log.resolve(root, later)), limit)


@dataclass(frozen=True, slots=True)
class Verification:
    """What `verify` found, promise by promise."""

    path: Path
    promises: Sequence[Promise]

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
        return [*told, "Every promise is kept." if self.ok else "NOT as it was published. Restore it from a copy."]


def verify_version(
    workspace: Path, reference: str, *, progress: Callable[[int, int | None], None] | None = None
) -> Verification:
    """Check every promise of a version.

    Raises:
        ConfigError: no such version.
        VerificationError: the log itself is damaged.
    """
    if not reference:
        raise ConfigError("verify needs a version: NAME, NAME@ID or NAME@vN.")
    path = log.resolve(workspace / "manifests", reference)
    return Verification(path, verify(path, progress=progress))
