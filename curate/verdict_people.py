"""What people decided, spread over the rows: the latest decision of each that was made for these bytes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate import schema
from curate.verdict_rows import DROP, KEEP, RELABEL, REVIEW, Floats, Ints, Mask, equals_word, pairs_of, take_or_null

STALE = "decision_stale"
WITHOUT_LABEL = "decision_without_label"
WITHOUT_SUGGESTION = "decision_without_suggestion"
WITHOUT_TARGET = "decision_without_target"
BOX_MOVED = "decision_box_moved"
BOX_ADDED = "decision_box_added"

WITHDRAWS = "withdraws decision "  # a note whose `why` is this and an id takes that decision back


def standing(decisions: pa.Table) -> pa.Table:
    """Return what a ledger still says, in its order: without what was withdrawn, and without plain notes.

    Notes that hold a box (`to_bbox`: moved, or added where they name a class too) stay. This column and `to_track_id`
    are added where they are absent.
    """
    for name in ("to_bbox", "to_track_id"):
        if name not in decisions.column_names:
            kind = schema.DECISIONS.field(name).type
            decisions = decisions.append_column(name, pa.nulls(decisions.num_rows, kind))
    is_note = pc.equal(decisions["decision"], "note")
    keeps = pc.or_(pc.invert(is_note), pc.is_valid(decisions["to_bbox"]))
    if "why" in decisions.column_names:
        withdraws = pc.and_(is_note, pc.fill_null(pc.starts_with(decisions["why"], WITHDRAWS), False))  # noqa: FBT003
        gone = pc.utf8_slice_codeunits(decisions["why"].filter(withdraws), len(WITHDRAWS))
        keeps = pc.and_not(keeps, pc.is_in(decisions["decision_id"], value_set=gone.combine_chunks()))
    return decisions.filter(keeps)


@dataclass(frozen=True, slots=True)
class People:
    """(decision, row) pairs in ledger order.

    Attributes:
        decisions: what stands, see `standing`.
        decision: position in `decisions`, by pair.
        row: by pair.
        stale: by pair: made for other bytes.
        decides: by pair: not stale, and no mere note.
        last: by row: the decision that applies, -1 without one.
    """

    decisions: pa.Table
    decision: Ints
    row: Ints
    stale: Mask
    decides: Mask
    last: Ints

    @classmethod
    def of(cls, decisions: pa.Table, rows: pa.Table) -> People:
        """Spread a ledger over the rows."""
        decisions = standing(decisions)
        decision, row = pairs_of(decisions, rows)
        order = np.lexsort((decision, row))
        decision, row = decision[order], row[order]
        stale = stale_pairs(decisions, decision, rows["content_sha256"], row)
        decides = ~stale & ~equals_word(decisions["decision"].combine_chunks(), "note")[decision]
        last = np.full(rows.num_rows, -1, dtype=np.int64)
        np.maximum.at(last, row[decides], decision[decides])
        return cls(decisions, decision, row, stale, decides, last)

    @property
    def drops(self) -> Mask:
        """(rows,) whether the decision that applies drops it."""
        return self._is("drop")

    def overrule(
        self, rows: pa.Table, suggested: pa.Array, action: Ints, weight: Floats, released: pa.Array
    ) -> tuple[Ints, Floats, pa.Array]:
        """Return action, weight and label after the decisions.

        `suggested` is the label that an accept takes where the decision itself names none, by row.
        """
        given = rows["label"].combine_chunks()
        wanted = self._wanted(suggested)
        takes, drops = self._takes(), self.drops
        same = pc.fill_null(pc.equal(wanted, given), False).to_numpy(zero_copy_only=False)  # noqa: FBT003
        verdict = np.full(rows.num_rows, KEEP, dtype=np.int64)
        verdict[takes & ~same] = RELABEL
        verdict[takes & (pc.is_null(wanted).to_numpy(zero_copy_only=False) | self._many(rows))] = REVIEW
        verdict[drops] = DROP
        person = pc.if_else(pa.array(verdict == RELABEL), wanted, given)
        decided = self.last >= 0
        return (
            np.where(decided, verdict, action),
            np.where(decided, 1.0, weight),
            pc.if_else(pa.array(decided), person, released),
        )

    def reason_codes(self, rows: pa.Table, suggested: pa.Array) -> pa.Array:
        """Return the reason code of each pair."""
        kind = take_or_null(self.decisions["decision"], self.decision)
        moves = pc.is_valid(take_or_null(self.decisions["label_id"], self.decision))
        moves = pc.and_(moves, pc.is_null(take_or_null(self.decisions["to_label"], self.decision)))
        code = pc.binary_join_element_wise("decision", kind, "_")
        code = pc.if_else(pc.equal(kind, "note"), pc.if_else(moves, BOX_MOVED, BOX_ADDED), code)
        applied = self.decides & (self.last[self.row] == self.decision) & self._takes()[self.row]
        empty = applied & pc.is_null(self._wanted(suggested)).to_numpy(zero_copy_only=False)[self.row]
        nothing = pc.if_else(pc.equal(kind, "accept"), WITHOUT_SUGGESTION, WITHOUT_LABEL)
        code = pc.if_else(pa.array(empty), nothing, code)
        code = pc.if_else(pa.array(applied & self._many(rows)[self.row]), WITHOUT_TARGET, code)
        return pc.if_else(pa.array(self.stale), STALE, code)

    def _wanted(self, suggested: pa.Array) -> pa.Array:
        wanted = take_or_null(self.decisions["to_label"], self.last)
        return pc.if_else(pa.array(self._is("accept")), pc.coalesce(wanted, suggested), wanted)

    def _takes(self) -> Mask:
        return self._is("accept") | self._is("relabel")

    def _is(self, word: str) -> Mask:
        return equals_word(take_or_null(self.decisions["decision"], self.last), word)

    def _many(self, rows: pa.Table) -> Mask:
        """Whether the row's decision is about a sample that has several labels."""
        whole = pc.is_null(take_or_null(self.decisions["label_id"], self.last)).to_numpy(zero_copy_only=False)
        sample = rows["sample_id"].combine_chunks().dictionary_encode().indices.to_numpy()
        many: Mask = (self.last >= 0) & whole & (np.bincount(sample, minlength=1)[sample] > 1)
        return many


