"""The teachers' stage of a run: predictions from the cache where nothing changed, and what may be said of them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate import runs, schema, views
from curate.ingest import Media
from curate.spec import BOX_TEACHERS, MASK_TEACHERS, CocoTeacherSpec, TeacherSpec
from curate.stages.answers import (
    VERSION,
    Taught,
    about_table,
    beyond_key,
    nobody_failed,
    ran_statistics,
    teacher_key,
    told_by,
)
from curate.stages.class_maps import with_class_maps
from curate.stages.context import Context
from curate.stages.detect import with_boxes
from curate.stages.segment import with_regions

NOT_FOR_TAGS = (
    *BOX_TEACHERS,
    *MASK_TEACHERS,
    "mot",
)  # kinds that say where something is, not what a whole image has
FAMILIES_VERSION = 1
_JUDGED = ["label_id", "sample_id", "label", "bbox", "track_id", "frame", "content_sha256"]


def teach(context: Context, samples: pa.Table, labels: pa.Table, classes: tuple[str, ...], media: Media) -> Taught:
    """Return what the spec's teachers say: probabilities for every label of a readable image, and boxes."""
    taught = with_regions(context, _classify(context, samples, labels, classes, media), samples, labels, classes)
    if pc.any(pc.equal(labels["task"], schema.MULTI_LABEL)).as_py():
        taught = _with_tags(context, taught, samples, labels, classes, media)
    if context.spec.policy.soft_labels and context.spec.policy.soft_masks_cells:
        taught = with_class_maps(context, taught, samples, labels, classes)
    specs = [spec for spec in context.spec.teachers if isinstance(spec, CocoTeacherSpec)]
    return with_boxes(context, taught, specs, samples, labels, classes) if specs else taught


def _with_tags(
    context: Context, taught: Taught, samples: pa.Table, labels: pa.Table, classes: tuple[str, ...], media: Media
) -> Taught:
    """Add what the teachers say of images with several labels: of each class alone, whether it is there."""
    specs = [one for one in context.spec.teachers if one.kind not in NOT_FOR_TAGS]
    view = views.tags_view(labels, samples)
    if not specs or not view.num_rows:
        return taught
    given = pa.array(
        [[tag["label"] for tag in row] for row in view["given_tags"].to_pylist()], pa.list_(pa.string())
    )
    rows = view.append_column("given", given).append_column("label_id", view["sample_id"])
    rows = rows.append_column("bbox", pa.nulls(rows.num_rows, schema.BBOX))
    predictions, cards, errors = _ask(
        context,
        "teachers-tags",
        rows,
        specs,
        samples,
        classes,
        media,
        given=["sample_id", "given", "content_sha256"],
    )
    names = ["sample_id" if name == "label_id" else name for name in predictions.column_names]
    return replace(
        taught,
        cards=[*taught.cards, *cards],
        statistics=pa.concat_tables([taught.statistics, ran_statistics(cards, errors)]),
        present=predictions.rename_columns(names),
    )


def _classify(
    context: Context, samples: pa.Table, labels: pa.Table, classes: tuple[str, ...], media: Media
) -> Taught:
    """Return the probabilities of the teachers that judge given labels.

    Args:
        context: of the run.
        samples: the samples view.
        labels: `schema.LABELS`.
        classes: in their final order; probability columns are in this order.
        media: where the bytes are.
    """
    view = views.without_reference(views.labels_view(labels, samples))
    # a mask's class is a region, not a picture or a box: probes and classifiers have no say there
    specs = [one for one in context.spec.teachers if one.kind not in (*BOX_TEACHERS, *MASK_TEACHERS)]
    # images with several labels are asked about by image, see `_with_tags`
    elsewhere = pc.is_in(view["task"], value_set=pa.array(["segmentation", schema.MULTI_LABEL]))
    rows = views.kept(view, pc.invert(elsewhere))
    if not rows.num_rows or not specs:
        return Taught(view.select(["label_id"]), (), schema.empty(schema.STATISTICS))
    predictions, cards, errors = _ask(context, "teachers", rows, specs, samples, classes, media, given=_JUDGED)
    return Taught(predictions, cards, ran_statistics(cards, errors))


