"""Plan an erasure: everything that it would take out, counted without touching anything."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from curate.adapters.object_store import StorePath
from curate.errors import ConfigError
from curate.governance import database, derived
from curate.governance.journal import Erasure
from curate.governance.outside import kept_by_the_bucket, training_runs, warnings
from curate.governance.places import Elsewhere, elsewhere
from curate.governance.planned import AffectedVersion, Plan
from curate.governance.successor import named_in
from curate.governance.targets import (
    Known,
    dataset_names,
    gather,
    named_samples,
    near_duplicates,
    version_folders,
    with_same_bytes,
)
from curate.manifest import log
from curate.manifest.read import load_release
from curate.manifest.signatures import n_signatures
from curate.runs import Workspace


def plan_erasure(
    root: Path,
    name: str,
    *,
    samples: Sequence[str] = (),
    subject: str | None = None,
    with_near_duplicates: bool = False,
    why: str = "erased on request",
    manifests: str | None = None,
) -> Plan:
    """Return what erasing samples, or all of a subject, would take out of a workspace. Changes nothing.

    The subject is looked for in `name`; samples with the same bytes go from every dataset of the workspace, and from
    every folder of releases that `manifests`, the environment, a run record or a run's spec names.

    Args:
        root: the workspace.
        name: of the dataset.
        samples: ids or uris.
        subject: as the source names it.
        with_near_duplicates: whether pictures that look the same go as well.
        why: goes into the tombstones.
        manifests: a folder of releases that may be named by nothing else.

    Raises:
        ConfigError: neither samples nor a subject, or none of that name; `why` names what it erases.
        VerificationError: a version cannot be read.
    """
    if not samples and subject is None:
        raise ConfigError("An erasure needs to know what: --sample URI-or-id, or --subject S.")
    if not root.is_dir():
        raise ConfigError(f"There is no workspace {root}. Name it with --workspace DIR.")
    places = elsewhere(root, manifests)
    known = gather(root, places.folders)
    named = named_samples(known, root, name, samples=samples, subject=subject, elsewhere=places.folders)
    ids, hashes = with_same_bytes(known, named)
    near = near_duplicates(known, ids)
    if with_near_duplicates and near:
        named = named | {one.sample_id for one in near}
        ids, hashes = with_same_bytes(known, named)
        near = near_duplicates(known, ids)
    erasure = _erasure(root, known, ids, hashes, name=name, subject=subject, why=why, places=places)
    if erasure.traces.hits(why) or (subject is not None and subject in why.split()):
        raise ConfigError("--why goes into the tombstones for good; it must not name what is erased.")
    versions, finding_ids = _versions(root, erasure)
    by_dataset = _ids_by_dataset(versions)
    erasure = replace(
        erasure,
        finding_ids=finding_ids,
        versions=by_dataset,
        datasets=sorted({*erasure.datasets, *by_dataset}),
        signed=_ids_by_dataset([one for one in versions if one.n_signatures]),
    )
    found = database.look(root, erasure)
    return Plan(
        name=name,
        samples=_shown_samples(known, ids),
        n_same_bytes=len(ids - named),
        near=near,
        versions=versions,
        derived={one: _derived(Workspace(root, one), erasure) for one in erasure.datasets},
        n_documents=found.n_documents,
        training_runs=training_runs(erasure.releases(root), by_dataset),
        warnings=[
            *(f"run {one} does not say where it published; name the folder: --manifests" for one in places.unknown),
            *(kept_by_the_bucket(place) for place in erasure.places if isinstance(place, StorePath)),
            *warnings(root, known, erasure.datasets, by_dataset, subject, found.others, name),
        ],
        erasure=erasure,
    )


def _ids_by_dataset(versions: Sequence[AffectedVersion]) -> dict[str, list[str]]:
    """Return dataset -> IDs of its versions, each once: one may be in several places."""
    ids: dict[str, list[str]] = {}
    for version in versions:
        if version.id not in ids.setdefault(version.dataset, []):
            ids[version.dataset].append(version.id)
    return ids


def _erasure(
    root: Path,
    known: Known,
    ids: set[str],
    hashes: set[str],
    *,
    name: str,
    subject: str | None,
    why: str,
    places: Elsewhere,
) -> Erasure:
    wanted = pa.array(sorted(ids), pa.string())
    rows = known.samples.filter(pc.is_in(known.samples["sample_id"], value_set=wanted))
    labels = known.labels.filter(pc.is_in(known.labels["sample_id"], value_set=wanted))
    scan = known.scan.filter(pc.is_in(known.scan["sample_id"], value_set=wanted))
    mine = rows.filter(pc.and_(pc.equal(rows["dataset"], name), pc.equal(rows["subject"], subject or "")))
    sources = sorted(set(mine["source"].to_pylist()) - {None}) if subject is not None else []
    return Erasure(
        at=log.now(),
        why=why,
        datasets=sorted({name, *rows["dataset"].to_pylist()} & set(dataset_names(root, places.folders))),
        sample_ids=sorted(ids),
        label_ids=sorted(set(labels["label_id"].to_pylist()) - {None}),
        finding_ids=(),
        content_sha256=sorted(hashes),
        thumbnail_sha256=sorted(set(scan["thumbnail_sha256"].to_pylist()) - {None}),
        n_bytes=sorted(set(scan["n_bytes"].to_pylist()) - {None}) if _all_scanned(scan, hashes) else [],
        uris=sorted(set(rows["uri"].to_pylist()) - {None}),
        roots=list(known.roots),
        subject=subject,
        sources=sources,
        subject_is_a_word=subject in known.classes,
        versions={},
        elsewhere=[str(folder) for folder in places.folders],
        out_of_reach=list(places.out_of_reach),
    )


def _all_scanned(scan: pa.Table, hashes: set[str]) -> bool:
    """Return whether the size of all bytes is known, so that files of other sizes need not be read."""
    return hashes <= set(scan["content_sha256"].to_pylist())


def _versions(root: Path, erasure: Erasure) -> tuple[list[AffectedVersion], list[str]]:
    wanted, traces = pa.array(list(erasure.sample_ids), pa.string()), erasure.traces
    found, findings = [], set()
    for manifests in erasure.releases(root):
        place = "" if manifests == root / "manifests" else str(manifests)
        for name in dataset_names(root, erasure.places):
            published = log.publications(log.read_log(manifests, name))
            for folder in version_folders(manifests, name):
                n_data, n_excluded, about = named_in(load_release(folder), wanted, traces)
                findings |= set(about)
                if n_data or n_excluded or about:
                    number = published[folder.name].number if folder.name in published else None
                    n_signed = n_signatures(folder)
                    found.append(AffectedVersion(name, folder.name, number, n_data, n_excluded, n_signed, place))
    return sorted(found, key=lambda one: (one.dataset, one.place, one.number or 0, one.id)), sorted(findings)


def _derived(place: Workspace, erasure: Erasure) -> dict[str, int]:
    return {
        "rows of features": derived.clear_features(place, erasure, dry=True),
        "rows of the scan": derived.clear_scan(place, erasure, dry=True),
        "rows of ingest": derived.clear_ingest(place, erasure, dry=True),
        "stage results": derived.clear_stages(place, dry=True),
        "decisions": derived.clear_ledger(place, erasure, b"", dry=True),
        "images and archives": derived.clear_media(place, erasure, dry=True),
        "pages": derived.clear_reports(place, dry=True),
        "audits": derived.clear_audits(place, erasure, dry=True),
        "run records": derived.clear_runs(place, erasure, dry=True),
    }


def _shown_samples(known: Known, ids: set[str]) -> list[dict[str, str]]:
    rows = known.samples.filter(pc.is_in(known.samples["sample_id"], value_set=pa.array(sorted(ids), pa.string())))
    names = ("sample_id", "dataset", "uri")
    unique = {tuple(row[name] for name in names) for row in rows.select(names).to_pylist()}
    return [dict(zip(names, row, strict=True)) for row in sorted(unique, key=lambda row: (row[1], row[2]))]