def stale_pairs(decisions: pa.Table, decision: Ints, content_sha256: pa.ChunkedArray, row: Ints) -> Mask:
    """Return which (decision, row) pairs were made for other bytes; unknown bytes on either side are not other."""
    judged = take_or_null(decisions["content_sha256"], decision)
    current = take_or_null(content_sha256, row)
    differs = pc.fill_null(pc.not_equal(judged, current), False)  # noqa: FBT003 - pyarrow takes it by position
    stale: Mask = differs.to_numpy(zero_copy_only=False)
    return stale


def taken_ids(decisions: pa.Table, label_ids: pa.ChunkedArray, content_sha256: pa.ChunkedArray) -> pa.Array:
    """Return for each row the track id that the last decision in `standing(decisions)` gives its label, else null."""
    n = len(label_ids)
    at = pc.index_in(decisions["label_id"], value_set=label_ids.combine_chunks(), skip_nulls=True)
    row = pc.fill_null(at, -1).to_numpy().astype(np.int64)
    decides = ~equals_word(decisions["decision"].combine_chunks(), "note")
    decision = np.flatnonzero(decides & (row >= 0))
    row = row[decision]
    fresh = ~stale_pairs(decisions, decision, content_sha256, row)
    last = np.full(n, -1, dtype=np.int64)
    np.maximum.at(last, row[fresh], decision[fresh])
    accepts = pc.equal(take_or_null(decisions["decision"], last), "accept")
    return pc.if_else(accepts, take_or_null(decisions["to_track_id"], last), None)


def moved_boxes(decisions: pa.Table, label_ids: pa.ChunkedArray, content_sha256: pa.ChunkedArray) -> Ints:
    """Return for each row the last box in `standing(decisions)` that a person gave its label, -1 without one.

    A refused suggestion says which box was refused; it moves nothing.
    """
    has_box = pc.and_(pc.is_valid(decisions["to_bbox"]), pc.not_equal(decisions["decision"], "reject"))
    has_box = has_box.to_numpy(zero_copy_only=False)
    at = pc.index_in(decisions["label_id"], value_set=label_ids.combine_chunks(), skip_nulls=True)
    row = pc.fill_null(at, -1).to_numpy().astype(np.int64)
    decision = np.flatnonzero(has_box & (row >= 0))
    row = row[decision]
    fresh = ~stale_pairs(decisions, decision, content_sha256, row)
    last = np.full(len(label_ids), -1, dtype=np.int64)
    np.maximum.at(last, row[fresh], decision[fresh])
    return last
