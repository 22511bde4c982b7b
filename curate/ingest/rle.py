"""Run-length encoded masks as COCO defines them: column by column, zeros first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from curate.ingest.location import Problem

MAX_MASK_PIXELS = 2**31 - 1


def encode_mask(mask: np.ndarray) -> dict[str, Any]:
    """Return `schema.MASK_RLE` (compressed counts) of a boolean or 0/1 array of shape (height, width)."""
    from pycocotools import mask as coco_mask  # noqa: PLC0415 - a C extension, loaded when a mask is met

    encoded = coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8))
    return {"height_px": mask.shape[0], "width_px": mask.shape[1], "counts": encoded["counts"]}


def decode_mask(mask: Mapping[str, Any]) -> np.ndarray:
    """Return the (height, width) boolean array of a `schema.MASK_RLE` value that `mask_of_coco` accepted."""
    counts = runs_of(mask["counts"])
    if counts is None:
        msg = "the run lengths of the mask do not parse"
        raise ValueError(msg)
    values = np.arange(len(counts)) % 2 == 1
    return np.repeat(values, counts).reshape(mask["width_px"], mask["height_px"]).T


def runs_of(counts: bytes) -> np.ndarray | None:
    """Return the run lengths (int64) that a compressed string holds, or None if it is none.

    The string holds numbers in groups of 5 bits plus a continuation bit, offset by 48; from the fourth on each is
    the difference to the one two before (pycocotools, `rleToString`).
    """
    raw = np.frombuffer(counts, np.uint8).astype(np.int64) - 48
    if raw.size == 0 or (raw < 0).any() or (raw > 63).any():
        return None
    last = (raw & 0x20) == 0
    if not last[-1]:
        return None
    starts = np.flatnonzero(np.r_[True, last[:-1]])
    ends = np.flatnonzero(last)
    if (ends - starts).max() > 6:  # more than 35 bits: no image is that large
        return None
    position = np.arange(raw.size) - np.repeat(starts, ends - starts + 1)
    runs = np.add.reduceat((raw & 0x1F) << (5 * position), starts)
    negative = (raw[ends] & 0x10) != 0
    runs = np.where(negative, runs - (np.int64(1) << (5 * (ends - starts + 1))), runs)
    runs[1::2] = np.cumsum(runs[1::2])
    runs[2::2] = np.cumsum(runs[2::2])
    return runs


def mask_of_coco(value: Mapping[str, Any], width_px: int, height_px: int) -> dict[str, Any] | Problem:
    """Return `schema.MASK_RLE` of a COCO `segmentation` object, or why it cannot be used.

    Takes compressed (`counts` a string) and uncompressed (a list of run lengths) forms, and returns the
    compressed one. Checked here, because the C decoder believes what it is given: runs are not negative and fill
    height x width exactly, and the size is the image's.
    """
    size = value.get("size")
    if not (isinstance(size, list) and len(size) == 2 and all(type(n) is int for n in size)):
        return Problem("mask_malformed", {"why": "size is not [height, width]"})
    if (size[1], size[0]) != (width_px, height_px):
        return Problem(
            "mask_size_mismatch",
            {"mask": f"{size[1]}x{size[0]}"[:60], "image": f"{width_px}x{height_px}"},
        )
    counts = value.get("counts")
    runs = _given_runs(counts)
    if not 0 < width_px * height_px <= MAX_MASK_PIXELS:
        return Problem("mask_malformed", {"why": "it has more pixels than a mask can have"})
    if runs is None or (runs < 0).any() or int(runs.sum()) != width_px * height_px:
        return Problem("mask_malformed", {"why": "the runs do not fill the image"})
    compressed = counts.encode() if isinstance(counts, str) else _compress(runs.tolist(), size)
    return {"height_px": height_px, "width_px": width_px, "counts": compressed}


def _given_runs(counts: Any) -> np.ndarray | None:  # noqa: ANN401 - any JSON value
    if isinstance(counts, str):
        return runs_of(counts.encode("utf-8", "replace"))
    if isinstance(counts, list) and counts and all(type(n) is int and 0 <= n <= MAX_MASK_PIXELS for n in counts):
        return np.array(counts, np.int64)
    return None


def _compress(runs: Sequence[int], size: Sequence[int]) -> bytes:
    from pycocotools import mask as coco_mask  # noqa: PLC0415 - a C extension, loaded when a mask is met

    counts: bytes = coco_mask.frPyObjects({"size": list(size), "counts": list(runs)}, *size)["counts"]
    return counts


def box_of_mask(mask: Mapping[str, Any]) -> list[float] | None:
    """Return x, y, w, h (relative) of the smallest box round a mask, or None for an empty one.

    From the run lengths alone: a few bytes can describe a mask that no memory would hold.
    """
    runs = runs_of(mask["counts"])
    if runs is None:
        return None
    ends = np.cumsum(runs[: runs.size // 2 * 2])[1::2]
    starts = ends - runs[1::2]
    starts, ends = starts[ends > starts], ends[ends > starts]
    if not starts.size:
        return None
    height, width = mask["height_px"], mask["width_px"]
    left, right = int(starts[0] // height), int((ends[-1] - 1) // height)
    wraps = starts // height != (ends - 1) // height  # a run over several columns touches top and bottom
    top = 0 if wraps.any() else int((starts % height).min())
    bottom = height - 1 if wraps.any() else int(((ends - 1) % height).max())
    return [left / width, top / height, (right - left + 1) / width, (bottom - top + 1) / height]


def area_of_mask(mask: Mapping[str, Any]) -> int:
    """Return how many pixels a mask covers."""
    runs = runs_of(mask["counts"])
    return 0 if runs is None else int(runs[1::2].sum())
