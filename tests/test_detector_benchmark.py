"""The detector's benchmark: its measure against pycocotools, its loss, and the one command from end to end."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import end_to_end as e2e
import numpy as np
import pytest

pytest.importorskip("torch")
import torch

HERE = Path(__file__).resolve().parents[1] / "benchmarks" / "student"
sys.path.insert(0, str(HERE))  # the benchmark's modules are no package
box_metrics, box_net = (importlib.import_module(f"box_{name}") for name in ("metrics", "net"))

SIDE = 64
ARMS = ["raw labels", "curate release", "release and soft boxes", "release, holes as background", "oracle"]
SIZES = ("--seeds", "1", "--test", "8", "--steps", "3", "--teacher-steps", "2", "--width", "8", "--resamples", "20")


def _boxes(rng: np.random.Generator, n: int) -> np.ndarray[Any, Any]:
    low = rng.uniform(0, 0.7, (n, 2))
    return np.concatenate([low, low + rng.uniform(0.05, 0.3, (n, 2))], 1)


def _cell(seed: int, digits: int = 9) -> dict[str, np.ndarray[Any, Any]]:
    """Return matches of made-up detections on 12 images of 3 classes, some of them near true boxes."""
    rng = np.random.default_rng(seed)
    image, label = rng.integers(0, 12, 50), rng.integers(0, 2 + seed % 2, 50)
    truth = _boxes(rng, 50)
    found = []
    for at in range(12):
        mine = truth[image == at] + rng.normal(0, 0.01, ((image == at).sum(), 4))
        boxes = np.sort(np.concatenate([mine, _boxes(rng, 5)]).reshape(-1, 2, 2), axis=1).reshape(-1, 4)
        labels = np.concatenate([label[image == at], rng.integers(0, 3, 5)])
        found.append({"boxes": boxes, "labels": labels, "scores": rng.uniform(0, 1, len(boxes)).round(digits)})
    return box_metrics.matched(found, truth, label, image, np.full((12, 2), 100), 3)


@pytest.mark.parametrize("seed", range(4))
def test_average_precision_is_that_of_pycocotools_and_an_image_may_count_twice(seed: int) -> None:
    tied, cell = _cell(seed, digits=1), _cell(seed)
    assert np.allclose(box_metrics.map_and_ap50(tied), tied["stats"], atol=1e-12)
    assert np.allclose(box_metrics.map_and_ap50(cell), cell["stats"], atol=1e-12)
    twice = {name: cell[name] for name in box_metrics.MATCHES}
    of_three = cell["image"] == 3
    for name in ("k", "score", "hit"):
        twice[name] = np.concatenate([cell[name], cell[name][of_three]])
    twice["image"] = np.concatenate([cell["image"], np.full(of_three.sum(), 12)])
    twice["n_true"] = np.concatenate([cell["n_true"], cell["n_true"][3:4]])
    weight = np.ones(12)
    weight[3] = 2
    assert np.allclose(
        box_metrics.average_precisions(cell, weight),
        box_metrics.average_precisions(twice),
        equal_nan=True,
        atol=0.02,
    )
    mean, low, high = box_metrics.paired([cell], [cell], 5)
    assert (mean == 0).all()
    assert (low == 0).all()
    assert (high == 0).all()


def test_a_detector_that_finds_nothing_scores_nothing() -> None:
    nothing = {"boxes": np.zeros((0, 4)), "labels": np.zeros(0, int), "scores": np.zeros(0)}
    cell = box_metrics.matched(
        [nothing] * 2, np.array([[0, 0, 1, 1]]), np.array([1]), np.array([0]), np.full((2, 2), 10), 3
    )
    assert cell["hit"].shape == (0, 10)
    assert box_metrics.map_and_ap50(cell).tolist() == [0.0, 0.0] == cell["stats"].tolist()


def _target(boxes: list[list[float]], ignore: list[list[float]]) -> Any:  # noqa: ANN401 - Targets
    n = len(boxes)
    arrays = (np.array(some, np.float32).reshape(-1, 4) for some in (boxes, ignore))
    one, other = arrays
    return box_net.Targets(one, np.tile(np.array([1, 0], np.float32), (n, 1)), np.ones(n, np.float32), other)


def test_in_an_ignored_place_a_detector_learns_of_its_boxes_only() -> None:
    centre = torch.zeros(1, 2, 8, 8, requires_grad=True)
    sides = torch.ones(1, 4, 8, 8, requires_grad=True)
    target = _target([[0.0, 0.0, 0.25, 0.25]], [[0.0, 0.0, 0.5, 1.0]])
    box_net.loss_of(centre, sides, box_net.maps_of([target], 2, (8, 8))).backward()
    assert centre.grad is not None
    touched = centre.grad.abs().sum(1)[0] > 0
    assert touched[:, 4:].all(), "outside, everything that is no box is a negative"
    assert touched[:, :4].sum() == 1, "inside, only the cell of the box is learnt"
    assert touched[1, 1]


def test_mirroring_takes_boxes_and_ignored_places_along() -> None:
    pixels = np.zeros((40, 3, 8, 8), np.uint8)
    pixels[:, :, 0:2, 0:4] = 200
    target = _target([[0.0, 0.0, 0.5, 0.25]], [[0.0, 0.0, 0.5, 0.25]])
    images, learnt = box_net.augmented(pixels, [target] * 40, np.random.default_rng(0))
    corners = set()
    for image, one in zip(images, learnt, strict=True):
        x0, y0, x1, y1 = (int(v) for v in (one.boxes[0] * 8).round())
        assert (one.ignore == one.boxes).all()
        assert (image[:, y0:y1, x0:x1] > 100).all()
        assert (image > 100).sum() == 3 * 8
        corners.add((x0, y0))
    assert len(corners) == 4


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write 40 pictures of three things each, as COCO."""
    root = tmp_path_factory.mktemp("shapes")
    (root / "images").mkdir()
    rng = np.random.default_rng(0)
    labels: dict[str, Any] = {
        "images": [],
        "annotations": [],
        "categories": [{"id": 1, "name": "light"}, {"id": 2, "name": "dark"}],
    }
    for number in range(40):
        picture = rng.integers(100, 140, (SIDE, SIDE, 3), dtype=np.uint8)
        labels["images"].append({"id": number, "file_name": f"{number:02}.png", "width": SIDE, "height": SIDE})
        for place, (x, y) in enumerate(((4, 4), (36, 6), (8, 36))):
            kind, w, h = int(rng.integers(2)), *(int(v) for v in rng.integers(12, 22, 2))
            cv2.rectangle(picture, (x, y), (x + w, y + h), (255 * (1 - kind),) * 3, -1)
            one = {"id": 10 * number + place, "image_id": number, "category_id": kind + 1, "bbox": [x, y, w, h]}
            labels["annotations"].append({**one, "iscrowd": 0})
        cv2.imwrite(str(root / "images" / f"{number:02}.png"), picture)
    (root / "labels.json").write_text(json.dumps(labels))
    spec = root / "shapes.yaml"
    spec.write_text("name: shapes\nsource: {format: coco, path: ., annotations: labels.json, images: images}\n")
    return spec


