"""COCO: `annotations/instances_<split>.json` a split (`instances.json` without splits) and `images/`.

Boxes and polygons in pixels, rounded to 9 decimals: what came from a COCO file goes out with the same digits.
A label that nobody vouches for (held back, or a place where one may be missing), and one that the source itself wants
ignored (`schema.TO_IGNORE`), is an annotation with `iscrowd: 1` and weight 0: readers and scorers of COCO pass over
what is found there. `weight`, `flags`, `track_id`, `sample_id` and `label_id` are added as keys that readers of COCO
pass over. Whole-image classes and masks of another size than the image are left out; unlabeled images too: COCO
cannot tell them from negative ones.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from curate.export.release import Image, Label, LeftOut, keep_held, name_files, pixels, safe_folder
from curate.ingest.polygons import area_of_rings, box_of_rings
from curate.ingest.rle import area_of_mask, box_of_mask


def write(folder: Path, images: list[Image], classes: list[str], left_out: LeftOut) -> list[Image]:
    """Write the JSONs; see `curate.export.FORMATS`."""
    named = name_files(images, left_out, lambda image: image.uri)
    held = keep_held(named, left_out, _problem, holds_unlabeled=False)
    numbers = {name: index for index, name in enumerate(classes, 1)}
    for image in held:
        _hold_ignored(image, numbers, left_out)
    by_split: dict[str | None, list[tuple[int, Image]]] = {}
    for number, image in enumerate(held, 1):
        by_split.setdefault(image.split, []).append((number, image))
    (folder / "annotations").mkdir()
    first = 1
    for split, members in sorted(by_split.items(), key=lambda item: item[0] or "") or [(None, [])]:
        name = "instances.json" if split is None else f"instances_{safe_folder(split)}.json"
        document = _document(members, numbers, first)
        first += len(document["annotations"])
        with (folder / "annotations" / name).open("w", encoding="utf-8") as file:
            for part in json.JSONEncoder(ensure_ascii=False, allow_nan=False).iterencode(document):
                file.write(part)
    for image in held:
        image.file = f"images/{image.file}"
    return held


def _hold_ignored(image: Image, numbers: Mapping[str, int], left_out: LeftOut) -> None:
    """Keep of the regions to ignore those that an annotation can say; a region of no known class is of none here."""
    kept = []
    for label in image.ignored:
        found = _problem(image, label) or (
            None if label.name in numbers else ("unknown_category", {"category_id": label.name})
        )
        if found is None:
            kept.append(label)
        else:
            left_out.add(image, label, "ignore", found[0], **found[1])
    image.ignored = kept


def _problem(image: Image, label: Label) -> tuple[str, Mapping[str, Any]] | None:
    if not image.width_px or not image.height_px:
        return "image_size_unknown", {}
    if label.task in {"classification", "multi_label"}:
        return "export_no_whole_image_class", {"format": "COCO"}
    mask = label.mask
    if mask is not None and (mask["width_px"], mask["height_px"]) != (image.width_px, image.height_px):
        sizes = {"mask": f"{mask['width_px']}x{mask['height_px']}", "image": f"{image.width_px}x{image.height_px}"}
        return "mask_size_mismatch", sizes
    if label.bbox is None and not label.polygons and (mask is None or box_of_mask(mask) is None):
        return "box_missing", {}
    return None


def _document(members: list[tuple[int, Image]], numbers: Mapping[str, int], first: int) -> dict[str, Any]:
    annotations: list[dict[str, Any]] = []
    for number, image in members:
        for label, ignored in [*((one, False) for one in image.labels), *((one, True) for one in image.ignored)]:
            annotation: dict[str, Any] = {
                "id": first + len(annotations),
                "image_id": number,
                "category_id": numbers[label.name],
            }
            annotations.append({**annotation, **_annotation(image, label, ignored=ignored)})
    return {
        "info": {"description": "released by curate"},
        "licenses": [],
        "images": [
            {
                "id": number,
                "file_name": image.file,
                "width": image.width_px or 0,
                "height": image.height_px or 0,
                "sample_id": image.sample_id,
            }
            for number, image in members
        ],
        "categories": [{"id": number, "name": name} for name, number in numbers.items()],
        "annotations": annotations,
    }


def _annotation(image: Image, label: Label, *, ignored: bool) -> dict[str, Any]:
    width, height = image.width_px or 1, image.height_px or 1
    segmentation: Any = []
    box = label.bbox
    if label.mask is not None:
        counts = label.mask["counts"].decode("ascii")
        segmentation, area = {"size": [height, width], "counts": counts}, float(area_of_mask(label.mask))
        box = box or box_of_mask(label.mask)
    elif label.polygons:
        segmentation = [[pixels(n * (height if i % 2 else width)) for i, n in enumerate(r)] for r in label.polygons]
        area = area_of_rings(label.polygons, width, height)
        box = box or box_of_rings(label.polygons)
    else:
        area = (box[2] * width * box[3] * height) if box else 0.0
    x, y, w, h = box or (0.0, 0.0, 0.0, 0.0)
    ignored = ignored or label.is_to_ignore
    extra: dict[str, Any] = {"track_id": label.track_id} if label.track_id is not None else {}
    extra |= {"flags": list(label.flags)} if label.flags else {}
    return {
        "bbox": [pixels(x * width), pixels(y * height), pixels(w * width), pixels(h * height)],
        "segmentation": segmentation,
        "area": pixels(area),
        "iscrowd": int(ignored),
        "weight": 0.0 if ignored else label.weight,
        "label_id": label.label_id,
        **extra,
    }
