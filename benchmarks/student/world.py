"""What the students are trained on: a subset of images with wrong labels, and what curate and cleanlab make of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

import curate
import curate.feed
from curate.feed.images import pixels_of
from curate.manifest import log
from curate.manifest.read import load_manifest
from curate.manifest.soft import soft_labels
from curate.manifest.soft_layout import layout_for

SIDE_PX = 32


@dataclass(frozen=True)
class Task:
    """Images of a file, split once into rows to train on and rows to test on; truths are for oracles and tests only."""

    pixels: np.ndarray  # (N, 3, 32, 32) uint8
    encoded: pa.ChunkedArray
    given: np.ndarray  # (N,) positions in classes
    truth: np.ndarray
    classes: tuple[str, ...]
    pool: np.ndarray
    test: np.ndarray


@dataclass(frozen=True)
class Arm:
    """What one student is trained on: rows of the task, hard labels (-1: none), weights, soft labels (or None), alpha."""

    rows: np.ndarray
    hard: np.ndarray
    weight: np.ndarray
    soft: np.ndarray | None
    alpha: float
    temperature: float = 1.0  # that the soft labels are at


def read_task(path: Path, truth: str, n_test: int, limit: int | None) -> Task:
    table = pq.read_table(path, columns=["image", "label", truth])
    classes = tuple(sorted(set(table[truth].to_pylist()) | set(table["label"].to_pylist())))
    if limit is not None:
        table = table.take(np.random.default_rng(7).permutation(table.num_rows)[:limit])
    given, true = (
        pc.index_in(table[name], value_set=pa.array(classes)).to_numpy().astype(np.int64)
        for name in ("label", truth)
    )
    images = table["image"].to_pylist()
    pixels = np.stack([pixels_of(data, size_px=(SIDE_PX, SIDE_PX)).transpose(2, 0, 1) for data in images])
    order = np.random.default_rng(20_240_229).permutation(len(images))
    return Task(pixels, table["image"], given, true, classes, order[n_test:], order[:n_test])


def noisy(task: Task, noise: str, seed: int) -> np.ndarray:
    """Return the given labels: those of people, or the truth with a share moved to another class at random."""
    if noise == "human":
        return task.given
    kind, _, share = noise.partition(":")
    if kind != "uniform":
        raise SystemExit(f"--noise takes human or uniform:SHARE, not {noise!r}")
    rng = np.random.default_rng([seed, 17])
    moved = rng.random(len(task.truth)) < float(share)
    by = rng.integers(1, len(task.classes), len(task.truth))
    return np.where(moved, (task.truth + by) % len(task.classes), task.truth)


def curated(
    task: Task, given: np.ndarray, rows: np.ndarray, folder: Path, settings: Mapping[str, Any]
) -> dict[str, Arm]:
    """Run curate on the subset (it sees images and given labels, no truth) and return every arm."""
    folder.mkdir(parents=True, exist_ok=True)
    names = [task.classes[at] for at in given[rows]]
    subset = pa.table({"image": task.encoded.take(pa.array(rows)), "label": names})
    pq.write_table(subset, folder / "subset.parquet", row_group_size=2000)
    spec = {
        "name": "student",
        "source": {"format": "table", "path": "subset.parquet", "columns": {"image": "image", "label": "label"}},
        "classes": list(task.classes),
        "teachers": settings.get("teachers") or [{"kind": "probes", "features": "efficientnet-lite0"}],
        "policy": {"use_default_gates": False, **(settings.get("policy") or {})},
    }
    (folder / "student.yaml").write_text(json.dumps(spec), encoding="utf-8")  # JSON is YAML
    result = curate.run(folder / "student.yaml", workspace=folder / "workspace", review=False)
    feed = curate.feed.open("student", workspace=folder / "workspace")
    manifest, _ = load_manifest(log.resolve(folder / "workspace" / "manifests", "student"))
    soft = ensemble(result.tables, manifest, task.classes, len(rows))
    return arms(task, given, rows, soft, mean_of_teachers(result.tables, len(rows)), feed, settings)


def ensemble(
    tables: Mapping[str, pa.Table], manifest: Mapping[str, Any], classes: tuple[str, ...], n: int
) -> np.ndarray:
    """Return (n, K) soft labels of every row of the subset, released or not; NaN where no teacher has an answer."""
    told = manifest["soft"]
    made = soft_labels(
        tables["labels"].select(["sample_id", "label_id"]),
        tables["predictions"],
        classes,
        weights={name: float(weight) for name, weight in told["weights"].items()},
        temperature=float(told["temperature"]),
        layout=layout_for(len(classes), "full"),
    )
    return _by_row(tables, [row if row is not None else None for row in made["probs"].to_pylist()], len(classes), n)


def mean_of_teachers(tables: Mapping[str, pa.Table], n: int) -> np.ndarray:
    """Return (n, K): the plain mean of the teachers, as cleanlab is usually given it."""
    predictions = tables["predictions"]
    columns = [predictions[name].to_pylist() for name in predictions.column_names if name.startswith("prob_")]
    width = max(len(row) for column in columns for row in column if row is not None)
    stacked = np.full((len(columns), predictions.num_rows, width), np.nan)
    for at, column in enumerate(columns):
        for row, probs in enumerate(column):
            if probs is not None:
                stacked[at, row] = probs
    mean = np.nanmean(stacked, axis=0)
    at = pc.index_in(tables["labels"]["label_id"], value_set=predictions["label_id"].combine_chunks()).to_pylist()
    return _by_row(tables, [None if i is None else mean[i].tolist() for i in at], width, n)


def _by_row(tables: Mapping[str, pa.Table], values: list[Any], width: int, n: int) -> np.ndarray:
    samples, labels = tables["samples"], tables["labels"]
    at = pc.index_in(labels["sample_id"], value_set=samples["sample_id"].combine_chunks())
    places = samples["container_offset"].take(at).to_pylist()
    found = np.full((n, width), np.nan)
    for row, value in zip(places, values, strict=True):
        if value is not None:
            found[row] = value
    return found


def arms(
    task: Task,
    given: np.ndarray,
    rows: np.ndarray,
    soft: np.ndarray,
    mean: np.ndarray,
    feed: Any,  # noqa: ANN401 - curate.feed.Feed
    settings: Mapping[str, Any],
) -> dict[str, Arm]:
    """Return the seven arms, fixed beforehand. `alpha` is that of every arm with hard and soft labels."""
    from cleanlab.filter import find_label_issues  # noqa: PLC0415 - a benchmark extra

    alpha, warmth = float(settings.get("alpha", 0.5)), feed.temperature or 1.0
    one = np.ones(len(rows))
    none = np.full(len(rows), -1)
    judged = np.isfinite(mean).all(axis=1)
    kept = np.ones(len(rows), dtype=bool)
    kept[judged] = ~find_label_issues(
        given[rows][judged], mean[judged] / mean[judged].sum(1, keepdims=True), n_jobs=1
    )
    place = feed.rows.table["container_offset"].to_numpy()
    released = Arm(rows[place], feed.rows.labels, feed.rows.weights.astype(float), soft[place], alpha, warmth)
    return {
        "raw labels": Arm(rows, given[rows], one, None, 0.0),
        "pruned by cleanlab": Arm(rows[kept], given[rows][kept], one[kept], None, 0.0),
        "distilled on raw labels": Arm(rows, given[rows], one, soft, alpha, warmth),
        "soft labels only": Arm(rows, none, one, soft, 1.0, warmth),
        "curate release": released,
        "oracle": Arm(rows, task.truth[rows], one, None, 0.0),
        "oracle and soft labels": Arm(rows, task.truth[rows], one, soft, alpha, warmth),
    }
