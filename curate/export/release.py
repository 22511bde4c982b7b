"""Released rows as images with their labels: what every export format writes from."""

from __future__ import annotations

import posixpath
import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from curate import schema
from curate.errors import InputError
from curate.ingest.rle import runs_of

NEEDED = ("sample_id", "label_id", "uri", "task", "released_label")
GEOMETRY = ("bbox", "mask", "polygons", "track_id", "given_track_id", "frame", "annotator", "flags", "source_key")
_LONGEST_EMPTY = 32  # run lengths of a mask without a pixel are one or two numbers

LEFT_OUT = pa.schema(
    [
        pa.field("sample_id", pa.string(), nullable=False),
        pa.field("label_id", pa.string()),  # null: about the image
        pa.field("what", pa.string(), nullable=False),  # image | label, or the part of a label: mask, weight, …
        pa.field("reason_code", pa.string(), nullable=False),
        pa.field("reason_args", pa.string(), nullable=False),  # canonical JSON
    ]
)


@dataclass(frozen=True, slots=True)
class Label:
    """A released label; geometry is relative to the image, as in `schema.LABELS`."""

    label_id: str
    task: str
    name: str
    given: str | None
    weight: float
    bbox: Sequence[float] | None
    polygons: Sequence[Sequence[float]] | None
    mask: Mapping[str, Any] | None
    track_id: str | None
    given_track_id: str | None  # where it is another than the released one
    frame: int | None
    annotator: str | None
    flags: Sequence[str]
    source_key: str | None

    @property
    def is_to_ignore(self) -> bool:
        """Whether the source itself says that a trainer is to ignore it."""
        return any(flag in schema.TO_IGNORE for flag in self.flags)


@dataclass(slots=True)
class Image:
    """A released image: its place in the export (`file`), size, split and labels."""

    sample_id: str
    uri: str
    split: str | None
    width_px: int | None
    height_px: int | None
    state: str  # schema.LABEL_STATES
    weight: float
    labels: list[Label] = field(default_factory=list)
    ignored: list[Label] = field(
        default_factory=list
    )  # held back, or places where one may be missing; `name` may be ""
    video: str | None = None  # its sequence, where the release says it
    file: str = ""  # relative to the folder of images, `/` between parts


@dataclass(slots=True)
class LeftOut:
    """Rows of `LEFT_OUT`, collected while a format writes."""

    rows: list[tuple[str, str | None, str, str, str]] = field(default_factory=list)

    def add(self, image: Image, label: Label | None, what: str, code: str, /, **args: object) -> None:
        """Say that `what` of a label (or of the image, without one) is not in the format, and why."""
        label_id = label.label_id if label else None
        self.rows.append((image.sample_id, label_id, what, code, schema.canonical_json(args)))

    def table(self) -> pa.Table:
        """Return the rows as a table of `LEFT_OUT`."""
        rows = sorted(self.rows, key=lambda row: (row[0], row[1] or "", *row[2:]))
        columns: list[Any] = list(zip(*rows, strict=True)) or [[] for _ in LEFT_OUT]
        return pa.table(dict(zip(LEFT_OUT.names, map(list, columns), strict=True)), schema=LEFT_OUT)


def released_images(data: pa.Table, labels: pa.Table | None, ignored: pa.Table | None = None) -> list[Image]:
    """Return the images of a manifest's data table, sorted by id, each with its labels, sorted by id.

    Geometry that `data` lacks is taken from `labels` (`schema.LABELS`) by label id. `ignored` is
    `manifest.tables.IGNORE`: what nobody vouches for in these images.

    Raises:
        InputError: `data` lacks a needed column.
    """
    missing = set(NEEDED) - set(data.column_names)
    if missing:
        raise InputError.from_missing_columns(missing, data.column_names, needed_by="An export")
    table = _with_geometry(data, labels).sort_by([("sample_id", "ascending"), ("label_id", "ascending")])
    images: dict[str, Image] = {}
    for batch in table.to_batches(max_chunksize=50_000):
        for row in batch.to_pylist():
            image = images.get(row["sample_id"])
            if image is None:
                image = images[row["sample_id"]] = _image(row)
            if row["label_id"] is not None and row["released_label"] is not None:
                image.labels.append(_label(row))
    for row in ignored.to_pylist() if ignored is not None else ():
        if row["sample_id"] in images:
            told = {
                "label_id": row["label_id"] or row["reasons"][0],
                "released_label": row["label"] or "",
                "weight": 0.0,
            }
            images[row["sample_id"]].ignored.append(_label({**row, **told}))
    return list(images.values())


def _with_geometry(data: pa.Table, labels: pa.Table | None) -> pa.Table:
    if labels is None or not labels.num_rows:
        return data
    absent = [name for name in GEOMETRY if name in labels.column_names and name not in data.column_names]
    at = pc.index_in(data["label_id"], value_set=labels["label_id"], skip_nulls=True)
    for name in absent:
        data = data.append_column(
            labels.schema.field(name), labels[name].combine_chunks().take(at.combine_chunks())
        )
    return data


