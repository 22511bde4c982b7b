"""A mask before and after, each on its picture: what it covers, and what it lost or gained."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from curate.ingest.polygons import filled
from curate.ingest.rle import decode_mask
from curate.report.pictures import MAX_PIXELS, THUMBNAIL_PX
from curate.scan.decode import Refused, decode

COVERED_RGB, LOST_RGB, GAINED_RGB = (255, 165, 0), (230, 40, 60), (0, 200, 255)
_TINT = 0.45
_MARGIN = 0.15  # of the masks' box, so that one sees where it stands
Mask = NDArray[np.bool_]


def mask_pictures(data: bytes | None, shapes: Mapping[str, Any]) -> list[str]:
    """Return two JPEG data URIs, before and after, of the same part of the image; none where it cannot be decoded.

    Args:
        data: the encoded image.
        shapes: a row of `manifest.diff.SHAPES`.
    """
    if not data:
        return []
    decoded = decode(data, max_pixels=MAX_PIXELS)
    if isinstance(decoded, Refused):
        return []
    rgb = decoded.pixels if decoded.pixels.ndim == 3 else np.repeat(decoded.pixels[:, :, None], 3, axis=2)
    size = (rgb.shape[0], rgb.shape[1])
    was, now = (_drawn(shapes, side, size) for side in ("before", "after"))
    part = _around(was | now)
    return [
        _picture(rgb[part], own[part], (own & ~other)[part], color)
        for own, other, color in ((was, now, LOST_RGB), (now, was, GAINED_RGB))
    ]


def _drawn(shapes: Mapping[str, Any], side: str, size: tuple[int, int]) -> Mask:
    """Return the pixels of a mask or of polygons, at the size of the image; none where it had neither."""
    if shapes[f"mask_{side}"] is not None:
        found = np.asarray(decode_mask(shapes[f"mask_{side}"]), dtype=np.bool_)
        rows, columns = ((np.arange(n) * m) // n for n, m in zip(size, found.shape, strict=True))
        return found[np.ix_(rows, columns)]
    if shapes[f"polygons_{side}"]:
        return np.asarray(filled(shapes[f"polygons_{side}"], *size), dtype=np.bool_)
    return np.zeros(size, dtype=np.bool_)


def _around(mask: Mask) -> tuple[slice, slice]:
    slices = []
    for axis, size in zip((1, 0), mask.shape, strict=True):
        at = np.flatnonzero(mask.any(axis=axis))
        first, last = (int(at[0]), int(at[-1]) + 1) if len(at) else (0, size)
        margin = max(2, round(_MARGIN * (last - first)))
        slices.append(slice(max(0, first - margin), min(size, last + margin)))
    return slices[0], slices[1]


def _picture(rgb: NDArray[np.uint8], mask: Mask, moved: Mask, color: tuple[int, int, int]) -> str:
    import cv2  # noqa: PLC0415 - only pages show pictures

    scale = THUMBNAIL_PX / max(mask.shape)
    size = (max(1, round(mask.shape[1] * scale)), max(1, round(mask.shape[0] * scale)))
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_NEAREST
    drawn = cv2.resize(np.ascontiguousarray(rgb), size, interpolation=method).astype(np.float32)
    for shown, tint in ((mask & ~moved, COVERED_RGB), (moved, color)):
        share = cv2.resize(shown.astype(np.float32), size, interpolation=method)[:, :, None] * _TINT
        drawn = drawn * (1 - share) + np.asarray(tint, np.float32) * share
    bgr = np.ascontiguousarray(drawn.round().clip(0, 255).astype(np.uint8)[:, :, ::-1])
    encoded = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, 82])[1]
    return f"data:image/jpeg;base64,{base64.b64encode(encoded.tobytes()).decode()}"
