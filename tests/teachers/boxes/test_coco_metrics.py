# ruff: noqa: ANN401 - pycocotools has no types
"""Detectors against labels: what is said of all, a class, a size or a group is what COCOeval says of it alone."""

from __future__ import annotations

import contextlib
import io
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curate import schema
from curate.teachers.boxes.coco_metrics import score_detectors

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


def evaluated(truth: list[dict[str, Any]], found: list[dict[str, Any]], n_images: int) -> Any:
    """Return a `COCOeval` of these boxes alone."""
    from pycocotools.coco import COCO  # noqa: PLC0415 - prints as it is imported late
    from pycocotools.cocoeval import COCOeval  # noqa: PLC0415 - as above

    with contextlib.redirect_stdout(io.StringIO()):
        known = COCO()
        known.dataset = {
            "info": {},
            "images": [{"id": image} for image in range(n_images)],
            "categories": [{"id": k} for k in sorted({row["category_id"] for row in truth})],
            "annotations": truth,
        }
        known.createIndex()
        result = COCOeval(known, known.loadRes([dict(row) for row in found]), "bbox")
        result.evaluate()
        result.accumulate()
        result.summarize()
    return result


def coco(truth: list[dict[str, Any]], found: list[dict[str, Any]]) -> Any:
    """Return the twelve numbers that COCOeval prints for these boxes alone."""
    rows = [
        {**row, "id": k + 1, "iscrowd": 0, "area": row["bbox"][2] * row["bbox"][3]} for k, row in enumerate(truth)
    ]
    return evaluated(rows, found, max(row["image_id"] for row in truth) + 1).stats


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


def crowded(seed: int, side: int, n_boxes: int, digits: int) -> tuple[pa.Table, tuple[str, ...]]:
    """Return a view of few images with many boxes, crowd regions among them, and scores that tie."""
    random = np.random.default_rng(seed)
    n_images, n_classes = int(random.integers(1, 6)), int(random.integers(1, 4))
    classes = tuple("abc"[:n_classes])

    def drawn(n: int, near: list[list[float]] | None = None) -> list[list[float]]:
        boxes = np.concatenate([random.uniform(0, 0.7, (n, 2)), random.uniform(0.02, 0.3, (n, 2))], axis=1)
        if near and n > 1:
            boxes[: n // 2] = [near[at] for at in random.integers(0, len(near), n // 2)]
            boxes[: n // 4] *= random.normal(1, 0.03, (n // 4, 4))
        return boxes.round(3).tolist()

    labels, found = [], []
    for _ in range(n_images):
        places = drawn(int(random.integers(0, n_boxes)))
        labels.append(
            [
                {
                    "label_id": "",
                    "label": str(random.choice(classes)),
                    "bbox": box,
                    "is_crowd": random.random() < 0.1,
                }
                for box in places
            ]
        )
        found.append(
            [
                {"label": str(random.choice(classes)), "bbox": box, "score": round(random.random(), digits)}
                for box in drawn(int(random.integers(0, 3 * n_boxes)), places)
            ]
        )
    view = pa.table(
        {
            "sample_id": [str(image) for image in range(n_images)],
            "width_px": [side] * n_images,
            "height_px": [side + 7] * n_images,
            "given_boxes": pa.array(labels, pa.list_(schema.GIVEN_BOX)),
            "boxes_one": pa.array(found, pa.list_(schema.FOUND_BOX)),
        }
    )
    return view, classes


def scored_by_pycocotools(view: pa.Table, classes: tuple[str, ...]) -> dict[tuple[str, str], float | None]:
    """Return what `COCOeval` has for the same boxes: over all, by class and by size; and the mean IoU of its hits."""
    truth, found = [], []
    for column, rows in (("given_boxes", truth), ("boxes_one", found)):
        for image, boxes in enumerate(view[column].to_pylist()):
            w, h = view["width_px"][image].as_py(), view["height_px"][image].as_py()
            for one in boxes:
                x = one["bbox"]
                row = {"image_id": image, "category_id": classes.index(one["label"]) + 1}
                row |= {"bbox": [x[0] * w, x[1] * h, x[2] * w, x[3] * h]}
                row |= {"score": one["score"]} if "score" in one else {"iscrowd": int(one["is_crowd"])}
                rows.append(row)
    for at, row in enumerate(truth):
        row |= {"id": at + 1, "area": row["bbox"][2] * row["bbox"][3]}
    if not truth or not found:
        return {("map", "teacher=one"): None}
    result = evaluated(truth, found, view.num_rows)
    precision = result.eval["precision"][..., -1]
    told = {
        ("map", "teacher=one"): precision[..., 0],
        ("map50", "teacher=one"): precision[0, :, :, 0],
        ("mean_iou", "teacher=one"): np.array(ious(result)),
    }
    for at, number in enumerate(result.params.catIds):
        told["map", f"teacher=one,class={classes[number - 1]}"] = precision[:, :, at, 0]
    for at, name in enumerate(("small", "medium", "large"), start=1):
        told["map", f"teacher=one,size={name}"] = precision[..., at]
    known = {key: values[values > -1] for key, values in told.items()}
    return {key: float(values.mean()) if values.size else None for key, values in known.items()}


def ious(result: Any) -> list[float]:
    found = []
    for one in result.evalImgs:
        if one is not None and one["aRng"] == result.params.areaRng[0]:
            ids = [row["id"] for row in result._gts[one["image_id"], one["category_id"]]]
            overlap = result.ious[one["image_id"], one["category_id"]]
            for row, matched in enumerate(one["dtMatches"][0].tolist()):
                if matched and not one["dtIgnore"][0][row]:
                    found.append(float(overlap[row, ids.index(matched)]))
    return found


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    side=st.sampled_from([50, 300, 2000]),
    n_boxes=st.sampled_from([4, 20, 90]),
    digits=st.sampled_from([1, 6]),
)
def test_many_boxes_in_one_place_crowds_and_ties_score_as_pycocotools_has_it_to_the_bit(
    seed: int, side: int, n_boxes: int, digits: int
) -> None:
    view, classes = crowded(seed, side, n_boxes, digits)
    told = {(row["name"], row["group"]): row["value"] for row in score_detectors(view, ["one"], classes)}
    wanted = scored_by_pycocotools(view, classes)
    assert {key: told[key] for key in wanted} == wanted
    assert len(wanted) == 1 or told.keys() == wanted.keys()


def test_rows_in_another_order_score_the_same() -> None:
    view = view_of(*truth_and_found())
    rows = score_detectors(view, ["one"], CLASSES)
    turned = score_detectors(view.take(pa.array(np.arange(24)[::-1])), ["one"], CLASSES)
    assert {(row["name"], row["group"]): row["value"] for row in turned} == pytest.approx(
        {(row["name"], row["group"]): row["value"] for row in rows}, nan_ok=True
    )
