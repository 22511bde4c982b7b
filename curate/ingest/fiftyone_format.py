"""Any format that FiftyOne reads: imported into a temporary dataset by FiftyOne, then translated to our tables.

Needs a MongoDB: the one that FiftyOne is connected to, in a run the workspace's. The temporary dataset is deleted
at the end, whatever happens; no other is touched. Classification(s), Detection(s), Polyline(s) and Segmentation
are taken, from every label field or those in the option `fields`; labels of other kinds are out.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from curate.errors import ConfigError, InputError, did_you_mean
from curate.ingest.collect import Collector
from curate.ingest.location import Problem, base_of, shown
from curate.ingest.polygons import box_of_rings, rings_of
from curate.ingest.rle import encode_mask
from curate.ingest.source import Ingested, ReadOptions
from curate.ingest.tree import SPLIT_NAMES, Tree
from curate.schema import MULTI_LABEL

TEMPORARY_PREFIX = "curate-import-"
_PATH_ARGUMENTS = ("dataset_dir", "data_path", "labels_path")
_FLAGS = {"iscrowd": "crowd", "difficult": "difficult", "truncated": "truncated", "occluded": "occluded"}
_LISTS = {
    "Classifications": "classifications",
    "Detections": "detections",
    "Polylines": "polylines",
}


class FiftyOneFormat:
    """The format `fiftyone`. Options: `type` (fiftyone.types.X), `arguments` of its importer, `fields` to read."""

    name = "fiftyone"
    option_names = ("type", "arguments", "fields")
    needs_database = True  # a run starts the workspace's own before it reads

    def recognises(self, path: Path) -> Mapping[str, Any] | None:
        """Return the options for a folder that FiftyOne exported in one of its own formats, else None."""
        if not path.is_dir():
            return None
        has_samples = (path / "samples.json").is_file() or (path / "samples").is_dir()
        if (path / "metadata.json").is_file() and has_samples:
            return {"type": "fiftyone.types.FiftyOneDataset"}
        kind = _kind_of_labels(path / "labels.json") if (path / "data").is_dir() else None
        return {"type": f"fiftyone.types.{kind}"} if kind else None

    def read(self, options: ReadOptions) -> Ingested:
        """Import through FiftyOne and translate.

        Raises:
            ConfigError: `type` names no dataset type of FiftyOne.
            InputError: FiftyOne cannot import the source.
        """
        import fiftyone as fo  # noqa: PLC0415 - takes seconds to import; only this format needs it

        kind = _dataset_type(fo, str(options.options.get("type", "")))
        arguments = _arguments(options)
        dataset = fo.Dataset(f"{TEMPORARY_PREFIX}{uuid.uuid4().hex}", persistent=False)
        try:
            try:
                dataset.add_dir(dataset_type=kind, progress=False, **arguments)
            except Exception as error:
                msg = (
                    f"FiftyOne cannot import {options.root} as {kind.__name__}: {type(error).__name__}: {error}. "
                    f"Check source.type, source.path and source.arguments."
                )
                raise InputError(msg) from error
            return _translate(dataset, options)
        finally:
            dataset.delete()


SOURCE = FiftyOneFormat()


def _kind_of_labels(path: Path) -> str | None:
    """Return which of FiftyOne's image datasets a `labels.json` beside `data/` belongs to, None for another file."""
    try:
        document = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    labels = document.get("labels") if isinstance(document, dict) and "classes" in document else None
    if not isinstance(labels, dict):
        return None
    known = [value for value in labels.values() if value]
    first = known[0] if known else None
    boxed = isinstance(first, list) and isinstance(first[0], dict) and "bounding_box" in first[0]
    return "FiftyOneImageDetectionDataset" if boxed else "FiftyOneImageClassificationDataset"


def _dataset_type(fo: Any, name: str) -> Any:  # noqa: ANN401 - fiftyone has no types
    short = name.removeprefix("fiftyone.types.").removeprefix("fo.types.")
    kind = getattr(fo.types, short, None) if short.isidentifier() else None
    if not (isinstance(kind, type) and issubclass(kind, fo.types.Dataset)):
        names = [key for key, value in vars(fo.types).items() if isinstance(value, type)]
        hint = did_you_mean(short, names)
        raise ConfigError(
            f"source.type must name a dataset type of FiftyOne, such as fiftyone.types.COCODetectionDataset; "
            f"it is {name!r}. {hint}".rstrip()
        )
    return kind


def _arguments(options: ReadOptions) -> dict[str, Any]:
    """Return the importer's arguments; paths are relative to the source and stay inside it."""
    given = options.options.get("arguments") or {}
    if not isinstance(given, Mapping):
        raise ConfigError(f"source.arguments must be a mapping; it is {given!r}.")
    arguments: dict[str, Any] = {"dataset_dir": str(options.root), **given}
    base = base_of(options.root).resolve()
    for name in _PATH_ARGUMENTS:
        if name in given:
            path = (base / str(given[name])).resolve()
            if not path.is_relative_to(base):
                raise ConfigError(f"source.arguments.{name} leads out of {base}: {given[name]!r}.")
            arguments[name] = str(path)
    if "data_path" in given or "labels_path" in given:
        arguments.setdefault("dataset_dir", str(options.root))
    return arguments


