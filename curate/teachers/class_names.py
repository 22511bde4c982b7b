"""The classes of a model or a table onto the classes of the dataset, by name."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate.errors import InputError, did_you_mean
from curate.teachers.protocol import Request

SUM_TOLERANCE = 0.02  # rounding of a thousand float16 values stays below
SHOWN = 5


def named(values: Sequence[object]) -> str:
    """Return the first few values as text, with how many more there are."""
    more = f" and {len(values) - SHOWN} more" if len(values) > SHOWN else ""
    return ", ".join(map(repr, values[:SHOWN])) + more


def resolve_names(
    width: int, declared: Sequence[str] | None, inherent: Sequence[str] | None, request: Request, *, teacher: str
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the class of each output, and what a reader has to know.

    Args:
        width: how many outputs there are.
        declared: the spec's `classes`; wins.
        inherent: names that the file itself holds; None = it holds none.
        request: its classes stand where nobody names any, if there are as many.
        teacher: for messages.

    Raises:
        InputError: a wrong width, a name twice, a name that the dataset does not have, or a class of the dataset
            that nobody declared to be left out.
    """
    names = tuple(declared or inherent or request.classes)
    if len(names) != width:
        source = "its `classes`" if declared else "its own metadata" if inherent else "the dataset"
        raise InputError(
            f"The teacher {teacher} has {width} outputs, but {source} names {len(names)} classes. "
            f"Give `classes` with one name for each output, in their order."
        )
    if len(set(names)) != len(names):
        raise InputError(
            f"The teacher {teacher} names a class twice: {named(sorted({n for n in names if names.count(n) > 1}))}."
        )
    unknown = [name for name in names if name not in request.classes]
    if unknown:
        hint = did_you_mean(unknown[0], request.classes)
        raise InputError(
            f"The teacher {teacher} has classes that the dataset does not have: {named(unknown)}. "
            f"The dataset has: {named(request.classes)}. {hint}".rstrip()
        )
    missing = [name for name in request.classes if name not in names]
    if missing and not declared:
        raise InputError(
            f"The teacher {teacher} does not know {named(missing)} of the dataset's classes. "
            f"If that is so, declare the classes it knows in its `classes`; labels of the others are not judged."
        )
    told = []
    if missing:
        told.append(f"does not know the classes {named(missing)}; their labels are not judged")
    if not declared and not inherent:
        told.append("nobody named its classes; the dataset's order was taken")
    return names, tuple(told)


def onto_classes(probs: np.ndarray, names: Sequence[str], request: Request) -> np.ndarray:
    """Return float32 (n_labels, n_classes) in the dataset's order; NaN for labels of a class it does not know.

    Args:
        probs: (n_labels, len(names)); a row of NaN = no answer.
        names: the class of each column, each one of the dataset's.
        request: label rows and classes.
    """
    columns = [request.classes.index(name) for name in names]
    full = np.zeros((len(probs), len(request.classes)), dtype=np.float32)
    full[:, columns] = probs
    full[~np.isfinite(probs).all(axis=1)] = np.nan
    known = pc.is_in(request.labels["label"], value_set=pa.array(list(names), pa.string()))
    full[~known.to_numpy(zero_copy_only=False).astype(bool)] = np.nan
    return full


def wrong_rows(probs: np.ndarray) -> np.ndarray:
    """Return (n,) booleans: rows that are no probabilities (negative, NaN beside numbers, or a sum that is not 1).

    Rows of nothing but NaN stand for "no answer" and are not wrong.
    """
    silent = np.isnan(probs).all(axis=1)
    with np.errstate(invalid="ignore"):
        sums = probs.sum(axis=1)
        good = np.isfinite(probs).all(axis=1) & (probs >= -1e-6).all(axis=1) & (np.abs(sums - 1) <= SUM_TOLERANCE)
    wrong: np.ndarray = ~(good | silent)
    return wrong
