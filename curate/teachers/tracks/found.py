"""What is found on tracks, and the odds that it is an error."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from curate.teachers.tracks.boxes import NONE, Bools, Floats, Ints, TrackBoxes
from curate.teachers.tracks.breaks import Break, breaks_of
from curate.teachers.tracks.camera import steadied
from curate.teachers.tracks.exchanges import Exchanges, exchanges
from curate.teachers.tracks.excursions import Excursions, excursions
from curate.teachers.tracks.motion import Motion, motion_of
from curate.teachers.tracks.partners import Partners, Statements, statements

ISSUES = ("id_switch", "class_flip", "gap", "jump", "duplicate_id", "cut_short")
TEACHER_ODDS = 4.0  # a teacher that speaks is taken to be right four times in five
MAX_LOG_ODDS = 20.0
SECOND = 0.5  # share of the risk at boxes beside or after the one to look at: each error is ranked high once


@dataclass(frozen=True, slots=True)
class Found:
    """An error that is likely.

    Attributes:
        box: labeled box it stands at; NONE where a label is missing.
        issue: one of `ISSUES`.
        risk: in [0, 1].
        flagged: whether it is more likely an error than not.
        code: reason code.
        args: its arguments.
        frame: rank of the frame, where a label is missing.
        track: labeled box of the id that is concerned, where a label is missing.
        suggested_id: the id that fits better.
        suggested_label: the class that fits better.
        suggested_box: (4,) where the box should be, pixels.
    """

    box: int
    issue: str
    risk: float
    flagged: bool
    code: str
    args: Mapping[str, Any] = field(default_factory=dict)
    frame: int = NONE
    track: int = NONE
    suggested_id: str | None = None
    suggested_label: str | None = None
    suggested_box: Floats | None = None


@dataclass(frozen=True, slots=True)
class Scene:
    """Everything the searches for issues read.

    Attributes:
        boxes: the labels, as a camera sees them that goes with most of them.
        given: the labels as they are in the picture.
        shift: (F, 2) pixels from one to the other, by row of `boxes.frames`.
        motion: how their ids move.
        breaks: where they do not move like one thing.
        excursions: which boxes of these are off, and which stand where another id should be.
        teachers: the teachers beside them.
        said: what each teacher says about each link.
        n_denies: (L,) teachers that deny a link, or one at most two away of the same id.
        n_confirms: (L,) teachers that confirm it.
        exchanges: where two ids look as if they had been exchanged.
        lost: (sequence, frame) -> last boxes of ids that lack a box there that fits them.
    """

    boxes: TrackBoxes
    given: TrackBoxes
    shift: Floats
    motion: Motion
    breaks: Sequence[Break]
    excursions: Excursions
    teachers: Sequence[Partners]
    said: Sequence[Statements]
    n_denies: Ints
    n_confirms: Ints
    exchanges: Exchanges
    lost: Mapping[tuple[int, int], Sequence[int]]

    def number(self, box: int) -> int:
        """Return the frame of a box as the input calls it."""
        return int(self.boxes.frame_number[box])

    def name(self, box: int) -> str:
        """Return the id of a box as the input calls it."""
        return str(self.boxes.track_name[box])

    def link_to(self, box: int) -> int:
        """Return the link that leads to a box, which has to have one."""
        return int(np.searchsorted(self.motion.after, box))

    def odds(self, link: int) -> float:
        """Return how far a link is off its course, in units of the cut."""
        return float(self.motion.distance[link] / self.motion.cut_of_link(self.boxes, link))

    def about(self, link: int) -> dict[str, Any]:
        """Return what a reason says of a link: the id, the frames on its sides, how far it is off."""
        start, end = int(self.motion.before[link]), int(self.motion.after[link])
        return {
            "track": self.name(start),
            "frame_before": self.number(start),
            "frame": self.number(end),
            "diagonals": round(float(self.motion.distance[link]), 2),
        }

    def in_picture(self, box: Floats, sequence: int, frame: int) -> Floats:
        """Return a box of the steady view in pixels of the picture."""
        first = int(np.searchsorted(self.boxes.frames[:, 0], sequence))
        shown: Floats = box.copy()
        shown[:2] += self.shift[first + frame]
        return shown


MAX_LOST_FRAMES = 20
END_REACH = 3


def scene_of(given: TrackBoxes, teachers: Sequence[Partners] = ()) -> Scene:
    """Return labels and teachers ready to be searched; teachers are taken in the order of their names."""
    boxes, shift = steadied(given)
    motion = motion_of(boxes)
    ordered = sorted(teachers, key=lambda one: one.name)
    breaks = breaks_of(boxes, motion)
    away = excursions(boxes, motion, breaks)
    said = [statements(boxes, motion, one, away.off) for one in ordered]
    n_links = len(motion.before)
    track = boxes.track[motion.before]
    n_denies = sum((_widened(one.denies, track) for one in said), np.zeros(n_links, dtype=np.int64))
    n_confirms = sum((one.confirms.astype(np.int64) for one in said), np.zeros(n_links, dtype=np.int64))
    exchanged = exchanges(boxes, motion, away.off)
    lost = _lost(boxes, motion, away.off)
    return Scene(boxes, given, shift, motion, breaks, away, ordered, said, n_denies, n_confirms, exchanged, lost)


def odds_beyond(log_ratio: float, sure: float) -> float:
    """Return odds that are even at a log ratio of `sure`; half of the rest, for errors that hang together."""
    return float(np.exp(np.clip((log_ratio - sure) / 2, -MAX_LOG_ODDS, MAX_LOG_ODDS)))


def risk_of(odds: float) -> float:
    """Return odds as a risk in [0, 1)."""
    return float(odds / (1.0 + odds)) if np.isfinite(odds) else 1.0


def voted(odds: float, n_for: int, n_against: int) -> float:
    """Return the odds after so many teachers have spoken for and against."""
    return float(odds * TEACHER_ODDS ** (n_for - n_against))


def _widened(marks: np.ndarray, track: Ints, reach: int = 2) -> Ints:
    wide = marks.copy()
    for k in range(1, min(reach, len(marks) - 1) + 1):
        same = track[k:] == track[:-k]
        wide[k:] |= marks[:-k] & same
        wide[:-k] |= marks[k:] & same
    return wide.astype(np.int64)


def _lost(boxes: TrackBoxes, motion: Motion, off: Bools) -> Mapping[tuple[int, int], Sequence[int]]:
    """Return, by frame, the last good box of each id that breaks, pauses or has ended shortly before."""
    lost: dict[tuple[int, int], list[int]] = {}

    def add(box: int, low: int, high: int) -> None:
        for frame in range(low, high + 1):
            lost.setdefault((int(boxes.sequence[box]), frame), []).append(box)

    odd = (motion.distance > motion.cut_of(boxes)) | (motion.n_frames > 1)
    odd &= ~off[motion.before]
    for link in np.flatnonzero(odd):
        start = int(motion.before[link])
        first = int(boxes.frame[start]) + 1
        add(start, first, min(int(boxes.frame[motion.after[link]]), first + MAX_LOST_FRAMES))
    is_end = np.ones(boxes.n, dtype=np.bool_)
    is_end[motion.before] = False
    is_end &= ~motion.is_extra & boxes.usable
    for end in np.flatnonzero(is_end):
        first = int(boxes.frame[end]) + 1
        add(int(end), first, first + END_REACH - 1)
    return lost
