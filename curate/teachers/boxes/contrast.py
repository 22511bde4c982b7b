"""Copies of the given labels with errors of each kind planted in them: what wrong boxes look like to these teachers.

Nobody knows which given boxes are wrong. But of a box that was moved on purpose everything is known, so the model is
fitted to tell given boxes (most of which are right) from planted errors: noise-contrastive estimation, Gutmann and
Hyvärinen 2010. What it learns is how many times likelier the evidence is under each kind of error.

Every random number is a hash of the box it is for, so that the order of rows leaves no trace.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import ndtri

from curate.teachers.boxes.fuse import Given
from curate.teachers.boxes.geometry import Floats, Ints, corners, from_corners, iou_of

KINDS = ("right", "location", "swap", "spurious", "duplicate")
RIGHT, LOCATION, SWAP, SPURIOUS, DUPLICATE = range(5)
SHARE = (
    0.1  # of the boxes that get an error of each kind in a copy: few enough that the rest of the image is intact
)
MOVED_IOU = (0.15, 0.8)  # a box that was moved by less is well placed, by more it is about nothing
COPIED_IOU = 0.5
DROPPED_SALT = 60
STYLES = (0.5, 0.75)  # up to here all corners are moved, then the place alone, then some edges
SOME_EDGES = 0.5
SPREAD = (0.05, 0.5)  # relative standard deviations of moved corners, log-uniform: from sloppy to far off

Keys = npt.NDArray[np.uint64]


@dataclass(frozen=True, slots=True)
class Planted:
    """A copy of the labels and what was done to each row (`KINDS`)."""

    given: Given
    kind: Ints


def possible_kinds(twin: Ints) -> npt.NDArray[np.bool_]:
    """Return (N, 5) which kinds a given box can be of: a duplicate only beside a twin (`evidence.Evidence.twin`)."""
    possible = np.ones((len(twin), len(KINDS)), dtype=bool)
    possible[:, DUPLICATE] = twin >= 0
    return possible


def worse_of_pairs(kind: Ints, twin: Ints) -> Ints:
    """Return the planted kinds where of a box and its second one the one that fits worse is the duplicate.

    The second one is the better of the two now and then: then the first one repeats it, and it repeats nothing.
    """
    row = np.flatnonzero((kind == RIGHT) & (twin >= 0))
    row = row[kind[twin[row]] == DUPLICATE]
    kind = np.where((kind == DUPLICATE) & (twin < 0), RIGHT, kind)
    kind[row] = DUPLICATE
    return np.asarray(kind, dtype=np.int64)


def uniform(key: Keys, salt: int) -> Floats:
    """Return a number in (0, 1) for each key: splitmix64 (Steele, Lea and Flood 2014), salted."""
    with np.errstate(over="ignore"):
        z = key + np.uint64(0x9E3779B97F4A7C15) * np.uint64(2 * salt + 1)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z ^= z >> np.uint64(31)
    return np.asarray(((z >> np.uint64(11)).astype(np.float64) + 0.5) / 2.0**53, dtype=np.float64)


def plant(given: Given, n_images: int, n_classes: int, copy: int) -> Planted:
    """Return a copy of the labels with errors of each kind.

    location: corners moved; swap: another class, as often as the classes are given; spurious: the box at the same
    place in another image; duplicate: a second, slightly moved one.

    Args:
        given: the labels; relative coordinates, so that a box can stand in any image.
        n_images: images are numbered 0 … n_images - 1.
        n_classes: number of classes.
        copy: number of the copy; each is another one.
    """
    salt = 100 * (copy + 1)
    part = uniform(given.key, salt)
    n = len(part)
    boxes, label, kind = given.boxes.copy(), given.label.copy(), np.zeros(n, dtype=np.int64)
    moved = part < SHARE
    shifted = _moved(given.boxes, given.key, salt + 10)
    iou = iou_of(shifted, given.boxes)
    moved &= (iou > MOVED_IOU[0]) & (iou < MOVED_IOU[1])
    boxes[moved], kind[moved] = shifted[moved], LOCATION
    if n:
        order = np.lexsort((np.arange(n), given.key))
        other = given.label[order][(uniform(given.key, salt + 1) * n).astype(np.int64)]
        swapped = (part >= SHARE) & (part < 2 * SHARE) & (other != label) & (n_classes > 1)
        label[swapped], kind[swapped] = other[swapped], SWAP
    elsewhere = (uniform(given.key, salt + 2) * n_images).astype(np.int64)
    invented = np.flatnonzero((part >= 2 * SHARE) & (part < 3 * SHARE) & (elsewhere != given.image))
    near = _moved(given.boxes, given.key, salt + 30, at_most=SPREAD[0])
    chosen = (part >= 3 * SHARE) & (part < 4 * SHARE)
    twice = np.flatnonzero(chosen & (iou_of(near, given.boxes) > COPIED_IOU))
    fresh = given.key ^ np.uint64(0xA5A5A5A5A5A5A5A5)  # of added rows: any that their source does not have
    rows = Given(
        np.concatenate([given.image, elsewhere[invented], given.image[twice]]),
        np.concatenate([boxes, given.boxes[invented], near[twice]]),
        np.concatenate([label, given.label[invented], given.label[twice]]),
        np.concatenate([given.key, fresh[invented], fresh[twice]]),
    )
    kinds = np.concatenate([kind, np.full(len(invented), SPURIOUS), np.full(len(twice), DUPLICATE)])
    order = np.lexsort((rows.key, rows.image))
    return Planted(rows.take(order), kinds[order])


def dropped(given: Given, copy: int) -> npt.NDArray[np.bool_]:
    """Return which given boxes are left out of a copy of the labels, as if they had been overlooked."""
    return np.asarray(uniform(given.key, 100 * (copy + 1) + DROPPED_SALT) < SHARE, dtype=bool)


def _moved(boxes: Floats, key: Keys, salt: int, at_most: float | None = None) -> Floats:
    """Return the boxes with centre and sides, the centre alone or some edges changed, by amounts relative to their sides.

    They stay inside the image. Several ways, because nobody knows how the boxes at hand went wrong.
    """
    low, high = np.log(SPREAD)
    amount = np.exp(low + uniform(key, salt) * (high - low)) if at_most is None else np.full(len(boxes), at_most)
    normal = np.stack([ndtri(uniform(key, salt + place)) for place in range(1, 5)], axis=1)
    style = uniform(key, salt + 5)
    keeps_sides = ((style > STYLES[0]) & (style < STYLES[1]))[:, None]
    sides = boxes[:, 2:] * np.exp(amount[:, None] * np.where(keeps_sides, 0.0, normal[:, 2:]))
    centre = boxes[:, :2] + boxes[:, 2:] / 2 + amount[:, None] * normal[:, :2] * boxes[:, 2:]
    ends = np.concatenate([centre - sides / 2, centre + sides / 2], axis=1)
    some = np.stack([uniform(key, salt + place) < SOME_EDGES for place in range(6, 10)], axis=1)
    off = corners(boxes) + amount[:, None] * normal * np.tile(boxes[:, 2:], 2)
    ends = np.where((style > STYLES[1])[:, None], np.where(some, off, corners(boxes)), ends)
    limits = corners(boxes)  # a given box may stand over the edge; then so may the moved one
    ends = np.clip(ends, np.minimum(limits.min(axis=1), 0.0)[:, None], np.maximum(limits.max(axis=1), 1.0)[:, None])
    moved = from_corners(ends)
    usable = (moved[:, 2:] > 0).all(axis=1, keepdims=True)
    return np.asarray(np.where(usable, moved, boxes), dtype=np.float64)
