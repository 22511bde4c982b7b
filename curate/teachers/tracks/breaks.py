"""Where ids do not move like one thing: boxes that leave the course and come back, and steps that do not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from curate.teachers.tracks.boxes import NONE, Bools, Ints, TrackBoxes
from curate.teachers.tracks.course import usable
from curate.teachers.tracks.motion import Motion


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
    """Return the breaks of all tracks: excursions that come back, and steps that do not.

    Over a pause a step is spread over many frames. It may lead to a box that is off, or back from one, where the link
    on the other side of that box breaks; alone it is no break.
    """
    cut = motion.cut_of(boxes)
    is_broken = motion.distance > cut
    loose = np.flatnonzero(motion.distance * motion.n_frames > cut)
    found: list[Break] = []
    at = 0
    while at < len(loose):
        link = int(loose[at])
        ends = _return_of(boxes, motion, loose, at, is_broken)
        if ends is not None:
            back = int(loose[ends])
            found.append(Break(link, back, motion.after[link:back]))
            at = ends + 1
            continue
        if is_broken[link]:
            start = _short_start(boxes, motion, link)
            found.append(Break(link, NONE, start if start is not None else motion.after[[link]]))
        at += 1
    return found


def _return_of(boxes: TrackBoxes, motion: Motion, loose: Ints, at: int, is_broken: Bools) -> int | None:
    """Return the position in `loose` of the link on which the id comes back; None if it never does."""
    link = int(loose[at])
    start = int(motion.before[link])
    for ends in range(at + 1, min(at + 1 + MAX_EXCURSION_BREAKS, len(loose))):
        other = int(loose[ends])
        end = int(motion.after[other])
        if boxes.track[end] != boxes.track[start]:
            return None
        if ends > at + 1 and other - link > MAX_RESTLESS:
            return None
        if not (is_broken[link] and is_broken[other]) and not _beside_a_pause(is_broken, link, other):
            continue
        if _is_back(boxes, motion, link, other):
            return ends
    return None


def _beside_a_pause(is_broken: Bools, link: int, other: int) -> bool:
    """Return whether the boxes between two links, of which one leads over a pause, are few and break off at the other."""
    return bool(is_broken[link] or is_broken[other]) and other - link < SHORT


def _is_back(boxes: TrackBoxes, motion: Motion, link: int, other: int) -> bool:
    """Return whether what lies before one link and what lies after another are one course."""
    start, end = int(motion.before[link]), int(motion.after[other])
    n_frames = int(boxes.frame[end] - boxes.frame[start])
    step = boxes.centre[end] - boxes.centre[start]
    sides = (motion.before_velocity[link], motion.after_velocity[other])
    options = (*sides, (sides[0] + sides[1]) / 2)  # boxes that shake make each side's uncertain
    diagonal = max(boxes.diagonal_px[start], boxes.diagonal_px[end])
    apart = min(float(np.hypot(*(step - velocity * n_frames))) for velocity in options) / diagonal
    away = min(motion.distance[link] * motion.n_frames[link], motion.distance[other] * motion.n_frames[other])
    return bool(apart < away / 2)


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
