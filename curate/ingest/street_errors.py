"""Errors as annotators make them, planted into true annotations and written down one by one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from curate.ingest.generated import uniform
from curate.ingest.rle import encode_mask
from curate.ingest.street_scene import CLASSES, N_FRAMES, Mask

# kind -> how many; the track errors are counted in tracks, all others in boxes
N_PLANTED = {
    "dropped": 8,
    "shifted": 8,
    "swapped": 10,
    "invented": 6,
    "duplicated": 6,
    "inverted": 2,
    "mask_eroded": 6,
}
_SWAPS = {"car": "truck", "truck": "car", "person": "bicycle", "bicycle": "person", "sign": "person"}
INVENTED = ""  # the truth of a box around nothing, and of a second box around one thing

Box = dict[str, Any]


def plant(boxes: list[Box], masks: dict[str, Mask], seed: int) -> tuple[list[Box], list[dict[str, str]]]:
    """Return the boxes with errors in them, and a row (key, file, kind, detail) for each error.

    A box is hit at most once. Which ones follows from a hash of their keys.
    """
    order = sorted(boxes, key=lambda box: uniform(seed, "plant", box["key"]))
    planted: list[dict[str, str]] = []
    changed = {box["key"]: [box] for box in boxes}
    position = 0
    for kind, n in N_PLANTED.items():
        for box in order[position : position + n]:
            detail, changed[box["key"]] = _PLANTERS[kind](box, masks[box["key"]], seed)
            planted.append({"key": box["key"], "file": box["file"], "kind": kind, "detail": detail})
        position += n
    result = [box for box in boxes for box in changed[box["key"]]]
    return result, planted + _switch_tracks(result)


def _dropped(box: Box, mask: Mask, seed: int) -> tuple[str, list[Box]]:  # noqa: ARG001 - one shape for all
    return f"{box['label']} without a box", []


def _shifted(box: Box, mask: Mask, seed: int) -> tuple[str, list[Box]]:  # noqa: ARG001 - as above
    x, y, w, h = box["bbox"]
    right = uniform(seed, "shift", box["key"]) < 0.5
    moved = min(max(x + (0.45 if right else -0.45) * w, 0.0), 1.0 - w)
    lower = min(max(y + 0.25 * h, 0.0), 1.0 - h)
    return f"moved by {moved - x:+.3f}, {lower - y:+.3f}", [{**box, "bbox": [moved, lower, w, h]}]


def _swapped(box: Box, mask: Mask, seed: int) -> tuple[str, list[Box]]:  # noqa: ARG001 - as above
    wrong = _SWAPS[box["label"]]
    return f"{box['label']} as {wrong}", [{**box, "label": wrong}]


def _invented(box: Box, mask: Mask, seed: int) -> tuple[str, list[Box]]:  # noqa: ARG001 - as above
    label = CLASSES[int(uniform(seed, "invent", box["key"]) * len(CLASSES))]
    x, w = 0.05 + 0.7 * uniform(seed, "invent x", box["key"]), 0.12
    extra = {"key": f"{box['key']}+invented", "label": label, "truth": INVENTED, "bbox": [x, 0.02, w, 0.1]}
    return f"{label} in the sky", [box, {**box, **extra, "mask": None, "track": None}]


def _duplicated(box: Box, mask: Mask, seed: int) -> tuple[str, list[Box]]:  # noqa: ARG001 - as above
    x, y, w, h = box["bbox"]
    extra = {"key": f"{box['key']}+again", "truth": INVENTED, "bbox": [x, y, w * 0.97, h * 0.98]}
    return f"{box['label']} a second time", [box, {**box, **extra, "mask": None, "track": None}]


def _inverted(box: Box, mask: Mask, seed: int) -> tuple[str, list[Box]]:  # noqa: ARG001 - as above
    x, y, w, h = box["bbox"]
    return "corners given the wrong way round", [{**box, "bbox": [x + w, y + h, -w, -h]}]


def _mask_eroded(box: Box, mask: Mask, seed: int) -> tuple[str, list[Box]]:  # noqa: ARG001 - as above
    smaller = mask.copy()
    for _ in range(2):
        padded = np.pad(smaller, 1)
        smaller = padded[1:-1, 1:-1] & padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    if not smaller.any():
        smaller = mask & (np.cumsum(mask).reshape(mask.shape) <= max(1, mask.sum() // 4))
    detail = f"{int(smaller.sum())} of {int(mask.sum())} pixels left"
    return detail, [{**box, "mask": encode_mask(smaller)["counts"].decode("ascii")}]


_PLANTERS: dict[str, Callable[[Box, Mask, int], tuple[str, list[Box]]]] = {
    "dropped": _dropped,
    "shifted": _shifted,
    "swapped": _swapped,
    "invented": _invented,
    "duplicated": _duplicated,
    "inverted": _inverted,
    "mask_eroded": _mask_eroded,
}


def _switch_tracks(boxes: list[Box]) -> list[dict[str, str]]:
    """In two videos let two tracks of one class exchange their ids from the middle on; changes `boxes`."""
    planted = []
    for one, other in (("v1-0", "v1-5"), ("v4-1", "v4-6")):
        names = {one: other, other: one}
        hit = [box for box in boxes if box["track"] in names and box["frame"] >= N_FRAMES // 2]
        for box in hit:
            box["track"] = names[box["track"]]
        if hit:
            detail = f"{one} and {other} exchanged from frame {N_FRAMES // 2}"
            planted.append({"key": one, "file": hit[0]["file"], "kind": "track_switched", "detail": detail})
    return planted
