"""Two ids that were exchanged: does each go on better as the other?

Between two frames each id has a course that leads there and one that leads on. For two ids A and B the evidence is the
likelihood of A → B' and B → A' against A → A' and B → B', with place, velocity and size, each as uncertain as it is
(the likelihood ratio of Reid 1979 for two hypotheses, with both sides filtered). A jump of one id is none of that: it
goes on badly as anything. What is found is put right before the rest is looked at, so that an exchange back is seen
as one, however soon it comes.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from scipy.spatial import cKDTree

from curate.teachers.tracks.boxes import Bools, Floats, Ints, TrackBoxes
from curate.teachers.tracks.course import Course, Noise, follow_both_ways, scales_of, usable
from curate.teachers.tracks.motion import Motion

N_NEIGHBOURS = 6
LONGEST_PAUSE = 6  # annotated frames that an id may lack at the exchange
N_DIMENSIONS = 6  # place, velocity, size
SURE = 4.0  # log ratio from which on two ids count as exchanged: half of it for errors that hang together
LEAST = -2.0  # log ratio of what is still worth a line
APART = 15  # annotated frames: in one round, each id is exchanged once in so many
BESIDE = 3  # annotated frames: how far an exchange may lie from where it shows most
MAX_ROUNDS = 6


@dataclass(frozen=True, slots=True)
class Pairs:
    """P pairs of neighbours over the same two frames; each box is a row of `TrackBoxes`.

    Attributes:
        before: (P, 2) last boxes of the two ids.
        after: (P, 2) next boxes of the two ids.
        frame: (P,) rank of the frame that both lead over to.
        log_ratio: (P,) how much likelier the two go on as each other, natural logarithm, under a Student t: one box
            that is far off says little.
        normal_ratio: (P,) the same under a normal distribution, which tells neighbouring frames apart better.
    """

    before: Ints
    after: Ints
    frame: Ints
    log_ratio: Floats
    normal_ratio: Floats

    def taken(self, rows: Ints) -> Pairs:
        """Return some of them."""
        return Pairs(
            self.before[rows], self.after[rows], self.frame[rows], self.log_ratio[rows], self.normal_ratio[rows]
        )


@dataclass(frozen=True, slots=True)
class Exchanges:
    """What the ids' courses say about exchanges.

    Attributes:
        all_pairs: of neighbours at every frame, as labeled.
        found: exchanges from `LEAST` on; from `SURE` on, those after it are judged with it put right.
        noise: of these labels.
    """

    all_pairs: Pairs
    found: Pairs
    noise: Noise

    def log_ratio_of(self, after: int, other_before: int) -> float | None:
        """Return the ratio for an id that goes on at `after` and the one that led to `other_before` until then."""
        pairs = self.all_pairs
        for one, two in ((0, 1), (1, 0)):
            hit = np.flatnonzero((pairs.after[:, one] == after) & (pairs.before[:, two] == other_before))
            if len(hit):
                return float(pairs.log_ratio[hit].max())
        return None


@dataclass(frozen=True, slots=True)
class _Given:
    """Usable boxes and what a course needs of them."""

    boxes: TrackBoxes
    rows: Ints
    scale: Floats  # by row of `boxes`
    noise: Noise


def exchanges(boxes: TrackBoxes, motion: Motion, off: Bools) -> Exchanges:
    """Return every pair of neighbours at every frame, and those that were exchanged there.

    Boxes that are `off`, (N,), are no evidence: each id leads from what lies before them to what lies after them.
    """
    rows = usable(boxes, motion.is_extra | off)
    scales = scales_of(boxes, rows)
    scale = np.ones(boxes.n)
    scale[rows] = scales
    given = _Given(boxes, rows, scale, motion.noise)
    track = boxes.track.copy()
    pairs = all_pairs = _pairs_of(given, track, rows)
    found: list[Pairs] = []
    for _ in range(MAX_ROUNDS):
        chosen = _apart(pairs, track, SURE)
        if not len(chosen):
            break
        found.append(pairs.taken(chosen))
        touched = _put_right(boxes, track, found[-1])
        pairs = _pairs_of(given, track, rows[np.isin(boxes.sequence[rows], touched)])
    found.append(all_pairs.taken(_apart(all_pairs, boxes.track, LEAST, SURE)))
    return Exchanges(all_pairs, _joined(found), given.noise)


def _joined(found: list[Pairs]) -> Pairs:
    return Pairs(
        np.concatenate([one.before for one in found]),
        np.concatenate([one.after for one in found]),
        np.concatenate([one.frame for one in found]),
        np.concatenate([one.log_ratio for one in found]),
        np.concatenate([one.normal_ratio for one in found]),
    )


def _apart(pairs: Pairs, track: Ints, low: float, high: float = np.inf) -> Ints:
    """Return the likeliest pairs in a range, none within `APART` frames of a likelier one with an id in common."""
    worth = np.flatnonzero(pairs.log_ratio > low)
    order = worth[np.lexsort([pairs.after[worth, 1], pairs.after[worth, 0], -pairs.log_ratio[worth]])]
    frames: dict[int, list[int]] = {}
    chosen = []
    for pair in order.tolist():
        frame = int(pairs.frame[pair])
        ids = [int(track[box]) for box in pairs.after[pair]]
        if any(abs(frame - one) <= APART for own in ids for one in frames.get(own, ())):
            continue
        for own in ids:
            frames.setdefault(own, []).append(frame)
        if pairs.log_ratio[pair] <= high:
            chosen.append(pair)
    both = np.sort(track[pairs.after], axis=1)
    return np.asarray([_placed(pairs, both, pair) for pair in chosen], dtype=np.int64)


def _placed(pairs: Pairs, ids: Ints, pair: int) -> int:
    """Return the likeliest of the same two ids' pairs within `BESIDE` frames of one."""
    near = np.flatnonzero(
        (ids[:, 0] == ids[pair, 0])
        & (ids[:, 1] == ids[pair, 1])
        & (np.abs(pairs.frame - pairs.frame[pair]) <= BESIDE)
        & (pairs.log_ratio > pairs.log_ratio[pair] / 2)
    )
    best = near[np.lexsort([near, -pairs.normal_ratio[near]])]
    return int(best[0]) if len(best) else pair


