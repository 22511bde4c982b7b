"""Pairs of boxes of the same image and how much they overlap, for whole tables at once."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

PAIRS_AT_ONCE = 4_000_000


def iou_of(a: Floats, b: Floats) -> Floats:
    """Return the intersection over union of boxes (…, 4) as x, y, w, h; 0 where neither has an area."""
    across = np.minimum(a[..., 0] + a[..., 2], b[..., 0] + b[..., 2]) - np.maximum(a[..., 0], b[..., 0])
    down = np.minimum(a[..., 1] + a[..., 3], b[..., 1] + b[..., 3]) - np.maximum(a[..., 1], b[..., 1])
    shared = np.clip(across, 0.0, None) * np.clip(down, 0.0, None)
    whole = a[..., 2] * a[..., 3] + b[..., 2] * b[..., 3] - shared
    return np.asarray(np.divide(shared, whole, out=np.zeros_like(shared), where=whole > 0), dtype=np.float64)


def overlaps(
    image_a: Ints, boxes_a: Floats, image_b: Ints, boxes_b: Floats, *, min_iou: float
) -> tuple[Ints, Ints, Floats]:
    """Return every pair (a, b) of one image with an IoU above `min_iou`, and the IoU, sorted by a, then b.

    Args:
        image_a: (A,) number of the image of each box.
        boxes_a: (A, 4) x, y, w, h.
        image_b: (B,) ascending.
        boxes_b: (B, 4).
        min_iou: pairs with no more than this are left out.
    """
    parts: list[tuple[Ints, Ints, Floats]] = []
    for a, b in _same_image(image_a, image_b):
        iou = iou_of(boxes_a[a], boxes_b[b])
        near = iou > min_iou
        parts.append((a[near], b[near], iou[near]))
    if not parts:
        none = np.zeros(0, dtype=np.int64)
        return none, none, np.zeros(0)
    return (
        np.concatenate([part[0] for part in parts]),
        np.concatenate([part[1] for part in parts]),
        np.concatenate([part[2] for part in parts]),
    )


def _same_image(image_a: Ints, image_b: Ints) -> Iterator[tuple[Ints, Ints]]:
    """Yield all pairs of one image, some millions at a time."""
    first = np.searchsorted(image_b, image_a, side="left")
    n = np.searchsorted(image_b, image_a, side="right") - first
    ends = np.cumsum(n)
    start = 0
    while start < len(image_a):
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
