"""What each student is trained on: the wrong boxes, what curate made of them, and the truth."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from box_net import Targets
from box_teachers import file_of, hard_targets
from box_world import Boxes, World

import curate
import curate.feed

ARMS = ("raw labels", "curate release", "release and soft boxes", "release, holes as background", "oracle")
OURS = "curate release"
NAME = "boxes"
ISSUES = ("missing", "location", "swap", "spurious", "duplicate")
Item = Mapping[str, Any]


def arms(world: World, given: Boxes, truth: Boxes, items: Mapping[int, Item]) -> dict[str, list[Targets | None]]:
    """Return for each arm the targets of each training image; None where the release holds the image back."""
    n = len(world.classes)
    rows = world.train.tolist()
    released = [items.get(row) for row in rows]
    return {
        "raw labels": [*hard_targets(given, n, world.train)],
        "curate release": [one and hard_of(one, n) for one in released],
        "release and soft boxes": [one and soft_of(one, n) for one in released],
        "release, holes as background": [one and hard_of(one, n, ignore=False) for one in released],
        "oracle": [*hard_targets(truth, n, world.train)],
    }


def hard_of(item: Item, n_classes: int, *, ignore: bool = True) -> Targets:
    """Return what a detector learns from the released boxes of an image and their weights."""
    scores = np.eye(n_classes, dtype=np.float32)[item["labels"].numpy()]
    places = item["ignore"].numpy() if ignore else np.zeros((0, 4), np.float32)
    return Targets(item["boxes"].numpy(), scores, item["weights"].numpy(), places)


def soft_of(item: Item, n_classes: int) -> Targets:
    """Return released boxes and boxes that only teachers see, each with the chance of each class there.

    Of a released box half of what the teachers believe of its label is taken from the label, the rest from them, as
    `distillation_loss` does, "nothing there" being one more class: h = r / 2, r = p(label) / max p.
    """
    hard = hard_of(item, n_classes)
    chance = chances(item["soft"])
    known = np.isfinite(chance).all(1)
    p = np.where(known[:, None], chance, 0.0)
    highest = np.maximum(p.max(1, initial=0.0), 1.0 - p.sum(1))
    share = np.where(known, 0.5 * (p * hard.scores).sum(1) / np.maximum(highest, 1e-6), 1.0)[:, None]
    scores = share * hard.scores + (1 - share) * p
    theirs = item["teacher_boxes"]
    beside = np.nan_to_num(chances(theirs))
    return Targets(
        np.concatenate([hard.boxes, theirs["boxes"].numpy()]).astype(np.float32),
        np.concatenate([scores, beside]).astype(np.float32),
        np.concatenate([hard.weights, np.ones(len(beside), np.float32)]),
        hard.ignore,
    )


def chances(soft: Mapping[str, Any]) -> np.ndarray:
    """Return (n, K) objectness times class mass; NaN where no teacher looked; 0 where they see nothing."""
    objectness = soft["objectness"].numpy().astype(np.float64)
    probs = np.nan_to_num(soft["probs"].numpy().astype(np.float64))
    return objectness[:, None] * probs


def curated(
    world: World, labels: pa.Table, teachers: Sequence[Path], folder: Path, policy: Mapping[str, Any]
) -> tuple[dict[int, Item], dict[str, Any]]:
    """Run curate as a user does: a COCO file, teachers' results, a spec; then read its release through the feed.

    Returns:
        Row of the world -> item of the feed, and counts.
    """
    (folder / "images").mkdir(parents=True, exist_ok=True)
    place = {world.sample_ids[row]: int(row) for row in world.train}
    for row in world.train.tolist():
        (folder / "images" / file_of(row)).write_bytes(world.encoded[row])
    write_coco(world, labels, place, folder / "labels.json")
    spec = {
        "name": NAME,
        "source": {"format": "coco", "path": ".", "annotations": "labels.json", "images": "images"},
        "classes": list(world.classes),
        "teachers": [
            {"kind": "coco", "name": path.stem, "path": str(path.absolute()), "trained_on": "the other folds"}
            for path in teachers
        ],
        "policy": dict(policy),
    }
    (folder / f"{NAME}.yaml").write_text(json.dumps(spec), encoding="utf-8")  # JSON is YAML
    run = curate.run(folder / f"{NAME}.yaml", workspace=folder / "workspace", review=False, workers=1)
    feed = curate.feed.open(f"{NAME}@{run.published.id}", workspace=folder / "workspace", allow_failed_gates=True)
    dataset = feed.dataset(size_px=world.pixels.shape[2:])
    row_of = {uri: int(uri.rpartition("/")[2].partition(".")[0]) for uri in feed.rows.places()["uri"].to_pylist()}
    items = {}
    for at, uri in enumerate(feed.rows.places()["uri"].to_pylist()):
        item = dataset[at]
        if not np.array_equal(item["image"].numpy(), world.pixels[row_of[uri]]):
            raise SystemExit(f"the feed hands out other pixels of {uri} than the other arms see")
        items[row_of[uri]] = {name: value for name, value in item.items() if name != "image"}
    found = run.tables["findings"].to_pylist()
    flagged = [one["issue"] for one in found if one["check"] == "box_noise" and one["flagged"]]
    counts = {
        "n_images": len(items),
        "n_boxes": int(sum(len(one["labels"]) for one in items.values())),
        "n_ignored": int(sum(len(one["ignore"]) for one in items.values())),
        "n_images_held_back": len(world.train) - len(items),
        "flags": {issue: flagged.count(issue) for issue in ISSUES},
    }
    return items, counts


def write_coco(world: World, labels: pa.Table, place: Mapping[str, int], path: Path) -> None:
    """Write the labels of the training images as COCO; boxes in pixels."""
    numbers = {name: at + 1 for at, name in enumerate(world.classes)}
    annotations = []
    for number, one in enumerate(labels.to_pylist(), 1):
        row = place[one["sample_id"]]
        width, height = (int(v) for v in world.size_px[row])
        x, y, w, h = one["bbox"]
        box = [round(v, 2) for v in (x * width, y * height, w * width, h * height)]
        annotations.append(
            {"id": number, "image_id": row, "category_id": numbers[one["label"]], "bbox": box, "iscrowd": 0}
        )
    images = [
        {
            "id": row,
            "file_name": file_of(row),
            "width": int(world.size_px[row][0]),
            "height": int(world.size_px[row][1]),
        }
        for row in sorted(place.values())
    ]
    categories = [{"id": number, "name": name} for name, number in numbers.items()]
    path.write_text(
        json.dumps({"images": images, "categories": categories, "annotations": annotations}), encoding="utf-8"
    )
