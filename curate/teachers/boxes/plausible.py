"""Can a detector be about these images and classes? Its surest boxes are held against the given ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from curate.teachers.agreement import Doubt, doubt_classes, doubt_places
from curate.teachers.boxes.fuse import SAME_IOU, Detections, Given
from curate.teachers.boxes.geometry import Ints, best_rows, overlaps

CHECK_PLACES = (
    "Check that its file belongs to these images (image ids or names) and that its boxes are in pixels, x, y, width "
    "and height."
)
CHECK_CLASSES = (
    "It sees the boxes, so its class ids seem to be off: check that category_id counts the classes in the labels' "
    "order and from the same number (0 or 1)."
)


def doubt_detectors(
    names: Sequence[str], given: Given, found: Detections, classes: Sequence[str]
) -> tuple[Doubt, ...]:
    """Return the detectors that agree with the given boxes as often as chance has it, about places or classes.

    Of each detector the surest boxes count, as many as are given: faint ones lie everywhere. Chance is how many
    would lie on the given boxes of another image.

    Args:
        names: T teachers, by number.
        given: given boxes.
        found: boxes of all teachers (`prob` is not read).
        classes: K names.
    """
    n = len(given.image)
    moved = _elsewhere(given)
    doubts = []
    for number, name in enumerate(names):
        own = found.take(np.flatnonzero(found.teacher == number))
        if not n or not len(own.image):
            continue
        least = np.sort(own.score)[::-1][min(n, len(own.score)) - 1]
        own = own.take(np.flatnonzero(own.score >= least))
        at, seen = _given_at(own, given)
        precision = float((at >= 0).mean())
        away, seen_away = _given_at(own, moved)
        chance = max(float((away >= 0).mean()), seen_away / n)
        doubt = doubt_places(name, seen, n, precision, chance, CHECK_PLACES)
        if doubt is None:
            hit = at >= 0
            places = "labeled boxes that it sees"
            labels = given.label[at[hit]]
            doubt = doubt_classes(name, labels, own.label[hit], classes, CHECK_CLASSES, things=places)
        if doubt is not None:
            doubts.append(doubt)
    return tuple(doubts)


def _given_at(own: Detections, given: Given) -> tuple[Ints, int]:
    """Return the given box that each detection lies on (-1 = none), and how many given boxes are seen."""
    a, b, iou = overlaps(own.image, own.boxes, given.image, given.boxes, min_iou=SAME_IOU)
    row = best_rows(len(own.image), a, iou)
    return np.where(row >= 0, b[row] if len(b) else -1, -1).astype(np.int64), len(np.unique(b))


def _elsewhere(given: Given) -> Given:
    """Return the given boxes, each image's in another image that has some; by hashes, so that no order matters."""
    images, first, inverse = np.unique(given.image, return_index=True, return_inverse=True)
    if len(images) < 2:
        return given.take(np.zeros(0, dtype=np.int64))
    order = np.argsort(given.key[first], kind="stable")
    to = np.empty(len(images), dtype=np.int64)
    to[order] = images[np.roll(order, 1)]
    image = to[inverse]
    rows = np.argsort(image, kind="stable")
    return replace(given.take(rows), image=image[rows])
