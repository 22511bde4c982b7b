"""Boxes of the spec's detectors, how well they fit the given ones, and what they see together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pyarrow as pa

from curate import check as plug
from curate import runs, views
from curate.spec import CocoTeacherSpec
from curate.stages.answers import VERSION, Taught, about_table, nobody_failed, ran_statistics, teacher_key, told_by
from curate.stages.context import Context
from curate.teachers.agreement import with_doubts
from curate.teachers.protocol import TeacherCard

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
    good = views.readable(samples)
    files = [path for spec in specs for path in (spec.path, spec.images) if path]
    labels_file = labels_file_of(context)
    own = [labels_file] if labels_file is not None else []
    key = {
        "version": VERSION,
        "pooled": POOLED_VERSION,
        "teachers": [teacher_key(context, spec) for spec in specs],
        "files": [runs.digest_file(f) for f in [*map(context.loaded.resolve, files), *own] if f.is_file()],
        "samples": runs.digest_table(good.drop_columns(["mtime_ns"])),
        "labels": runs.digest_table(labels.select(["label_id", "sample_id", "task", "label", "bbox", "flags"])),
        "classes": list(classes),
        "versions": runs.versions(),
    }

    def compute() -> Mapping[str, pa.Table]:
        from curate.teachers.boxes.coco_metrics import score_detectors  # noqa: PLC0415 - only where boxes are judged
        from curate.teachers.boxes.precomputed import find_boxes  # noqa: PLC0415 - as above

        found = find_boxes(specs, good, classes, context.loaded.resolve, labels_file)
        names = [card.name for card in found.cards]
        view = views.boxes_view(labels, samples, found.table, names)
        return {
            "boxes": found.table,
            "about": about_table(_doubted(found.cards, view, classes), found.errors),
            "scores": plug.build_statistics("teachers", score_detectors(view, names, classes)),
            "places": _places(view, sorted(names), classes) if names else pa.table({}),  # all failed: none
        }

    tables = context.run.stage(
        "detectors", key, ("boxes", "about", "scores", "places"), compute, keep=nobody_failed
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


def labels_file_of(context: Context) -> Path | None:
    """Return the COCO file that the labels come from, where there is one: its ids are those of detectors run on it."""
    source = context.loaded.spec.source
    name, root = source.options.get("annotations"), context.source_root
    if source.format != "coco":
        return None
    file = root / name if isinstance(name, str) else root
    return file if file.is_file() and file.suffix.lower() == ".json" else None


def _doubted(cards: Sequence[TeacherCard], view: pa.Table, classes: tuple[str, ...]) -> list[TeacherCard]:
    """Return the cards, those of detectors that cannot be about these images or classes with a warning."""
    from curate.checks.box_noise import read_boxes  # noqa: PLC0415 - only where boxes are judged
    from curate.teachers.boxes.plausible import doubt_detectors  # noqa: PLC0415 - as above

    names = sorted(card.name for card in cards)
    if not names:
        return []
    read = read_boxes(view, names, classes)
    return with_doubts(cards, doubt_detectors(names, read.given, read.found, classes))


def _places(view: pa.Table, names: Sequence[str], classes: tuple[str, ...]) -> pa.Table:
    from curate.checks.box_noise import read_boxes  # noqa: PLC0415 - only where boxes are judged
    from curate.teachers.boxes.pooled import pool_boxes  # noqa: PLC0415 - as above

    read = read_boxes(view, names, classes)
    return pool_boxes(read.sample_ids, read.given, read.found, names, len(classes))
