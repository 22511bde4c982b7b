"""Released labels for tools that know only COCO, YOLO, Pascal VOC, MOT or CSV."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa

from curate.errors import ConfigError, InputError, did_you_mean
from curate.export import coco, mot, table, voc, yolo
from curate.export.folder import refuse_foreign, written_beside
from curate.export.record import MARKER
from curate.export.release import Image, LeftOut, class_order, released_images, without_empty
from curate.ingest.source import Media

__all__ = ["FORMATS", "MARKER", "ExportResult", "export"]

Writer = Callable[[Path, list[Image], list[str], LeftOut], list[Image]]
# writes the annotation files into a folder, names each image's file in it, returns the images that it holds
FORMATS: dict[str, Writer] = {
    "coco": coco.write,
    "yolo": yolo.write,
    "voc": voc.write,
    "mot": mot.write,
    "csv": table.write,
}


@dataclass(frozen=True, slots=True)
class ExportResult:
    """What was written.

    Attributes:
        n_images: images that the format holds, negative and (where it can say so) unlabeled ones included.
        n_labels: labels that the format holds.
        paths: the annotation files, sorted, without the images.
        left_out: what the format cannot hold, a row each with a reason (`release.LEFT_OUT`).
    """

    n_images: int
    n_labels: int
    paths: tuple[Path, ...]
    left_out: pa.Table


def export(  # noqa: PLR0913 - a keyword for each thing that an export says
    data: pa.Table,
    labels: pa.Table | None,
    out: Path,
    *,
    format: str,  # noqa: A002 - what the command line calls it
    images: Literal["link", "copy", "none"] = "link",
    media: Media | None = None,
    classes: Sequence[str] | None = None,
    ignored: pa.Table | None = None,
    about: Mapping[str, Any] | None = None,
) -> ExportResult:
    """Write released rows to the folder `out` in one of `FORMATS`.

    `out` appears whole or not at all; an earlier export there is replaced, anything else is not. Beside the
    format's own files it holds `curate.csv` (every row with everything, also what the format cannot hold) and, if
    something was left out, `left_out.csv`.

    Args:
        data: a manifest's data table: sample_id, label_id (null: an image without labels), uri, task,
            released_label and, where they are there, given_label, label_state, split, weight, width_px, height_px,
            container, bbox, mask, polygons, track_id, frame, annotator, flags.
        labels: `schema.LABELS`, for geometry that `data` lacks; or None.
        out: the folder to write.
        format: coco, yolo, voc, mot or csv.
        images: "link" (hard links where the file system allows it, else symbolic ones), "copy", or "none".
        media: where the images are; needed unless `images` is "none".
        classes: order of the classes; without it they are sorted.
        ignored: `manifest.tables.IGNORE`: what nobody vouches for in these images. COCO and MOT hold
            it, of other formats it stands in `left_out`.
        about: what else `curate-export.json` says of the version: its id, the outcome of its gates, …

    Raises:
        ConfigError: unknown format, no media, or `out` holds something else.
        InputError: `data` lacks a needed column, or the format can hold none of its rows.
    """
    _refuse_request(format, images, media)
    refuse_foreign(out)
    left_out = LeftOut()
    released = everything = released_images(data, labels, ignored)
    if format != "csv":  # which says what is in a mask and what is not, as the version does
        released = without_empty(released, left_out)
    files: Mapping[str, Path] = {}
    if images != "none" and media is not None:
        files, released = _find_files(data, released, media, left_out)
    with written_beside(out) as beside:
        held = FORMATS[format](beside, released, class_order(released, classes), left_out)
        _refuse_empty(format, data, held, left_out)
        for image in held if files else ():
            _place(files[image.sample_id], beside / image.file, link=images == "link")
        if format != "csv":
            table.write_rows(beside / "curate.csv", everything, {image.sample_id: image.file for image in held})
        table.write_left_out(beside / "left_out.csv", left_out)
        n_labels = sum(len(image.labels) for image in held)
        told = {"format": format, **(about or {}), "n_images": len(held), "n_labels": n_labels}
        told["classes"] = list(classes or [])
        (beside / MARKER).write_text(json.dumps(told, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        names = {image.file for image in held}
        paths = [path.relative_to(beside) for path in beside.rglob("*") if path.is_file()]
    written = tuple(sorted(out / path for path in paths if path.as_posix() not in names))
    return ExportResult(len(held), n_labels, written, left_out.table())


def _refuse_request(format: str, images: str, media: Media | None) -> None:  # noqa: A002 - as above
    if format not in FORMATS:
        known = [*FORMATS, "hf", "webdataset"]
        raise ConfigError(
            f"There is no export format {format!r}. Formats: {', '.join(known)}. {did_you_mean(format, known)}"
        )
    if images not in {"link", "copy", "none"}:
        raise ConfigError(f"images must be link, copy or none; it is {images!r}.")
    if images != "none" and media is None:
        raise ConfigError(
            f"To {images} images, an export needs to know where they are: give media, or images='none'."
        )


def _refuse_empty(name: str, data: pa.Table, held: list[Image], left_out: LeftOut) -> None:
    if held or not data.num_rows:
        return
    rows = left_out.table().select(["what", "reason_code"]).to_pylist()
    # a label, or an image without one, is counted where its own reason stands; the image of such a label is not again
    told = Counter(
        (row["what"], row["reason_code"]) for row in rows if row["reason_code"] != "export_no_label_held"
    )
    own = sorted((what, code, n) for (what, code), n in told.items() if what in {"label", "image"})
    counts = ", ".join(f"{n:,} {what}{'s' * (n != 1)} ({code.replace('_', ' ')})" for what, code, n in own)
    raise InputError(
        f"The format {name} can hold none of the {data.num_rows:,} released rows: {counts}. Nothing was written. "
        f"csv holds every kind of label: --format csv."
    )


def _find_files(
    data: pa.Table, released: list[Image], media: Media, left_out: LeftOut
) -> tuple[dict[str, Path], list[Image]]:
    """Return sample id -> plain file, and the images whose file is there."""
    first = data.group_by("sample_id", use_threads=False).aggregate([("uri", "first"), *_places(data)])
    names = [name.removesuffix("_first") for name in first.column_names]
    samples = first.rename_columns(names)
    for name, kind in (("container", pa.string()), ("container_offset", pa.int64()), ("n_bytes", pa.int64())):
        if name not in names:
            samples = samples.append_column(name, pa.nulls(samples.num_rows, kind))
    paths = dict(zip(samples["sample_id"].to_pylist(), media.paths(samples), strict=True))
    kept = []
    for image in released:
        if paths[image.sample_id].is_file():
            kept.append(image)
        else:
            left_out.add(image, None, "image", "missing_file", path=image.uri[:200])
    return paths, kept


def _places(data: pa.Table) -> list[tuple[str, str]]:
    wanted = ("container", "container_offset", "n_bytes", "content_sha256")
    return [(name, "first") for name in wanted if name in data.column_names]


def _place(source: Path, target: Path, *, link: bool) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    real = source.resolve()
    if link:
        try:
            target.hardlink_to(real)
        except OSError:  # another file system, or one without hard links
            target.symlink_to(real)
    else:
        shutil.copyfile(real, target)
