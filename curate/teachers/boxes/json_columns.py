"""JSON files, and the values of their rows as columns, whole columns at once."""

from __future__ import annotations

import gc
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import repeat
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate.errors import InputError
from curate.teachers.boxes.geometry import Floats, Ints


@contextmanager
def no_collection() -> Iterator[None]:
    """Look for no garbage meanwhile: of millions of small objects none is, and looking takes half of the time."""
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()


@no_collection()
def read_json(path: Path, what: str) -> Any:  # noqa: ANN401 - any JSON value
    """Return the content of a JSON file.

    Raises:
        InputError: not there, or no JSON.
    """
    try:
        return json.loads(path.read_bytes())
    except OSError as error:
        raise InputError(f"{what} cannot be read: {path} ({error.strerror}). Correct the path.") from error
    except ValueError as error:  # of UTF-8 as well
        raise InputError(f"{what} is no JSON: {path} ({error}). A COCO file is needed.") from error


def values(rows: Sequence[Mapping[str, Any]], key: str) -> list[Any]:
    """Return the value of each row; None where it has none."""
    try:
        return list(map(itemgetter(key), rows))
    except KeyError:
        return [one.get(key) for one in rows]


def column(values: Sequence[Any]) -> pa.Array:
    """Return ids as an array: of integers where all are, else of text."""
    try:
        return pa.array(values, pa.int64())
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError):
        return pa.array([None if value is None else str(value) for value in values], pa.string())


def positions(values: pa.Array, known: pa.Array) -> Ints:
    """Return the position of each value among the known ones; -1 where it is not there."""
    if values.type != known.type:
        values, known = values.cast(pa.string()), known.cast(pa.string())
    at: Ints = pc.fill_null(pc.index_in(values, value_set=known, skip_nulls=True), -1).to_numpy().astype(np.int64)
    return at


def lookup(values: Sequence[Any], number: Mapping[Any, int]) -> Ints:
    """Return (len(values),) the number of each value; -1 where it has none."""
    try:
        return np.fromiter(map(number.get, values, repeat(-1)), dtype=np.int64, count=len(values))
    except TypeError:  # a list or an object in the place of an id
        found = [number.get(value, -1) if isinstance(value, str | int) else -1 for value in values]
        return np.array(found, dtype=np.int64)


def numbers(rows: Sequence[Any], width: int) -> Floats:
    """Return (len(rows), width); a row that is not `width` numbers is NaN."""
    if not rows:
        return np.zeros((0, width))
    try:
        listed = pa.array(rows, pa.list_(pa.float64(), width))  # unlike NumPy it takes no text for a number
        whole = listed.flatten()
        if not listed.null_count and not whole.null_count and not _has_truth(rows, found := np.array(whole), width):
            return found.reshape(-1, width)
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError, OverflowError):
        pass
    return np.array([_row(row, width) for row in rows], dtype=np.float64)


def _has_truth(rows: Sequence[Any], numbers: Floats, width: int) -> bool:
    """Whether a truth value stands in the place of one of the numbers, which are those of the rows in one line."""
    like_truth = np.flatnonzero((numbers == 0.0) | (numbers == 1.0)).tolist()
    return any(isinstance(rows[at // width][at % width], bool) for at in like_truth)


def _row(row: Any, width: int) -> list[float]:  # noqa: ANN401 - any JSON value
    good = isinstance(row, list | tuple) and len(row) == width
    if good and all(isinstance(value, int | float) and not isinstance(value, bool) for value in row):
        try:
            return [float(value) for value in row]
        except OverflowError:
            pass
    return [math.nan] * width
