"""Geometry of many boxes at once: pairs that overlap almost wholly."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

MAX_STEPS = 2_000  # neighbours one box is compared with inside its image


def overlapping_pairs(
    image: Ints, boxes: Floats, min_iou: float, max_steps: int = MAX_STEPS
) -> tuple[Ints, Ints, Floats, bool]:
    """Return the pairs of boxes of one image with at least this intersection over union.

    Boxes are sorted by image and left edge; two boxes with IoU >= t have left edges at most (1 - t) widths of
    the left one apart, so that each is compared with its few neighbours only, never the table with itself.

    Args:
        image: shape (N,), number of the image of each box.
        boxes: shape (N, 4), x, y, w, h; finite, w and h above 0.
        min_iou: above 0.
        max_steps: with more neighbours than this, the result says that it is not complete.

    Returns:
        Positions of both, the IoU, and whether every pair was looked at.
    """
    order = np.lexsort((boxes[:, 0], image)).astype(np.int64)
    images, (x, y, w, h) = image[order], boxes[order].T
    active = np.arange(len(order), dtype=np.int64)
    parts: list[tuple[Ints, Ints, Floats]] = []
    slack = 1e-12
    for step in range(1, max_steps + 1):
        active = active[active + step < len(order)]
        other = active + step
        near = (images[active] == images[other]) & (x[other] - x[active] <= (1 - min_iou) * w[active] + slack)
        active = active[near]
        if not len(active):
            break
        other = active + step
        across = np.minimum(x[active] + w[active], x[other] + w[other]) - np.maximum(x[active], x[other])
        down = np.minimum(y[active] + h[active], y[other] + h[other]) - np.maximum(y[active], y[other])
        shared = np.clip(across, 0, None) * np.clip(down, 0, None)
        iou = shared / (w[active] * h[active] + w[other] * h[other] - shared)
        hit = iou >= min_iou
        parts.append((order[active[hit]], order[other[hit]], iou[hit]))
    if not parts:
        none = np.zeros(0, dtype=np.int64)
        return none, none, np.zeros(0), True
    left, right = np.concatenate([p[0] for p in parts]), np.concatenate([p[1] for p in parts])
    return left, right, np.concatenate([p[2] for p in parts]), not len(active)
