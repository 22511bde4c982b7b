"""What the detectors of a run see together in each image: places with their classes' probabilities. For soft labels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from curate import schema
from curate.teachers.boxes import arrange
from curate.teachers.boxes.fuse import Detections, Given, fuse
from curate.teachers.boxes.geometry import corners, from_corners
from curate.teachers.boxes.teachers import judge_teachers, kept_of, prepared
from curate.teachers.one_thread import in_one_thread
from curate.teachers.sampling import order_keys

LEAST_OBJECTNESS = 1e-3  # float16 holds no less with a digit to spare, and no student learns from it


def pooled_schema(n_classes: int) -> pa.Schema:
    """Return the schema of `pool_boxes`."""
    return pa.schema(
        [
            pa.field("sample_id", pa.string(), nullable=False),
            pa.field("bbox", schema.BBOX, nullable=False),
            pa.field("objectness", pa.float32(), nullable=False),
            pa.field("probs", pa.list_(pa.float32(), n_classes), nullable=False),
        ]
    )


@in_one_thread
def pool_boxes(
    sample_ids: Sequence[str], given: Given, found: Detections, names: Sequence[str], n_classes: int
) -> pa.Table:
    """Return the places where detectors see something, sorted by sample and falling objectness.

    Scores become chances by each teacher's calibration on the given boxes (a logistic curve, fitted on images that the
    hash of their id chooses); a teacher that repeats the given labels has no say. `objectness` is the mean over the
    teachers, absent ones counted as 0; `probs` their mean class masses, which sum to 1. No place keeps the name of a
    teacher, and none of it depends on the order of rows or teachers.

    Args:
        sample_ids: (I,) ascending.
        given: boxes of these images, which teachers are calibrated by.
        found: boxes of all teachers (`prob` is not read).
        names: of the teachers, by number.
        n_classes: K.
    """
    keys = order_keys(sample_ids, len(sample_ids))
    chosen = arrange.fit_images(np.bincount(given.image, minlength=len(keys)), keys)
    teachers = judge_teachers(names, *arrange.of_images(given, found, chosen))
    tables = [pooled_schema(n_classes).empty_table()]
    for start, stop in arrange.runs_of_images(given, found, len(keys), n_classes):
        own = prepared(arrange.of_run(given, found, start, stop)[1], teachers)
        tables.append(_places(sample_ids[start:stop], own, len(kept_of(teachers)), n_classes))
    return pa.concat_tables(tables).combine_chunks()


def _places(sample_ids: Sequence[str], found: Detections, n_teachers: int, n_classes: int) -> pa.Table:
    """Return the places of some images."""
    seen = fuse(found, max(n_teachers, 1), n_classes)
    order = np.lexsort((*seen.boxes.T, -seen.objectness, seen.image))
    order = order[seen.objectness[order] >= LEAST_OBJECTNESS]
    mass = seen.mass[order]
    probs = (mass / mass.sum(axis=1, keepdims=True)).astype(np.float32)
    boxes = from_corners(np.clip(corners(seen.boxes[order]), 0.0, 1.0))
    ids = pa.array(sample_ids, pa.string()).take(pa.array(seen.image[order]))
    columns = [
        ids,
        pa.FixedSizeListArray.from_arrays(pa.array(boxes.reshape(-1)), type=schema.BBOX),
        pa.array(seen.objectness[order].astype(np.float32)),
        pa.FixedSizeListArray.from_arrays(pa.array(probs.reshape(-1)), n_classes),
    ]
    return pa.table(columns, schema=pooled_schema(n_classes))
