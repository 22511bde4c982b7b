"""Which released versions hold this image, or this subject?"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from curate.errors import CurateError, InputError, did_you_mean
from curate.manifest import log
from curate.manifest.place import Place, sha256_of
from curate.manifest.read import load_named_manifest, load_table
from curate.manifest.tombstone import read_tombstone

SHORT_ID = 7
_N_SHOWN = 5
_MAX_COMPARED = 100_000  # rows among which a misspelt path is looked for
_COLUMNS = ("sample_id", "uri", "content_sha256", "subject_key", "groups")


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is looked for; a row that fits any of it is found.

    Attributes:
        sample_ids: of images.
        content_sha256: of image bytes.
        uri: path of an image as releases name it, or the end of one.
        subject: value of the released group `subject`, or a subject's key.
        looked_up: sample ids of which the workspace knows whose they are; of no use without `subject`.
    """

    sample_ids: tuple[str, ...] = ()
    content_sha256: tuple[str, ...] = ()
    uri: str | None = None
    subject: str | None = None
    looked_up: pa.Array = field(default_factory=lambda: pa.array([], pa.string()))

    @property
    def is_only_a_path(self) -> bool:
        """Whether nothing but a path is looked for, of no file that is here: where no release knows it, it is no name."""
        return self.uri is not None and not (self.content_sha256 or self.sample_ids or self.subject)


def wanted_image(word: str) -> Wanted:
    """Return what a word on the command line means: a sample id, a sha256, an image file, or a path in a release."""
    if re.fullmatch(r"[0-9a-f]{64}", word):
        return Wanted(content_sha256=(word,))
    if re.fullmatch(r"[0-9a-f]{24}", word):
        return Wanted(sample_ids=(word,))
    digest = (sha256_of(Path(word)),) if Path(word).is_file() else ()
    return Wanted(uri=word, content_sha256=digest)


def wanted_subject(subject: str, workspace: Path) -> tuple[Wanted, int]:
    """Return what a subject means, and in how many sample tables of the workspace it was looked up.

    Releases do not name subjects unless their policy says so; runs that are still in the cache know whose images
    were whose.
    """
    ids: set[str] = set()
    looked_up: list[pa.Array] = []
    n_tables = 0
    for file in sorted(workspace.glob("*/cache/ingest/*.samples.parquet")):
        table = pq.read_table(file)
        n_tables += 1
        looked_up += table["sample_id"].chunks
        for name in ("subject_id", "group_subject"):
            if name in table.column_names:
                ids.update(table.filter(pc.equal(table[name].cast(pa.string()), subject))["sample_id"].to_pylist())
    known = pc.unique(pa.chunked_array(looked_up, pa.string()))
    return Wanted(sample_ids=tuple(sorted(ids)), subject=subject, looked_up=known), n_tables


def holding(root: Place, wanted: Wanted, names: Sequence[str] | None = None) -> dict[str, Any]:
    """Return the versions that hold what is wanted, newest first, and those that could not be looked into.

    Args:
        root: where releases are.
        wanted: see there.
        names: of releases; None = all.

    Returns:
        `versions`: for each, name, version, id, is_latest, retracted, n_released, n_excluded (rows that fit in
        data/ and in excluded/), uris and sample_ids; `unread`: name, id and why;
        `hint`: where nothing was found, the path in the newest versions that is closest to the one given, in words.

    Raises:
        InputError: there are no releases.
    """
    chosen = list(names) if names else log.published_names(root)
    if not chosen:
        raise InputError(f"There are no releases under {root} to look into.")
    versions: list[dict[str, Any]] = []
    unread: list[dict[str, str]] = []
    for name in chosen:
        if names:
            log.resolve(root, name)  # says which releases there are if this is none
        entries = log.read_log(root, name)
        head, gone = log.latest(entries), log.retractions(entries)
        for entry in reversed(log.publications(entries).values()):
            if read_tombstone(log.release_folder(root, name), entry.id):
                continue  # erased on request: it holds nothing
            try:
                found = _found_in(log.release_folder(root, name) / "versions" / entry.id, wanted)
            except CurateError as error:
                unread.append({"name": name, "id": entry.id, "why": str(error)})
                continue
            n_unknown = found.pop("n_unknown")
            if n_unknown:
                unread.append({"name": name, "id": entry.id, "why": _whose(n_unknown)})
            if found["n_released"] or found["n_excluded"]:
                of = {"name": name, "version": entry.number, "id": entry.id, "retracted": entry.id in gone}
                versions.append({**of, "is_latest": head is not None and head.id == entry.id, **found})
    hint = "" if versions else _closest(root, chosen, wanted)
    return {"versions": versions, "unread": unread, "hint": hint}


