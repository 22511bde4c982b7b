"""Detectors' boxes through the whole pipeline: a spec with COCO labels and two files of detections."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow.compute as pc
import pytest

import curate

SIDE = 96
CLASSES = ("square", "disc")


def _scene(random: np.random.Generator) -> tuple[np.ndarray[Any, Any], list[tuple[str, list[int]]]]:
    picture = random.integers(0, 60, (SIDE, SIDE, 3), dtype=np.uint8)
    things = []
    for corner in ((4, 4), (52, 4), (4, 52)):
        w, h = (int(v) for v in random.integers(20, 38, 2))
        x, y = (int(v + random.integers(0, 6)) for v in corner)
        kind = CLASSES[int(random.integers(2))]
        colour = tuple(int(v) for v in random.integers(120, 255, 3))
        if kind == "square":
            cv2.rectangle(picture, (x, y), (x + w, y + h), colour, -1)
        else:
            cv2.ellipse(picture, (x + w // 2, y + h // 2), (w // 2, h // 2), 0, 0, 360, colour, -1)
        things.append((kind, [x, y, w, h]))
    return picture, things


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Thirty pictures; in the first the label of one thing is missing, in the second one has the other class."""
    root = tmp_path_factory.mktemp("shapes")
    (root / "images").mkdir()
    random = np.random.default_rng(0)
    labels: dict[str, Any] = {"images": [], "annotations": []}
    labels["categories"] = [{"id": number + 1, "name": name} for number, name in enumerate(CLASSES)]
    found: dict[str, list[dict[str, Any]]] = {"near": [], "far": []}
    for number in range(30):
        picture, things = _scene(random)
        cv2.imwrite(str(root / "images" / f"{number:02}.png"), picture)
        labels["images"].append(
            {"id": 500 + number, "file_name": f"{number:02}.png", "width": SIDE, "height": SIDE}
        )
        for place, (kind, bbox) in enumerate(things):
            one = {"image_id": 500 + number, "category_id": CLASSES.index(kind) + 1, "bbox": bbox}
            for name, boxes in found.items():
                drawn = [round(v + random.normal(0, 1 if name == "near" else 2), 1) for v in bbox]
                boxes.append({**one, "bbox": drawn, "score": round(float(random.uniform(0.6, 0.99)), 3)})
            if (number, place) == (0, 0):
                continue
            wrong = {"category_id": 3 - one["category_id"]} if (number, place) == (1, 0) else {}
            labels["annotations"].append({"id": 10 * number + place, "iscrowd": 0, **one, **wrong})
    for boxes in found.values():
        for _ in range(40):
            x, y = (float(v) for v in random.uniform(0, 60, 2))
            stray = {"image_id": int(500 + random.integers(30)), "category_id": int(1 + random.integers(2))}
            boxes.append({**stray, "bbox": [x, y, 20.0, 20.0], "score": 0.05})
    (root / "labels.json").write_text(json.dumps(labels))
    for name, boxes in found.items():
        (root / f"{name}.json").write_text(json.dumps(boxes))
    file = root / "shapes.yaml"
    file.write_text(
        "name: shapes\nsource: {format: coco, path: ., annotations: labels.json, images: images}\n"
        "teachers:\n"
        "  - {kind: coco, name: near, path: near.json, images: labels.json, trained_on: other shapes}\n"
        "  - {kind: coco, name: far, path: far.json, images: labels.json}\n"
    )
    return file


def test_a_missing_and_a_swapped_box_go_to_people(spec: Path, tmp_path: Path) -> None:
    result = curate.run(spec, workspace=tmp_path, review=False)
    findings = result.tables["findings"]
    found = findings.filter(pc.and_(pc.equal(findings["check"], "box_noise"), findings["flagged"])).to_pylist()
    uri = dict(zip(*(result.tables["samples"][name].to_pylist() for name in ("sample_id", "uri")), strict=True))
    by_issue = {(uri[row["sample_id"]].rpartition("/")[2], row["issue"]): row for row in found}
    missing = by_issue["00.png", "missing"]
    assert missing["label_id"] is None
    assert missing["suggested_label"] in CLASSES
    assert np.allclose(missing["suggested_bbox"], np.array([4, 4, 30, 30]) / SIDE, atol=0.12)
    swapped = by_issue["01.png", "swap"]
    assert swapped["label_id"] is not None
    verdicts = {row["label_id"]: row["action"] for row in result.tables["verdicts"].to_pylist()}
    assert verdicts[swapped["label_id"]] in {"review", "relabel"}
    rows = [row for row in result.tables["verdicts"].to_pylist() if uri[row["sample_id"]].endswith("00.png")]
    assert {row["action"] for row in rows} == {"review"}, "a picture that lacks a box waits as a whole"
    assert len(found) <= 6
    cards = {row["group"]: row for row in result.tables["statistics"].to_pylist() if row["check"] == "teachers"}
    assert cards["teacher=near"]["n"] == 30
    noise = [row for row in result.tables["statistics"].to_pylist() if row["check"] == "label_noise"]
    assert [row["name"] for row in noise if row["outcome"] is None] == ["applies"]


def test_detectors_are_scored_by_the_rules_of_coco(spec: Path, tmp_path: Path) -> None:
    result = curate.run(spec, workspace=tmp_path, review=False, until="teach")
    told = {
        (row["name"], row["group"]): row
        for row in result.tables["statistics"].to_pylist()
        if row["check"] == "teachers"
    }
    near, far = (told["map", f"teacher={name}"]["value"] for name in ("near", "far"))
    assert 0.3 < far < near < 1
    assert ("map", "teacher=near,class=disc") in told
    assert ("map", "teacher=near,size=small") in told
    assert told["mean_iou", "teacher=near"]["value"] > told["mean_iou", "teacher=far"]["value"]


def test_a_file_that_says_nothing_of_its_ids_is_an_errored_teacher(spec: Path, tmp_path: Path) -> None:
    file = spec.with_name("unnamed.yaml")
    file.write_text(spec.read_text().replace("far.json, images: labels.json", "far.json"))
    result = curate.run(file, workspace=tmp_path, review=False, until="teach")
    rows = {
        row["group"]: row
        for row in result.tables["statistics"].to_pylist()
        if row["check"] == "teachers" and row["name"] == "ran"
    }
    assert rows["teacher=far"]["outcome"] == "errored"
    assert "`images`" in rows["teacher=far"]["detail"]
    assert rows["teacher=near"]["value"] == 1
