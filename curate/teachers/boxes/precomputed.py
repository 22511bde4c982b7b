"""The teacher kind `coco`: boxes that a detector found before, brought onto the images of the dataset."""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from curate import schema
from curate.errors import CurateError, InputError
from curate.runs import digest_file
from curate.spec import CocoTeacherSpec
from curate.teachers.boxes.coco import LabelFile, read_detections, read_json
from curate.teachers.boxes.geometry import Floats, Ints
from curate.teachers.protocol import TeacherCard, TeacherError

AMBIGUOUS = -1


@dataclass(frozen=True)
class FoundBoxes:
    """Boxes of all detectors: `schema.DETECTIONS`, their cards, and those that failed."""

    table: pa.Table
    cards: tuple[TeacherCard, ...]
    errors: tuple[TeacherError, ...]


def find_boxes(
    specs: Sequence[CocoTeacherSpec],
    samples: pa.Table,
    classes: Sequence[str],
    resolve: Callable[[str], Path],
) -> FoundBoxes:
    """Read the boxes of every detector; one that fails is an error entry, and the others go on.

    Args:
        specs: teachers of the kind `coco`.
        samples: the samples view, decodable rows.
        classes: of the dataset.
        resolve: a path of the spec -> an absolute one.
    """
    tables, cards, errors = [schema.empty(schema.DETECTIONS)], [], []
    for spec in specs:
        try:
            table, card = _answer(spec, samples, classes, resolve)
        except CurateError as error:
            errors.append(TeacherError(spec.name, str(error)))
            continue
        tables.append(table)
        cards.append(card)
    return FoundBoxes(pa.concat_tables(tables), tuple(cards), tuple(errors))


def _answer(
    spec: CocoTeacherSpec, samples: pa.Table, classes: Sequence[str], resolve: Callable[[str], Path]
) -> tuple[pa.Table, TeacherCard]:
    path = resolve(spec.path)
    known = _known(spec, path, samples, classes, resolve)
    found = read_detections(path, spec.name, known)
    size = np.tile(known.size_px[found.image], 2)
    flat = pa.array((found.boxes_px / size).reshape(-1))
    table = pa.table(
        {
            "sample_id": samples["sample_id"].combine_chunks().take(pa.array(found.image)),
            "teacher": pa.repeat(spec.name, len(found.image)),
            "label": pa.array(classes, pa.string()).take(pa.array(found.label)),
            "bbox": pa.FixedSizeListArray.from_arrays(flat, type=schema.BBOX),
            "score": found.score,
        },
        schema=schema.DETECTIONS,
    )
    card = TeacherCard(
        name=spec.name,
        kind=spec.kind,
        trained_on=spec.trained_on,
        features=None,
        out_of_fold=False,
        calibration=None,
        digest=digest_file(path),
        n_predicted=len(np.unique(found.image)),
        warnings=found.notes,
    )
    return table, card


def _known(
    spec: CocoTeacherSpec, path: Path, samples: pa.Table, classes: Sequence[str], resolve: Callable[[str], Path]
) -> LabelFile:
    """Return images and classes of the dataset as the file knows them: by file name and class name."""
    listed = spec.images is not None
    file = resolve(spec.images) if spec.images is not None else path
    content = read_json(file, f"The teacher {spec.name}")
    if not isinstance(content, dict) or not content.get("images") or not content.get("categories"):
        raise InputError(
            f"The teacher {spec.name}: {file.name} does not say which file and which class its ids mean. Name a COCO "
            f"file with images and categories as `images` (the one that the detector was run on)."
        )
    place = _by_name(samples["uri"].to_pylist())
    number = {name: at for at, name in enumerate(classes)}
    size = _sizes(samples)
    if not listed:  # the file maps itself: by file name and class name
        return _label_file(samples["sample_id"].combine_chunks(), place, size, classes, {})
    of_image: dict[Any, int] = {}
    for one in content["images"]:
        name = one.get("file_name")
        at = place.get(name, place.get(posixpath.basename(name), AMBIGUOUS)) if isinstance(name, str) else AMBIGUOUS
        if at >= 0:
            of_image[one.get("id")] = at
    of_class = {one.get("id"): number[one["name"]] for one in content["categories"] if one.get("name") in number}
    ids = np.full(samples.num_rows, None, dtype=object)
    for key, at in of_image.items():
        ids[at] = str(key)
    return _label_file(pa.array(ids, pa.string()), place, size, classes, of_class)


def _label_file(
    ids: pa.Array, place: Mapping[str, int], size: Floats, classes: Sequence[str], of_class: Mapping[Any, int]
) -> LabelFile:
    none: Ints = np.zeros(0, dtype=np.int64)
    empty = pa.nulls(0, pa.string())
    return LabelFile(
        ids, place, size, tuple(classes), of_class, empty, empty, none, np.zeros((0, 4)), none, none
    )  # fmt: skip


def _by_name(uris: Sequence[str]) -> dict[str, int]:
    """Return the image of each uri and of each bare file name; a name that several have leads nowhere."""
    place: dict[str, int] = {}
    for at, uri in enumerate(uris):
        bare = posixpath.basename(uri)
        place[bare] = AMBIGUOUS if bare in place else at
    return place | {uri: at for at, uri in enumerate(uris)}


def _sizes(samples: pa.Table) -> Floats:
    columns = [samples[name].cast(pa.float64()).to_numpy() for name in ("width_px", "height_px")]
    return np.stack(columns, axis=1)
