"""What changed between two versions, by meaning: rows that came, went, or got another label, box or split."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from curate.manifest.diff_causes import causes_of, first_of, no_longer, policy_cause, source_cause, standing_alike
from curate.manifest.diff_compare import Mask, box_differs, flat_differs, list_differs, shape_text
from curate.manifest.place import Place, place_of
from curate.manifest.read import load_manifest, load_table

Rows = NDArray[np.int64]

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
        pa.field("causes", _TEXTS),  # codes: reason codes of findings and decisions, or one of SOURCE_CAUSES
    ]
)

_COLUMNS = ("sample_id", "label_id", "uri", "released_label", "split", "weight", "action", "content_sha256")
_NESTED = ("bbox", "mask", "polygons", "reasons", "reason_codes")
_GIVEN = {"relabeled": "given_label", "reboxed": "given_bbox"}
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
    with ThreadPoolExecutor(max_workers=2) as pool:
        old, new = pool.map(_Side.of, (place_of(before), place_of(after)))
    alike = standing_alike(place_of(before), place_of(after))
    matched = _match(old, new)
    parts = [_added(old, new, matched.came, alike), _removed(old, new, matched.gone, alike)]
    for change, (differs, text) in _COMPARED.items():
        at = np.flatnonzero(differs(matched))
        was, now = _picked(old.data, matched.at_old[at]), _picked(new.data, matched.at_new[at])
        causes = causes_of(change, was, now, alike)
        parts.append(_table(change, now, text(was), text(now), _why(was), _why(now), causes))
    rows = pa.concat_tables(parts)
    return Diff(old.id, new.id, rows, _summary(old, new, rows))


@dataclass(frozen=True, slots=True)
class _Matched:
    """Rows of both versions that are about the same label, in the same order; and those that have no partner."""

    old: _Side
    new: _Side
    at_old: Rows
    at_new: Rows
    gone: Rows
    came: Rows

    def pair(self, column: str) -> tuple[pa.ChunkedArray, pa.ChunkedArray]:
        """Return a column of the matched rows of both versions."""
        return _picked(self.old.data[column], self.at_old), _picked(self.new.data[column], self.at_new)


def _picked(values: Any, at: Rows) -> Any:  # noqa: ANN401 - a table or a column
    """Take, by a filter where the order stays (releases are sorted, so it does): several times as fast."""
    if not bool((at[1:] > at[:-1]).all()):
        return values.take(pa.array(at))
    if at.size == len(values):
        return values
    chosen = np.zeros(len(values), dtype=np.bool_)
    chosen[at] = True
    return values.filter(pa.array(chosen))


def _match(old: _Side, new: _Side) -> _Matched:
    """Match the rows by key; a key stands once in a version."""
    if old.keys.equals(new.keys):
        every, none = np.arange(len(old.keys)), np.zeros(0, dtype=np.int64)
        return _Matched(old, new, every, every, none, none)
    in_new = pc.fill_null(pc.index_in(old.keys, value_set=new.keys), -1).to_numpy().astype(np.int64)
    at_old = np.flatnonzero(in_new >= 0)
    at_new = in_new[at_old]
    partner = np.zeros(len(new.keys), dtype=np.bool_)
    partner[at_new] = True
    return _Matched(old, new, at_old, at_new, np.flatnonzero(in_new < 0), np.flatnonzero(~partner))


@dataclass(frozen=True, slots=True)
class _Side:
    id: str
    inputs: Mapping[str, str]
    data: pa.Table
    keys: pa.Array
    out: pa.Table  # action and reasons of what this version excluded
    out_keys: pa.Array

    @classmethod
    def of(cls, version: Place) -> _Side:
        manifest, version_id = load_manifest(version)
        data = load_table(version, manifest, "data", [*_COLUMNS, *_NESTED, *_GIVEN.values()])
        wanted = ["sample_id", "label_id", "action", "reasons", "reason_codes"]
        out = load_table(version, manifest, "excluded", [*wanted, "stage"])
        out = out.filter(pc.equal(out["stage"], "verdict")).combine_chunks()
        return cls(version_id, manifest["inputs"], data, _keys(data), out, _keys(out))


def _keys(table: pa.Table) -> pa.Array:
    if not table["label_id"].null_count:
        return table["label_id"].combine_chunks()
    keys = pc.coalesce(table["label_id"], pc.binary_join_element_wise("sample", table["sample_id"], ":"))
    return keys.combine_chunks()


def _added(old: _Side, new: _Side, at: Rows, alike: pa.Array) -> pa.Table:
    why = _why_out(old, new.keys.take(pa.array(at)))
    row = _picked(new.data, at)
    nothing = pa.nulls(at.size, pa.string())
    # what held it back is found no more, or a person or the policy let it go; else nobody knew the row
    left = pa.array([["policy_changed"]] * at.size, pa.list_(pa.string()))
    by_policy = policy_cause(alike, why[1], row["reasons"], known=pc.is_valid(why[0]))
    unknown = source_cause("added", pc.is_null(why[0]))
    causes = first_of(by_policy, row["reason_codes"], no_longer(why[2]), unknown, left)
    return _table("added", row, nothing, row["released_label"], why, _why(row), causes)


def _removed(old: _Side, new: _Side, at: Rows, alike: pa.Array) -> pa.Table:
    why = _why_out(new, old.keys.take(pa.array(at)))
    row = _picked(old.data, at)
    left = pa.array([["policy_changed"]] * at.size, pa.list_(pa.string()))
    by_policy = policy_cause(alike, row["reasons"], why[1], known=pc.is_valid(why[0]))
    causes = first_of(by_policy, why[2], source_cause("removed", pc.is_null(why[0])), left)
    return _table("removed", row, row["released_label"], pa.nulls(at.size, pa.string()), _why(row), why, causes)


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
    causes: pa.Array,
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
        "causes": causes,
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
        "inputs_changed": sorted(
            name for name in {*old.inputs, *new.inputs} if old.inputs.get(name) != new.inputs.get(name)
        ),
        "relabeled": [{"from": p["before"], "to": p["after"], "n": p["count_all"]} for p in pairs[:_N_PAIRS]],
    }


def _differs(column: str) -> Callable[[_Matched], Mask]:
    """Return a comparison of a flat column at matched rows; null equals null, and differs from any value."""
    return lambda matched: flat_differs(*matched.pair(column))


def _shape_differs(matched: _Matched) -> Mask:
    """Whether box, mask or polygons differ."""
    differs = box_differs(*(side.combine_chunks() for side in matched.pair("bbox")))
    was, now = matched.pair("mask")
    if was.null_count < len(was) or now.null_count < len(now):
        for part in ("height_px", "width_px", "counts"):
            differs |= flat_differs(pc.struct_field(was, part), pc.struct_field(now, part))
    was, now = matched.pair("polygons")
    if was.null_count < len(was) or now.null_count < len(now):
        differs |= list_differs(was.combine_chunks(), now.combine_chunks())
    return differs


def _text(column: str) -> Callable[[pa.Table], pa.Array]:
    return lambda rows: pc.cast(rows[column], pa.string())


_COMPARED: dict[str, tuple[Callable[[_Matched], Mask], Callable[[pa.Table], pa.Array]]] = {
    "relabeled": (_differs("released_label"), _text("released_label")),
    "reboxed": (_shape_differs, shape_text),
    "split moved": (_differs("split"), _text("split")),
    "weight changed": (_differs("weight"), _text("weight")),
    "action changed": (_differs("action"), _text("action")),
    "image changed": (_differs("content_sha256"), _text("content_sha256")),
}
