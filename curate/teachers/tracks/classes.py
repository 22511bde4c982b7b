"""Classes along an id: boxes whose class is not that of the others, and ids whose class teachers contradict."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from curate.teachers.tracks.boxes import Ints, TrackBoxes
from curate.teachers.tracks.found import Found, Scene, risk_of
from curate.teachers.tracks.partners import Partners

LEAST_BOXES = 3  # of an id that a teacher has to see to say what it is
LEAST_AGREED = 0.5  # of a teacher's classes with the labels': with less, its numbers mean something else
PRIOR_ODDS = 0.05  # that an id has the wrong class, before any teacher is heard
GUESS = 0.2  # ids of each class that are taken to have been seen before any is counted


@dataclass(frozen=True, slots=True)
class _Pieces:
    """Ids between switches: P pieces of N boxes.

    Attributes:
        of_box: (N,) number of the piece.
        counts: (P, C) boxes by class.
        label: (P,) the class of most boxes; of equals the first by name.
    """

    of_box: Ints
    counts: Ints
    label: Ints


def flips(scene: Scene, switched: Ints) -> Iterator[Found]:
    """Return each box whose class differs from what its id is, between switches of the id.

    That is what most of its boxes say, unless teachers with classes of their own say otherwise.

    Args:
        scene: all there is.
        switched: boxes at which an id changes hands.
    """
    boxes = scene.boxes
    pieces = _pieces(boxes, switched)
    seen = _seen_as(scene, pieces)
    names = boxes.labels
    most = pieces.counts[np.arange(len(pieces.label)), pieces.label]
    tied = (pieces.counts == most[:, None]).sum(axis=1) > 1
    for box in np.flatnonzero(_is_odd(boxes, pieces, seen, tied)).tolist():
        piece, own = int(pieces.of_box[box]), int(boxes.label[box])
        n_own, size = int(pieces.counts[piece, own]), int(pieces.counts[piece].sum())
        args = {
            "track": scene.name(box),
            "label": names[own],
            "n_own": n_own,
            "n": size,
            "frame": scene.number(box),
        }
        if piece in seen:
            other, odds, teachers = seen[piece]
            args |= {"usual": names[other], "teachers": ", ".join(teachers), "n_teachers": len(teachers)}
            risk = max(risk_of(odds), float(size - n_own + 1) / (size + 2))
            yield Found(box, "class_flip", risk, odds >= 1, "track_class_seen", args, suggested_label=names[other])
            continue
        usual = None if tied[piece] and n_own == most[piece] else names[int(pieces.label[piece])]
        code = "track_class_tie" if usual is None else "track_class_flip"
        risk = float(most[piece] + 1) / float(n_own + most[piece] + 2)
        yield Found(
            box, "class_flip", risk, usual is not None, code, {**args, "usual": usual}, suggested_label=usual
        )


def _is_odd(
    boxes: TrackBoxes, pieces: _Pieces, seen: dict[int, tuple[int, float, list[str]]], tied: np.ndarray
) -> np.ndarray:
    """Return (N,) which boxes have another class than their id."""
    should = pieces.label.copy()
    for piece, (other, _, _) in seen.items():
        should[piece] = other
    told = np.isin(np.arange(len(should)), list(seen))[pieces.of_box]
    most = pieces.counts[np.arange(len(should)), pieces.label][pieces.of_box]
    own = pieces.counts[pieces.of_box, boxes.label]
    odd: np.ndarray = (boxes.label != should[pieces.of_box]) | (tied[pieces.of_box] & (own == most) & ~told)
    return odd


def _pieces(boxes: TrackBoxes, switched: Ints) -> _Pieces:
    cuts = np.zeros(boxes.n, dtype=np.int64)
    cuts[switched] = 1
    of_box = np.cumsum(cuts + np.concatenate([[0], (np.diff(boxes.track) != 0).astype(np.int64)]))
    n_labels = len(boxes.labels)
    counts = np.bincount(of_box * n_labels + boxes.label, minlength=(int(of_box.max()) + 1) * n_labels)
    counts = counts.reshape(-1, n_labels).astype(np.int64)
    return _Pieces(of_box, counts, counts.argmax(axis=1))


def _seen_as(scene: Scene, pieces: _Pieces) -> dict[int, tuple[int, float, list[str]]]:
    """Return piece → the class that teachers see instead of the given one, its odds, and who says so.

    A teacher says a class of each id. How often it says so of ids that are labeled as this one, and of ids that are
    labeled as it says, is counted over all others: two classes that it mixes up are no news.
    """
    n_labels = len(scene.boxes.labels)
    logs = np.full((len(pieces.label), n_labels), np.log(PRIOR_ODDS))
    voices: dict[tuple[int, int], list[str]] = {}
    for teacher in scene.teachers:
        said = _said(scene.boxes, teacher, pieces)
        spoke = np.flatnonzero(said >= 0)
        if len(np.unique(said[spoke])) < 2 or (said == pieces.label)[spoke].mean() < LEAST_AGREED:
            continue
        table = np.full((n_labels, n_labels), GUESS)
        np.add.at(table, (pieces.label[spoke], said[spoke]), 1.0)
        for piece in spoke[said[spoke] != pieces.label[spoke]].tolist():
            given, other = int(pieces.label[piece]), int(said[piece])
            others = table[given] - (np.arange(n_labels) == other)
            if_given = others[other] / others.sum()
            logs[piece, other] += np.log(table[other, other] / table[other].sum() / if_given)
            voices.setdefault((piece, other), []).append(teacher.name)
    found = {}
    for piece in sorted({piece for piece, _ in voices}):
        other = int(logs[piece].argmax())
        if logs[piece, other] > 0:
            found[piece] = (other, float(np.exp(min(logs[piece, other], 20.0))), voices[piece, other])
    return found


def _said(boxes: TrackBoxes, teacher: Partners, pieces: _Pieces) -> Ints:
    """Return (P,) the labels' number of the class that a teacher sees on most boxes of a piece; -1 where none."""
    known = {name: number for number, name in enumerate(boxes.labels) if name}
    translated = np.asarray([known.get(name, -1) for name in teacher.tracks.labels], dtype=np.int64)
    said = np.full(len(pieces.label), -1, dtype=np.int64)
    matched = np.flatnonzero(teacher.of_label >= 0)
    if not len(matched) or not len(translated):
        return said
    number = translated[teacher.tracks.label[teacher.of_label[matched]]]
    matched, number = matched[number >= 0], number[number >= 0]
    counts = np.zeros(pieces.counts.shape, dtype=np.int64)
    np.add.at(counts, (pieces.of_box[matched], number), 1)
    clear = (counts.sum(axis=1) >= LEAST_BOXES) & (2 * counts.max(axis=1) > counts.sum(axis=1))
    said[clear] = counts[clear].argmax(axis=1)
    return said
