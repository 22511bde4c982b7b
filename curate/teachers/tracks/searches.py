"""The search for every issue on tracks: switches and jumps, gaps, ids twice in a frame, flips of class."""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping, Sequence

import numpy as np

from curate.teachers.tracks.boxes import NONE, Floats, Ints, TrackBoxes, iou
from curate.teachers.tracks.classes import flips
from curate.teachers.tracks.ends import short_ends
from curate.teachers.tracks.found import SECOND, Found, Scene, risk_of, scene_of, voted
from curate.teachers.tracks.owners import switched_boxes
from curate.teachers.tracks.partners import Partners
from curate.teachers.tracks.pauses import pause_odds
from curate.teachers.tracks.switches import switches_and_jumps

MAX_GAP_CHECKED = 50  # missing frames of a gap that teachers are asked about
EXPLAINED_ODDS = 0.1  # of a gap whose box is there under another id: that is one error, not two
MIN_IOU = 0.5


def search(boxes: TrackBoxes, teachers: Sequence[Partners] = ()) -> list[Found]:
    """Return everything found, at most one of each issue a box, in the order of the boxes.

    Args:
        boxes: the labels.
        teachers: none, one or several, each matched with these boxes.
    """
    if not boxes.n:
        return []
    scene = scene_of(boxes, teachers)
    found = switches_and_jumps(scene)
    twice = list(_twice(scene))
    found += twice
    wrong = {one.box: one.suggested_id for one in found if one.flagged and one.suggested_id is not None}
    found += list(_gaps(scene, wrong, set(switched_boxes(found).tolist())))
    renamed = [one.box for one in found if one.issue == "id_switch" and one.risk > EXPLAINED_ODDS]
    found += list(short_ends(scene, np.asarray(renamed, dtype=np.int64)))
    found += list(flips(scene, switched_boxes(found)))
    best: dict[tuple[int, int, int, str], Found] = {}
    for one in found:
        key = (one.box, one.frame, one.track, one.issue)
        if key not in best or one.risk > best[key].risk:
            best[key] = one
    return [best[key] for key in sorted(best)]


def _twice(scene: Scene) -> Iterator[Found]:
    """Return every box whose id stands more than once in its frame; the one that fits worse is riskier."""
    boxes, misfit = scene.boxes, scene.motion.misfit
    rows = np.flatnonzero(np.isfinite(misfit))
    pairs = boxes.track[rows] * (int(boxes.frame.max()) + 1) + boxes.frame[rows]
    _, group, sizes = np.unique(pairs, return_inverse=True, return_counts=True)
    for row, n in zip(rows.tolist(), sizes[group].tolist(), strict=True):
        box = int(row)
        share = float(misfit[box])
        owner = _owner(scene, box) if share >= 1 / n else None
        args = {"track": scene.name(box), "frame": scene.number(box), "n": n, "share": round(share, 2)}
        code = "track_duplicate_id_worse" if share > 1 / n else "track_duplicate_id"
        if owner is not None:
            code, args = "track_duplicate_id_of", {**args, "other": owner}
        yield Found(box, "duplicate_id", 0.5 + share / 2, share >= 0.5 / n, code, args, suggested_id=owner)


def _owner(scene: Scene, box: int) -> str | None:
    """Return the id that lacks a box just here, in this frame; None if there is none."""
    boxes = scene.boxes
    frame = int(boxes.frame[box])
    best: tuple[float, str] | None = None
    for last in scene.lost.get((int(boxes.sequence[box]), frame), ()):
        if boxes.track[last] == boxes.track[box]:
            continue
        expected = _between(scene, last, frame)
        overlap = float(iou(expected[None], boxes.box[[box]])[0, 0])
        if overlap >= MIN_IOU and (best is None or (-overlap, scene.name(last)) < best):
            best = (-overlap, scene.name(last))
    return None if best is None else best[1]


def _between(scene: Scene, last: int, frame: int) -> Floats:
    """Return where an id would be in a frame between a box and its next one, by interpolation."""
    boxes, motion = scene.boxes, scene.motion
    link = int(np.searchsorted(motion.before, last))
    if link >= len(motion.before) or motion.before[link] != last:
        return np.asarray(boxes.box[last])
    end = int(motion.after[link])
    weight = (frame - int(boxes.frame[last])) / int(motion.n_frames[link])
    return np.asarray(boxes.box[last] * (1 - weight) + boxes.box[end] * weight)


