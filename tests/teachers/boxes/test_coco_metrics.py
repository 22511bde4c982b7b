# ruff: noqa: ANN401 - pycocotools has no types
"""Detectors against labels: what is said of all, a class, a size or a group is what COCOeval says of it alone."""

from __future__ import annotations

import contextlib
import io
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from curate import schema
from curate.teachers.boxes import coco_metrics
from curate.teachers.boxes.coco_metrics import score_detectors
from curate.teachers.sampling import order_keys

CLASSES = ("car", "dog")
SIDE = 400


def truth_and_found(seed: int = 0, n_images: int = 24) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    random = np.random.default_rng(seed)
    truth, found = [], []
    for image in range(n_images):
        for _ in range(4):
            w, h = random.choice([20, 60, 150], 1).repeat(2) * random.uniform(0.8, 1.2, 2)
            box = [*(random.uniform(0, SIDE - 180, 2)), w, h]
            label = int(random.integers(1, 3))
            truth.append({"image_id": image, "category_id": label, "bbox": [float(v) for v in box]})
            if random.uniform() < 0.8:
                noise = 0.04 + 0.12 * (image % 2)  # pictures of camera b are found worse
                drawn = [float(v + random.normal(0, noise * w)) for v in box]
                found.append({**truth[-1], "bbox": drawn, "score": float(random.uniform(0.3, 1))})
    return truth, found


def view_of(truth: list[dict[str, Any]], found: list[dict[str, Any]], n_images: int = 24) -> pa.Table:
    def of(rows: list[dict[str, Any]], image: int, **more: Any) -> list[dict[str, Any]]:
        chosen = [row for row in rows if row["image_id"] == image]
        return [
            {"label": CLASSES[row["category_id"] - 1], "bbox": [v / SIDE for v in row["bbox"]], **more}
            | ({"score": row["score"]} if "score" in row else {"label_id": f"{image}", "is_crowd": False})
            for row in chosen
        ]

    return pa.table(
        {
            "sample_id": [str(image) for image in range(n_images)],
            "width_px": [SIDE] * n_images,
            "height_px": [SIDE] * n_images,
            "group_camera": ["ab"[image % 2] for image in range(n_images)],
            "attr_light": [None] * n_images,
            "given_boxes": pa.array([of(truth, image) for image in range(n_images)], pa.list_(schema.GIVEN_BOX)),
            "boxes_one": pa.array([of(found, image) for image in range(n_images)], pa.list_(schema.FOUND_BOX)),
        }
    )


def coco(truth: list[dict[str, Any]], found: list[dict[str, Any]]) -> Any:
    """Return the twelve numbers that COCOeval prints for these boxes alone."""
    from pycocotools.coco import COCO  # noqa: PLC0415 - prints as it is imported late
    from pycocotools.cocoeval import COCOeval  # noqa: PLC0415 - as above

    with contextlib.redirect_stdout(io.StringIO()):
        known = COCO()
        known.dataset = {
            "info": {},
            "images": [{"id": image} for image in sorted({row["image_id"] for row in truth})],
            "categories": [{"id": k} for k in sorted({row["category_id"] for row in truth})],
            "annotations": [
                {**row, "id": k + 1, "iscrowd": 0, "area": row["bbox"][2] * row["bbox"][3]}
                for k, row in enumerate(truth)
            ],
        }
        known.createIndex()
        result = COCOeval(known, known.loadRes([dict(row) for row in found]), "bbox")
        result.evaluate()
        result.accumulate()
        result.summarize()
    return result.stats


@pytest.fixture(scope="module")
def told() -> dict[tuple[str, str], dict[str, Any]]:
    rows = score_detectors(view_of(*truth_and_found()), ["one"], CLASSES)
    return {(row["name"], row["group"]): row for row in rows}


def test_over_all_and_by_size_it_is_what_cocoeval_says(told: dict[tuple[str, str], dict[str, Any]]) -> None:
    stats = coco(*truth_and_found())
    assert told["map", "teacher=one"]["value"] == pytest.approx(stats[0])
    assert told["map50", "teacher=one"]["value"] == pytest.approx(stats[1])
    for at, size in enumerate(("small", "medium", "large"), start=3):
        assert told["map", f"teacher=one,size={size}"]["value"] == pytest.approx(stats[at])


@pytest.mark.parametrize("number", [1, 2])
def test_a_class_is_what_cocoeval_says_of_its_boxes(
    told: dict[tuple[str, str], dict[str, Any]], number: int
) -> None:
    truth, found = ([row for row in rows if row["category_id"] == number] for rows in truth_and_found())
    row = told["map", f"teacher=one,class={CLASSES[number - 1]}"]
    assert row["value"] == pytest.approx(coco(truth, found)[0])
    assert row["n"] == len(truth)


@pytest.mark.parametrize("camera", [0, 1])
def test_a_group_is_what_cocoeval_says_of_its_images(
    told: dict[tuple[str, str], dict[str, Any]], camera: int
) -> None:
    truth, found = ([row for row in rows if row["image_id"] % 2 == camera] for rows in truth_and_found())
    group = f"teacher=one,group_camera={'ab'[camera]}"
    assert told["map", group]["value"] == pytest.approx(coco(truth, found)[0])
    assert told["map50", group]["value"] == pytest.approx(coco(truth, found)[1])
    assert told["mean_iou", group]["n"] == len(truth)


def test_boxes_that_are_drawn_worse_have_a_lower_iou(told: dict[tuple[str, str], dict[str, Any]]) -> None:
    near, far = (told["mean_iou", f"teacher=one,group_camera={camera}"]["value"] for camera in "ab")
    assert 0.5 < far < near < 1
    assert far < told["mean_iou", "teacher=one"]["value"] < near


def test_what_the_labels_hold_nothing_of_has_no_value() -> None:
    truth, found = truth_and_found()
    large = [row for row in truth if row["bbox"][2] > 100]
    rows = score_detectors(view_of(large, found), ["one"], (*CLASSES, "bus"))
    told = {(row["name"], row["group"]): row for row in rows}
    small = told["map", "teacher=one,size=small"]
    assert (small["value"], small["outcome"]) == (None, "insufficient data")
    assert ("map", "teacher=one,class=bus") not in told
    nothing = score_detectors(view_of(truth, []), ["one"], CLASSES)
    assert {row["outcome"] for row in nothing} == {"insufficient data"}


def test_of_many_images_those_with_the_smallest_hashes_are_scored_and_the_rows_say_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(coco_metrics, "MAX_IMAGES", 5)
    view = view_of(*truth_and_found())
    rows = score_detectors(view, ["one"], CLASSES)
    assert all(row["detail"] == {"n_images": 24, "n_images_scored": 5} for row in rows)
    chosen = np.sort(np.argsort(order_keys(view["sample_id"].to_pylist(), 24))[:5])
    alone = score_detectors(view.take(pa.array(chosen)), ["one"], CLASSES)
    assert [{**row, "detail": None} for row in rows] == [{**row, "detail": None} for row in alone]
    turned = score_detectors(view.take(pa.array(np.arange(24)[::-1])), ["one"], CLASSES)
    assert {(row["name"], row["group"]): row["value"] for row in turned} == pytest.approx(
        {(row["name"], row["group"]): row["value"] for row in rows}, nan_ok=True
    )
