"""What changed between two versions, by meaning: rows that came, went, or got another label, box or split."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from curate.manifest.place import Place, place_of
from curate.manifest.read import load_manifest, load_table

CHANGES = (
    "added",
    "removed",
    "relabeled",
    "reboxed",
    "split moved",
    "weight changed",
    "action changed",
    "image changed",
)

_TEXTS = pa.list_(pa.string())
DIFF = pa.schema(
    [
        pa.field("change", pa.string(), nullable=False),  # CHANGES
        pa.field("sample_id", pa.string(), nullable=False),
        pa.field("label_id", pa.string()),
        pa.field("uri", pa.string(), nullable=False),
        pa.field(
            "before", pa.string()
        ),  # label, box, split, weight, action or content_sha256; null where not released
        pa.field("after", pa.string()),
        pa.field("action_before", pa.string()),  # null where the row was not known at all
        pa.field("action_after", pa.string()),
        pa.field("reasons_before", _TEXTS),
        pa.field("reasons_after", _TEXTS),
        pa.field("reason_codes_before", _TEXTS),
        pa.field("reason_codes_after", _TEXTS),
    ]
)

_COLUMNS = ("sample_id", "label_id", "uri", "released_label", "split", "weight", "action", "content_sha256")
_NESTED = ("bbox", "mask", "polygons", "reasons", "reason_codes")
_N_PAIRS = 50


@dataclass(frozen=True, slots=True)
class Diff:
    """What changed from version `before` to version `after`.

    Attributes:
        before: ID.
        after: ID.
        rows: `DIFF`, one per row and change, sorted by change (in the order of `CHANGES`), sample and label id.
        summary: counts by change, the most frequent label changes, totals; plain values.
    """

    before: str
    after: str
    rows: pa.Table
    summary: Mapping[str, Any]

    @property
    def is_empty(self) -> bool:
        """Whether no released row differs."""
        return len(self.rows) == 0


def diff(before: str | Place, after: str | Place) -> Diff:
    """Return what changed in the released rows between two version folders.

    Rows are matched by label id, those without a label by sample id. A row that left `data/` is `removed`; where
    the later version still knows it, action and reasons say why it is out.

    Raises:
        InputError: there is no version at a path.
        VerificationError: a version cannot be read.
    """
    old, new = _Side.of(place_of(before)), _Side.of(place_of(after))
    in_new = pc.index_in(old.keys, value_set=new.keys)
    common_old = np.flatnonzero(pc.is_valid(in_new).to_numpy(zero_copy_only=False))
    common_new = in_new.drop_null().to_numpy().astype(np.int64)
    gone = np.flatnonzero(pc.is_null(in_new).to_numpy(zero_copy_only=False))
    came = np.flatnonzero(pc.invert(pc.is_in(new.keys, value_set=old.keys)).to_numpy(zero_copy_only=False))
    parts = [_added(old, new, came), _removed(old, new, gone)]
    for change, (differs, text) in _COMPARED.items():
        changed = differs(old.data, new.data, common_old, common_new)
        parts.append(_changed(change, text, old, new, common_old[changed], common_new[changed]))
    rows = pa.concat_tables(parts)
    return Diff(old.id, new.id, rows, _summary(old, new, rows))


@dataclass(frozen=True, slots=True)
class _Side:
    id: str
    data: pa.Table
    keys: pa.Array
    out: pa.Table  # action and reasons of what this version excluded
    out_keys: pa.Array

    @classmethod
    def of(cls, version: Place) -> _Side:
        manifest, version_id = load_manifest(version)
        data = load_table(version, manifest, "data", [*_COLUMNS, *_NESTED]).combine_chunks()
        wanted = ["sample_id", "label_id", "action", "reasons", "reason_codes"]
        out = load_table(version, manifest, "excluded", [*wanted, "stage"])
        out = out.filter(pc.equal(out["stage"], "verdict")).combine_chunks()
        return cls(version_id, data, _keys(data), out, _keys(out))


def _keys(table: pa.Table) -> pa.Array:
    keys = pc.coalesce(table["label_id"], pc.binary_join_element_wise("sample", table["sample_id"], ":"))
    return keys.combine_chunks()


def _added(old: _Side, new: _Side, at: NDArray[np.int64]) -> pa.Table:
    why = _why_out(old, new.keys.take(pa.array(at)))
    row = new.data.take(pa.array(at))
    return _table("added", row, pa.nulls(at.size, pa.string()), row["released_label"], why, _why(row))


def _removed(old: _Side, new: _Side, at: NDArray[np.int64]) -> pa.Table:
    why = _why_out(new, old.keys.take(pa.array(at)))
    row = old.data.take(pa.array(at))
    return _table("removed", row, row["released_label"], pa.nulls(at.size, pa.string()), _why(row), why)


def _changed(
    change: str,
    text: Callable[[pa.Table], pa.Array],
    old: _Side,
    new: _Side,
    at_old: NDArray[np.int64],
    at_new: NDArray[np.int64],
) -> pa.Table:
    was, now = old.data.take(pa.array(at_old)), new.data.take(pa.array(at_new))
    return _table(change, now, text(was), text(now), _why(was), _why(now))


def _why(rows: pa.Table) -> list[Any]:
    return [rows["action"], rows["reasons"], rows["reason_codes"]]


def _why_out(side: _Side, keys: pa.Array) -> list[Any]:
    """Return action and reasons that a version gives for rows it does not release; null where it knows nothing."""
    at = pc.index_in(keys, value_set=side.out_keys)
    return [side.out[name].take(at) for name in ("action", "reasons", "reason_codes")]


def _table(
    change: str,
    row: pa.Table,
    before: pa.ChunkedArray | pa.Array,
    after: pa.ChunkedArray | pa.Array,
    why_before: list[Any],
    why_after: list[Any],
) -> pa.Table:
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
    }
    table = pa.table(columns).cast(DIFF)
    return table.sort_by([("sample_id", "ascending"), ("label_id", "ascending")])


def _summary(old: _Side, new: _Side, rows: pa.Table) -> dict[str, Any]:
    counted = {item["values"]: item["counts"] for item in pc.value_counts(rows["change"]).to_pylist()}
    relabeled = rows.filter(pc.equal(rows["change"], "relabeled")).select(["before", "after"])
    pairs = relabeled.group_by(["before", "after"], use_threads=False).aggregate([([], "count_all")]).to_pylist()
    pairs.sort(key=lambda pair: (-pair["count_all"], pair["before"] or "", pair["after"] or ""))
    return {
        "before": old.id,
        "after": new.id,
        "n_rows_before": old.data.num_rows,
        "n_rows_after": new.data.num_rows,
        "changes": {change: counted.get(change, 0) for change in CHANGES},
        "relabeled": [{"from": p["before"], "to": p["after"], "n": p["count_all"]} for p in pairs[:_N_PAIRS]],
    }


Rows = NDArray[np.int64]
Mask = NDArray[np.bool_]


def _differs(column: str) -> Callable[[pa.Table, pa.Table, Rows, Rows], Mask]:
    """Return a comparison of a flat column at matched rows; null equals null, and differs from any value."""

    def compare(old: pa.Table, new: pa.Table, at_old: Rows, at_new: Rows) -> Mask:
        was, now = old[column].take(pa.array(at_old)), new[column].take(pa.array(at_new))
        return _flat_differs(was.combine_chunks(), now.combine_chunks())

    return compare


def _flat_differs(was: pa.Array, now: pa.Array) -> Mask:
    either_null = pc.xor(pc.is_null(was), pc.is_null(now))
    differs: Mask = pc.coalesce(pc.not_equal(was, now), either_null).to_numpy(zero_copy_only=False)
    return differs


def _shape_differs(old: pa.Table, new: pa.Table, at_old: Rows, at_new: Rows) -> Mask:
    """Whether box, mask or polygons differ."""
    was = old.select(["bbox", "mask", "polygons"]).take(pa.array(at_old)).combine_chunks()
    now = new.select(["bbox", "mask", "polygons"]).take(pa.array(at_new)).combine_chunks()
    differs = _list_differs(_one(was["bbox"]), _one(now["bbox"]))
    for part in ("height_px", "width_px", "counts"):
        differs |= _flat_differs(pc.struct_field(_one(was["mask"]), part), pc.struct_field(_one(now["mask"]), part))
    return differs | _list_differs(_one(was["polygons"]), _one(now["polygons"]))


def _list_differs(was: pa.Array, now: pa.Array) -> Mask:
    """Compare lists of (lists of) numbers row by row: nulls, then lengths, then the values of what is left."""
    differs = _flat_differs(pc.list_value_length(was), pc.list_value_length(now))
    left = np.flatnonzero(~differs & pc.is_valid(was).to_numpy(zero_copy_only=False))
    was, now = was.take(pa.array(left)), now.take(pa.array(left))
    parents = pc.list_parent_indices(was).to_numpy()
    inner_was, inner_now = pc.list_flatten(was), pc.list_flatten(now)
    nested = pa.types.is_list(inner_was.type) or pa.types.is_fixed_size_list(inner_was.type)
    inner = _list_differs(inner_was, inner_now) if nested else _flat_differs(inner_was, inner_now)
    differs[left[parents[inner]]] = True
    return differs


def _one(column: pa.ChunkedArray) -> pa.Array:
    return column.combine_chunks()


def _text(column: str) -> Callable[[pa.Table], pa.Array]:
    return lambda rows: pc.cast(rows[column], pa.string())


def _shape_text(rows: pa.Table) -> pa.Array:
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


_COMPARED: dict[str, tuple[Callable[[pa.Table, pa.Table, Rows, Rows], Mask], Callable[[pa.Table], pa.Array]]] = {
    "relabeled": (_differs("released_label"), _text("released_label")),
    "reboxed": (_shape_differs, _shape_text),
    "split moved": (_differs("split"), _text("split")),
    "weight changed": (_differs("weight"), _text("weight")),
    "action changed": (_differs("action"), _text("action")),
    "image changed": (_differs("content_sha256"), _text("content_sha256")),
}
