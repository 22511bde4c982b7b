"""Wrong boxes, masks and tracks: dropped, moved, invented, eroded, switched."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np

from curate import schema
from curate.ingest.rle import box_of_mask, decode_mask, encode_mask
from curate.plant.choose import number_of, pick

Row = dict[str, Any]

IOU_RANGE = (0.3, 0.6)  # of a moved box with the one that was given
MAX_OVERLAP = 0.1  # of an invented box with any other box of its image
ERODED_AREA = 0.6  # of a mask that is eroded, at most
_N_TRIES = 20


def shifted(bbox: Sequence[float], *parts: str) -> list[float]:
    """Return the box moved so that its IoU with itself before is in `IOU_RANGE`; smaller where it has no room."""
    x, y, w, h = bbox
    low, high = IOU_RANGE
    iou = low + (high - low) * number_of(*parts, "iou")
    step = (1 - iou) / (1 + iou)
    moves = [(w * step, 0.0), (-w * step, 0.0), (0.0, h * step), (0.0, -h * step)]
    start = int(number_of(*parts, "direction") * len(moves))
    for dx, dy in moves[start:] + moves[:start]:
        if x + dx >= -1e-9 and x + dx + w <= 1 + 1e-9 and y + dy >= -1e-9 and y + dy + h <= 1 + 1e-9:
            return [x + dx, y + dy, w, h]
    scale = math.sqrt(iou)
    return [x + w * (1 - scale) / 2, y + h * (1 - scale) / 2, w * scale, h * scale]


def iou(one: Sequence[float], other: Sequence[float]) -> float:
    """Return the intersection over union of two boxes (x, y, w, h)."""
    width = min(one[0] + one[2], other[0] + other[2]) - max(one[0], other[0])
    height = min(one[1] + one[3], other[1] + other[3]) - max(one[1], other[1])
    if width <= 0 or height <= 0:
        return 0.0
    both = width * height
    return both / (one[2] * one[3] + other[2] * other[3] - both)


def droppable(rows: Sequence[Row]) -> list[str]:
    """Return the ids of boxes whose image has another label: an image does not lose its last one."""
    per_sample = Counter(row["sample_id"] for row in rows)
    return [row["label_id"] for row in rows if row["bbox"] is not None and per_sample[row["sample_id"]] > 1]


def invented(rows: Sequence[Row], n: int, seed: int) -> list[Row]:
    """Return `n` new boxes: each has place and class of a box of another image, where nothing is in the way."""
    boxes = sorted((row for row in rows if row["bbox"] is not None), key=lambda row: row["label_id"])
    here: dict[str, list[Row]] = defaultdict(list)
    for row in boxes:
        here[row["sample_id"]].append(row)
    samples = sorted(here)
    found: list[Row] = []
    for number in range(n if len(samples) > 1 else 0):
        for attempt in range(_N_TRIES):
            parts = ("plant", str(seed), "invent", str(number), str(attempt))
            sample = pick(samples, *parts, "sample")
            donor = boxes[int(number_of(*parts, "donor") * len(boxes))]
            near = [*here[sample]]
            if donor["sample_id"] == sample or any(iou(donor["bbox"], one["bbox"]) > MAX_OVERLAP for one in near):
                continue
            made = _made(donor, near[0], schema.label_id_of(sample, donor["task"], f"planted {seed} {number}"))
            here[sample].append(made)
            found.append(made)
            break
    return found


def _made(donor: Row, neighbour: Row, label_id: str) -> Row:
    made = dict.fromkeys(donor)
    made |= {"label_id": label_id, "sample_id": neighbour["sample_id"], "task": donor["task"]}
    made |= {"label": donor["label"], "bbox": list(donor["bbox"]), "frame": neighbour["frame"]}
    if donor["track_id"] is not None:
        made["track_id"] = f"planted-{label_id[:8]}"
    return made


def eroded(row: Row) -> Row | None:
    """Return the label with its mask (or polygons) shrunk to at most `ERODED_AREA`, or None where nothing is left."""
    if row["mask"] is not None:
        mask = _eroded(decode_mask(row["mask"]))
        if mask is None:
            return None
        encoded = encode_mask(mask)
        return {**row, "mask": encoded, "bbox": box_of_mask(encoded) if row["bbox"] is not None else None}
    if row["polygons"]:
        factor = math.sqrt(ERODED_AREA)
        return {**row, "polygons": [_shrunk(ring, factor) for ring in row["polygons"]]}
    return None


def _eroded(mask: np.ndarray) -> np.ndarray | None:
    from scipy.ndimage import binary_erosion  # noqa: PLC0415 - only where masks are

    area = int(mask.sum())
    smaller = mask
    while smaller.sum() > ERODED_AREA * area:
        smaller = binary_erosion(smaller)
    return smaller if smaller.any() else None


def _shrunk(ring: Sequence[float], factor: float) -> list[float]:
    points = np.asarray(ring, dtype=float).reshape(-1, 2)
    centre = points.mean(axis=0)
    return [float(v) for v in (centre + factor * (points - centre)).ravel()]
