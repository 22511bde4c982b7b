"""What teachers say of each region of one mask: mean probabilities of its interior, votes, and what surrounds it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from curate.teachers.regions.canvas import NONE, Canvas, Floats, Ids

PROB_FLOOR = 1e-4  # one zero of one teacher is no veto
CORE = 0.005  # of the image's diagonal: an edge's pixels, to this depth, say nothing of the class


@dataclass(frozen=True, slots=True)
class Evidence:
    """Of R regions, M teachers and K classes.

    Attributes:
        logs: (R, M, K) log of the mean probability over the interior.
        votes: (R, M) commonest of the likeliest classes there; NONE where all are alike.
        beside: (R, K) share of the outline that borders on a region of each class; zero where nothing is beside it.
    """

    logs: Floats
    votes: Ids
    beside: Floats


def evidence_of(canvas: Canvas, probs: Sequence[Floats], off_grid: Sequence[Floats]) -> Evidence:
    """Sum up teachers over the regions of a mask.

    Neighbouring pixels are no independent witnesses, so a region counts as one, by its mean.

    Args:
        canvas: the regions.
        probs: (K, h, w) of each teacher on the grid.
        off_grid: (K, n) of each teacher at the first pixel of each region that has no point on the grid.
    """
    n, n_classes = canvas.n_regions + 1, probs[0].shape[0]
    inside = interior(canvas)
    ids = canvas.numbers.ravel()[inside]
    count = np.maximum(np.bincount(ids, minlength=n), 1)
    absent = without_points(canvas)
    mean = np.zeros((n, len(probs), n_classes), dtype=np.float32)
    votes = np.zeros((n, len(probs)), dtype=np.int64)
    for at, (one, first) in enumerate(zip(probs, off_grid, strict=True)):
        flat = one.reshape(n_classes, -1)[:, inside]
        for k in range(n_classes):
            mean[:, at, k] = np.bincount(ids, weights=flat[k], minlength=n) / count
        votes[:, at] = (
            np.bincount(ids * n_classes + flat.argmax(axis=0), minlength=n * n_classes).reshape(n, -1).argmax(1)
        )
        mean[absent, at] = first.T
        votes[absent, at] = first.argmax(axis=0)
    logs: Floats = np.log(np.maximum(mean[1:], np.float32(PROB_FLOOR)))
    votes[1:][np.ptp(logs, axis=2) <= 0] = NONE  # who prefers no class has no vote
    return Evidence(logs, votes[1:], _beside(canvas, n_classes)[1:])


def interior(canvas: Canvas) -> Ids:
    """Return the points of the grid that are deep in their region: `CORE`, or half of its depth where it is thin."""
    depth, numbers = canvas.depth_px.ravel(), canvas.numbers.ravel()
    deepest = np.zeros(canvas.n_regions + 1, dtype=np.float32)
    np.maximum.at(deepest, numbers, depth)
    return np.flatnonzero((numbers > 0) & (depth >= np.minimum(CORE * canvas.diagonal_px, deepest / 2)[numbers]))


def without_points(canvas: Canvas) -> Ids:
    """Return the numbers of the regions that lie between the points of the grid."""
    here = np.bincount(canvas.numbers.ravel(), minlength=canvas.n_regions + 1)
    here[0] = 1
    return np.flatnonzero(here == 0)


def outline(canvas: Canvas) -> Ids:
    """Return the points of the grid at an edge to another region; where the label says nothing is no edge."""
    at_edge = (canvas.depth_px <= 0.51 * canvas.stride) & (canvas.numbers > 0) & (canvas.across > 0)
    return np.flatnonzero(at_edge)


def _beside(canvas: Canvas, n_classes: int) -> Floats:
    edge = outline(canvas)
    near = canvas.classes[canvas.across.ravel()[edge]]
    known = near != NONE
    keys = canvas.numbers.ravel()[edge][known] * n_classes + near[known]
    found = np.bincount(keys, minlength=(canvas.n_regions + 1) * n_classes).reshape(-1, n_classes)
    shares: Floats = (found / np.maximum(found.sum(axis=1, keepdims=True), 1)).astype(np.float32)
    return shares
