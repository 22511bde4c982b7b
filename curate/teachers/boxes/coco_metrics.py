"""How good detectors are on the given labels: mAP by the rules of COCO (pycocotools), and the mean IoU of the hits."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate import schema
from curate.teachers.sampling import order_keys, smallest

SIZES = ("small", "medium", "large")  # of COCO: sides of 32 and 96 px
MAX_DETECTIONS = 100
# That are scored, as many as COCO's own validation set has: pycocotools makes an object of each image, class and size.
MAX_IMAGES = 5_000
MAX_GROUPS = 20  # values of one attribute or group that are scored apart

Rows = list[dict[str, Any]]


def score_detectors(view: pa.Table, teachers: Sequence[str], classes: Sequence[str]) -> Rows:
    """Return rows of statistics: `map` (IoU .5 to .95), `map50` and `mean_iou`, each by what it is about.

    Over all, by class, by size (px, as COCO has it) and by declared attribute and group. What the labels hold nothing
    of has no value and "insufficient data". Given labels count as the truth, wrong ones too. Of more than `MAX_IMAGES`
    images those with the smallest hashes of their ids are scored, and every row says so.

    Args:
        view: the boxes view.
        teachers: names.
        classes: of the dataset.
    """
    n_images, view = view.num_rows, _sampled(view)
    size = np.stack([view[name].cast(pa.float64()).to_numpy() for name in ("width_px", "height_px")], axis=1)
    truth = _given(view, classes, size)
    groups = _groups(view)
    rows: Rows = []
    for name in teachers:
        found = _found(view[schema.BOXES_PREFIX + name], classes, size)
        rows += _scores(truth, found, list(range(view.num_rows)), f"teacher={name}", classes)
        for group, images in groups.items():
            rows += _scores(truth, found, images, f"teacher={name},{group}", None)
    if view.num_rows < n_images:
        rows = [{**row, "detail": {"n_images": n_images, "n_images_scored": view.num_rows}} for row in rows]
    return rows


def _sampled(view: pa.Table) -> pa.Table:
    """Return at most `MAX_IMAGES` rows, chosen by the hash of their ids, in the order in which they stand."""
    if view.num_rows <= MAX_IMAGES:
        return view
    keys = order_keys(view["sample_id"].to_pylist(), view.num_rows)
    return view.take(np.sort(smallest(keys, np.ones(len(keys), dtype=bool), MAX_IMAGES)))


def _groups(view: pa.Table) -> Mapping[str, list[int]]:
    prefixes = (schema.ATTRIBUTE_PREFIX, schema.GROUP_PREFIX)
    found: dict[str, list[int]] = {}
    for column in [name for name in view.column_names if name.startswith(prefixes)]:
        values = sorted(v for v in pc.unique(view[column]).to_pylist() if v is not None)
        if len(values) <= MAX_GROUPS:
            for value in values:
                at = pc.fill_null(pc.equal(view[column], value), False).to_numpy(zero_copy_only=False)  # noqa: FBT003
                found[f"{column}={value}"] = np.flatnonzero(at).tolist()
    return found


def _pixels(bbox: Sequence[float], size: np.ndarray[Any, Any]) -> list[float]:
    return [bbox[0] * size[0], bbox[1] * size[1], bbox[2] * size[0], bbox[3] * size[1]]


def _given(view: pa.Table, classes: Sequence[str], size: np.ndarray[Any, Any]) -> Rows:
    number = {name: at for at, name in enumerate(classes, start=1)}
    rows: Rows = []
    for image, boxes in enumerate(view["given_boxes"].to_pylist()):
        for one in boxes:
            if one["label"] in number:
                bbox = _pixels(one["bbox"], size[image])
                row = {"id": len(rows) + 1, "image_id": image, "category_id": number[one["label"]], "bbox": bbox}
                rows.append({**row, "area": bbox[2] * bbox[3], "iscrowd": int(bool(one["is_crowd"]))})
    return rows


def _found(column: pa.ChunkedArray, classes: Sequence[str], size: np.ndarray[Any, Any]) -> Rows:
    number = {name: at for at, name in enumerate(classes, start=1)}
    rows: Rows = []
    for image, boxes in enumerate(column.to_pylist()):
        for one in boxes:
            row = {
                "image_id": image,
                "category_id": number[one["label"]],
                "bbox": _pixels(one["bbox"], size[image]),
            }
            rows.append({**row, "score": one["score"]})
    return rows


def _scores(truth: Rows, found: Rows, images: list[int], about: str, classes: Sequence[str] | None) -> Rows:
    """Return the rows of a teacher on some images; by class and size too where `classes` are given."""
    inside = set(images)
    truth = [row for row in truth if row["image_id"] in inside]
    found = [row for row in found if row["image_id"] in inside]
    n = len(truth)
    if not truth or not found:
        empty = {"value": None, "n": n, "outcome": "insufficient data"}
        return [{"name": name, "group": about, **empty} for name in ("map", "map50", "mean_iou")]
    result = _evaluate(truth, found, images, by_size=classes is not None)
    precision = result.eval["precision"]  # IoU, recall, class, size, detections
    of_class = list(result.params.catIds)
    rows = [
        _row("map", about, precision[:, :, :, 0, -1], n),
        _row("map50", about, precision[0, :, :, 0, -1], n),
        _row("mean_iou", about, np.array(_ious(result)), n),
    ]
    for at, name in enumerate(classes or ()):
        if at + 1 in of_class:
            own = sum(row["category_id"] == at + 1 for row in truth)
            rows.append(_row("map", f"{about},class={name}", precision[:, :, of_class.index(at + 1), 0, -1], own))
    if classes is not None:
        rows += [
            _row("map", f"{about},size={size}", precision[:, :, :, at, -1], n)
            for at, size in enumerate(SIZES, start=1)
        ]
    return rows


def _row(name: str, group: str, values: np.ndarray[Any, Any], n: int) -> dict[str, Any]:
    known = values[values > -1]
    value = float(known.mean()) if known.size else None
    return {
        "name": name,
        "group": group,
        "value": value,
        "n": n,
        "outcome": None if known.size else "insufficient data",
    }


def _evaluate(truth: Rows, found: Rows, images: list[int], *, by_size: bool) -> Any:  # noqa: ANN401 - pycocotools has no types
    from pycocotools.coco import COCO  # noqa: PLC0415 - only where detectors are scored
    from pycocotools.cocoeval import COCOeval  # noqa: PLC0415 - as above

    with contextlib.redirect_stdout(io.StringIO()):  # it prints as it goes
        known = COCO()
        numbers = sorted({row["category_id"] for row in truth})
        known.dataset = {
            "info": {},
            "images": [{"id": image} for image in images],
            "categories": [{"id": number} for number in numbers],
            "annotations": [dict(row) for row in truth],
        }
        known.createIndex()
        result = COCOeval(known, known.loadRes([dict(row) for row in found]), "bbox")
        if not by_size:
            result.params.areaRng, result.params.areaRngLbl = (
                part[:1] for part in (result.params.areaRng, result.params.areaRngLbl)
            )
        result.evaluate()
        result.accumulate()
    return result


def _ious(result: Any) -> list[float]:  # noqa: ANN401 - as above
    """Return the IoU of every given box that is found (IoU .5, its class, at most 100 boxes an image)."""
    ious: list[float] = []
    for one in result.evalImgs:
        if one is None or one["aRng"] != result.params.areaRng[0] or one["maxDet"] != MAX_DETECTIONS:
            continue
        overlap = result.ious[one["image_id"], one["category_id"]]
        ids = [row["id"] for row in result._gts[one["image_id"], one["category_id"]]]  # noqa: SLF001 - the order of `ious`
        for row, matched in enumerate(one["dtMatches"][0].tolist()):
            if matched and not one["dtIgnore"][0][row]:
                ious.append(float(overlap[row, ids.index(matched)]))
    return ious
