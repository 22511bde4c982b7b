"""Ids that begin too late or end too early: teachers follow the same thing before or after, where no label is.

An end at the edge of the picture, or at a box that others hide, needs more teachers than one in the open. Without a
teacher nothing is said: that an id ends is no news.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from curate.teachers.tracks.boxes import NONE, Floats, Ints
from curate.teachers.tracks.found import SECOND, Found, Scene, risk_of, voted
from curate.teachers.tracks.partners import REACH, Partners
from curate.teachers.tracks.pauses import hidden_share

LEAST_SEEN = 5  # annotated frames beyond an end in which a teacher has to follow the thing
MOST_TOLD = 50  # missing boxes that get a row
PRIOR_ODDS = 0.4  # of an end that somebody could see: one teacher makes it more likely than not
AT_THE_EDGE = 0.25  # share of these odds that is left for an end that has a reason
EDGE = 0.1  # of the picture's sides: nearer to its edge, things leave


def short_ends(scene: Scene, changed: Ints) -> Iterator[Found]:
    """Return the ends of ids, at both sides, beyond which the thing is still there.

    Args:
        scene: all there is.
        changed: boxes at which an id changes hands, or that carry a wrong id: what follows them is told there.
    """
    boxes, motion = scene.boxes, scene.motion
    usable = ~motion.is_extra & boxes.usable
    usable[changed] = False
    last_frame = np.zeros(len(boxes.sequences), dtype=np.int64)
    np.maximum.at(last_frame, boxes.sequence, boxes.frame)
    for sign, linked in ((1, motion.before), (-1, motion.after)):
        is_end = usable.copy()
        is_end[linked] = False
        is_end &= boxes.frame < last_frame[boxes.sequence] if sign > 0 else boxes.frame > 0
        ends = np.flatnonzero(is_end)
        ends = ends[_of_several_boxes(scene, ends)]
        open_share = _in_the_open(scene, ends)
        for end, share in zip(ends.tolist(), open_share.tolist(), strict=True):
            yield from _end(scene, end, sign, share, int(last_frame[boxes.sequence[end]]))


def _of_several_boxes(scene: Scene, ends: Ints) -> np.ndarray:
    """Return which ends are of ids with more than one box."""
    track = scene.boxes.track
    return np.bincount(track)[track[ends]] > 1


def _in_the_open(scene: Scene, ends: Ints) -> Floats:
    """Return (E,) how far each end is one that cannot be explained: 0 at the edge or hidden, 1 in the open."""
    boxes = scene.given
    hidden = hidden_share(boxes, ends)
    share = np.zeros(len(ends))
    for one in np.unique(boxes.sequence[ends]).tolist():
        mine = np.flatnonzero((boxes.sequence == one) & boxes.usable)
        low, high = np.quantile(boxes.centre[mine], [0.005, 0.995], axis=0)
        here = boxes.sequence[ends] == one
        centre = boxes.centre[ends[here]]
        inside = np.minimum(centre - low, high - centre) / np.maximum(high - low, 1.0)
        share[here] = np.clip(inside.min(axis=1) / EDGE, 0.0, 1.0)
    shown: Floats = share * np.clip(1.0 - hidden, 0.0, 1.0)
    return shown


def _end(scene: Scene, end: int, sign: int, share: float, last: int) -> Iterator[Found]:
    n_for = n_against = 0
    names: list[str] = []
    where: dict[int, list[Floats]] = {}
    for teacher in scene.teachers:
        seen = _seen_beyond(scene, teacher, end, sign, last)
        if seen is None:
            continue
        n_for += len(seen) >= LEAST_SEEN
        n_against += not seen
        if len(seen) >= LEAST_SEEN:
            names.append(teacher.name)
            for frame, box in seen.items():
                where.setdefault(frame, []).append(box)
    if not names:
        return  # things do end where nobody sees why
    odds = voted(PRIOR_ODDS * (AT_THE_EDGE + (1 - AT_THE_EDGE) * share), n_for, n_against)
    risk = risk_of(odds)
    args = {"track": scene.name(end), "frame": scene.number(end), "teachers": ", ".join(names)}
    args |= {"n_teachers": len(names), "n_missing": len(where)}
    code = "track_ends_seen" if sign > 0 else "track_begins_seen"
    yield Found(end, "cut_short", risk, risk >= 0.5, code, args)
    for frame in sorted(where, key=lambda one: sign * one)[:MOST_TOLD]:
        about = {"frame": frame, "track": end, "suggested_box": np.mean(where[frame], axis=0)}
        yield Found(NONE, "cut_short", risk * SECOND, risk >= 0.5, code, args, **about)


def _seen_beyond(scene: Scene, teacher: Partners, end: int, sign: int, last: int) -> dict[int, Floats] | None:
    """Return frame → box where a teacher goes on beyond an end and no label is; None where it cannot say.

    It ends where the teacher meets a label again, or pauses for longer than `REACH`.
    """
    boxes, tracks = scene.boxes, teacher.tracks
    at = int(teacher.of_label[end])
    if at < 0:
        return None
    seen: dict[int, Floats] = {}
    frame, track = int(boxes.frame[end]), int(tracks.track[at])
    at += sign
    while 0 <= at < tracks.n and int(tracks.track[at]) == track:
        there = int(tracks.frame[at])
        if abs(there - frame) > REACH or not 0 <= there <= last:
            break
        if teacher.of_teacher[at] >= 0:
            return {}
        seen[there], frame = tracks.box[at], there
        at += sign
    return seen
