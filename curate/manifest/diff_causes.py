"""Why a row changed: codes of the findings and decisions behind it, or of what the source did."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from curate.manifest.diff_compare import box_differs, flat, flat_differs, list_differs, masks_differ
from curate.manifest.place import Place
from curate.manifest.read import load_table

_TEXTS = pa.list_(pa.string())

# what changed a row where no finding and no decision did
SOURCE_CAUSES = {
    "added": "new_in_source",
    "removed": "gone_from_source",
    "relabeled": "given_label_changed",
    "reboxed": "given_shape_changed",
    "remasked": "given_shape_changed",
    "track changed": "given_track_changed",
    "split moved": "split_changed",
    "weight changed": "policy_changed",
    "action changed": "policy_changed",
    "image changed": "image_bytes_changed",
    "attributes changed": "attributes_changed",
    "flags changed": "flags_changed",
    "license changed": "license_changed",
}
# findings and people change none of these
_OF_THE_SOURCE = {"split moved", "image changed", "attributes changed", "flags changed", "license changed"}
TEXTS = {
    "new_in_source": "a new row in the source",
    "gone_from_source": "its row gone from the source",
    "given_label_changed": "another label in the source",
    "given_shape_changed": "another box, mask or polygon in the source",
    "given_track_changed": "another track id in the source",
    "split_changed": "another split in the source or the spec",
    "policy_changed": "another policy",
    "image_bytes_changed": "other bytes of the image",
    "attributes_changed": "other attributes in the source, or others that the policy releases",
    "flags_changed": "other flags in the source",
    "license_changed": "another license in the source or the spec",
    "classes_changed": "another class list",
    "soft_settings_changed": "another temperature, layout or grid of soft labels",
    "teachers_changed": "other teachers, or fitted anew",
    "teacher_weights_changed": "other weights or another sharpness of the teachers together",
    "answers_changed": "other answers of the same teachers",
}
NO_LONGER = "no_longer_"  # before a reason code: what held the row back, or changed it, is not found any more


_FINDING = (
    "finding_id",
    "flagged",
    "risk",
    "suggested_label",
    "suggested_prob",
    "reason_code",
)  # what rules look at


@dataclass(frozen=True, slots=True)
class Alike:
    """What stands in both versions as it was, and so is no cause by itself.

    Attributes:
        ids: string, of findings and decisions that are the same in both.
        other_policy: whether the policy is another; then a row that nothing but `ids` speaks about changed by it.
    """

    ids: pa.Array
    other_policy: bool


def standing_alike(*sides: tuple[Place, Mapping[str, Any]]) -> Alike:
    """Return what stands in both versions as it was.

    Args:
        sides: place and manifest of the earlier version, then of the later one.

    Raises:
        VerificationError: a version cannot be read.
    """
    was, now = (load_table(place, manifest, "findings", _FINDING) for place, manifest in sides)
    at = pc.index_in(now["finding_id"], value_set=was["finding_id"].combine_chunks()).combine_chunks()
    now, was = now.filter(pc.is_valid(at)).combine_chunks(), was.take(at.drop_null()).combine_chunks()
    differs = np.zeros(now.num_rows, dtype=np.bool_)
    for name in _FINDING:
        differs |= flat_differs(was[name], now[name])
    same = now["finding_id"].filter(pa.array(~differs)).combine_chunks()
    old, new = (
        load_table(place, manifest, "decisions", ["decision_id"])["decision_id"].combine_chunks()
        for place, manifest in sides
    )
    ids = pa.concat_arrays([same, new.filter(pc.is_in(new, value_set=old))])
    return Alike(ids, len({manifest["inputs"].get("policy") for _, manifest in sides}) > 1)


def policy_cause(
    alike: Alike, *reasons: pa.Array | pa.ChunkedArray, known: pa.ChunkedArray | pa.Array | None = None
) -> pa.Array:
    """Return another policy as the cause of rows whose reasons before and after are all `alike`, null elsewhere.

    `known`: rows that both versions know; None = all.
    """
    all_alike = np.full(len(reasons[0]), alike.other_policy)
    if known is not None:
        all_alike &= np.asarray(known)
    any_said = np.zeros(len(reasons[0]), dtype=np.bool_)
    for one in reasons:
        ids = flat(one)
        row = pc.list_parent_indices(ids).to_numpy()
        any_said[row] = True
        all_alike[row[~pc.is_in(pc.list_flatten(ids), value_set=alike.ids).to_numpy(zero_copy_only=False)]] = False
    by_policy = pa.array(all_alike & any_said)
    return pc.if_else(by_policy, pa.scalar(["policy_changed"], _TEXTS), pa.scalar(None, _TEXTS))


def codes_that_changed(
    alike: Alike, reasons: pa.Array | pa.ChunkedArray, codes: pa.Array | pa.ChunkedArray
) -> pa.Array:
    """Return the reason codes of each row without those of reasons that stand in both versions as they were."""
    ids = flat(reasons)
    changed = pc.invert(pc.is_in(pc.list_flatten(ids), value_set=alike.ids))
    return _only(flat(codes).cast(_TEXTS), changed)


def decided(codes: pa.Array | pa.ChunkedArray) -> pa.Array:
    """Return the codes of each row that are decisions of people: no finding brings a row into a source."""
    texts = flat(codes).cast(_TEXTS)
    return _only(texts, pc.starts_with(pc.list_flatten(texts), "decision_"))


def _only(texts: pa.Array, keep: pa.Array) -> pa.Array:
    """Return the lists with those of their items where `keep`, one bool for each item of all lists, is true."""
    n_left = np.bincount(pc.list_parent_indices(texts).filter(keep).to_numpy(), minlength=len(texts))
    starts = pa.array(np.concatenate([[0], np.cumsum(n_left)]).astype(np.int32))
    return pa.ListArray.from_arrays(starts, pc.list_flatten(texts).filter(keep)).cast(_TEXTS)


def causes_of(change: str, was: pa.Table, now: pa.Table, alike: Alike) -> pa.Array:
    """Return the codes of what changed the matched rows: the source itself, the policy, a finding or a decision."""
    if change in _OF_THE_SOURCE:
        return source_cause(change, None, now.num_rows)
    by_policy = policy_cause(alike, was["reasons"], now["reasons"])
    came, went = (codes_that_changed(alike, side["reasons"], side["reason_codes"]) for side in (now, was))
    by_reason = first_of(by_policy, came, no_longer(went), now["reason_codes"])
    if change == "relabeled":
        given = flat_differs(was["given_label"].combine_chunks(), now["given_label"].combine_chunks())
        kept = pc.equal(now["released_label"], now["given_label"])
        from_source = pc.and_(pa.array(given), pc.fill_null(kept, fill_value=True).combine_chunks())
        return first_of(source_cause(change, from_source), by_reason, source_cause(change, None, now.num_rows))
    if change in {"reboxed", "remasked", "track changed"}:
        from_source = source_cause(change, pa.array(_given_differs(change, was, now)))
        return first_of(from_source, by_reason, source_cause(change, None, now.num_rows))
    return first_of(by_reason, source_cause(change, None, now.num_rows))


def _given_differs(change: str, was: pa.Table, now: pa.Table) -> NDArray[np.bool_]:
    """Return where the shape or track differs that the source gives: it stands aside where somebody changed it."""
    if change == "track changed":
        return flat_differs(*(flat(pc.coalesce(side["given_track_id"], side["track_id"])) for side in (was, now)))
    if change == "reboxed":
        return box_differs(*(flat(pc.coalesce(side["given_bbox"], side["bbox"])) for side in (was, now)))
    polygons = list_differs(flat(was["polygons"]), flat(now["polygons"]))
    given = [_first_masks(side["given_mask"], side["mask"]) for side in (was, now)]
    return polygons | masks_differ(*given)


def _first_masks(given: pa.ChunkedArray, released: pa.ChunkedArray) -> pa.Array:
    """Return the given masks, or the released ones where none stands aside."""
    return pc.if_else(pc.is_valid(flat(given)), flat(given), flat(released))


def source_cause(change: str, where: pa.Array | pa.ChunkedArray | None, n: int = 0) -> pa.Array:
    """Return the cause that lies in the source for rows where it does, null elsewhere."""
    cause = pa.scalar([SOURCE_CAUSES[change]], _TEXTS)
    if where is None:
        return pa.array([cause.as_py()] * n, _TEXTS)
    return pc.if_else(flat(where), cause, pa.scalar(None, _TEXTS))


def first_of(*codes: pa.Array | pa.ChunkedArray) -> pa.Array:
    """Return for each row the first list that has something in it."""
    found: pa.Array | None = None
    for one in reversed(codes):
        texts = flat(one).cast(_TEXTS)
        has = pc.fill_null(pc.greater(pc.list_value_length(texts), 0), fill_value=False)
        rest = pa.nulls(len(texts), _TEXTS) if found is None else found
        found = pc.if_else(has, texts, rest)
    return found


def no_longer(codes: pa.Array | pa.ChunkedArray) -> pa.Array:
    """Return the same lists, each code said to be the case no longer."""
    texts = flat(codes).cast(_TEXTS)
    words = pc.binary_join_element_wise(NO_LONGER, pc.list_flatten(texts), "")
    lengths = pc.fill_null(pc.list_value_length(texts), 0).to_numpy()
    starts = pa.array(np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32))
    return pa.ListArray.from_arrays(starts, words).cast(_TEXTS)


def cause_text(code: str) -> str:
    """Return a cause in words, to stand after "because of"."""
    if code.startswith(NO_LONGER):
        return f"{cause_text(code.removeprefix(NO_LONGER))} no longer being so"
    return TEXTS.get(code, code.replace("_", " "))
