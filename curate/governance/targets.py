"""Which samples an erasure is about: the one that is named, or all of a subject; copies of their bytes everywhere."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from curate import schema
from curate.checks.families import families, links
from curate.checks.pictures import SimilarityParams, near_duplicate_links
from curate.errors import ConfigError, did_you_mean
from curate.governance.places import releases_in
from curate.governance.suppression import SUBJECT_GROUP, load_suppression
from curate.manifest.place import Place, names_in
from curate.manifest.read import load_release
from curate.manifest.store import MANIFEST
from curate.runs import Workspace

_KNOWN = pa.schema(
    [
        pa.field("dataset", pa.string()),
        pa.field("sample_id", pa.string()),
        pa.field("source", pa.string()),
        pa.field("uri", pa.string()),
        pa.field("subject", pa.string()),
    ]
)


@dataclass(frozen=True, slots=True)
class NearDuplicate:
    """A picture that looks like an erased one and is not the same bytes; whether it goes is for a person to say."""

    sample_id: str
    dataset: str
    uri: str
    distance_bits: int
    same_pixels: bool

    def to_json(self) -> dict[str, Any]:
        """Return it for machines."""
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(frozen=True)
class Known:
    """What a workspace knows of every sample, from its caches and versions.

    Attributes:
        samples: dataset, sample_id, source, uri, subject (a row per place it was found in).
        labels: sample_id, label_id.
        contents: sample_id, content_sha256.
        scan: `schema.SCAN`, what the scan caches hold; a file that was changed has a row for each of its contents.
        roots: folders that sources were read from.
        classes: of all versions.
    """

    samples: pa.Table
    labels: pa.Table
    contents: pa.Table
    scan: pa.Table
    roots: Sequence[str]
    classes: frozenset[str]


def dataset_names(root: Path, elsewhere: Sequence[Place] = ()) -> list[str]:
    """Return every dataset that a workspace or a place of releases elsewhere holds anything of, sorted."""
    own = [path.name for path in root.iterdir() if (path / "runs").is_dir() or (path / "cache").is_dir()]
    manifests = root / "manifests"
    published = [path.name for path in manifests.iterdir() if path.is_dir()] if manifests.is_dir() else []
    return sorted({*own, *published, *(path.name for folder in elsewhere for path in releases_in(folder))})


def version_folders(manifests: Place, name: str) -> list[Place]:
    """Return the folders of a dataset's versions in a place of releases, sorted by ID."""
    versions = manifests / name / "versions"
    return [versions / one for one in names_in(versions) if (versions / one / MANIFEST).is_file()]


def gather(root: Path, elsewhere: Sequence[Place] = ()) -> Known:
    """Read every ingest and scan cache of a workspace, and every version in it and in places elsewhere.

    Raises:
        VerificationError: a version cannot be read, so that nobody could say whether it holds the sample.
    """
    samples, labels, contents = [_KNOWN.empty_table()], [], []
    scans, roots, classes = [schema.empty(schema.SCAN)], set(), set()
    for name in dataset_names(root, elsewhere):
        place = Workspace(root, name)
        samples += [_known(table, name) for table in _tables(place.cache / "ingest", ".samples.parquet")]
        labels += [_pairs(table, "label_id") for table in _tables(place.cache / "ingest", ".labels.parquet")]
        scans += [table.select(schema.SCAN.names).cast(schema.SCAN) for table in _tables(place.cache / "scan", "")]
        roots |= {*_source_roots(place), str(place.media)}
        for folder in (one for top in (root / "manifests", *elsewhere) for one in version_folders(top, name)):
            version = load_release(folder)
            classes |= set(version.manifest["classes"])
            for table in (version.data, version.excluded):
                rows = table.filter(pc.is_valid(table["sample_id"]))
                samples.append(_known(rows.filter(pc.is_valid(rows["uri"])), name))
                labels.append(_pairs(rows, "label_id"))
                contents.append(_pairs(rows, "content_sha256"))
    scan = pa.concat_tables(scans).combine_chunks()
    labels.append(_pairs(schema.empty(schema.LABELS), "label_id"))
    contents.append(_pairs(scan, "content_sha256"))
    return Known(
        samples=_distinct(pa.concat_tables(samples)),
        labels=_distinct(pa.concat_tables(labels)),
        contents=_distinct(pa.concat_tables(contents)),
        scan=scan,
        roots=sorted(roots),
        classes=frozenset(classes),
    )


def named_samples(
    known: Known,
    root: Path,
    name: str,
    *,
    samples: Sequence[str],
    subject: str | None,
    elsewhere: Sequence[Place] = (),
) -> set[str]:
    """Return the ids of the samples of a dataset that are meant.

    Args:
        known: what the workspace knows.
        root: the workspace.
        name: of the dataset.
        samples: ids or uris.
        subject: as the source names it (`subject_id`, or the group "subject").
        elsewhere: places of releases beside the workspace's own.

    Raises:
        ConfigError: the dataset, a sample or the subject is not known.
    """
    names = dataset_names(root, elsewhere)
    if name not in names:
        hint = did_you_mean(name, names) or f"Datasets: {', '.join(names) or 'none'}."
        raise ConfigError(f"There is no dataset {name!r} in {root}. {hint}")
    rows = known.samples.filter(pc.equal(known.samples["dataset"], name))
    found: set[str] = set()
    for wanted in samples:
        fits = pc.or_(pc.equal(rows["sample_id"], wanted), pc.equal(rows["uri"], wanted))
        ids = set(rows.filter(fits)["sample_id"].to_pylist())
        if not ids:
            raise ConfigError(_not_known(root, rows, name, wanted))
        found |= ids
    if subject is not None:
        ids = set(rows.filter(pc.equal(rows["subject"], subject))["sample_id"].to_pylist())
        if not ids:
            raise ConfigError(
                f"No sample of {name} is known to show the subject {subject!r}. Subjects come from the column that the "
                f"spec names (columns.subject_id or groups.subject) and are known from the last ingest: if the cache "
                f"was deleted, run curate ingest SPEC first."
            )
        found |= ids
    return found


