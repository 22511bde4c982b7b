"""Boxes that leave the course of their id: by so much that it breaks, or by more than boxes shake."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from curate.teachers.tracks.boxes import Floats, Ints, TrackBoxes
from curate.teachers.tracks.breaks import Break, pieces_of
from curate.teachers.tracks.course import off_course, scales_of
from curate.teachers.tracks.found import SECOND, TEACHER_ODDS, Found, Scene, risk_of
from curate.teachers.tracks.motion import N_DEVIATIONS, Motion, continued
from curate.teachers.tracks.partners import diagonals_apart, where_followed

DOUBT = 6.0  # standard deviations of the fitted noise from which on a box is worth a line
MOST_TOGETHER = 6  # boxes in a row that may be off together without breaking the course of their id
ALONE = 3  # boxes: within so many of others that are further off, nothing is new


def jump_of(scene: Scene, broken: Break) -> Iterator[Found]:
    """Return the boxes of a break as jumps."""
    motion = scene.motion
    start, end = int(motion.before[broken.link]), int(motion.after[broken.link])
    anchor, first = (start, end) if int(broken.boxes[0]) > start else (end, start)
    vote, names, where = _seen_elsewhere(scene, anchor, first, broken.back)
    # over a pause, the way there is spread over its frames: the way back tells how far
    clear = broken.back if broken.back >= 0 and motion.n_frames[broken.link] > 1 else broken.link
    risk = risk_of(scene.odds(clear) * TEACHER_ODDS**vote)
    code = "track_jump_start" if first == start else "track_jump_seen" if names else "track_jump"
    args = {**scene.about(broken.link), "teachers": ", ".join(names), "n_teachers": len(names)}
    args["diagonals"] = scene.about(clear)["diagonals"]
    for box in broken.boxes.tolist():
        told = {**args, "frame": scene.number(box), "frame_after": args["frame"]}
        yield Found(box, "jump", risk, risk >= 0.5, code, told, suggested_box=where if box == first else None)


def small_jumps(scene: Scene, changed: Sequence[int]) -> Iterator[Found]:
    """Return boxes that are off their course by less than what breaks it, but by more than boxes shake.

    Worth a line, but no flag: how far off a box may be well is known of most, not of all. In `changed` are the boxes at
    which an id changes hands.
    """
    motion = scene.motion
    for off, deviations in _doubtful_boxes(scene.boxes, motion, scene.breaks, changed):
        link, back = scene.link_to(int(off[0])), scene.link_to(int(off[-1])) + 1
        vote, names, where = _seen_elsewhere(scene, int(motion.before[link]), int(off[0]), back)
        risk = SECOND * risk_of((deviations / N_DEVIATIONS) ** 4 * TEACHER_ODDS**vote)
        args = {**scene.about(link), "teachers": ", ".join(names), "n_teachers": len(names)}
        args |= {"deviations": round(deviations, 1)}
        code = "track_jump_small_seen" if names else "track_jump_small"
        for box in off.tolist():
            told = {**args, "frame": scene.number(box)}
            where = where if box == off[0] else None
            yield Found(box, "jump", risk, flagged=False, code=code, args=told, suggested_box=where)


def _doubtful_boxes(
    boxes: TrackBoxes, motion: Motion, breaks: Sequence[Break], changed: Sequence[int]
) -> list[tuple[Ints, float]]:
    """Return boxes in a row that are off between breaks, and by how many standard deviations.

    The furthest first; none is within `ALONE` boxes of others that are further off.
    """
    used, piece = pieces_of(boxes, motion, breaks, changed)
    scale = scales_of(boxes, used)
    deviations = off_course(piece, boxes.frame[used], boxes.box[used], scale, motion.noise, MOST_TOGETHER)
    worth = np.asarray(np.nan_to_num(deviations).round(6), dtype=np.float64)  # equal, however it was summed
    taken = np.zeros(len(used) + 2 * ALONE + MOST_TOGETHER, dtype=np.bool_)  # box i stands at i + ALONE
    more, start = np.nonzero(worth > DOUBT)
    found = []
    for place in np.lexsort([more, start, -worth[more, start]]).tolist():
        first, n = int(start[place]), int(more[place]) + 1
        if not taken[first : first + n + 2 * ALONE].any():
            taken[first + ALONE : first + ALONE + n] = True
            found.append((used[first : first + n], float(worth[n - 1, first])))
    return found


def _seen_elsewhere(scene: Scene, anchor: int, first: int, back: int) -> tuple[float, list[str], Floats | None]:
    """Return the sum of what teachers say about a jump, those that see the thing elsewhere, and where.

    A teacher counts for a jump as far as it is nearer to the course of the id than to the labeled box: from -1 to 1.

    Args:
        scene: all there is.
        anchor: a box of the id beside the jump.
        first: the box next to it that may have jumped.
        back: link on which the id comes back; NONE where it does not.
    """
    motion, frame = scene.motion, int(scene.boxes.frame[first])
    if back >= 0:
        end = int(motion.after[back])
        span = int(scene.boxes.frame[end] - scene.boxes.frame[anchor])
        share = (frame - int(scene.boxes.frame[anchor])) / span
        course = scene.boxes.box[anchor] * (1 - share) + scene.boxes.box[end] * share
    elif first > anchor:
        course = continued(scene.boxes, motion, anchor, frame)
    else:
        course = scene.boxes.box[anchor]
    course = scene.in_picture(course, int(scene.boxes.sequence[first]), frame)
    vote, names, where = 0.0, [], None
    for teacher in scene.teachers:
        seen = where_followed(scene.given, teacher, anchor, first)
        if seen is None:
            continue
        to_box, to_course = diagonals_apart(seen, scene.given.box[first]), diagonals_apart(seen, course)
        vote += (to_box - to_course) / max(to_box + to_course, 1e-9)
        if to_course < to_box:
            names.append(teacher.name)
            where = seen if where is None else where
    return vote, names, where
