"""Thumbnails as data URIs, so that the page holds its own pictures; boxes are drawn where a finding has one."""

from __future__ import annotations

import base64
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from numpy.typing import NDArray

from curate.scan.decode import Refused, decode
from curate.teachers.regions.shapes import Shape

THUMBNAIL_PX = 160
MAX_PIXELS = 100_000_000  # a picture of the page is not worth more
DRAWN_BGR, SEEN_BGR = (0, 165, 255), (255, 220, 0)  # orange as boxes are; what teachers see is light blue
_CROP_MARGIN = 0.35  # of the box, so that a reviewer sees where it stands
_LEAST_MARGIN = 0.08  # of the image's shorter side: round a box of a pixel there would be nothing to see

ReadImages = Callable[[Sequence[str]], Mapping[str, bytes | None]]


def thumbnail(
    data: bytes | None,
    bbox: Sequence[float] | None = None,
    side_px: int = THUMBNAIL_PX,
    *,
    drawn: Shape | None = None,
    seen: Shape | None = None,
) -> str | None:
    """Return a JPEG data URI of an image, upright, at most `side_px` a side; None where it cannot be decoded.

    Args:
        data: the encoded image.
        bbox: x, y, w, h relative to the upright image; the picture is then a crop round it, with the box drawn.
        side_px: longest side.
        drawn: the region that the label has, outlined instead of a box.
        seen: the region that teachers see, outlined as well.
    """
    if not data:
        return None
    import cv2  # noqa: PLC0415 - only the report shows pictures
    import numpy as np  # noqa: PLC0415 - as above

    decoded = decode(data, max_pixels=MAX_PIXELS)
    if isinstance(decoded, Refused):
        return None
    rgb = decoded.pixels if decoded.pixels.ndim == 3 else np.repeat(decoded.pixels[:, :, None], 3, axis=2)
    shapes = [(one, color) for one, color in ((drawn, DRAWN_BGR), (seen, SEEN_BGR)) if one is not None]
    if shapes:
        bbox = _round_all([one.bbox for one, _ in shapes])
    image = np.ascontiguousarray(rgb[:, :, ::-1])
    height, width = image.shape[:2]
    x0, y0, x1, y1 = 0, 0, width, height
    scale = side_px / max(height, width)
    if bbox is not None and not all(math.isfinite(value) for value in bbox):
        bbox = None
    if bbox is not None:
        bbox = [min(max(value, -1.0), 2.0) for value in bbox]  # a wrong box may be anywhere
        x0, y0, x1, y1 = _around(bbox, width, height)
        scale = side_px / max(x1 - x0, y1 - y0)
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_NEAREST
    size = (max(1, round((x1 - x0) * scale)), max(1, round((y1 - y0) * scale)))
    small = cv2.resize(image[y0:y1, x0:x1], size, interpolation=method)
    for shape, color in shapes:
        _outline(small, shape, color, (x0 / width, y0 / height, (x1 - x0) / width, (y1 - y0) / height))
    if bbox is not None and not shapes:
        left, top = (bbox[0] * width - x0) * scale, (bbox[1] * height - y0) * scale
        corner = (round(left + bbox[2] * width * scale), round(top + bbox[3] * height * scale))
        cv2.rectangle(small, (round(left), round(top)), corner, (0, 0, 0), 4)  # seen on any ground
        cv2.rectangle(small, (round(left), round(top)), corner, (0, 165, 255), 2)
    done, encoded = cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, 82])
    return f"data:image/jpeg;base64,{base64.b64encode(encoded.tobytes()).decode()}" if done else None


def _round_all(boxes: Sequence[Sequence[float]]) -> tuple[float, float, float, float]:
    left, top = min(box[0] for box in boxes), min(box[1] for box in boxes)
    right, bottom = max(box[0] + box[2] for box in boxes), max(box[1] + box[3] for box in boxes)
    return left, top, right - left, bottom - top


def _outline(
    picture: NDArray[Any], shape: Shape, color: tuple[int, int, int], part: tuple[float, float, float, float]
) -> None:
    """Draw the contour of a region on a picture that shows this part (x, y, w, h, relative) of the image."""
    import cv2  # noqa: PLC0415 - as above
    import numpy as np  # noqa: PLC0415 - as above

    height, width = picture.shape[:2]
    rows = ((np.arange(height) + 0.5) / height * part[3] + part[1] - shape.bbox[1]) / shape.bbox[3]
    columns = ((np.arange(width) + 0.5) / width * part[2] + part[0] - shape.bbox[0]) / shape.bbox[2]
    here = np.ix_((rows >= 0) & (rows < 1), (columns >= 0) & (columns < 1))
    mask = np.zeros((height, width), dtype=np.uint8)
    at_row = (rows[(rows >= 0) & (rows < 1)] * shape.mask.shape[0]).astype(np.int64)
    at_column = (columns[(columns >= 0) & (columns < 1)] * shape.mask.shape[1]).astype(np.int64)
    mask[here] = shape.mask[np.ix_(at_row, at_column)]
    contours, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(picture, contours, -1, (0, 0, 0), 3)  # seen on any ground
    cv2.drawContours(picture, contours, -1, color, 1)


def _around(bbox: Sequence[float], width: int, height: int) -> tuple[int, int, int, int]:
    """Return the pixels round a box, inside the image and at least one wide."""
    x, y, w, h = bbox
    margin = max(_CROP_MARGIN * max(w * width, h * height), _LEAST_MARGIN * min(width, height))
    x0, y0 = max(0, int(x * width - margin)), max(0, int(y * height - margin))
    x1, y1 = min(width, int((x + w) * width + margin) + 1), min(height, int((y + h) * height + margin) + 1)
    if x1 <= x0 or y1 <= y0:
        return 0, 0, width, height
    return x0, y0, x1, y1
