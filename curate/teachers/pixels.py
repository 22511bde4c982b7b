"""Encoded images → upright pixels, cropped to the box where a label has one. One decode an image."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa

from curate.ingest.source import Media
from curate.scan.decode import Refused, decode

MAX_PIXELS = 2**31  # the scan has refused what is too large for this data set before
CROP_MARGIN = 0.10  # of the box's longer side, so that a classifier sees what it stands on

Pixels = np.ndarray  # uint8 (height, width, 3), blue green red


def decoded(data: bytes | None) -> Pixels | None:
    """Return upright pixels, uint8 (h, w, 3) in BGR, decoded as the scan decodes; None where there are none."""
    if not data:
        return None
    found = decode(data, max_pixels=MAX_PIXELS)
    if isinstance(found, Refused):
        return None
    rgb = found.pixels if found.pixels.ndim == 3 else np.repeat(found.pixels[:, :, None], 3, axis=2)
    return np.ascontiguousarray(rgb[:, :, ::-1])


def crop(image: Pixels, bbox: Sequence[float] | None) -> Pixels:
    """Return the part of `image` inside a relative box with a margin; the whole image without a box."""
    if bbox is None:
        return image
    height, width = image.shape[:2]
    x, y, w, h = bbox
    margin = CROP_MARGIN * max(w * width, h * height)
    x0, y0 = max(0, int(x * width - margin)), max(0, int(y * height - margin))
    x1, y1 = min(width, int((x + w) * width + margin) + 1), min(height, int((y + h) * height + margin) + 1)
    return image[y0:y1, x0:x1] if x1 > x0 and y1 > y0 else image


def crops(rows: pa.Table, media: Media) -> Iterator[Pixels | None]:
    """Yield the pixels of each label row in order; rows of one image share a decode.

    Args:
        rows: of the labels view: sample_id, bbox, and where the image is.
        media: reads the bytes.
    """
    codes = rows["sample_id"].combine_chunks().dictionary_encode().indices.to_numpy(zero_copy_only=False)
    boxes = rows["bbox"].to_pylist() if "bbox" in rows.column_names else [None] * rows.num_rows
    _, first, left = np.unique(codes, return_index=True, return_counts=True)
    images = media.read(rows.take(pa.array(first)))  # in the order of the codes: that of first appearance
    held: dict[int, Pixels | None] = {}
    for code, box in zip(codes.tolist(), boxes, strict=True):
        if code not in held:
            held[code] = decoded(next(images))
        image = held[code]
        left[code] -= 1
        if not left[code]:
            del held[code]  # an image with many boxes is held until its last one, no longer
        yield None if image is None else crop(image, box)
