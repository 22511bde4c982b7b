"""Boxes in an order that depends on what they say only, so that rows, images and teachers may come in any order."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from curate.teachers.boxes.fuse import Detections, Given
from curate.teachers.boxes.geometry import Floats, Ints
from curate.teachers.sampling import order_keys

QUANTUM = 1e-6  # of relative coordinates: what is closer is the same place
CELLS_AT_ONCE = 4_000_000  # boxes times classes that are judged together
FIT_BOXES = 20_000  # given boxes to fit on; more would tell no more

Keys = npt.NDArray[np.uint64]


@dataclass(frozen=True, slots=True)
class Arranged:
    """Given boxes in order, and where each came from."""

    given: Given
    row: Ints


def mixed(*parts: npt.NDArray[np.generic]) -> Keys:
    """Return a hash of several integer columns."""
    key = np.zeros(len(parts[0]), dtype=np.uint64)
    with np.errstate(over="ignore"):
        for part in parts:
            key = (key ^ part.astype(np.int64).view(np.uint64)) * np.uint64(0xFF51AFD7ED558CCD)
            key ^= key >> np.uint64(33)
    return key


def arrange_given(
    image: Ints, boxes: Floats, label: Ints, image_keys: Keys, class_names: Sequence[str], tie_keys: Keys
) -> Arranged:
    """Return given boxes sorted by image and a hash of what they say.

    Args:
        image: (N,) numbers.
        boxes: (N, 4) relative.
        label: (N,).
        image_keys: (I,) hash of each image's id.
        class_names: names of the classes.
        tie_keys: (N,) hash of each box's own id: decides between two that say the same.
    """
    names = order_keys(class_names, len(class_names)) if len(class_names) else np.zeros(1, dtype=np.uint64)
    place = np.round(boxes / QUANTUM).astype(np.int64)
    key = mixed(image_keys[image].view(np.int64), names[label].view(np.int64), *place.T)
    order = np.lexsort((tie_keys, key, image))
    return Arranged(Given(image[order], boxes[order], label[order], key[order]), order)


def arrange_found(image: Ints, boxes: Floats, label: Ints, score: Floats, teacher: Ints) -> Detections:
    """Return detections sorted by image, teacher, falling score, class and place."""
    order = np.lexsort((*boxes.T, label, -score, teacher, image))
    return Detections(image[order], boxes[order], label[order], score[order], score[order], teacher[order])


def fit_images(n_boxes: Ints, image_keys: Keys, *, limit: int = FIT_BOXES) -> Ints:
    """Return the images to fit on: by falling hash until they hold `limit` given boxes; ascending.

    Args:
        n_boxes: (I,) given boxes of each image.
        image_keys: (I,) hash of each image's id.
        limit: given boxes.
    """
    order = np.argsort(image_keys, kind="stable")
    needed = int(np.searchsorted(np.cumsum(n_boxes[order]), limit)) + 1
    return np.sort(order[:needed])


def of_images(given: Given, found: Detections, images: Ints) -> tuple[Given, Detections]:
    """Return the boxes of some images (ascending), renumbered from 0."""
    parts: list[Given | Detections] = []
    for table in (given, found):
        at = np.searchsorted(images, table.image)
        inside = at < len(images)
        inside[inside] = images[at[inside]] == table.image[inside]
        chosen = table.take(np.flatnonzero(inside))
        chosen.image[:] = at[inside]  # a copy of its own
        parts.append(chosen)
    first, second = parts
    if not isinstance(first, Given) or not isinstance(second, Detections):
        raise TypeError("given boxes and detections are needed, in this order")
    return first, second


def runs_of_images(given: Given, found: Detections, n_images: int, n_classes: int) -> Iterator[tuple[int, int]]:
    """Yield (start, stop) of runs of images, each with so many boxes as fit into memory; there is at least one."""
    n = np.bincount(given.image, minlength=n_images) + np.bincount(found.image, minlength=n_images)
    part = np.cumsum(n) * max(n_classes, 1) // CELLS_AT_ONCE
    starts = np.flatnonzero(np.diff(part, prepend=-1)).tolist() or [0]
    yield from zip(starts, [*starts[1:], n_images], strict=True)


def rows_of(image: Ints, start: int, stop: int) -> slice:
    """Return where the rows of the images `start` to `stop` are; `image` is ascending."""
    first, last = np.searchsorted(image, [start, stop]).tolist()
    return slice(first, last)


def of_run(given: Given, found: Detections, start: int, stop: int) -> tuple[Given, Detections]:
    """Return the boxes of a run of images, renumbered from 0."""
    own = given.take(np.arange(len(given.image))[rows_of(given.image, start, stop)])
    seen = found.take(np.arange(len(found.image))[rows_of(found.image, start, stop)])
    return replace(own, image=own.image - start), replace(seen, image=seen.image - start)


def relative(boxes_px: Floats, image: Ints, size_px: Floats) -> Floats:
    """Return boxes relative to their images."""
    size = size_px[image]
    return np.asarray(boxes_px / np.concatenate([size, size], axis=1), dtype=np.float64)


def sizes_or_extents(size_px: Floats, image: Ints, boxes_px: Floats) -> Floats:
    """Return (I, 2) the images' sizes; where one is not known, how far its boxes reach."""
    ends = boxes_px[:, :2] + boxes_px[:, 2:]
    reach = np.zeros_like(size_px)
    np.maximum.at(reach, image, ends)
    known = np.isfinite(size_px).all(axis=1, keepdims=True)
    return np.where(known, size_px, np.where(reach > 0, reach, 1.0))
