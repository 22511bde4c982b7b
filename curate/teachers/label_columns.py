"""Labels and probabilities as they stand in a table: which classes, which index, which matrix."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from curate.errors import InputError, did_you_mean
from curate.teachers.noise import Floats, Ints

METADATA_KEY = b"classes"
GIVEN, METADATA, POSITIONS, SORTED = ORDERS = ("given", "metadata", "label numbers", "sorted labels")


def is_list(kind: pa.DataType) -> bool:
    """Whether a column holds a list in each row."""
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))


def label_strings(column: pa.Array) -> pa.Array:
    """Return labels or ids as strings, whatever type they have; null stays null.

    Raises:
        InputError: lists, records, or bytes that are no text.
    """
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if pa.types.is_floating(column.type):  # integers that pandas turned into floats for the sake of a null
        whole = pc.equal(column, pc.round(column))
        if pc.all(pc.fill_null(whole, True)).as_py():  # noqa: FBT003 - pyarrow takes the fill value by position
            column = column.cast(pa.int64())
    try:
        return column.cast(pa.string())
    except (pa.ArrowNotImplementedError, pa.ArrowInvalid) as error:
        raise InputError(
            f"Labels and ids need to be text or numbers; a column holds {column.type} that is neither: {error}. "
            "Write it as text."
        ) from error


def label_indices(labels: pa.Array, classes: Sequence[str]) -> Ints:
    """Return (N,) int64 class indices of labels, whatever type they have; -1 for null and what is none of the classes.

    Raises:
        InputError: lists, records, or bytes that are no text.
    """
    if pa.types.is_dictionary(labels.type):  # each text is looked up once
        of_texts = np.append(label_indices(labels.dictionary, classes), -1)
        at = pc.fill_null(labels.indices, len(of_texts) - 1).to_numpy(zero_copy_only=False)
        return np.asarray(of_texts[at])
    labels = label_strings(labels)
    found = pc.index_in(labels, value_set=pa.array(list(classes), pa.string()))
    missing = pc.is_null(labels)
    found = pc.if_else(missing, -1, pc.fill_null(found, -1))
    return np.asarray(found.to_numpy(zero_copy_only=False), dtype=np.int64)


def prob_matrix(column: pa.Array, n_classes: int, name: str) -> Floats:
    """Return (N, K) probabilities of a list column as floats of their own width; a null list is a row of NaN.

    Raises:
        InputError: a list that has not K entries.
    """
    n_rows = len(column)
    if pa.types.is_fixed_size_list(column.type):
        lengths = np.full(n_rows, column.type.list_size)
    else:
        lengths = pc.fill_null(pc.list_value_length(column), n_classes).to_numpy(zero_copy_only=False)
    present = pc.is_valid(column).to_numpy(zero_copy_only=False)
    wrong = present & (lengths != n_classes)
    if wrong.any():
        raise InputError(
            f"The column {name} needs {n_classes} probabilities in every row, one a class; "
            f"{int(wrong.sum())} rows have another number, the first {int(lengths[wrong][0])}."
        )
    values = pc.list_flatten(column)  # leaves null lists out
    flat = values.to_numpy(zero_copy_only=False)
    if flat.dtype.kind != "f":
        flat = flat.astype(np.float64)
    if present.all():
        return np.asarray(flat.reshape(n_rows, n_classes))
    matrix = np.full((n_rows, n_classes), np.nan, dtype=flat.dtype)
    matrix[present] = flat.reshape(-1, n_classes)
    return matrix


def prob_widths(file: pq.ParquetFile, columns: Sequence[str], path: Path) -> int:
    """Return K, the width that all probability columns share.

    Raises:
        InputError: a column that is no list of numbers, or widths that differ.
    """
    widths: dict[str, int] = {}
    for name in columns:
        kind = file.schema_arrow.field(name).type
        if not is_list(kind) or not (pa.types.is_floating(kind.value_type) or pa.types.is_integer(kind.value_type)):
            raise InputError(f"{path}: the column {name} needs a list of probabilities in each row; it is {kind}.")
        widths[name] = kind.list_size if pa.types.is_fixed_size_list(kind) else _first_length(file, name)
    known = {name: width for name, width in widths.items() if width >= 0}
    if len(set(known.values())) > 1:
        shown = ", ".join(f"{name} has {width}" for name, width in known.items())
        raise InputError(
            f"{path}: all teachers need the same classes in the same order, every row as many probabilities: {shown} "
            "in its first row. Map them to one class list."
        )
    return next(iter(known.values()), 0)


def _first_length(file: pq.ParquetFile, name: str) -> int:
    for batch in file.iter_batches(batch_size=65_536, columns=[name], use_threads=False):
        lengths = pc.drop_null(pc.list_value_length(batch.column(0)))
        if len(lengths):
            return int(lengths[0].as_py())
    return -1


def class_order(
    file: pq.ParquetFile, label: str, width: int, classes: Sequence[str] | None, path: Path
) -> tuple[tuple[str, ...], str]:
    """Return the class names in the order of the probabilities, and where that order is from, one of ORDERS.

    Raises:
        InputError: the list does not fit the width of the probabilities, or names a class twice.
    """
    distinct: list[str] = []
    origin = "the distinct labels"
    if classes is not None:
        order, kind, origin = tuple(classes), GIVEN, "the classes given"
    elif (named := _from_metadata(file, path)) is not None:
        order, kind, origin = named, METADATA, "the metadata key 'classes'"
    else:
        distinct = _distinct(file, label)
        order, kind = _inferred(distinct, file.schema_arrow.field(label).type, width)
    if width and not order and kind == SORTED:
        raise InputError(
            f"{path}: none of the {file.metadata.num_rows} rows has a label, so which classes there are is not known. "
            "Give them in the order of the probabilities with --classes, or as the Parquet metadata key 'classes'."
        )
    twice = sorted({name for name in order if order.count(name) > 1})
    if twice:
        raise InputError(f"{path}: {origin} name a class twice: {', '.join(twice)}. Each class stands once.")
    if width and len(order) != width:
        near = [hint for name in order[:50] if (hint := did_you_mean(name, [o for o in order if o != name]))]
        hint = f" {near[0]}" if distinct and near and len(order) > width else ""
        raise InputError(
            f"{path}: the probabilities have {width} entries a row, but {origin} are {len(order)} "
            f"({', '.join(order[:12])}{', …' * (len(order) > 12)}). Give all {width} classes in the order of the "
            f"probabilities with --classes, or as the Parquet metadata key 'classes'.{hint}"
        )
    return order, kind


def _from_metadata(file: pq.ParquetFile, path: Path) -> tuple[str, ...] | None:
    metadata = {**(file.metadata.metadata or {}), **(file.schema_arrow.metadata or {})}
    text = metadata.get(METADATA_KEY, b"").decode("utf-8", "replace").strip()
    if not text:
        return None
    return _class_names(text, f"{path}: the metadata key 'classes'")


def _class_names(text: str, where: str) -> tuple[str, ...]:
    if not text.startswith("["):
        return tuple(part.strip() for part in text.split(","))
    try:
        return tuple(str(name) for name in json.loads(text))
    except ValueError as error:
        raise InputError(f"{where} needs a JSON list or comma-separated names; it is {text[:80]!r}.") from error


def _distinct(file: pq.ParquetFile, label: str) -> list[str]:
    """Return the labels in use, sorted: numbers by value, else as text; unused dictionary entries are out."""
    seen: set[str] = set()
    kind = file.schema_arrow.field(label).type
    listed = is_list(kind)
    for batch in file.iter_batches(batch_size=65_536, columns=[label], use_threads=False):
        column = pc.list_flatten(batch.column(0)) if listed else batch.column(0)
        if pa.types.is_dictionary(column.type):
            column = pc.unique(column)
        seen.update(pc.unique(label_strings(column)).drop_null().to_pylist())
    kind = kind.value_type if listed else kind
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    if pa.types.is_integer(kind) or pa.types.is_floating(kind):
        return sorted(seen, key=float)
    return sorted(seen)


def _inferred(distinct: Sequence[str], kind: pa.DataType, width: int) -> tuple[tuple[str, ...], str]:
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    if (pa.types.is_integer(kind) or pa.types.is_floating(kind)) and set(distinct) <= set(map(str, range(width))):
        return tuple(map(str, range(width))), POSITIONS
    return tuple(distinct), SORTED


def named_classes(file: pq.ParquetFile, columns: Sequence[str], path: Path) -> dict[str, tuple[str, ...]]:
    """Return the class lists of the columns whose field has a metadata key `classes` of its own.

    Raises:
        InputError: a list that cannot be read, or that names a class twice.
    """
    found = {}
    for name in columns:
        text = (file.schema_arrow.field(name).metadata or {}).get(METADATA_KEY, b"").decode("utf-8", "replace")
        if not text.strip():
            continue
        listed = _class_names(text.strip(), f"{path}: the metadata key 'classes' of the column {name}")
        if len(set(listed)) != len(listed):
            raise InputError(f"{path}: the column {name} names a class twice: {', '.join(listed)}.")
        found[name] = listed
    return found


def class_places(column: str, listed: Sequence[str], classes: Sequence[str], path: Path) -> Ints:
    """Return the index in `classes` of each class that a column lists.

    Raises:
        InputError: a class that the table does not have.
    """
    unknown = [name for name in listed if name not in classes]
    if unknown:
        raise InputError(
            f"{path}: the column {column} has classes that the table does not have: {', '.join(unknown[:5])}. The "
            f"table has: {', '.join(classes[:12])}. {did_you_mean(unknown[0], classes)}".rstrip()
        )
    return np.array([classes.index(name) for name in listed], dtype=np.int64)


def onto_places(probs: Floats, places: Ints, n_classes: int, given: Ints) -> Floats:
    """Return (N, K) probabilities; NaN where there was no answer, or the given label is unknown to the teacher."""
    full = np.zeros((len(probs), n_classes), dtype=probs.dtype)
    full[:, places] = probs
    foreign = (given >= 0) & ~np.isin(given, places)
    full[foreign | np.isnan(probs).all(axis=1)] = np.nan
    return full
