"""What changed of places beside the labels: boxes that only detectors see, and what nobody vouches for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate.manifest.diff_compare import box_text, mask_text
from curate.manifest.diff_side import Side
from curate.manifest.diff_soft import OBJECTNESS, Form, apart, texts

_SHOWN = 3  # boxes in a text
Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class PlaceChange:
    """What changed in an image, for a row of a diff: words before and after, and codes before and after."""

    sample_id: str
    label_id: str | None
    before: str | None
    after: str | None
    reasons_before: list[str] | None = None
    reasons_after: list[str] | None = None
    codes_before: list[str] | None = None
    codes_after: list[str] | None = None


def teacher_box_changes(old: Side, new: Side, least: float) -> tuple[list[PlaceChange], list[str]]:
    """Return the images that both release whose teacher-only boxes moved by `least` or more, and the causes.

    A box that only one version has is as far as its objectness; one that both have at the same place as far as its
    objectness or its classes.

    Raises:
        VerificationError: a table cannot be read.
    """
    forms = Form.of(old.manifest, "soft"), Form.of(new.manifest, "soft")
    if forms[0] is None or forms[1] is None or not _both_differ(old, new, "soft_boxes"):
        return [], []
    both = _in_both(old, new)
    tables = [_of(side.table("soft_boxes"), both) for side in (old, new)]
    union = list(dict.fromkeys([*forms[0].classes, *forms[1].classes]))
    keys = [_box_keys(table) for table in tables]
    at = pc.index_in(keys[0], value_set=keys[1])
    partner = [pa.array(np.flatnonzero(pc.is_valid(at))), at.drop_null()]
    sides = [table.take(rows) for table, rows in zip(tables, partner, strict=True)]
    distance = apart(sides[0], sides[1], (forms[0], forms[1]), union)
    far = (distance > 0) & (distance >= least)
    moved = set(sides[0]["sample_id"].filter(pa.array(far)).to_pylist())
    for table, own, other in ((tables[0], keys[0], keys[1]), (tables[1], keys[1], keys[0])):
        alone = pc.invert(pc.is_in(own, value_set=other))
        told = pc.and_(
            alone, pa.array([(chance or 0) >= least for chance in table[OBJECTNESS].to_pylist()], pa.bool_())
        )
        moved |= set(table["sample_id"].filter(told).to_pylist())
    words = [
        _box_words(_of(table, pa.array(sorted(moved), pa.string())), form)
        for table, form in zip(tables, forms, strict=True)
        if form
    ]
    none = "no box"
    changes = [PlaceChange(one, None, words[0].get(one, none), words[1].get(one, none)) for one in sorted(moved)]
    return changes, forms[0].causes(forms[1])


def _box_words(table: pa.Table, form: Form) -> dict[str, str]:
    found: dict[str, list[str]] = {}
    for sample, text in zip(table["sample_id"].to_pylist(), texts(table, form), strict=True):
        found.setdefault(sample, []).append(text or "?")
    return {sample: _counted(boxes) for sample, boxes in found.items()}


def _counted(boxes: Sequence[str]) -> str:
    more = f"; and {len(boxes) - _SHOWN} more" if len(boxes) > _SHOWN else ""
    return f"{len(boxes)} box{'es' * (len(boxes) != 1)} ({'; '.join(boxes[:_SHOWN])}{more})"


def ignore_changes(old: Side, new: Side) -> list[tuple[str, PlaceChange]]:
    """Return what is ignored in one version only, in images that both release: (change, what), sorted.

    Raises:
        VerificationError: a table cannot be read.
    """
    if not _both_differ(old, new, "ignore"):
        return []
    both = _in_both(old, new)
    tables = [_of(side.table("ignore"), both).combine_chunks() for side in (old, new)]
    rows = [{_ignore_key(row): row for row in _worded(table)} for table in tables]
    found = [("no longer ignored", _gone(rows[0][key])) for key in rows[0].keys() - rows[1].keys()]
    found += [("ignored", _come(rows[1][key])) for key in rows[1].keys() - rows[0].keys()]
    return sorted(
        found, key=lambda one: (one[1].sample_id, one[1].label_id or "", one[1].before or "", one[1].after or "")
    )


def _worded(table: pa.Table) -> Iterator[Row]:
    nothing = pa.nulls(table.num_rows, pa.int32())
    shapes = mask_text(table.append_column("height_px", nothing).append_column("width_px", nothing)).to_pylist()
    boxes = box_text(table["bbox"]).to_pylist()
    for row, shape, box in zip(table.to_pylist(), shapes, boxes, strict=True):
        where = " ".join(filter(None, [f"at {box}" if box else None, shape]))
        yield {**row, "text": " ".join(filter(None, [row["label"] or "something", where]))}


def _ignore_key(row: Row) -> tuple[Any, ...]:
    mask = row["mask"] and tuple(row["mask"].values())
    polygons = row["polygons"] and tuple(tuple(ring) for ring in row["polygons"])
    return row["sample_id"], row["label_id"], row["label"], row["text"], mask, polygons


def _gone(row: Row) -> PlaceChange:
    codes = {"reasons_before": row["reasons"], "codes_before": row["reason_codes"]}
    return PlaceChange(row["sample_id"], row["label_id"], row["text"], None, **codes)


def _come(row: Row) -> PlaceChange:
    codes = {"reasons_after": row["reasons"], "codes_after": row["reason_codes"]}
    return PlaceChange(row["sample_id"], row["label_id"], None, row["text"], **codes)


def _both_differ(old: Side, new: Side, kind: str) -> bool:
    return old.has(kind) and new.has(kind) and old.parts(kind) != new.parts(kind)


def _in_both(old: Side, new: Side) -> pa.Array:
    ids = [pc.unique(side.table("data", ["sample_id"])["sample_id"]) for side in (old, new)]
    return ids[0].filter(pc.is_in(ids[0], value_set=ids[1]))


def _of(table: pa.Table, sample_ids: pa.Array) -> pa.Table:
    return table.filter(pc.is_in(table["sample_id"], value_set=sample_ids))


def _box_keys(table: pa.Table) -> pa.Array:
    return pc.binary_join_element_wise(table["sample_id"].combine_chunks(), box_text(table["bbox"]), " ")
