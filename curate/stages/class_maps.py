"""Class maps of the spec's segmenters: made once for each teacher and its files, then read from the cache."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pyarrow as pa
import pyarrow.compute as pc

from curate import runs, schema, views
from curate.spec import MasksSpec
from curate.stages.answers import Taught, teacher_key
from curate.stages.context import Context
from curate.teachers.regions.class_maps import ClassMaps, Picture, read_maps, write_maps
from curate.teachers.regions.teacher import asked_of

VERSION = 1
STAGE = "class-maps"


def with_class_maps(
    context: Context, taught: Taught, samples: pa.Table, labels: pa.Table, classes: tuple[str, ...]
) -> Taught:
    """Return what was answered with the class maps of every segmenter that could be asked.

    Args:
        context: of the run; its policy says how fine the maps are.
        taught: cards of the teachers; one without a card failed, and has no maps.
        samples: the samples view.
        labels: `schema.LABELS`.
        classes: of the release, in order.
    """
    asked = {str(card["name"]) for card in taught.cards}
    specs = [one for one in context.spec.teachers if isinstance(one, MasksSpec) and one.name in asked]
    if not specs:
        return taught
    view = views.labels_view(labels.filter(pc.equal(labels["task"], "segmentation")), samples)
    pictures = _pictures(view)
    return replace(taught, class_maps=tuple(_maps(context, spec, pictures, view, classes) for spec in specs))


def _pictures(view: pa.Table) -> list[Picture]:
    names = ("sample_id", "uri", "content_sha256", "height_px", "width_px")
    rows = zip(*(view[name].to_pylist() for name in names), strict=True)
    return [Picture(*row) for row in dict.fromkeys(rows)]


def _maps(
    context: Context, spec: MasksSpec, pictures: Sequence[Picture], view: pa.Table, classes: tuple[str, ...]
) -> ClassMaps:
    longest = context.spec.policy.soft_masks_cells
    key = runs.digest_json(
        {
            "stage": STAGE,
            "version": VERSION,
            "schema": schema.SCHEMA_VERSION,
            "teacher": teacher_key(context, spec),
            "images": runs.digest_table(
                view.select(["sample_id", "uri", "content_sha256", "height_px", "width_px"]).sort_by("sample_id")
            ),
            "classes": list(classes),
            "longest": longest,
            "versions": runs.versions(),
        }
    )
    path = context.run.workspace.cache / STAGE / f"{key}.parquet"
    with context.run.timed(STAGE, {"key": key, "teacher": spec.name}) as timing:
        known = read_maps(path, spec.name)
        if known is not None:
            timing.cached = True
            return known
        uris = [one.uri for one in pictures]
        return write_maps(
            path,
            asked_of(spec, uris, context.loaded.resolve(spec.path), classes),
            pictures,
            classes,
            longest,
            workers=context.workers,
            progress=context.run.listener.progress,
        )