def _gaps(scene: Scene, wrong: Mapping[int, str], changed: Container[int]) -> Iterator[Found]:
    """Return each pause of an id: at the box after it, beside it, and one row a missing label."""
    boxes, motion = scene.boxes, scene.motion
    links = np.flatnonzero(motion.n_frames > 1)
    if not len(links):
        return
    odds_of = pause_odds(boxes, motion)
    owed: dict[tuple[int, int, str], list[int]] = {}
    for box, name in sorted(wrong.items()):
        owed.setdefault((int(boxes.sequence[box]), int(boxes.frame[box]), name), []).append(box)
    for link in links:
        start, end = int(motion.before[link]), int(motion.after[link])
        frames = np.arange(int(boxes.frame[start]) + 1, int(boxes.frame[end]))
        n_for, n_against, names, where = _seen_in_gap(scene, start, end, frames[:MAX_GAP_CHECKED])
        odds = voted(odds_of[int(link)], n_for, n_against)
        if end in changed or _is_explained(scene, start, frames[:MAX_GAP_CHECKED], owed):
            odds = min(odds, EXPLAINED_ODDS)
        elif motion.distance[link] > motion.cut_of(boxes)[link]:
            odds /= 2  # it comes back elsewhere: a jump or another thing
        risk = risk_of(odds)
        args = {
            "track": scene.name(start), "frame_before": scene.number(start), "frame": scene.number(end),
            "n_missing": len(frames), "teachers": ", ".join(names), "n_teachers": len(names),
        }  # fmt: skip
        code = "track_gap_seen" if names else "track_gap"
        yield Found(end, "gap", risk, risk >= 0.5, code, args)
        yield Found(start, "gap", risk * SECOND, flagged=False, code="track_gap_follows", args=args)
        for frame in frames[:MAX_GAP_CHECKED].tolist():
            seen = where.get(frame)
            if seen is None:
                seen = scene.in_picture(_between(scene, start, frame), int(boxes.sequence[start]), frame)
            about = {"frame": frame, "track": start, "suggested_box": seen}
            yield Found(NONE, "gap", risk, risk >= 0.5, code, args, **about)


def _seen_in_gap(scene: Scene, start: int, end: int, frames: Ints) -> tuple[int, int, list[str], dict[int, Floats]]:
    """Return the teachers that see the id in most of the missing frames, those that see it in none, and where."""
    boxes = scene.boxes
    n_for = n_against = 0
    names: list[str] = []
    where: dict[int, list[Floats]] = {}
    for teacher in scene.teachers:
        follower = max(int(teacher.of_label[start]), int(teacher.of_label[end]))
        if follower < 0:
            continue
        followers = {
            int(teacher.tracks.track[at]) for at in (teacher.of_label[start], teacher.of_label[end]) if at >= 0
        }
        seen = 0
        for frame in frames:
            hits = [teacher.box_at(track, int(boxes.sequence[start]), int(frame)) for track in sorted(followers)]
            free = [at for at in hits if at >= 0 and teacher.of_teacher[at] < 0]
            seen += bool(free)
            if free:
                where.setdefault(int(frame), []).append(teacher.tracks.box[free[0]])
        n_for += 2 * seen >= len(frames)
        n_against += seen == 0
        names += [teacher.name] if 2 * seen >= len(frames) else []
    return n_for, n_against, names, {frame: np.mean(found, axis=0) for frame, found in where.items()}


def _is_explained(
    scene: Scene, start: int, frames: Ints, owed: Mapping[tuple[int, int, str], Sequence[int]]
) -> bool:
    """Return whether the missing labels are there in most frames, under an id that should be this one."""
    boxes = scene.boxes
    n_there = 0
    for frame in frames.tolist():
        rows = owed.get((int(boxes.sequence[start]), frame, scene.name(start)), ())
        expected = _between(scene, start, frame)
        n_there += bool(rows) and bool((iou(expected[None], boxes.box[list(rows)]) >= MIN_IOU).any())
    return 2 * n_there >= len(frames)
