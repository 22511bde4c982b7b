"""Who is behind each id after its changes of hands, and what is told of the boxes until it comes back."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import groupby

import numpy as np

from curate.reasons.tracks import FOLLOWS
from curate.teachers.tracks.boxes import NONE, Ints
from curate.teachers.tracks.changes import Change
from curate.teachers.tracks.found import SECOND, Found, Scene, risk_of


def who_is_who(scene: Scene, changes: Sequence[Change]) -> list[Found]:
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
            if change.odds < 1:
                found.append(_found(change, risk, None))
                continue
            starts.setdefault(track, []).append((change.box, now, change))
            who[track] = now
    return found + [one for track in sorted(starts) for one in _stretches(scene, track, starts[track])]


def _found(change: Change, risk: float, name: str | None) -> Found:
    flagged = change.odds >= 1
    return Found(change.box, "id_switch", risk, flagged, change.code, change.args, suggested_id=name)


def _name_of(scene: Scene, track: int) -> str | None:
    """Return the id of a track as the input calls it."""
    if track < 0:
        return None
    return scene.name(int(np.searchsorted(scene.boxes.track, track)))


def _stretches(scene: Scene, track: int, starts: Sequence[tuple[int, int, Change]]) -> Iterator[Found]:
    """Return each change of hands of an id, with how many boxes come after it until the next, and these boxes."""
    boxes = scene.boxes
    end = int(np.searchsorted(boxes.track, track, side="right"))
    stops = [*(box for box, _, _ in starts[1:]), end]
    for (start, now, change), stop in zip(starts, stops, strict=True):
        risk = risk_of(change.odds)
        if now == track:
            args = {**change.args, "track": scene.name(start)}
            yield Found(start, "id_switch", risk * SECOND, flagged=False, code="track_id_returns", args=args)
            continue
        name = _name_of(scene, now)
        after = [box for box in range(start + 1, stop) if not scene.motion.is_extra[box]]
        told = {"n_after": len(after), "frame_last": scene.number(after[-1])} if after else {}
        yield _found(replace(change, args={**change.args, **told}), risk, name)
        args = {"track": scene.name(start), "frame": scene.number(start), "other": name}
        code = "track_id_after_switch" if name is not None else "track_id_after_change"
        for box in after:
            yield Found(box, "id_switch", risk * SECOND, flagged=True, code=code, args=args, suggested_id=name)


def switched_boxes(found: Sequence[Found]) -> Ints:
    """Return the boxes at which an id changes hands, as flagged or as coming back."""
    rows = {one.box for one in found if one.issue == "id_switch" and one.code not in FOLLOWS}
    rows -= {
        one.box for one in found if one.issue == "id_switch" and not one.flagged and one.code != "track_id_returns"
    }
    return np.asarray(sorted(rows), dtype=np.int64)
