"""Which checks run on what: images, labels, boxes, annotators' answers; and the suites on samples and labels."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from curate import schema, views
from curate.check import CheckResult
from curate.checks.attributes import AttributeDeclaration
from curate.spec import BOX_TEACHERS, MASK_TEACHERS
from curate.stages import check
from curate.stages.context import Context
from curate.state import Gathered


def check_images(context: Context, found: Gathered) -> None:
    """Run the checks that read images, and the expectations on the samples."""
    checks, left_out = check.enabled_checks(context.spec)
    of_images = [one for one in checks if one.view == "samples"]
    found.add(check.run_checks(context, found.view, of_images, _facts(context, found), "check"))
    found.evidence["checks_left_out"] = left_out
    statistics, proof = check.expectations(context, found.view, "samples", allowed_sets(found))
    found.statistics = pa.concat_tables([found.statistics, statistics])
    found.evidence["expectations_samples"] = proof


def check_labels(context: Context, found: Gathered, *, after_teachers: bool) -> None:
    """Run the checks that read labels: those that need no teacher first, the others when predictions are there."""
    checks, _ = check.enabled_checks(context.spec)
    chosen = [one for one in checks if one.view == "labels" and one.after_teachers == after_teachers]
    answers = found.predictions.table if after_teachers and found.predictions is not None else None
    view = views.labels_view(found.labels, found.view, answers)
    if after_teachers:
        said = found.predictions.statistics if found.predictions else None
        tasks = set(pc.unique(view["task"]).to_pylist())
        elsewhere = _ELSEWHERE.get(next(iter(tasks))) if len(tasks) == 1 else None
        chosen, silent = check.without_teacher(
            context.spec, chosen, view.column_names, said, elsewhere=elsewhere, classified="classification" in tasks
        )
        found.add(silent)
    found.add(check.run_checks(context, view, chosen, _facts(context, found), "check"))
    if not after_teachers and found.labels.num_rows:
        statistics, proof = check.expectations(context, view, "labels", allowed_sets(found))
        found.statistics = pa.concat_tables([found.statistics, statistics])
        found.evidence["expectations_labels"] = proof


def check_against_teachers(context: Context, found: Gathered) -> None:
    """Run the checks that hold what was given against what teachers and annotators say."""
    check_labels(context, found, after_teachers=True)
    check_tags(context, found)
    check_boxes(context, found)
    check_regions(context, found)
    check_annotations(context, found)


def check_tags(context: Context, found: Gathered) -> None:
    """Run the checks that hold the several labels of an image against what teachers say of each class."""
    checks, _ = check.enabled_checks(context.spec)
    chosen = [one for one in checks if one.view == "tags"]
    if not pc.any(pc.equal(found.labels["task"], schema.MULTI_LABEL)).as_py():
        for one in chosen:
            found.add(check.not_applicable(one, "no image has several labels"))
        return
    taught = found.predictions
    view = views.tags_view(found.labels, found.view, taught.present if taught else None)
    ready, silent = check.without_teacher(
        context.spec, chosen, view.column_names, taught.statistics if taught else None
    )
    found.add(silent)
    found.add(check.run_checks(context, view, ready, _facts(context, found), "check"))


def check_boxes(context: Context, found: Gathered) -> None:
    """Run the checks that hold given boxes against those of detectors."""
    checks, _ = check.enabled_checks(context.spec)
    chosen = [one for one in checks if one.view == "boxes"]
    taught = found.predictions
    if taught is None or not any(spec.kind in BOX_TEACHERS for spec in context.spec.teachers):
        for one in chosen:
            found.add(check.not_applicable(one, "no teacher gives boxes"))
    elif not taught.detectors:
        found.add(check.without_answer(chosen, "no detector could be read", taught.statistics))
    else:
        view = views.boxes_view(found.labels, found.view, taught.boxes, taught.detectors)
        found.add(check.run_checks(context, view, chosen, _facts(context, found), "check"))


def check_regions(context: Context, found: Gathered) -> None:
    """Run the checks that hold the regions of given masks against segmenters."""
    checks, _ = check.enabled_checks(context.spec)
    chosen = [one for one in checks if one.view == "regions"]
    taught = found.predictions
    if not pc.any(pc.equal(found.labels["task"], "segmentation")).as_py():
        for one in chosen:
            found.add(check.not_applicable(one, "no label is a mask"))
    elif taught is None or not any(spec.kind in MASK_TEACHERS for spec in context.spec.teachers):
        for one in chosen:
            found.add(check.not_applicable(one, "the spec has no teacher of this kind"))
    elif taught.regions is None:
        found.add(check.without_answer(chosen, "no segmenter could be used", taught.statistics))
    else:
        view = views.regions_view(found.labels, found.view, taught.regions)
        found.add(check.run_checks(context, view, chosen, _facts(context, found), "check"))


def check_annotations(context: Context, found: Gathered) -> None:
    """Run the checks that read every annotator's answers, the given ones and the others, beside the teachers."""
    checks, _ = check.enabled_checks(context.spec)
    chosen = [one for one in checks if one.view == "annotations"]
    if found.labels["annotator"].null_count == found.labels.num_rows:
        for one in chosen:
            found.add(check.not_applicable(one, "no label names its annotator"))
        return
    answers = found.predictions.table if found.predictions is not None else None
    view = views.annotations_view(found.labels, found.annotations, found.view, answers)
    told = check.run_checks(context, view, chosen, _facts(context, found), "check")
    given = found.labels["label_id"].combine_chunks()
    about_given = pc.is_in(told.findings["label_id"], value_set=given)
    found.add(CheckResult(told.findings.filter(about_given), told.statistics))


def allowed_sets(found: Gathered) -> dict[str, list[str]]:
    """Return the sets that the suites leave open: they are known only once the data is."""
    return {
        "classes": list(found.classes),
        "splits": sorted(set(pc.unique(found.samples["split"]).to_pylist()) - {None}),
    }


_ELSEWHERE = {
    "segmentation": "all labels are masks",
    schema.MULTI_LABEL: "images have several labels: the check multi_label_noise judges each class",
}  # task -> why classifiers of one label have no say where all labels are of it


def _facts(context: Context, found: Gathered) -> dict[str, Any]:
    """Return what checks may ask for by the name of a params field."""
    spec = context.spec
    facts: dict[str, Any] = {
        "classes": found.classes,
        "attributes": tuple(
            AttributeDeclaration(
                name=name,
                obtained=declared.obtained,
                reference=tuple(sorted(declared.reference.items())) if declared.reference else None,
                reference_name=declared.reference_name,
            )
            for name, declared in sorted(spec.attributes.items())
        ),
    }
    if found.predictions is not None:
        facts["features"] = found.predictions.shared_features
        facts["segmenters"] = found.predictions.segmenters
        facts["region_noise_rate"] = found.predictions.region_noise_rate
    return facts