@pytest.mark.slow
def test_one_command_plants_teaches_releases_and_trains(shapes: Path, tmp_path: Path) -> None:
    words = [shapes, "--out", tmp_path / "results", "--noise", "mixed:0.2", "drop:0.2", *SIZES, "--folds", "2"]
    words += ["--height-px", "32", "--width-px", "32"]
    command = [sys.executable, str(HERE / "detector.py"), *map(str, words)]

    def ran() -> str:
        told = subprocess.run(
            command, env=e2e.environment(), capture_output=True, text=True, check=False, timeout=280
        )
        assert told.returncode == 0, told.stderr
        return told.stdout

    table = ran()
    told = json.loads((tmp_path / "results" / "table.json").read_text())
    for noise in ("mixed:0.2", "drop:0.2"):
        assert [row["arm"] for row in told[noise]["rows"]] == ARMS
        (seed,) = told[noise]["seeds"]
        assert seed["n_images"] + seed["n_images_held_back"] == 32
        assert seed["n_true"] == 96
    planted = told["drop:0.2"]["seeds"][0]["planted"]
    assert planted == {"drop": round(0.2 * 96)}
    cells = tmp_path / "results" / "cells"
    before = (cells / "drop-0.2" / "raw-labels-0.npz").stat().st_mtime_ns
    (cells / "mixed-0.2" / "curate-release-0.npz").unlink()
    assert ran() == table, "what was done is found again, what is done again is the same"
    assert (cells / "drop-0.2" / "raw-labels-0.npz").stat().st_mtime_ns == before
