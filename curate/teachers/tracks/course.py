"""Where a track is and how fast it moves at each box, as known from one side: a Kalman filter over every id.

Constant velocity with white acceleration for the centre, a random walk for width and height (Bar-Shalom, Li and
Kirubarajan 2001, chapters 5 and 6). Both noises are in diagonals of the box, and are fitted to each set of labels:
hand-drawn boxes shake, interpolated ones do not.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise, product

import numpy as np

from curate.teachers.tracks.boxes import Bools, Floats, Ints, TrackBoxes

DOFS = (4.0, 8.0, 16.0)  # of the Student t that errors are taken for: people stop, turn and are drawn badly
SHAKES = (0.0015, 0.003, 0.006, 0.012, 0.024, 0.048)  # diagonals, standard deviation of a drawn centre
ACCELERATIONS = (0.0005, 0.0015, 0.005, 0.015, 0.05)  # diagonals a frame, of the change of velocity in a frame
RESIZES = (0.0015, 0.005, 0.015, 0.05)  # diagonals, of the change of width or height in a frame
WRONG, WRONG_REACH = (
    0.02,
    1.0,
)  # share of boxes that are wrong, as the noises are fitted, and how far off, diagonals
FIRST_SPEED = 0.1  # diagonals a frame, standard deviation of a velocity of which nothing is known
N_FITTED = 4000  # boxes that are looked at to fit the noises
LONGEST = 60  # boxes in a row that are fitted as one piece


@dataclass(frozen=True, slots=True)
class Noise:
    """How unsteady boxes are, in diagonals.

    Attributes:
        shake: standard deviation of a drawn centre.
        acceleration: of the change of velocity from one frame to the next.
        resize_shake: of a drawn width or height.
        resize: of the true change of width or height from one frame to the next.
        dof: degrees of freedom of the Student t that errors follow; few where most boxes are steady and some are not.
    """

    shake: float
    acceleration: float
    resize_shake: float
    resize: float
    dof: float = DOFS[0]

    @property
    def of_a_step(self) -> float:
        """Standard deviation of the difference of two steps of a centre in a row, diagonals."""
        return math.sqrt(6 * self.shake**2 + self.acceleration**2)


@dataclass(frozen=True, slots=True)
class Course:
    """The state of each box's id from its boxes on one side, this one included; N boxes.

    Attributes:
        place: (N, 4) centre x, y, width, height, pixels.
        velocity: (N, 2) pixels a frame, in the direction of time.
        variance: (N, 4) of place, of place with velocity, of velocity, of the size; pixels and frames.
        error: (N, 2) squared error of the prediction of centre and size, each over both axes, in units of its variance.
        spread: (N, 2) variances of these predictions.
    """

    place: Floats
    velocity: Floats
    variance: Floats
    error: Floats
    spread: Floats


def follow(track: Ints, frame: Ints, box: Floats, scale: Floats, noise: Noise) -> Course:
    """Return the course of boxes that are sorted by track and frame; frames may also count down, for the other side.

    Args:
        track: (N,), each id's boxes in a row.
        frame: (N,), each frame of an id once.
        box: (N, 4) x, y, width, height, pixels.
        scale: (N,) length of a diagonal, pixels.
        noise: in diagonals.
    """
    n = len(track)
    seen = np.concatenate([box[:, :2] + box[:, 2:] / 2, box[:, 2:]], axis=1)
    shake, push = (noise.shake * scale) ** 2, (noise.acceleration * scale) ** 2
    size_shake, resize = (noise.resize_shake * scale) ** 2, (noise.resize * scale) ** 2
    place, velocity, variance = seen.copy(), np.zeros((n, 2)), np.zeros((n, 4))
    error, spread = np.full((n, 2), np.nan), np.full((n, 2), np.nan)
    variance[:, 0], variance[:, 2], variance[:, 3] = shake, (FIRST_SPEED * scale) ** 2, size_shake
    for rows in _steps(track):
        last = rows - 1
        ahead, speed = place[last], velocity[last]
        moved, (p, pv, v, s) = ahead_of(
            variance[last], frame[rows] - frame[last], push[rows], resize[rows], ahead, speed
        )
        missed = seen[rows] - moved
        total, total_size = p + shake[rows], s + size_shake[rows]
        gain, gain_speed, gain_size = p / total, pv / total, s / total_size
        place[rows, :2] = moved[:, :2] + gain[:, None] * missed[:, :2]
        place[rows, 2:] = moved[:, 2:] + gain_size[:, None] * missed[:, 2:]
        velocity[rows] = speed + gain_speed[:, None] * missed[:, :2]
        variance[rows] = np.stack(
            [(1 - gain) * p, (1 - gain) * pv, v - gain_speed * pv, (1 - gain_size) * s], axis=1
        )
        error[rows, 0] = (missed[:, :2] ** 2).sum(axis=1) / total
        error[rows, 1] = (missed[:, 2:] ** 2).sum(axis=1) / total_size
        spread[rows] = np.stack([total, total_size], axis=1)
    return Course(place, velocity, variance, error, spread)


def follow_both_ways(track: Ints, frame: Ints, box: Floats, scale: Floats, noise: Noise) -> tuple[Course, Course]:
    """Return the courses that lead up to each box, from those before it and from those after it; see `follow`."""
    after = follow(track[::-1], frame[::-1], box[::-1], scale[::-1], noise)
    right = Course(
        after.place[::-1], after.velocity[::-1], after.variance[::-1], after.error[::-1], after.spread[::-1]
    )
    return follow(track, frame, box, scale, noise), right


def ahead_of(
    variance: Floats, n_frames: Ints | Floats, push: Floats, resize: Floats, place: Floats, velocity: Floats
) -> tuple[Floats, tuple[Floats, Floats, Floats, Floats]]:
    """Return places moved on by so many frames, negative ones back in time, and their variances."""
    p, pv, v, s = variance.T
    dt, span = n_frames.astype(np.float64), np.abs(n_frames).astype(np.float64)
    moved = place.copy()
    moved[:, :2] += velocity * dt[:, None]
    return moved, (
        p + 2 * dt * pv + dt**2 * v + push * span**3 / 3,
        pv + dt * v + push * np.sign(dt) * span**2 / 2,
        v + push * span,
        s + resize * span,
    )


def off_course(track: Ints, frame: Ints, box: Floats, scale: Floats, noise: Noise, n_most: int) -> Floats:
    """Return (K, N) how far boxes are from where those on both sides of them put them, in standard deviations.

    Row k - 1 is about the mean place of each box and the k - 1 after it; these have no say in where they should be.
    NaN where the id has no box before or after them. The other arguments are as in `follow`.

    Args:
        track: (N,).
        frame: (N,).
        box: (N, 4).
        scale: (N,).
        noise: in diagonals.
        n_most: K, boxes in a row that are looked at together.
    """
    n = len(track)
    deviations = np.full((n_most, n), np.nan)
    left, right = follow_both_ways(track, frame, box, scale, noise)
    seen = np.cumsum(np.concatenate([np.zeros((1, 2)), box[:, :2] + box[:, 2:] / 2]), axis=0)
    when = np.cumsum(np.concatenate([[0], frame]))
    for k in range(1, min(n_most, n - 2) + 1):
        first = np.flatnonzero(track[: -k - 1] == track[k + 1 :]) + 1
        mean_frame = (when[first + k] - when[first]) / k
        push = (noise.acceleration * scale[first]) ** 2
        sides = []
        for course, at in ((left, first - 1), (right, first + k)):
            apart = mean_frame - frame[at]
            moved, (p, _, _, _) = ahead_of(
                course.variance[at], apart, push, push, course.place[at], course.velocity[at]
            )
            sides.append((moved[:, :2], np.maximum(p, 1e-12)))
        (one, p), (other, q) = sides
        expected = (one * q[:, None] + other * p[:, None]) / (p + q)[:, None]
        variance = p * q / (p + q) + (noise.shake * scale[first]) ** 2 / k
        deviations[k - 1, first] = np.hypot(*((seen[first + k] - seen[first]) / k - expected).T) / np.sqrt(variance)
    return deviations


def _steps(track: Ints) -> list[Ints]:
    """Return the rows of the second, third, … box of every track."""
    if len(track) < 2:
        return []
    starts = np.flatnonzero(np.concatenate([[True], np.diff(track) != 0]))
    rank = np.arange(len(track)) - np.repeat(starts, np.diff([*starts, len(track)]))
    order = np.argsort(rank, kind="stable")
    bounds = np.searchsorted(rank[order], np.arange(1, int(rank.max()) + 2))
    return [order[low:high] for low, high in pairwise(bounds)]


def scales_of(boxes: TrackBoxes, used: Ints) -> Floats:
    """Return the length of a diagonal at each used box: the median of the id's boxes around it, pixels."""
    diagonal, track = boxes.diagonal_px[used], boxes.track[used]
    around = np.full((5, len(used)), np.nan)
    for k in range(-2, 3):
        own = slice(max(k, 0), len(used) + min(k, 0))
        other = slice(max(-k, 0), len(used) + min(-k, 0))
        around[k + 2, own] = np.where(track[own] == track[other], diagonal[other], np.nan)
    median: Floats = np.nanmedian(around, axis=0)
    return median


