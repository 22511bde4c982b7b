"""What nobody vouches for in released images: places and classes that a trainer must not read as "nothing is there"."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate import schema
from curate.ingest.rle import decode_mask, encode_mask
from curate.manifest.tables import IGNORE
from curate.policy import Policy
from curate.verdict_boxes import TRACKS, answered, open_places
from curate.verdict_people import stale_pairs
from curate.verdict_rows import Mask
from curate.verdicts import rule_of_each

NOTHING_THERE = frozenset(
    {"spurious", "duplicate", "duplicate_box", "invalid_box", "invalid_mask", "region_spurious"}
)
_SHOWN = ("sample_id", "label_id", "task", "bbox", "mask", "polygons", "reasons", "reason_codes")
_IN_PART = ("sample_id", "label_id", "task", "given_label", "mask", "given_mask", "reasons", "reason_codes")
READ = {"data": ("content_sha256", *_IN_PART), "excluded": (*_SHOWN, "given_label", "action", "stage")}


def ignored(
    data: pa.Table, excluded: pa.Table, findings: pa.Table, decisions: pa.Table, policy: Policy
) -> pa.Table | None:
    """Return the labels of released images that were held back, and the open places in them; None without any.

    A label is held back where it waits for a person, and where a rule dropped it for another reason than that nothing
    is there (`NOTHING_THERE`): a box of the wrong class is out, the thing stays in the picture. Where a finding says
    that it should be in another place, that place is a row too. What a person dropped is settled. An open place is a
    box (or one class of several) that a finding misses and that policy sends to review without holding the image back
    (`missing_labels: ignore`). What was taken out of a mask that leaves (`manifest.vouched`) is a row too.

    Args:
        data: `tables.DATA`.
        excluded: `tables.EXCLUDED`.
        findings: `schema.FINDINGS` that the verdicts were made from.
        decisions: `tables.DECISIONS` that stand.
        policy: that the verdicts were made by.

    Returns:
        `tables.IGNORE`, sorted by sample, label and finding id.
    """
    images = pc.unique(data["sample_id"])
    rule = rule_of_each(findings, policy.all_rules())
    asked = np.array([one.action for one in policy.all_rules()] + ["keep"])[rule]
    held = _held(images, excluded, findings, asked)
    elsewhere = _elsewhere(held, findings, asked)
    rows = pa.concat_tables(
        [held, elsewhere, _in_part(data), _open(images, data, findings, decisions, asked, policy)]
    )
    if not rows.num_rows:
        return None
    every = pa.array(["\0".join(ids) for ids in rows["reasons"].to_pylist()], pa.string())
    keys = [(name, "ascending") for name in ("sample_id", "label_id", "every")]
    return rows.append_column("every", every).sort_by(keys).drop_columns(["every"]).combine_chunks()


def _held(images: pa.Array, excluded: pa.Table, findings: pa.Table, asked: np.ndarray) -> pa.Table:
    """Return the labels with a place, or of several an image, that were taken out of released images."""
    placed = pc.or_(_is_placed(excluded), pc.equal(excluded["task"], schema.MULTI_LABEL))
    inside = pc.and_(pc.is_in(excluded["sample_id"], value_set=images), pc.equal(excluded["stage"], "verdict"))
    inside = pc.fill_null(pc.and_(pc.and_(inside, placed), pc.is_valid(excluded["label_id"])), False)  # noqa: FBT003
    rows = excluded.filter(inside)
    dropping = findings.filter(pa.array(asked == "drop"))
    there = dropping.filter(pc.invert(pc.is_in(dropping["issue"], value_set=pa.array(sorted(NOTHING_THERE)))))
    by_rule = pc.and_(_by_rule(rows), pc.is_in(rows["label_id"], value_set=there["label_id"].combine_chunks()))
    # of several labels, one that a rule dropped was found not to be there
    by_rule = pc.and_(by_rule, pc.not_equal(rows["task"], schema.MULTI_LABEL))
    rows = rows.filter(pc.or_(pc.equal(rows["action"], "review"), by_rule))
    columns = {name: rows[name] for name in _SHOWN} | {"label": rows["given_label"]}
    return pa.table(columns).select(IGNORE.names).cast(IGNORE)


def _in_part(data: pa.Table) -> pa.Table:
    """Return what was taken out of masks that leave; nothing in versions of a curate that took out none."""
    if "given_mask" not in data.column_names:
        return IGNORE.empty_table()
    rows = data.filter(pc.is_valid(data["given_mask"]))
    masks = zip(rows["given_mask"].to_pylist(), rows["mask"].to_pylist(), strict=True)
    columns = {name: rows[name] for name in ("sample_id", "label_id", "task", "reasons", "reason_codes")} | {
        "label": rows["given_label"],
        "bbox": pa.nulls(rows.num_rows, schema.BBOX),
        "mask": pa.array(
            [
                encode_mask(decode_mask(given).astype(bool) & ~decode_mask(left).astype(bool))
                for given, left in masks
            ],
            schema.MASK_RLE,
        ),
        "polygons": pa.nulls(rows.num_rows, schema.POLYGONS),
    }
    return pa.table(columns).select(IGNORE.names).cast(IGNORE)


def _elsewhere(held: pa.Table, findings: pa.Table, asked: np.ndarray) -> pa.Table:
    """Return where findings say that held-back boxes should be: if they are right, the thing is there."""
    out = pa.array(np.isin(asked, ("review", "drop")))
    moved = findings.filter(pc.and_(out, pc.is_valid(findings["suggested_bbox"])))
    at = pc.index_in(moved["label_id"], value_set=held["label_id"].combine_chunks(), skip_nulls=True)
    moved, rows = moved.filter(pc.is_valid(at)), held.take(at.drop_null())
    n = moved.num_rows
    columns = {name: rows[name] for name in ("sample_id", "label_id", "task", "label")} | {
        "bbox": moved["suggested_bbox"],
        "mask": pa.nulls(n, schema.MASK_RLE),
        "polygons": pa.nulls(n, schema.POLYGONS),
        "reasons": _alone(moved["finding_id"]),
        "reason_codes": _alone(moved["reason_code"]),
    }
    return pa.table(columns).cast(IGNORE)


def _by_rule(rows: pa.Table) -> pa.Array:
    """Return which rows no person decided."""
    codes = rows["reason_codes"].combine_chunks()
    said = pc.starts_with(pc.list_flatten(codes), "decision_").to_numpy(zero_copy_only=False)
    by_people = np.zeros(len(codes), dtype=bool)
    by_people[pc.list_parent_indices(codes).to_numpy()[said]] = True
    return pa.array((np.asarray(rows["action"].to_pylist(), dtype=object) == "drop") & ~by_people)


def _open(
    images: pa.Array, data: pa.Table, findings: pa.Table, decisions: pa.Table, asked: np.ndarray, policy: Policy
) -> pa.Table:
    """Return the places that findings miss something at, of released images."""
    if policy.missing_labels != "ignore":
        return IGNORE.empty_table()
    samples = data.select(["sample_id", "content_sha256"]).combine_chunks()
    waits: Mask = open_places(findings) & (asked == "review") & ~answered(findings, decisions, samples)
    rows = findings.filter(pa.array(waits))
    still = pc.and_(
        pc.is_in(rows["sample_id"], value_set=images), pc.invert(_kept_by_people(rows, decisions, samples))
    )
    rows = rows.filter(still)
    n = rows.num_rows
    boxed = pc.is_valid(rows["suggested_bbox"])
    columns = {
        "sample_id": rows["sample_id"],
        "label_id": pa.nulls(n, pa.string()),
        "task": pc.if_else(boxed, _task_of(rows["issue"]), schema.MULTI_LABEL),
        "label": rows["suggested_label"],
        "bbox": rows["suggested_bbox"],
        "mask": pa.nulls(n, schema.MASK_RLE),
        "polygons": pa.nulls(n, schema.POLYGONS),
        "reasons": _alone(rows["finding_id"]),
        "reason_codes": _alone(rows["reason_code"]),
    }
    return pa.table(columns).cast(IGNORE)


def _task_of(issue: pa.ChunkedArray) -> pa.ChunkedArray:
    return pc.if_else(pc.starts_with(issue, TRACKS), "tracking", "detection")


def _kept_by_people(rows: pa.Table, decisions: pa.Table, samples: pa.Table) -> pa.ChunkedArray:
    """Return which findings are of an image that a person decided as a whole, for these bytes: its labels are all."""
    whole = decisions.filter(
        pc.and_(pc.is_null(decisions["label_id"]), pc.not_equal(decisions["decision"], "note"))
    )
    at = pc.index_in(whole["sample_id"], value_set=samples["sample_id"])
    whole, row = whole.filter(pc.is_valid(at)), at.drop_null().to_numpy().astype(np.int64)
    stale = stale_pairs(whole, np.arange(whole.num_rows), samples["content_sha256"], row)
    return pc.is_in(rows["sample_id"], value_set=whole.filter(pa.array(~stale))["sample_id"].combine_chunks())


def _is_placed(rows: pa.Table) -> pa.ChunkedArray:
    return pc.or_(pc.is_valid(rows["bbox"]), pc.or_(pc.is_valid(rows["mask"]), pc.is_valid(rows["polygons"])))


def _alone(column: pa.ChunkedArray) -> pa.ListArray:
    return pa.ListArray.from_arrays(pa.array(np.arange(len(column) + 1, dtype=np.int32)), column.combine_chunks())
