"""Pascal VOC: `Annotations/….xml`, `JPEGImages/…`, `ImageSets/Main/<split>.txt`.

Corners count from 1 and include the last pixel, as VOC does: xmin = x W + 1, xmax = (x + w) W. They are rounded to
9 decimals and whole where they are whole. A negative image has an XML without objects, an unlabeled one has none.
What the source itself wants ignored (`schema.TO_IGNORE`) is left out, not `difficult`: that says a thing of the class,
hard to see, and many trainers learn from it; an image with nothing else is left out too. Names that XML cannot hold
(control characters, spaces round the name), masks, polygons and weights are left out.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

from curate.export.release import Image, Label, LeftOut, keep_held, name_files, pixels, safe_folder, say_unheld

_UNHOLDABLE = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_PARTS = ("mask", "polygons", "track_id")
_FLAGS = ("difficult", "truncated", "occluded")


def write(folder: Path, images: list[Image], classes: list[str], left_out: LeftOut) -> list[Image]:
    """Write XMLs and lists; see `curate.export.FORMATS`."""
    del classes  # VOC has no list of classes
    named = name_files(images, left_out, lambda image: posixpath.normpath(image.uri))
    held = keep_held(named, left_out, _problem, holds_unlabeled=True)
    splits: dict[str, list[str]] = {}
    (folder / "Annotations").mkdir()
    for image in held:
        stem = posixpath.splitext(image.file)[0]
        if image.split is not None:
            splits.setdefault(safe_folder(image.split), []).append(stem)
        if image.labels or image.state == "negative":
            target = folder / "Annotations" / f"{stem}.xml"
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(_xml(image), encoding="utf-8")
        for label in image.labels:
            _say_what_is_lost(image, label, left_out)
        image.file = f"JPEGImages/{image.file}"
    (folder / "ImageSets" / "Main").mkdir(parents=True)
    for split, stems in sorted(splits.items()):
        lines = "".join(f"{stem}\n" for stem in sorted(stems))
        (folder / "ImageSets" / "Main" / f"{split}.txt").write_text(lines, encoding="utf-8")
    say_unheld(held, left_out, "Pascal VOC")
    return held


def _problem(image: Image, label: Label) -> tuple[str, Mapping[str, Any]] | None:
    if label.is_to_ignore:
        return "export_ignored_by_source", {"format": "Pascal VOC", "flags": " ".join(label.flags)}
    if label.task in {"classification", "multi_label"}:
        return "export_no_whole_image_class", {"format": "Pascal VOC"}
    if label.bbox is None:
        return "export_no_masks", {"format": "Pascal VOC"}
    if not image.width_px or not image.height_px:
        return "image_size_unknown", {}
    if label.name != label.name.strip() or _UNHOLDABLE.search(label.name):
        return "export_name_not_held", {"format": "Pascal VOC", "label": label.name[:200]}
    return None


def _say_what_is_lost(image: Image, label: Label, left_out: LeftOut) -> None:
    lost = [part for part in _PARTS if getattr(label, part)]
    lost += ["weight"] * (label.weight != 1) + ["flags"] * bool(set(label.flags) - set(_FLAGS))
    for part in lost:
        left_out.add(image, label, part, "export_part_not_held", format="Pascal VOC", part=part)


def _text(value: str) -> str:
    return escape(value, {"\r": "&#13;"})


def _xml(image: Image) -> str:
    objects = "".join(_object(image, label) for label in image.labels)
    folder = posixpath.join("JPEGImages", posixpath.dirname(image.file)).rstrip("/")
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n<annotation>\n'
        f"\t<folder>{_text(folder)}</folder>\n\t<filename>{_text(posixpath.basename(image.file))}</filename>\n"
        f"\t<size>\n\t\t<width>{image.width_px or 0}</width>\n\t\t<height>{image.height_px or 0}</height>\n"
        f"\t\t<depth>3</depth>\n\t</size>\n{objects}</annotation>\n"
    )


def _object(image: Image, label: Label) -> str:
    width, height = image.width_px or 1, image.height_px or 1
    x, y, w, h = label.bbox or (0.0, 0.0, 0.0, 0.0)
    corners = {"xmin": x * width + 1, "ymin": y * height + 1, "xmax": (x + w) * width, "ymax": (y + h) * height}
    box = "".join(f"\t\t\t<{name}>{pixels(value)}</{name}>\n" for name, value in corners.items())
    flags = "".join(f"\t\t<{flag}>{int(flag in label.flags)}</{flag}>\n" for flag in _FLAGS)
    return (
        f"\t<object>\n\t\t<name>{_text(label.name)}</name>\n{flags}\t\t<bndbox>\n{box}\t\t</bndbox>\n\t</object>\n"
    )
