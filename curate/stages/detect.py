"""Boxes of the spec's detectors, how well they fit the given ones, and what they see together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from curate import check as plug
from curate import runs, views
from curate.spec import CocoTeacherSpec
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
from curate.stages.context import Context
from curate.teachers.agreement import with_doubts
from curate.teachers.boxes.coco_metrics import MAX_IMAGES, score_detectors

POOLED_VERSION = 2


def with_boxes(
    context: Context,
    taught: Taught,
    specs: Sequence[CocoTeacherSpec],
    samples: pa.Table,
    labels: pa.Table,
    classes: tuple[str, ...],
) -> Taught:
    """Return what was answered with the detectors' boxes, their scores by the rules of COCO, and their places."""
    tables = context.run.stage(
        "detectors",
        _key(context, specs, samples, labels, classes),
        ("boxes", "about", "scores", "places"),
        lambda: _answers(context, specs, samples, labels, classes),
        keep=nobody_failed,
    )
    cards, errors = told_by(tables["about"])
    return replace(
        taught,
        cards=[*taught.cards, *cards],
        statistics=pa.concat_tables([taught.statistics, ran_statistics(cards, errors), tables["scores"]]),
        boxes=tables["boxes"],
        detectors=tuple(card["name"] for card in cards),
        places=tables["places"] if cards else None,
    )


def _key(
    context: Context,
    specs: Sequence[CocoTeacherSpec],
    samples: pa.Table,
    labels: pa.Table,
    classes: tuple[str, ...],
) -> dict[str, Any]:
    files = [context.loaded.resolve(path) for spec in specs for path in (spec.path, spec.images) if path]
    labels_file = labels_file_of(context)
    own = [labels_file] if labels_file is not None else []
    return {
        "version": VERSION,
        "pooled": POOLED_VERSION,
        "scored": MAX_IMAGES,
        "teachers": [teacher_key(context, spec) for spec in specs],
        "files": [runs.digest_file(f) for f in [*files, *own] if f.is_file()],
        "samples": runs.digest_table(views.readable(samples).drop_columns(["mtime_ns"])),
        "labels": runs.digest_table(labels.select(["label_id", "sample_id", "task", "label", "bbox", "flags"])),
        "classes": list(classes),
        "versions": runs.versions(),
        **beyond_key(context),
    }


def _answers(
    context: Context,
    specs: Sequence[CocoTeacherSpec],
    samples: pa.Table,
    labels: pa.Table,
    classes: tuple[str, ...],
) -> Mapping[str, pa.Table]:
    """Return the boxes of all detectors, what is to be said of each, their scores and their common places."""
    from curate.teachers.boxes.from_view import read_boxes  # noqa: PLC0415 - only where boxes are judged
    from curate.teachers.boxes.plausible import doubt_detectors  # noqa: PLC0415 - as above
    from curate.teachers.boxes.pooled import pool_boxes  # noqa: PLC0415 - as above
    from curate.teachers.boxes.precomputed import find_boxes  # noqa: PLC0415 - as above

    good = views.readable(samples)
    labels_file = labels_file_of(context)
    found = find_boxes(specs, good, classes, context.loaded.resolve, labels_file, beyond=context.beyond)
    names = [card.name for card in found.cards]
    view = views.boxes_view(labels, samples, found.table, names)
    cards, places = list(found.cards), pa.table({})
    if names:  # else all failed: there are none
        read = read_boxes(view, sorted(names), classes)
        cards = with_doubts(cards, doubt_detectors(sorted(names), read.given, read.found, classes))
        places = pool_boxes(read.sample_ids, read.given, read.found, sorted(names), len(classes))
    return {
        "boxes": found.table,
        "about": about_table(cards, found.errors),
        "scores": plug.build_statistics("teachers", score_detectors(view, names, classes)),
        "places": places,
    }


def labels_file_of(context: Context) -> Path | None:
    """Return the COCO file that the labels come from, where there is one: its ids are those of detectors run on it."""
    source = context.loaded.spec.source
    name, root = source.options.get("annotations"), context.source_root
    if source.format != "coco":
        return None
    file = root / name if isinstance(name, str) else root
    return file if file.is_file() and file.suffix.lower() == ".json" else None
