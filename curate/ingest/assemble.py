"""Collected rows → the tables of `schema`, in an order that does not depend on that of the rows."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate import schema

_STATE = schema.SAMPLES.get_field_index("label_state")
PLACED = schema.SAMPLES.remove(_STATE)  # what is said of an image where it is found


def sample_table(
    placed: pa.Table, states: pa.Array, extra: Mapping[str, pa.ChunkedArray], lost: set[str]
) -> pa.Table:
    """Return the samples without those in `lost`, as they stand in their containers, then by path.

    Args:
        placed: `PLACED`.
        states: `label_state` of each row.
        extra: text columns beyond the schema.
        lost: sample ids that are out after all.
    """
    table = placed.add_column(_STATE, schema.SAMPLES.field(_STATE), states)
    for name, column in sorted(extra.items()):
        table = table.append_column(pa.field(name, pa.string()), column)
    if lost:
        table = table.filter(pc.invert(pc.is_in(table["sample_id"], pa.array(sorted(lost)))))
    return table.sort_by([(key, "ascending") for key in ("container", "container_offset", "uri")])


def label_table(rows: pa.Table, keep: np.ndarray) -> pa.Table:
    """Return the labels that stay (bool, one a row), sorted by sample and label id."""
    if not keep.all():
        rows = rows.filter(pa.array(keep))
    return rows.sort_by([("sample_id", "ascending"), ("label_id", "ascending")])