def with_same_bytes(known: Known, sample_ids: set[str]) -> tuple[set[str], set[str]]:
    """Return the samples of any dataset that have the bytes of one of these, and all hashes of those bytes."""
    contents = known.contents
    while True:
        mine = contents.filter(pc.is_in(contents["sample_id"], value_set=_texts(sample_ids)))
        hashes = set(mine["content_sha256"].to_pylist()) - {None}
        same = contents.filter(pc.is_in(contents["content_sha256"], value_set=_texts(hashes)))
        grown = sample_ids | set(same["sample_id"].to_pylist())
        if grown == sample_ids:
            return sample_ids, hashes
        sample_ids = grown


def near_duplicates(known: Known, sample_ids: set[str]) -> list[NearDuplicate]:
    """Return the near duplicates of these, nearest first, by the bounds of the checks; not those of those in turn."""
    first = pc.index_in(pc.unique(known.scan["sample_id"]), value_set=known.scan["sample_id"].combine_chunks())
    scan = known.scan.take(first).combine_chunks()
    view = scan.append_column("split", pa.nulls(scan.num_rows, pa.string()))
    pairs = np.concatenate([near_duplicate_links(view), links(scan["thumbnail_sha256"])])
    family = families(scan["sample_id"], pairs)
    mine = np.asarray(pc.is_in(scan["sample_id"], value_set=_texts(sample_ids)))
    near = np.flatnonzero(np.isin(family, family[mine]) & ~mine)
    if not near.size:
        return []
    rows = scan.select(["sample_id", "phash", "thumbnail_sha256"])
    erased = rows.filter(pa.array(mine))
    prints = np.asarray(pc.fill_null(erased["phash"], 0).to_numpy(), dtype=np.uint64)
    pixels = set(erased["thumbnail_sha256"].to_pylist()) - {None}
    where = {row["sample_id"]: row for row in known.samples.to_pylist()}
    found = []
    for row in rows.take(pa.array(near)).to_pylist():
        bits = int(np.bitwise_count(prints ^ np.uint64(row["phash"] or 0)).min())
        place = where.get(row["sample_id"], {"dataset": "?", "uri": "?"})
        same = row["thumbnail_sha256"] in pixels
        if not same and bits > SimilarityParams().max_distance_bits:
            continue
        found.append(NearDuplicate(row["sample_id"], place["dataset"], place["uri"], bits, same))
    return sorted(found, key=lambda one: (not one.same_pixels, one.distance_bits, one.sample_id))


def _not_known(root: Path, rows: pa.Table, name: str, wanted: str) -> str:
    listed = load_suppression(root)
    sources = set(pc.unique(rows["source"]).to_pylist()) | {name}
    ids = [wanted, *(schema.sample_id_of(source, wanted) for source in sorted(sources))]
    if any(listed.has("sample", one) for one in ids):
        return f"The sample {wanted!r} of {name} was erased before; nothing of it is left to erase."
    hint = did_you_mean(wanted, pc.unique(rows["uri"]).to_pylist()[:20_000])
    return (
        f"No sample of {name} has the id or uri {wanted!r}: it stands in no cache and no version. Give the uri as the "
        f"manifest has it. {hint}"
    ).rstrip()


def _tables(folder: Path, ending: str) -> Iterator[pa.Table]:
    for file in sorted(folder.glob(f"*{ending or '.parquet'}")) if folder.is_dir() else []:
        try:
            yield pq.read_table(file, partitioning=None)
        except (OSError, pa.ArrowInvalid):
            continue  # a torn cache file counts as absent wherever it is read; erasing deletes it


def _known(table: pa.Table, dataset: str) -> pa.Table:
    n = table.num_rows
    subject = pa.nulls(n, pa.string())
    for name in (SUBJECT_GROUP, "subject_id"):
        if name in table.column_names:
            subject = pc.coalesce(table[name].cast(pa.string()), subject)
    if "groups" in table.column_names:
        subject = pa.array([dict(groups).get("subject") for groups in table["groups"].to_pylist()], pa.string())
    columns = [pa.array([dataset] * n, pa.string()), table["sample_id"], table["source"], table["uri"], subject]
    return pa.table(columns, schema=_KNOWN)


def _pairs(table: pa.Table, name: str) -> pa.Table:
    """Return sample_id and one other text column, rows without it left out."""
    pairs = table.select(["sample_id", name]).filter(pc.is_valid(table[name]))
    return pairs.cast(pa.schema([("sample_id", pa.string()), (name, pa.string())]))


def _source_roots(place: Workspace) -> Iterator[str]:
    for file in (place.folder / "runs").glob("*/run.json"):
        try:
            given = json.loads(file.read_bytes()).get("source_root")
        except (OSError, ValueError):
            continue
        if given:
            yield str(given)


def _distinct(table: pa.Table) -> pa.Table:
    return table.group_by(table.column_names, use_threads=False).aggregate([])


def _texts(values: set[str]) -> pa.Array:
    return pa.array(sorted(values), pa.string())
