"""The teachers' stage of a run: predictions from the cache where nothing changed, and what may be said of them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate import check as plug
from curate import runs, schema, views
from curate.ingest import Media
from curate.spec import BOX_TEACHERS, CocoTeacherSpec, TeacherSpec
from curate.stages.context import Context

VERSION = 4
NOT_FOR_TAGS = (*BOX_TEACHERS, "mot", "masks")  # kinds that say where something is, not what a whole image has
FAMILIES_VERSION = 1
POOLED_VERSION = 1
_MODEL_FILES = ("path", "weights", "program")
_JUDGED = ["label_id", "sample_id", "label", "bbox", "track_id", "frame", "content_sha256"]


@dataclass(frozen=True)
class Taught:
    """Predictions of all teachers.

    Attributes:
        table: `label_id` and a column a teacher (`schema.TEACHER_PREFIXES`).
        cards: a JSON mapping per teacher.
        statistics: a `teachers.ran` statistic per teacher, errored where it failed.
        boxes: `schema.DETECTIONS` of the teachers that give boxes.
        detectors: their names.
        present: `sample_id`, `content_sha256` and `present_<teacher>` of images with several labels.
        places: what they see together (`teachers.boxes.pooled`); None without them.
    """

    table: pa.Table
    cards: Sequence[Mapping[str, Any]]
    statistics: pa.Table
    boxes: pa.Table = field(default_factory=lambda: schema.empty(schema.DETECTIONS))
    detectors: tuple[str, ...] = ()
    present: pa.Table | None = None
    places: pa.Table | None = None

    @property
    def shared_features(self) -> tuple[tuple[str, str], ...]:
        """(teacher, features) for each teacher whose card names its features; those that share are not independent."""
        return tuple((card["name"], card["features"]) for card in self.cards if card.get("features"))


def teach(context: Context, samples: pa.Table, labels: pa.Table, classes: tuple[str, ...], media: Media) -> Taught:
    """Return what the spec's teachers say: probabilities for every label of a readable image, and boxes."""
    taught = _classify(context, samples, labels, classes, media)
    if pc.any(pc.equal(labels["task"], schema.MULTI_LABEL)).as_py():
        taught = _with_tags(context, taught, samples, labels, classes, media)
    specs = [spec for spec in context.spec.teachers if isinstance(spec, CocoTeacherSpec)]
    return _with_boxes(context, taught, specs, samples, labels, classes) if specs else taught


def _with_boxes(
    context: Context,
    taught: Taught,
    specs: Sequence[CocoTeacherSpec],
    samples: pa.Table,
    labels: pa.Table,
    classes: tuple[str, ...],
) -> Taught:
    good = views.readable(samples)
    files = [path for spec in specs for path in (spec.path, spec.images) if path]
    labels_file = _labels_file(context)
    own = [labels_file] if labels_file is not None else []
    key = {
        "version": VERSION,
        "pooled": POOLED_VERSION,
        "teachers": [_teacher_key(context, spec) for spec in specs],
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
            "about": _about(found.cards, found.errors),
            "scores": plug.build_statistics("teachers", score_detectors(view, names, classes)),
            "places": _places(view, sorted(names), classes) if names else pa.table({}),  # all failed: none
        }

    tables = context.run.stage(
        "detectors", key, ("boxes", "about", "scores", "places"), compute, keep=_nobody_failed
    )
    cards, errors = _told(tables["about"])
    return replace(
        taught,
        cards=[*taught.cards, *cards],
        statistics=pa.concat_tables([taught.statistics, _statistics(cards, errors), tables["scores"]]),
        boxes=tables["boxes"],
        detectors=tuple(card["name"] for card in cards),
        places=tables["places"] if cards else None,
    )


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
    good = views.readable(samples)
    families = _fold_families(context, good, rows)
    key = {
        "version": VERSION,
        "teachers": [_teacher_key(context, spec) for spec in specs],
        "labels": runs.digest_table(rows.select(["sample_id", "given", "content_sha256"])),
        "families": runs.digest_table(pa.table({"family": families})),
        "classes": list(classes),
        "seed": context.spec.seed,
        "versions": runs.versions(),
    }

    def compute() -> Mapping[str, pa.Table]:
        from curate.teachers import predict_all  # noqa: PLC0415 - torch and scikit-learn take seconds to import
        from curate.teachers.protocol import Request  # noqa: PLC0415 - as above

        told = predict_all(
            specs,
            Request(
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
                independent=True,
            ),
        )
        names = ["sample_id" if name == "label_id" else name for name in told.table.column_names]
        return {"predictions": told.table.rename_columns(names), "about": _about(told.cards, told.errors)}

    tables = context.run.stage("teachers-tags", key, ("predictions", "about"), compute, keep=_nobody_failed)
    cards, errors = _told(tables["about"])
    return replace(
        taught,
        cards=[*taught.cards, *cards],
        statistics=pa.concat_tables([taught.statistics, _statistics(cards, errors)]),
        present=tables["predictions"],
    )


def _labels_file(context: Context) -> Path | None:
    """Return the COCO file that the labels come from, where there is one: its ids are those of detectors run on it."""
    source = context.loaded.spec.source
    name, root = source.options.get("annotations"), context.source_root
    if source.format != "coco":
        return None
    file = root / name if isinstance(name, str) else root
    return file if file.is_file() and file.suffix.lower() == ".json" else None


def _places(view: pa.Table, names: Sequence[str], classes: tuple[str, ...]) -> pa.Table:
    from curate.checks.box_noise import read_boxes  # noqa: PLC0415 - only where boxes are judged
    from curate.teachers.boxes.pooled import pool_boxes  # noqa: PLC0415 - as above

    read = read_boxes(view, names, classes)
    return pool_boxes(read.sample_ids, read.given, read.found, names, len(classes))


