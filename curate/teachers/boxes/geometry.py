"""Pairs of boxes of the same image and how much they overlap, for whole tables at once."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
Overlaps = tuple[Ints, Ints, Floats]  # pairs (a, b), and the IoU of each

PAIRS_AT_ONCE = 250_000  # as many as a cache holds


def iou_of(a: Floats, b: Floats) -> Floats:
    """Return the intersection over union of boxes (…, 4) as x, y, w, h; 0 where neither has an area."""
    across = np.minimum(a[..., 0] + a[..., 2], b[..., 0] + b[..., 2]) - np.maximum(a[..., 0], b[..., 0])
    down = np.minimum(a[..., 1] + a[..., 3], b[..., 1] + b[..., 3]) - np.maximum(a[..., 1], b[..., 1])
    shared = np.clip(across, 0.0, None) * np.clip(down, 0.0, None)
    whole = a[..., 2] * a[..., 3] + b[..., 2] * b[..., 3] - shared
    return np.asarray(np.divide(shared, whole, out=np.zeros_like(shared), where=whole > 0), dtype=np.float64)


def overlaps(image_a: Ints, boxes_a: Floats, image_b: Ints, boxes_b: Floats, *, min_iou: float) -> Overlaps:
    """Return every pair (a, b) of one image with an IoU above `min_iou`, and the IoU, sorted by a, then b.

    Args:
        image_a: (A,) number of the image of each box.
        boxes_a: (A, 4) x, y, w, h.
        image_b: (B,) ascending.
        boxes_b: (B, 4).
        min_iou: pairs with no more than this are left out; 0 or above, so that boxes apart never are pairs.
    """
    none = np.zeros(0, dtype=np.int64)
    parts: list[tuple[Ints, Ints, Floats]] = [(none, none, np.zeros(0))]
    (x_a, y_a, right_a, low_a, area_a), (x_b, y_b, right_b, low_b, area_b) = map(_edges, (boxes_a, boxes_b))
    for all_a, all_b in pairs_alike(image_a, image_b):  # step by step, most pairs of an image lie apart
        across = np.minimum(right_a[all_a], right_b[all_b]) - np.maximum(x_a[all_a], x_b[all_b])
        meet = np.flatnonzero(across > 0)
        a, b, across = all_a[meet], all_b[meet], across[meet]
        down = np.minimum(low_a[a], low_b[b]) - np.maximum(y_a[a], y_b[b])
        meet = np.flatnonzero(down > 0)
        a, b, shared = a[meet], b[meet], across[meet] * down[meet]
        whole = area_a[a] + area_b[b] - shared
        iou = np.divide(shared, whole, out=np.zeros_like(shared), where=whole > 0)
        near = iou > min_iou
        parts.append((a[near], b[near], iou[near]))
    first, second, iou = (np.concatenate(column) for column in zip(*parts, strict=True))
    return first, second, iou


def _edges(boxes: Floats) -> tuple[Floats, Floats, Floats, Floats, Floats]:
    """Return left, upper, right and lower edge and area, each a column of its own."""
    x, y, w, h = np.ascontiguousarray(boxes.T)
    return x, y, x + w, y + h, w * h


def pairs_alike(a: Ints, b: Ints) -> Iterator[tuple[Ints, Ints]]:
    """Yield the positions of all pairs of equal numbers, some millions at a time, by a, then b; `b` is ascending."""
    first = np.searchsorted(b, a, side="left")
    n = np.searchsorted(b, a, side="right") - first
    ends = np.cumsum(n)
    start = 0
    while start < len(a):
        done = ends[start - 1] if start else 0
        stop = max(start + 1, int(np.searchsorted(ends, done + PAIRS_AT_ONCE, side="right")))
        here = n[start:stop]
        within = np.arange(here.sum()) - np.repeat(np.cumsum(here) - here, here)
        yield np.repeat(np.arange(start, stop), here), np.repeat(first[start:stop], here) + within
        start = stop


def largest(n: int, at: Ints, values: Floats, *, without: float = 0.0) -> Floats:
    """Return for each of `n` places the largest of its values; `without` where there is none."""
    out = np.full(n, without)
    np.maximum.at(out, at, values)
    return out


def best_rows(n: int, at: Ints, values: Floats) -> Ints:
    """Return for each of `n` places the row with the largest value (of equals the first); -1 where there is none."""
    order = np.lexsort((-np.arange(len(at)), values, at))
    rows = np.full(n, -1, dtype=np.int64)
    rows[at[order]] = order  # ascending: the last one written is the largest
    return rows


def corners(boxes: Floats) -> Floats:
    """Return x0, y0, x1, y1 of x, y, w, h."""
    return np.concatenate([boxes[..., :2], boxes[..., :2] + boxes[..., 2:]], axis=-1)


def from_corners(boxes: Floats) -> Floats:
    """Return x, y, w, h of x0, y0, x1, y1."""
    return np.concatenate([boxes[..., :2], boxes[..., 2:] - boxes[..., :2]], axis=-1)


def logit(p: Any) -> Floats:  # noqa: ANN401 - a number or an array of them
    """Return log(p / (1 - p)), of p within [1e-4, 1 - 1e-4]: beyond, a detector's score says nothing more."""
    safe = np.clip(np.asarray(p, dtype=np.float64), 1e-4, 1 - 1e-4)
    return np.asarray(np.log(safe / (1 - safe)), dtype=np.float64)


def expit(z: Any) -> Floats:  # noqa: ANN401 - as above
    """Return 1 / (1 + exp(-z))."""
    return np.asarray(1 / (1 + np.exp(-np.clip(np.asarray(z, dtype=np.float64), -60, 60))), dtype=np.float64)
