"""Class maps of the spec's segmenters: made once for each teacher and its files, then read from the cache."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate import runs, schema, views
from curate.spec import MasksSpec
from curate.stages.answers import Taught, teacher_key
from curate.stages.context import Context
from curate.teachers.regions.class_maps import ClassMaps, Picture, given_mass, pooled_mass, read_maps, write_maps
from curate.teachers.regions.segmenters import asked_of

VERSION = 1
N_FITTED, N_CELLS = 300, 100_000  # images and cells that the sharpness is fitted on
LEAST_LABELED = 0.5  # of a cell, to be a witness
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


def sharpness(context: Context, taught: Taught, labels: pa.Table, weights: Mapping[str, float] | None) -> float:
    """Return how much surer the mean of the segmenters may be, fitted to the given masks of some images.

    Args:
        context: of the run.
        taught: with class maps.
        labels: `schema.LABELS`.
        weights: segmenter -> weight; None = all alike.
    """
    if not taught.class_maps:
        return 1.0
    masks = labels.filter(pc.and_(pc.equal(labels["task"], "segmentation"), pc.is_valid(labels["mask"])))
    key = {
        "version": VERSION,
        "maps": [[one.teacher, one.digest, one.longest, list(one.classes)] for one in taught.class_maps],
        "labels": runs.digest_table(masks.select(["label_id", "sample_id", "label", "mask"]).sort_by("label_id")),
        "weights": {name: repr(weight) for name, weight in sorted((weights or {}).items())},
        "versions": runs.versions(),
    }

    def compute() -> Mapping[str, pa.Table]:
        from curate.teachers.regions.sharpness import fit_sharpness  # noqa: PLC0415 - only where maps are new

        pooled, given = _cells(taught.class_maps, masks, weights)
        return {"sharpness": pa.table({"value": [fit_sharpness(pooled, given)]})}

    found = context.run.stage("class-map-sharpness", key, ("sharpness",), compute)
    return float(found["sharpness"]["value"][0].as_py())


def _cells(
    maps: Sequence[ClassMaps], masks: pa.Table, weights: Mapping[str, float] | None
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Return (N, K) pooled and given shares of cells of images that a hash of their id chooses."""
    order = sorted(pc.unique(masks["sample_id"]).to_pylist(), key=lambda one: schema.stable_id("sharpness", one))
    chosen = set(order[:N_FITTED])
    rows: dict[str, list[dict[str, Any]]] = {}
    near = masks.filter(pc.is_in(masks["sample_id"], value_set=pa.array(sorted(chosen), pa.string())))
    for row in near.select(["label_id", "sample_id", "label", "mask"]).sort_by("label_id").to_pylist():
        rows.setdefault(row["sample_id"], []).append(row)
    n_classes = len(maps[0].classes)
    pooled, given = ([np.zeros((0, n_classes), dtype=np.float32)] for _ in range(2))
    shares = {one.teacher: 1.0 if weights is None else weights.get(one.teacher, 0.0) for one in maps}
    for sample, mass in pooled_mass([one for one in maps if shares[one.teacher] > 0], shares):
        if sample not in chosen:
            continue
        cells, total = mass.reshape(n_classes, -1).T, mass.sum(axis=0).reshape(-1)
        own = given_mass(rows[sample], maps[0].classes, mass.shape[1:]).reshape(n_classes, -1).T
        step = max(1, len(chosen) * len(cells) // N_CELLS)
        kept = np.flatnonzero((total > 0) & (own.sum(axis=1) > LEAST_LABELED))[::step]
        pooled.append(cells[kept] / total[kept, None])
        given.append(own[kept])
    return np.concatenate(pooled), np.concatenate(given)
