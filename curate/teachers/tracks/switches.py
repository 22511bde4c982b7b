"""Ids that change hands, and breaks that are that or else jumps."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any

import numpy as np

from curate.teachers.tracks.boxes import NONE, Ints
from curate.teachers.tracks.exchanges import SURE
from curate.teachers.tracks.found import SECOND, Found, Scene, odds_beyond, risk_of, voted
from curate.teachers.tracks.jumps import jump_of, small_jumps
from curate.teachers.tracks.motion import Break, continued
from curate.teachers.tracks.partners import REACH, diagonals_apart
from curate.teachers.tracks.reuse import doubtful_returns

MAX_DONOR_DIAGONALS = 0.25  # how far from where another id should be a box may lie to be that one
COMPARED_ODDS = 0.2  # at most, of one that the courses of both ids do not show: one teacher alone is not enough
NEXT = 2  # links: a break so near an exchange is the exchange
LEAST_ODDS = 0.1  # of an id that comes back as another thing, that are worth a line
QUIET_ODDS = 0.1  # of a change of hands that only teachers see, before they are heard


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


def switches_and_jumps(scene: Scene) -> list[Found]:
    """Return each break as an id switch, where the box goes on as another id, or else as a jump."""
    changes = list(_exchanged(scene))
    jumps: list[Found] = []
    taken = [scene.link_to(change.box) for change in changes if change.odds >= 1]
    for broken in scene.breaks:
        if _is_exchange(scene, broken, taken):
            continue
        seen = list(_changes_at(scene, broken))
        if any(change.odds >= 1 for change in seen):
            taken.append(broken.link)
            changes += seen
        else:
            jumps += jump_of(scene, broken)
    changes += _come_back(scene, taken)
    jumps += small_jumps(scene, [change.box for change in changes if change.odds >= 1])
    changes += _only_seen_by_teachers(scene, taken)
    changes += _new_names(scene)
    return jumps + _who_is_who(scene, changes)


def _exchanged(scene: Scene) -> Iterator[Change]:
    """Return both changes of hands of every exchange of two ids."""
    pairs = scene.exchanges.found
    for before, after, frame, ratio in zip(
        pairs.before.tolist(), pairs.after.tolist(), pairs.frame.tolist(), pairs.log_ratio.tolist(), strict=True
    ):
        links = [scene.link_to(box) for box in after]
        n_for = max(int(scene.n_denies[link]) for link in links)
        n_against = max(int(scene.n_confirms[link]) for link in links)
        odds = voted(odds_beyond(ratio, SURE), n_for, n_against if not n_for else 0)
        for link, other in zip(links, before[::-1], strict=True):
            yield replace(_change(scene, link, other, odds), frame=frame)


def _is_exchange(scene: Scene, broken: Break, taken: Sequence[int]) -> bool:
    """Return whether one of the links of a break is where its id was exchanged, or next to it."""
    track = scene.boxes.track[scene.motion.after]
    return any(
        abs(link - one) <= NEXT and track[link] == track[one]
        for one in taken
        for link in (broken.link, broken.back)
        if link >= 0
    )


def _changes_at(scene: Scene, broken: Break) -> Iterator[Change]:
    """Return the change of hands at a break and the one back; nothing where no other id is involved."""
    motion, link = scene.motion, broken.link
    start, end = int(motion.before[link]), int(motion.after[link])
    other = donor_of(scene, start, end, float(motion.distance[link] * motion.n_frames[link]))
    if other < 0:
        if broken.back >= 0 and scene.n_denies[link] <= scene.n_confirms[link]:
            return  # it comes back, and of the teachers as many follow it there as follow another
        other = _seen_before(scene, link, lost_at=end)
    compared = _odds_between(scene, link, other)
    if other < 0 or (compared is not None and compared < 1):
        return  # the two were compared already, and each goes on better as itself
    odds = voted(scene.odds(link), int(scene.n_denies[link]), int(scene.n_confirms[link]))
    yield _change(scene, link, other, odds)
    if broken.back >= 0:
        back = int(motion.after[broken.back])
        yield Change(back, NONE, odds, "track_id_returns", scene.about(broken.back), comes_back=True)


def _come_back(scene: Scene, taken: list[int]) -> Iterator[Change]:
    """Return pauses after which an id is another thing: the one that another id stood on, or a new one."""
    boxes, motion = scene.boxes, scene.motion
    track = boxes.track[motion.after]
    changed = motion.after[np.asarray(taken, dtype=np.int64)].tolist()
    own_breaks = [one for one in scene.breaks if motion.n_frames[one.link] == 1]
    for link, alone in doubtful_returns(boxes, motion, own_breaks, changed, LEAST_ODDS):
        if any(abs(link - one) <= NEXT and track[link] == track[one] for one in taken):
            continue
        start, end = int(motion.before[link]), int(motion.after[link])
        odds = voted(alone, int(scene.n_denies[link]), int(scene.n_confirms[link]))
        other = donor_of(scene, start, end, 1.0)
        args = {**scene.about(link), "n_missing": int(motion.n_frames[link]) - 1}
        if odds >= 1:
            taken.append(link)
        if other >= 0:
            yield _change(scene, link, other, odds)
        else:
            yield Change(end, NONE, odds, "track_id_reused", args)


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


def _seen_before(scene: Scene, link: int, lost_at: int = NONE) -> int:
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


def _change(scene: Scene, link: int, other: int, odds: float) -> Change:
    names = [one.name for one, said in zip(scene.teachers, scene.said, strict=True) if said.denies[link]]
    args = {**scene.about(link), "teachers": ", ".join(names), "n_teachers": len(names)}
    if other < 0:
        return Change(int(scene.motion.after[link]), other, odds, "track_id_switch_unknown", args)
    args["other"] = scene.name(other)
    code = "track_id_switch_seen" if names else "track_id_switch"
    return Change(int(scene.motion.after[link]), other, odds, code, args)


def _only_seen_by_teachers(scene: Scene, taken: Sequence[int]) -> Iterator[Change]:
    """Return changes between ids so close that nothing breaks: each teacher's statement at its likeliest link."""
    boxes, motion = scene.boxes, scene.motion
    ratio = motion.distance / motion.cut_of(boxes)
    chosen: set[int] = set()
    for said in scene.said:
        links = np.flatnonzero(said.denies)
        if not len(links):
            continue
        order = links[np.lexsort([links, ratio[links], scene.n_denies[links], said.group[links]])]
        last = np.append(said.group[order][1:] != said.group[order][:-1], True)
        chosen |= set(order[last].tolist())
    often = np.bincount(boxes.track[motion.after[sorted(chosen)]], minlength=int(boxes.track.max()) + 1)
    known: dict[int, list[int]] = {}
    for link in taken:
        known.setdefault(int(boxes.track[motion.after[link]]), []).append(int(boxes.frame[motion.after[link]]))
    for link in sorted(chosen, key=lambda one: (-int(scene.n_denies[one]), -float(ratio[one]), one)):
        track, frame = int(boxes.track[motion.after[link]]), int(boxes.frame[motion.after[link]])
        near = known.setdefault(track, [])
        if ratio[link] > 1 or any(abs(frame - one) <= REACH for one in near):
            continue
        near.append(frame)
        other = _seen_before(scene, link)
        odds = _odds_between(scene, link, other)
        odds = max(float(ratio[link]), QUIET_ODDS) if odds is None else min(odds, COMPARED_ODDS)
        odds = voted(odds, int(scene.n_denies[link]), int(scene.n_confirms[link]))
        odds /= max(int(often[track]), 1)  # teachers that keep changing their mind mix up the two themselves
        yield _change(scene, link, other, odds)


