"""What changed between two versions, by meaning: rows, what they are labeled, and what teachers say beside them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from curate.manifest.diff_beside import Beside, map_changes, of_images, soft_changes
from curate.manifest.diff_causes import (
    Alike,
    causes_of,
    codes_that_changed,
    decided,
    first_of,
    no_longer,
    policy_cause,
    source_cause,
    standing_alike,
)
from curate.manifest.diff_compare import box_text, flat, map_text, mask_text
from curate.manifest.diff_match import Changed, changed_rows, keys_of
from curate.manifest.diff_places import PlaceChange, ignore_changes, teacher_box_changes
from curate.manifest.diff_rows import SHAPES, TEXTS, change_rows, shapes_of, why_of
from curate.manifest.diff_side import Side
from curate.manifest.diff_soft import LEAST
from curate.manifest.diff_summary import summary_of
from curate.manifest.place import Place, place_of

_AT_ONCE = max(2, min(4, os.cpu_count() or 1))  # threads that read and compare


@dataclass(frozen=True, slots=True)
class Diff:
    """What changed from version `before` to version `after`.

    Attributes:
        before: ID.
        after: ID.
        rows: `DIFF`, one per row and change, sorted by change (in the order of `CHANGES`), sample and label id.
        summary: counts by change, the most frequent label changes, totals, how many soft labels and class maps were
            compared and differ, and which tables beside `data/` differ (rows before and after); plain values.
        shapes: `SHAPES` of the rows that are remasked.
    """

    before: str
    after: str
    rows: pa.Table
    summary: Mapping[str, Any]
    shapes: pa.Table = field(default_factory=SHAPES.empty_table)

    @property
    def is_empty(self) -> bool:
        """Whether nothing that is told differs."""
        return len(self.rows) == 0


def diff(before: str | Place, after: str | Place, *, soft_from: float = LEAST) -> Diff:
    """Return what changed between two version folders: released rows, their soft labels, and what stands beside them.

    Rows are matched by label id, those without a label by sample id. A row that left `data/` is `removed`; where
    the later version still knows it, action and reasons say why it is out. Soft labels and class maps of rows that
    came or went are not told, nor is what is ignored in images that only one version releases.

    Args:
        before: the earlier version.
        after: the later one.
        soft_from: distance (`diff_soft.apart`) from which a soft label, class map or box that only detectors see is
            told; smaller ones are counted. 0 tells everything that differs.

    Raises:
        InputError: there is no version at a path.
        VerificationError: a version cannot be read.
    """
    with ThreadPoolExecutor(max_workers=_AT_ONCE) as pool:
        old, new = pool.map(Side.of, (place_of(before), place_of(after)))
        alike = standing_alike((old.version, old.manifest), (new.version, new.manifest))
        same = old.parts("data") & new.parts("data")
        changed = changed_rows(old.groups("data", but=same), new.groups("data", but=same), pool)
        makers: list[Callable[[], pa.Table]] = [
            lambda: _added(old, changed.added, alike),
            lambda: _removed(new, changed.removed, alike),
            *(partial(_differing, change, changed, alike) for change in _TEXT),
        ]
        parts = list(pool.map(lambda make: make(), makers))
        compared = {
            "soft label changed": soft_changes(old, new, pool, soft_from),
            "class map changed": map_changes(old, new, pool, soft_from),
        }
    parts += [_beside_rows(change, found) for change, found in compared.items() if found]
    parts += _place_rows(old, new, alike, soft_from)
    rows = pa.concat_tables(parts)
    return Diff(old.id, new.id, rows, summary_of(old, new, rows, compared, soft_from), shapes_of(changed))


def _beside_rows(change: str, found: Beside) -> pa.Table:
    return change_rows(change, found.after, *found.texts, why_of(found.before), why_of(found.after), found.causes)


def _place_rows(old: Side, new: Side, alike: Alike, least: float) -> Iterator[pa.Table]:
    """Yield what changed of teacher-only boxes and of what is ignored."""
    boxes, causes = teacher_box_changes(old, new, least)
    asked = {side.manifest["inputs"].get("detectors") for side in (old, new)}
    if causes == ["answers_changed"] and len(asked) == 1 and alike.other_policy:
        causes = ["policy_changed"]  # the same answers: which boxes stand beside the labels is what changed
    yield _places("teacher boxes changed", new, boxes, pa.array([causes] * len(boxes), TEXTS))
    ignored = ignore_changes(old, new)
    for change in ("ignored", "no longer ignored"):
        of_kind = [one for kind, one in ignored if kind == change]
        reasons = pa.array([one.reasons_after or one.reasons_before or [] for one in of_kind], TEXTS)
        by_policy = policy_cause(alike, reasons)
        came, went = (
            (pa.array(ids, TEXTS), pa.array(codes, TEXTS))
            for ids, codes in (
                ([one.reasons_after for one in of_kind], [one.codes_after for one in of_kind]),
                ([one.reasons_before for one in of_kind], [one.codes_before for one in of_kind]),
            )
        )
        newly, no_more = codes_that_changed(alike, *came), no_longer(codes_that_changed(alike, *went))
        left = source_cause("action changed", None, len(of_kind))
        yield _places(change, new, of_kind, first_of(by_policy, newly, no_more, came[1], no_longer(went[1]), left))


def _places(change: str, side: Side, found: Sequence[PlaceChange], causes: pa.Array) -> pa.Table:
    rows = of_images(side, [one.sample_id for one in found])
    rows = rows.set_column(1, "label_id", pa.array([one.label_id for one in found], pa.string()))
    texts = [pa.array([getattr(one, name) for one in found], pa.string()) for name in ("before", "after")]
    why = [
        [
            pa.nulls(len(found), pa.string()),
            *(pa.array([getattr(one, f"{name}_{when}") for one in found], TEXTS) for name in ("reasons", "codes")),
        ]
        for when in ("before", "after")
    ]
    return change_rows(change, rows, texts[0], texts[1], why[0], why[1], causes)


def _added(old: Side, row: pa.Table, alike: Alike) -> pa.Table:
    why = _why_out(old, keys_of(row))
    nothing = pa.nulls(row.num_rows, pa.string())
    # what held it back is found no more, or a person or the policy let it go; else nobody knew the row
    left = pa.array([["policy_changed"]] * row.num_rows, pa.list_(pa.string()))
    by_policy = policy_cause(alike, why[1], row["reasons"], known=pc.is_valid(why[0]))
    is_unknown = pc.is_null(why[0])
    unknown = first_of(
        pc.if_else(is_unknown, decided(row["reason_codes"]), pa.scalar(None, TEXTS)),
        source_cause("added", is_unknown),
    )
    came, went = (codes_that_changed(alike, *one) for one in ((row["reasons"], row["reason_codes"]), why[1:]))
    causes = first_of(by_policy, unknown, came, no_longer(went), row["reason_codes"], left)
    return change_rows("added", row, nothing, row["released_label"], why, why_of(row), causes)


def _removed(new: Side, row: pa.Table, alike: Alike) -> pa.Table:
    why = _why_out(new, keys_of(row))
    left = pa.array([["policy_changed"]] * row.num_rows, pa.list_(pa.string()))
    by_policy = policy_cause(alike, row["reasons"], why[1], known=pc.is_valid(why[0]))
    came, went = (codes_that_changed(alike, *one) for one in (why[1:], (row["reasons"], row["reason_codes"])))
    gone = source_cause("removed", pc.is_null(why[0]))
    causes = first_of(by_policy, came, gone, no_longer(went), why[2], left)
    return change_rows(
        "removed", row, row["released_label"], pa.nulls(row.num_rows, pa.string()), why_of(row), why, causes
    )


def _differing(change: str, changed: Changed, alike: Alike) -> pa.Table:
    (was, now), text = changed.of(change), _TEXT[change]
    causes = causes_of(change, was, now, alike)
    return change_rows(change, now, text(was), text(now), why_of(was), why_of(now), causes)


def _why_out(side: Side, keys: pa.Array) -> list[Any]:
    """Return action and reasons that a version gives for rows it does not release; null where it knows nothing."""
    at = pc.index_in(keys, value_set=side.out_keys)
    return [side.out[name].take(at) for name in ("action", "reasons", "reason_codes")]


def _text(column: str) -> Callable[[pa.Table], pa.Array]:
    return lambda rows: pc.cast(rows[column], pa.string())


def _joined(one: pa.Array, other: pa.Array) -> pa.Array:
    """Return both texts with a comma in between where both are there."""
    comma = pc.if_else(pc.and_(pc.not_equal(one, ""), pc.not_equal(other, "")), ", ", "")
    return pc.binary_join_element_wise(one, other, comma)


_TEXT: dict[str, Callable[[pa.Table], pa.Array]] = {
    "relabeled": _text("released_label"),
    "reboxed": lambda rows: box_text(rows["bbox"]),
    "remasked": mask_text,
    "track changed": _text("track_id"),
    "split moved": _text("split"),
    "weight changed": _text("weight"),
    "action changed": _text("action"),
    "image changed": _text("content_sha256"),
    "attributes changed": lambda rows: _joined(map_text(rows["attributes"]), map_text(rows["groups"])),
    "flags changed": lambda rows: pc.binary_join(flat(rows["flags"]), ", "),
    "license changed": _text("license"),
}
