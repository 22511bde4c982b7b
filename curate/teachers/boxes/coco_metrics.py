"""How good detectors are on the given labels: mAP by the rules of COCO, and the mean IoU of the hits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate import schema
from curate.teachers.boxes.coco_match import (
    AREAS_PX2,
    IOUS,
    Found,
    Hits,
    Truth,
    found_of,
    hits_of,
    pairs_of,
    truth_of,
)
from curate.teachers.boxes.geometry import Bools, Floats, Ints

SIZES = ("small", "medium", "large")  # of COCO: sides of 32 and 96 px
RECALLS = np.linspace(0.0, 1.0, 101)  # where precision is read
MAX_GROUPS = 20  # values of one attribute or group that are scored apart

Rows = list[dict[str, Any]]


def score_detectors(view: pa.Table, teachers: Sequence[str], classes: Sequence[str]) -> Rows:
    """Return rows of statistics: `map` (IoU .5 to .95), `map50` and `mean_iou`, each by what it is about.

    Over all, by class, by size (px, as COCO has it) and by declared attribute and group. What the labels hold nothing
    of has no value and "insufficient data". Given labels count as the truth, wrong ones too. Every image is scored.

    Args:
        view: the boxes view.
        teachers: names.
        classes: of the dataset.
    """
    size = np.stack([view[name].cast(pa.float64()).to_numpy() for name in ("width_px", "height_px")], axis=1)
    truth = _given(view, classes, size)
    groups = _groups(view)
    rows: Rows = []
    for name in teachers:
        found = _found(view[schema.BOXES_PREFIX + name], classes, size)
        rows += _scores(truth, found, f"teacher={name}", classes, groups)
    return rows


def _groups(view: pa.Table) -> Mapping[str, Bools]:
    """Return (I,) which images belong to each value of an attribute or group."""
    prefixes = (schema.ATTRIBUTE_PREFIX, schema.GROUP_PREFIX)
    found: dict[str, Bools] = {}
    for column in [name for name in view.column_names if name.startswith(prefixes)]:
        values = sorted(v for v in pc.unique(view[column]).to_pylist() if v is not None)
        if len(values) <= MAX_GROUPS:
            for value in values:
                at = pc.fill_null(pc.equal(view[column], value), False)  # noqa: FBT003 - pyarrow's fill value
                found[f"{column}={value}"] = at.to_numpy()
    return found


def _columns(column: pa.ChunkedArray, classes: Sequence[str]) -> tuple[pa.StructArray, Ints, Ints, Floats]:
    """Return the boxes of known classes, the image and class of each, and where it is, relative."""
    whole = column.combine_chunks()
    image = pc.list_parent_indices(whole).to_numpy(zero_copy_only=False).astype(np.int64)
    boxes = pc.list_flatten(whole)
    known = pa.array(classes, pa.string())
    label = pc.fill_null(pc.index_in(pc.struct_field(boxes, "label"), value_set=known, skip_nulls=True), -1)
    label = label.to_numpy(zero_copy_only=False).astype(np.int64)
    rows = np.flatnonzero(label >= 0)
    boxes = boxes.take(pa.array(rows))
    place = pc.list_flatten(pc.struct_field(boxes, "bbox")).to_numpy(zero_copy_only=False)
    return boxes, image[rows], label[rows], np.asarray(place, dtype=np.float64).reshape(-1, 4)


def _given(view: pa.Table, classes: Sequence[str], size: Floats) -> Truth:
    boxes, image, label, place = _columns(view["given_boxes"], classes)
    crowd = pc.fill_null(pc.struct_field(boxes, "is_crowd"), False)  # noqa: FBT003 - as above
    is_crowd = crowd.to_numpy(zero_copy_only=False).astype(bool)
    return truth_of(image, label, place * np.tile(size[image], 2), is_crowd, len(classes))


def _found(column: pa.ChunkedArray, classes: Sequence[str], size: Floats) -> Found:
    boxes, image, label, place = _columns(column, classes)
    score = pc.struct_field(boxes, "score").to_numpy(zero_copy_only=False).astype(np.float64)
    return found_of(image, label, place * np.tile(size[image], 2), score, len(classes))


def _scores(truth: Truth, found: Found, about: str, classes: Sequence[str], groups: Mapping[str, Bools]) -> Rows:
    """Return the rows of a teacher: over all, by class, by size, then by group."""
    pairs = pairs_of(truth, found)
    order = np.lexsort((-found.score, found.label))  # of equals by image, then by place: sorting is stable
    hits = hits_of(truth, found, pairs, AREAS_PX2[0])
    everywhere = _Part(truth, found, order, np.ones(len(truth.image), dtype=bool), np.ones(len(order), dtype=bool))
    rows, by_class = everywhere.rows(hits, about)
    if by_class.size:
        n = len(truth.image)
        of_class = np.bincount(truth.label, minlength=len(classes))
        present = everywhere.classes
        for at, number in enumerate(present):
            group = f"{about},class={classes[number]}"
            rows.append(_row("map", group, by_class[:, :, at], int(of_class[number])))
        for size, area in zip(SIZES, AREAS_PX2[1:], strict=True):
            precision = everywhere.precision(hits_of(truth, found, pairs, area))
            rows.append(_row("map", f"{about},size={size}", precision, n))
    for group, inside in groups.items():
        part = _Part(truth, found, order, inside[truth.image], inside[found.image])
        rows += part.rows(hits, f"{about},{group}")[0]
    return rows


@dataclass(frozen=True, slots=True)
class _Part:
    """Boxes of some images: the given ones, and the detections with their `order` by class and falling score."""

    truth: Truth
    found: Found
    order: Ints
    truth_inside: Bools
    found_inside: Bools

    @property
    def classes(self) -> list[int]:
        """Return the classes that the labels have here; others are not scored."""
        found: list[int] = np.unique(self.truth.label[self.truth_inside]).tolist()
        return found

    def rows(self, hits: Hits, about: str) -> tuple[Rows, Floats]:
        """Return the three rows, and the precision that the first two are from; empty without boxes of both."""
        n = int(self.truth_inside.sum())
        if not n or not self.found_inside.any():
            empty = {"value": None, "n": n, "outcome": "insufficient data"}
            told = [{"name": name, "group": about, **empty} for name in ("map", "map50", "mean_iou")]
            return told, np.zeros(0)
        precision = self.precision(hits)
        ious = hits.iou[hits.is_hit[0] & ~hits.is_ignored[0] & self.found_inside]
        told = [
            _row("map", about, precision, n),
            _row("map50", about, precision[0], n),
            _row("mean_iou", about, ious, n),
        ]
        return told, precision

    def precision(self, hits: Hits) -> Floats:
        """Return (10, 101, K) precision by IoU, recall and class; -1 where the labels hold nothing that counts."""
        order = self.order[self.found_inside[self.order]]
        label = self.found.label[order]
        wanted = self.truth.label[self.truth_inside & ~hits.truth_ignored]
        whole = np.full((len(IOUS), len(RECALLS), len(self.classes)), -1.0)
        for place, number in enumerate(self.classes):
            first, last = np.searchsorted(label, [number, number + 1])
            n_wanted = int((wanted == number).sum())
            if n_wanted:
                own = order[first:last]
                whole[:, :, place] = list(_curves(hits.is_hit[:, own], hits.is_ignored[:, own], n_wanted))
        return whole


def _curves(is_hit: Bools, is_ignored: Bools, n_wanted: int) -> Iterator[Floats]:
    """Yield (101,) the precision at each recall, made monotone, for each IoU; 0 beyond what is found."""
    for hit, ignored in zip(is_hit, is_ignored, strict=True):
        right, wrong = (np.cumsum(one & ~ignored).astype(np.float64) for one in (hit, ~hit))
        if not len(right):
            yield np.zeros(len(RECALLS))
            continue
        precision = right / (wrong + right + np.spacing(1))
        best = np.maximum.accumulate(precision[::-1])[::-1]
        at = np.searchsorted(right / n_wanted, RECALLS, side="left")
        yield np.where(at < len(best), best[np.minimum(at, len(best) - 1)], 0.0)


def _row(name: str, group: str, values: Floats, n: int) -> dict[str, Any]:
    known = values[values > -1]
    value = float(known.mean()) if known.size else None
    return {
        "name": name,
        "group": group,
        "value": value,
        "n": n,
        "outcome": None if known.size else "insufficient data",
    }
