"""Images as vectors for the probes. The default needs no weights: patterns, oriented gradients, a colour layout."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa

from curate import schema
from curate.adapters.execution import map_shards
from curate.errors import ConfigError
from curate.feature_names import unknown_features
from curate.incremental import stream_rows
from curate.ingest.source import Media
from curate.teachers.patches import patch_features, shipped_digest, shipped_filters
from curate.teachers.pixels import Pixels, crops
from curate.teachers.protocol import Request

PIXELS_VERSION = 2
SIDE_PX = 32  # whatever the image's size
CELL_PX = 8
LAYOUT_PX = 6
HOG_DIM = 324
LAYOUT_DIM = LAYOUT_PX * LAYOUT_PX * 3

Extract = Callable[[Sequence[Pixels]], np.ndarray]


def image_features(name: str, request: Request) -> np.ndarray:
    """Return float16 (n_labels, n_features), a row of NaN where the image cannot be decoded.

    What was computed before for the same bytes, box and features is read from `request.scratch`.

    Args:
        name: pixels | efficientnet-lite0 | onnx:FILE | torch:FILE.
        request: the label rows.

    Raises:
        ConfigError: no such features.
    """
    return _stored(*_extractor(name, request), request)


def extracted(version: str, dim: int, extract: Extract, request: Request) -> np.ndarray:
    """Return float32 (n_labels, dim) of what `extract` says of each label row's pixels; NaN where there are none.

    Args:
        version: digest or name of all that decides the values; part of the cache key.
        dim: values an image; kept as float16.
        extract: images -> (n, dim); has to pickle.
        request: the label rows.
    """
    return _stored(version, dim, extract, request).astype(np.float32)


def _stored(version: str, dim: int, extract: Extract, request: Request) -> np.ndarray:
    keys = feature_keys(request.labels, version)
    field = pa.field("features", pa.list_(pa.float16(), dim))

    def compute(shards: Sequence[pa.Array]) -> Iterator[pa.Table]:
        total, told = sum(map(len, shards)), request.progress
        work = partial(_shard, media=request.media, extract=extract, dim=dim)
        return map_shards(
            work,
            (request.labels.take(shard) for shard in shards),  # rows of one image side by side: one decode each
            workers=request.workers,
            progress=(lambda n_done, _: told(n_done, total)) if told else None,
            quarantine=partial(_absent, dim=dim),
        )

    folder = request.scratch / version.replace(":", "-")
    matrix = np.full((len(keys), dim), np.nan, dtype=np.float16)  # two bytes: a million rows are 2 GB, held once
    for part in stream_rows(folder, keys, compute, schema=pa.schema([field])):
        column = part.rows["features"].combine_chunks()
        known = column.is_valid().to_numpy(zero_copy_only=False)
        values = column.flatten().to_numpy(zero_copy_only=False)
        matrix[part.positions[known]] = values.reshape(-1, dim)
    return matrix


def _extractor(name: str, request: Request) -> tuple[str, int, Extract]:
    """Return (version for the cache key, width, function) of named features."""
    if name == "pixels":
        dim = shipped_filters().n_features + HOG_DIM + LAYOUT_DIM
        return f"pixels-{PIXELS_VERSION}-{shipped_digest()[:8]}", dim, pixel_features
    from curate.teachers.embedders import embedder  # noqa: PLC0415 - needs onnxruntime or torch

    made = embedder(name, request.resolve)
    if made is None:
        raise ConfigError(unknown_features(name))
    return made


def feature_keys(labels: pa.Table, version: str) -> list[str]:
    """Return the cache key of each label row: what was computed for the same bytes and box is found again by it."""
    boxes: list[Any] = labels["bbox"].to_pylist() if "bbox" in labels.column_names else [None] * labels.num_rows
    shas = labels["content_sha256"].to_pylist()
    return [schema.stable_id(version, str(sha), repr(box)) for sha, box in zip(shas, boxes, strict=True)]


def _shard(rows: pa.Table, *, media: Media, extract: Extract, dim: int) -> pa.Table:
    """Return the features of one shard of label rows, null where there are no pixels."""
    found = list(crops(rows, media))
    known = [position for position, image in enumerate(found) if image is not None]
    flat = np.zeros((len(found), dim), dtype=np.float16)
    if known:
        values = extract([image for image in found if image is not None])
        flat[known] = np.clip(values, -60_000, 60_000)
    absent = np.ones(len(found), dtype=bool)
    absent[known] = False
    kind = pa.list_(pa.float16(), dim)
    column = pa.FixedSizeListArray.from_arrays(pa.array(flat.reshape(-1)), type=kind, mask=pa.array(absent))
    return pa.table({"features": column})


def _absent(row: pa.Table, *, dim: int) -> pa.Table:
    """Return what stands for a row whose image killed its worker."""
    return pa.table({"features": pa.nulls(row.num_rows, pa.list_(pa.float16(), dim))})


def pixel_features(images: Sequence[Pixels]) -> np.ndarray:
    """Return float32 (n, n_features) at 32 px: patterns of patches, oriented gradients and a 6 x 6 Lab layout.

    The patterns (`curate.teachers.patches`) do not tell an image from its mirror image; the gradients (Dalal and
    Triggs, CVPR 2005, in 8 px cells) and the layout do.
    """
    import cv2  # noqa: PLC0415 - loaded in the workers that decode

    block, cell = (2 * CELL_PX, 2 * CELL_PX), (CELL_PX, CELL_PX)
    hog = cv2.HOGDescriptor((SIDE_PX, SIDE_PX), block, cell, cell, 9)
    small = np.stack([_resized(image, SIDE_PX) for image in images])
    shapes = np.empty((len(images), HOG_DIM + LAYOUT_DIM), dtype=np.float32)
    for row, image in zip(shapes, small, strict=True):
        row[:HOG_DIM] = np.ravel(hog.compute(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)))
        row[HOG_DIM:] = np.ravel(_resized(cv2.cvtColor(image, cv2.COLOR_BGR2LAB), LAYOUT_PX)) / np.float32(85.0)
    return np.concatenate([patch_features(small, shipped_filters()), shapes], axis=1)


def _resized(image: Pixels, side_px: int) -> Pixels:
    import cv2  # noqa: PLC0415 - loaded in the workers that decode

    shrinks = min(image.shape[:2]) >= side_px
    method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    resized: Pixels = cv2.resize(image, (side_px, side_px), interpolation=method)
    return resized
