"""The teacher kind `coco`: boxes that a detector found before, brought onto the images of the dataset."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from curate import schema
from curate.errors import CurateError, InputError, TooFewRowsError
from curate.ingest.source import Beyond, nothing_beyond
from curate.runs import digest_file
from curate.spec import CocoTeacherSpec
from curate.teachers.boxes.coco import SHOWN, LabelFile, read_detections
from curate.teachers.boxes.geometry import Floats, Ints
from curate.teachers.boxes.json_columns import read_json
from curate.teachers.boxes.names import Named, find_images
from curate.teachers.protocol import TeacherCard, TeacherError


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
    labels_file: Path | None = None,
    *,
    beyond: Beyond | None = None,
) -> FoundBoxes:
    """Read the boxes of every detector; one that fails is an error entry, and the others go on.

    Args:
        specs: teachers of the kind `coco`.
        samples: the samples view, decodable rows.
        classes: of the dataset.
        resolve: a path of the spec -> an absolute one.
        labels_file: COCO file that the labels come from: what its ids mean holds where a teacher says nothing else.
        beyond: what a limit left out; boxes in these images are passed over.
    """
    tables, cards, errors = [schema.empty(schema.DETECTIONS)], [], []
    for spec in specs:
        try:
            table, card = _answer(spec, samples, classes, resolve, labels_file, beyond or nothing_beyond())
        except CurateError as error:
            errors.append(TeacherError(spec.name, str(error), isinstance(error, TooFewRowsError)))
            continue
        tables.append(table)
        cards.append(card)
    return FoundBoxes(pa.concat_tables(tables), tuple(cards), tuple(errors))


def _answer(
    spec: CocoTeacherSpec,
    samples: pa.Table,
    classes: Sequence[str],
    resolve: Callable[[str], Path],
    labels_file: Path | None,
    beyond: Beyond,
) -> tuple[pa.Table, TeacherCard]:
    path = resolve(spec.path)
    listed = resolve(spec.images) if spec.images is not None else labels_file
    content = read_json(path, f"The teacher {spec.name}")
    known, far_ids, notes = _known(spec, content, samples, classes, listed, beyond)
    found = read_detections(path, spec.name, known, content=_without(content, far_ids))
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
        out_of_fold=None,
        calibration=None,
        digest=digest_file(path),
        n_predicted=len(np.unique(found.image)),
        warnings=(*notes, *found.notes),
    )
    return table, card


def _known(
    spec: CocoTeacherSpec,
    content: Any,  # noqa: ANN401 - any JSON value
    samples: pa.Table,
    classes: Sequence[str],
    listed: Path | None,
    beyond: Beyond,
) -> tuple[LabelFile, frozenset[str], tuple[str, ...]]:
    """Return images and classes of the dataset as the file knows them, ids of images beyond, what to tell about names.

    Ids mean what the file itself says; else what `images` or the labels of the source say; else they are names of
    images and classes themselves.
    """
    rows: list[Any] = content if isinstance(content, list) else []
    images, categories = (_listed(content, key) for key in ("images", "categories"))
    if listed is not None and not (images and categories):
        further = read_json(listed, f"The teacher {spec.name}")
        images, categories = images or _listed(further, "images"), categories or _listed(further, "categories")
    name_of = {one.get("id"): one.get("sample_id") or one.get("file_name") for one in images}
    if not images:
        ids_given = (row.get("image_id") for row in rows if isinstance(row, dict))
        name_of = {value: value for value in ids_given if isinstance(value, str | int)}
    number = {name: at for at, name in enumerate(classes)}
    of_class: dict[Any, int] = dict(number)
    of_class |= {one.get("id"): number[one["name"]] for one in categories if one.get("name") in number}
    uris, sample_ids = (
        [*samples[key].to_pylist(), *beyond.samples[key].to_pylist()] for key in ("uri", "sample_id")
    )
    named = find_images(list(name_of.values()), uris, sample_ids)
    if not named.place:
        raise InputError(_says_nothing(spec, listed, images, list(name_of.values()), named))
    near = {name: at for name, at in named.place.items() if at < samples.num_rows}
    if not near:
        raise TooFewRowsError(f"The teacher {spec.name} looked at images that --limit leaves out, and at no other.")
    ids = np.full(samples.num_rows, None, dtype=object)
    for key, name in name_of.items():
        if name in near:
            ids[near[name]] = str(key)
    far = frozenset(str(key) for key, name in name_of.items() if name in named.place and name not in near)
    complaint = named.complaint()
    file = _label_file(pa.array(ids, pa.string()), near, _sizes(samples), classes, of_class)
    return file, far, (complaint,) if complaint else ()


def _without(content: Any, image_ids: frozenset[str]) -> Any:  # noqa: ANN401 - any JSON value
    """Return a file's content without the boxes of some images."""
    if not image_ids:
        return content
    if isinstance(content, dict):
        return content | {"annotations": _without(content.get("annotations"), image_ids)}
    if not isinstance(content, list):
        return content
    return [row for row in content if not (isinstance(row, dict) and str(row.get("image_id")) in image_ids)]


def _listed(content: Any, key: str) -> list[dict[str, Any]]:  # noqa: ANN401 - any JSON value
    rows = content.get(key) if isinstance(content, dict) else None
    return [one for one in rows if isinstance(one, dict)] if isinstance(rows, list) else []


def _says_nothing(
    spec: CocoTeacherSpec, listed: Path | None, images: Sequence[Any], names: Sequence[Any], named: Named
) -> str:
    """Return what to tell where no image of the dataset was found."""
    shown = ", ".join(sorted({repr(name) for name in names})[:SHOWN]) or "none"
    if named.ambiguous:
        return f"The teacher {spec.name}: {named.complaint()}"
    if images:
        where = listed.name if listed is not None else spec.path
        return (
            f"The teacher {spec.name}: no image of the dataset has a file name that {where} gives: {shown}. "
            f"Names are compared with paths in the source."
        )
    return (
        f"The teacher {spec.name}: {spec.path} does not say which file its image ids mean ({shown}). Name a COCO file "
        f"with images and categories as `images` (the one that the detector was run on), or give file names as ids."
    )


def _label_file(
    ids: pa.Array, place: Mapping[str, int], size: Floats, classes: Sequence[str], of_class: Mapping[Any, int]
) -> LabelFile:
    none: Ints = np.zeros(0, dtype=np.int64)
    empty = pa.nulls(0, pa.string())
    return LabelFile(
        ids, place, size, tuple(classes), of_class, empty, empty, none, np.zeros((0, 4)), none, none
    )  # fmt: skip


def _sizes(samples: pa.Table) -> Floats:
    columns = [samples[name].cast(pa.float64()).to_numpy() for name in ("width_px", "height_px")]
    return np.stack(columns, axis=1)
