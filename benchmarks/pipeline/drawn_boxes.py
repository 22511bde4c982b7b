"""Small JPEGs with boxes in COCO files, and two detectors' results: what `scale.py --boxes` runs on.

Six or seven boxes an image (a million on 150,000), a tenth more of each detector, most of them close to a true one, the
others anywhere and faint. Of the labels a hundredth each is left out, moved, renamed and invented.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np

BOXES_AN_IMAGE = 20 / 3
N_FOLDERS = 100
SIDE_PX = (64, 48)  # of the pictures; the labels say so too
WRONG = 0.01  # of the labels, of each kind of error
SEEN = 0.9  # of the true boxes, by each detector
FAINT = 0.2  # boxes of a detector that lie anywhere, by true box
SPEC = """\
name: scale
source: {{format: coco, path: source, annotations: labels.json, images: pictures}}
task: detection
classes: [{classes}]
teachers:
  - {{kind: coco, name: one, path: one.json}}
  - {{kind: coco, name: two, path: two.json}}
policy: {{use_default_gates: false}}
"""

Array = np.ndarray[Any, np.dtype[Any]]


def draw_boxes(folder: Path, n: int, names: list[str]) -> None:
    """Write `n` pictures, labels and the results of two detectors into `folder`."""
    for part in range(N_FOLDERS):
        draw_pictures(folder, n, part)
    random = np.random.default_rng(0)
    n_boxes = round(n * BOXES_AN_IMAGE)
    image = np.sort(random.integers(n, size=n_boxes))
    label, boxes = random.integers(len(names), size=n_boxes), anywhere(random, n_boxes)
    for name in ("one", "two"):
        found = detected(random, n, image, label, boxes, len(names))
        (folder / f"{name}.json").write_text(json.dumps(found))
    images = [{"id": at, "file_name": file_of(at, n), "width": SIDE_PX[0], "height": SIDE_PX[1]} for at in range(n)]
    categories = [{"id": at + 1, "name": name} for at, name in enumerate(names)]
    annotations = [
        {**one, "id": at, "iscrowd": 0}
        for at, one in enumerate(rows(*mislabeled(random, image, label, boxes, len(names))))
    ]
    content = {"images": images, "categories": categories, "annotations": annotations}
    (folder / "source" / "labels.json").write_text(json.dumps(content))


def draw_pictures(folder: Path, n: int, part: int, variant: int = 0) -> None:
    """Write a hundredth of the pictures; another variant has other bytes in each."""
    random = np.random.default_rng((part, variant))
    own = folder / "source" / "pictures" / f"{part:02}"
    own.mkdir(parents=True, exist_ok=True)
    for at in range(part, n, N_FOLDERS):
        coarse = random.integers(0, 256, (6, 8, 3), dtype=np.uint8)
        picture = cv2.resize(coarse, SIDE_PX, interpolation=cv2.INTER_CUBIC)
        encoded = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 85])[1]
        (folder / "source" / "pictures" / file_of(at, n)).write_bytes(encoded.tobytes())


def file_of(at: int, n: int) -> str:
    """Return the name of a picture, relative to their folder."""
    return f"{at % N_FOLDERS:02}/{at:0{len(str(n))}}.jpg"


def anywhere(random: np.random.Generator, n: int) -> Array:
    """Return (n, 4) boxes x, y, w, h in pixels inside the picture."""
    side = np.exp(random.uniform(np.log(0.08), np.log(0.5), (n, 2)))
    return np.concatenate([random.uniform(0, 1 - side), side], axis=1) * np.tile(SIDE_PX, 2)


def jittered(random: np.random.Generator, boxes: Array, amount: float) -> Array:
    """Return boxes whose place and sides are off by `amount` of their sides (a standard deviation)."""
    sides = boxes[:, 2:] * np.exp(random.normal(0, amount, (len(boxes), 2)))
    start = boxes[:, :2] + random.normal(0, amount, (len(boxes), 2)) * boxes[:, 2:]
    low = np.clip(start, 0, np.array(SIDE_PX) - 1)
    return np.concatenate([low, np.clip(start + sides, low + 0.5, SIDE_PX) - low], axis=1)


def detected(
    random: np.random.Generator, n: int, image: Array, label: Array, boxes: Array, n_classes: int
) -> list[dict[str, Any]]:
    """Return what a detector sees, as a COCO results list."""
    seen = random.random(len(image)) < SEEN
    n_faint = int(len(image) * FAINT)
    named = np.where(random.random(len(image)) < 0.05, random.integers(n_classes, size=len(image)), label)[seen]
    scores = np.concatenate([random.beta(6, 2, seen.sum()), random.beta(1, 6, n_faint)])
    parts = (
        np.concatenate([image[seen], random.integers(n, size=n_faint)]),
        np.concatenate([named, random.integers(n_classes, size=n_faint)]),
        np.concatenate([jittered(random, boxes[seen], 0.06), anywhere(random, n_faint)]),
    )
    return [{**one, "score": score} for one, score in zip(rows(*parts), np.round(scores, 4).tolist(), strict=True)]


def mislabeled(
    random: np.random.Generator, image: Array, label: Array, boxes: Array, n_classes: int
) -> tuple[Array, Array, Array]:
    """Return the labels with errors: some left out, moved, of another class; and some about nothing."""
    part = random.random(len(image))
    moved, renamed = (part >= WRONG) & (part < 2 * WRONG), (part >= 2 * WRONG) & (part < 3 * WRONG)
    boxes, label = boxes.copy(), label.copy()
    boxes[moved] = jittered(random, boxes[moved], 0.35)
    label[renamed] = (label[renamed] + 1) % n_classes
    kept, n_invented = part >= WRONG, int(len(image) * WRONG)
    return (
        np.concatenate([image[kept], random.permutation(image)[:n_invented]]),
        np.concatenate([label[kept], random.integers(n_classes, size=n_invented)]),
        np.concatenate([boxes[kept], anywhere(random, n_invented)]),
    )


def rows(image: Array, label: Array, boxes: Array) -> list[dict[str, Any]]:
    """Return entries of a COCO file."""
    columns = zip(image.tolist(), label.tolist(), np.round(boxes, 3).tolist(), strict=True)
    return [{"image_id": at, "category_id": one + 1, "bbox": box} for at, one, box in columns]
