"""Items of a feed as the packed formats hold them: their bytes, and what is said of each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from curate.export.packed_boxes import pixels
from curate.feed.release import Feed
from curate.feed.soft import OBJECTNESS


def encoded(feed: Feed, items: Sequence[int]) -> Iterator[tuple[int, str, bytes]]:
    """Yield item, uri and encoded bytes, each held against its hash."""
    places = feed.rows.places()
    columns = [places[name].combine_chunks() for name in places.column_names]
    for at in items:
        place = [column[at].as_py() for column in columns]
        yield at, place[0], feed.images.read(*place)


def shards_of(feed: Feed, items: Sequence[int], n_bytes: int) -> list[list[int]]:
    """Cut items into runs of about so many bytes."""
    sizes = feed.rows.places()["n_bytes"].to_pylist()
    shards: list[list[int]] = [[]]
    filled = 0
    for at in items:
        if shards[-1] and filled + (sizes[at] or 0) > n_bytes:
            shards.append([])
            filled = 0
        shards[-1].append(at)
        filled += sizes[at] or 0
    return shards


def about_of(feed: Feed, at: int, extra: Mapping[str, Sequence[Any]]) -> dict[str, Any]:
    """Return id, label (or boxes) and the further columns of an item."""
    rows = feed.rows
    start = int(rows.starts[at])
    if rows.boxes is None:
        return {
            "id": (rows.table["label_id"][start].as_py() or rows.table["sample_id"][start].as_py()),
            "label": int(rows.labels[start]) if rows.labels[start] >= 0 else None,
            "weight": float(rows.weights[start]),
            **{name: values[start] for name, values in extra.items()},
        }
    return _boxes_of(feed, at, extra)


def _boxes_of(feed: Feed, at: int, extra: Mapping[str, Sequence[Any]]) -> dict[str, Any]:
    rows = feed.rows
    start, stop = int(rows.starts[at]), int(rows.starts[at + 1])
    assert rows.boxes is not None  # noqa: S101 - the caller looked
    kept = [row for row in range(start, stop) if rows.labels[row] >= 0]
    width, height = extra["width_px"][start], extra["height_px"][start]
    objects = {
        "id": [rows.table["label_id"][row].as_py() for row in kept],
        "bbox": pixels(rows.boxes[kept], width, height),
        "category": rows.labels[kept].tolist(),
        "weight": rows.weights[kept].tolist(),
        "given_label": [extra["given_label"][row] for row in kept],
        "action": [extra["action"][row] for row in kept],
    }
    if "track_id" in extra:
        objects["track_id"] = [extra["track_id"][row] for row in kept]
    about = {"id": rows.table["sample_id"][start].as_py(), "width": width, "height": height, "objects": objects}
    about |= {"frame": extra["frame"][start]} if "frame" in extra else {}
    return about | {"ignore": pixels(rows.ignore.of(at), width, height) if rows.ignore is not None else []}


def extra_of(feed: Feed) -> dict[str, list[Any]]:
    """Return further columns of the rows, as lists."""
    names = ["given_label", "action"] + (["width_px", "height_px"] if feed.rows.boxes is not None else [])
    names += ["track_id", "frame"] if feed.task == "tracking" else []
    return {name: feed.rows.table[name].to_pylist() for name in names}


def soft_of(feed: Feed, at: int) -> dict[str, Any]:
    """Return the soft label of an item (of each of its boxes), None where there is none."""
    soft, rows = feed.rows.soft, feed.rows
    if soft is None:
        return {}
    start, stop = int(rows.starts[at]), int(rows.starts[at + 1])
    if rows.boxes is None:
        return {name: array[start] if soft.known[start] else None for name, array in soft.arrays.items()}
    kept = [row for row in range(start, stop) if rows.labels[row] >= 0]
    told = {name: soft.known if name != OBJECTNESS else ~np.isnan(array) for name, array in soft.arrays.items()}
    return {name: [a[row] if told[name][row] else None for row in kept] for name, a in soft.arrays.items()}
