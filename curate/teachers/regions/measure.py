"""What segmenters together say of one mask: every region of it, and what they see that it lacks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from curate.errors import InputError
from curate.teachers.regions.answers import Answer
from curate.teachers.regions.boundary import REACH, Displacement, displacement_of
from curate.teachers.regions.canvas import NONE, Canvas, Floats, Ids, canvas_of
from curate.teachers.regions.evidence import PROB_FLOOR, Evidence, evidence_of, without_points
from curate.teachers.regions.missing import Candidate, candidates_of
from curate.teachers.regions.pool import Pool, believed
from curate.teachers.regions.region import Region
from curate.teachers.regions.shapes import Shape, shapes_of

LEAST_DRAWN = 0.0025  # of the image's diagonal: shapes of outlines that are off by less are not kept
LEAST_ODDS = 0.02  # of a missing region, before it is looked at
Array = npt.NDArray[np.float64]


class AnswerError(InputError):
    """What a teacher says of a mask cannot be used."""

    def __init__(self, teacher: str, message: str) -> None:
        super().__init__(message)
        self.teacher = teacher


@dataclass(frozen=True, slots=True)
class MaskAnswers:
    """A mask and what teachers say of it.

    Attributes:
        label: (H, W) class of each pixel, NONE where it says nothing.
        answers: of each teacher, in their order; None where it has none for this mask.
    """

    label: Ids
    answers: Sequence[Answer | None]


@dataclass(frozen=True, slots=True)
class OnCanvas:
    """The same on the grid on which a mask is judged.

    Attributes:
        canvas: the regions.
        area_share: (R,) of each region, of the image.
        probs: (K, h, w) of each teacher; uniform where it has no answer.
        evidence: on each region.
        n_teachers: that have an answer.
    """

    canvas: Canvas
    area_share: Array
    probs: list[Floats]
    evidence: Evidence
    n_teachers: int


@dataclass(frozen=True, slots=True)
class Measured:
    """One mask, as far as it can be judged alone.

    Attributes:
        regions: those that it has, then those that it lacks.
        same: (M + 1,) labeled points at which each teacher agrees, and how many there are.
    """

    regions: list[Region]
    same: Array


def on_canvas(mask: MaskAnswers, teachers: Sequence[str], n_classes: int) -> OnCanvas:
    """Bring teachers' answers onto the regions of a mask.

    Raises:
        AnswerError: an answer holds no probabilities, or is about another picture.
    """
    canvas = canvas_of(mask.label)
    points = canvas.first[without_points(canvas)]
    probs, off_grid = [], []
    for name, one in zip(teachers, mask.answers, strict=True):
        if one is None:  # it prefers no class
            probs.append(np.full((n_classes, *canvas.numbers.shape), 1.0 / n_classes, dtype=np.float32))
            off_grid.append(np.full((n_classes, len(points)), 1.0 / n_classes, dtype=np.float32))
            continue
        try:
            probs.append(one.on(canvas))
            off_grid.append(one.at(canvas, points))
        except InputError as error:
            raise AnswerError(name, str(error)) from error
    area = canvas.area_px[1:] / (canvas.shape[0] * canvas.shape[1])
    n_teachers = sum(one is not None for one in mask.answers)
    return OnCanvas(canvas, area, probs, evidence_of(canvas, probs, off_grid), n_teachers)


def measure(seen: OnCanvas, pool: Pool, names: Sequence[str]) -> Measured:
    """Hold every region of a mask against the pool.

    Args:
        seen: the mask and its teachers.
        pool: how they are weighed.
        names: of the K classes.
    """
    canvas = seen.canvas
    given = canvas.classes[canvas.numbers]
    votes = [one.argmax(axis=0) for one in seen.probs]
    same = [*((vote == given).sum() for vote in votes), (given != NONE).sum()]
    pooled = pooled_pixels(seen.probs, pool)
    used = [one for one, weight in zip(seen.probs, pool.large, strict=True) if weight > 0] or seen.probs
    log_probs = pool.log_probs(seen.evidence.logs, seen.area_share)
    right = pool.right(log_probs, canvas.classes[1:])
    moved = displacement_of(canvas, pooled, used, right)
    shapes = shapes_of(canvas, pooled, _worth_drawing(seen.area_share, right, moved), REACH)
    regions = _labeled(seen, np.exp(log_probs), right, moved, shapes, names)
    size_px = canvas.shape[0] * canvas.shape[1]
    regions += [
        _absent(one, right, pool, names, seen.n_teachers, size_px) for one in candidates_of(canvas, pooled, votes)
    ]
    return Measured(regions, np.asarray(same, dtype=np.float64))


def pooled_pixels(probs: Sequence[Floats], pool: Pool) -> Floats:
    """Return (K, h, w) probabilities of the pool, with the weights of large regions and no bias."""
    total = np.zeros_like(probs[0])
    weights = pool.large if pool.large.sum() > 0 else np.full(len(probs), 1.0 / len(probs))
    for one, weight in zip(probs, weights.tolist(), strict=True):
        if weight > 0:
            total += np.float32(weight) * np.log(np.maximum(one, np.float32(PROB_FLOOR)))
    total -= total.max(axis=0)
    np.exp(total, out=total)
    total /= total.sum(axis=0)
    return total


def _worth_drawing(area_share: Array, right: Array, moved: Displacement) -> Ids:
    """Return the regions that may be reported, whatever noise others have."""
    believe = believed(area_share)
    far = root_shift(moved.shift, moved.length) >= LEAST_DRAWN
    return np.flatnonzero(((1.0 - right) * believe >= 0.1) | (far & (believe >= 0.1)))


def root_shift(shift: Floats, length: Floats) -> Floats:
    """Return (R,) root mean square of (R, 4) displacements, sides weighing by length."""
    total = np.maximum(length.sum(axis=1), 1e-9)
    return np.asarray(np.sqrt((shift**2 * length).sum(axis=1) / total), dtype=np.float32)


def _labeled(
    seen: OnCanvas,
    probs: Array,
    right: Array,
    moved: Displacement,
    shapes: dict[int, tuple[Shape | None, Shape | None]],
    names: Sequence[str],
) -> list[Region]:
    canvas, classes = seen.canvas, seen.canvas.classes[1:]
    at = np.arange(len(classes))
    rest = probs.copy()
    rest[at, classes] = 0.0
    other = rest.argmax(axis=1)
    near = (rest * seen.evidence.beside).sum(axis=1) / np.maximum(rest.sum(axis=1), 1e-30)
    wrong = (1.0 - right) * believed(seen.area_share)
    total = np.maximum(moved.length.sum(axis=1), 1e-9)
    offset = (moved.shift * moved.length).sum(axis=1) / total * canvas.diagonal_px
    root = root_shift(moved.shift, moved.length) * canvas.diagonal_px
    return [
        Region(
            component=i,
            label=names[classes[i]],
            other=names[other[i]] if rest[i, other[i]] > 0 else None,
            area_px=int(canvas.area_px[i + 1]),
            area_share=float(seen.area_share[i]),
            bbox_px=_box(canvas.bbox_px[i + 1]),
            risk={"wrong_class": float(wrong[i] * (1.0 - near[i])), "spurious": float(wrong[i] * near[i])},
            right_prob=float(right[i]),
            given_prob=float(probs[i, classes[i]]),
            other_prob=float(probs[i, other[i]]),
            n_agree=int((seen.evidence.votes[i] == other[i]).sum()),
            n_teachers=seen.n_teachers,
            iou=float(moved.iou[i]),
            offset_px=float(offset[i]),
            moved_px=float(root[i]),
            length=moved.length[i],
            shift=moved.shift[i],
            spread=moved.spread[i],
            drawn=shapes.get(i, (None, None))[0],
            seen=shapes.get(i, (None, None))[1],
        )
        for i in at.tolist()
    ]


def _absent(
    one: Candidate, right: Array, pool: Pool, names: Sequence[str], n_teachers: int, size_px: int
) -> Region:
    """Return a missing region: how much teachers prefer it, where the region that covers it is right as a whole."""
    odds = max(pool.noise_rate, LEAST_ODDS)
    prefer = 1.0 / (1.0 + np.exp(-(one.evidence + np.log(odds / (1.0 - odds)))))
    covering = float(right[one.owner - 1])
    return Region(
        component=NONE,
        label=names[one.given],
        other=names[one.class_id],
        area_px=one.area_px,
        area_share=one.area_px / size_px,
        bbox_px=one.bbox_px,
        risk={"missing": float(prefer * one.quality * covering)},
        right_prob=covering,
        given_prob=one.given_prob,
        other_prob=one.class_prob,
        n_agree=one.n_agree,
        n_teachers=n_teachers,
        seen=one.shape,
    )


def _box(values: npt.NDArray[np.int64]) -> tuple[int, int, int, int]:
    x, y, width, height = (int(v) for v in values)
    return x, y, width, height
