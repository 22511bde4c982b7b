"""CSV: a row a label, and a row with an empty label for an image without one. Also the sidecar of other formats."""

from __future__ import annotations

import csv
import json
import posixpath
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from curate.export.release import LEFT_OUT, Image, Label, LeftOut, name_files, say_unheld

COLUMNS = (
    *("image", "label", "split", "weight", "task", "label_state", "given_label", "x", "y", "w", "h"),
    *("width_px", "height_px", "polygons", "mask", "track_id", "given_track_id", "frame", "annotator", "flags"),
    *("uri", "sample_id", "label_id"),
)


def write(folder: Path, images: list[Image], classes: list[str], left_out: LeftOut) -> list[Image]:
    """Write `labels.csv`; see `curate.export.FORMATS`. It holds all but bad paths and what is to be ignored."""
    del classes  # the labels stand in the rows
    held = name_files(images, left_out, lambda image: posixpath.normpath(image.uri))
    write_rows(folder / "labels.csv", held, {image.sample_id: image.file for image in held})
    say_unheld(held, left_out, "CSV")
    return held


def write_rows(path: Path, images: Iterable[Image], files: Mapping[str, str]) -> None:
    """Write one row a label (and one an image without labels) as UTF-8.

    `x, y, w, h` are relative to the image, with the digits that give the same float64 back; polygons and masks are
    JSON (a mask as COCO's run lengths). A label that a spreadsheet takes for a formula stays as it is.
    """
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        for image in images:
            writer.writerows(_rows(image, files.get(image.sample_id, "")))


def _rows(image: Image, file: str) -> Iterator[list[Any]]:
    labels: Sequence[Label | None] = image.labels or [None]
    for label in labels:
        first = [file, label.name if label else "", image.split, label.weight if label else image.weight]
        shape = [image.width_px, image.height_px]
        last = [image.uri, image.sample_id]
        yield [*first, *_label(image, label), *shape, *_outline(label), *last, label.label_id if label else None]


def _label(image: Image, label: Label | None) -> list[Any]:
    if label is None:
        return [None, image.state, None, None, None, None, None]
    box: Sequence[float | None] = label.bbox or [None] * 4
    return [label.task, image.state, label.given, *box]


def _outline(label: Label | None) -> list[Any]:
    if label is None:
        return [None] * 7
    polygons = json.dumps(label.polygons) if label.polygons else None
    mask = None
    if label.mask is not None:
        size = [label.mask["height_px"], label.mask["width_px"]]
        mask = json.dumps({"size": size, "counts": label.mask["counts"].decode("ascii")})
    told = [label.track_id, label.given_track_id, label.frame, label.annotator]
    return [polygons, mask, *told, " ".join(label.flags) or None]


def write_left_out(path: Path, left_out: LeftOut) -> None:
    """Write what the format does not hold, if anything."""
    if not left_out.rows:
        return
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(LEFT_OUT.names)
        writer.writerows(tuple(row.values()) for row in left_out.table().to_pylist())