def _ask(
    context: Context,
    stage: str,
    rows: pa.Table,
    specs: Sequence[TeacherSpec],
    samples: pa.Table,
    classes: tuple[str, ...],
    media: Media,
    *,
    given: Sequence[str],
) -> tuple[pa.Table, list[Any], list[Any]]:
    """Return predictions, cards and errors of teachers, from the cache where nothing changed.

    Args:
        context: of the run.
        stage: name of the cache; of "teachers-tags" each class is a question of its own.
        rows: that are asked about.
        specs: who is asked.
        samples: the samples view.
        classes: in their final order.
        media: where the bytes are.
        given: columns of the rows that answers depend on.
    """
    good = views.readable(samples)
    families = _fold_families(context, good, rows)
    key = {
        "version": VERSION,
        "teachers": [teacher_key(context, spec) for spec in specs],
        "labels": runs.digest_table(rows.select(given)),
        "families": runs.digest_table(pa.table({"family": families})),
        "classes": list(classes),
        "seed": context.spec.seed,
        "versions": runs.versions(),
        **beyond_key(context),
    }

    def compute() -> Mapping[str, pa.Table]:
        from curate.teachers import predict_all  # noqa: PLC0415 - torch and scikit-learn take seconds to import
        from curate.teachers.protocol import Request  # noqa: PLC0415 - as above

        request = Request(
            samples=good,
            labels=rows,
            media=media,
            classes=classes,
            families=families,
            seed=context.spec.seed,
            resolve=context.loaded.resolve,
            scratch=context.run.workspace.cache / "features",
            workers=context.workers,
            progress=context.run.listener.progress,
            independent=stage == "teachers-tags",
            beyond=context.beyond,
        )
        told = predict_all(specs, request)
        return {"predictions": told.table, "about": about_table(told.cards, told.errors)}

    tables = context.run.stage(stage, key, ("predictions", "about"), compute, keep=nobody_failed)
    return tables["predictions"], *told_by(tables["about"])


def released_predictions(taught: Taught) -> pa.Table:
    """Return what soft labels are made of: by label, or by image where images have several labels and none has one."""
    if taught.present is None or schema.teacher_columns(taught.table):
        return taught.table
    names = [
        schema.PROB_PREFIX + name.removeprefix(schema.PRESENT_PREFIX)
        if name.startswith(schema.PRESENT_PREFIX)
        else name
        for name in taught.present.column_names
    ]
    return taught.present.rename_columns(names)


def mask_weights(statistics: pa.Table, taught: Taught) -> dict[str, float] | None:
    """Return the weights of segmenters as the check of masks found them; None where it found none."""
    named = _named_weights(statistics, {"mask_noise"})
    known = {one.teacher: named.get(one.teacher, 0.0) for one in taught.class_maps}
    return known if sum(known.values()) > 0 else None


def weights(statistics: pa.Table, taught: Taught) -> dict[str, float] | None:
    """Return the ensemble's weights as the label-noise check found them; None where it found none.

    A teacher that was left out has weight 0, so that its opinion is in no soft label either.
    """
    named = _named_weights(statistics, {"label_noise", "multi_label_noise"})
    columns = [
        name.removeprefix(schema.PROB_PREFIX) for name in schema.teacher_columns(released_predictions(taught))
    ]
    known = {name: named.get(name, 0.0) for name in columns}
    return known if sum(known.values()) > 0 else None


def _named_weights(statistics: pa.Table, checks: Collection[str]) -> dict[str, float]:
    return {
        row["group"].removeprefix("teacher="): float(row["value"])
        for row in statistics.to_pylist()
        if row["check"] in checks and row["name"] == "teacher_weight" and row["group"] is not None
    }


def _fold_families(context: Context, samples: pa.Table, labels: pa.Table) -> np.ndarray[Any, np.dtype[np.int64]]:
    from curate.checks.pictures import NEEDS  # noqa: PLC0415 - as in `fold_families`

    groups = [name for name in samples.column_names if name.startswith(schema.GROUP_PREFIX)]
    key = {
        "version": FAMILIES_VERSION,
        "pictures": runs.digest_table(samples.select([*NEEDS, *groups])),
        "labels": runs.digest_table(labels.select(["sample_id"])),
    }

    def compute() -> Mapping[str, pa.Table]:
        return {"families": pa.table({"family": fold_families(samples, labels)})}

    tables = context.run.stage("families", key, ("families",), compute)
    chosen: np.ndarray[Any, np.dtype[np.int64]] = tables["families"]["family"].to_numpy()
    return chosen


def fold_families(samples: pa.Table, labels: pa.Table) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Return a family per label row: near-duplicates and members of one group stay together in every fold."""
    from curate.checks.families import families, links  # noqa: PLC0415 - pulls in SciPy
    from curate.checks.pictures import near_duplicate_links  # noqa: PLC0415 - as above

    pairs = [near_duplicate_links(samples)]
    pairs += [links(samples[name]) for name in samples.column_names if name.startswith(schema.GROUP_PREFIX)]
    of_sample = families(samples["sample_id"], np.concatenate(pairs))
    at = pc.index_in(labels["sample_id"], value_set=samples["sample_id"].combine_chunks())
    chosen: np.ndarray[Any, np.dtype[np.int64]] = of_sample[at.to_numpy()]
    return chosen
