"""Rows of the collector → the tables of `schema`, in an order that does not depend on that of the rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate import schema

Row = tuple[Any, ...]  # one tuple a row, not a list a column: a third of the time over a million rows


def table_of(rows: Sequence[Row], wanted: pa.Schema) -> pa.Table:
    """Return a table of `wanted` from rows in its order of columns."""
    if not rows:
        return schema.empty(wanted)
    columns = zip(*rows, strict=True)
    return pa.table([pa.array(c, f.type) for c, f in zip(columns, wanted, strict=True)], schema=wanted)


def sample_table(
    rows: Sequence[Row], states: Sequence[str], extra: Mapping[str, list[str | None]], lost: set[str]
) -> pa.Table:
    """Return the samples without those in `lost`, as they stand in their containers, then by path.

    Args:
        rows: in the order of `schema.SAMPLES` without `label_state`.
        states: `label_state` of each row.
        extra: text columns beyond the schema; a short one is null in the rest.
        lost: sample ids that are out after all.
    """
    at = schema.SAMPLES.get_field_index("label_state")
    table = table_of(rows, schema.SAMPLES.remove(at))
    table = table.add_column(at, schema.SAMPLES.field(at), pa.array(states, pa.string()))
    for name, column in sorted(extra.items()):
        full = column + [None] * (table.num_rows - len(column))
        table = table.append_column(pa.field(name, pa.string()), pa.array(full, pa.string()))
    if lost:
        table = table.filter(pc.invert(pc.is_in(table["sample_id"], pa.array(sorted(lost)))))
    return table.sort_by([(key, "ascending") for key in ("container", "container_offset", "uri")])


def label_table(rows: Sequence[Row], keep: np.ndarray) -> pa.Table:
    """Return the labels that stay (bool, one a row), sorted by sample and label id."""
    table = table_of(rows, schema.LABELS)
    if not keep.all():
        table = table.filter(pa.array(keep))
    return table.sort_by([("sample_id", "ascending"), ("label_id", "ascending")])
