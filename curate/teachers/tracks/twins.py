"""Ids that stand more than once in a frame: which of their boxes fits them, by where they are in other frames."""

from __future__ import annotations

import numpy as np

from curate.teachers.tracks.boxes import Bools, Floats, Ints, TrackBoxes


def misfit_of(boxes: TrackBoxes) -> Floats:
    """Return how badly each box fits its id, where that stands more than once in a frame."""
    n = boxes.n
    same = (boxes.track[1:] == boxes.track[:-1]) & (boxes.frame[1:] == boxes.frame[:-1])
    several = np.concatenate([[False], same]) | np.concatenate([same, [False]])
    misfit = np.full(n, np.nan)
    if not several.any():
        return misfit
    rows = np.flatnonzero(several)
    single = np.flatnonzero(~several & boxes.usable)
    distance = _to_neighbours(boxes, rows, single)
    first = np.flatnonzero(np.concatenate([[True], ~(same[rows[1:] - 1] & (np.diff(rows) == 1))]))
    group = np.repeat(np.arange(len(first)), np.diff([*first, len(rows)]))
    total = np.bincount(group, weights=distance)[group]
    size = np.bincount(group)[group]
    misfit[rows] = np.where(total > 0, distance / np.where(total > 0, total, 1.0), 1.0 / size)
    return misfit


def _to_neighbours(boxes: TrackBoxes, rows: Ints, single: Ints) -> Floats:
    """Return the distance of boxes, in diagonals, from where the id's boxes in other frames put it."""
    at = np.searchsorted(single, rows)
    sides = []
    for place in (at - 1, at):
        there = (place >= 0) & (place < len(single))
        row = single[np.clip(place, 0, max(len(single) - 1, 0))] if len(single) else np.zeros(len(rows), dtype=int)
        there &= boxes.track[row] == boxes.track[rows]
        sides.append((row, there, np.abs(boxes.frame[row] - boxes.frame[rows])))
    (left, has_left, d_left), (right, has_right, d_right) = sides
    span = np.maximum(d_left + d_right, 1)
    weight = np.where(has_left & has_right, d_left / span, np.where(has_right, 1.0, 0.0))[:, None]
    expected = (
        np.where(weight < 1, boxes.box[left], 0) * (1 - weight) + np.where(weight > 0, boxes.box[right], 0) * weight
    )
    own = boxes.box[rows]
    centre = np.hypot(*(own[:, :2] + own[:, 2:] / 2 - expected[:, :2] - expected[:, 2:] / 2).T)
    size = np.hypot(*(own[:, 2:] - expected[:, 2:]).T)
    diagonal = np.maximum(np.hypot(*own[:, 2:].T), np.hypot(*expected[:, 2:].T))
    known = (has_left | has_right) & np.isfinite(diagonal) & (diagonal > 0)
    apart = np.divide(centre + size, diagonal, out=np.zeros(len(rows)), where=known)
    return np.where(known, np.minimum(apart, 1e3), np.where(np.isfinite(own).all(axis=1), 0.0, 1e3))


def extra_of(boxes: TrackBoxes, misfit: Floats) -> Bools:
    """Return the boxes that stand beside a better one of their id; of equals, the first stays."""
    several = np.flatnonzero(np.isfinite(misfit))
    extra = np.zeros(boxes.n, dtype=np.bool_)
    order = several[np.lexsort([several, misfit[several], boxes.frame[several], boxes.track[several]])]
    first = np.ones(len(order), dtype=np.bool_)
    first[1:] = (boxes.track[order][1:] != boxes.track[order][:-1]) | (
        boxes.frame[order][1:] != boxes.frame[order][:-1]
    )
    extra[order[~first]] = True
    return extra