def _image(row: Mapping[str, Any]) -> Image:
    weight = row.get("weight")
    state = row.get("label_state") or ("labeled" if row["label_id"] is not None else "unlabeled")
    return Image(
        sample_id=row["sample_id"],
        uri=row["uri"],
        split=row.get("split"),
        width_px=row.get("width_px"),
        height_px=row.get("height_px"),
        state=state,
        weight=1.0 if weight is None else weight,
        video=dict(row.get("groups") or ()).get("video"),
    )


def _label(row: Mapping[str, Any]) -> Label:
    weight = row.get("weight")
    return Label(
        label_id=row["label_id"],
        task=row["task"],
        name=row["released_label"],
        given=row.get("given_label"),
        weight=1.0 if weight is None else weight,
        bbox=row.get("bbox"),
        polygons=row.get("polygons"),
        mask=row.get("mask"),
        track_id=row.get("track_id"),
        given_track_id=row.get("given_track_id"),
        frame=row.get("frame"),
        annotator=row.get("annotator"),
        flags=row.get("flags") or (),
        source_key=row.get("source_key"),
    )


def say_unheld(images: Iterable[Image], left_out: LeftOut, format_name: str) -> None:
    """Say of a format without regions to ignore which of them its images have: readers take them for background."""
    for image in images:
        for label in image.ignored:
            left_out.add(image, label, "ignore", "places_to_ignore", format=format_name)


def without_empty(images: Iterable[Image], left_out: LeftOut) -> list[Image]:
    """Return the images without labels whose mask has no pixel: people gave all of it away, or nobody vouches for any.

    An image that loses all its labels so goes out: left in, it would say that nothing is to be seen on it.
    """
    kept: list[Image] = []
    for image in images:
        empty = [label for label in image.labels if label.mask is not None and _is_empty(label.mask)]
        for label in empty:
            left_out.add(image, label, "label", "export_mask_empty")
        if empty and len(empty) == len(image.labels):
            left_out.add(image, None, "image", "export_no_label_held")
            continue
        gone = {id(label) for label in empty}
        kept.append(replace(image, labels=[one for one in image.labels if id(one) not in gone]) if gone else image)
    return kept


def _is_empty(mask: Mapping[str, Any]) -> bool:
    runs = runs_of(mask["counts"]) if len(mask["counts"]) < _LONGEST_EMPTY else None
    return runs is not None and not runs[1::2].sum()


def class_order(images: Iterable[Image], classes: Sequence[str] | None) -> list[str]:
    """Return `classes`, then any other released label, sorted."""
    seen = {label.name for image in images for label in image.labels}
    return [*(classes or ()), *sorted(seen - set(classes or ()))]


def name_files(images: Sequence[Image], left_out: LeftOut, rename: Callable[[Image], str]) -> list[Image]:
    """Give each image its file name in the export; return those that can have one.

    `rename` turns an image's uri into the format's name. Control characters become `_`. Images whose name is not
    their own then, or differs from another one's only in the ending or in upper and lower case, get a part of their
    id before the ending: labels stand in a file beside the image, so names without ending have to differ.
    """
    kept: list[Image] = []
    taken: dict[str, list[Image]] = {}
    for image in images:
        uri = posixpath.normpath(image.uri)
        if image.uri.startswith("/") or uri in {".", ".."} or uri.startswith("../") or "\0" in uri:
            left_out.add(image, None, "image", "path_leaves_root", path=image.uri[:200])
            continue
        image.file = re.sub(r"[\x00-\x1f\x7f]", "_", rename(image))
        kept.append(image)
        taken.setdefault(_folded(image.file), []).append(image)
    for same in taken.values():
        for image in same:
            if len(same) > 1 or any(ord(char) < 32 or ord(char) == 127 for char in image.uri):
                stem, ending = posixpath.splitext(image.file)
                image.file = f"{stem}-{image.sample_id}{ending}"
    return kept


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", posixpath.splitext(name)[0]).casefold()


def safe_folder(split: str) -> str:
    """Return a split's name as one that a folder or file can have."""
    return re.sub(r"[^A-Za-z0-9._-]", "_", split).lstrip(".") or "_"


def pixels(value: float) -> float | int:
    """Return a pixel coordinate rounded to 9 decimals (what float64 keeps of it), as an integer where it is one."""
    rounded = round(value, 9)
    return int(rounded) if rounded == int(rounded) else rounded


def keep_held(
    images: Iterable[Image],
    left_out: LeftOut,
    problem: Callable[[Image, Label], tuple[str, Mapping[str, Any]] | None],
    *,
    holds_unlabeled: bool,
) -> list[Image]:
    """Return the images that a format can hold, each with the labels that it can hold.

    An image that loses all its labels goes out too: left in, it would say that nothing is to be seen on it. So
    does an unlabeled one where the format cannot tell it from a negative one.
    """
    kept: list[Image] = []
    for image in images:
        held: list[Label] = []
        for label in image.labels:
            found = problem(image, label)
            if found is None:
                held.append(label)
            else:
                left_out.add(image, label, "label", found[0], **found[1])
        if image.labels and not held:
            left_out.add(image, None, "image", "export_no_label_held")
        elif not image.labels and image.state != "negative" and not holds_unlabeled:
            left_out.add(image, None, "image", "export_holds_no_unlabeled")
        else:
            kept.append(replace(image, labels=held))
    return kept
