"""What a feed reads of a version: a row of arrays per item, where its image is, and its soft labels. Arrow and NumPy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from curate.errors import ConfigError, InputError, did_you_mean
from curate.feed.map_reader import MapReader
from curate.feed.masks import COLUMNS as MASK_COLUMNS
from curate.feed.regions import regions, to_ignore, with_boxes
from curate.feed.soft import SoftArrays, soft_at
from curate.manifest.tables import IGNORE

PLACE = ("uri", "container", "container_offset", "n_bytes", "content_sha256")
COLUMNS = ("sample_id", "label_id", *PLACE, "split", "task", "label_state", "released_label", "weight", "bbox")
SETTLED = ("decision_keep", "decision_reject", "decision_accept", "decision_relabel")  # reason codes of people
SAID = ("given_label", "action", "width_px", "height_px", "track_id", "frame")  # what exports say besides


@dataclass(frozen=True)
class TeacherBoxes:
    """Boxes that only detectors see, of the items of a feed.

    Attributes:
        starts: (n_items + 1,) where each item's boxes start.
        boxes: (P, 4) float32 x0, y0, x1, y1 relative to the upright image.
        soft: their soft labels, `objectness` among them.
    """

    starts: NDArray[np.int64]
    boxes: NDArray[np.float32]
    soft: SoftArrays


@dataclass(frozen=True)
class Ignore:
    """Places in the images of a feed where nobody knows what is there.

    Attributes:
        starts: (n_items + 1,) where each item's places start.
        boxes: (P, 4) float32 x0, y0, x1, y1 relative to the upright image.
    """

    starts: NDArray[np.int64]
    boxes: NDArray[np.float32]

    def of(self, item: int) -> NDArray[np.float32]:
        """Return a copy of the (m, 4) places of an item."""
        return self.boxes[int(self.starts[item]) : int(self.starts[item + 1])].copy()


@dataclass(frozen=True)
class Rows:
    """The rows of a feed; an item is one of them, or with boxes or several labels all of one image.

    Attributes:
        table: `COLUMNS` of the rows, in the version's order.
        starts: (n_items + 1,) where each item's rows start.
        labels: (N,) position of the released class; -1 without one, and for a region that the source wants ignored.
        weights: (N,) float32.
        boxes: (N, 4) x0, y0, x1, y1 relative to the upright image, NaN without one; None where items are rows.
        settled: (N,) whether a person decided the label.
        soft: None where the version has none, or none was asked for.
        tags: (n_items, K) float32 where an image has several labels: 1 there, 0 not there, NaN not known; else None.
        ignore: where items are images with boxes; else None.
        teacher_boxes: None where no detector judged, or no soft labels of all teachers were asked for.
        are_masks: whether an item is an image with its masks, which stand in `table`.
        class_maps: of segmenters; None where the version has none, or none were asked for.
    """

    table: pa.Table
    starts: NDArray[np.int64]
    labels: NDArray[np.int64]
    weights: NDArray[np.float32]
    boxes: NDArray[np.float32] | None
    settled: NDArray[np.bool_]
    soft: SoftArrays | None
    tags: NDArray[np.float32] | None = None
    ignore: Ignore | None = None
    teacher_boxes: TeacherBoxes | None = None
    are_masks: bool = False
    class_maps: MapReader | None = None

    def __len__(self) -> int:
        return self.starts.size - 1

    def ids(self) -> list[str]:
        """Return the id of each item: of the label, or of the image where an item is one or has no label."""
        first = self.table.select(["sample_id", "label_id"]).take(pa.array(self.starts[:-1]))
        if self.boxes is not None or self.tags is not None or self.are_masks:
            return list(first["sample_id"].to_pylist())
        return list(pc.coalesce(first["label_id"], first["sample_id"]).to_pylist())

    def places(self) -> pa.Table:
        """Return where the image of each item is: `PLACE`."""
        return self.table.select(PLACE).take(pa.array(self.starts[:-1])).combine_chunks()


def rows_of(
    data: pa.Table,
    soft: SoftArrays | None,
    classes: Sequence[str],
    *,
    split: str | None,
    by_image: bool,
    several: bool = False,
    ignored: pa.Table | None = None,
) -> Rows:
    """Return the labeled rows of a version (negative images too) as arrays.

    Args:
        data: of the version.
        soft: beside it row by row.
        classes: K names.
        split: only rows of this one; None = all.
        by_image: an item is an image with its boxes.
        several: images have several labels; an item is then an image.
        ignored: `manifest.tables.IGNORE` of the version: places and classes that nobody vouches for;
            None: none.

    Raises:
        ConfigError: no such split.
        InputError: nothing is left, or masks beside labels of another task.
    """
    ignored = IGNORE.empty_table() if ignored is None else ignored
    splits = sorted(set(data["split"].to_pylist()) - {None})
    if split is not None and split not in splits:
        raise ConfigError(
            f"There is no split {split!r}. Splits: {', '.join(splits) or 'none'}. {did_you_mean(split, splits)}".rstrip()
        )
    are_masks = _are_masks(data)
    keep = pc.not_equal(data["label_state"], "unlabeled")
    if split is not None:
        keep = pc.and_(keep, pc.equal(data["split"], split))
    at = np.flatnonzero(keep.to_numpy())
    if not at.size:
        raise InputError(f"No labeled row is left{f' in the split {split}' if split else ''}.")
    table = data.select((*COLUMNS, *SAID, *(MASK_COLUMNS if are_masks else ()))).take(pa.array(at)).combine_chunks()
    labels = pc.index_in(table["released_label"], value_set=pa.array(classes, pa.string()), skip_nulls=True)
    indices = pc.fill_null(labels, -1).to_numpy().astype(np.int64)
    if by_image and "flags" in data.column_names:  # versions of earlier curates have no such column
        is_out = to_ignore(data["flags"].take(pa.array(at)))
        indices[is_out] = -1
        ignored = pa.concat_tables([ignored, regions(data.take(pa.array(at[is_out])))])
    starts = _starts(table, by_image=by_image or are_masks or several)
    return Rows(
        table=table,
        starts=starts,
        labels=indices,
        weights=table["weight"].to_numpy().astype(np.float32),
        boxes=_boxes(table["bbox"]) if by_image else None,
        settled=_settled(data["reason_codes"])[at],
        soft=soft if soft is None or at.size == data.num_rows else soft_at(soft, at),
        tags=_tags(table["sample_id"], starts, indices, ignored, classes) if several else None,
        ignore=_ignore(table["sample_id"], starts, ignored) if by_image else None,
        are_masks=are_masks,
    )


def _are_masks(data: pa.Table) -> bool:
    tasks = set(data["task"].to_pylist()) - {None}
    if "segmentation" not in tasks:
        return False
    if tasks != {"segmentation"}:
        raise InputError(
            f"The version holds masks beside labels of other tasks ({', '.join(sorted(tasks))}); a feed hands out one. "
            f"Publish them as datasets of their own."
        )
    return True


def _settled(reason_codes: pa.ChunkedArray) -> NDArray[np.bool_]:
    codes = reason_codes.combine_chunks()
    by_people = pc.is_in(pc.list_flatten(codes), value_set=pa.array(SETTLED)).to_numpy(zero_copy_only=False)
    settled = np.zeros(len(codes), dtype=np.bool_)
    settled[pc.list_parent_indices(codes).to_numpy()[by_people]] = True
    return settled


def with_teacher_boxes(rows: Rows, found: pa.Table, soft: SoftArrays) -> Rows:
    """Return the rows with the boxes that only detectors see in their images.

    Args:
        rows: items are images.
        found: sample_id and bbox, sorted by sample.
        soft: their soft labels.
    """
    at, starts = _of_items(found["sample_id"], rows.table["sample_id"], rows.starts)
    boxes = _boxes(found["bbox"].take(pa.array(at)))
    return replace(rows, teacher_boxes=TeacherBoxes(starts, boxes, soft_at(soft, at)))


def _ignore(samples: pa.ChunkedArray, starts: NDArray[np.int64], ignored: pa.Table) -> Ignore:
    """Return the places of each image; of a mask the box around it."""
    placed = with_boxes(ignored)
    at, own = _of_items(placed["sample_id"], samples, starts)
    return Ignore(own, _boxes(pa.chunked_array([placed["bbox"].combine_chunks().take(pa.array(at))])))


def _of_items(
    found: pa.ChunkedArray, samples: pa.ChunkedArray, starts: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return which rows of a table are about an image of the feed, item by item, and where each item's start."""
    items = samples.take(pa.array(starts[:-1])).combine_chunks()
    item = pc.fill_null(pc.index_in(found, value_set=items), -1).to_numpy().astype(np.int64)
    at = np.flatnonzero(item >= 0)
    at = at[np.argsort(item[at], kind="stable")]
    return at, np.searchsorted(item[at], np.arange(len(items) + 1)).astype(np.int64)