def _odds_between(scene: Scene, link: int, other: int) -> float | None:
    """Return what the courses of two ids say about an exchange at a link; None if they are not there to be compared."""
    if other < 0:
        return None
    at = _last_before(scene, other, int(scene.boxes.frame[scene.motion.after[link]]))
    ratio = scene.exchanges.log_ratio_of(int(scene.motion.after[link]), at)
    return None if ratio is None else odds_beyond(ratio, SURE)


def _last_before(scene: Scene, box: int, frame: int) -> int:
    """Return the last box of an id before a frame."""
    boxes = scene.boxes
    first = int(np.searchsorted(boxes.track, boxes.track[box], side="left"))
    last = int(np.searchsorted(boxes.track, boxes.track[box], side="right"))
    return max(first, first + int(np.searchsorted(boxes.frame[first:last], frame)) - 1)


def _new_names(scene: Scene) -> Iterator[Change]:
    """Return ids that begin where another id stops: one thing under two names."""
    boxes, motion = scene.boxes, scene.motion
    is_start = np.ones(boxes.n, dtype=np.bool_)
    is_start[motion.after] = False
    is_start &= ~motion.is_extra & np.isfinite(boxes.box).all(axis=1) & (boxes.frame > 0)
    partners = [(one.name, one.track_of_label()) for one in scene.teachers]
    for box in np.flatnonzero(is_start).tolist():
        donor = donor_of(scene, NONE, box, 1.0)
        if donor < 0:
            continue
        cut = float(motion.cut[boxes.sequence[box]])
        apart = diagonals_apart(continued(boxes, motion, donor, int(boxes.frame[box])), boxes.box[box])
        seen = [(name, tracks[box] == tracks[donor]) for name, tracks in partners if min(tracks[[box, donor]]) >= 0]
        names = [name for name, same in seen if same]
        odds = voted(2.0 * cut / (cut + apart), len(names), len(seen) - len(names))
        args = {"track": scene.name(box), "other": scene.name(donor), "frame": scene.number(box)}
        args |= {"frame_before": scene.number(donor), "teachers": ", ".join(names), "n_teachers": len(names)}
        yield Change(box, donor, odds, "track_renamed_seen" if names else "track_renamed", args)


