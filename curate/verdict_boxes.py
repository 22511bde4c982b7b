"""Boxes that people drew or accepted where nobody had: rows of the release, and an answer to what was missing there."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate import schema
from curate.teachers.boxes.geometry import iou_of
from curate.verdict_people import stale_pairs, standing
from curate.verdict_rows import Floats, Mask, take_or_null

SAME_PLACE = 0.5  # IoU from which on a person's box and a suggested one are about the same place
ADDS = ("accept", "note")
LEFT_OUT = "missing_label"  # issue of an image with several labels that lacks one


def drawn_labels(decisions: pa.Table, labels: pa.Table, samples: pa.Table) -> pa.Table:
    """Return the labels with a row for each box that a person added: drawn by hand, or a suggestion accepted.

    Such a decision has a label id that no given label has, a class and a box. The latest one of an id counts; one that
    was made for other bytes, or for a sample that is not here, does not. What happens to the box later (moved,
    renamed, dropped) is said by further decisions with its id, as for any label.

    Args:
        decisions: `schema.DECISIONS` in ledger order.
        labels: `schema.LABELS`.
        samples: with sample_id and, where known, content_sha256.
    """
    stands = standing(decisions)
    adds = pc.and_(pc.is_in(stands["decision"], value_set=pa.array(ADDS)), pc.is_valid(stands["to_bbox"]))
    adds = pc.and_(adds, pc.and_(pc.is_valid(stands["to_label"]), pc.is_valid(stands["label_id"])))
    known = labels["label_id"].combine_chunks()
    stands = stands.filter(pc.and_(adds, pc.invert(pc.is_in(stands["label_id"], value_set=known))))
    tags = labels.filter(pc.equal(labels["task"], schema.MULTI_LABEL))["sample_id"].combine_chunks()
    stands = stands.filter(pc.invert(pc.is_in(stands["sample_id"], value_set=tags)))  # there a label has no place
    at = pc.index_in(stands["sample_id"], value_set=samples["sample_id"].combine_chunks())
    stands, at = stands.filter(pc.is_valid(at)), at.drop_null()
    if not stands.num_rows:
        return labels
    if "content_sha256" in samples.column_names:
        row = at.to_numpy().astype(np.int64)
        stale = stale_pairs(stands, np.arange(stands.num_rows), samples["content_sha256"], row)
        stands = stands.filter(pa.array(~stale))
    latest = {identity: place for place, identity in enumerate(stands["label_id"].to_pylist())}
    chosen = stands.take(pa.array(sorted(latest.values()), pa.int64())).sort_by("label_id")
    columns = {
        "label_id": chosen["label_id"],
        "sample_id": chosen["sample_id"],
        "task": pa.repeat("detection", chosen.num_rows),
        "label": chosen["to_label"],
        "bbox": chosen["to_bbox"],
        "annotator": chosen["reviewer"],
    }
    fields = [labels.schema.field(name) for name in labels.column_names]
    added = {field.name: columns.get(field.name, pa.nulls(chosen.num_rows, field.type)) for field in fields}
    return pa.concat_tables([labels, pa.table(added).cast(pa.schema(fields))])


def labeled_where_drawn(samples: pa.Table, labels: pa.Table) -> pa.Table:
    """Return the samples, those that have a label now called labeled."""
    state = samples["label_state"]
    has = pc.is_in(samples["sample_id"], value_set=labels["sample_id"].combine_chunks())
    place = samples.schema.get_field_index("label_state")
    return samples.set_column(place, samples.schema.field(place), pc.if_else(has, "labeled", state))


def open_places(findings: pa.Table) -> Mask:
    """Return which findings say that a label is missing, and where: a box, or one of the several classes of an image.

    They say nothing against the labels that are there.
    """
    nobodys = pc.is_null(findings["label_id"])
    boxed = pc.is_valid(findings["suggested_bbox"])
    tagged = pc.and_(pc.equal(findings["issue"], LEFT_OUT), pc.is_valid(findings["suggested_label"]))
    found: Mask = pc.and_(nobodys, pc.or_(boxed, tagged)).to_numpy(zero_copy_only=False)
    return found


def answered(findings: pa.Table, decisions: pa.Table, samples: pa.Table) -> Mask:
    """Return which findings about a missing box a person answered: a box was put there, or the suggestion refused.

    They are those without a label that suggest a box. Places are compared, not ids: teachers that are a little better
    the next time suggest a slightly other box for the same thing.

    Args:
        findings: `schema.FINDINGS`.
        decisions: those that stand, in ledger order.
        samples: sample_id and content_sha256 by row; a row for each sample, or several.
    """
    open_place = pc.and_(pc.is_null(findings["label_id"]), pc.is_valid(findings["suggested_bbox"]))
    settled = np.zeros(findings.num_rows, dtype=bool)
    chosen = decisions.filter(pc.is_valid(decisions["to_bbox"]))
    places = np.flatnonzero(open_place.to_numpy(zero_copy_only=False))
    if not chosen.num_rows or not len(places):
        return settled
    at = pc.index_in(chosen["sample_id"], value_set=samples["sample_id"].combine_chunks())
    chosen, row = chosen.filter(pc.is_valid(at)), at.drop_null().to_numpy().astype(np.int64)
    stale = stale_pairs(chosen, np.arange(chosen.num_rows), samples["content_sha256"], row)
    chosen = chosen.filter(pa.array(~stale))
    by_sample: dict[str, list[int]] = {}
    for place, sample in enumerate(chosen["sample_id"].to_pylist()):
        by_sample.setdefault(sample, []).append(place)
    drawn = _boxes(chosen["to_bbox"])
    asked = take_or_null(findings["suggested_bbox"], places)
    suggested, sample_ids = _boxes(asked), take_or_null(findings["sample_id"], places).to_pylist()
    for number, (place, sample) in enumerate(zip(places.tolist(), sample_ids, strict=True)):
        near = by_sample.get(sample)
        settled[place] = near is not None and bool((iou_of(suggested[number], drawn[near]) >= SAME_PLACE).any())
    return settled


def _boxes(column: pa.Array | pa.ChunkedArray) -> Floats:
    flat = pc.list_flatten(column).to_numpy(zero_copy_only=False)
    return np.asarray(flat, dtype=np.float64).reshape(-1, 4)
