"""Masks of a feed: the labels of an image painted into one, and the class map of its teachers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from curate.feed.map_reader import Half, MapReader
from curate.feed.warp import Frame, nearest, sampled_linearly
from curate.ingest.polygons import filled
from curate.ingest.rle import decode_mask
from curate.teachers.regions.cells import grid_size

IGNORE = -100  # what PyTorch's cross entropy passes over unless it is told another number
COLUMNS = ("mask", "polygons")


@dataclass(frozen=True)
class Painted:
    """The labels of an image in one mask, (height, width) each.

    Attributes:
        ids: int64 class; IGNORE where no released label is, or where two of different classes are.
        weights: float32 of the label that is there; 1 where none is.
        settled: whether a person decided it.
    """

    ids: NDArray[np.int64]
    weights: NDArray[np.float32]
    settled: NDArray[np.bool_]


def painted(
    rows: pa.Table, labels: NDArray[np.int64], weights: NDArray[np.float32], settled: NDArray[np.bool_]
) -> Painted:
    """Paint the labels of one image.

    Args:
        rows: `COLUMNS`, height_px and width_px of its rows.
        labels: class of each; below 0 is not painted.
        weights: of each.
        settled: whether a person decided each.
    """
    shapes = [
        _drawn(row) if label >= 0 else None for row, label in zip(rows.to_pylist(), labels.tolist(), strict=True)
    ]
    size = next((one.shape for one in shapes if one is not None), None)
    if size is None:
        size = (rows["height_px"][0].as_py() or 1, rows["width_px"][0].as_py() or 1)
    ids = np.full(size, IGNORE, dtype=np.int64)
    weight, sure = np.ones(size, dtype=np.float32), np.zeros(size, dtype=np.bool_)
    contested = np.zeros(size, dtype=np.bool_)
    for at, shape in enumerate(shapes):
        if shape is None or shape.shape != size:
            continue
        contested |= shape & (ids != IGNORE) & (ids != labels[at])
        weight[shape] = np.where(ids[shape] == IGNORE, weights[at], np.minimum(weight[shape], weights[at]))
        ids[shape], sure[shape] = labels[at], settled[at]
    ids[contested], weight[contested], sure[contested] = IGNORE, 1.0, False
    return Painted(ids, weight, sure)


def _drawn(row: Mapping[str, Any]) -> NDArray[np.bool_] | None:
    if row["mask"] is not None:
        return np.asarray(decode_mask(row["mask"]), dtype=np.bool_)
    if not row["polygons"]:
        return None
    return filled(row["polygons"], row["height_px"], row["width_px"])


def framed(mask: Painted, frame: Frame) -> dict[str, NDArray[Any]]:
    """Return `mask`, `weight` and `settled` as the item shows them: of the nearest pixels."""
    return {
        "mask": np.ascontiguousarray(nearest(mask.ids, frame, IGNORE)),
        "weight": np.ascontiguousarray(nearest(mask.weights, frame, 1.0)),
        "settled": np.ascontiguousarray(nearest(mask.settled, frame, 0)),
    }


def framed_map(
    found: tuple[Half, Half | None] | None, reader: MapReader, frame: Frame, image: tuple[int, int]
) -> dict[str, NDArray[Any]]:
    """Return the class map as the item shows it, at the resolution of its cells: bilinear, 0 where nothing is known.

    `probs` (K, rows, columns) float16, `tail` (rows, columns) where a tail was cut off, `known`, `temperature`.

    Args:
        found: what is stored; None = no map.
        reader: it is from.
        frame: of the item.
        image: height and width of the whole image, pixels.
    """
    size = grid_size(*(frame.size if frame.stretched or frame.matrix is not None else image), reader.longest)
    planes = [np.zeros(size, dtype=np.float32)] * reader.layout.n_classes
    tail = np.zeros(size, dtype=np.float32)
    if found is not None:
        planes = [_resampled(one, size, frame) for one in found[0]]
        tail = _resampled(found[1], size, frame) if found[1] is not None else tail
    made: dict[str, NDArray[Any]] = {"probs": np.stack(planes).astype(np.float16)}
    if reader.layout.name == "top_k":
        made["tail"] = tail.astype(np.float16)
    made["known"] = np.asarray(found is not None)
    made["temperature"] = np.asarray(reader.temperature, dtype=np.float32)
    return made


def _resampled(plane: Half, size: tuple[int, int], frame: Frame) -> NDArray[np.float32]:
    if frame.matrix is None and plane.shape == size:
        return plane.astype(np.float32)
    matrix = np.eye(2, 3) if frame.matrix is None else frame.matrix
    if frame.matrix is None:
        import cv2  # noqa: PLC0415 - `import curate` must not load it

        return np.asarray(cv2.resize(plane.astype(np.float32), size[::-1], interpolation=cv2.INTER_LINEAR))
    return np.asarray(sampled_linearly(plane.astype(np.float32), size, matrix), dtype=np.float32)
