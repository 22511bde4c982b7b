"""How usual it is that ids pause: a pause is odd where few ids pause that are seen as well, or where it lasts longer.

People stop labeling what is hidden, so what counts is how much of the missing box other boxes cover: from each share
of cover, how often ids begin to pause and how often they stay away for one more frame is counted in the labels
themselves (without the pause that is judged). Who is hidden more does not pause less: the shares are fitted as a rising
function of the cover (isotonic regression), so that its classes can be narrow and a limit of the annotators shows
wherever it lies. The product is how probable the pause is as a meant one.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from scipy.optimize import isotonic_regression

from curate.teachers.tracks.boxes import Floats, Ints, TrackBoxes
from curate.teachers.tracks.motion import Motion

COVERS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)  # shares of a box that others hide: borders between classes
RARE = 0.005  # probability of a meant pause at which it is as likely an error
FIRST_GUESS = (0.1, 50.0)  # pauses in frames that are taken to have been seen before any is counted
STAY_GUESS = (1.0, 2.0)  # the same for staying away one more frame
MOST_ODDS = 4.0
LONGEST = 50  # missing frames of a pause that are looked at


@dataclass(frozen=True, slots=True)
class _Missing:
    """Boxes that pauses lack, by interpolation: M of them, in order of link and frame."""

    link: Ints
    sequence: Ints
    frame: Ints
    box: Floats
    is_first: np.ndarray


def pause_odds(boxes: TrackBoxes, motion: Motion) -> dict[int, float]:
    """Return, for each link that leaves out frames, the odds that the pause is an error, by the labels alone."""
    links = np.flatnonzero(motion.n_frames > 1)
    if not len(links):
        return {}
    missing = _missing(boxes, motion, links)
    n_kinds = len(COVERS) + 1
    here = np.flatnonzero(boxes.usable)
    labeled = np.full(boxes.n, 0, dtype=np.int64)
    labeled[here] = _cover_class(boxes, here, boxes.sequence[here], boxes.frame[here], boxes.box[here], here)
    lacking = _cover_class(boxes, here, missing.sequence, missing.frame, missing.box, None)
    stays = np.bincount(labeled[motion.after[motion.n_frames == 1]], minlength=n_kinds)
    begins = np.bincount(lacking[missing.is_first], minlength=n_kinds)
    more = np.bincount(lacking[~missing.is_first], minlength=n_kinds)
    backs = np.bincount(labeled[motion.after[links]], minlength=n_kinds)
    odds: dict[int, float] = {}
    starts = [*np.flatnonzero(missing.is_first).tolist(), len(lacking)]
    for link, (low, high) in zip(links.tolist(), pairwise(starts), strict=True):
        own = lacking[low:high]
        own_more = np.bincount(own[1:], minlength=n_kinds)
        own_back = np.bincount(labeled[motion.after[[link]]], minlength=n_kinds)
        begin = _rates(begins - _one(int(own[0]), n_kinds), stays, FIRST_GUESS)[own[0]]
        stay = _rates(more - own_more, backs - own_back, STAY_GUESS)[own[1:]]
        surprise = -np.log(begin) - np.log(stay).sum()
        ratio = RARE * float(np.exp(min(surprise, 50.0)))
        odds[link] = MOST_ODDS * ratio / (MOST_ODDS + ratio)
    return odds


def _rates(n_events: Ints, n_others: Ints, guess: tuple[float, float]) -> Floats:
    """Return (K,) how often something happens by class of cover; what is hidden more does not pause less."""
    tried = n_events + n_others + guess[1]
    rates: Floats = isotonic_regression((n_events + guess[0]) / tried, weights=tried).x
    return rates


def _one(kind: int, n_kinds: int) -> Ints:
    """Return (K,) a single one, at a class."""
    one: Ints = (np.arange(n_kinds) == kind).astype(np.int64)
    return one


def _missing(boxes: TrackBoxes, motion: Motion, links: Ints) -> _Missing:
    n = np.minimum(motion.n_frames[links] - 1, LONGEST)
    link = np.repeat(links, n)
    step = np.arange(len(link)) - np.repeat(np.cumsum(n) - n, n) + 1
    before, after = motion.before[link], motion.after[link]
    weight = (step / motion.n_frames[link])[:, None]
    box = boxes.box[before] * (1 - weight) + boxes.box[after] * weight
    return _Missing(link, boxes.sequence[before], boxes.frame[before] + step, box, step == 1)


def hidden_share(boxes: TrackBoxes, rows: Ints) -> Floats:
    """Return (n,) how much of some labeled boxes others hide: the share of the area, those twice that two hide twice."""
    here = np.flatnonzero(boxes.usable)
    return _hidden(boxes, here, boxes.sequence[rows], boxes.frame[rows], boxes.box[rows], rows)


def _cover_class(boxes: TrackBoxes, here: Ints, sequence: Ints, frame: Ints, box: Floats, own: Ints | None) -> Ints:
    """Return the class of cover of some boxes."""
    hidden = _hidden(boxes, here, sequence, frame, box, own)
    return np.searchsorted(COVERS, hidden, side="right").astype(np.int64)


def _hidden(boxes: TrackBoxes, here: Ints, sequence: Ints, frame: Ints, box: Floats, own: Ints | None) -> Floats:
    """Return how much of some boxes labeled ones in front in their frame hide, that is, those further down."""
    wide = int(boxes.frame.max(initial=0)) + 2
    keys = boxes.sequence[here] * wide + boxes.frame[here]
    there = here[np.argsort(keys, kind="stable")]
    keys = np.sort(keys, kind="stable")
    wanted = sequence * wide + frame
    order = np.argsort(wanted, kind="stable")
    edges = np.flatnonzero(np.diff(wanted[order], prepend=-1, append=-1) != 0)
    hidden = np.zeros(len(box))
    for low, high in pairwise(edges.tolist()):
        rows = order[low:high]
        first, last = (
            np.searchsorted(keys, wanted[rows[0]], "left"),
            np.searchsorted(keys, wanted[rows[0]], "right"),
        )
        others = there[first:last]
        one, other = box[rows][:, None, :], boxes.box[others][None, :, :]
        shared = np.minimum(one[..., :2] + one[..., 2:], other[..., :2] + other[..., 2:])
        shared = np.clip(shared - np.maximum(one[..., :2], other[..., :2]), 0, None).prod(axis=-1)
        in_front = other[..., 1] + other[..., 3] >= one[..., 1] + one[..., 3]
        if own is not None:
            in_front &= own[rows][:, None] != others[None, :]
        hidden[rows] = (shared * in_front).sum(axis=1) / box[rows, 2:].prod(axis=1)
    return hidden
