"""What people decided about single regions of masks: which findings it answers, and which pixels it moves or holds back.

Such a decision has `region`, the pixels that it is about: they outlive the finding, whose outline other teachers draw
a little differently. Kinds: `reject` (the label stands there), `accept` (the pixels are of the class `to_label`) and
`ignore` (nobody can tell).
"""

from __future__ import annotations

import json
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate import schema
from curate.ingest.rle import encode_mask
from curate.teachers.regions.doubt import doubt_of, pixels_of
from curate.verdict_rows import Mask, take_or_null

SAME_REGION = 0.5  # IoU from which on a decision and a finding, or two decisions, are about the same region
CHECK = "mask_noise"


@dataclass(frozen=True, slots=True)
class Decided:
    """A decision about a region: the latest one about these pixels, made for the bytes that are there now.

    Attributes:
        label_id: whose region it is.
        kind: accept, reject or ignore.
        to_label: of an accept, the class of the pixels.
        pixels: (H, W).
    """

    label_id: str
    kind: str
    to_label: str | None
    pixels: Mask


def about_regions(decisions: pa.Table) -> Mask:
    """Return which decisions are about a region of a label; none of a ledger that knew of no regions."""
    if "region" not in decisions.column_names:
        return np.zeros(decisions.num_rows, dtype=np.bool_)
    found: Mask = pc.is_valid(decisions["region"]).to_numpy(zero_copy_only=False)
    return found


def decided_regions(decisions: pa.Table, samples: pa.Table) -> dict[str, list[Decided]]:
    """Return sample id -> what was decided about its regions, in the order of the ledger.

    Args:
        decisions: those that stand, in ledger order.
        samples: sample_id and content_sha256 by row; a row for each sample, or several.
    """
    chosen = decisions.filter(pa.array(about_regions(decisions)))
    found: dict[str, list[Decided]] = {}
    if not chosen.num_rows:
        return found
    at = pc.index_in(chosen["sample_id"], value_set=samples["sample_id"].combine_chunks())
    bytes_now = take_or_null(
        samples["content_sha256"], pc.fill_null(at, -1).to_numpy().astype(np.int64)
    ).to_pylist()
    for row, there, now in zip(chosen.to_pylist(), at.to_pylist(), bytes_now, strict=True):
        is_stale = now is not None and row["content_sha256"] not in {None, now}
        if there is None or is_stale or (row["decision"] == "accept" and row["to_label"] is None):
            continue
        one = Decided(row["label_id"], row["decision"], row["to_label"], pixels_of(json.loads(row["region"])))
        before = [old for old in found.get(row["sample_id"], ()) if not _same(old, one.label_id, one.pixels)]
        found[row["sample_id"]] = [*before, one]
    return found


def answered_regions(findings: pa.Table, decisions: pa.Table, samples: pa.Table) -> Mask:
    """Return which findings about a region of a mask a person answered; places are compared, not ids.

    Args:
        findings: `schema.FINDINGS`.
        decisions: those that stand, in ledger order.
        samples: as in `decided_regions`.
    """
    settled = np.zeros(findings.num_rows, dtype=np.bool_)
    decided = decided_regions(decisions, samples)
    if not decided:
        return settled
    of_sample = pc.is_in(findings["sample_id"], value_set=pa.array(sorted(decided), pa.string()))
    asked = pc.and_(of_sample, pc.equal(findings["check"], CHECK)).to_numpy(zero_copy_only=False)
    for at in np.flatnonzero(asked).tolist():
        pixels = doubt_of(findings["reason_args"][at].as_py())
        if pixels is not None:
            own = findings["label_id"][at].as_py()
            settled[at] = any(_same(one, own, pixels) for one in decided[findings["sample_id"][at].as_py()])
    return settled


def labels_with_regions(decisions: pa.Table, labels: pa.Table, samples: pa.Table) -> pa.Table:
    """Return the labels with one for each class that only regions which people gave to it have in an image.

    Args:
        decisions: those that stand, in ledger order.
        labels: `schema.LABELS`.
        samples: as in `decided_regions`.
    """
    masks = labels.filter(pc.and_(pc.equal(labels["task"], "segmentation"), pc.is_valid(labels["mask"])))
    there = set(zip(masks["sample_id"].to_pylist(), masks["label"].to_pylist(), strict=True))
    known = set(masks["label_id"].to_pylist())
    made: dict[tuple[str, str], Mask] = {}
    for sample, some in decided_regions(decisions, samples).items():
        for one in some:
            key = (sample, str(one.to_label))
            if one.kind != "accept" or key in there or one.label_id not in known:
                continue
            made[key] = made[key] | one.pixels if key in made else one.pixels
    rows = [
        {
            "label_id": schema.label_id_of(sample, "segmentation", f"region of {label}"),
            "sample_id": sample,
            "task": "segmentation",
            "label": label,
            "mask": encode_mask(pixels),
        }
        for (sample, label), pixels in sorted(made.items())
    ]
    if not rows:
        return labels
    added = schema.table_from_rows(rows, schema.LABELS).select(labels.column_names).cast(labels.schema)
    return pa.concat_tables([labels, added])


def _same(one: Decided, label_id: str, pixels: Mask) -> bool:
    if one.label_id != label_id or one.pixels.shape != pixels.shape:
        return False
    return bool((one.pixels & pixels).sum() >= SAME_REGION * max(int((one.pixels | pixels).sum()), 1))
