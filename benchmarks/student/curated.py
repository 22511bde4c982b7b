"""A noisy subset through curate, once for all arms: what the teachers say of every row, and what the release holds."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from world import Task

import curate
import curate.feed
from curate.manifest import log
from curate.manifest.read import load_manifest
from curate.manifest.soft import soft_labels
from curate.manifest.soft_layout import layout_for

NAME = "student"


@dataclass(frozen=True)
class Curated:
    """Numbers of one run; N rows went in, R came out.

    Attributes:
        rows: (N,) of the task.
        given: (N,) labels that curate saw.
        teachers: (N, T, K) what each teacher says; NaN where it has no answer.
        soft: (N, K) the ensemble as releases store it, of every row, released or not.
        temperature: of `soft`.
        place: (R,) released rows, positions in `rows`.
        released: (R,) released class; -1 without one.
        weight: (R,) released weight.
        action: (R,) what the policy did.
    """

    rows: np.ndarray
    given: np.ndarray
    teachers: np.ndarray
    soft: np.ndarray
    temperature: np.ndarray
    place: np.ndarray
    released: np.ndarray
    weight: np.ndarray
    action: np.ndarray


def curated(
    task: Task, given: np.ndarray, rows: np.ndarray, folder: Path, workspace: Path, settings: Mapping[str, Any]
) -> Curated:
    """Run curate on the subset, or read what it said before; it sees images and given labels, no truth.

    Args:
        task: the images.
        given: (len(task),) noisy labels.
        rows: of the task, the subset.
        folder: of this subset and noise.
        workspace: of curate; subsets that share one have the features of an image computed once.
        settings: `teachers` and `policy` of the spec.
    """
    kept = folder / "curated.npz"
    if not kept.is_file():
        made = _run(task, given, rows, folder, workspace, settings)
        beside = kept.with_suffix(".part.npz")
        np.savez(beside, **dataclasses.asdict(made))
        beside.replace(kept)
    with np.load(kept) as stored:
        return Curated(**{field.name: stored[field.name] for field in dataclasses.fields(Curated)})


def _run(
    task: Task, given: np.ndarray, rows: np.ndarray, folder: Path, workspace: Path, settings: Mapping[str, Any]
) -> Curated:
    folder.mkdir(parents=True, exist_ok=True)
    names = [task.classes[at] for at in given[rows]]
    subset = pa.table({"image": task.encoded.take(pa.array(rows)), "label": names})
    pq.write_table(subset, folder / "subset.parquet", row_group_size=2000)
    spec = {
        "name": NAME,
        "source": {"format": "table", "path": "subset.parquet", "columns": {"image": "image", "label": "label"}},
        "classes": list(task.classes),
        "teachers": settings.get("teachers") or [{"kind": "probes", "features": "efficientnet-lite0"}],
        "policy": {"use_default_gates": False, **(settings.get("policy") or {})},
    }
    (folder / f"{NAME}.yaml").write_text(json.dumps(spec), encoding="utf-8")  # JSON is YAML
    result = curate.run(folder / f"{NAME}.yaml", workspace=workspace, review=False, workers=1)
    version = f"{NAME}@{result.published.id}"
    feed = curate.feed.open(version, workspace=workspace)
    manifest, _ = load_manifest(log.resolve(workspace / "manifests", version))
    table = feed.rows.table
    return Curated(
        rows=rows,
        given=given[rows],
        teachers=_teachers(result.tables, len(rows)),
        soft=_ensemble(result.tables, manifest, task.classes, len(rows)),
        temperature=np.asarray(feed.temperature or 1.0),
        place=table["container_offset"].to_numpy(),
        released=feed.rows.labels,
        weight=feed.rows.weights.astype(float),
        action=np.asarray(table["action"].to_pylist()),
    )


def _ensemble(
    tables: Mapping[str, pa.Table], manifest: Mapping[str, Any], classes: tuple[str, ...], n: int
) -> np.ndarray:
    told = manifest["soft"]
    made = soft_labels(
        tables["labels"].select(["sample_id", "label_id"]),
        tables["predictions"],
        classes,
        weights={name: float(weight) for name, weight in told["weights"].items()},
        temperature=float(told["temperature"]),
        layout=layout_for(len(classes), "full"),
    )
    return _by_row(tables, made["probs"].to_pylist(), len(classes), n)


def _teachers(tables: Mapping[str, pa.Table], n: int) -> np.ndarray:
    predictions = tables["predictions"]
    at = pc.index_in(tables["labels"]["label_id"], value_set=predictions["label_id"].combine_chunks())
    columns = [predictions[name].take(at.combine_chunks()).to_pylist()
               for name in sorted(predictions.column_names) if name.startswith("prob_")]  # fmt: skip
    width = max(len(row) for column in columns for row in column if row is not None)
    return np.stack([_by_row(tables, column, width, n) for column in columns], axis=1)


def _by_row(tables: Mapping[str, pa.Table], values: list[Any], width: int, n: int) -> np.ndarray:
    """Return values of label rows in the order of the subset's file."""
    samples, labels = tables["samples"], tables["labels"]
    at = pc.index_in(labels["sample_id"], value_set=samples["sample_id"].combine_chunks())
    places = samples["container_offset"].take(at).to_pylist()
    found = np.full((n, width), np.nan)
    for row, value in zip(places, values, strict=True):
        if value is not None:
            found[row] = value
    return found
