"""Wrong tracks: ids exchanged where two things are close, and boxes gone from the middle of a track."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import pairwise

from curate.plant.choose import number_of
from curate.plant.shapes import Row

Key = tuple[str, str]  # sequence, track
Tracks = Mapping[Key, Mapping[int, Row]]  # frame -> label


def tracks_of(rows: Sequence[Row], sequence_of: Mapping[str, str]) -> dict[Key, dict[int, Row]]:
    """Return every id of every video, with its labels by frame."""
    tracks: dict[Key, dict[int, Row]] = defaultdict(dict)
    for row in rows:
        if row["track_id"] is not None and row["frame"] is not None:
            tracks[sequence_of.get(row["sample_id"], ""), row["track_id"]][row["frame"]] = row
    return dict(tracks)


def following(tracks: Tracks) -> dict[str, str]:
    """Return label id → that of the next label of its track, for labels that have one on both sides."""
    found: dict[str, str] = {}
    for labels in tracks.values():
        order = [labels[frame]["label_id"] for frame in sorted(labels)]
        found |= dict(pairwise(order[1:]))
    return found


def switches(tracks: Tracks, share: float, seed: int, taken: set[str]) -> tuple[dict[str, str], list[str]]:
    """Exchange the ids of pairs of tracks from the frame on in which they are closest: there it happens to people.

    Args:
        tracks: see `tracks_of`.
        share: of the tracks that take part in a switch.
        seed: of the choice of tracks.
        taken: label ids that are not to begin a switch.

    Returns:
        Label id → its new track id, and the ids of the two labels at which each switch begins.
    """
    order = sorted(tracks, key=lambda key: (number_of("plant", str(seed), "switch", *key), key))
    changed: dict[str, str] = {}
    begins: list[str] = []
    used: set[Key] = set()
    for key in order:
        if len(used) >= max(2, round(share * len(tracks))):
            break
        if key in used:
            continue
        partner, frame = _partner(key, [one for one in order if one not in used], tracks, taken)
        if partner is None:
            continue
        used |= {key, partner}
        begins += [tracks[key][frame]["label_id"], tracks[partner][frame]["label_id"]]
        for one, other in ((key, partner), (partner, key)):
            changed |= {row["label_id"]: other[1] for at, row in tracks[one].items() if at >= frame}
    return changed, begins


def _partner(key: Key, others: Sequence[Key], tracks: Tracks, taken: set[str]) -> tuple[Key | None, int]:
    """Return the track that comes closest to this one in a frame that is neither's first, and that frame."""
    best: tuple[float, int, Key | None, int] = (math.inf, 0, None, 0)
    own = tracks[key]
    for place, other in enumerate(others):
        if other == key or other[0] != key[0]:
            continue
        theirs = tracks[other]
        for frame in (set(own) & set(theirs)) - {min(own), min(theirs)}:
            one, two = own[frame], theirs[frame]
            if {one["label_id"], two["label_id"]} & taken:
                continue
            best = min(best, (_apart(one["bbox"], two["bbox"]), place, other, frame))
    return best[2], best[3]


def _apart(one: Sequence[float] | None, other: Sequence[float] | None) -> float:
    """Return the distance of two boxes in diagonals of the larger one; 1 where one has none."""
    if one is None or other is None:
        return 1.0
    across = one[0] + one[2] / 2 - other[0] - other[2] / 2
    down = one[1] + one[3] / 2 - other[1] - other[3] / 2
    diagonal = max(math.hypot(one[2], one[3]), math.hypot(other[2], other[3]))
    return math.hypot(across, down) / diagonal if diagonal > 0 else 1.0
