"""Masks as they are released: without regions that wait for somebody to look, with those that people gave away moved."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from curate import schema
from curate.ingest.rle import decode_mask, encode_mask
from curate.teachers.regions.doubt import doubt_of
from curate.verdict_regions import CHECK, Decided, decided_regions

Mask = NDArray[np.bool_]


def vouched(rows: pa.Table, findings: pa.Table, decisions: pa.Table) -> pa.Table:
    """Return the rows with `mask` as far as somebody vouches for it, and `given_mask` where that is not what was given.

    A label with a region in doubt that waits for review leaves with the rest of its mask. Its doubted pixels are taken
    out of every mask of the image: who doubts an outline doubts both sides. So are regions of which people said that
    nobody can tell. A region that a person gave to another class is moved to the first label of that class. A mask that
    would lose every pixel to another label's doubt stays whole.

    Args:
        rows: sample_id, label_id, task, action, content_sha256, released_label, mask of released rows, by label id in
            each sample; `mask` as given.
        findings: `schema.FINDINGS`.
        decisions: those that stand, in ledger order.
    """
    doubts, decided = _doubts(rows, findings), decided_regions(decisions, rows)
    about = pa.array(sorted({*doubts, *decided}), pa.string())
    if not len(about):
        return rows
    masks, given = rows["mask"].to_pylist(), [None] * rows.num_rows
    touched = pc.and_(pc.is_in(rows["sample_id"], value_set=about), pc.equal(rows["task"], "segmentation"))
    touched = pc.and_(touched, pc.is_valid(rows["mask"]))
    by_sample: dict[str, list[int]] = {}
    for at in np.flatnonzero(pc.fill_null(touched, False).to_numpy()).tolist():  # noqa: FBT003 - pyarrow takes it by position
        by_sample.setdefault(rows["sample_id"][at].as_py(), []).append(at)
    for sample, own in by_sample.items():
        labels = [(rows["label_id"][at].as_py(), rows["released_label"][at].as_py()) for at in own]
        whole = [np.asarray(decode_mask(masks[at]), dtype=np.bool_) for at in own]
        for at, before, left in zip(
            own, whole, _left(whole, labels, doubts.get(sample), decided.get(sample, ())), strict=True
        ):
            if not np.array_equal(left, before):
                given[at], masks[at] = masks[at], encode_mask(left)
    changed = {"mask": pa.array(masks, schema.MASK_RLE), "given_mask": pa.array(given, schema.MASK_RLE)}
    for name, column in changed.items():
        rows = rows.set_column(rows.schema.get_field_index(name), rows.schema.field(name), column)
    return rows


def _left(
    whole: Sequence[Mask],
    labels: Sequence[tuple[str, str | None]],
    doubt: Mask | None,
    decided: Sequence[Decided],
) -> list[Mask]:
    """Return the masks of an image as they are released.

    Args:
        whole: as given.
        labels: label id and released class of each.
        doubt: pixels that wait for somebody to look at them.
        decided: about regions of the image.
    """
    left = [mask.copy() for mask in whole]
    for one in decided:
        if one.kind == "reject":
            continue
        targets = (
            [at for at, (_, name) in enumerate(labels) if name == one.to_label] if one.kind == "accept" else []
        )
        for at, (label_id, _) in enumerate(labels):
            if left[at].shape == one.pixels.shape and (one.kind == "ignore" or label_id == one.label_id):
                left[at] &= ~one.pixels
        if targets and left[targets[0]].shape == one.pixels.shape:
            left[targets[0]] |= one.pixels
    if doubt is None:
        return left
    clear = [mask & ~doubt if mask.shape == doubt.shape else mask for mask in left]
    return [rest if rest.any() else mask for rest, mask in zip(clear, left, strict=True)]


def _doubts(rows: pa.Table, findings: pa.Table) -> dict[str, Mask]:
    """Return the pixels in doubt of each image: those of findings about labels that wait and leave all the same."""
    waits = rows.filter(pc.and_(pc.equal(rows["action"], "review"), pc.equal(rows["task"], "segmentation")))
    about = pc.is_in(findings["label_id"], value_set=waits["label_id"].combine_chunks())
    named = findings.filter(
        pc.and_(
            pc.and_(about, pc.equal(findings["check"], CHECK)), pc.equal(findings["flagged"], pa.scalar(value=True))
        )
    )
    found: dict[str, Mask] = {}
    for sample, args in zip(named["sample_id"].to_pylist(), named["reason_args"].to_pylist(), strict=True):
        doubt = doubt_of(args)
        if doubt is not None:
            before = found.get(sample)
            found[sample] = doubt if before is None or before.shape != doubt.shape else before | doubt
    return found
