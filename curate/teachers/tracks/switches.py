"""Ids that change hands, and breaks that are that or else jumps."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from curate.teachers.tracks.boxes import NONE
from curate.teachers.tracks.breaks import Break
from curate.teachers.tracks.changes import Change, change_of, donor_of, last_before, odds_between, seen_before
from curate.teachers.tracks.exchanges import SURE
from curate.teachers.tracks.found import Found, Scene, odds_beyond, voted
from curate.teachers.tracks.jumps import jump_of, small_jumps
from curate.teachers.tracks.motion import continued
from curate.teachers.tracks.owners import who_is_who
from curate.teachers.tracks.partners import REACH, diagonals_apart
from curate.teachers.tracks.reuse import doubtful_returns

COMPARED_ODDS = 0.2  # at most, of one that the courses of both ids do not show: one teacher alone is not enough
NEXT = 2  # links: a break so near an exchange is the exchange
LEAST_ODDS = 0.1  # of an id that comes back as another thing, that are worth a line
QUIET_ODDS = 0.1  # of a change of hands that only teachers see, before they are heard


def switches_and_jumps(scene: Scene) -> list[Found]:
    """Return each break as an id switch, where the box goes on as another id, or else as a jump."""
    changes = list(_exchanged(scene))
    jumps: list[Found] = []
    taken = [scene.link_to(change.box) for change in changes if change.odds >= 1]
    for broken in scene.breaks:
        if scene.excursions.off[broken.boxes[0]]:
            jumps += jump_of(scene, broken)
            continue
        if _is_exchange(scene, broken, taken):
            continue
        seen = list(_on_another_course(scene, broken)) or list(_changes_at(scene, broken))
        if any(change.odds >= 1 for change in seen):
            taken.append(broken.link)
            changes += seen
        else:
            jumps += jump_of(scene, broken)
    changes += _come_back(scene, taken)
    jumps += small_jumps(scene, [change.box for change in changes if change.odds >= 1])
    changes += _only_seen_by_teachers(scene, taken)
    changes += _new_names(scene)
    return jumps + who_is_who(scene, changes)


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
            yield replace(change_of(scene, link, other, odds), frame=frame)


def _is_exchange(scene: Scene, broken: Break, taken: Sequence[int]) -> bool:
    """Return whether one of the links of a break is where its id was exchanged, or next to it."""
    track = scene.boxes.track[scene.motion.after]
    return any(
        abs(link - one) <= NEXT and track[link] == track[one]
        for one in taken
        for link in (broken.link, broken.back)
        if link >= 0
    )


def _on_another_course(scene: Scene, broken: Break) -> Iterator[Change]:
    """Return the change of hands and the one back where the boxes of an excursion stand on another id's course."""
    first = int(broken.boxes[0])
    if first not in scene.excursions.stands_on:
        return
    track, log_ratio = scene.excursions.stands_on[first]
    other = last_before(scene, int(np.searchsorted(scene.boxes.track, track)), int(scene.boxes.frame[first]))
    link = broken.link
    odds = voted(odds_beyond(log_ratio, SURE), int(scene.n_denies[link]), int(scene.n_confirms[link]))
    yield change_of(scene, link, other, odds)
    back = int(scene.motion.after[broken.back])
    yield Change(back, NONE, odds, "track_id_returns", scene.about(broken.back), comes_back=True)


def _changes_at(scene: Scene, broken: Break) -> Iterator[Change]:
    """Return the change of hands at a break and the one back; nothing where no other id is involved."""
    motion, link = scene.motion, broken.link
    start, end = int(motion.before[link]), int(motion.after[link])
    other = donor_of(scene, start, end, float(motion.distance[link] * motion.n_frames[link]))
    if other < 0:
        if broken.back >= 0 and scene.n_denies[link] <= scene.n_confirms[link]:
            return  # it comes back, and of the teachers as many follow it there as follow another
        other = seen_before(scene, link, lost_at=end)
    compared = odds_between(scene, link, other)
    if other < 0 or (compared is not None and compared < 1):
        return  # the two were compared already, and each goes on better as itself
    odds = voted(scene.odds(link), int(scene.n_denies[link]), int(scene.n_confirms[link]))
    yield change_of(scene, link, other, odds)
    if broken.back >= 0:
        back = int(motion.after[broken.back])
        yield Change(back, NONE, odds, "track_id_returns", scene.about(broken.back), comes_back=True)


def _come_back(scene: Scene, taken: list[int]) -> Iterator[Change]:
    """Return pauses after which an id is another thing: the one that another id stood on, or a new one."""
    boxes, motion = scene.boxes, scene.motion
    track = boxes.track[motion.after]
    changed = motion.after[np.asarray(taken, dtype=np.int64)].tolist()
    own_breaks = [
        one for one in scene.breaks if motion.n_frames[one.link] == 1 or scene.excursions.off[one.boxes[0]]
    ]
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
            yield change_of(scene, link, other, odds)
        else:
            yield Change(end, NONE, odds, "track_id_reused", args)


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
        other = seen_before(scene, link)
        odds = odds_between(scene, link, other)
        odds = max(float(ratio[link]), QUIET_ODDS) if odds is None else min(odds, COMPARED_ODDS)
        odds = voted(odds, int(scene.n_denies[link]), int(scene.n_confirms[link]))
        odds /= max(int(often[track]), 1)  # teachers that keep changing their mind mix up the two themselves
        yield change_of(scene, link, other, odds)


def _new_names(scene: Scene) -> Iterator[Change]:
    """Return ids that begin where another id stops: one thing under two names."""
    boxes, motion = scene.boxes, scene.motion
    is_start = np.ones(boxes.n, dtype=np.bool_)
    is_start[motion.after] = False
    is_start &= ~motion.is_extra & boxes.usable & (boxes.frame > 0)
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
