"""What the packed formats hold of an image with masks: one mask of ids as a PNG, its labels, and its class map."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from curate.feed.masks import IGNORE, framed_map, painted
from curate.feed.release import Feed
from curate.feed.warp import Frame

LABELS = {"id": pa.string(), "category": pa.int64(), "weight": pa.float32(), "action": pa.string()}


def ignored_id(n_classes: int) -> int:
    """Return the id in a PNG of what nobody vouches for."""
    return 255 if n_classes <= 255 else 65_535


def mask_of(feed: Feed, at: int) -> tuple[bytes, tuple[int, int]]:
    """Return the PNG of the mask of an item (8 bits a pixel, from 256 classes on 16), and its height and width."""
    from PIL import Image  # noqa: PLC0415 - only where masks are packed

    rows = feed.rows
    own = slice(int(rows.starts[at]), int(rows.starts[at + 1]))
    table = rows.table.slice(own.start, own.stop - own.start)
    ids = painted(table, rows.labels[own], rows.weights[own], rows.settled[own]).ids
    nothing = ignored_id(len(feed.classes))
    small = np.where(ids == IGNORE, nothing, ids).astype(np.uint8 if nothing == 255 else np.uint16)
    buffer = io.BytesIO()
    Image.fromarray(small).save(buffer, format="PNG")
    return buffer.getvalue(), (ids.shape[0], ids.shape[1])


def labels_of(feed: Feed, at: int, extra: Mapping[str, Any]) -> dict[str, Any]:
    """Return id and labels of an item, the columns of `LABELS` as lists."""
    rows = feed.rows
    kept = [row for row in range(int(rows.starts[at]), int(rows.starts[at + 1])) if rows.labels[row] >= 0]
    labels = {
        "id": [rows.table["label_id"][row].as_py() for row in kept],
        "category": rows.labels[kept].tolist(),
        "weight": rows.weights[kept].tolist(),
        "action": [extra["action"][row] for row in kept],
    }
    return {"id": rows.table["sample_id"][int(rows.starts[at])].as_py(), "labels": labels}


def map_of(feed: Feed, at: int, size: tuple[int, int]) -> dict[str, np.ndarray[Any, Any] | None]:
    """Return `probs` (K, rows, columns) of an item (and `tail` of a top-k map), None where it has no map."""
    reader = feed.rows.class_maps
    if reader is None:
        return {}
    found = reader.read(feed.rows.table["sample_id"][int(feed.rows.starts[at])].as_py())
    made = framed_map(found, reader, Frame(size), size)
    return {name: made[name] if found is not None else None for name in ("probs", "tail") if name in made}


def map_columns(feed: Feed) -> list[pa.Field]:
    """Return the columns of class maps in a table: the size of the grid, and flat values."""
    reader = feed.rows.class_maps
    if reader is None:
        return []
    names = ["probs"] + (["tail"] if reader.layout.name == "top_k" else [])
    sizes = [pa.field(name, pa.int32()) for name in ("n_rows", "n_columns")]
    return [*sizes, *(pa.field(name, pa.list_(pa.float16())) for name in names)]


def map_row(feed: Feed, at: int, size: tuple[int, int]) -> dict[str, Any]:
    """Return the values of `map_columns`."""
    made = map_of(feed, at, size)
    if not made or made["probs"] is None:
        return {}
    grid = dict(zip(("n_rows", "n_columns"), made["probs"].shape[1:], strict=True))
    return {**grid, **{name: array.reshape(-1) for name, array in made.items() if array is not None}}
