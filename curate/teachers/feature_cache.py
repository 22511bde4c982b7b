"""What a function says of each label row's pixels, computed once for the same bytes and box and kept."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa

from curate import schema
from curate.adapters.execution import map_shards
from curate.incremental import stream_rows
from curate.ingest.source import Media
from curate.teachers.pixels import Pixels, crops
from curate.teachers.protocol import Request

Extract = Callable[[Sequence[Pixels]], np.ndarray]


def extracted(version: str, dim: int, extract: Extract, request: Request) -> np.ndarray:
    """Return float32 (n_labels, dim) of what `extract` says of each label row's pixels; NaN where there are none.

    Args:
        version: digest or name of all that decides the values; part of the cache key.
        dim: values an image; kept as float16.
        extract: images -> (n, dim); has to pickle.
        request: the label rows.
    """
    return stored(version, dim, extract, request).astype(np.float32)


def stored(version: str, dim: int, extract: Extract, request: Request) -> np.ndarray:
    """Return the values of `extracted` as they are kept, float16."""
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
