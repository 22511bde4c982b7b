"""Images with boxes, split once; and copies of the training boxes with errors in them."""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

import curate
from curate.feed.images import Images, pixels_of
from curate.plant.corrupt import corrupt

ORDER_SEED = 20_240_229
KINDS = ("drop", "shift", "swap", "invent")


@dataclass(frozen=True)
class World:
    """Images of a spec and their boxes, taken for true.

    Attributes:
        pixels: (N, 3, H, W) uint8, stretched.
        encoded: the N images as they are stored.
        size_px: (N, 2) width and height of what is stored.
        sample_ids: N ids.
        labels: `schema.LABELS` of all images.
        classes: K names.
        train: rows to train on.
        test: rows to test on.
    """

    pixels: np.ndarray
    encoded: Sequence[bytes]
    size_px: np.ndarray
    sample_ids: Sequence[str]
    labels: pa.Table
    classes: tuple[str, ...]
    train: np.ndarray
    test: np.ndarray


def read_world(path: Path, folder: Path, *, size_px: tuple[int, int], n_test: int, limit: int | None) -> World:
    """Read a spec, or a tar, zip or folder of Pascal VOC.

    Args:
        path: of it.
        folder: to work in.
        size_px: (height, width) to stretch images to.
        n_test: images that nobody trains on, the first of a fixed random order.
        limit: take so many images only.
    """
    spec = path.absolute()
    if path.suffix not in {".yaml", ".yml"}:
        spec = folder / "truth.yaml"
        content = {"name": "truth", "source": {"format": "voc", "path": str(path.absolute())}}
        spec.write_text(json.dumps(content), encoding="utf-8")  # JSON is YAML
    run = curate.run(spec, workspace=folder / "workspace", until="scan", review=False, workers=1)
    samples, labels, scan = (run.tables[name] for name in ("samples", "labels", "scan"))
    boxed = labels.filter(pc.is_valid(labels["bbox"]))
    rows = samples.join(scan.select(["sample_id", "width_px", "height_px", "error_code"]), "sample_id")
    named = set(boxed["sample_id"].to_pylist())
    rows = [
        row for row in rows.sort_by("sample_id").to_pylist() if row["sample_id"] in named and not row["error_code"]
    ]
    rows = rows[:limit]
    reader = Images(Path(json.loads(run.run_file.read_text())["source_root"]), folder / "media", check=False)
    places = ("uri", "container", "container_offset", "n_bytes")
    encoded = [reader.read(*(row[name] for name in places), None) for row in rows]
    pixels = np.stack([pixels_of(data, size_px=size_px).transpose(2, 0, 1) for data in encoded])
    order = np.random.default_rng(ORDER_SEED).permutation(len(rows))
    return World(
        pixels, encoded, np.array([(row["width_px"], row["height_px"]) for row in rows]),
        [row["sample_id"] for row in rows], boxed, tuple(sorted(set(boxed["label"].to_pylist()))),
        np.sort(order[n_test:]), np.sort(order[:n_test]),
    )  # fmt: skip


@dataclass(frozen=True)
class Boxes:
    """Boxes of some images: row `image` of the world, x0, y0, x1, y1 relative, and class."""

    image: np.ndarray
    boxes: np.ndarray
    label: np.ndarray

    def of(self, row: int) -> np.ndarray:
        """Return which boxes are of an image."""
        return np.flatnonzero(self.image == row)


def boxes_of(world: World, labels: pa.Table, rows: np.ndarray) -> Boxes:
    """Return the boxes of a table of labels in the images `rows`."""
    place = {world.sample_ids[row]: int(row) for row in rows}
    mine = [one for one in labels.to_pylist() if one["sample_id"] in place]
    xywh = np.array([one["bbox"] for one in mine], np.float32).reshape(-1, 4)
    corners = np.concatenate([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], 1)
    numbers = {name: at for at, name in enumerate(world.classes)}
    return Boxes(
        np.array([place[one["sample_id"]] for one in mine], np.int64),
        corners,
        np.array([numbers[one["label"]] for one in mine], np.int64),
    )


def spoiled(world: World, noise: str, seed: int) -> tuple[pa.Table, dict[str, int]]:
    """Return the labels of the training images with errors in them, and how many were planted of each kind.

    Args:
        world: whose boxes are taken for true.
        noise: `given`: none. `mixed:SHARE`: as much of each of `KINDS`, so many of the boxes together. `drop:SHARE`, and
            so on: of one kind. What is done to a box: see `curate plant`.
        seed: of all choices.
    """
    ids = pa.array([world.sample_ids[row] for row in world.train])
    labels = world.labels.filter(pc.is_in(world.labels["sample_id"], value_set=ids))
    kind, _, share = noise.partition(":")
    if noise == "given":
        return labels, {}
    if kind not in {"mixed", *KINDS} or not share:
        raise SystemExit(
            f"--noise takes given, mixed:SHARE or {', '.join(f'{one}:SHARE' for one in KINDS)}, not {noise!r}"
        )
    kinds = KINDS if kind == "mixed" else (kind,)
    each = float(share) / len(kinds)
    planted: Counter[str] = Counter()
    n_before = labels.num_rows
    for attempt in range(20 if "drop" in kinds else 0):  # a round drops one box an image at most
        left = round(each * n_before) - planted["drop"]
        if left <= 0:
            break
        made = corrupt(
            labels,
            ["drop"],
            share=min(0.25, left / labels.num_rows),
            classes=world.classes,
            seed=100 * seed + attempt,
        )
        labels = made.labels
        planted["drop"] += made.planted.num_rows
    others = [one for one in kinds if one != "drop"]
    if others:
        made = corrupt(
            labels, others, share=each * n_before / labels.num_rows, classes=world.classes, seed=100 * seed
        )
        labels = made.labels
        planted.update(made.planted["kind"].to_pylist())
    return labels, dict(planted)


logging.getLogger("curate").setLevel(logging.WARNING)
