"""Whom a teacher's tracks follow: boxes matched by overlap, frame by frame, and what that says about each link."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy.optimize import linear_sum_assignment

from curate.teachers.agreement import Doubt, doubt_places
from curate.teachers.tracks.boxes import NONE, Bools, Floats, Ints, TrackBoxes, iou
from curate.teachers.tracks.motion import Motion

MIN_IOU = 0.5
CHANCE = 0.05  # boxes of two streets of people that lie on each other: measured 0.04, of one camera's more
CHECK = (
    "Check that its file belongs to this sequence, and that frames and pixels are counted as the labels' are "
    "(MOT files from 1)."
)
REACH = 5  # annotated frames: a match further away says nothing about a link


@dataclass(frozen=True, slots=True)
class Partners:
    """One teacher beside the labels.

    Attributes:
        name: of the teacher.
        tracks: its boxes.
        of_label: (N,) box of the teacher at each labeled box, NONE where it sees nothing there.
        of_teacher: (M,) labeled box at each of the teacher's.
    """

    name: str
    tracks: TrackBoxes
    of_label: Ints
    of_teacher: Ints

    def track_of_label(self) -> Ints:
        """(N,) track of the teacher at each labeled box, NONE where there is none."""
        if not self.tracks.n:
            return np.full(len(self.of_label), NONE, dtype=np.int64)
        return np.where(self.of_label >= 0, self.tracks.track[self.of_label], NONE)

    def without(self, off: Bools) -> Partners:
        """Return the matches without those of some of the (N,) labeled boxes."""
        of_teacher = np.where((self.of_teacher >= 0) & off[self.of_teacher], NONE, self.of_teacher)
        return replace(self, of_label=np.where(off, NONE, self.of_label), of_teacher=of_teacher)

    def seen(self, judged: Bools) -> tuple[int, int]:
        """Return how many of the (N,) judged boxes it sees, and how many these are."""
        return int((self.of_label[judged] >= 0).sum()), int(judged.sum())

    def doubt(self, judged: Bools) -> Doubt | None:
        """Return whether it sees too few of the (N,) judged boxes to be about these sequences."""
        precision = float((self.of_teacher >= 0).mean()) if self.tracks.n else 0.0
        return doubt_places(self.name, *self.seen(judged), precision, CHANCE, CHECK)

    def box_at(self, track: int, sequence: int, frame: int) -> int:
        """Return the teacher's box of a track of its own in a frame, NONE if it has none there."""
        first = int(np.searchsorted(self.tracks.track, track, side="left"))
        last = int(np.searchsorted(self.tracks.track, track, side="right"))
        at = first + int(np.searchsorted(self.tracks.frame[first:last], frame))
        there = at < last and self.tracks.frame[at] == frame and self.tracks.sequence[at] == sequence
        return at if there else NONE


def match(boxes: TrackBoxes, tracks: TrackBoxes, name: str) -> Partners:
    """Return the one-to-one matches of highest total overlap in each frame, from an IoU of `MIN_IOU` on."""
    of_label = np.full(boxes.n, NONE, dtype=np.int64)
    of_teacher = np.full(tracks.n, NONE, dtype=np.int64)
    wide = int(max(boxes.frame.max(initial=0), tracks.frame.max(initial=0))) + 1
    own, other = boxes.sequence * wide + boxes.frame, tracks.sequence * wide + tracks.frame
    own_order, other_order = np.argsort(own, kind="stable"), np.argsort(other, kind="stable")
    keys, starts = np.unique(own[own_order], return_index=True)
    lows = np.searchsorted(other[other_order], keys, side="left")
    highs = np.searchsorted(other[other_order], keys, side="right")
    stops = np.append(starts[1:], boxes.n)
    for start, stop, low, high in np.stack([starts, stops, lows, highs], axis=1).tolist():
        if low == high:
            continue
        here, there = own_order[start:stop], other_order[low:high]
        overlap = iou(boxes.box[here], tracks.box[there])
        rows, columns = linear_sum_assignment(np.where(overlap >= MIN_IOU, overlap, 0.0), maximize=True)
        good = overlap[rows, columns] >= MIN_IOU
        of_label[here[rows[good]]] = there[columns[good]]
        of_teacher[there[columns[good]]] = here[rows[good]]
    return Partners(name, tracks, of_label, of_teacher)


@dataclass(frozen=True, slots=True)
class Statements:
    """What one teacher says about each link of the labels.

    Attributes:
        confirms: (L,) the same track of the teacher is on both ends, and on the very box at the far one.
        denies: (L,) another track is at the far end, and it or the first one belongs to another id as well.
        came_from: (L,) labeled box where the teacher saw what is at the far end before, NONE unless it denies.
        group: (L,) number shared by links that one statement is about: between two of the teacher's matches.
    """

    confirms: Bools
    denies: Bools
    came_from: Ints
    group: Ints


