"""What single entries of a COCO file say: ids, sizes, boxes and outlines, or why they say nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from curate.ingest.location import Problem, shown
from curate.ingest.polygons import box_of_rings, rings_of
from curate.ingest.rle import box_of_mask, mask_of_coco

_FEW = 1 << 63
_NUMBERS = frozenset({int, float})


def id_of(value: Any) -> str | None:  # noqa: ANN401 - any JSON value
    """Return an id as text: 7, 7.0 and "7" are the same id, because tools disagree on how they write it."""
    if type(value) is int and -_FEW < value < _FEW:  # nearly all of them
        return str(value)
    if isinstance(value, bool) or value is None:
        return None
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() else None
    if isinstance(value, int):
        return str(value) if value.bit_length() < 1024 else None
    return shown(value) if isinstance(value, str) and value else None


def size_of(item: Mapping[str, Any]) -> tuple[float, float] | None:
    """Return width and height that an image states, None where they are no positive numbers."""
    size = (item.get("width"), item.get("height"))
    if all(isinstance(n, int | float) and not isinstance(n, bool) and 0 < n < 1e6 for n in size):
        return size  # type: ignore[return-value] # checked in the line above
    return None


def geometry_of(item: Mapping[str, Any], size: tuple[float, float] | None) -> dict[str, Any] | Problem:
    """Return the columns bbox, polygons and mask of an annotation, relative to the image, or why it is out."""
    if size is None:
        return Problem("image_size_unknown")
    width, height = size
    columns = _outline(item.get("segmentation"), width, height)
    if isinstance(columns, Problem):
        return columns
    box = item.get("bbox")
    if box is None or box == []:
        box = _box_round(columns)
        return Problem("box_missing") if box is None else {**columns, "bbox": box}
    if not isinstance(box, list) or len(box) != 4 or not _NUMBERS.issuperset(map(type, box)):
        return Problem("box_not_numbers", {"box": shown(str(box), 100)})
    x, y, w, h = box
    try:
        columns["bbox"] = [x / width, y / height, w / width, h / height]
    except OverflowError:  # an integer beyond float64
        return Problem("box_not_numbers", {"box": "a number beyond float64"})
    return columns


def _outline(segmentation: Any, width: float, height: float) -> dict[str, Any] | Problem:  # noqa: ANN401 - any JSON
    if isinstance(segmentation, dict):
        mask = mask_of_coco(segmentation, int(width), int(height))
        return mask if isinstance(mask, Problem) else {"mask": mask}
    if segmentation:
        rings = rings_of(segmentation, width, height)
        return rings if isinstance(rings, Problem) else {"polygons": rings}
    return {}


def _box_round(columns: Mapping[str, Any]) -> list[float] | None:
    if "mask" in columns:
        return box_of_mask(columns["mask"])
    return box_of_rings(columns["polygons"]) if "polygons" in columns else None
