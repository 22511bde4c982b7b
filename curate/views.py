"""The two views that checks read: samples joined with their scan, labels joined with samples and predictions."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from curate import schema
from curate.errors import StageError


def look_up(table: pa.Table, key: str, wanted: pa.ChunkedArray, *, what: str) -> pa.Table:
    """Return the rows of `table` for each of `wanted`, in that order; a key that is not there gives nulls.

    Raises:
        StageError: `key` is not unique in `table`.
    """
    keys = table[key].combine_chunks()
    if pc.count_distinct(keys).as_py() != len(keys):
        raise StageError(
            f"{what} must hold each {key} once; some stand twice. This is a defect in curate; report it."
        )
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
    return view.filter(pc.and_(pc.is_null(view["error_code"]), pc.is_valid(view["content_sha256"])))


def labels_view(labels: pa.Table, samples: pa.Table, predictions: pa.Table | None = None) -> pa.Table:
    """Return one row per given label of a decodable image, with the columns of its image and of the teachers.

    Args:
        labels: `schema.LABELS`.
        samples: the samples view.
        predictions: `label_id` and a column a teacher (`schema.TEACHER_PREFIXES`), or None before they have spoken.
    """
    good = readable(samples)
    kept = labels.filter(pc.is_in(labels["sample_id"], value_set=good["sample_id"].combine_chunks()))
    images = look_up(good, "sample_id", kept["sample_id"], what="The samples view")
    view = kept
    for name in images.column_names:
        if name not in view.column_names:
            view = view.append_column(name, images[name])
    if predictions is not None:
        answers = look_up(predictions, "label_id", kept["label_id"], what="The predictions")
        for name in answers.column_names:
            if name.startswith(schema.TEACHER_PREFIXES):
                view = view.append_column(answers.schema.field(name), answers[name])
    return view


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