def _nobody_failed(tables: Mapping[str, pa.Table]) -> bool:
    """Return whether a result may be remembered: what failed is tried again by the next run; too few stay too few."""
    told = zip(tables["about"]["kind"].to_pylist(), tables["about"]["json"].to_pylist(), strict=True)
    return all(kind != "error" or json.loads(text)["too_few"] for kind, text in told)


def _about(cards: Sequence[Any], errors: Sequence[Any]) -> pa.Table:
    """Return cards and errors as a table, for the cache."""
    told = [schema.canonical_json(card.to_json()) for card in cards]
    failed = [schema.canonical_json({"name": e.name, "message": e.message, "too_few": e.too_few}) for e in errors]
    return pa.table({"kind": ["card"] * len(told) + ["error"] * len(failed), "json": told + failed})


def _told(about: pa.Table) -> tuple[list[Any], list[Any]]:
    rows = about.to_pylist()
    cards = [json.loads(row["json"]) for row in rows if row["kind"] == "card"]
    return cards, [json.loads(row["json"]) for row in rows if row["kind"] == "error"]


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
    specs = [one for one in context.spec.teachers if one.kind not in BOX_TEACHERS]
    is_mask = pc.equal(view["task"], "segmentation")
    is_tag = pc.equal(view["task"], schema.MULTI_LABEL)  # asked about by image, see `_with_tags`
    asked = [
        (view.filter(pc.invert(pc.or_(is_mask, is_tag))), [one for one in specs if one.kind != "masks"]),
        (view.filter(is_mask), [one for one in specs if one.kind == "masks"]),
    ]
    asked = [(rows, own) for rows, own in asked if rows.num_rows and own]
    if not asked:
        return Taught(view.select(["label_id"]), (), schema.empty(schema.STATISTICS))
    view = pa.concat_tables([rows for rows, _ in asked])
    good = views.readable(samples)
    families = _fold_families(context, good, view)
    key = {
        "version": VERSION,
        "teachers": [_teacher_key(context, spec) for spec in specs],
        "labels": runs.digest_table(view.select(_JUDGED)),
        "families": runs.digest_table(pa.table({"family": families})),
        "classes": list(classes),
        "seed": context.spec.seed,
        "versions": runs.versions(),
    }

    def compute() -> Mapping[str, pa.Table]:
        from curate.teachers import predict_all  # noqa: PLC0415 - torch and scikit-learn take seconds to import
        from curate.teachers.protocol import Request  # noqa: PLC0415 - as above

        told, first = [], 0
        for rows, own in asked:
            request = Request(
                samples=good,
                labels=rows,
                media=media,
                classes=classes,
                families=families[first : first + rows.num_rows],
                seed=context.spec.seed,
                resolve=context.loaded.resolve,
                scratch=context.run.workspace.cache / "features",
                workers=context.workers,
                progress=context.run.listener.progress,
            )
            told.append(predict_all(own, request))
            first += rows.num_rows
        about = _about([card for one in told for card in one.cards], [e for one in told for e in one.errors])
        predictions = pa.concat_tables([one.table for one in told], promote_options="default")
        return {"predictions": predictions, "about": about}

    tables = context.run.stage("teachers", key, ("predictions", "about"), compute, keep=_nobody_failed)
    cards, errors = _told(tables["about"])
    return Taught(tables["predictions"], cards, _statistics(cards, errors))


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


def weights(statistics: pa.Table, taught: Taught) -> dict[str, float] | None:
    """Return the ensemble's weights as the label-noise check found them; None where it found none.

    A teacher that was left out has weight 0, so that its opinion is in no soft label either.
    """
    named = {
        row["group"].removeprefix("teacher="): float(row["value"])
        for row in statistics.to_pylist()
        if row["check"] in {"label_noise", "multi_label_noise"}
        and row["name"] == "teacher_weight"
        and row["group"] is not None
    }
    columns = [
        name.removeprefix(schema.PROB_PREFIX) for name in schema.teacher_columns(released_predictions(taught))
    ]
    known = {name: named.get(name, 0.0) for name in columns}
    return known if sum(known.values()) > 0 else None


def _teacher_key(context: Context, spec: TeacherSpec) -> Mapping[str, Any]:
    """Return what a teacher's answer depends on: its settings and the bytes of its files."""
    key: dict[str, Any] = spec.model_dump(mode="json")
    for name in _MODEL_FILES:
        given = getattr(spec, name, None)
        path = context.loaded.resolve(given) if given else None
        if path is not None and path.is_file():
            key[name] = runs.digest_file(path)
        elif path is not None and path.is_dir():
            inside = sorted(one for one in path.rglob("*") if one.is_file())
            key[name] = {str(one.relative_to(path)): runs.digest_file(one) for one in inside}
    features = getattr(spec, "features", "")
    _, _, file = str(features).partition(":")
    if file and context.loaded.resolve(file).is_file():
        key["features"] = runs.digest_file(context.loaded.resolve(file))
    return key


def _statistics(cards: Sequence[Mapping[str, Any]], errors: Sequence[Mapping[str, Any]]) -> pa.Table:
    rows: list[dict[str, Any]] = [
        {"name": "ran", "group": f"teacher={card['name']}", "value": 1.0, "n": card.get("n_predicted")}
        for card in cards
    ]
    rows += [
        {
            "name": "ran",
            "group": f"teacher={error['name']}",
            "value": 0.0,
            "outcome": "insufficient data" if error.get("too_few") else "errored",
            "detail": {"message": error["message"]},
        }
        for error in errors
    ]
    return plug.build_statistics("teachers", rows)


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
