"""How ids move: links from box to box, how far each is from constant velocity, and where a track breaks.

Distances are in diagonals of the larger box of a link, per annotated frame. A link's velocity is the median of up to
`N_STEPS` links on one side of it, so that one bad box spoils no other; the side that fits better counts. `steadied`
takes off what most ids of a frame share: a camera that moves.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from curate.teachers.tracks.boxes import NONE, Bools, Floats, Ints, TrackBoxes
from curate.teachers.tracks.course import Noise, fitted_noise, scales_of, usable

N_STEPS = 5
FEW_STEPS = 4  # around a link: so few may all be off, so a box that hardly moves has not jumped whatever they say
MIN_SHARED = 5  # links in a frame from which on their median is the camera
MIN_LINKS = 50  # fewer say too little about how things move here
CUT_RANGE = (0.1, 1.0)  # diagonals: less is no jump whoever is still, more is one whoever moves
N_DEVIATIONS = 10.0  # of the fitted noise: so far off is broken, however many others are
FALSE_ALARMS = 0.1  # links beyond the cut that are expected in a sequence without errors


@dataclass(frozen=True, slots=True)
class Motion:
    """Links between boxes of one id that follow each other, in the order of `TrackBoxes`.

    Attributes:
        before: (L,) box each link starts from.
        after: (L,) box it leads to.
        n_frames: (L,) annotated frames between them, 1 = neighbours.
        distance: (L,) from constant velocity, diagonals a frame.
        before_velocity: (L, 2) pixels a frame, of the links before; 0 where there are none.
        after_velocity: (L, 2) of the links after.
        cut: (S,) distance from which on a link is broken, by sequence.
        noise: how unsteady the boxes are.
        is_extra: (N,) boxes that are in the way: their id has a box that fits better in this frame.
        misfit: (N,) of boxes whose id stands more than once in a frame: share of the distances to where the id
            should be, in [0, 1]; NaN elsewhere.
    """

    before: Ints
    after: Ints
    n_frames: Ints
    distance: Floats
    before_velocity: Floats
    after_velocity: Floats
    cut: Floats
    noise: Noise
    is_extra: Bools
    misfit: Floats

    def cut_of(self, boxes: TrackBoxes) -> Floats:
        """(L,) the cut that holds for each link."""
        chosen: Floats = self.cut[boxes.sequence[self.before]]
        return chosen

    def cut_of_link(self, boxes: TrackBoxes, link: int) -> float:
        """Return the cut that holds for one link."""
        return float(self.cut[boxes.sequence[self.before[link]]])


def steadied(boxes: TrackBoxes) -> tuple[TrackBoxes, Floats]:
    """Return the boxes as a camera that goes with most of them sees them, and the shift of each frame.

    The shift, (F, 2) pixels by row of `boxes.frames`, is to be added to come back to the picture. It is the sum of
    the median steps from frame to frame; fewer than `MIN_SHARED` ids in both frames say nothing.
    """
    used = np.flatnonzero(np.isfinite(boxes.box).all(axis=1))
    follows = (boxes.track[used[1:]] == boxes.track[used[:-1]]) & (
        boxes.frame[used[1:]] == boxes.frame[used[:-1]] + 1
    )
    before, after = used[:-1][follows], used[1:][follows]
    first = np.searchsorted(boxes.frames[:, 0], boxes.sequence)  # row of the sequence's first frame
    place = first + boxes.frame
    shift = np.zeros((len(boxes.frames), 2))
    if len(before):
        step = boxes.centre[after] - boxes.centre[before]
        values, group, size = np.unique(place[after], return_inverse=True, return_counts=True)
        start = np.cumsum(size) - size
        for axis in range(2):
            ranked = step[np.lexsort([step[:, axis], group]), axis]
            middle = (ranked[start + (size - 1) // 2] + ranked[start + size // 2]) / 2
            shift[values, axis] = np.where(size >= MIN_SHARED, middle, 0.0)
    shift = np.cumsum(shift, axis=0)
    shift -= shift[np.searchsorted(boxes.frames[:, 0], boxes.frames[:, 0])]
    steady = boxes.box.copy()
    steady[:, :2] -= shift[place]
    return replace(boxes, box=steady), shift


def motion_of(boxes: TrackBoxes) -> Motion:
    """Return how the ids move."""
    misfit = _misfit(boxes)
    is_extra = _extra(boxes, misfit)
    used = usable(boxes, is_extra)
    noise = fitted_noise(boxes, used, scales_of(boxes, used))
    same = boxes.track[used[1:]] == boxes.track[used[:-1]]
    before, after = used[:-1][same], used[1:][same]
    n_frames = boxes.frame[after] - boxes.frame[before]
    step = (boxes.centre[after] - boxes.centre[before]) / n_frames[:, None]
    track = boxes.track[before]
    left, n_left = _median_of_side(step, track, -1)
    right, n_right = _median_of_side(step, track, 1)
    diagonal = np.maximum(boxes.diagonal_px[after], boxes.diagonal_px[before])
    apart = [
        np.where(n_steps > 0, np.hypot(*(step - velocity).T) / diagonal, np.inf)
        for velocity, n_steps in ((left, n_left), (right, n_right))
    ]
    still = np.where(n_left + n_right < FEW_STEPS, np.hypot(*step.T) / diagonal, np.inf)
    distance = np.minimum(np.minimum(*apart), still)
    cut = _cuts(distance[n_frames == 1], boxes.sequence[before][n_frames == 1], len(boxes.sequences))
    cut = np.clip(N_DEVIATIONS * noise.of_a_step, CUT_RANGE[0], cut)
    return Motion(before, after, n_frames, distance, left, right, cut, noise, is_extra, misfit)


def _median_of_side(step: Floats, track: Ints, sign: int) -> tuple[Floats, Ints]:
    """Return the median step of the links on one side of each, and how many there are."""
    n = len(step)
    shifted = np.full((N_STEPS, n, 2), np.nan)
    for k in range(1, min(N_STEPS, n - 1) + 1):
        own, other = (slice(k, n), slice(0, n - k)) if sign < 0 else (slice(0, n - k), slice(k, n))
        shifted[k - 1, own] = np.where((track[own] == track[other])[:, None], step[other], np.nan)
    count = np.isfinite(shifted[..., 0]).sum(axis=0)
    ranked = np.sort(shifted, axis=0)  # NaN last
    low, high = np.maximum(count - 1, 0) // 2, np.maximum(count // 2, 0)
    link = np.arange(n)
    middle = (ranked[low, link] + ranked[np.minimum(high, N_STEPS - 1), link]) / 2
    return np.where(count[:, None] > 0, middle, 0.0), count.astype(np.int64)


def _cuts(distance: Floats, sequence: Ints, n_sequences: int) -> Floats:
    """Return the cut of each sequence: beyond it, `FALSE_ALARMS` links are expected if all is well.

    The tail of the distances is taken for exponential and its scale from the 80th and 95th percentile, which up to
    one broken link in twenty does not move.
    """
    cuts = np.full(n_sequences, CUT_RANGE[1])
    for one in range(n_sequences):
        own = distance[sequence == one]
        if len(own) < MIN_LINKS:
            continue
        p80, p95 = np.quantile(own, [0.8, 0.95])
        scale = (p95 - p80) / np.log(4.0)
        cuts[one] = np.clip(p95 + scale * np.log(0.05 * len(own) / FALSE_ALARMS), *CUT_RANGE)
    return cuts


def _misfit(boxes: TrackBoxes) -> Floats:
    """Return how badly each box fits its id, where that stands more than once in a frame."""
    n = boxes.n
    same = (boxes.track[1:] == boxes.track[:-1]) & (boxes.frame[1:] == boxes.frame[:-1])
    several = np.concatenate([[False], same]) | np.concatenate([same, [False]])
    misfit = np.full(n, np.nan)
    if not several.any():
        return misfit
    rows = np.flatnonzero(several)
    single = np.flatnonzero(~several & np.isfinite(boxes.box).all(axis=1))
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


def _extra(boxes: TrackBoxes, misfit: Floats) -> Bools:
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


@dataclass(frozen=True, slots=True)
class Break:
    """A place where an id does not move like one thing.

    Attributes:
        link: number of the link that leads away.
        back: number of the link that leads back; NONE where the id never comes back.
        boxes: those that are off; where the id never comes back, the box after the break.
    """

    link: int
    back: int
    boxes: Ints


MAX_EXCURSION_BREAKS = 20
MAX_RESTLESS = 20  # boxes: an excursion with further breaks in it is not longer
SHORT = 5  # boxes: a start as short as this is off itself, not what follows


def breaks_of(boxes: TrackBoxes, motion: Motion) -> list[Break]:
    """Return the breaks of all tracks: excursions that come back, and steps that do not."""
    broken = np.flatnonzero(motion.distance > motion.cut_of(boxes))
    found: list[Break] = []
    at = 0
    while at < len(broken):
        link = int(broken[at])
        ends = _return_of(boxes, motion, broken, at)
        if ends is not None:
            off = _between(motion, link, int(broken[ends]))
            found.append(Break(link, int(broken[ends]), off))
            at = ends + 1
            continue
        start = _short_start(boxes, motion, link)
        found.append(Break(link, NONE, start if start is not None else motion.after[[link]]))
        at += 1
    return found


def _between(motion: Motion, one: int, other: int) -> Ints:
    return motion.after[one:other]


def _return_of(boxes: TrackBoxes, motion: Motion, broken: Ints, at: int) -> int | None:
    """Return the position in `broken` of the link on which the id comes back; None if it never does."""
    link = int(broken[at])
    start = int(motion.before[link])
    for ends in range(at + 1, min(at + 1 + MAX_EXCURSION_BREAKS, len(broken))):
        other = int(broken[ends])
        end = int(motion.after[other])
        if boxes.track[end] != boxes.track[start]:
            return None
        if ends > at + 1 and other - link > MAX_RESTLESS:
            return None
        n_frames = int(boxes.frame[end] - boxes.frame[start])
        step = boxes.centre[end] - boxes.centre[start]
        sides = (motion.before_velocity[link], motion.after_velocity[other])
        options = (*sides, (sides[0] + sides[1]) / 2)  # boxes that shake make each side's uncertain
        diagonal = max(boxes.diagonal_px[start], boxes.diagonal_px[end])
        apart = min(float(np.hypot(*(step - velocity * n_frames))) for velocity in options) / diagonal
        away = min(motion.distance[link] * motion.n_frames[link], motion.distance[other] * motion.n_frames[other])
        if apart < away / 2:
            return ends
    return None


def _short_start(boxes: TrackBoxes, motion: Motion, link: int) -> Ints | None:
    """Return the boxes before the break where they are the first few of their id and more follow."""
    track = boxes.track[motion.before[link]]
    first = int(np.searchsorted(boxes.track, track, side="left"))
    last = int(np.searchsorted(boxes.track, track, side="right"))
    start = np.arange(first, int(motion.before[link]) + 1)
    if len(start) >= SHORT or last - int(motion.after[link]) <= len(start):
        return None
    return start.astype(np.int64)


def pieces_of(
    boxes: TrackBoxes, motion: Motion, breaks: Sequence[Break], changed: Sequence[int]
) -> tuple[Ints, Ints]:
    """Return the boxes that courses may go through, and the number of the course of each, in order.

    Boxes that a break puts off their course have no say in where it leads. Where an id changes hands (at a box in
    `changed`) or breaks for good, one course ends and another begins.
    """
    off = np.concatenate([np.zeros(0, dtype=np.int64), *(one.boxes for one in breaks)])
    ends = np.asarray([motion.after[one.link] for one in breaks if one.back < 0], dtype=np.int64)
    used = usable(boxes, motion.is_extra)
    is_new = np.zeros(boxes.n, dtype=np.bool_)
    is_new[np.concatenate([ends, np.asarray(changed, dtype=np.int64)])] = True
    piece = (np.cumsum(is_new) + boxes.track * 2 * boxes.n)[used]  # of two ids, never equal
    kept = ~np.isin(used, off[~np.isin(off, ends)])
    return used[kept], piece[kept]


def continued(boxes: TrackBoxes, motion: Motion, box: int, frame: int) -> Floats:
    """Return where the id of a box would be in a later frame, at the velocity it had: x, y, w, h."""
    last = int(np.searchsorted(motion.after, box, side="right"))
    own = np.arange(max(last - N_STEPS, 0), last)
    own = own[boxes.track[motion.after[own]] == boxes.track[box]]
    expected: Floats = boxes.box[box].copy()
    if len(own):
        moved = boxes.centre[motion.after[own]] - boxes.centre[motion.before[own]]
        velocity = np.median(moved / motion.n_frames[own][:, None], axis=0)
        expected[:2] += velocity * (frame - int(boxes.frame[box]))
    return expected
