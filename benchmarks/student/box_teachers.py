"""Teachers that never saw what they judge: detectors of the same kind, trained on the wrong labels of the other folds."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from box_net import Targets, found_in, train
from box_world import Boxes, World

LOGGER = logging.getLogger("student")


def hard_targets(boxes: Boxes, n_classes: int, rows: np.ndarray) -> list[Targets]:
    """Return what a detector learns from boxes as they are, an image each."""
    one_hot = np.eye(n_classes, dtype=np.float32)
    told = []
    for row in rows.tolist():
        at = boxes.of(row)
        told.append(
            Targets(
                boxes.boxes[at],
                one_hot[boxes.label[at]],
                np.ones(len(at), np.float32),
                np.zeros((0, 4), np.float32),
            )
        )
    return told


def teacher_files(
    world: World, boxes: Boxes, folder: Path, seed: int, *, n_teachers: int, n_folds: int, n_steps: int, width: int
) -> list[Path]:
    """Return a COCO results file for each teacher; made fold by fold, and found again where it was made before.

    Args:
        world: its training images.
        boxes: their boxes, errors included.
        folder: for the files.
        seed: of folds and initialisations.
        n_teachers: detectors; each with folds of its own.
        n_folds: each image is judged by the one that did not train on its fold.
        n_steps: of each training.
        width: of the network.
    """
    paths = []
    targets = hard_targets(boxes, len(world.classes), world.train)
    for number in range(n_teachers):
        path = folder / f"teacher-{number}.json"
        paths.append(path)
        if path.is_file():
            continue
        fold = np.random.default_rng([seed, number, 5]).permutation(len(world.train)) % n_folds
        rows: list[dict[str, Any]] = []
        for out in range(n_folds):
            learnt = [None if fold[at] == out else one for at, one in enumerate(targets)]
            own = 1000 * (seed + 1) + 10 * number + out
            net = train(world.pixels[world.train], learnt, len(world.classes), own, n_steps=n_steps, width=width)
            judged = np.flatnonzero(fold == out)
            for at, found in zip(judged, found_in(net, world.pixels[world.train[judged]]), strict=True):
                rows += coco_rows(world, int(world.train[at]), found)
            LOGGER.info("teacher %d, fold %d", number, out)
        beside = path.with_suffix(".part")
        beside.write_text(json.dumps(rows), encoding="utf-8")
        beside.replace(path)
    return paths


def coco_rows(world: World, row: int, found: Mapping[str, np.ndarray]) -> list[dict[str, Any]]:
    """Return the boxes found in an image as COCO results; ids are file names and class names."""
    scale = np.tile(world.size_px[row], 2)
    return [
        {
            "image_id": file_of(row),
            "category_id": world.classes[label],
            "bbox": [
                round(float(v), 2) for v in np.concatenate([box[:2] * scale[:2], (box[2:] - box[:2]) * scale[2:]])
            ],
            "score": round(float(score), 4),
        }
        for box, score, label in zip(found["boxes"], found["scores"], found["labels"], strict=True)
        if (box[2:] > box[:2]).all()
    ]


def file_of(row: int) -> str:
    """Return the name that an image of the world has in the dataset that curate reads."""
    return f"{row:05d}.img"
