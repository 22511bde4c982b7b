"""Where two columns of matched rows differ, and the text of a shape."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

Mask = NDArray[np.bool_]


def flat_differs(was: pa.Array, now: pa.Array) -> Mask:
    """Return where flat columns differ; null equals null, and differs from any value."""
    differs = pc.not_equal(was, now)
    if was.null_count or now.null_count:
        differs = pc.coalesce(differs, pc.xor(pc.is_null(was), pc.is_null(now)))
    found: Mask = differs.to_numpy(zero_copy_only=False)
    return found


def box_differs(was: pa.Array, now: pa.Array) -> Mask:
    """Return where boxes differ."""
    if was.null_count == len(was) and now.null_count == len(now):
        return np.zeros(len(was), dtype=np.bool_)
    if was.null_count or now.null_count or not pa.types.is_fixed_size_list(was.type):
        return list_differs(was, now)
    sides = [values.flatten().to_numpy().reshape(len(values), -1) for values in (was, now)]
    differs: Mask = (sides[0] != sides[1]).any(axis=1)
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
    boxes = rows["bbox"].to_pylist()
    others = [
        "polygons" if polygon else "mask" if mask else None
        for polygon, mask in zip(
            pc.is_valid(rows["polygons"]).to_pylist(), pc.is_valid(rows["mask"]).to_pylist(), strict=True
        )
    ]
    texts = [" ".join(f"{x:.6g}" for x in box) if box else other for box, other in zip(boxes, others, strict=True)]
    return pa.array(texts, pa.string())
