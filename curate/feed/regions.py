"""Regions that a trainer is to ignore: of the release, and those that the source itself wants ignored."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from curate import schema
from curate.ingest.polygons import box_of_rings
from curate.ingest.rle import box_of_mask
from curate.manifest.tables import IGNORE


def to_ignore(flags: pa.ChunkedArray) -> NDArray[np.bool_]:
    """Return which rows the source itself wants ignored: COCO's `iscrowd`, MOT's 0 in the seventh column."""
    lists = flags.combine_chunks()
    hit = pc.is_in(pc.list_flatten(lists), value_set=pa.array(schema.TO_IGNORE)).to_numpy(zero_copy_only=False)
    found = np.zeros(len(lists), dtype=np.bool_)
    found[pc.list_parent_indices(lists).to_numpy()[hit]] = True
    return found


def regions(rows: pa.Table) -> pa.Table:
    """Return rows of `data/` as `tables.IGNORE`."""
    return pa.table({name: rows["released_label" if name == "label" else name] for name in IGNORE.names}).cast(
        IGNORE
    )


def with_boxes(ignored: pa.Table) -> pa.Table:
    """Return the rows of `tables.IGNORE` that have a place, each with a box: of a mask, the one around it."""
    around = pa.array(
        [_around(row) for row in ignored.select(["bbox", "mask", "polygons"]).to_pylist()], schema.BBOX
    )
    at = ignored.schema.get_field_index("bbox")
    return ignored.set_column(at, ignored.schema.field(at), around).filter(pc.is_valid(around))


def _around(row: Mapping[str, Any]) -> Sequence[float] | None:
    if row["bbox"] is not None or row["mask"] is None:
        return row["bbox"] or (box_of_rings(row["polygons"]) if row["polygons"] else None)
    return box_of_mask(row["mask"])
