"""How ids move: links from box to box, and how far each is from constant velocity.

Distances are in diagonals of the larger box of a link, per annotated frame. A link's velocity is the median of up to
`N_STEPS` links on one side of it, so that one bad box spoils no other; the side that fits better counts.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from curate.teachers.tracks.boxes import Bools, Floats, Ints, TrackBoxes
from curate.teachers.tracks.course import Noise, fitted_noise, scales_of, usable
from curate.teachers.tracks.twins import extra_of, misfit_of

N_STEPS = 5
FEW_STEPS = 4  # around a link: so few may all be off, so a box that hardly moves has not jumped whatever they say
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


def motion_of(boxes: TrackBoxes) -> Motion:
    """Return how the ids move."""
    misfit = misfit_of(boxes)
    is_extra = extra_of(boxes, misfit)
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
