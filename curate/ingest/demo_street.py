"""Format `street`: 120 drawn frames of six short videos, with boxes, masks and tracks, and errors planted in them.

What is drawn is known, so `reference_label` is the truth: the class of what is in the box, "" where nothing is (an
invented box) or where it has a box already. In the folder lie `images/VIDEO/NN.png`, `frames.csv`, `labels.jsonl`
(a box a line) and `planted.csv` (key, file, kind, detail). Attributes of people are declared synthetic: they say
what was drawn, and nothing about anybody.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from curate import schema
from curate.errors import ConfigError, did_you_mean
from curate.ingest.collect import Collector
from curate.ingest.generated import generated_folder
from curate.ingest.rle import encode_mask
from curate.ingest.source import Ingested, ReadOptions
from curate.ingest.street_errors import Box, plant
from curate.ingest.street_scene import (
    HEIGHT_PX,
    N_FRAMES,
    N_VIDEOS,
    WIDTH_PX,
    Mask,
    Pixels,
    Seen,
    frame_of,
    lighting_of,
)

VERSION = 1
COLUMNS = ("file", "video", "frame", "split", "lighting", "skin_tone", "clothing")
SPLITS = ("train", "train", "train", "train", "val", "test")  # a video each
LEAKING_VIDEO, FIRST_LEAKED_FRAME = 3, 17  # its last frames are in test: the group leaks


@dataclass(frozen=True, slots=True)
class StreetSource:
    """The source format `street`; it needs no path, it writes into the workspace."""

    name: str = "street"
    option_names: tuple[str, ...] = ("seed",)

    def recognises(self, path: Path) -> Mapping[str, Any] | None:  # noqa: ARG002 - part of the protocol
        """Return None: nobody has these files before curate writes them."""
        return None

    def folder(self, options: ReadOptions) -> Path:
        """Return the folder of the scenes, generated if it is not there: one under `options.scratch`."""
        seed = options.options.get("seed", 0)
        if not isinstance(seed, int):
            msg = f"source.seed must be a whole number. Given: {seed!r}."
            raise ConfigError(msg)
        return generated_folder(options, "street", VERSION, lambda folder: _write(folder, seed))

    def read(self, options: ReadOptions) -> Ingested:
        """Generate the files if they are not there, and read frames and labels.

        Raises:
            ConfigError: an attribute or group of the spec names a column that `frames.csv` does not have.
        """
        for column in (*options.attributes.values(), *options.groups.values()):
            if column not in COLUMNS:
                msg = f"The format street has no column {column!r}. {did_you_mean(column, COLUMNS)}"
                raise ConfigError(f"{msg} Columns: {', '.join(COLUMNS)}.")
        folder = self.folder(options)
        collector = Collector(replace(options, root=folder.parent), task="tracking")  # media are read from scratch
        ids: dict[str, str | None] = {}
        with (folder / "frames.csv").open(newline="", encoding="utf-8") as file:
            for number, row in enumerate(csv.DictReader(file), start=2):
                ids[row["file"]] = collector.add_image(
                    f"frames.csv row {number}",
                    f"{folder.name}/{row['file']}",
                    split=row["split"],
                    attributes={name: row[column] or None for name, column in options.attributes.items()},
                    groups={name: row[column] or None for name, column in options.groups.items()},
                    label_state="negative",
                )
        with (folder / "labels.jsonl").open(encoding="utf-8") as file:
            for number, line in enumerate(file, start=1):
                _add(collector, f"labels.jsonl line {number}", json.loads(line), ids)
        return collector.finish()


SOURCE = StreetSource()


def _add(collector: Collector, row: str, box: Box, ids: Mapping[str, str | None]) -> None:
    mask = None
    if box["mask"] is not None:
        mask = {"height_px": HEIGHT_PX, "width_px": WIDTH_PX, "counts": box["mask"].encode("ascii")}
    collector.add_label(
        row,
        ids.get(box["file"]),
        box["label"],
        key=box["key"],
        size_px=(WIDTH_PX, HEIGHT_PX),
        bbox=box["bbox"],
        mask=mask,
        track_id=box["track"],
        frame=box["frame"],
        source_key=box["key"],
        reference_label=box["truth"],
    )


def _write(folder: Path, seed: int) -> None:
    frames: list[dict[str, str]] = []
    boxes: list[Box] = []
    masks: dict[str, Mask] = {}
    for video in range(N_VIDEOS):
        for frame in range(N_FRAMES):
            file = f"images/video-{video}/{frame:02d}.png"
            pixels, seen = frame_of(video, frame, seed)
            _save_png(folder / file, pixels)
            frames.append(_frame_row(file, video, frame, seen))
            for one in seen:
                box = _true_box(file, frame, one)
                boxes.append(box)
                masks[box["key"]] = one.mask
    given, planted = plant(boxes, masks, seed)
    leak = f"frames {FIRST_LEAKED_FRAME} to {N_FRAMES - 1} of a training video are in test"
    leaked = f"images/video-{LEAKING_VIDEO}/{FIRST_LEAKED_FRAME}.png"
    planted.append({"key": f"video-{LEAKING_VIDEO}", "file": leaked, "kind": "group_leakage", "detail": leak})
    _save_table(folder / "frames.csv", frames)
    _save_table(folder / "planted.csv", planted)
    lines = "".join(f"{schema.canonical_json(box)}\n" for box in given)
    (folder / "labels.jsonl").write_text(lines, encoding="utf-8")


def _frame_row(file: str, video: int, frame: int, seen: Iterable[Seen]) -> dict[str, str]:
    """Describe a frame; the people's attributes are those of the nearest person, empty where there is none."""
    people = [one.thing for one in seen if one.thing.label == "person"]
    leaked = video == LEAKING_VIDEO and frame >= FIRST_LEAKED_FRAME
    values = (
        file,
        f"video-{video}",
        str(frame),
        "test" if leaked else SPLITS[video],
        lighting_of(video),
        people[-1].skin if people else "",
        people[-1].clothing if people else "",
    )
    return dict(zip(COLUMNS, values, strict=True))


def _true_box(file: str, frame: int, seen: Seen) -> Box:
    return {
        "key": f"{seen.thing.track}-{frame:02d}",
        "file": file,
        "frame": frame,
        "label": seen.thing.label,
        "truth": seen.thing.label,
        "track": seen.thing.track,
        "bbox": seen.bbox,
        "mask": encode_mask(seen.mask)["counts"].decode("ascii"),
    }


def _save_png(path: Path, pixels: Pixels) -> None:
    from PIL import Image  # noqa: PLC0415 - `import curate` must not load it

    path.parent.mkdir(parents=True, exist_ok=True)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    path.write_bytes(buffer.getvalue())


def _save_table(path: Path, rows: list[dict[str, str]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
