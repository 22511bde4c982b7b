"""Where two columns of matched rows differ, and the text of a box or mask."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from curate.ingest.rle import runs_of

Mask = NDArray[np.bool_]


def flat(column: pa.Array | pa.ChunkedArray) -> pa.Array:
    """Return a column in one piece, without copying what is in one already."""
    if isinstance(column, pa.ChunkedArray):
        return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
    return column


def flat_differs(was: pa.Array | pa.ChunkedArray, now: pa.Array | pa.ChunkedArray) -> Mask:
    """Return where flat columns differ; null equals null, and differs from any value."""
    if pa.types.is_dictionary(was.type) and pa.types.is_dictionary(now.type):
        return _codes_differ(flat(was), flat(now))
    if was.equals(now):
        return np.zeros(len(was), dtype=np.bool_)
    differs = pc.not_equal(was, now)
    if was.null_count or now.null_count:
        differs = pc.coalesce(differs, pc.xor(pc.is_null(was), pc.is_null(now)))
    found: Mask = differs.to_numpy(zero_copy_only=False)
    return found


def _codes_differ(was: pa.DictionaryArray, now: pa.DictionaryArray) -> Mask:
    """Compare words by their codes, those of one side translated into those of the other."""
    before, after = (
        (pc.fill_null(side.indices, -1) if side.null_count else side.indices).to_numpy() for side in (was, now)
    )
    if not was.dictionary.equals(now.dictionary):
        code = pc.fill_null(pc.index_in(was.dictionary, value_set=now.dictionary), -2).to_numpy()
        before = np.append(code, np.int32(-1))[before]
    differs: Mask = before != after
    return differs


def box_differs(was: pa.Array, now: pa.Array) -> Mask:
    """Return where boxes differ."""
    if was.null_count == len(was) and now.null_count == len(now):
        return np.zeros(len(was), dtype=np.bool_)
    if was.null_count or now.null_count or not pa.types.is_fixed_size_list(was.type):
        return list_differs(was, now)
    numbers = np.flatnonzero(was.flatten().to_numpy() != now.flatten().to_numpy())
    differs: Mask = np.zeros(len(was), dtype=np.bool_)
    differs[numbers // was.type.list_size] = True
    return differs


def list_differs(was: pa.Array, now: pa.Array) -> Mask:
    """Compare lists of (lists of) numbers row by row: nulls, then lengths, then the values of what is left."""
    differs = flat_differs(pc.list_value_length(was), pc.list_value_length(now))
    left = np.flatnonzero(~differs & pc.is_valid(was).to_numpy(zero_copy_only=False))
    was, now = was.take(pa.array(left)), now.take(pa.array(left))
    parents = pc.list_parent_indices(was).to_numpy()
    inner_was, inner_now = pc.list_flatten(was), pc.list_flatten(now)
    nested = pa.types.is_list(inner_was.type) or pa.types.is_fixed_size_list(inner_was.type)
    inner = list_differs(inner_was, inner_now) if nested else flat_differs(inner_was, inner_now)
    differs[left[parents[inner]]] = True
    return differs


def maps_differ(was: pa.Array, now: pa.Array) -> Mask:
    """Compare maps of words row by row; entries stand in the order of their keys, and no map is null."""
    if was.equals(now):
        return np.zeros(len(was), dtype=np.bool_)
    n_was, n_now = (np.diff(side.offsets.to_numpy()) for side in (was, now))
    differs: Mask = n_was != n_now
    left = np.flatnonzero(~differs)
    was, now = was.take(pa.array(left)), now.take(pa.array(left))
    inner = flat_differs(was.keys, now.keys) | flat_differs(was.items, now.items)
    differs[left[np.repeat(np.arange(len(left)), n_was[left])[inner]]] = True
    return differs


def map_text(maps: pa.Array | pa.ChunkedArray) -> pa.Array:
    """Return "key: value, …" of each map; empty for an empty one."""
    texts = [", ".join(f"{key}: {value}" for key, value in one) for one in flat(maps).to_pylist()]
    return pa.array(texts, pa.string())


def masks_differ(was: pa.Array | pa.ChunkedArray, now: pa.Array | pa.ChunkedArray) -> Mask:
    """Return where masks (`schema.MASK_RLE`) differ."""
    differs: Mask = np.zeros(len(was), dtype=np.bool_)
    for part in ("height_px", "width_px", "counts"):
        differs |= flat_differs(*(pc.struct_field(flat(side), part) for side in (was, now)))
    return differs


def box_text(boxes: pa.Array | pa.ChunkedArray) -> pa.Array:
    """Return "x y w h" of each box, relative to the image; null without one."""
    column = flat(boxes)
    texts: list[str | None] = [None] * len(column)
    numbers = pc.list_flatten(column).to_numpy(zero_copy_only=False).reshape(-1, 4)
    valid = np.flatnonzero(pc.is_valid(column).to_numpy(zero_copy_only=False))
    for row, box in zip(valid.tolist(), numbers.tolist(), strict=True):
        texts[row] = "{:.6g} {:.6g} {:.6g} {:.6g}".format(*box)
    return pa.array(texts, pa.string())


def mask_text(rows: pa.Table) -> pa.Array:
    """Return the area of each mask (or of its polygons), the image's share and the regions; null without either.

    Args:
        rows: mask, polygons, height_px, width_px.
    """
    columns = (rows[name].to_pylist() for name in ("mask", "polygons", "height_px", "width_px"))
    return pa.array([_area(*row) for row in zip(*columns, strict=True)], pa.string())


def _area(mask: Any, polygons: Any, height_px: int | None, width_px: int | None) -> str | None:  # noqa: ANN401 - schema's
    if mask is not None:
        runs, n_all = runs_of(mask["counts"]), mask["height_px"] * mask["width_px"]
        n_px = 0 if runs is None else int(runs[1::2].sum())
        return f"mask of {n_px:,} px ({n_px / max(1, n_all):.2%})"
    if polygons is None:
        return None
    share = sum(_ring(ring) for ring in polygons)
    size = f"{round(share * height_px * width_px):,} px ({share:.2%})" if height_px and width_px else f"{share:.2%}"
    return f"{len(polygons)} polygon{'s' * (len(polygons) != 1)} of {size}"


def _ring(ring: Sequence[float]) -> float:
    """Return the area of a ring x0, y0, x1, y1, … (the shoelace formula)."""
    x, y = np.asarray(ring[0::2]), np.asarray(ring[1::2])
    return 0.0 if len(x) < 3 else float(abs(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1)))) / 2
