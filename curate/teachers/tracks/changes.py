"""A change of hands of an id, and which other id goes on in its place."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from curate.teachers.tracks.boxes import NONE
from curate.teachers.tracks.exchanges import SURE
from curate.teachers.tracks.found import Scene, odds_beyond
from curate.teachers.tracks.motion import continued
from curate.teachers.tracks.partners import diagonals_apart

MAX_DONOR_DIAGONALS = 0.25  # how far from where another id should be a box may lie to be that one


@dataclass(frozen=True, slots=True)
class Change:
    """An id may change hands.

    Attributes:
        box: first box after it.
        other: box of the id that went on here before; NONE where it is not known which.
        odds: that it is an error.
        code: reason code.
        args: its arguments.
        comes_back: whether the id is known to come back here from an excursion.
        frame: rank of the frame it happens in, where that is not the box's.
    """

    box: int
    other: int
    odds: float
    code: str
    args: dict[str, Any]
    comes_back: bool = False
    frame: int = NONE


def change_of(scene: Scene, link: int, other: int, odds: float) -> Change:
    """Return that an id goes on over a link as that of the box `other`, or as another thing where it is NONE."""
    names = [one.name for one, said in zip(scene.teachers, scene.said, strict=True) if said.denies[link]]
    args = {**scene.about(link), "teachers": ", ".join(names), "n_teachers": len(names)}
    if other < 0:
        return Change(int(scene.motion.after[link]), other, odds, "track_id_switch_unknown", args)
    args["other"] = scene.name(other)
    code = "track_id_switch_seen" if names else "track_id_switch"
    return Change(int(scene.motion.after[link]), other, odds, code, args)


def donor_of(scene: Scene, start: int, end: int, away: float) -> int:
    """Return the last box of another id that goes on at the box `end` far better than `start` does; else NONE.

    Args:
        scene: all there is.
        start: last box of the id before it breaks; NONE for an id that begins.
        end: the box after it.
        away: how far that is from where its own id should be, diagonals.
    """
    boxes = scene.boxes
    frame = int(boxes.frame[end])
    best = (np.inf, NONE)
    for box in scene.lost.get((int(boxes.sequence[end]), frame), ()):
        if boxes.track[box] == boxes.track[end] or box == start:
            continue
        expected = continued(boxes, scene.motion, box, frame)
        apart = diagonals_apart(expected, boxes.box[end])
        size = np.hypot(*(boxes.box[end, 2:] - expected[2:])) / max(boxes.diagonal_px[end], np.hypot(*expected[2:]))
        if apart <= min(MAX_DONOR_DIAGONALS, away / 2):
            best = min(best, (apart + float(size), box))
    return best[1]


def seen_before(scene: Scene, link: int, lost_at: int = NONE) -> int:
    """Return a labeled box of another id that a teacher followed to the far end of a link; NONE without one.

    With `lost_at`, only of an id that lacks a fitting box in the frame of that one: one that goes on where it was has
    not changed hands.
    """
    boxes = scene.boxes
    for said in scene.said:
        other = int(said.came_from[link])
        if not said.denies[link] or other < 0:
            continue
        if lost_at < 0:
            return other
        lost = scene.lost.get((int(boxes.sequence[lost_at]), int(boxes.frame[lost_at])), ())
        if any(boxes.track[box] == boxes.track[other] for box in lost):
            return other
    return NONE


def odds_between(scene: Scene, link: int, other: int) -> float | None:
    """Return what the courses of two ids say about an exchange at a link; None if they are not there to be compared."""
    if other < 0:
        return None
    at = last_before(scene, other, int(scene.boxes.frame[scene.motion.after[link]]))
    ratio = scene.exchanges.log_ratio_of(int(scene.motion.after[link]), at)
    return None if ratio is None else odds_beyond(ratio, SURE)


def last_before(scene: Scene, box: int, frame: int) -> int:
    """Return the last box of an id before a frame, of those that are not off."""
    boxes = scene.boxes
    first = int(np.searchsorted(boxes.track, boxes.track[box], side="left"))
    last = int(np.searchsorted(boxes.track, boxes.track[box], side="right"))
    at = first + int(np.searchsorted(boxes.frame[first:last], frame)) - 1
    while at > first and scene.excursions.off[at]:
        at -= 1
    return max(first, at)
