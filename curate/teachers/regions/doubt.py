"""Which pixels a finding about a region is about: what nobody vouches for until somebody has looked."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from curate.ingest.rle import decode_mask, encode_mask
from curate.teachers.regions.canvas import Bools, Ids
from curate.teachers.regions.shapes import Shape

if TYPE_CHECKING:
    from curate.teachers.regions.region import Region

DOUBT = "in_doubt"  # key in the arguments of a finding: its pixels
SHARE = "share_in_doubt"  # key in the arguments of a finding, beside `DOUBT`


def pixels_in_doubt(ids: Ids, region: Region, class_id: int, issue: str) -> Bools:
    """Return the (H, W) pixels that an issue of a region is about.

    A region of the wrong class or without a reason: all of it. A missing one: where teachers see it. An outline that
    is off: what lies between the outline as labeled and as teachers see it, on both sides.

    Args:
        ids: (H, W) class of each pixel of the mask.
        region: of it.
        class_id: of the region's label.
        issue: one of `region.ISSUES`.
    """
    if issue == "missing":
        seen = _laid(region.seen, ids.shape) if region.seen is not None else _box(region, ids.shape)
        covered: Bools = seen & (ids == class_id)
        return covered
    own = _own(ids, region, class_id)
    if issue == "boundary" and region.seen is not None:
        own ^= _laid(region.seen, ids.shape)
    return own


def pixels_to_json(pixels: Bools) -> dict[str, Any]:
    """Return JSON values of (H, W) pixels: size and COCO's compressed run lengths."""
    return {"size": list(pixels.shape), "counts": encode_mask(pixels)["counts"].decode("ascii")}


def pixels_of(told: Mapping[str, Any]) -> Bools:
    """Return the (H, W) pixels of `pixels_to_json`."""
    height, width = told["size"]
    mask = {"height_px": height, "width_px": width, "counts": told["counts"].encode("ascii")}
    return np.asarray(decode_mask(mask), dtype=np.bool_)


def doubt_to_json(pixels: Bools, label: Bools) -> dict[str, Any]:
    """Return the arguments that say which pixels are in doubt, and what share of the label's own they are."""
    share = float((pixels & label).sum() / max(int(label.sum()), 1))
    return {DOUBT: pixels_to_json(pixels), SHARE: round(share, 6)}


def doubt_of(reason_args: str) -> Bools | None:
    """Return the (H, W) pixels of `doubt_to_json` in the arguments of a finding; None where it names none."""
    told: Mapping[str, Any] = json.loads(reason_args).get(DOUBT) or {}
    return pixels_of(told) if told else None


def share_in_doubt(reason_args: str) -> float:
    """Return which share of its label a finding puts in doubt; all of it where it does not say.

    Shares of several findings may overlap: their sum is a bound.
    """
    return float(json.loads(reason_args).get(SHARE, 1.0))


def _own(ids: Ids, region: Region, class_id: int) -> Bools:
    """Return the region itself: the part of its class in its box that is as large as it."""
    import cv2  # noqa: PLC0415 - a run over unchanged input needs no pixels

    x, y, width, height = region.bbox_px
    box = (slice(y, y + height), slice(x, x + width))
    of_class = (ids[box] == class_id).astype(np.uint8)
    _, parts, stats, _ = cv2.connectedComponentsWithStats(of_class, connectivity=8)
    sizes = stats[:, [cv2.CC_STAT_WIDTH, cv2.CC_STAT_HEIGHT, cv2.CC_STAT_AREA]]
    hit = np.flatnonzero((sizes[1:] == (width, height, region.area_px)).all(axis=1)) + 1
    own: Bools = np.zeros(ids.shape, dtype=np.bool_)
    own[box] = parts == hit[0] if len(hit) else of_class.astype(np.bool_)
    return own


def _laid(shape: Shape, size: tuple[int, ...]) -> Bools:
    """Return the pixels that a shape covers, stretched over its box."""
    x, y, width, height = shape.bbox
    rows, columns = (
        (round(first * side), max(1, round(length * side)))
        for first, length, side in ((y, height, size[0]), (x, width, size[1]))
    )
    places = [
        ((np.arange(n) + 0.5) * own / n).astype(np.int64)
        for (_, n), own in zip((rows, columns), shape.mask.shape, strict=True)
    ]
    laid: Bools = np.zeros(size, dtype=np.bool_)
    part = laid[rows[0] : rows[0] + rows[1], columns[0] : columns[0] + columns[1]]
    part[:] = shape.mask[np.ix_(*places)][: part.shape[0], : part.shape[1]]
    return laid


def _box(region: Region, size: tuple[int, ...]) -> Bools:
    x, y, width, height = region.bbox_px
    inside: Bools = np.zeros(size, dtype=np.bool_)
    inside[y : y + height, x : x + width] = True
    return inside
