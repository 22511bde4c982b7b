"""The boxes view as arrays: given boxes, crowd regions and every detector's boxes, images by the order of their ids."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate import schema
from curate.teachers.boxes import arrange
from curate.teachers.boxes.fuse import Detections, Given
from curate.teachers.boxes.geometry import Floats, Ints
from curate.teachers.boxes.judge import Regions
from curate.teachers.sampling import order_keys


@dataclass(frozen=True, slots=True)
class BoxesRead:
    """The boxes of some images, images numbered by the order of their ids."""

    sample_ids: list[str]
    given: Given
    label_ids: list[str]
    found: Detections
    crowds: Regions
    keys: np.ndarray[Any, np.dtype[np.uint64]]

    def in_parts(self, n_classes: int) -> Iterator[BoxesRead]:
        """Yield runs of images, each with so many boxes as `n_classes` let into memory at once."""
        for start, stop in arrange.runs_of_images(self.given, self.found, len(self.keys), n_classes):
            rows = arrange.rows_of(self.given.image, start, stop)
            regions = arrange.rows_of(self.crowds.image, start, stop)
            given, found = arrange.of_run(self.given, self.found, start, stop)
            yield BoxesRead(
                sample_ids=self.sample_ids[start:stop],
                given=given,
                label_ids=self.label_ids[rows],
                found=found,
                crowds=Regions(self.crowds.image[regions] - start, self.crowds.boxes[regions]),
                keys=self.keys[start:stop],
            )


def labels_in(table: pa.Table, names: Sequence[str]) -> set[str]:
    """Return the classes that given boxes or those of the teachers have."""
    columns = ["given_boxes", *(schema.BOXES_PREFIX + name for name in names)]
    return {one for column in columns for one in pc.unique(_flat(table[column])[0]["label"]).to_pylist() if one}


def _flat(column: pa.ChunkedArray) -> tuple[dict[str, pa.Array], Ints]:
    """Return the fields of all boxes, and the row that each belongs to."""
    whole = column.combine_chunks()
    parent = pc.list_parent_indices(whole).to_numpy(zero_copy_only=False).astype(np.int64)
    structs = pc.list_flatten(whole)
    names = [field.name for field in structs.type]
    return {name: pc.struct_field(structs, name) for name in names}, parent


def _boxes(column: pa.Array) -> Floats:
    flat = pc.fill_null(column, [np.nan] * 4) if column.null_count else column
    return np.asarray(pc.list_flatten(flat).to_numpy(zero_copy_only=False), dtype=np.float64).reshape(-1, 4)


def read_boxes(table: pa.Table, names: Sequence[str], classes: Sequence[str]) -> BoxesRead:
    """Return what the boxes view holds as arrays, images by the order of their ids.

    Args:
        table: `views.boxes_view`.
        names: of the teachers, in the order of their numbers.
        classes: names by number; boxes of another class are left out.
    """
    table = table.sort_by("sample_id")
    ids = table["sample_id"].to_pylist()
    keys = order_keys(ids, len(ids))
    fields, image = _flat(table["given_boxes"])
    boxes, label = _boxes(fields["bbox"]), _numbers(fields["label"], classes)
    usable = _usable(boxes, label)
    crowd = pc.fill_null(fields["is_crowd"], False).to_numpy(zero_copy_only=False)  # noqa: FBT003 - pyarrow's fill value
    own = np.flatnonzero(usable & ~crowd)
    label_ids = fields["label_id"].take(pa.array(own)).to_pylist()
    placed = arrange.arrange_given(
        image[own], boxes[own], label[own], keys, classes, order_keys(label_ids, len(label_ids))
    )
    regions = np.flatnonzero(usable & crowd)
    parts = [_found(table, name, number, classes) for number, name in enumerate(names)]
    columns = [np.concatenate(part) for part in zip(*parts, strict=True)]
    return BoxesRead(
        sample_ids=ids,
        given=placed.given,
        label_ids=[label_ids[row] for row in placed.row.tolist()],
        found=arrange.arrange_found(*columns),
        crowds=Regions(image[regions], boxes[regions]),
        keys=keys,
    )


def _found(table: pa.Table, name: str, number: int, classes: Sequence[str]) -> tuple[Any, ...]:
    """Return image, boxes, label, score and teacher of the usable boxes of a teacher."""
    fields, image = _flat(table[schema.BOXES_PREFIX + name])
    boxes, label = _boxes(fields["bbox"]), _numbers(fields["label"], classes)
    score = np.asarray(pc.cast(fields["score"], pa.float64()).to_numpy(zero_copy_only=False), dtype=np.float64)
    good = np.flatnonzero(_usable(boxes, label) & (score >= 0) & (score <= 1))
    return image[good], boxes[good], label[good], score[good], np.full(len(good), number)


def _numbers(column: pa.Array, classes: Sequence[str]) -> Ints:
    at = pc.index_in(column, value_set=pa.array(classes, pa.string()))
    return np.asarray(pc.fill_null(at, -1).to_numpy(zero_copy_only=False), dtype=np.int64)


def _usable(boxes: Floats, label: Ints) -> np.ndarray[Any, np.dtype[np.bool_]]:
    area = (np.nan_to_num(boxes[:, 2:]) > 0).all(axis=1)
    return np.asarray(np.isfinite(boxes).all(axis=1) & area & (label >= 0), dtype=bool)
