"""Which detections hit which given boxes by the rules of COCO (pycocotools' `COCOeval`), for whole tables at once.

In an image and class detections are taken by falling score, at most 100; each takes the free given box with the largest
IoU at or above the threshold. Given boxes outside a range of sizes and crowd regions are ignored: what hits one, or what
hits nothing and is outside the range itself, counts neither as right nor as wrong. A crowd region can be hit often.

pycocotools makes Python objects of each image, class and size and goes through their pairs one by one; here the first
detections of all images are matched together, then the second ones, and so on. Tests hold both to be the same to the bit.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from curate.teachers.boxes.geometry import Bools, Floats, Ints, pairs_alike

IOUS = np.linspace(0.5, 0.95, 10)
MAX_DETECTIONS = 100
AREAS_PX2 = ((0.0, 1e10), (0.0, 32.0**2), (32.0**2, 96.0**2), (96.0**2, 1e10))  # all, small, medium, large


@dataclass(frozen=True, slots=True)
class Truth:
    """Given boxes, sorted by `kind`.

    Attributes:
        image: (N,) row of the image.
        label: (N,) class.
        kind: (N,) number of image and class, ascending.
        boxes_px: (N, 4) x, y, w, h.
        is_crowd: (N,)
    """

    image: Ints
    label: Ints
    kind: Ints
    boxes_px: Floats
    is_crowd: Bools


@dataclass(frozen=True, slots=True)
class Found:
    """Detections of one teacher by class, image and falling score, at most `MAX_DETECTIONS` of an image and class.

    Attributes:
        image: (D,) row of the image.
        label: (D,) class.
        kind: (D,) number of image and class, as in `Truth`.
        rank: (D,) place by score in its image and class, from 0.
        boxes_px: (D, 4) x, y, w, h.
        score: (D,)
    """

    image: Ints
    label: Ints
    kind: Ints
    rank: Ints
    boxes_px: Floats
    score: Floats


@dataclass(frozen=True, slots=True)
class Hits:
    """What became of boxes in a range of sizes.

    Attributes:
        is_hit: (10, D) whether the detection hit a given box, by `IOUS`.
        is_ignored: (10, D) whether it counts neither as right nor as wrong.
        iou: (D,) with the box it hit at the lowest threshold; 0 without one.
        truth_ignored: (N,) given boxes that need not be found.
    """

    is_hit: Bools
    is_ignored: Bools
    iou: Floats
    truth_ignored: Bools


def truth_of(image: Ints, label: Ints, boxes_px: Floats, is_crowd: Bools, n_classes: int) -> Truth:
    """Return given boxes in order; those of one image and class stay as they stand."""
    kind = image * n_classes + label
    order = np.argsort(kind, kind="stable")
    return Truth(image[order], label[order], kind[order], boxes_px[order], is_crowd[order])


def found_of(image: Ints, label: Ints, boxes_px: Floats, score: Floats, n_classes: int) -> Found:
    """Return detections in order, without those beyond the first `MAX_DETECTIONS`; of equals the first comes first."""
    order = np.lexsort((-score, image, label))
    kind = (image * n_classes + label)[order]
    is_first = np.diff(kind, prepend=-1) != 0
    start = np.flatnonzero(is_first)
    rank = np.arange(len(kind)) - start[np.cumsum(is_first) - 1] if len(kind) else kind
    few = rank < MAX_DETECTIONS
    order = order[few]
    return Found(image[order], label[order], kind[few], rank[few], boxes_px[order], score[order])


@dataclass(frozen=True, slots=True)
class Pairs:
    """(P,) detection, given box and IoU of those of one image and class that may hit."""

    found: Ints
    truth: Ints
    iou: Floats


def pairs_of(truth: Truth, found: Found) -> Pairs:
    """Return the pairs with an IoU of the lowest threshold or more.

    With a crowd region it is the share of the detection that lies inside.
    """
    parts = []
    for a, b in pairs_alike(found.kind, truth.kind):
        iou = _iou(found.boxes_px[a], truth.boxes_px[b], truth.is_crowd[b])
        near = iou >= IOUS[0]
        parts.append((a[near], b[near], iou[near]))
    none = np.zeros(0, dtype=np.int64)
    return Pairs(*(np.concatenate(column) for column in zip((none, none, np.zeros(0)), *parts, strict=True)))


def _iou(a: Floats, b: Floats, is_crowd: Bools) -> Floats:
    """Return as pycocotools does, `bbIou`."""
    across = np.minimum(a[:, 0] + a[:, 2], b[:, 0] + b[:, 2]) - np.maximum(a[:, 0], b[:, 0])
    down = np.minimum(a[:, 1] + a[:, 3], b[:, 1] + b[:, 3]) - np.maximum(a[:, 1], b[:, 1])
    shared = across * down
    own = a[:, 2] * a[:, 3]
    whole = np.where(is_crowd, own, own + b[:, 2] * b[:, 3] - shared)
    meet = (across > 0) & (down > 0)
    return np.asarray(np.divide(shared, whole, out=np.zeros(len(a)), where=meet), dtype=np.float64)


def hits_of(truth: Truth, found: Found, pairs: Pairs, area_px2: tuple[float, float]) -> Hits:
    """Match detections and given boxes where those of a range of areas count."""
    ignored = truth.is_crowd | _outside(truth.boxes_px, area_px2)
    # of a detection's pairs the last free one is taken: one that counts before one that is ignored, then by IoU
    order = np.lexsort((pairs.truth, pairs.iou, ~ignored[pairs.truth], pairs.found, found.rank[pairs.found]))
    pairs = Pairs(pairs.found[order], pairs.truth[order], pairs.iou[order])
    is_hit = np.zeros((len(IOUS), len(found.image)), dtype=bool)
    is_ignored = np.repeat(_outside(found.boxes_px, area_px2)[None], len(IOUS), axis=0)
    iou = np.zeros(len(found.image))
    for at, threshold in enumerate(IOUS.tolist()):
        near = np.flatnonzero(pairs.iou >= min(threshold, 1 - 1e-10))
        taken = near[_taken(truth, found, Pairs(pairs.found[near], pairs.truth[near], pairs.iou[near]))]
        is_hit[at, pairs.found[taken]] = True
        is_ignored[at, pairs.found[taken]] = ignored[pairs.truth[taken]]
        if at == 0:
            iou[pairs.found[taken]] = pairs.iou[taken]
    return Hits(is_hit, is_ignored, iou, ignored)


def _outside(boxes_px: Floats, area_px2: tuple[float, float]) -> Bools:
    area = boxes_px[:, 2] * boxes_px[:, 3]
    return np.asarray((area < area_px2[0]) | (area > area_px2[1]), dtype=bool)


def _taken(truth: Truth, found: Found, pairs: Pairs) -> Ints:
    """Return the positions of pairs that hit: rank by rank, of each detection the last whose given box is free."""
    is_free = np.ones(len(truth.image), dtype=bool)
    parts = [np.zeros(0, dtype=np.int64)]
    for start, stop in _runs(found.rank[pairs.found]):
        here = np.arange(start, stop)
        here = here[is_free[pairs.truth[here]]]
        own = pairs.found[here]
        chosen = here[np.flatnonzero(np.diff(own, append=-1) != 0)]
        is_free[pairs.truth[chosen]] = truth.is_crowd[pairs.truth[chosen]]
        parts.append(chosen)
    return np.concatenate(parts)


def _runs(values: Ints) -> Iterator[tuple[int, int]]:
    """Yield where each run of equal values starts and stops."""
    edges = np.flatnonzero(np.diff(values, prepend=-1, append=-1)).tolist()
    yield from pairwise(edges)
