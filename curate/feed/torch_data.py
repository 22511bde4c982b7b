"""Items of a feed as tensors, and the map-style dataset."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.utils.data import Dataset

from curate.errors import ConfigError
from curate.feed.images import Pixels, Resize, pixels_of
from curate.feed.masks import framed, framed_map, painted
from curate.feed.rows import PLACE, Rows
from curate.feed.warp import Frame, Warp, checked, sampled_linearly

if TYPE_CHECKING:
    from curate.feed.release import Augment, Feed, Transform

Item = dict[str, Any]


@dataclass(frozen=True)
class Reading:
    """How an image becomes what an item holds; see `Feed.stream`."""

    size_px: tuple[int, int] | None
    transform: Transform | None
    augment: Augment | None
    shrink_on_load: bool
    resize: Resize = "bilinear"
    warp: Warp | None = None

    def image(self, data: bytes, generator: np.random.Generator | None = None) -> tuple[Any, Frame]:
        """Return what the item holds (the transform's value, or a uint8 tensor (3, height, width)), and what it shows."""
        pixels = pixels_of(data, size_px=self.size_px, resize=self.resize, shrink_on_load=self.shrink_on_load)
        frame = Frame((pixels.shape[0], pixels.shape[1]), stretched=self.size_px is not None)
        if self.warp is not None and generator is not None:
            matrix = checked(self.warp(generator, frame.size))
            pixels = np.asarray(sampled_linearly(pixels, frame.size, matrix), dtype=np.uint8)
            frame = Frame(frame.size, matrix, frame.stretched)
        if self.augment is not None and generator is not None:
            pixels = self.augment(pixels, generator)
        return tensor_of(pixels) if self.transform is None else self.transform(pixels), frame


def tensor_of(pixels: Pixels) -> torch.Tensor:
    """Return (height, width, 3) pixels as a tensor (3, height, width) over the same memory (channels last)."""
    return torch.from_numpy(pixels).permute(2, 0, 1)


class ImageDataset(Dataset[Item]):
    """The map-style dataset of a feed. Item i is row i of the version's split, whatever else happens."""

    def __init__(self, feed: Feed, reading: Reading) -> None:
        self.feed = feed
        self.reading = reading
        self._places = Places(feed.rows)

    def __len__(self) -> int:
        return len(self.feed)

    def __getitem__(self, at: int) -> Item:
        if not -len(self) <= at < len(self):
            raise IndexError(f"item {at} of {len(self)}")
        at %= len(self)
        data = self.feed.images.read(*self._places[at])
        return item_of(self.feed.rows, at, *self.reading.image(data), self._places.ids[at])


class Places:
    """Where the image of each item is, and the item's id: columns, so that a worker process shares their memory."""

    def __init__(self, rows: Rows) -> None:
        places = rows.places()
        self._columns = [places[name].combine_chunks() for name in PLACE]
        self.ids = rows.ids()

    def __getitem__(self, at: int) -> tuple[Any, ...]:
        return tuple(column[at].as_py() for column in self._columns)


def item_of(rows: Rows, at: int, image: Any, frame: Frame, item_id: str) -> Item:  # noqa: ANN401 - the transform's
    """Return an item.

    One row: `image`, `label` (int64, -1 without one), `weight` (float32), `settled` (bool: a person decided the label),
    `id` (of the label), `index`; with soft labels `soft`: a mapping of tensors that `distillation_loss` takes. Where
    images have several labels, an image: the same, with `label` (K,) float32 (1 there, 0 not there, NaN not known)
    for `multi_label_loss`; `id` of the image.
    With boxes, all of an image: `boxes` (n, 4) float32 x0, y0, x1, y1 relative to the image, so that a resize leaves
    them right; `labels`, `weights`, `soft` (n, …) beside them; `id` of the image. A negative image has n = 0. `ignore`
    (m, 4): places where a label was held back or may be missing, so that nothing found there is wrong. Where
    detectors judged, `soft` holds their `objectness`, and `teacher_boxes` the boxes that only they see: `boxes` (m, 4)
    with their soft labels.
    With masks, all of an image: `mask` (h, w) int64, `masks.IGNORE` where nobody vouches for a class; `weight` and
    `settled` (h, w) beside it; with class maps `soft`: see `masks.framed_map`. All as the item shows the image.
    """
    if rows.are_masks:
        return {"image": _of_size(image, frame), **_masks_of(rows, at, frame), "id": item_id, "index": at}
    start, stop = int(rows.starts[at]), int(rows.starts[at + 1])
    item: Item = {"image": image, "id": item_id, "index": at}
    if rows.tags is not None:
        item |= {"label": torch.from_numpy(rows.tags[at].copy())}
        item |= {"weight": torch.tensor(rows.weights[start:stop].min())}
        taken: Any = start
    elif rows.boxes is None:
        item |= {"label": torch.tensor(int(rows.labels[start])), "weight": torch.tensor(rows.weights[start])}
        item["settled"] = torch.tensor(bool(rows.settled[start]))
        taken = start
    else:
        labeled = np.flatnonzero(rows.labels[start:stop] >= 0) + start
        taken = labeled
        item["boxes"] = torch.from_numpy(rows.boxes[labeled])
        item["labels"] = torch.from_numpy(rows.labels[labeled])
        item["weights"] = torch.from_numpy(rows.weights[labeled])
        item["ignore"] = torch.from_numpy(rows.ignore.of(at)) if rows.ignore is not None else torch.zeros((0, 4))
    if rows.soft is not None:
        item["soft"] = tensors(rows.soft.take(taken))
    if rows.teacher_boxes is not None:
        seen = rows.teacher_boxes
        theirs = slice(int(seen.starts[at]), int(seen.starts[at + 1]))
        item["teacher_boxes"] = tensors({"boxes": seen.boxes[theirs], **seen.soft.take(theirs)})
    return item


def _masks_of(rows: Rows, at: int, frame: Frame) -> Item:
    start, stop = int(rows.starts[at]), int(rows.starts[at + 1])
    table = rows.table.slice(start, stop - start)
    own = slice(start, stop)
    mask = painted(table, rows.labels[own], rows.weights[own], rows.settled[own])
    item: Item = tensors(framed(mask, frame))
    if rows.class_maps is not None:
        found = rows.class_maps.read(table["sample_id"][0].as_py())
        item["soft"] = tensors(framed_map(found, rows.class_maps, frame, (mask.ids.shape[0], mask.ids.shape[1])))
    return item


def _of_size(image: Any, frame: Frame) -> Any:  # noqa: ANN401 - the transform's
    """Return the image; refuse one that a transform or augmentation moved against its mask."""
    shape = tuple(getattr(image, "shape", ()))
    if len(shape) == 3 and frame.size not in {shape[1:], shape[:2]}:
        raise ConfigError(
            f"A mask of {frame.size[0]} x {frame.size[1]} pixels needs an image of that size; yours made it "
            f"{shape}. They change colours only; sizes go in size_px and geometry in warp, which move the mask too."
        )
    return image


def tensors(arrays: Mapping[str, np.ndarray[Any, Any]]) -> dict[str, torch.Tensor]:
    """Return arrays as tensors; unsigned indices become int64, which every operation takes."""
    made = {}
    for name, array in arrays.items():
        values = array.astype(np.int64) if array.dtype.kind in "iu" else array
        made[name] = torch.from_numpy(np.array(values, copy=True))
    return made
