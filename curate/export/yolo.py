"""YOLO: `data.yaml`, `images/<split>/…`, `labels/<split>/….txt`; 12 decimals.

A label with one polygon is written as that polygon, others as their box. A negative image has an empty text, an
unlabeled one has none. What the source itself wants ignored (`schema.TO_IGNORE`) would be a target here and is left
out; an image with nothing else is left out too. Images without a split go to `train`. Weights, masks and further
polygons do not fit; they are in `curate.csv` and named in `left_out`.
"""

from __future__ import annotations

import posixpath
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from curate.export.release import Image, Label, LeftOut, keep_held, name_files, safe_folder, say_unheld
from curate.ingest.polygons import box_of_rings

_SPLIT_KEYS = {"valid": "val", "validation": "val", "training": "train", "testing": "test"}
_PARTS = ("mask", "polygons", "track_id", "flags")


def write(folder: Path, images: list[Image], classes: list[str], left_out: LeftOut) -> list[Image]:
    """Write YAML and texts; see `curate.export.FORMATS`."""
    import yaml  # noqa: PLC0415 - only this format writes YAML

    held = keep_held(name_files(images, left_out, _renamed), left_out, _problem, holds_unlabeled=True)
    numbers = {name: index for index, name in enumerate(classes)}
    splits: dict[str, None] = {}
    for image in held:
        split = _split_of(image)
        splits[split] = None
        text = folder / "labels" / f"{posixpath.splitext(image.file)[0]}.txt"
        image.file = f"images/{image.file}"
        if image.labels or image.state == "negative":
            text.parent.mkdir(parents=True, exist_ok=True)
            lines = [_line(numbers[label.name], label) for label in image.labels]
            text.write_text("".join(f"{line}\n" for line in lines), encoding="ascii")
        for label in image.labels:
            _say_what_is_lost(image, label, left_out)
    for split in splits:
        (folder / "images" / split).mkdir(parents=True, exist_ok=True)
    description = {"path": ".", **{split: f"images/{split}" for split in sorted(splits)}}
    text_yaml = yaml.safe_dump(
        {**description, "names": dict(enumerate(classes))}, sort_keys=False, allow_unicode=True
    )
    (folder / "data.yaml").write_text(text_yaml, encoding="utf-8")
    say_unheld(held, left_out, "YOLO")
    return held


def _split_of(image: Image) -> str:
    split = image.split or "train"
    return safe_folder(_SPLIT_KEYS.get(split.lower(), split))


def _renamed(image: Image) -> str:
    """Return `<split>/<uri>` without folders called images: readers swap that word for labels in the whole path."""
    parts = posixpath.normpath(image.uri).split("/")
    return "/".join([_split_of(image), *(part for part in parts[:-1] if part != "images"), parts[-1]])


def _problem(_image: Image, label: Label) -> tuple[str, Mapping[str, Any]] | None:
    if label.is_to_ignore:
        return "export_ignored_by_source", {"format": "YOLO", "flags": " ".join(label.flags)}
    if label.task in {"classification", "multi_label"}:
        return "export_no_whole_image_class", {"format": "YOLO"}
    if label.bbox is None and not _is_one_ring(label):
        return "export_no_masks", {"format": "YOLO"}
    return None


def _is_one_ring(label: Label) -> bool:
    return label.polygons is not None and len(label.polygons) == 1


def _line(number: int, label: Label) -> str:
    if _is_one_ring(label) and label.polygons is not None:
        values = list(label.polygons[0])
    else:
        x, y, w, h = label.bbox or (0.0, 0.0, 0.0, 0.0)
        values = [x + w / 2, y + h / 2, w, h]
    return " ".join([str(number), *(f"{round(value, 12):.12g}" for value in values)])


def _say_what_is_lost(image: Image, label: Label, left_out: LeftOut) -> None:
    for part in _PARTS:
        value = getattr(label, part)
        if value and not (part == "polygons" and _is_one_ring(label)):
            left_out.add(image, label, part, "export_part_not_held", format="YOLO", part=part)
    if label.weight != 1:
        left_out.add(image, label, "weight", "export_part_not_held", format="YOLO", part="weight")
    if _is_one_ring(label) and label.bbox is not None and label.polygons is not None:
        around = box_of_rings(label.polygons)
        if max(abs(a - b) for a, b in zip(around, label.bbox, strict=True)) > 1e-9:
            left_out.add(image, label, "bbox", "export_part_not_held", format="YOLO", part="bbox")
