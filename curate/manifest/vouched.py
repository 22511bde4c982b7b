"""Masks as they are released: without the regions that wait for somebody to look at them."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from curate import schema
from curate.ingest.rle import decode_mask, encode_mask
from curate.teachers.regions.doubt import doubt_of

CHECK = "mask_noise"
Mask = NDArray[np.bool_]


def vouched(rows: pa.Table, findings: pa.Table) -> pa.Table:
    """Return the rows with `mask` as far as somebody vouches for it, and `given_mask` where that is less than given.

    A label with a region in doubt that waits for review leaves with the rest of its mask. Its doubted pixels are taken
    out of every mask of the image: who doubts an outline doubts both sides. A mask that would lose every pixel to
    another label's doubt stays whole.

    Args:
        rows: sample_id, label_id, task, action, mask of released rows; `mask` as given.
        findings: `schema.FINDINGS`.
    """
    doubts = _doubts(rows, findings)
    if not doubts:
        return rows
    masks, given = rows["mask"].to_pylist(), [None] * rows.num_rows
    samples = rows["sample_id"]
    touched = pc.and_(pc.is_in(samples, value_set=pa.array(sorted(doubts))), pc.equal(rows["task"], "segmentation"))
    for at in np.flatnonzero(pc.fill_null(touched, False).to_numpy()).tolist():  # noqa: FBT003 - pyarrow takes it by position
        if masks[at] is None:
            continue
        whole, doubt = np.asarray(decode_mask(masks[at]), dtype=np.bool_), doubts[samples[at].as_py()]
        left = whole & ~doubt if doubt.shape == whole.shape else whole
        if left.any() and not np.array_equal(left, whole):
            given[at], masks[at] = masks[at], encode_mask(left)
    changed = {"mask": pa.array(masks, schema.MASK_RLE), "given_mask": pa.array(given, schema.MASK_RLE)}
    for name, column in changed.items():
        rows = rows.set_column(rows.schema.get_field_index(name), rows.schema.field(name), column)
    return rows


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
