"""What an erasure leaves alone and names, so that a person sees to it: training runs, exports, what is of others."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import pyarrow.compute as pc

from curate.adapters.object_store import StorePath
from curate.commands import workspace_option
from curate.export.record import read_exports
from curate.governance.targets import Known
from curate.manifest.place import Place
from curate.manifest.used import read_uses


def training_runs(releases: Sequence[Place], versions: Mapping[str, Sequence[str]]) -> list[str]:
    """Return the training runs that are recorded to have used these versions, or what was there before them."""
    found = {
        f"{name}: {use.by}": None
        for name, ids in versions.items()
        for one in ids
        for manifests in releases
        for use in read_uses(manifests, name, one)
    }
    return list(found)


def kept_by_the_bucket(place: StorePath) -> str:
    """Return the warning that a bucket may keep what is deleted in it."""
    return (
        f"where the bucket of {place} keeps old versions of objects, or parts of uploads that were cut off, they stay "
        f"in it: delete those by the store's own means."
    )


def warnings(
    root: Path,
    known: Known,
    datasets: Sequence[str],
    versions: Mapping[str, Sequence[str]],
    subject: str | None,
    others: Sequence[str],
    name: str,
) -> list[str]:
    """Return what a person has to see to: exports, runs under way, collections and subjects of others, copies."""
    told = []
    for dataset in datasets:
        told += [
            f"an export of {dataset} was written to {export['out']}; it is not touched. Export again."
            for export in read_exports(root, dataset)
            if export["version"] in versions.get(dataset, ())
        ]
        for file in sorted((root / dataset / "runs").glob("*/run.json")):
            try:
                state = json.loads(file.read_bytes()).get("state")
            except ValueError:
                continue
            if state == "running":
                told.append(
                    f"run {file.parent.name} of {dataset} is under way or was killed; none may go on meanwhile."
                )
    told += [f"the collection {one} was not made by curate and names a sample; it is left alone." for one in others]
    if subject is not None:
        elsewhere = known.samples.filter(pc.equal(known.samples["subject"], subject))["dataset"].to_pylist()
        for other in sorted(set(elsewhere) - {name}):
            told.append(
                f"{other} has a subject of the same name: curate erase {other} --subject S{workspace_option(root)}, "
                "if it is the same."
            )
    if versions:
        told.append("copies of the workspace, backups, and models that were trained are out of reach.")
    return told
