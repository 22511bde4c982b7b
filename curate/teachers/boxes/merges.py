"""Where things touch, one box of a teacher may lie round two given ones, or two of its boxes inside a given one.

Such a box fits neither of the two: it lies between them, or round both. It says that the teacher could not tell them
apart, not that one is misplaced or that nothing is there. It shows in that the smallest box round the two fits it better
than either of them does.
"""

from __future__ import annotations

import numpy as np

from curate.teachers.boxes.fuse import Detections, Given
from curate.teachers.boxes.geometry import (
    Floats,
    Ints,
    Overlaps,
    corners,
    from_corners,
    iou_of,
    largest,
    pairs_alike,
)

APART_IOU = 0.5  # two boxes that overlap by more are about one thing: drawn twice, not touching
LEAST_PROB = 0.02  # of a teacher's box: fainter ones lie everywhere
LEAST = 0.003  # below it, support is none, and the log needs a floor


def merge_numbers(given: Given, found: Detections, near: Overlaps, n_teachers: int) -> list[Floats]:
    """Return three columns (N,), means over the teachers.

    By how much a teacher's box fits the given box and a neighbour together better than either (times its probability);
    the log of what supports the box so; by how much two boxes of a teacher together fit the given box better than one.

    Args:
        given: the given boxes.
        found: the teachers' boxes.
        near: `overlaps` of both.
        n_teachers: T.
    """
    a, b, iou = near
    sure = found.prob[b] >= LEAST_PROB
    a, b, iou = a[sure], b[sure], iou[sure]
    pair, _, together, gain = _together(given.boxes[a], found.boxes[b], iou, b)
    merged = _mean_of_best(a[pair], found, b[pair], found.prob[b[pair]] * gain, len(given.image), n_teachers)
    held = _mean_of_best(a[pair], found, b[pair], found.prob[b[pair]] * together, len(given.image), n_teachers)
    by_teacher = a * n_teachers + found.teacher[b]
    pair, partner, _, gain = _together(found.boxes[b], given.boxes[a], iou, by_teacher)
    both = np.minimum(found.prob[b[pair]], found.prob[b[partner]])
    split = _mean_of_best(a[pair], found, b[pair], both * gain, len(given.image), n_teachers)
    return [merged, np.log(held + LEAST), split]


def _mean_of_best(at: Ints, found: Detections, box: Ints, values: Floats, n: int, n_teachers: int) -> Floats:
    best = largest(n * n_teachers, at * n_teachers + found.teacher[box], values)
    return np.asarray(best.reshape(n, n_teachers).mean(axis=1), dtype=np.float64)


def _together(own: Floats, around: Floats, iou: Floats, group: Ints) -> tuple[Ints, Ints, Floats, Floats]:
    """Return pairs of rows of a group whose common box fits `around` better than each alone.

    Args:
        own: (P, 4) boxes.
        around: (P, 4) the box that each is held against, the same for all of a group.
        iou: (P,) of the two.
        group: (P,) numbers.

    Returns:
        First and second row of each pair, the IoU of both together, by how much that is more than the larger of theirs.
    """
    order = np.argsort(group, kind="stable")
    parts = [(order[:0], order[:0], np.zeros(0), np.zeros(0))]
    for left, right in pairs_alike(group[order], group[order]):
        first, second = order[left], order[right]
        differ = first != second
        first, second = first[differ], second[differ]
        apart = iou_of(own[first], own[second]) < APART_IOU
        first, second = first[apart], second[apart]
        low, high = corners(own[first]), corners(own[second])
        ends = np.concatenate([np.minimum(low[:, :2], high[:, :2]), np.maximum(low[:, 2:], high[:, 2:])], axis=1)
        both = iou_of(from_corners(ends), around[first])
        gain = both - np.maximum(iou[first], iou[second])
        better = gain > 0
        parts.append((first[better], second[better], both[better], gain[better]))
    first, second, both, gain = (np.concatenate(column) for column in zip(*parts, strict=True))
    return first, second, both, gain