def _translate(dataset: Any, options: ReadOptions) -> Ingested:  # noqa: ANN401 - fiftyone has no types
    tree = Tree(base_of(options.root))
    collector = Collector(options, task="detection", locator=tree.locator)
    fields = _label_fields(dataset, options.options.get("fields"))
    targets = {
        field: dict(dataset.mask_targets.get(field) or dataset.default_mask_targets or {}) for field in fields
    }
    for sample in dataset.iter_samples(progress=False):
        path = sample.filepath
        uri = str(Path(path).relative_to(tree.base)) if Path(path).is_relative_to(tree.base) else path
        split = next((tag for tag in sorted(sample.tags) if tag in SPLIT_NAMES), None)
        values = {field: sample[field] for field in fields}
        is_negative = any(value is not None for value in values.values())
        state = "negative" if is_negative else "unlabeled"
        sample_id = tree.add_image(collector, uri, uri, split=split, label_state=state)
        for field, value in values.items():
            for key, label, columns in _labels_of(value, field, targets[field], tree, uri):
                row = f"{uri} {key}"
                if sample_id is None:
                    collector.add_label(row, None, None)
                elif isinstance(columns, Problem):
                    collector.put_out(row, "label", columns.code, columns.args, sample_id=sample_id)
                else:
                    own = (
                        label if columns.get("task") == MULTI_LABEL else key
                    )  # a label once, whichever field has it
                    collector.add_label(row, sample_id, label, key=own, source_key=key, **columns)
    return collector.finish()


def _label_fields(dataset: Any, given: Sequence[str] | None) -> list[str]:  # noqa: ANN401 - fiftyone has no types
    import fiftyone as fo  # noqa: PLC0415 - see `read`

    schema = dataset.get_field_schema(ftype=fo.EmbeddedDocumentField, embedded_doc_type=fo.Label)
    fields = sorted(schema)
    for name in given or ():
        if name not in fields:
            hint = did_you_mean(name, fields)
            raise ConfigError(f"source.fields names {name!r}; label fields: {', '.join(fields)}. {hint}".rstrip())
    return list(given or fields)


Translated = tuple[str, str | None, dict[str, Any] | Problem]


def _labels_of(
    value: Any,  # noqa: ANN401 - fiftyone has no types
    field: str,
    targets: Mapping[Any, Any],
    tree: Tree,
    uri: str,
) -> Iterator[Translated]:
    """Yield (key, label, columns or why it is out) of what a label field holds."""
    if value is None:
        return
    kind = type(value).__name__
    if kind == "Segmentation":
        yield from _classes_of_mask(value, field, targets)
        return
    inner = getattr(value, _LISTS[kind]) if kind in _LISTS else [value]
    if kind == "Classifications":
        for label in inner:
            name = getattr(label, "label", None)
            yield f"{field}:{name}", name, {"task": MULTI_LABEL}
        return
    for index, label in enumerate(inner):
        key = f"{field}[{index}]" if kind in _LISTS else field
        yield key, getattr(label, "label", None), _columns(label, tree, uri)


def _columns(  # noqa: PLR0911 - a return a kind of label
    label: Any,  # noqa: ANN401 - fiftyone has no types
    tree: Tree,
    uri: str,
) -> dict[str, Any] | Problem:
    kind = type(label).__name__
    if kind == "Classification":
        return {"task": "classification"}
    flags = sorted({flag for name, flag in _FLAGS.items() if label.has_field(name) and label[name]}) or None
    if kind == "Detection":
        columns: dict[str, Any] = {"bbox": label.bounding_box, "flags": flags}
        if label.has_mask:
            mask = _whole_mask(label, tree.size_px(uri))
            return mask if isinstance(mask, Problem) else {**columns, "mask": mask}
        return columns
    if kind == "Polyline":
        if not (label.closed or label.filled):
            return Problem("polyline_open")
        rings = rings_of([[n for point in ring for n in point] for ring in label.points])
        if isinstance(rings, Problem):
            return rings
        return {"bbox": box_of_rings(rings), "polygons": rings, "flags": flags}
    return Problem("label_kind_not_held", {"kind": shown(kind, 40)})


def _whole_mask(label: Any, size: tuple[int, int] | None) -> dict[str, Any] | Problem:  # noqa: ANN401 - fiftyone
    """Return the mask of a box (its own pixels) at the size of the image."""
    part = np.asarray(label.get_mask())
    if size is None:
        return Problem("image_size_unknown")
    width, height = size
    left, top = round(label.bounding_box[0] * width), round(label.bounding_box[1] * height)
    inside = part[max(0, -top) : height - top, max(0, -left) : width - left] > 0
    whole = np.zeros((height, width), np.uint8)
    top, left = max(0, top), max(0, left)
    whole[top : top + inside.shape[0], left : left + inside.shape[1]] = inside
    return encode_mask(whole)


def _classes_of_mask(value: Any, field: str, targets: Mapping[Any, Any]) -> Iterator[Translated]:  # noqa: ANN401
    mask = value.get_mask()
    if mask is None or np.ndim(mask) != 2:
        yield field, None, Problem("mask_is_color", {"file": field, "mode": "colours"})
        return
    names = {int(number): name for number, name in targets.items() if str(number).lstrip("-").isdecimal()}
    for number in np.unique(mask).tolist():
        if number == 0 and 0 not in names:  # FiftyOne's background
            continue
        columns: dict[str, Any] = {"task": "segmentation", "mask": encode_mask(mask == number)}
        yield f"{field} id {number}", names.get(int(number), str(number)), columns
