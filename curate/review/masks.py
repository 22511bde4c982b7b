"""Instance masks as FiftyOne wants them: a small boolean array inside the box. Pure."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from io import BytesIO

import numpy as np
from numpy.typing import NDArray

from curate.ingest.polygons import filled

_POLYGON_PX = 512  # polygons are relative: this is the long side they are drawn at


def draw_polygons(rings: Sequence[Sequence[float]], aspect: float) -> NDArray[np.bool_]:
    """Return a mask of the filled rings (relative x0, y0, x1, y1, …); `aspect` is width over height."""
    width = _POLYGON_PX if aspect >= 1 else max(1, round(_POLYGON_PX * aspect))
    height = _POLYGON_PX if aspect < 1 else max(1, round(_POLYGON_PX / aspect))
    return filled(rings, height, width)


def box_of(mask: NDArray[np.bool_]) -> list[float] | None:
    """Return the tight relative box x, y, w, h of a mask, or None if it is empty."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return None
    height, width = mask.shape
    x, y = columns[0] / width, rows[0] / height
    return [float(x), float(y), float((columns[-1] + 1) / width - x), float((rows[-1] + 1) / height - y)]


def crop_to_box(mask: NDArray[np.bool_], bbox: Sequence[float]) -> NDArray[np.bool_]:
    """Return the part of a whole-image mask that lies inside the relative box, at least one pixel."""
    height, width = mask.shape
    x0 = int(np.clip(round(bbox[0] * width), 0, width - 1))
    y0 = int(np.clip(round(bbox[1] * height), 0, height - 1))
    x1 = int(np.clip(round((bbox[0] + bbox[2]) * width), x0 + 1, width))
    y1 = int(np.clip(round((bbox[1] + bbox[3]) * height), y0 + 1, height))
    return mask[y0:y1, x0:x1]


def to_bytes(mask: NDArray[np.bool_]) -> bytes:
    """Return the mask as FiftyOne stores arrays: zlib over .npy; the same mask gives the same bytes."""
    stream = BytesIO()
    np.save(stream, np.ascontiguousarray(mask), allow_pickle=False)
    return zlib.compress(stream.getvalue())
