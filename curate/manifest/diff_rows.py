"""The rows of a diff: what a change is called, what is told of each, and the geometry for who draws it."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from curate.manifest.diff_match import Changed
from curate.manifest.tables import DATA

CHANGES = (
    "added",
    "removed",
    "relabeled",
    "reboxed",
    "remasked",
    "track changed",
    "split moved",
    "weight changed",
    "action changed",
    "image changed",
    "attributes changed",
    "flags changed",
    "license changed",
    "soft label changed",
    "class map changed",
    "teacher boxes changed",
    "ignored",
    "no longer ignored",
)


TEXTS = pa.list_(pa.string())


DIFF = pa.schema(
    [
        pa.field("change", pa.string(), nullable=False),  # CHANGES
        pa.field("sample_id", pa.string(), nullable=False),
        pa.field("label_id", pa.string()),
        pa.field("uri", pa.string(), nullable=False),
        # label, box, track id, split, weight, action, sha256; words of masks and soft labels. Null: not released
        pa.field("before", pa.string()),
        pa.field("after", pa.string()),
        pa.field("action_before", pa.string()),  # null where the row was not known at all
        pa.field("action_after", pa.string()),
        pa.field("reasons_before", TEXTS),
        pa.field("reasons_after", TEXTS),
        pa.field("reason_codes_before", TEXTS),
        pa.field("reason_codes_after", TEXTS),
        pa.field("causes", TEXTS),  # codes: reason codes of findings and decisions, or one of SOURCE_CAUSES
    ]
)


# the geometry of rows that are remasked, for who draws them
SHAPES = pa.schema(
    [pa.field("sample_id", pa.string()), pa.field("label_id", pa.string())]
    + [
        pa.field(f"{name}_{side}", DATA.field(name).type)
        for side in ("before", "after")
        for name in ("mask", "polygons")
    ]
)


def shapes_of(changed: Changed) -> pa.Table:
    """Return `SHAPES` of the rows that are remasked."""
    was, now = changed.of("remasked")
    columns = [now["sample_id"], now["label_id"]]
    columns += [side[name] for side in (was, now) for name in ("mask", "polygons")]
    return pa.table(columns, names=SHAPES.names).cast(SHAPES)


def why_of(rows: pa.Table) -> list[Any]:
    """Return action, reasons and reason codes of rows."""
    return [rows["action"], rows["reasons"], rows["reason_codes"]]


def change_rows(
    change: str,
    row: pa.Table,
    before: pa.ChunkedArray | pa.Array,
    after: pa.ChunkedArray | pa.Array,
    why_before: list[Any],
    why_after: list[Any],
    causes: pa.Array,
) -> pa.Table:
    """Return `DIFF` of one change, sorted by sample and label id.

    Args:
        change: one of `CHANGES`.
        row: sample_id, label_id and uri of each row.
        before: what it was, in words.
        after: what it is, in words.
        why_before: action, reasons and reason codes then (`why_of`).
        why_after: the same now.
        causes: list of codes a row.
    """
    columns = {
        "change": pa.array([change] * row.num_rows, pa.string()),
        "sample_id": row["sample_id"],
        "label_id": row["label_id"],
        "uri": row["uri"],
        "before": before,
        "after": after,
        "action_before": why_before[0],
        "action_after": why_after[0],
        "reasons_before": why_before[1],
        "reasons_after": why_after[1],
        "reason_codes_before": why_before[2],
        "reason_codes_after": why_after[2],
        "causes": causes,
    }
    table = pa.table(columns).cast(DIFF)
    ids = table["sample_id"]
    if pc.all(pc.less(ids[:-1], ids[1:]), min_count=0).as_py():
        return table
    return table.sort_by([("sample_id", "ascending"), ("label_id", "ascending")])
