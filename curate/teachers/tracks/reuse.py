"""Ids that come back after a pause as something else: the name was given again, or its owner goes on under another.

How probable it is that the box after a pause is what was there before follows from the course on both sides (as in
`exchanges`); it is held against a thing that is anywhere where boxes are, moves as things here do and is as large as
they are.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np

from curate.teachers.tracks.boxes import Floats, Ints, TrackBoxes, iou
from curate.teachers.tracks.breaks import Break, pieces_of
from curate.teachers.tracks.course import FIRST_SPEED, follow_both_ways, scales_of, student_constant
from curate.teachers.tracks.exchanges import N_DIMENSIONS, log_fit
from curate.teachers.tracks.found import odds_beyond
from curate.teachers.tracks.motion import Motion

SAME_PLACE = 0.5  # overlap of the boxes before and after a pause from which on they are one thing
SURE = 5.0  # log ratio of even odds: ids are rarely given again


def doubtful_returns(
    boxes: TrackBoxes, motion: Motion, breaks: Sequence[Break], changed: Sequence[int], least: float
) -> Iterator[tuple[int, float]]:
    """Yield the link over each pause after which another thing may have come back, and its odds, from `least` on.

    Not where a break or a change of hands (`changed`) says already that the sides are not one course.
    """
    links, log_ratios = _returns(boxes, motion, breaks, changed)
    for link, log_ratio in zip(links.tolist(), log_ratios.tolist(), strict=True):
        sides = boxes.box[[motion.before[link], motion.after[link]]]
        odds = odds_beyond(log_ratio, SURE)
        if odds >= least and iou(sides[:1], sides[1:])[0, 0] < SAME_PLACE:
            yield link, odds


def _returns(
    boxes: TrackBoxes, motion: Motion, breaks: Sequence[Break], changed: Sequence[int]
) -> tuple[Ints, Floats]:
    """Return the link over each pause, and how much more likely another thing comes back: log ratio."""
    rows, own = pieces_of(boxes, motion, breaks, changed)
    links = np.flatnonzero(motion.n_frames > 1)
    links = links[np.isin(motion.before[links], rows) & np.isin(motion.after[links], rows)]
    at = np.searchsorted(rows, motion.before[links])
    links = links[own[at] == own[np.searchsorted(rows, motion.after[links])]]
    if not len(links):
        return links, np.zeros(0)
    frame, box, scale = boxes.frame[rows], boxes.box[rows], scales_of(boxes, rows)
    left, right = follow_both_ways(own, frame, box, scale, motion.noise)
    start, end = np.searchsorted(rows, motion.before[links]), np.searchsorted(rows, motion.after[links])
    same = log_fit(left, right, start, end, frame, scale, motion.noise)[0]
    same += student_constant(motion.noise.dof, N_DIMENSIONS)  # which `log_fit` leaves out
    return links, _elsewhere(boxes, rows, boxes.sequence[motion.before[links]], scale[end]) - same


def _elsewhere(boxes: TrackBoxes, rows: Ints, sequence: Ints, scale: Floats) -> Floats:
    """Return the log density of any other thing: even over the area and the range of sizes, at a common speed."""
    area = np.zeros(len(boxes.sequences))
    sizes = np.zeros(len(boxes.sequences))
    for one in np.unique(sequence).tolist():
        mine = rows[boxes.sequence[rows] == one]
        spread = np.ptp(np.quantile(boxes.centre[mine], [0.02, 0.98], axis=0), axis=0)
        size = np.ptp(np.quantile(boxes.box[mine, 2:], [0.02, 0.98], axis=0), axis=0)
        area[one] = np.log(np.maximum(spread, 1.0)).sum()
        sizes[one] = np.log(np.maximum(size, 1.0)).sum()
    speed = np.log(2 * math.pi * (FIRST_SPEED / 3 * scale) ** 2)
    density: Floats = -area[sequence] - sizes[sequence] - speed
    return density