def _starts(table: pa.Table, *, by_image: bool) -> NDArray[np.int64]:
    if not by_image:
        return np.arange(table.num_rows + 1, dtype=np.int64)
    codes = table["sample_id"].combine_chunks().dictionary_encode().indices.to_numpy(zero_copy_only=False)
    changes = np.flatnonzero(np.diff(codes)) + 1  # data/ is sorted by sample
    return np.concatenate([[0], changes, [table.num_rows]]).astype(np.int64)


def _tags(
    samples: pa.ChunkedArray,
    starts: NDArray[np.int64],
    labels: NDArray[np.int64],
    ignored: pa.Table,
    classes: Sequence[str],
) -> NDArray[np.float32]:
    """Return (n_items, K) which classes each image has; NaN for one that nobody vouches for."""
    item = np.repeat(np.arange(starts.size - 1), np.diff(starts))
    tags = np.zeros((starts.size - 1, len(classes)), dtype=np.float32)
    first = samples.take(pa.array(starts[:-1])).combine_chunks()
    waits = pc.index_in(ignored["sample_id"], value_set=first)
    kind = pc.index_in(ignored["label"], value_set=pa.array(classes, pa.string()), skip_nulls=True)
    both = pc.and_(pc.is_valid(waits), pc.is_valid(kind))
    at = (waits.filter(both).to_numpy().astype(np.int64), kind.filter(both).to_numpy().astype(np.int64))
    tags[at] = np.nan
    named = labels >= 0
    tags[item[named], labels[named]] = 1.0
    return tags


def _boxes(column: pa.ChunkedArray) -> NDArray[np.float32]:
    boxes = np.full((len(column), 4), np.nan, dtype=np.float32)
    array = column.combine_chunks()
    valid = pc.is_valid(array).to_numpy(zero_copy_only=False)
    values = pc.list_flatten(array).to_numpy(zero_copy_only=False).reshape(-1, 4)
    boxes[valid] = np.concatenate([values[:, :2], values[:, :2] + values[:, 2:]], axis=1)
    return boxes
