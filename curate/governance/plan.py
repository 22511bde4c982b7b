"""What an erasure would take out, counted without touching anything: for a person to read and say yes to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from curate.adapters.object_store import StorePath
from curate.errors import ConfigError
from curate.governance import database, derived
from curate.governance.journal import Erasure
from curate.governance.outside import kept_by_the_bucket, training_runs, warnings
from curate.governance.places import Elsewhere, elsewhere
from curate.governance.successor import named_in
from curate.governance.targets import (
    Known,
    NearDuplicate,
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

_SHOWN = 10


@dataclass(frozen=True, slots=True)
class AffectedVersion:
    """A version that holds something of what goes; `number` None: no entry of the log names it.

    `n_signatures` lie beside it; none of them is about its successor. `place` is the folder of releases that it is in,
    empty for the workspace's own.
    """

    dataset: str
    id: str
    number: int | None
    n_data: int
    n_excluded: int
    n_signatures: int = 0
    place: str = ""


@dataclass(frozen=True)
class Plan:
    """What would go.

    Attributes:
        name: of the dataset that was asked about.
        samples: sample_id, dataset and uri of each sample that goes.
        n_same_bytes: of these, how many were added since they are copies, byte by byte.
        near: pictures that look like them and stay, unless they are chosen.
        versions: that get a successor and a tombstone.
        derived: dataset -> what was derived -> how many.
        n_documents: of FiftyOne's datasets.
        training_runs: that are recorded to have used one of the versions.
        warnings: what is outside and stays: exports, datasets of others, open runs.
        erasure: the same for the machine.
    """

    name: str
    samples: Sequence[Mapping[str, str]]
    n_same_bytes: int
    near: Sequence[NearDuplicate]
    versions: Sequence[AffectedVersion]
    derived: Mapping[str, Mapping[str, int]]
    n_documents: int
    training_runs: Sequence[str]
    warnings: Sequence[str]
    erasure: Erasure

    def to_json(self) -> dict[str, Any]:
        """Return it for machines."""
        return {
            "name": self.name,
            "samples": list(self.samples),
            "n_same_bytes": self.n_same_bytes,
            "near_duplicates": [one.to_json() for one in self.near],
            "versions": [asdict(version) for version in self.versions],
            "derived": {name: dict(counts) for name, counts in self.derived.items()},
            "n_documents": self.n_documents,
            "training_runs": list(self.training_runs),
            "manifests": list(self.erasure.elsewhere),
            "out_of_reach": list(self.erasure.out_of_reach),
            "warnings": list(self.warnings),
        }

    def lines(self) -> list[str]:
        """Return it for people."""
        n = len(self.samples)
        told = [f"To erase from {self.name}: {n:,} sample{'s' * (n != 1)}"]
        told += [f"  {one['dataset']}: {one['uri']} ({one['sample_id']})" for one in self.samples[:_SHOWN]]
        told += [f"  … and {n - _SHOWN:,} more (--json lists all)"] if n > _SHOWN else []
        if self.n_same_bytes:
            told.append(f"  {self.n_same_bytes:,} of them were not named: their bytes are the same")
        told.append("Versions: a successor without the rows, a tombstone, and the old data is deleted")
        for version in self.versions:
            number = f"v{version.number}" if version.number else "not in the log"
            told.append(
                f"  {version.dataset} {number} ({version.id[:7]}): {version.n_data:,} released and "
                f"{version.n_excluded:,} excluded rows"
                f"{f', in {version.place}' if version.place else ''}"
                f"{'; SIGNED: sign its successor again' if version.n_signatures else ''}"
            )
        told += [] if self.versions else ["  none holds them"]
        told.append("Derived, deleted or rewritten")
        for name, counts in self.derived.items():
            told.append(
                f"  {name}: " + (", ".join(f"{n:,} {what}" for what, n in counts.items() if n) or "nothing")
            )
        told.append(f"  FiftyOne: {self.n_documents:,} samples, and the database's files are written anew")
        if self.training_runs:
            told.append("Training runs that used these versions (what they learnt stays in their weights)")
            told += [f"  {run}" for run in self.training_runs]
        if self.near:
            told.append("Near duplicates that stay: add --near-duplicates for all, or --sample for one")
            told += [_near_line(one) for one in self.near[:_SHOWN]]
            told += [f"  … and {len(self.near) - _SHOWN:,} more (--json)"] if len(self.near) > _SHOWN else []
        told += [
            f"OUT OF REACH: {place}; what is published there is not touched" for place in self.erasure.out_of_reach
        ]
        told += [f"warning: {warning}" for warning in self.warnings]
        return told


def _near_line(one: NearDuplicate) -> str:
    how = "the same pixels in other bytes" if one.same_pixels else f"{one.distance_bits} of 64 bits differ"
    return f"  {one.dataset}: {one.uri} ({one.sample_id}): {how}"


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
    by_dataset: dict[str, list[str]] = {}
    signed: dict[str, list[str]] = {}
    for version in versions:
        if version.id not in by_dataset.setdefault(version.dataset, []):  # it may be in several places
            by_dataset[version.dataset].append(version.id)
        if version.n_signatures and version.id not in signed.get(version.dataset, ()):
            signed.setdefault(version.dataset, []).append(version.id)
    datasets = sorted({*erasure.datasets, *by_dataset})
    erasure = Erasure(
        **{
            **asdict(erasure),
            "finding_ids": finding_ids,
            "versions": by_dataset,
            "datasets": datasets,
            "signed": signed,
        }
    )
    found = database.look(root, erasure)
    return Plan(
        name=name,
        samples=_shown_samples(known, ids),
        n_same_bytes=len(ids - named),
        near=near,
        versions=versions,
        derived={one: _derived(Workspace(root, one), erasure) for one in datasets},
        n_documents=found.n_documents,
        training_runs=training_runs(erasure.releases(root), by_dataset),
        warnings=[
            *(f"run {one} does not say where it published; name the folder: --manifests" for one in places.unknown),
            *(kept_by_the_bucket(place) for place in erasure.places if isinstance(place, StorePath)),
            *warnings(root, known, datasets, by_dataset, subject, found.others, name),
        ],
        erasure=erasure,
    )


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
