"""Flags on boxes as they are, on sheets for people to look at: how many of them are right?

    python benchmarks/label_errors/box_sheets.py DATA --out results [--teachers 3] [--draw 40] [--folds 3] [--steps 240]

DATA is a spec, or a tar, zip or folder of Pascal VOC. Teachers are the small detectors of benchmarks/student, each image
judged by one that did not train on it. Of each issue up to `--draw` flags, chosen by a hash, are cut out with what is
around them: given boxes thin, the flagged one red, the suggestion green. Teachers are found again where they were made
before; nothing is planted, and no figure is printed but counts: who looks decides.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from PIL import Image, ImageDraw

from curate.teachers.boxes.flag_coco import flag_boxes

sys.path.insert(0, str(Path(__file__).parents[1] / "student"))
from box_teachers import file_of, teacher_files
from box_world import World, boxes_of, read_world

SIDE_PX, COLUMNS, ON_A_SHEET = 260, 5, 20
ISSUES = ("missing", "location", "swap", "spurious", "duplicate")
Rows = list[dict[str, Any]]


def coco_of(world: World) -> dict[str, Any]:
    """Return the given boxes of all images as COCO; file names are those that the teachers' files use."""
    row = {sample: at for at, sample in enumerate(world.sample_ids)}
    annotations = [
        {
            "id": number,
            "image_id": row[one["sample_id"]],
            "category_id": world.classes.index(one["label"]),
            "bbox": (np.array(one["bbox"]) * np.tile(world.size_px[row[one["sample_id"]]], 2)).tolist(),
            "iscrowd": 0,
        }
        for number, one in enumerate(world.labels.sort_by("label_id").to_pylist())
    ]
    images = [
        {"id": at, "file_name": file_of(at), "width": int(w), "height": int(h)}
        for at, (w, h) in enumerate(world.size_px)
    ]
    categories = [{"id": at, "name": name} for at, name in enumerate(world.classes)]
    return {"images": images, "annotations": annotations, "categories": categories}


def cell(world: World, flag: dict[str, Any], given: Rows, number: int) -> Image.Image:
    """Return what is around a flag, with the boxes drawn."""
    own = [one["bbox"] for one in given if one["id"] == flag["annotation_id"]]
    shown = np.array([*own, *([flag["suggested_bbox"]] if flag["suggested_bbox"] else [])])
    low, high = shown[:, :2].min(0), (shown[:, :2] + shown[:, 2:]).max(0)
    half = 1.1 * max(float((high - low).max()), 60.0)
    start = (low + high) / 2 - half
    scale = SIDE_PX / (2 * half)
    whole = Image.open(io.BytesIO(world.encoded[flag["image_id"]])).convert("RGB")
    part = whole.crop(tuple(np.concatenate([start, start + 2 * half]).astype(int).tolist()))
    part = part.resize((SIDE_PX, SIDE_PX), Image.Resampling.BICUBIC)
    pen = ImageDraw.Draw(part)
    drawn = [(one["bbox"], "black", 1) for one in given] + [(one, "red", 3) for one in own]
    drawn += [(flag["suggested_bbox"], "lime", 2)] if flag["suggested_bbox"] else []
    for bbox, colour, width in drawn:
        corner = (np.array(bbox[:2]) - start) * scale
        pen.rectangle([*corner, *(corner + np.array(bbox[2:]) * scale)], outline=colour, width=width)
    pen.rectangle([0, 0, SIDE_PX, 14], fill="white")
    says = f"{number}: {flag['label'] or ''} > {flag['suggested_label'] or ''} {flag['risk']:.2f}"
    pen.text((3, 2), says, fill="black")
    return part


def draw(world: World, flags: Rows, given: dict[int, Rows], out: Path, issue: str) -> None:
    """Write the sheets of an issue."""
    for first in range(0, len(flags), ON_A_SHEET):
        some = flags[first : first + ON_A_SHEET]
        sheet = Image.new("RGB", (COLUMNS * SIDE_PX, -(-len(some) // COLUMNS) * SIDE_PX), "white")
        for at, flag in enumerate(some):
            image = cell(world, flag, given.get(flag["image_id"], []), first + at)
            sheet.paste(image, (at % COLUMNS * SIDE_PX, at // COLUMNS * SIDE_PX))
        sheet.save(out / f"{issue}-{first // ON_A_SHEET}.png")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    for name, value in (
        ("teachers", 3),
        ("draw", 40),
        ("folds", 3),
        ("steps", 240),
        ("width", 24),
        ("limit", None),
    ):
        parser.add_argument(f"--{name}", type=int, default=value)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    world = read_world(options.data, options.out, size_px=(192, 256), n_test=0, limit=options.limit)
    boxes = boxes_of(world, world.labels, world.train)
    paths = teacher_files(
        world, boxes, options.out, 0, n_teachers=options.teachers, n_folds=options.folds, n_steps=options.steps,
        width=options.width,
    )  # fmt: skip
    content = coco_of(world)
    (options.out / "given.json").write_text(json.dumps(content), encoding="utf-8")
    named = {path.stem: path for path in paths}
    summary = flag_boxes(options.out / "given.json", named, options.out / "flags.parquet")
    print("\n".join(summary.lines()))
    given: dict[int, Rows] = {}
    for one in content["annotations"]:
        given.setdefault(one["image_id"], []).append(one)
    flagged = [row for row in pq.read_table(options.out / "flags.parquet").to_pylist() if row["flagged"]]
    for issue in ISSUES:
        mine = [row for row in flagged if row["issue"] == issue]
        key = [json.dumps([row["image_id"], row["annotation_id"], row["suggested_bbox"]]) for row in mine]
        order = sorted(range(len(mine)), key=lambda at, key=key: hashlib.sha256(key[at].encode()).digest())
        draw(world, [mine[at] for at in order[: options.draw]], given, options.out, issue)


if __name__ == "__main__":
    main()
