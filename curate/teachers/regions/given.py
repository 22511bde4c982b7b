"""Given masks of an image as one picture of class numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from curate.ingest.rle import decode_mask, runs_of
from curate.teachers.regions.canvas import NONE, Ids

MAX_PIXELS = 100_000_000
Rows = Sequence[Mapping[str, Any]]  # `label` and `mask` of each, in the order in which they count


def drawn(rows: Rows, classes: Sequence[str]) -> Ids:
    """Return (H, W) positions among the classes, NONE where no mask is; of two masks on a pixel the first counts."""
    shape = (rows[0]["mask"]["height_px"], rows[0]["mask"]["width_px"])
    ids = np.full(shape, NONE, dtype=np.int32)
    for row in reversed(rows):
        mask = row["mask"]
        if (mask["height_px"], mask["width_px"]) == shape and row["label"] in classes:
            ids[decode_mask(mask).astype(np.bool_)] = classes.index(row["label"])
    return ids


def readable(rows: Rows) -> list[Mapping[str, Any]]:
    """Return those whose mask can be drawn; none where they are of several sizes: nobody knows which is right."""
    good = [row for row in rows if is_readable(row["mask"])]
    sizes = {(row["mask"]["height_px"], row["mask"]["width_px"]) for row in good}
    return good if len(sizes) == 1 else []


def is_readable(mask: Mapping[str, Any] | None) -> bool:
    """Return whether the runs fill the mask; `mask_sanity` says so of those that do not."""
    if mask is None or not mask["counts"] or not mask["height_px"] or not mask["width_px"]:
        return False
    n_pixels = mask["height_px"] * mask["width_px"]
    runs = runs_of(mask["counts"]) if 0 < n_pixels <= MAX_PIXELS else None
    return runs is not None and bool((runs >= 0).all()) and int(runs.sum()) == n_pixels
