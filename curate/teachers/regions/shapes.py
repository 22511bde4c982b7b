"""Shapes of regions that are small enough to stand in a finding, so that a page and the App can draw them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from curate.ingest.rle import decode_mask, encode_mask
from curate.teachers.regions.canvas import Bools, Canvas, Floats, Ids

SIDE_PX = 64  # a thumbnail shows no more


@dataclass(frozen=True, slots=True)
class Shape:
    """A region in its box.

    Attributes:
        bbox: x, y, width, height relative to the image.
        mask: (h, w), stretched over the box; at most `SIDE_PX` a side.
    """

    bbox: tuple[float, float, float, float]
    mask: Bools

    @classmethod
    def of(cls, mask: Bools, first: tuple[int, int], whole: Sequence[int]) -> Shape | None:
        """Return the shape of a part of an image, or None where nothing is set.

        Args:
            mask: (h, w) of the part.
            first: its first row and column.
            whole: height and width of the image, in the same points.
        """
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        if not len(rows):
            return None
        tight = mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        height, width = whole[0], whole[1]
        box = (
            (first[1] + int(columns[0])) / width,
            (first[0] + int(rows[0])) / height,
            tight.shape[1] / width,
            tight.shape[0] / height,
        )
        step = [np.linspace(0, side - 1, min(side, SIDE_PX)).round().astype(np.int64) for side in tight.shape]
        return cls(box, np.ascontiguousarray(tight[np.ix_(step[0], step[1])]))

    def to_json(self) -> dict[str, Any]:
        """Return JSON values; the mask in COCO's compressed run lengths."""
        encoded = encode_mask(self.mask)
        return {
            "bbox": [round(v, 6) for v in self.bbox],
            "size": list(self.mask.shape),
            "counts": encoded["counts"].decode("ascii"),
        }

    def to_row(self) -> dict[str, Any]:
        """Return a `schema.SHAPE`."""
        return {"bbox": list(self.bbox), "mask": encode_mask(self.mask)}

    @classmethod
    def of_row(cls, row: Mapping[str, Any]) -> Shape:
        """Return the shape of a `schema.SHAPE`."""
        x, y, width, height = row["bbox"]
        return cls((x, y, width, height), np.asarray(decode_mask(row["mask"]), dtype=np.bool_))


def shapes_of(
    canvas: Canvas, pooled: Floats, chosen: Ids, reach: float
) -> dict[int, tuple[Shape | None, Shape | None]]:
    """Return of some regions (from 0) where the label has each, and where the pool sees its class in and around it.

    Args:
        canvas: the regions.
        pooled: (K, h, w) probabilities of the pool.
        chosen: regions.
        reach: how far around, in shares of the image's diagonal.
    """
    best = pooled.argmax(axis=0) if len(chosen) else None
    pad = int(np.ceil(reach * canvas.diagonal_px / canvas.stride))
    found: dict[int, tuple[Shape | None, Shape | None]] = {}
    for region in chosen.tolist():
        x, y, width, height = (int(v) // canvas.stride for v in canvas.bbox_px[region + 1])
        rows = slice(max(y - pad, 0), y + height + pad + 1)
        columns = slice(max(x - pad, 0), x + width + pad + 1)
        first, whole = (rows.start, columns.start), canvas.numbers.shape
        own = canvas.numbers[rows, columns] == region + 1
        seen = (best[rows, columns] == canvas.classes[region + 1]) if best is not None else own
        near = own | (
            (canvas.across[rows, columns] == region + 1) & (canvas.depth_px[rows, columns] <= pad * canvas.stride)
        )
        found[region] = (Shape.of(own, first, whole), Shape.of(seen & near, first, whole))
    return found


def shape_of(value: Any) -> Shape | None:  # noqa: ANN401 - what a finding's arguments hold
    """Return the shape that `Shape.to_json` made, or None where it is none."""
    try:
        height, width = (int(v) for v in value["size"])
        x, y, w, h = (float(v) for v in value["bbox"])
        mask = decode_mask({"height_px": height, "width_px": width, "counts": value["counts"].encode("ascii")})
    except (TypeError, KeyError, ValueError, AttributeError):
        return None
    return Shape((x, y, w, h), mask.astype(np.bool_)) if mask.any() else None
