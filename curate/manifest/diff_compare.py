"""Where two columns of matched rows differ, and the text of a shape."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

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


def shape_text(rows: pa.Table) -> pa.Array:
    """Return "x y w h" of the box; "polygons" or "mask" where only that is there."""
    texts = [
        "polygons" if polygon else "mask" if mask else None
        for polygon, mask in zip(
            pc.is_valid(rows["polygons"]).to_pylist(), pc.is_valid(rows["mask"]).to_pylist(), strict=True
        )
    ]
    boxes = flat(rows["bbox"])
    numbers = pc.list_flatten(boxes).to_numpy(zero_copy_only=False).reshape(-1, 4)
    valid = np.flatnonzero(pc.is_valid(boxes).to_numpy(zero_copy_only=False))
    for row, box in zip(valid.tolist(), numbers.tolist(), strict=True):
        texts[row] = "{:.6g} {:.6g} {:.6g} {:.6g}".format(*box)
    return pa.array(texts, pa.string())