def fitted_noise(boxes: TrackBoxes, used: Ints, scale: Floats) -> Noise:
    """Return the noises under which the next box of each id is least surprising; single errors hardly count.

    Likelihood of one-step predictions under a Student t, over a grid, on pieces of tracks spread over all labels. Of the
    centres' and the sizes' tails the heavier one is taken.
    """
    rows = _pieces(boxes.track[used])
    track = boxes.track[used][rows] * (len(used) + 1) + np.arange(len(rows)) // LONGEST
    frame, box, scales = boxes.frame[used][rows], boxes.box[used][rows], scale[rows]
    best: dict[int, tuple[float, tuple[float, float, float]]] = {}
    for kind, grid in ((0, product(SHAKES, ACCELERATIONS)), (1, product(SHAKES, RESIZES))):
        for one, other in grid:
            noise = Noise(one, other, one, other)
            course = follow(track, frame, box, scales, noise)
            known = np.isfinite(course.error[:, kind])
            if not known.any():
                return Noise(SHAKES[2], ACCELERATIONS[2], SHAKES[2], RESIZES[1])
            spread = course.spread[known, kind] / scales[known] ** 2
            costs = [(-_likelihood(course.error[known, kind], spread, dof), (one, other, dof)) for dof in DOFS]
            best[kind] = min(best.get(kind, (np.inf, (0.0, 0.0, 0.0))), *costs)
    (_, (shake, acceleration, dof)), (_, (resize_shake, resize, size_dof)) = best[0], best[1]
    return Noise(shake, acceleration, resize_shake, resize, min(dof, size_dof))