def holding_lines(found: Mapping[str, Any]) -> list[str]:
    """Return it for people."""
    told = []
    for version in found["versions"]:
        state = "retracted" if version["retracted"] else "latest" if version["is_latest"] else ""
        uris = version["uris"]
        more = f" and {len(uris) - _N_SHOWN:,} more" if len(uris) > _N_SHOWN else ""
        told.append(
            f"{version['name']} v{version['version']} ({version['id'][:SHORT_ID]}){f', {state}' if state else ''}: "
            f"{version['n_released']:,} released rows, {version['n_excluded']:,} excluded; "
            f"{', '.join(uris[:_N_SHOWN])}{more}"
        )
    told += [f"COULD NOT LOOK into {one['name']} {one['id'][:SHORT_ID]}: {one['why']}" for one in found["unread"]]
    if not found["versions"]:
        told.append(
            ("No released version holds it." if not found["unread"] else "No version that could be read holds it.")
            + f" {found['hint']}".rstrip()
        )
    if "n_tables" in found:
        told.append(
            f"Whose images are whose was looked up in {found['n_tables']} sample tables of the workspace's cache; "
            "releases name subjects only where the policy says so."
        )
    return told


def _closest(root: Place, names: Sequence[str], wanted: Wanted) -> str:
    """Return "Did you mean …?" from the paths of the newest version of each release, "" where none is close."""
    if wanted.uri is None:
        return ""
    known = set[str]()
    for name in names:
        head = log.latest(log.read_log(root, name))
        if head is None:
            continue
        version = log.release_folder(root, name) / "versions" / head.id
        try:
            manifest = load_named_manifest(version)
            tables = [load_table(version, manifest, kind, ("uri",)) for kind in ("data", "excluded")]
        except CurateError:
            continue  # said already: it stands in `unread`, or it was erased
        if sum(table.num_rows for table in tables) + len(known) > _MAX_COMPARED:
            return ""
        known.update(uri for table in tables for uri in _known(table["uri"].to_pylist()))
    if "/" not in wanted.uri:
        known = {uri.rsplit("/", 1)[-1] for uri in known}
    return did_you_mean(wanted.uri, sorted(known))


def _found_in(version: Place, wanted: Wanted) -> dict[str, Any]:
    manifest = load_named_manifest(version)
    counts, ids, uris, n_unknown, names_subjects = {}, set[str](), set[str](), 0, False
    for kind, called in (("data", "n_released"), ("excluded", "n_excluded")):
        table = load_table(version, manifest, kind, _COLUMNS)
        fits = table.filter(_fits(table, wanted))
        counts[called] = fits.num_rows
        ids.update(_known(fits["sample_id"].to_pylist()))
        uris.update(_known(fits["uri"].to_pylist()))
        if wanted.subject is not None:
            known = pc.is_in(table["sample_id"], value_set=wanted.looked_up)
            n_unknown += len(table["sample_id"].filter(pc.invert(known)).drop_null())
            names_subjects |= pc.count(_subjects(table)).as_py() > 0
    told = {**counts, "sample_ids": sorted(ids), "uris": sorted(uris)}
    return {**told, "n_unknown": 0 if names_subjects else n_unknown}


def _whose(n_rows: int) -> str:
    return (
        f"whose image {n_rows:,} of its rows are about, neither the version nor the cache of this workspace says. "
        "curate ingest SPEC brings that back for what the source still has"
    )


def _subjects(table: pa.Table) -> pa.Array:
    """Return the released subject of each row; null where the policy releases none."""
    return pc.map_lookup(table["groups"].combine_chunks(), "subject", "first")


def _known(values: Iterable[str | None]) -> Iterable[str]:
    return (value for value in values if value is not None)


def _fits(table: pa.Table, wanted: Wanted) -> pa.ChunkedArray:
    fits = pc.is_in(table["sample_id"], value_set=pa.array(wanted.sample_ids, pa.string()))
    if wanted.content_sha256:
        fits = pc.or_(
            fits, pc.is_in(table["content_sha256"], value_set=pa.array(wanted.content_sha256, pa.string()))
        )
    if wanted.uri is not None:
        is_it = pc.or_(pc.equal(table["uri"], wanted.uri), pc.ends_with(table["uri"], f"/{wanted.uri.lstrip('/')}"))
        fits = pc.or_(fits, pc.fill_null(is_it, fill_value=False))
    if wanted.subject is not None:
        for column in (table["subject_key"].combine_chunks(), _subjects(table)):
            fits = pc.or_(fits, pc.fill_null(pc.equal(column, wanted.subject), fill_value=False))
    return fits
