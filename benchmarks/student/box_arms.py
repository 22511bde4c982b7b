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
        "curate release": [one and of_item(one, n) for one in released],
        "release and soft boxes": [one and of_item(one, n, soft=True) for one in released],
        "release, holes as background": [one and of_item(one, n, ignore=False) for one in released],
        "oracle": [*hard_targets(truth, n, world.train)],
    }


def of_item(item: Item, n_classes: int, *, soft: bool = False, ignore: bool = True) -> Targets:
    """Return what a detector learns of an image of the release: `curate.feed.box_targets`, or its boxes as labeled."""
    how: Any = {} if soft else {"alpha": 0.0, "trust": "full", "teacher_boxes": False}
    made = {name: value.numpy() for name, value in curate.feed.box_targets(item, n_classes, **how).items()}
    places = made["ignore"] if ignore else np.zeros((0, 4), np.float32)
    return Targets(made["boxes"], made["scores"], made["weights"], places)


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
    items = {}
    for at, uri in enumerate(feed.rows.places()["uri"].to_pylist()):
        row, item = int(Path(uri).stem), dataset[at]
        if not np.array_equal(item["image"].numpy(), world.pixels[row]):
            raise SystemExit(f"the feed hands out other pixels of {uri} than the other arms see")
        items[row] = {name: value for name, value in item.items() if name != "image"}
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
