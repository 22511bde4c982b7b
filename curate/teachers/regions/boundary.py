"""How far teachers see the outline of a region from where it was drawn, side by side, against their own spread.

Within `REACH` of an edge between regions, what teachers give to the class beyond it is lost to the region on this side
and gained by the other. Gains less losses, over the length of the outline, are a displacement in pixels; they are
taken for four sides of a region, so that a region that was merely moved shows as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from curate.teachers.regions.canvas import Canvas, Floats, Ids
from curate.teachers.regions.evidence import outline

REACH = 0.015  # of the image's diagonal
LEAST_NOISE = 0.001  # of the image's diagonal: nobody draws more exactly
SHORT = 3  # points of outline on a side, below which they count as so many
SIDES = 4
SURE = 3.0  # noises of a displacement at which the risk is one half


@dataclass(frozen=True, slots=True)
class Displacement:
    """Of R regions, by side (right, below, left, above), all in shares of the image's diagonal.

    Attributes:
        length: (R, 4) of the outline.
        shift: (R, 4) how far outside (+) or inside (-) the pool sees it.
        spread: (R, 4) standard deviation of the teachers' own.
        iou: (R,) with what the pool calls the region's class, inside and within `REACH` of it.
    """

    length: Floats
    shift: Floats
    spread: Floats
    iou: Floats


def displacement_of(
    canvas: Canvas, pooled: Floats, probs: Sequence[Floats], right: npt.NDArray[np.float64]
) -> Displacement:
    """Measure every region of a mask.

    An edge that is off is one error of one region: of two regions it counts for the smaller one, by their areas, and
    not where the other one is doubted as a whole.

    Args:
        canvas: the regions.
        pooled: (K, h, w) probabilities of the pool.
        probs: (K, h, w) of each teacher.
        right: (R,) probability that the class of each region is right.
    """
    n = canvas.n_regions + 1
    depth = canvas.depth_px.ravel()
    numbers, across = canvas.numbers.ravel(), canvas.across.ravel()
    band = np.flatnonzero((numbers > 0) & (across > 0) & (depth <= REACH * canvas.diagonal_px))
    own, other = numbers[band], across[band]
    sides = _Sides.of(canvas)
    lost, won = own * SIDES + sides.of_points(own, band), other * SIDES + sides.of_points(other, band)
    edge = outline(canvas)
    length = np.bincount(numbers[edge] * SIDES + sides.of_points(numbers[edge], edge), minlength=n * SIDES)

    sound = np.concatenate([[0.0], right])
    to_other = canvas.area_px[own] / (canvas.area_px[own] + canvas.area_px[other])

    def moved(beyond: Floats) -> Floats:
        total = np.bincount(won, weights=beyond * to_other * sound[own], minlength=n * SIDES)
        total = total - np.bincount(lost, weights=beyond * (1.0 - to_other) * sound[other], minlength=n * SIDES)
        return np.asarray(total / np.maximum(length, SHORT), dtype=np.float32)

    unit = np.float32(canvas.stride / canvas.diagonal_px)
    here, there = canvas.classes[own], canvas.classes[other]
    flat = pooled.reshape(len(pooled), -1)
    shift = moved(flat[there, band])
    each = []
    for one in probs:
        beyond, this = one.reshape(len(one), -1)[there, band], one.reshape(len(one), -1)[here, band]
        each.append(moved(beyond / np.maximum(beyond + this, np.float32(1e-6))))
    spread = np.std(each, axis=0) if len(each) > 1 else np.zeros_like(shift)
    shape = (n, SIDES)
    return Displacement(
        (length * unit).reshape(shape)[1:].astype(np.float32),
        (shift * unit).reshape(shape)[1:],
        np.asarray(spread * unit, dtype=np.float32).reshape(shape)[1:],
        _iou(canvas, flat, band)[1:],
    )


@dataclass(frozen=True, slots=True)
class _Sides:
    rows: Ids
    columns: Ids
    middle_row: Floats
    middle_column: Floats

    @classmethod
    def of(cls, canvas: Canvas) -> _Sides:
        numbers = canvas.numbers.ravel()
        rows, columns = np.divmod(np.arange(numbers.size), canvas.numbers.shape[1])
        n = canvas.n_regions + 1
        count = np.maximum(np.bincount(numbers, minlength=n), 1)
        middle = [np.bincount(numbers, weights=one, minlength=n) / count for one in (rows, columns)]
        return cls(rows, columns, np.asarray(middle[0], np.float32), np.asarray(middle[1], np.float32))

    def of_points(self, region: Ids, points: Ids) -> Ids:
        """Return the side of its region, seen from its middle, on which each point lies."""
        down, right = self.rows[points] - self.middle_row[region], self.columns[points] - self.middle_column[region]
        flat = np.abs(right) >= np.abs(down)
        return np.asarray(np.where(flat, np.where(right >= 0, 0, 2), np.where(down >= 0, 1, 3)), dtype=np.int64)


def _iou(canvas: Canvas, pooled: Floats, band: Ids) -> Floats:
    best = pooled.argmax(axis=0)
    numbers, n = canvas.numbers.ravel(), canvas.n_regions + 1
    inside = np.bincount(numbers, weights=best == canvas.classes[numbers], minlength=n)
    beyond = canvas.across.ravel()[band]
    outside = np.bincount(beyond, weights=best[band] == canvas.classes[beyond], minlength=n)
    return np.asarray(inside / np.maximum(np.bincount(numbers, minlength=n) + outside, 1), dtype=np.float32)


def edge_noise(shift: Floats, length: Floats) -> float:
    """Return how far edges usually seem displaced: the robust standard deviation over sides, at least `LEAST_NOISE`.

    One number for all classes: scaled class by class, true errors of the classes with rough outlines would drown.

    Args:
        shift: (N, 4) of regions that are large and whose class is not in doubt.
        length: (N, 4).
    """
    known = shift[length > 0]
    return max(float(1.4826 * np.median(np.abs(known))) if len(known) else 0.0, LEAST_NOISE)


def in_noises(shift: Floats, length: Floats, spread: Floats, noise: float) -> Floats:
    """Return (R,) root mean square of (R, 4) displacements in units of their noise, sides weighing by length."""
    scaled = shift / np.sqrt(np.float32(noise**2) + spread**2)
    total = np.maximum(length.sum(axis=1), 1e-9)
    return np.asarray(np.sqrt((length * scaled**2).sum(axis=1) / total), dtype=np.float32)
