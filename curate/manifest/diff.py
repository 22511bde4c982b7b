"""What changed between two versions, by meaning: rows that came, went, or got another label, box or split."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from curate.manifest.diff_causes import causes_of, first_of, no_longer, policy_cause, source_cause, standing_alike
from curate.manifest.diff_compare import shape_text
from curate.manifest.diff_match import Changed, changed_rows, keys_of
from curate.manifest.place import Place, place_of
from curate.manifest.read import load_manifest, load_table
from curate.manifest.row_groups import RowGroup, row_groups

CHANGES = (
    "added",
    "removed",
    "relabeled",
    "reboxed",
    "track changed",
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
        ),  # label, box, track id, split, weight, action or content_sha256; null where not released
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

_AT_ONCE = max(2, min(4, os.cpu_count() or 1))  # threads that read and compare
_N_PAIRS = 50


@dataclass(frozen=True, slots=True)
class Diff:
    """What changed from version `before` to version `after`.

    Attributes:
        before: ID.
        after: ID.
        rows: `DIFF`, one per row and change, sorted by change (in the order of `CHANGES`), sample and label id.
        summary: counts by change, the most frequent label changes, totals, and which tables beside `data/` differ
            (rows before and after); plain values.
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
    with ThreadPoolExecutor(max_workers=_AT_ONCE) as pool:
        old, new = pool.map(_Side.of, (place_of(before), place_of(after)))
        alike = standing_alike((old.version, old.manifest), (new.version, new.manifest))
        same = old.parts & new.parts
        changed = changed_rows(old.groups(but=same), new.groups(but=same), pool)
        makers: list[Callable[[], pa.Table]] = [
            lambda: _added(old, changed.added, alike),
            lambda: _removed(new, changed.removed, alike),
            *(partial(_differing, change, changed, alike) for change in _TEXT),
        ]
        parts = list(pool.map(lambda make: make(), makers))
    rows = pa.concat_tables(parts)
    return Diff(old.id, new.id, rows, _summary(old, new, rows))


@dataclass(frozen=True, slots=True)
class _Side:
    id: str
    version: Place
    manifest: Mapping[str, Any]
    out: pa.Table  # action and reasons of what this version excluded
    out_keys: pa.Array

    @classmethod
    def of(cls, version: Place) -> _Side:
        manifest, version_id = load_manifest(version)
        wanted = ["sample_id", "label_id", "action", "reasons", "reason_codes"]
        out = load_table(version, manifest, "excluded", [*wanted, "stage"])
        out = out.filter(pc.equal(out["stage"], "verdict")).combine_chunks()
        return cls(version_id, version, manifest, out, keys_of(out))

    @property
    def parts(self) -> set[str]:
        """The sha256 of each part of data/."""
        return {entry["sha256"] for entry in self.manifest["files"] if entry["path"].startswith("data/")}

    def groups(self, *, but: set[str]) -> list[RowGroup]:
        """Return the row groups of data/, without parts of these sha256: what both versions have is in no diff."""
        left_out = {entry["path"] for entry in self.manifest["files"] if entry["sha256"] in but}
        return row_groups(self.version, self.manifest, "data", but=left_out)


def _added(old: _Side, row: pa.Table, alike: pa.Array) -> pa.Table:
    why = _why_out(old, keys_of(row))
    nothing = pa.nulls(row.num_rows, pa.string())
    # what held it back is found no more, or a person or the policy let it go; else nobody knew the row
    left = pa.array([["policy_changed"]] * row.num_rows, pa.list_(pa.string()))
    by_policy = policy_cause(alike, why[1], row["reasons"], known=pc.is_valid(why[0]))
    unknown = source_cause("added", pc.is_null(why[0]))
    causes = first_of(by_policy, row["reason_codes"], no_longer(why[2]), unknown, left)
    return _table("added", row, nothing, row["released_label"], why, _why(row), causes)


def _removed(new: _Side, row: pa.Table, alike: pa.Array) -> pa.Table:
    why = _why_out(new, keys_of(row))
    left = pa.array([["policy_changed"]] * row.num_rows, pa.list_(pa.string()))
    by_policy = policy_cause(alike, row["reasons"], why[1], known=pc.is_valid(why[0]))
    causes = first_of(by_policy, why[2], source_cause("removed", pc.is_null(why[0])), left)
    return _table(
        "removed", row, row["released_label"], pa.nulls(row.num_rows, pa.string()), _why(row), why, causes
    )


def _differing(change: str, changed: Changed, alike: pa.Array) -> pa.Table:
    (was, now), text = changed.of(change), _TEXT[change]
    causes = causes_of(change, was, now, alike)
    return _table(change, now, text(was), text(now), _why(was), _why(now), causes)


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
    ids = table["sample_id"]
    if pc.all(pc.less(ids[:-1], ids[1:]), min_count=0).as_py():
        return table
    return table.sort_by([("sample_id", "ascending"), ("label_id", "ascending")])


def _summary(old: _Side, new: _Side, rows: pa.Table) -> dict[str, Any]:
    counted = {item["values"]: item["counts"] for item in pc.value_counts(rows["change"]).to_pylist()}
    relabeled = rows.filter(pc.equal(rows["change"], "relabeled")).select(["before", "after"])
    pairs = relabeled.group_by(["before", "after"], use_threads=False).aggregate([([], "count_all")]).to_pylist()
    was, now = old.manifest["inputs"], new.manifest["inputs"]
    pairs.sort(key=lambda pair: (-pair["count_all"], pair["before"] or "", pair["after"] or ""))
    return {
        "before": old.id,
        "after": new.id,
        "n_rows_before": old.manifest["tables"]["data"]["rows"],
        "n_rows_after": new.manifest["tables"]["data"]["rows"],
        "beside": {kind: told for kind in _BESIDE if (told := _beside(old.manifest, new.manifest, kind))},
        "changes": {change: counted.get(change, 0) for change in CHANGES},
        "inputs_changed": sorted(name for name in {*was, *now} if was.get(name) != now.get(name)),
        "relabeled": [{"from": p["before"], "to": p["after"], "n": p["count_all"]} for p in pairs[:_N_PAIRS]],
    }


def _beside(old: Mapping[str, Any], new: Mapping[str, Any], kind: str) -> dict[str, int] | None:
    """Return how many rows a table had and has; None where both versions hold the same bytes of it."""
    parts = [
        sorted(entry["sha256"] for entry in manifest["files"] if entry["path"].startswith(f"{kind}/"))
        for manifest in (old, new)
    ]
    if parts[0] == parts[1]:
        return None
    was, now = (int(manifest["tables"].get(kind, {}).get("rows", 0)) for manifest in (old, new))
    return {"n_rows_before": was, "n_rows_after": now}


def _text(column: str) -> Callable[[pa.Table], pa.Array]:
    return lambda rows: pc.cast(rows[column], pa.string())


# what is not compared row by row, but is no small thing if it differs
_BESIDE = ("excluded", "ignore", "soft", "soft_boxes", "soft_masks")

_TEXT: dict[str, Callable[[pa.Table], pa.Array]] = {
    "relabeled": _text("released_label"),
    "reboxed": shape_text,
    "track changed": _text("track_id"),
    "split moved": _text("split"),
    "weight changed": _text("weight"),
    "action changed": _text("action"),
    "image changed": _text("content_sha256"),
}
