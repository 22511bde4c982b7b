"""Polygons: rings of x0, y0, x1, y1, … as fractions of the image."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from curate.ingest.location import Problem, shown

MAX_RINGS = 100_000


def rings_of(value: Any, width: float = 1.0, height: float = 1.0) -> list[list[float]] | Problem:  # noqa: ANN401
    """Return rings divided by `width` and `height`, or why they are none.

    A ring has at least three corners, all finite numbers. A single flat list is taken for one ring.
    """
    if isinstance(value, list | tuple) and value and all(type(n) in (int, float) for n in value):
        value = [value]
    if not isinstance(value, list | tuple) or not 0 < len(value) <= MAX_RINGS:
        return Problem("polygon_malformed", {"why": "it is not a list of rings"})
    rings = []
    for ring in value:
        if not isinstance(ring, list | tuple) or len(ring) < 6 or len(ring) % 2:
            return Problem(
                "polygon_malformed", {"why": f"a ring is not three or more x, y: {shown(str(ring), 80)}"}
            )
        if not all(type(n) in (int, float) for n in ring):
            return Problem("polygon_malformed", {"why": f"a ring holds no numbers: {shown(str(ring), 80)}"})
        try:
            scaled = [n / (height if i % 2 else width) for i, n in enumerate(ring)]
        except OverflowError:
            return Problem("polygon_malformed", {"why": "a number beyond float64"})
        if not all(map(math.isfinite, scaled)):
            return Problem("polygon_malformed", {"why": "a corner is not finite"})
        rings.append(scaled)
    return rings


def box_of_rings(rings: Sequence[Sequence[float]]) -> list[float]:
    """Return x, y, w, h of the smallest box round all rings."""
    xs = [x for ring in rings for x in ring[0::2]]
    ys = [y for ring in rings for y in ring[1::2]]
    return [min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)]


def filled(rings: Sequence[Sequence[float]], height_px: int, width_px: int) -> NDArray[np.bool_]:
    """Return (height_px, width_px) whether a pixel lies in a ring; a ring of less than three corners fills none."""
    import cv2  # noqa: PLC0415 - `import curate` must not load it

    canvas = np.zeros((height_px, width_px), dtype=np.uint8)
    corners = [np.asarray(ring, dtype=np.float64).reshape(-1, 2) for ring in rings if len(ring) >= 6]
    if corners:
        cv2.fillPoly(canvas, [np.floor(ring * (width_px, height_px)).astype(np.int32) for ring in corners], 1)
    return canvas.astype(np.bool_)


def area_of_rings(rings: Sequence[Sequence[float]], width: float, height: float) -> float:
    """Return the sum of the rings' areas in px² (shoelace formula)."""
    area = 0.0
    for ring in rings:
        xs, ys = ring[0::2], ring[1::2]
        following = range(1, len(xs) + 1)
        area += abs(sum(xs[i - 1] * ys[i % len(xs)] - xs[i % len(xs)] * ys[i - 1] for i in following)) / 2
    return area * width * height
