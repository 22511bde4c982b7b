"""The teachers of boxes one by one: calibration of their scores, their weight, and which of them repeat the labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from curate.teachers.boxes.fuse import SAME_IOU, Detections, Given
from curate.teachers.boxes.geometry import Floats, Ints, expit, largest, logit, overlaps
from curate.teachers.boxes.logistic import fit_logistic

LEAST_SLOPE = 0.05  # a score that says nothing, or the contrary, counts as nearly nothing
LEAST_CASES = 10  # boxes where the others agree on another class, to judge whether one repeats the labels
SURE = 0.5
NOT_CHECKABLE = "not checkable"


@dataclass(frozen=True, slots=True)
class BoxTeacher:
    """What became of a teacher.

    Attributes:
        name: as given.
        kept: whether it has a say.
        why: a sentence.
        n_boxes: usable boxes of it.
        weight: share in what the teachers say together; 0 where it was left out.
        intercept: of the calibration, prob = expit(intercept + slope · logit(score)).
        slope: of the calibration.
        repeats: where the others (two or more) agree on another class, the share at which it repeats the given one;
            None = not checkable.
    """

    name: str
    kept: bool
    why: str
    n_boxes: int
    weight: float
    intercept: float
    slope: float
    repeats: float | None

    def to_json(self) -> dict[str, Any]:
        """Return JSON values."""
        return asdict(self)


def calibrated(found: Detections, teachers: Sequence[BoxTeacher]) -> Floats:
    """Return the probability of each box from its teacher's score."""
    intercept = np.array([one.intercept for one in teachers])[found.teacher]
    slope = np.array([one.slope for one in teachers])[found.teacher]
    return expit(intercept + slope * logit(found.score))


def kept_of(teachers: Sequence[BoxTeacher]) -> list[int]:
    """Return the numbers of the teachers that have a say."""
    return [place for place, one in enumerate(teachers) if one.kept]


def prepared(found: Detections, teachers: Sequence[BoxTeacher]) -> Detections:
    """Return the boxes of the kept teachers, renumbered, with calibrated probabilities."""
    kept = kept_of(teachers)
    number = np.full(len(teachers), -1, dtype=np.int64)
    number[kept] = np.arange(len(kept))
    rows = np.flatnonzero(number[found.teacher] >= 0)
    return replace(found, prob=calibrated(found, teachers), teacher=number[found.teacher]).take(rows)


def judge_teachers(names: Sequence[str], given: Given, found: Detections) -> list[BoxTeacher]:
    """Return calibration, weight and whether it is kept for each teacher, in the order of `names`."""
    hits = _is_given(given, found)
    curves = []
    for teacher in range(len(names)):
        its = found.teacher == teacher
        x = np.stack([np.ones(its.sum()), logit(found.score[its])], axis=1)
        intercept, slope = fit_logistic(x, hits[its], prior=np.array([0.0, 1.0]), strength=1.0)
        curves.append((float(intercept), max(float(slope), LEAST_SLOPE)))
    n_boxes = np.bincount(found.teacher, minlength=len(names))
    support, seen = _votes(given, found, np.array(curves).reshape(-1, 2), len(names))
    repeats = _repeats(given, support, seen)
    silent = n_boxes == 0
    # beside one that repeats every label the others never meet a case where all but them agree: that is no repeating
    middle = np.median([value or 0.0 for value in repeats] or [0.0])
    copies = [value is not None and value > max(2 * middle, middle + 0.15) for value in repeats]
    out = silent | np.array(copies, dtype=bool)
    strength = np.where(out, 0.0, support.mean(axis=1) if support.shape[1] else 1.0) + np.where(out, 0.0, 1e-6)
    total = strength.sum()
    return [
        BoxTeacher(
            name=name,
            kept=not out[place],
            why=_why(bool(silent[place]), copies[place], repeats[place]),
            n_boxes=int(n_boxes[place]),
            weight=float(strength[place] / total) if total else 0.0,
            intercept=curves[place][0],
            slope=curves[place][1],
            repeats=repeats[place],
        )
        for place, name in enumerate(names)
    ]


def _why(silent: bool, copies: bool, repeats: float | None) -> str:  # noqa: FBT001 - two facts about one teacher
    if silent:
        return "it has no usable box for these images"
    if copies:
        return f"where the others agree on another class, it repeats {repeats:.0%} of the given labels: trained on them"
    if repeats is None:
        return (
            f"whether it repeats the given labels is {NOT_CHECKABLE}: three teachers and {LEAST_CASES} cases needed"
        )
    return f"where the others agree on another class, it repeats {repeats:.0%} of the given labels"


def _is_given(given: Given, found: Detections) -> Floats:
    """Return 1 for each detection with a given box of its class at its place, else 0."""
    a, b, _ = overlaps(found.image, found.boxes, given.image, given.boxes, min_iou=SAME_IOU)
    same = found.label[a] == given.label[b]
    return largest(len(found.image), a[same], np.ones(same.sum()))


def _votes(given: Given, found: Detections, curves: Floats, n_teachers: int) -> tuple[Floats, Ints]:
    """Return (T, N) each teacher's probability for the given class, and the class it is sure of (-1 = none)."""
    n = len(given.image)
    prob = expit(curves[found.teacher, 0] + curves[found.teacher, 1] * logit(found.score))
    a, b, _ = overlaps(given.image, given.boxes, found.image, found.boxes, min_iou=SAME_IOU)
    support, seen = np.zeros((n_teachers, n)), np.full((n_teachers, n), -1, dtype=np.int64)
    for teacher in range(n_teachers):
        its = found.teacher[b] == teacher
        row, box = a[its], b[its]
        same = found.label[box] == given.label[row]
        support[teacher] = largest(n, row[same], prob[box[same]])
        order = np.lexsort((-found.label[box], prob[box], row))
        order = order[prob[box[order]] >= SURE]
        seen[teacher, row[order]] = found.label[box[order]]  # ascending: the last one is the surest
    return support, seen


def _repeats(given: Given, support: Floats, seen: Ints) -> list[float | None]:
    n_teachers = len(support)
    found: list[float | None] = []
    for teacher in range(n_teachers):
        others = np.delete(seen, teacher, axis=0)
        if len(others) < 2:
            found.append(None)
            continue
        top = others.max(axis=0)
        agree = ((others == top) | (others < 0)).all(axis=0) & ((others == top).sum(axis=0) >= 2)
        against = agree & (top >= 0) & (top != given.label)
        if against.sum() < LEAST_CASES:
            found.append(None)
            continue
        found.append(float((support[teacher, against] >= SURE).mean()))
    return found
