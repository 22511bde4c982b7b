"""The images that students see: rows to train on, rows to test on, groups of the test, and labels made wrong."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from curate.feed.images import pixels_of

ORDER_SEED = 20_240_229
BRIGHTNESS = "brightness"


@dataclass(frozen=True)
class Task:
    """Images of a file, split once; truths are for oracles, made noise and tests only.

    Attributes:
        pixels: (N, 3, side, side) uint8.
        encoded: (N,) the images as they stand in the file.
        given: (N,) positions in classes.
        truth: (N,) positions in classes.
        classes: sorted names.
        pool: rows to train on.
        test: rows to test on.
        group: (N,) name of the declared group of each row.
    """

    pixels: np.ndarray
    encoded: pa.ChunkedArray
    given: np.ndarray
    truth: np.ndarray
    classes: tuple[str, ...]
    pool: np.ndarray
    test: np.ndarray
    group: np.ndarray


def read_task(
    path: Path,
    *,
    truth: str = "clean_label",
    n_test: int = 4000,
    skip_test: int = 0,
    n_pool: int | None = None,
    limit: int | None = None,
    group: str = BRIGHTNESS,
    side_px: int = 24,
) -> Task:
    """Read and split a file.

    Args:
        path: Parquet with `image`, `label` and the truth.
        truth: its column.
        n_test: images to test on; the first of a fixed random order, after `skip_test`.
        skip_test: so many are left to another experiment's test.
        n_pool: images to train on, the last of that order; None = all that are no test.
        limit: take so many images of the file only.
        group: column of the group, or `brightness`: thirds of all images by mean luma.
        side_px: images are resized to it.
    """
    columns = ["image", "label", truth, *([] if group == BRIGHTNESS else [group])]
    table = pq.read_table(path, columns=columns)
    classes = tuple(sorted(set(table[truth].to_pylist()) | set(table["label"].to_pylist())))
    if limit is not None:
        table = table.take(np.random.default_rng(7).permutation(table.num_rows)[:limit])
    given, true = (
        pc.index_in(table[name], value_set=pa.array(classes)).to_numpy().astype(np.int64)
        for name in ("label", truth)
    )
    images = table["image"].to_pylist()
    pixels = np.stack([pixels_of(data, size_px=(side_px, side_px)).transpose(2, 0, 1) for data in images])
    order = np.random.default_rng(ORDER_SEED).permutation(len(images))
    tested, pool = order[skip_test : skip_test + n_test], order[skip_test + n_test :]
    if n_pool is not None:
        pool = order[max(skip_test + n_test, len(order) - n_pool) :]
    groups = by_brightness(pixels) if group == BRIGHTNESS else np.asarray(table[group].to_pylist(), dtype=str)
    return Task(pixels, table["image"], given, true, classes, pool, tested, groups)


def by_brightness(pixels: np.ndarray) -> np.ndarray:
    """Return dark, middling or bright: thirds of the images by mean luma, a group that no label knows of."""
    luma = pixels.mean(axis=(2, 3)) @ np.array([0.299, 0.587, 0.114])
    return np.array(["dark", "middling", "bright"])[np.searchsorted(np.quantile(luma, [1 / 3, 2 / 3]), luma)]


def noisy(task: Task, noise: str, seed: int) -> np.ndarray:
    """Return the given labels.

    Args:
        task: the images.
        noise: `human`: as people gave them. `human:SHARE`: the truth with this share moved as people confuse
            classes. `uniform:SHARE`: moved to any other class alike. `pairs:SHARE`: class k moved to class k + 1.
        seed: of the draw.
    """
    kind, _, share = noise.partition(":")
    if noise == "human":
        return task.given
    if kind not in {"human", "uniform", "pairs"} or not share:
        raise SystemExit(f"--noise takes human, human:SHARE, uniform:SHARE or pairs:SHARE, not {noise!r}")
    rng = np.random.default_rng([seed, 17])
    n, k = len(task.truth), len(task.classes)
    draw = rng.random(n)
    if kind == "human":
        return _confused(task, float(share), draw, rng.random(n))
    by = rng.integers(1, k, n) if kind == "uniform" else np.ones(n, dtype=np.int64)
    return np.where(draw < float(share), (task.truth + by) % k, task.truth)


def _confused(task: Task, share: float, draw: np.ndarray, which: np.ndarray) -> np.ndarray:
    """Move labels by the classes that people confuse, classes that they err on more being moved more often."""
    k = len(task.classes)
    counts = np.zeros((k, k))
    np.add.at(counts, (task.truth, task.given), 1)
    wrong = counts * (1 - np.eye(k))
    rate = wrong.sum(1) / counts.sum(1)
    rate = np.minimum(rate * share / (rate * counts.sum(1) / counts.sum()).sum(), 0.75)
    steps = np.cumsum(wrong / wrong.sum(1, keepdims=True), axis=1)
    other = (which[:, None] > steps[task.truth]).sum(1).clip(max=k - 1)
    return np.where(draw < rate[task.truth], other, task.truth)