def statements(boxes: TrackBoxes, motion: Motion, partners: Partners, off: Bools) -> Statements:
    """Return what a teacher says about every link; whom it follows to a box that is `off`, (N,), does not count.

    A track of the teacher's own that ends where another begins is a fragmentation of the teacher's, and no
    statement: a change counts only where a second id of the labels is involved.
    """
    n_links = len(motion.before)
    nothing = np.zeros(n_links, dtype=np.bool_)
    if not partners.tracks.n or not n_links:
        return Statements(nothing, nothing, np.full(n_links, NONE), np.arange(n_links))
    partners = partners.without(off)
    partner = partners.track_of_label()
    earlier = _nearest(partner >= 0, boxes.track, motion.before, -1)
    later = _nearest(partner >= 0, boxes.track, motion.after, 1)
    near = (earlier >= 0) & (later >= 0)
    near &= boxes.frame[motion.before] - boxes.frame[earlier] <= REACH
    near &= boxes.frame[later] - boxes.frame[motion.after] <= REACH
    agrees = near & (partner[earlier] == partner[later])
    confirms = agrees & (later == motion.after)  # what comes after a box says nothing about the box itself
    differs = near & ~agrees
    tracks = partners.tracks
    is_matched = partners.of_teacher >= 0
    from_box = _nearest(is_matched, tracks.track, np.maximum(partners.of_label[later], 0) - 1, -1, strict=True)
    onto_box = _nearest(is_matched, tracks.track, np.maximum(partners.of_label[earlier], 0) + 1, 1, strict=True)
    came_from = _other_id(boxes, partners, motion.after, from_box, partners.of_label[later])
    goes_to = _other_id(boxes, partners, motion.after, onto_box, partners.of_label[earlier])
    denies = differs & ((came_from >= 0) | (goes_to >= 0))
    group = np.unique(earlier * (boxes.n + 1) + later, return_inverse=True)[1]
    return Statements(confirms, denies, np.where(denies, came_from, NONE), group.astype(np.int64))


def _nearest(counts: Bools, track: Ints, start: Ints, sign: int, *, strict: bool = False) -> Ints:
    """Return the first row that counts, from each start on in one direction and within its track; else NONE.

    With `strict`, a start lies one beyond the row it is about, whose track is the one to stay in.
    """
    rows = np.arange(len(counts))
    if sign < 0:
        reached = np.maximum.accumulate(np.where(counts, rows, NONE))
    else:
        reached = np.minimum.accumulate(np.where(counts, rows, len(rows))[::-1])[::-1]
        reached = np.where(reached == len(rows), NONE, reached)
    inside = (start >= 0) & (start < len(rows))
    found = np.where(inside, reached[np.clip(start, 0, len(rows) - 1)], NONE)
    home = np.clip(start - sign if strict else start, 0, len(rows) - 1)
    return np.where((found >= 0) & (track[found] == track[home]), found, NONE).astype(np.int64)


def _other_id(boxes: TrackBoxes, partners: Partners, about: Ints, at: Ints, beside: Ints) -> Ints:
    """Return the labeled box at a box of the teacher, where it has another id than `about` and is near in time."""
    labeled = np.where(at >= 0, partners.of_teacher[at], NONE)
    frames = partners.tracks.frame
    near = np.abs(frames[at] - frames[np.maximum(beside, 0)]) <= 2 * REACH
    other = (labeled >= 0) & near & (boxes.track[labeled] != boxes.track[about])
    return np.where(other, labeled, NONE).astype(np.int64)


def where_followed(boxes: TrackBoxes, partners: Partners, anchor: int, box: int) -> Floats | None:
    """Return where a labeled box would be if it had moved from another box of its id as the teacher's track did.

    None where the teacher does not follow the id at `anchor`, or has lost it in the frame of `box`.
    """
    follower = int(partners.of_label[anchor])
    if follower < 0:
        return None
    tracks = partners.tracks
    at = partners.box_at(int(tracks.track[follower]), int(boxes.sequence[box]), int(boxes.frame[box]))
    if at < 0:
        return None
    moved: Floats = boxes.box[anchor] + tracks.box[at] - tracks.box[follower]
    return moved if (moved[2:] > 0).all() else tracks.box[at]


def diagonals_apart(one: Floats, other: Floats) -> float:
    """Return the distance of the centres of two boxes x, y, w, h, in diagonals of the larger one."""
    apart = np.hypot(*(one[:2] + one[2:] / 2 - other[:2] - other[2:] / 2))
    return float(apart / max(np.hypot(*one[2:]), np.hypot(*other[2:])))
