"""Soft labels of boxes: the place that detectors see at each released box, and the places where only they see a thing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from curate import schema
from curate.manifest.soft import MADE_FOR, image_keys, sharpened
from curate.manifest.soft_layout import Layout, encode, sampling_offsets
from curate.teachers.boxes.fuse import SAME_IOU
from curate.teachers.boxes.geometry import overlaps
from curate.teachers.boxes.match import OTHER_CLASS, assign

TOGETHER = "detectors_together"  # the pool of all detectors, as one teacher among those that judge given labels
OBJECTNESS = pa.field(
    "objectness", pa.float16()
)  # chance of a thing there; null: no detector said a word on the image
_BOXED = ("detection", "tracking")


@dataclass(frozen=True, slots=True)
class Beside:
    """Which place of the detectors lies at which released row.

    Attributes:
        place: (N,) row of the places; -1 = the detectors see nothing there, or have not looked.
        looked: (N,) rows with a box, in an image where any detector has a box.
        alone: (P,) places in released images that lie at no released box.
    """

    place: NDArray[np.int64]
    looked: NDArray[np.bool_]
    alone: NDArray[np.bool_]


def places_beside(data: pa.Table, places: pa.Table, classes: Sequence[str]) -> Beside:
    """Match released boxes and places one to one, from `SAME_IOU` on, so that their agreement is the largest.

    Args:
        data: `tables.DATA`.
        places: `teachers.boxes.pooled.pooled_schema`, sorted by sample.
        classes: of the release, in the order of the places' probabilities.
    """
    names = pc.unique(places["sample_id"])
    image = pc.index_in(places["sample_id"], value_set=names).to_numpy().astype(np.int64)
    own = pc.fill_null(pc.index_in(data["sample_id"], value_set=names), -1).to_numpy().astype(np.int64)
    boxed = pc.and_(pc.is_in(data["task"], value_set=pa.array(_BOXED)), pc.is_valid(data["bbox"]))
    looked = np.asarray(boxed.to_numpy() & (own >= 0), dtype=np.bool_)
    at = np.flatnonzero(looked)
    given, seen = _numbers(data["bbox"].take(pa.array(at))), _numbers(places["bbox"])
    a, b, iou = overlaps(own[at], given, image, seen, min_iou=SAME_IOU)
    label = pc.index_in(data["released_label"].take(pa.array(at)), value_set=pa.array(classes, pa.string()))
    probs = _matrix(places["probs"])
    agrees = np.where(probs.argmax(axis=1)[b] == pc.fill_null(label, -1).to_numpy()[a], 1.0, OTHER_CLASS)
    edge = assign(len(at), places.num_rows, a, b, places["objectness"].to_numpy()[b] * iou * agrees)
    place = np.full(data.num_rows, -1, dtype=np.int64)
    place[at[edge >= 0]] = b[edge[edge >= 0]]
    alone = np.isin(image, own)
    alone[b] = False
    return Beside(place, looked, alone)


def with_detectors(predictions: pa.Table | None, data: pa.Table, places: pa.Table, beside: Beside) -> pa.Table:
    """Return the predictions with the detectors' pool as one more teacher; null where it sees nothing at a box."""
    at = np.flatnonzero(beside.looked)
    place = beside.place[at]
    n_classes = places["probs"].type.list_size
    values = pc.cast(pc.list_flatten(places["probs"]), pa.float16()).combine_chunks()
    halves = pa.FixedSizeListArray.from_arrays(values, n_classes)
    own = pa.table(
        {
            "label_id": data["label_id"].take(pa.array(at)),
            "content_sha256": data["content_sha256"].take(pa.array(at)),
            schema.PROB_PREFIX + TOGETHER: halves.take(pa.array(place, mask=place < 0)),
        }
    )
    if predictions is None:
        return own
    ids = pc.unique(pa.chunked_array([*predictions["label_id"].chunks, *own["label_id"].chunks], pa.string()))
    merged: dict[str, pa.ChunkedArray | pa.Array] = {"label_id": ids}
    for table in (own, predictions):
        rows = pc.index_in(ids, value_set=table["label_id"].combine_chunks())
        for name in table.column_names:
            if name == "label_id":
                continue
            taken = table[name].take(rows)
            merged[name] = pc.coalesce(taken, merged[name]) if name in merged else taken
    return pa.table(merged).replace_schema_metadata(predictions.schema.metadata)


def objectness(places: pa.Table, beside: Beside) -> pa.Array:
    """Return `OBJECTNESS` of each released row: 0 where detectors looked at its image and see nothing at the box."""
    chance = places["objectness"].to_numpy()
    values = np.where(beside.place >= 0, chance[beside.place] if chance.size else 0.0, 0.0)
    return pa.array(values.astype(np.float16), mask=~beside.looked)


def teacher_only_schema(layout: Layout) -> pa.Schema:
    """Return the schema of `teacher_only`."""
    box = pa.field("bbox", schema.BBOX, nullable=False)
    return pa.schema(
        [pa.field("sample_id", pa.string(), nullable=False), MADE_FOR, box, OBJECTNESS, *layout.fields()]
    )


def teacher_only(
    data: pa.Table,
    places: pa.Table,
    beside: Beside,
    *,
    layout: Layout,
    temperature: float,
    least: float,
    seed: int,
) -> pa.Table:
    """Return the places that lie at no released box, in the order of `data` and by falling objectness.

    Args:
        data: `tables.DATA`.
        places: as for `places_beside`.
        beside: of both.
        layout: what is stored of the class probabilities.
        temperature: that they are brought to.
        least: objectness from which a place is kept.
        seed: of the draws of `sampled`.
    """
    at = np.flatnonzero(beside.alone & (places["objectness"].to_numpy() >= np.float32(least)))
    kept = places.take(pa.array(at))
    probs = sharpened(_matrix(kept["probs"]), temperature)
    boxes = _numbers(kept["bbox"])
    keys = [
        f"{sample} {' '.join(f'{v:.9f}' for v in box)}"
        for sample, box in zip(kept["sample_id"].to_pylist(), boxes.tolist(), strict=True)
    ]
    offsets = sampling_offsets(keys, seed) if layout.name == "sampled" else np.zeros(len(at))
    first = pc.index_in(kept["sample_id"], value_set=data["sample_id"].combine_chunks())
    columns = [
        kept["sample_id"],
        image_keys(data["content_sha256"].take(first)),
        kept["bbox"],
        pa.array(kept["objectness"].to_numpy().astype(np.float16)),
        *encode(probs, np.zeros(len(at), dtype=np.bool_), layout, offsets),
    ]
    return pa.table(columns, schema=teacher_only_schema(layout)).combine_chunks()


def _numbers(boxes: pa.ChunkedArray) -> NDArray[np.float64]:
    return np.asarray(pc.list_flatten(boxes).to_numpy(), dtype=np.float64).reshape(-1, 4)


def _matrix(probs: pa.ChunkedArray) -> NDArray[np.float32]:
    n_classes = probs.type.list_size
    return np.asarray(pc.list_flatten(probs).to_numpy(), dtype=np.float32).reshape(-1, n_classes)
