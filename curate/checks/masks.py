"""Masks as runs: areas, bounds and connected parts without drawing a pixel."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class MaskShape:
    """What is on a mask.

    Attributes:
        area_px: number of set pixels.
        bounds_px: x, y, w, h of the set pixels; None where there is none.
        part_areas_px: area of each connected part (8 neighbours), largest first.
    """

    area_px: int
    bounds_px: tuple[int, int, int, int] | None
    part_areas_px: Ints


def decode_counts(counts: bytes) -> Ints:
    """Return the run lengths of COCO's compressed counts, unset pixels first.

    Six bits a character from "0" on: five of value, one for "more follows"; from the third run on the difference
    to the run before the last one is stored. Source: the COCO API's mask format (`rleFrString`).

    Raises:
        ValueError: not such a text: a character outside its alphabet, cut off, a negative or enormous run.
    """
    runs: list[int] = []
    value = shift = 0
    for byte in counts:
        bits = byte - 48
        if not 0 <= bits < 64:
            msg = f"a character outside the alphabet of run lengths: {byte}"
            raise ValueError(msg)
        value |= (bits & 0x1F) << shift
        shift += 5
        if bits & 0x20:
            if shift > 60:
                msg = "a run length of more than 60 bits"
                raise ValueError(msg)
            continue
        if bits & 0x10:
            value -= 1 << shift
        runs.append(value + (runs[-2] if len(runs) > 2 else 0))
        if not 0 <= runs[-1] < 1 << 40:
            msg = f"a run length of {runs[-1]}"
            raise ValueError(msg)
        value = shift = 0
    if shift:
        msg = "the run lengths are cut off"
        raise ValueError(msg)
    return np.asarray(runs, dtype=np.int64)


def mask_shape(counts: bytes, height_px: int, width_px: int) -> MaskShape:
    """Return area, bounds and parts of a mask in COCO's compressed run lengths (column by column).

    Raises:
        ValueError: the counts cannot be read, or do not fill height times width.
    """
    runs = decode_counts(counts)
    if height_px < 1 or width_px < 1 or int(runs.sum()) != height_px * width_px:
        msg = f"the runs cover {int(runs.sum())} pixels of {height_px} by {width_px}"
        raise ValueError(msg)
    edges = np.concatenate([[0], np.cumsum(runs)])
    start, stop = edges[1:-1:2], edges[2::2]
    start, stop = start[stop > start], stop[stop > start]
    column, top, bottom = _by_column(start, stop, height_px)
    if not len(column):
        return MaskShape(0, None, np.zeros(0, dtype=np.int64))
    lengths = bottom - top
    left, upper = int(column.min()), int(top.min())
    bounds = (left, upper, int(column.max()) - left + 1, int(bottom.max()) - upper)
    parts = np.bincount(_parts(column, top, bottom), weights=lengths).astype(np.int64)
    return MaskShape(int(lengths.sum()), bounds, np.sort(parts)[::-1])


def _by_column(start: Ints, stop: Ints, height_px: int) -> tuple[Ints, Ints, Ints]:
    """Cut runs at the ends of columns; return column, first and one past the last row of each piece."""
    first, last = start // height_px, (stop - 1) // height_px
    n_pieces = last - first + 1
    run = np.repeat(np.arange(len(start)), n_pieces)
    piece = np.arange(len(run)) - np.repeat(np.cumsum(n_pieces) - n_pieces, n_pieces)
    column = first[run] + piece
    top = np.maximum(start[run], column * height_px) - column * height_px
    bottom = np.minimum(stop[run], (column + 1) * height_px) - column * height_px
    return column.astype(np.int64), top.astype(np.int64), bottom.astype(np.int64)


def _parts(column: Ints, top: Ints, bottom: Ints) -> Ints:
    """Return the part of each piece: pieces of neighbouring columns that touch, corners included, are one."""
    n = len(column)
    stride = int(bottom.max()) + 3
    start_key, stop_key = column * stride + top, column * stride + bottom
    # pieces are sorted by column and row: those of the next column that touch are a contiguous range
    low = np.searchsorted(stop_key, (column + 1) * stride + top, side="left")
    high = np.searchsorted(start_key, (column + 1) * stride + bottom, side="right")
    n_touching = np.maximum(high - low, 0)
    source = np.repeat(np.arange(n), n_touching)
    target = low[source] + np.arange(len(source)) - np.repeat(np.cumsum(n_touching) - n_touching, n_touching)
    graph = coo_array((np.ones(len(source), dtype=np.int8), (source, target)), shape=(n, n))
    return np.asarray(connected_components(graph, directed=False)[1], dtype=np.int64)
