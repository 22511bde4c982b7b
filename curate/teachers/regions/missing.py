"""Regions that teachers see and the mask lacks: connected, thick, of one other class than what stands there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from curate.teachers.regions.canvas import Bools, Canvas, Floats, Ids
from curate.teachers.regions.evidence import CORE, PROB_FLOOR
from curate.teachers.regions.pool import believed
from curate.teachers.regions.shapes import Shape

MIN_AREA = 1e-4  # of the image
THICK = 0.01  # of the image's diagonal: half the width from which on a region is no band along a boundary
_SQUARE = np.ones((3, 3), dtype=np.uint8)
Part = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class Candidate:
    """A region that the pool calls `class_id` and the mask calls `given`.

    Attributes:
        class_id: of the pool.
        given: commonest class there by the mask.
        owner: number of the labeled region that most of it lies in, from 1.
        area_px: pixels of the mask.
        bbox_px: x, y, width, height.
        evidence: mean log ratio of the two classes over its core.
        quality: in [0, 1]: large, thick, in one labeled region, a part of it, and not merely added to one of its class.
        class_prob: mean probability of its class.
        given_prob: mean probability of the mask's.
        n_agree: teachers to whom its class is the commonest there.
        shape: where it lies.
    """

    class_id: int
    given: int
    owner: int
    area_px: int
    bbox_px: tuple[int, int, int, int]
    evidence: float
    quality: float
    class_prob: float
    given_prob: float
    n_agree: int
    shape: Shape | None


def candidates_of(canvas: Canvas, pooled: Floats, votes: Sequence[Ids]) -> list[Candidate]:
    """Return every candidate of a mask, by class and place.

    Args:
        canvas: the regions.
        pooled: (K, h, w) probabilities of the pool.
        votes: (h, w) likeliest class, a teacher each.
    """
    import cv2  # noqa: PLC0415 - a run over unchanged input needs no pixels

    given = canvas.classes[canvas.numbers]
    best = pooled.argmax(axis=0)
    off = (best != given) & (canvas.numbers > 0)
    least = MIN_AREA * given.size
    found = []
    for one in np.unique(best[off]).tolist():
        where = (off & (best == one)).view(np.uint8)
        n, parts, stats, _ = cv2.connectedComponentsWithStats(where, connectivity=8)
        large = [number for number in range(1, n) if stats[number, cv2.CC_STAT_AREA] >= least]
        if not large:
            continue
        depth = cv2.distanceTransform(np.pad(where, 1), cv2.DIST_L2, cv2.DIST_MASK_5)[1:-1, 1:-1]
        for number in sorted(large, key=lambda at: (stats[at, 1], stats[at, 0], stats[at, 4])):
            x, y, width, height = (int(v) for v in stats[number, :4])
            place = (slice(y, y + height), slice(x, x + width))
            shape = parts[place] == number
            found.append(_candidate(canvas, pooled, votes, given, (one, place, shape, depth[place])))
    return found


def _candidate(
    canvas: Canvas, pooled: Floats, votes: Sequence[Ids], given: Ids, part: tuple[int, Any, Bools, Part]
) -> Candidate:
    one, place, shape, depth = part
    stride = canvas.stride
    deepest = float(depth[shape].max())
    core = shape & (depth >= min(CORE * canvas.diagonal_px / stride, deepest / 2))
    label = int(np.bincount(given[place][shape]).argmax())
    mean = np.maximum(pooled[(slice(None), *place)][:, core].mean(axis=1), PROB_FLOOR)
    logs = np.log(np.maximum(pooled[[one, label], place[0], place[1]][:, core], np.float32(PROB_FLOOR**2)))
    homes = np.bincount(canvas.numbers[place][shape])
    homes[0] = 0
    owner = int(homes.argmax())
    n = int(shape.sum())
    purity = float(homes[owner]) / n
    taken = min(1.0, float(homes[owner]) * stride**2 / float(canvas.area_px[owner]))
    thick = min(1.0, deepest * stride / (THICK * canvas.diagonal_px))
    beside = min(1.0, 2.0 * _borders(given, place, shape, one))
    rows, columns = place
    box = (columns.start, rows.start, columns.stop - columns.start, rows.stop - rows.start)
    return Candidate(
        class_id=one,
        given=label,
        owner=owner,
        area_px=n * stride**2,
        bbox_px=(box[0] * stride, box[1] * stride, box[2] * stride, box[3] * stride),
        evidence=float((logs[0] - logs[1]).mean()),
        quality=float(believed(np.asarray(n / given.size))) * thick * purity * (1.0 - taken) * (1.0 - beside),
        class_prob=float(mean[one]),
        given_prob=float(mean[label]),
        n_agree=sum(int(np.bincount(vote[place][shape]).argmax()) == one for vote in votes),
        shape=Shape.of(shape, (rows.start, columns.start), given.shape),
    )


def _borders(given: Ids, place: tuple[slice, slice], shape: Bools, one: int) -> float:
    """Return the share of the contour at which the mask already has the class."""
    import cv2  # noqa: PLC0415 - a run over unchanged input needs no pixels

    rows, columns = (
        slice(max(a.start - 1, 0), min(a.stop + 1, side)) for a, side in zip(place, given.shape, strict=True)
    )
    whole = np.zeros((rows.stop - rows.start, columns.stop - columns.start), dtype=np.uint8)
    top, left = place[0].start - rows.start, place[1].start - columns.start
    whole[top : top + shape.shape[0], left : left + shape.shape[1]] = shape
    contour = (cv2.dilate(whole, _SQUARE) > 0) & (whole == 0)
    return float((given[rows, columns][contour] == one).mean()) if contour.any() else 0.0
