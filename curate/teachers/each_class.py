"""Several labels an image: every class is a question of its own, and so are the probabilities. Shapes and columns."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate.teachers.protocol import Request

GIVEN = "given"  # column of the request's labels: list<string>, what is there; null = unlabeled
TOLERANCE = 1e-3  # of a probability beyond [0, 1]: rounding


def given_matrix(labels: pa.Table, classes: Sequence[str]) -> np.ndarray:
    """Return bool (n, K): which classes each image is said to have.

    Args:
        labels: a row an image, with the column `GIVEN`.
        classes: K names.
    """
    column = labels[GIVEN].combine_chunks()
    row = pc.list_parent_indices(column).to_numpy().astype(np.int64)
    at = pc.index_in(pc.list_flatten(column), value_set=pa.array(list(classes), pa.string()))
    at = pc.fill_null(at, -1).to_numpy(zero_copy_only=False).astype(np.int64)
    given = np.zeros((len(column), len(classes)), dtype=bool)
    given[row[at >= 0], at[at >= 0]] = True
    return given


def present_column(probs: np.ndarray) -> pa.Array:
    """Return float (n, K) as fixed_size_list<float16>[K]: NaN where a class has no answer, null where none has."""
    n_rows, n_classes = probs.shape
    silent = np.isnan(probs).all(axis=1)
    values = pa.array(probs.astype(np.float16).reshape(-1), pa.float16())
    kind = pa.list_(pa.field("item", pa.float16()), n_classes)
    return pa.FixedSizeListArray.from_arrays(
        values, type=kind, mask=pa.array(silent, type=pa.bool_()) if n_rows else None
    )


def wrong_cells(probs: np.ndarray) -> np.ndarray:
    """Return (n,) booleans: rows with a value that is no probability. NaN stands for no answer."""
    with np.errstate(invalid="ignore"):
        wrong = (probs < -TOLERANCE) | (probs > 1 + TOLERANCE)
    return np.asarray(wrong.any(axis=1))


def onto_each_class(probs: np.ndarray, names: Sequence[str], request: Request) -> np.ndarray:
    """Return float32 (n, n_classes) in the dataset's order; NaN for classes that the teacher does not know."""
    full = np.full((len(probs), len(request.classes)), np.nan, dtype=np.float32)
    full[:, [request.classes.index(name) for name in names]] = np.clip(probs, 0.0, 1.0)
    return full


def n_silent(full: np.ndarray, *, independent: bool) -> int:
    """Return how many rows have no answer: none for any class where each stands alone, else not for all."""
    missing = np.isnan(full)
    return int((missing.all(axis=1) if independent else missing.any(axis=1)).sum())
