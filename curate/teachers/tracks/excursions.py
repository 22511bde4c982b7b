"""Boxes that are off for a moment: drawn elsewhere, or do they stand where another id should be?

An id that leaves its course for a few boxes and comes back (an excursion) has either boxes that are wrong, or boxes that
belong to another id. The two explanations compete for the same boxes: under the first they may lie anywhere within
reach; under the second they have to lie on the course of the other id, and that id has to be without a box there, or to
stand on the course of a third, and so on until one stands on the course of the first. Where no such circle closes, the
boxes are off, and evidence for nothing else: what leads on is judged by what lies on both sides of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from curate.teachers.tracks.boxes import Bools, Floats, Ints, TrackBoxes
from curate.teachers.tracks.breaks import Break
from curate.teachers.tracks.course import (
    Course,
    Noise,
    ahead_of,
    follow_both_ways,
    scales_of,
    student_constant,
    usable,
)
from curate.teachers.tracks.motion import Motion

LONGEST_OFF = 6  # boxes in a row: more that move as one are a course of their own
REACH = 1.0  # diagonals, standard deviation of where a box is that was drawn elsewhere
LONGEST_CIRCLE = 4  # ids that exchange their boxes
SURE = 2.0  # log ratio, a box, from which on one stands on the course of another id and is not just elsewhere
NEAR_FRAMES = 20  # that another id may lack on either side of these boxes


@dataclass(frozen=True, slots=True)
class Excursions:
    """What the boxes of brief excursions are.

    Attributes:
        off: (N,) boxes that are wrong: they are evidence for nothing else.
        stands_on: first box of an excursion → the track on whose course its boxes stand, and how much likelier that is
            than that they are off: log ratio of both ids.
    """

    off: Bools
    stands_on: Mapping[int, tuple[int, float]]


def excursions(boxes: TrackBoxes, motion: Motion, breaks: Sequence[Break]) -> Excursions:
    """Return what the boxes are with which ids leave their course for a moment."""
    brief = [one for one in breaks if one.back >= 0 and _is_brief(motion, one)]
    off = np.zeros(boxes.n, dtype=np.bool_)
    stands_on: dict[int, tuple[int, float]] = {}
    ids = _Ids.of(boxes, motion) if brief else None
    for one in brief:
        owner = _owner(ids, one) if ids is not None else None
        if owner is None:
            off[one.boxes] = True
        else:
            stands_on[int(one.boxes[0])] = owner
    return Excursions(off, stands_on)


def _is_brief(motion: Motion, one: Break) -> bool:
    """Return whether the boxes of an excursion are few, or jump about among themselves."""
    n = len(one.boxes)
    if n <= LONGEST_OFF:
        return True
    steps = motion.distance[one.link + 1 : one.back]
    return bool(np.median(steps) > np.minimum(motion.distance[one.link], motion.distance[one.back]) / 2)


@dataclass(frozen=True, slots=True)
class _Ids:
    """The usable boxes, by track and frame, and the courses that lead to each from either side; M boxes."""

    boxes: TrackBoxes
    rows: Ints  # (M,) of `boxes`
    scale: Floats
    left: Course
    right: Course
    noise: Noise
    spans: dict[int, tuple[int, int]]  # track -> its places in `rows`
    of_frame: dict[tuple[int, int], list[int]]  # sequence, block of frames -> tracks that are there

    @staticmethod
    def of(boxes: TrackBoxes, motion: Motion) -> _Ids:
        rows = usable(boxes, motion.is_extra)
        track, scale = boxes.track[rows], scales_of(boxes, rows)
        left, right = follow_both_ways(track, boxes.frame[rows], boxes.box[rows], scale, motion.noise)
        names, low, n = np.unique(track, return_index=True, return_counts=True)
        spans = {int(one): (int(a), int(a + k)) for one, a, k in zip(names, low, n, strict=True)}
        of_frame: dict[tuple[int, int], list[int]] = {}
        blocks = np.stack([boxes.sequence[rows], boxes.frame[rows] // NEAR_FRAMES, track], axis=1)
        for sequence, block, one in np.unique(blocks, axis=0).tolist():
            of_frame.setdefault((sequence, block), []).append(one)
        return _Ids(boxes, rows, scale, left, right, motion.noise, spans, of_frame)

    def around(self, sequence: int, low: int, high: int) -> list[int]:
        """Return the tracks that have boxes near some frames."""
        blocks = range(low // NEAR_FRAMES - 1, high // NEAR_FRAMES + 2)
        return sorted({one for block in blocks for one in self.of_frame.get((sequence, block), ())})

    def inside(self, track: int, low: int, high: int) -> Ints:
        """Return the places in `rows` of a track's boxes from one frame to another."""
        first, last = self.spans[track]
        frames = self.boxes.frame[self.rows[first:last]]
        return np.arange(first + np.searchsorted(frames, low), first + np.searchsorted(frames, high, side="right"))

    def log_ratio(self, places: Ints, track: int, low: int, high: int, own: int) -> float:
        """Return how much likelier some boxes stand on the course of `track` than anywhere near that of `own`; a box.

        The boxes that either has from `low` to `high` have no say in where its course leads.
        """
        there, here = (self._course(one, low, high, places) for one in (track, own))
        if there is None or here is None:
            return -np.inf
        scale = self.scale[places]
        box = self.boxes.box[self.rows[places]]
        seen = np.concatenate([box[:, :2] + box[:, 2:] / 2, box[:, 2:]], axis=1)
        on_course = self._density(seen, *there, scale)
        size_alone = self._density(seen, *here, scale, without_centre=True)
        squared = ((seen[:, :2] - here[0][:, :2]) ** 2).sum(axis=1) / (REACH * scale) ** 2
        anywhere = size_alone - squared / 2 - np.log(2 * np.pi * REACH**2)
        return float((on_course - anywhere).mean())

    def _density(
        self, seen: Floats, place: Floats, variance: Floats, scale: Floats, *, without_centre: bool = False
    ) -> Floats:
        """Return (n,) the log density, in diagonals, of boxes on a course, under a Student t."""
        kinds = (1,) if without_centre else (0, 1)
        total = np.zeros(len(seen))
        for kind in kinds:
            off = seen[:, 2 * kind : 2 * kind + 2] - place[:, 2 * kind : 2 * kind + 2]
            squared = (off**2).sum(axis=1) / variance[:, kind]
            total += student_constant(self.noise.dof, 2) - np.log(variance[:, kind] / scale**2)
            total -= (self.noise.dof + 2) / 2 * np.log1p(squared / self.noise.dof)
        return total

    def _course(self, track: int, low: int, high: int, places: Ints) -> tuple[Floats, Floats] | None:
        """Return where both sides put an id at the frames of some boxes, (n, 4), and the variances, (n, 2)."""
        first, last = self.spans[track]
        frames = self.boxes.frame[self.rows]
        at = first + int(np.searchsorted(frames[first:last], low)) - 1
        to = first + int(np.searchsorted(frames[first:last], high, side="right"))
        wanted = frames[places]
        sides = []
        for course, row, is_there in ((self.left, at, at >= first), (self.right, to, to < last)):
            if not is_there or np.abs(frames[row] - wanted).max() > NEAR_FRAMES:
                continue
            n = np.full(len(places), row)
            push = np.full(len(places), (self.noise.acceleration * self.scale[row]) ** 2)
            resize = np.full(len(places), (self.noise.resize * self.scale[row]) ** 2)
            moved, (p, _, _, s) = ahead_of(
                course.variance[n], wanted - frames[row], push, resize, course.place[n], course.velocity[n]
            )
            sides.append((moved, np.stack([p, s], axis=1)))
        if not sides:
            return None
        weight = sum(1 / np.maximum(one, 1e-12) for _, one in sides)
        place = sum(moved * np.repeat(1 / np.maximum(one, 1e-12), 2, axis=1) for moved, one in sides) / np.repeat(
            weight, 2, axis=1
        )
        shake = np.array([self.noise.shake, self.noise.resize_shake])
        return place, 1 / weight + (shake * self.scale[at if at >= first else to]) ** 2


def _owner(ids: _Ids, one: Break) -> tuple[int, float] | None:
    """Return the track whose boxes those of an excursion are, where the circle closes, and the log ratio; else None."""
    boxes = ids.boxes
    sequence = int(boxes.sequence[one.boxes[0]])
    low, high = int(boxes.frame[one.boxes[0]]), int(boxes.frame[one.boxes[-1]])
    first = track = int(boxes.track[one.boxes[0]])
    around = ids.around(sequence, low, high)
    circle: list[tuple[int, float]] = []
    for _ in range(LONGEST_CIRCLE):
        places = ids.inside(track, low, high)
        if not len(places):
            return circle[0][0], 2 * circle[0][1]  # this id lacks a box, and one stands where it should be
        near = [other for other in around if other not in {first, track}]
        if circle:
            near = [track, *near, first]  # it may stand where it should, or where the first one should
        ratios = [ids.log_ratio(places, other, low, high, track) for other in near]
        best = int(np.argmax(ratios)) if ratios else -1
        if best < 0 or ratios[best] < SURE or near[best] == track:
            return None
        circle.append((near[best], ratios[best]))
        if near[best] == first:
            return circle[0][0], 2 * min(ratio for _, ratio in circle)
        track = near[best]
    return None
