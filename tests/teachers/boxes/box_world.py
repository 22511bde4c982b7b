"""A simulated world of boxes: what is true, what detectors see of it, and labels with errors that are known."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

CLASSES = ("bus", "car", "dog", "sheep")
WIDTH, HEIGHT = 640, 480
Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class World:
    """Boxes in pixels; `kind` says what was done to a given one, `lost` are those that were left out."""

    n_images: int
    image: Array
    bbox: Array
    label: Array
    kind: Array
    lost_image: Array
    lost_bbox: Array
    detections: dict[str, list[dict[str, Any]]]

    def take(self, rows: Array) -> World:
        return replace(
            self, image=self.image[rows], bbox=self.bbox[rows], label=self.label[rows], kind=self.kind[rows]
        )


def make_world(n_images: int = 100, per_image: int = 5, n_detectors: int = 3, seed: int = 0) -> World:
    random = np.random.default_rng(seed)
    image = np.repeat(np.arange(n_images), per_image)
    n = len(image)
    sides = random.uniform(30, 160, (n, 2))
    bbox = np.concatenate([random.uniform(0, 1, (n, 2)) * ([WIDTH, HEIGHT] - sides), sides], axis=1).round()
    label = random.integers(len(CLASSES), size=n)
    clear = random.normal(1.5, 1.0, n)  # how easily a thing is seen; shared by all detectors
    found = {
        f"detector{number}": _detect(random, n_images, image, bbox, label, clear) for number in range(n_detectors)
    }
    nothing = np.zeros((0, 4))
    return World(n_images, image, bbox, label, np.full(n, "right", object), image[:0], nothing, found)


def _detect(
    random: np.random.Generator, n_images: int, image: Array, bbox: Array, label: Array, clear: Array
) -> list[dict[str, Any]]:
    n = len(image)
    score = 1 / (1 + np.exp(-(clear + random.normal(0, 1.0, n))))
    seen = random.uniform(size=n) < score + 0.15
    drawn = bbox + random.normal(0, 0.05, (n, 4)) * np.tile(bbox[:, 2:], 2)
    said = np.where(random.uniform(size=n) < 0.04, random.integers(len(CLASSES), size=n), label)
    rows = [_row(image[k], said[k], drawn[k], score[k]) for k in np.flatnonzero(seen)]
    for _ in range(4 * n_images):  # what is not there is seen as well, mostly faintly
        sides = random.uniform(30, 160, 2)
        box = np.concatenate([random.uniform(0, 1, 2) * ([WIDTH, HEIGHT] - sides), sides])
        rows.append(_row(random.integers(n_images), random.integers(len(CLASSES)), box, random.beta(1, 9)))
    return rows


def _row(image: int, label: int, box: Array, score: float) -> dict[str, Any]:
    bbox = [round(float(value), 1) for value in np.concatenate([box[:2], np.maximum(box[2:], 2)])]
    return {"image_id": int(image), "category_id": int(label), "bbox": bbox, "score": round(float(score), 4)}


def plant(world: World, seed: int = 1, share: float = 0.05) -> World:
    """Return the labels with `share` of each kind of error in them, shuffled; planted ones look like all others."""
    random = np.random.default_rng(seed)
    n = len(world.image)
    k = round(share * n)
    lost, moved, swapped = np.split(random.permutation(n)[: 3 * k], 3)
    bbox, label, kind = world.bbox.copy(), world.label.copy(), world.kind.copy()
    side = random.choice([-1, 1], (k, 2))
    bbox[moved, :2] += side * bbox[moved, 2:] * random.uniform(0.25, 0.4, (k, 2))
    kind[moved] = "location"
    label[swapped] = (label[swapped] + random.integers(1, len(CLASSES), k)) % len(CLASSES)
    kind[swapped] = "swap"
    sides = random.uniform(30, 160, (k, 2))
    made = np.concatenate([random.uniform(0, 1, (k, 2)) * ([WIDTH, HEIGHT] - sides), sides], axis=1)
    keep = np.setdiff1d(np.arange(n), lost)
    planted = replace(
        world,
        image=np.concatenate([world.image[keep], random.integers(world.n_images, size=k)]),
        bbox=np.concatenate([bbox[keep], made]).round(),
        label=np.concatenate([label[keep], random.integers(len(CLASSES), size=k)]),
        kind=np.concatenate([kind[keep], np.full(k, "spurious", object)]),
        lost_image=world.image[lost],
        lost_bbox=world.bbox[lost],
    )
    return planted.take(random.permutation(len(planted.image)))


def labels_of(world: World) -> dict[str, Any]:
    return {
        "images": [
            {"id": number, "file_name": f"{number:04}.png", "width": WIDTH, "height": HEIGHT}
            for number in range(world.n_images)
        ],
        "categories": [{"id": number, "name": name} for number, name in enumerate(CLASSES)],
        "annotations": [
            {"id": number, "image_id": int(image), "category_id": int(label), "bbox": bbox, "iscrowd": 0}
            for number, (image, label, bbox) in enumerate(
                zip(world.image, world.label, world.bbox.tolist(), strict=True)
            )
        ],
    }


def write(folder: Path, labels: dict[str, Any], detections: dict[str, Any]) -> tuple[Path, dict[str, Path]]:
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "labels.json"
    file.write_text(json.dumps(labels))
    teachers = {name: folder / f"{name}.json" for name in detections}
    for name, path in teachers.items():
        path.write_text(json.dumps(detections[name]))
    return file, teachers
