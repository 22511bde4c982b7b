"""The two views that checks read: samples joined with their scan, labels joined with samples and predictions."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate import schema
from curate.errors import StageError


def kept(table: pa.Table, keep: pa.Array | pa.ChunkedArray) -> pa.Table:
    """Return the rows where `keep` is true: the table itself where that is all, for a copy is as large as it."""
    return table if pc.all(keep, min_count=0).as_py() else table.filter(keep)


def look_up(table: pa.Table, key: str, wanted: pa.ChunkedArray, *, what: str) -> pa.Table:
    """Return the rows of `table` for each of `wanted`, in that order; a key that is not there gives nulls.

    It is the table itself where its rows stand like that already: a copy of all columns is as large as they are.

    Raises:
        StageError: `key` is not unique in `table`.
    """
    keys = table[key].combine_chunks()
    if pc.count_distinct(keys).as_py() != len(keys):
        raise StageError(
            f"{what} must hold each {key} once; some stand twice. This is a defect in curate; report it."
        )
    if len(keys) == len(wanted) and table[key].equals(wanted):
        return table
    return table.take(pc.index_in(wanted, value_set=keys))


def samples_view(samples: pa.Table, scan: pa.Table) -> pa.Table:
    """Return one row per image: the samples with what the scan measured (its `n_bytes` wins where it has one)."""
    measured = look_up(scan, "sample_id", samples["sample_id"], what="The scan")
    view = samples
    for name in scan.column_names:
        if name == "sample_id":
            continue
        column = measured[name]
        if name in view.column_names:
            column = pc.coalesce(column, view[name])
            view = view.set_column(view.column_names.index(name), name, column)
        else:
            view = view.append_column(name, column)
    return view


def readable(view: pa.Table) -> pa.Table:
    """Return the rows whose image could be decoded."""
    return kept(view, _is_readable(view))


def _is_readable(view: pa.Table) -> pa.ChunkedArray:
    return pc.and_(pc.is_null(view["error_code"]), pc.is_valid(view["content_sha256"]))


def labels_view(labels: pa.Table, samples: pa.Table, predictions: pa.Table | None = None) -> pa.Table:
    """Return one row per given label of a decodable image, with the columns of its image and of the teachers.

    Args:
        labels: `schema.LABELS`.
        samples: the samples view.
        predictions: `label_id` and a column a teacher (`schema.TEACHER_PREFIXES`), or None before they have spoken.
    """
    good = samples["sample_id"].filter(_is_readable(samples)).combine_chunks()
    view = kept(labels, pc.is_in(labels["sample_id"], value_set=good))
    images = look_up(samples, "sample_id", view["sample_id"], what="The samples view")
    for name in images.column_names:
        if name not in view.column_names:
            view = view.append_column(name, images[name])
    if predictions is not None:
        said = (*schema.TEACHER_PREFIXES, schema.NEAREST_PREFIX)
        wanted = [name for name in predictions.column_names if name.startswith(said)]
        answers = look_up(
            predictions.select(["label_id", *wanted]), "label_id", view["label_id"], what="The predictions"
        )
        for name in wanted:
            view = view.append_column(answers.schema.field(name), answers[name])
    return view


def boxes_view(labels: pa.Table, samples: pa.Table, found: pa.Table, teachers: Sequence[str]) -> pa.Table:
    """Return one row per decodable image that somebody labeled, with its given boxes and those of each detector.

    Args:
        labels: `schema.LABELS`; boxes of detection and tracking count.
        samples: the samples view.
        found: `schema.DETECTIONS`.
        teachers: names; a column `boxes_<name>` for each, also where it found nothing.
    """
    good = readable(samples)
    good = good.filter(pc.not_equal(good["label_state"], "unlabeled"))
    ids = good["sample_id"].combine_chunks()
    is_box = pc.and_(
        pc.is_in(labels["task"], value_set=pa.array(["detection", "tracking"])), pc.is_valid(labels["bbox"])
    )
    boxes = labels.filter(is_box)
    crowd = [any(flag in schema.TO_IGNORE for flag in flags or ()) for flags in boxes["flags"].to_pylist()]
    boxes = boxes.append_column("is_crowd", pa.array(crowd, pa.bool_()))
    view = good.append_column("given_boxes", _listed(boxes, ids, schema.GIVEN_BOX))
    for name in teachers:
        own = found.filter(pc.equal(found["teacher"], name))
        view = view.append_column(schema.BOXES_PREFIX + name, _listed(own, ids, schema.FOUND_BOX))
    return view


def regions_view(labels: pa.Table, samples: pa.Table, regions: pa.Table) -> pa.Table:
    """Return one row per decodable image whose masks were held against segmenters: `given_masks` and `regions`.

    Args:
        labels: `schema.LABELS`; masks of segmentation count, in the order of their ids.
        samples: the samples view.
        regions: `sample_id` and `regions`, see `teachers.regions.segmenters`.
    """
    good = readable(samples)
    good = good.filter(pc.is_in(good["sample_id"], value_set=regions["sample_id"].combine_chunks()))
    masks = labels.filter(pc.and_(pc.equal(labels["task"], "segmentation"), pc.is_valid(labels["mask"])))
    listed = _listed(masks.sort_by("label_id"), good["sample_id"].combine_chunks(), schema.GIVEN_MASK)
    seen = look_up(regions, "sample_id", good["sample_id"], what="The regions")
    name = schema.REGIONS_COLUMN
    return good.append_column("given_masks", listed).append_column(name, seen[name])


def tags_view(labels: pa.Table, samples: pa.Table, present: pa.Table | None = None) -> pa.Table:
    """Return one row per decodable image that has several labels or was looked at: its `given_tags` and the teachers'.

    Args:
        labels: `schema.LABELS`; those of the task multi_label count. Without one there is no row.
        samples: the samples view.
        present: `sample_id` and `present_<teacher>` columns, or None before they have spoken.
    """
    tags = labels.filter(pc.equal(labels["task"], schema.MULTI_LABEL))
    others = labels.filter(pc.not_equal(labels["task"], schema.MULTI_LABEL))
    good = readable(samples)
    good = good.filter(pc.not_equal(good["label_state"], "unlabeled"))
    if not tags.num_rows:
        good = good.slice(0, 0)
    elif others.num_rows:  # an image with labels of another kind only says nothing about these
        elsewhere = pc.is_in(good["sample_id"], value_set=others["sample_id"].combine_chunks())
        here = pc.is_in(good["sample_id"], value_set=tags["sample_id"].combine_chunks())
        good = good.filter(pc.or_(here, pc.invert(elsewhere)))
    view = good.append_column("given_tags", _listed(tags, good["sample_id"].combine_chunks(), schema.GIVEN_TAG))
    if present is None:
        return view
    answers = look_up(present, "sample_id", view["sample_id"], what="The predictions")
    for name in answers.column_names:
        if name.startswith(schema.PRESENT_PREFIX):
            view = view.append_column(answers.schema.field(name), answers[name])
    return view


def _listed(rows: pa.Table, ids: pa.Array, kind: pa.StructType) -> pa.Array:
    """Return for each id the list of its rows, as structs of `kind`."""
    at = pc.index_in(rows["sample_id"], value_set=ids)
    rows = rows.filter(pc.is_valid(at))
    place = at.drop_null().to_numpy().astype(np.int64)
    order = np.argsort(place, kind="stable")
    fields = [rows[field.name].take(pa.array(order)).combine_chunks().cast(field.type) for field in kind]
    offsets = np.searchsorted(place[order], np.arange(len(ids) + 1)).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), pa.StructArray.from_arrays(fields, fields=list(kind)))


def annotations_view(
    labels: pa.Table, others: pa.Table, samples: pa.Table, predictions: pa.Table | None = None
) -> pa.Table:
    """Return one row per answer of any annotator: the given labels and the others, with the teachers' columns.

    Teachers judged the given label of an image; what they say of a whole image is said to its other answers too.

    Args:
        labels: `schema.LABELS`, the given ones.
        others: the same of the answers that are not the given ones.
        samples: the samples view.
        predictions: `label_id` and `prob_<teacher>` columns, or None.
    """
    both = pa.concat_tables([labels, others], promote_options="permissive")
    if predictions is None:
        return labels_view(both, samples)
    whole = labels.filter(pc.equal(labels["task"], "classification"))
    at = pc.index_in(both["sample_id"], value_set=whole["sample_id"].combine_chunks())
    spread = predictions.take(
        pc.index_in(whole["label_id"].take(at), value_set=predictions["label_id"].combine_chunks())
    )
    spread = spread.set_column(spread.column_names.index("label_id"), "label_id", both["label_id"])
    return labels_view(both, samples, spread)


def without_reference(view: pa.Table) -> pa.Table:
    """Return the view that checks and teachers see: a known truth is for evaluation, never for judging."""
    return view.drop_columns(["reference_label"]) if "reference_label" in view.column_names else view
