"""COCO files of labels and of detections as arrays. Whole columns at once: a million boxes take seconds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate.box_units import refuse_other_units
from curate.errors import InputError
from curate.teachers.boxes.geometry import Bools, Floats, Ints
from curate.teachers.boxes.json_columns import (
    column,
    lookup,
    no_collection,
    numbers,
    positions,
    read_json,
    values,
)

RESULT_KEYS = ("image_id", "category_id", "bbox", "score")
SHOWN = 3  # ids and names that a message gives as examples
WHY = ("", "its image id is not in the file", "its category id is not in the file", "its box is not four finite numbers",
       "its box has no area", "it is a crowd region, not a box round one thing")  # fmt: skip
USABLE, NO_IMAGE, NO_CATEGORY, NO_NUMBERS, NO_AREA, CROWD = range(6)


@dataclass(frozen=True, slots=True)
class LabelFile:
    """A COCO file of labels. Images are sorted by their ids as text, classes by name.

    Attributes:
        image_ids: (I,) as given.
        names: file name -> number of the image, where it names one.
        size_px: (I, 2) width and height; NaN where not given.
        classes: names, sorted.
        class_of_id: category id -> number of the class.
        annotation_ids: (A,) as given.
        given_image_ids: (A,) image ids of the annotations, as given.
        image: (A,) number of the image, -1 = unknown.
        boxes_px: (A, 4) x, y, w, h; NaN where there are no numbers.
        label: (A,) number of the class, -1 = unknown.
        state: (A,) position in `WHY`; 0 = can be judged.
    """

    image_ids: pa.Array
    names: Mapping[str, int]
    size_px: Floats
    classes: tuple[str, ...]
    class_of_id: Mapping[Any, int]
    annotation_ids: pa.Array
    given_image_ids: pa.Array
    image: Ints
    boxes_px: Floats
    label: Ints
    state: Ints


@dataclass(frozen=True, slots=True)
class FoundFile:
    """Usable detections of one file, and what was left out and why."""

    image: Ints
    boxes_px: Floats
    label: Ints
    score: Floats
    notes: tuple[str, ...]


@no_collection()
def read_labels(path: Path) -> LabelFile:
    """Read a COCO file with images, annotations and categories.

    Raises:
        InputError: no such file, no COCO, ids that are missing or stand twice, no image, boxes in other units.
    """
    what = "The labels"
    content = read_json(path, what)
    images, annotations, categories = (_rows(content, key, path) for key in ("images", "annotations", "categories"))
    if not images:
        raise InputError(f"{what} in {path.name} name no image; nothing can be judged.")
    ids = _ids(values(images, "id"), f"{path.name}: images")
    order = pc.sort_indices(ids.cast(pa.string())).to_numpy()
    ids = ids.take(pa.array(order))
    sizes = numbers([(one.get("width"), one.get("height")) for one in images], 2)[order]
    sizes[~(sizes > 0).all(axis=1)] = np.nan
    files = [images[place].get("file_name") for place in order.tolist()]
    classes, class_of_id = _categories(categories, path)
    boxes = numbers(values(annotations, "bbox"), 4)
    image_ids = column(values(annotations, "image_id"))
    image = positions(image_ids, ids)
    label = lookup(values(annotations, "category_id"), class_of_id)
    crowd = np.fromiter(map(bool, values(annotations, "iscrowd")), dtype=bool, count=len(annotations))
    state = _state(image, label, boxes, crowd)
    _refuse_most_unusable(state, path)
    usable = state == USABLE
    refuse_other_units(boxes[usable], sizes[image[usable]], f"{what}: {path.name}")
    return LabelFile(
        image_ids=ids,
        names={name: number for number, name in enumerate(files) if name},
        size_px=sizes,
        classes=classes,
        class_of_id=class_of_id,
        annotation_ids=_ids(values(annotations, "id"), f"{path.name}: annotations"),
        given_image_ids=image_ids,
        image=image,
        boxes_px=boxes,
        label=label,
        state=state,
    )


@no_collection()
def read_detections(
    path: Path,
    name: str,
    labels: LabelFile,
    *,
    content: Any = None,  # noqa: ANN401 - any JSON value
) -> FoundFile:
    """Read a COCO results list, or a COCO file whose annotations have scores, onto the images and classes of labels.

    Ids may be the labels' own, or file names and class names. `content` is the file's, where it was read before.

    A file that names its categories is mapped by name, one that names its images by file name (where it has them);
    else ids are those of the labels.

    Raises:
        InputError: no such file, no detections format, scores that are not in [0, 1], boxes in other units, or
            most boxes of images or classes that the labels do not have.
    """
    what = f"The teacher {name}"
    content = read_json(path, what) if content is None else content
    rows = content if isinstance(content, list) else _rows(content, "annotations", path)
    if not set(map(type, rows)) <= {dict}:
        raise InputError(f"{what}: {path.name} is no COCO results list: an entry is not an object.")
    n = len(rows)
    _refuse_other_keys(rows, f"{what}: {path.name}")
    image_ids = values(rows, "image_id")
    category_ids = values(rows, "category_id")
    image, label = _onto(content, image_ids, category_ids, labels, path)
    scores = _scores(rows, what, path)
    boxes = numbers(values(rows, "bbox"), 4)
    fine = np.asarray(np.isfinite(boxes).all(axis=1) & (np.nan_to_num(boxes[:, 2:]) > 0).all(axis=1), dtype=bool)
    notes = [
        *_left_out(image < 0, image_ids, n, f"{what}: image ids that the labels do not have"),
        *_left_out((label < 0) & (image >= 0), category_ids, n, f"{what}: classes that the labels do not have"),
    ]
    if 2 * (~fine).sum() > n:
        raise InputError(
            f"{what}: {(~fine).sum():,} of {n:,} boxes in {path.name} are not [x, y, width, height] with an area: "
            f"{', '.join(repr(rows[at].get('bbox')) for at in np.flatnonzero(~fine)[:SHOWN].tolist())}. Correct them."
        )
    if not fine.all():
        notes.append(f"{(~fine).sum():,} boxes without area or with coordinates that are no numbers are left out")
    good = np.flatnonzero((image >= 0) & (label >= 0) & fine)
    refuse_other_units(boxes[good], labels.size_px[image[good]], f"{what}: {path.name}", are_found=True)
    return FoundFile(image[good], boxes[good], label[good], scores[good], tuple(notes))


def _scores(rows: Sequence[Mapping[str, Any]], what: str, path: Path) -> Floats:
    """Return the score of each entry; raises InputError where one is not in [0, 1]."""
    scores = numbers([(score,) for score in values(rows, "score")], 1)[:, 0]
    wrong = np.flatnonzero(~((scores >= 0) & (scores <= 1)))
    if len(wrong):
        given = ", ".join(repr(rows[place].get("score")) for place in wrong[:SHOWN].tolist())
        raise InputError(
            f"{what}: {len(wrong):,} of {len(rows):,} boxes in {path.name} have no score from 0 to 1: "
            f"{given} (entries {', '.join(map(str, wrong[:SHOWN].tolist()))}). Correct them."
        )
    return scores


def _refuse_other_keys(rows: Sequence[Mapping[str, Any]], what: str) -> None:
    """Raise an InputError that names a key which most entries of a results list lack, and the keys they have."""
    for key in RESULT_KEYS:
        n_without = values(rows, key).count(None)
        if 2 * n_without > len(rows):
            given = sorted({str(name) for row in rows[:SHOWN] for name in row})
            raise InputError(
                f"{what}: {n_without:,} of {len(rows):,} entries have no {key!r}. A COCO results list has "
                f"{', '.join(RESULT_KEYS)} in each; given: {', '.join(given) or 'nothing'}. Rename them."
            )


def _refuse_most_unusable(state: Ints, path: Path) -> None:
    """Raise an InputError where most annotations have one and the same fault; crowd regions are as they should be."""
    n_each = np.bincount(state, minlength=len(WHY))
    n_each[[USABLE, CROWD]] = 0
    worst = int(n_each.argmax())
    if 2 * n_each[worst] > len(state):
        raise InputError(
            f"The labels in {path.name}: {n_each[worst]:,} of {len(state):,} annotations cannot be judged, each because "
            f"{WHY[worst]}. An annotation needs image_id, category_id and bbox (x, y, width, height)."
        )


def _onto(
    content: Any,  # noqa: ANN401 - any JSON value
    image_ids: Sequence[Any],
    category_ids: Sequence[Any],
    labels: LabelFile,
    path: Path,
) -> tuple[Ints, Ints]:
    """Return the numbers of image and class that the labels have for each row; -1 = none."""
    class_of_id: Mapping[Any, int] = labels.class_of_id
    image = positions(column(image_ids), labels.image_ids)
    if (image < 0).any() and labels.names:
        image = np.where(image < 0, lookup(image_ids, labels.names), image)
    if isinstance(content, dict) and content.get("categories"):
        number = {name: place for place, name in enumerate(labels.classes)}
        names = {one.get("id"): str(one.get("name")) for one in _rows(content, "categories", path)}
        class_of_id = {key: number[name] for key, name in names.items() if name in number}
    if isinstance(content, dict) and content.get("images"):
        files = {one.get("id"): one.get("file_name") for one in _rows(content, "images", path)}
        if labels.names and any(name in labels.names for name in files.values() if name):
            of_id = {key: labels.names.get(name, -1) for key, name in files.items() if name}
            image = lookup(image_ids, of_id)
    label = lookup(category_ids, class_of_id)
    if (label < 0).any():
        label = np.where(
            label < 0,
            lookup(category_ids, dict(zip(labels.classes, range(len(labels.classes)), strict=True))),
            label,
        )
    return image, label


def _left_out(out: Bools, values: Sequence[Any], n: int, what: str) -> list[str]:
    """Say what is left out; most of a file being left out is an error."""
    n_out = int(out.sum())
    if not n_out:
        return []
    examples = sorted({repr(values[place]) for place in np.flatnonzero(out)[:10_000].tolist()})[:SHOWN]
    told = f"{what}: {', '.join(examples)}"
    if 2 * n_out > n:
        raise InputError(f"{told} ({n_out:,} of {n:,} boxes). Are these detections for these labels?")
    return [f"{n_out:,} boxes are left out: {told.partition(': ')[2]}"]


def _rows(content: Any, key: str, path: Path) -> list[dict[str, Any]]:  # noqa: ANN401 - any JSON value
    rows = content.get(key) if isinstance(content, dict) else None
    if not isinstance(rows, list) or not set(map(type, rows)) <= {dict}:
        raise InputError(f"{path.name} is no COCO file: a list of objects called {key!r} is needed in it.")
    return rows


def _categories(rows: Sequence[Mapping[str, Any]], path: Path) -> tuple[tuple[str, ...], dict[Any, int]]:
    ids = _ids([one.get("id") for one in rows], f"{path.name}: categories").to_pylist()
    names = [one.get("name") for one in rows]
    if not rows or not all(isinstance(name, str) and name for name in names):
        raise InputError(f"{path.name}: every category needs a name; given: {names[:SHOWN]}.")
    classes = tuple(sorted(set(map(str, names))))
    number = {name: place for place, name in enumerate(classes)}
    return classes, {key: number[str(name)] for key, name in zip(ids, names, strict=True)}


def _ids(values: Sequence[Any], what: str) -> pa.Array:
    """Return ids as an array; all of them integers, or else all of them text.

    Raises:
        InputError: an id is missing or stands twice.
    """
    if None in values:
        missing = [place for place, value in enumerate(values) if value is None]
        raise InputError(f"{what}: entry {missing[0]} has no id ({len(missing):,} in all); each needs one.")
    ids = column(values)
    if pc.count_distinct(ids).as_py() != len(ids):
        counts = ids.value_counts()
        twice = counts.field("values").filter(pc.greater(counts.field("counts"), 1)).to_pylist()
        raise InputError(f"{what}: each id stands once; more than once: {', '.join(map(repr, twice[:SHOWN]))}.")
    return ids


def _state(image: Ints, label: Ints, boxes: Floats, crowd: Bools) -> Ints:
    """Return for each annotation why it cannot be judged; the first reason counts."""
    finite = np.isfinite(boxes).all(axis=1)
    area = (np.nan_to_num(boxes[:, 2:]) > 0).all(axis=1)
    state = np.where(crowd, CROWD, USABLE)
    state = np.where(area, state, NO_AREA)
    state = np.where(finite, state, NO_NUMBERS)
    state = np.where(label >= 0, state, NO_CATEGORY)
    return np.asarray(np.where(image >= 0, state, NO_IMAGE), dtype=np.int64)