def _who_is_who(scene: Scene, changes: Sequence[Change]) -> list[Found]:
    """Return the changes and the boxes after them, which carry the wrong id until it comes back.

    Changes are gone through in order of time, with a note of who is behind each id: after two changes of the same two
    ids each is right again. A change that is more likely none moves nobody.
    """
    boxes = scene.boxes
    who: dict[int, int] = {}  # track -> the track it should be called; NONE where that is not known
    found: list[Found] = []
    starts: dict[int, list[tuple[int, int, Change]]] = {}

    def when(change: Change) -> tuple[int, int]:
        frame = change.frame if change.frame >= 0 else int(boxes.frame[change.box])
        return int(boxes.sequence[change.box]), frame

    for _, together in groupby(sorted(changes, key=lambda one: (*when(one), one.box)), key=when):
        before = dict(who)
        for change in together:
            track, risk = int(boxes.track[change.box]), risk_of(change.odds)
            now = track
            if not change.comes_back:
                giver = int(boxes.track[change.other]) if change.other >= 0 else NONE
                now = before.get(giver, giver) if giver >= 0 else NONE
            name = _name_of(scene, now)
            if change.odds < 1:
                found.append(_found(change, risk, None))
                continue
            starts.setdefault(track, []).append((change.box, now, change))
            who[track] = now
            if now == track:
                args = {**change.args, "track": scene.name(change.box)}
                found.append(
                    Found(change.box, "id_switch", risk * SECOND, flagged=False, code="track_id_returns", args=args)
                )
            else:
                found.append(_found(change, risk, name))
    return found + [after for track in sorted(starts) for after in _afterwards(scene, track, starts[track])]


def _found(change: Change, risk: float, name: str | None) -> Found:
    flagged = change.odds >= 1
    return Found(change.box, "id_switch", risk, flagged, change.code, change.args, suggested_id=name)


def _name_of(scene: Scene, track: int) -> str | None:
    """Return the id of a track as the input calls it."""
    if track < 0:
        return None
    return scene.name(int(np.searchsorted(scene.boxes.track, track)))


def _afterwards(scene: Scene, track: int, starts: Sequence[tuple[int, int, Change]]) -> Iterator[Found]:
    boxes = scene.boxes
    end = int(np.searchsorted(boxes.track, track, side="right"))
    stops = [*(box for box, _, _ in starts[1:]), end]
    for (start, now, change), stop in zip(starts, stops, strict=True):
        if now == track:
            continue
        name, risk = _name_of(scene, now), risk_of(change.odds) * SECOND
        args = {"track": scene.name(start), "frame": scene.number(start), "other": name}
        code = "track_id_after_switch" if name is not None else "track_id_after_change"
        for box in range(start + 1, stop):
            if not scene.motion.is_extra[box]:
                yield Found(box, "id_switch", risk, flagged=True, code=code, args=args, suggested_id=name)


def switched_boxes(found: Sequence[Found]) -> Ints:
    """Return the boxes at which an id changes hands, as flagged or as coming back."""
    codes = ("track_id_after_switch", "track_id_after_change")
    rows = {one.box for one in found if one.issue == "id_switch" and one.code not in codes}
    rows -= {
        one.box for one in found if one.issue == "id_switch" and not one.flagged and one.code != "track_id_returns"
    }
    return np.asarray(sorted(rows), dtype=np.int64)
