"""What the packed formats hold beside released boxes: the boxes that only detectors see, with their soft labels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from curate.feed.release import Feed
from curate.feed.soft import OBJECTNESS

NAME = "teacher_boxes"
_PREFIX = "teacher_"


def pixels(boxes: NDArray[np.float32], width: int, height: int) -> list[list[float]]:
    """Return (n, 4) relative corners as x, y, w, h in pixels."""
    x0, y0, x1, y1 = boxes.astype(np.float64).T
    corners: list[list[float]] = (
        np.stack([x0 * width, y0 * height, (x1 - x0) * width, (y1 - y0) * height], axis=1).round(3).tolist()
    )
    return corners


def further_columns(feed: Feed) -> list[pa.Field]:
    """Return the column of teacher-only boxes in a table: a struct of lists; none without detectors."""
    theirs = feed.rows.teacher_boxes
    if theirs is None:
        return []
    inner = [pa.field("bbox", pa.list_(pa.list_(pa.float32(), 4)))]
    for name, array in theirs.soft.arrays.items():
        kind = pa.from_numpy_dtype(array.dtype)
        inner.append(pa.field(name, pa.list_(kind if array.ndim == 1 else pa.list_(kind, array.shape[1]))))
    return [pa.field(NAME, pa.struct(inner))]


def further_row(feed: Feed, at: int, about: Mapping[str, Any]) -> dict[str, Any]:
    """Return the value of `further_columns` of an item.

    `about`: of the item, with `width` and `height` in pixels.
    """
    found = _of(feed, at)
    if found is None:
        return {}
    boxes, arrays = found
    values = {"bbox": pixels(boxes, about["width"], about["height"])}
    return {NAME: values | {name: list(array) for name, array in arrays.items()}}


def further_arrays(feed: Feed, at: int, about: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
    """Return the same as arrays: `teacher_boxes` (m, 4) float32 x, y, w, h in pixels, `teacher_objectness`, ….

    `about`: as for `further_row`.
    """
    found = _of(feed, at)
    if found is None:
        return {}
    boxes, arrays = found
    placed = np.asarray(pixels(boxes, about["width"], about["height"]), np.float32).reshape(-1, 4)
    return {NAME: placed, **{f"{_PREFIX}{name}": array for name, array in arrays.items()}}


def _of(feed: Feed, at: int) -> tuple[NDArray[np.float32], dict[str, NDArray[Any]]] | None:
    theirs = feed.rows.teacher_boxes
    if theirs is None:
        return None
    own = slice(int(theirs.starts[at]), int(theirs.starts[at + 1]))
    names = [OBJECTNESS, *(name for name in theirs.soft.arrays if name != OBJECTNESS)]
    return theirs.boxes[own], {name: np.asarray(theirs.soft.arrays[name][own]) for name in names}