def student_constant(dof: float, n_dimensions: int) -> float:
    """Return the logarithm of what the density of a Student t with a unit scale is multiplied by."""
    return math.lgamma((dof + n_dimensions) / 2) - math.lgamma(dof / 2) - n_dimensions / 2 * math.log(dof * math.pi)


def _likelihood(squared: Floats, spread: Floats, dof: float) -> float:
    """Return the mean log density of errors in two dimensions, in diagonals, where few are of wrong labels.

    Args:
        squared: (n,) their squared lengths, in units of their variance.
        spread: (n,) that variance.
        dof: of the Student t of good labels.
    """
    good = student_constant(dof, 2) - (dof + 2) / 2 * np.log1p(squared / dof) - np.log(spread)
    if len(good) * WRONG < 1:  # too few for one of them to be wrong
        return float(good.mean())
    wrong = -np.log(2 * math.pi * WRONG_REACH**2) - squared * spread / (2 * WRONG_REACH**2)
    return float(np.logaddexp(math.log1p(-WRONG) + good, math.log(WRONG) + wrong).mean())


def _pieces(track: Ints) -> Ints:
    """Return rows of the labels: all of them, or blocks of `LONGEST` in a row from all over."""
    n = len(track)
    if n <= N_FITTED:
        return np.arange(n)
    starts = np.linspace(0, n - LONGEST, N_FITTED // LONGEST).astype(np.int64)
    rows: Ints = (starts[:, None] + np.arange(LONGEST)).ravel()
    return np.unique(rows)


def usable(boxes: TrackBoxes, is_extra: Bools) -> Ints:
    """Return the boxes that an id's course goes through."""
    found: Ints = np.flatnonzero(~is_extra & boxes.usable)
    return found