def _put_right(boxes: TrackBoxes, track: Ints, chosen: Pairs) -> Ints:
    """Exchange the ids in `track` from each place on, in order of time; return the sequences that were touched."""
    for pair in np.lexsort([chosen.after[:, 0], chosen.frame]).tolist():
        one, other = (int(track[box]) for box in chosen.after[pair])
        later = boxes.frame >= chosen.frame[pair]
        ones, others = later & (track == one), later & (track == other)
        track[ones], track[others] = other, one
    return np.unique(boxes.sequence[chosen.after[:, 0]])


def _pairs_of(given: _Given, track: Ints, rows: Ints) -> Pairs:
    """Return the pairs of neighbours among some rows, under the ids in `track`."""
    boxes = given.boxes
    rows = rows[np.lexsort([boxes.frame[rows], track[rows]])]
    own, frame, box, scale = track[rows], boxes.frame[rows], boxes.box[rows], given.scale[rows]
    left, right = follow_both_ways(own, frame, box, scale, given.noise)
    start = np.flatnonzero((own[1:] == own[:-1]) & (frame[1:] - frame[:-1] <= LONGEST_PAUSE))
    one, other, gap = _neighbours(boxes, rows[start], rows[start + 1])

    def goes_on(of: Ints, as_of: Ints) -> Floats:
        return log_fit(left, right, start[of], start[as_of] + 1, frame, scale, given.noise)

    ratio, normal = goes_on(one, other) + goes_on(other, one) - goes_on(one, one) - goes_on(other, other)
    before = np.stack([rows[start[one]], rows[start[other]]], axis=1)
    after = np.stack([rows[start[one] + 1], rows[start[other] + 1]], axis=1)
    return Pairs(before, after, gap, ratio, normal)


def log_fit(
    left: Course, right: Course, start: Ints, end: Ints, frame: Ints, scale: Floats, noise: Noise
) -> Floats:
    """Return (2, n) the log-likelihood that the course up to one box goes on with the course from another on.

    Under a Student t and under a normal distribution, each up to its own constant; pixels and frames.
    """
    dt = (frame[end] - frame[start]).astype(np.float64)
    p, pv, v, s = left.variance[start].T
    q, qv, w, u = right.variance[end].T
    push, resize = (noise.acceleration * scale[start]) ** 2, (noise.resize * scale[start]) ** 2
    place = p + 2 * dt * pv + dt**2 * v + push * dt**3 / 3 + q
    both = pv + dt * v + push * dt**2 / 2 + qv
    speed = v + push * dt + w
    size = s + resize * dt + u
    off = right.place[end] - left.place[start]
    off[:, :2] -= left.velocity[start] * dt[:, None]
    faster = right.velocity[end] - left.velocity[start]
    determinant = np.maximum(place * speed - both**2, 1e-300)
    squared = (
        speed[:, None] * off[:, :2] ** 2 - 2 * both[:, None] * off[:, :2] * faster + place[:, None] * faster**2
    ).sum(axis=1) / determinant
    squared += (off[:, 2:] ** 2).sum(axis=1) / size
    unit = -np.log(determinant) - np.log(size)
    student = (noise.dof + N_DIMENSIONS) / 2 * np.log1p(squared / noise.dof)
    return np.stack([unit - student, unit - squared / 2])


def _neighbours(boxes: TrackBoxes, before: Ints, after: Ints) -> tuple[Ints, Ints, Ints]:
    """Return which links lead over the same frame beside each other, each pair once, and that frame."""
    spans = boxes.frame[after] - boxes.frame[before]
    link = np.repeat(np.arange(len(before)), spans)
    step = np.arange(len(link)) - np.repeat(np.cumsum(spans) - spans, spans)
    key = boxes.sequence[before[link]] * (int(boxes.frame.max(initial=0)) + 2) + boxes.frame[before[link]] + step
    order = np.argsort(key, kind="stable")
    link, key = link[order], key[order]
    edges = np.flatnonzero(np.diff(key, prepend=-1, append=-1) != 0).tolist()
    centre = (boxes.centre[before] + boxes.centre[after]) / 2
    found = [np.zeros((0, 2), dtype=np.int64)]
    for low, high in pairwise(edges):
        here = link[low:high]
        k = min(N_NEIGHBOURS + 1, len(here))
        if k < 2:
            continue
        near = cKDTree(centre[here]).query(centre[here], k=k)[1]
        pairs = np.stack([np.repeat(np.arange(len(here)), k), near.ravel()], axis=1)
        pairs.sort(axis=1)
        found.append(here[pairs[pairs[:, 0] != pairs[:, 1]]])
    pairs = np.concatenate(found)
    pairs = np.unique(np.sort(pairs, axis=1), axis=0)
    frame = np.maximum(boxes.frame[before[pairs[:, 0]]], boxes.frame[before[pairs[:, 1]]]) + 1
    return pairs[:, 0], pairs[:, 1], frame
