"""Encoded images → upright pixels, cropped to the box where a label has one. One decode an image."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate.ingest.source import Media

CROP_MARGIN = 0.10  # of the box's longer side, so that a classifier sees what it stands on

Pixels = np.ndarray  # uint8 (height, width, 3), blue green red


def decoded(data: bytes | None) -> Pixels | None:
    """Return upright pixels, uint8 (h, w, 3) in BGR; None where there are none. EXIF rotation is applied."""
    if not data:
        return None
    import cv2  # noqa: PLC0415 - loaded in the workers that decode

    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    except cv2.error:
        image = None
    return image if image is not None else _with_pil(data)


def _with_pil(data: bytes) -> Pixels | None:
    """Decode what OpenCV cannot (GIF, some TIFF and palette files); the first frame of an animation."""
    import io  # noqa: PLC0415 - the rare path

    from PIL import Image, ImageOps  # noqa: PLC0415 - the rare path

    try:
        with Image.open(io.BytesIO(data)) as image:
            upright = ImageOps.exif_transpose(image).convert("RGB")
            return np.ascontiguousarray(np.asarray(upright)[:, :, ::-1])
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None


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
    """Yield the pixels of each label row in order; rows of one image that follow each other share a decode.

    Args:
        rows: of the labels view: sample_id, bbox, and where the image is.
        media: reads the bytes.
    """
    ids = rows["sample_id"].combine_chunks()
    boxes = rows["bbox"].to_pylist() if "bbox" in rows.column_names else [None] * rows.num_rows
    first = pc.index_in(pc.unique(ids), value_set=ids)
    images = media.read(rows.take(first))
    current: str | None = None
    image: Pixels | None = None
    kept: dict[str, Pixels | None] = {}
    order = iter(ids.take(first).to_pylist())
    for sample_id, box in zip(ids.to_pylist(), boxes, strict=True):
        if sample_id != current:
            current = sample_id
            if sample_id not in kept:
                kept = {next(order): decoded(next(images))}
            image = kept[sample_id]
        yield None if image is None else crop(image, box)
