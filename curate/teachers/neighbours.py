"""Which labels the nearest images carry: a reason that a person can check by looking at them.

A row is never its own witness, nor is a near-duplicate or a member of its group: nobody of its family counts, and of
every other family only the nearest one does. No label has a say in what is near.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pyarrow as pa

from curate import schema

N_NEAREST = 30
MAX_SEARCHED = 50_000  # rows that are searched; of more, every n-th in the order of their hashes
_SPARE = 2  # times as many are looked at, since some are of one family
_BLOCK_CELLS = 20_000_000  # similarities at once: 80 MB

Matrix = np.ndarray


def nearest_labels(
    features: Matrix, given: np.ndarray, families: np.ndarray, project: Callable[[Matrix], Matrix]
) -> tuple[np.ndarray, int]:
    """Return (n, N_NEAREST) classes of the nearest rows, nearest first, and how many rows were searched.

    Where there are no more, -1 stands.

    Exact search by cosine in blocks: 2 · n · min(n, MAX_SEARCHED) · d operations, linear in n beyond MAX_SEARCHED.

    Args:
        features: (n, d), rows in canonical order; ties go to the earlier row.
        given: (n,) class indices.
        families: (n,) integers.
        project: (m, d) -> float32 (m, e), fitted on features alone.
    """
    n_rows = len(features)
    step = max(1, -(-n_rows // MAX_SEARCHED))
    pool = np.arange(0, n_rows, step)
    searched = _directions(project(features[pool]))
    found = np.full((n_rows, N_NEAREST), -1, dtype=np.int64)
    block = max(1, _BLOCK_CELLS // len(pool))
    for start in range(0, n_rows, block):
        part = np.arange(start, min(start + block, n_rows))
        similar = _directions(project(features[part])) @ searched.T
        similar[families[part][:, None] == families[pool][None, :]] = -np.inf
        n_looked = min(_SPARE * N_NEAREST, len(pool))
        chosen = _best_of_families(similar, families[pool], n_looked)
        short = (chosen < 0).any(axis=1) if n_looked < len(pool) else np.zeros(len(part), dtype=bool)
        if short.any():
            chosen[short] = _best_of_families(similar[short], families[pool], len(pool))
        found[part] = np.where(chosen >= 0, given[pool][chosen], -1)
    return found, len(pool)


def nearest_column(nearest: np.ndarray, rows: np.ndarray, n_rows: int, n_searched: int) -> pa.Array:
    """Return `schema.NEAREST` for all label rows, null but at `rows`.

    Args:
        nearest: (n, N_NEAREST) from `nearest_labels`.
        rows: (n,) their positions among the label rows.
        n_rows: label rows.
        n_searched: from `nearest_labels`.
    """
    place = np.full(n_rows, -1)
    place[rows] = np.arange(len(rows))
    known = place >= 0
    full = np.full((n_rows, nearest.shape[1]), -1, dtype=np.int32)
    full[known] = nearest[place[known]]
    offsets = np.concatenate([[0], np.cumsum((full >= 0).sum(axis=1))]).astype(np.int32)
    classes = pa.ListArray.from_arrays(pa.array(offsets), pa.array(full[full >= 0], pa.int32()))
    counted = pa.array(np.full(n_rows, n_searched, dtype=np.int32))
    return pa.StructArray.from_arrays([classes, counted], fields=list(schema.NEAREST), mask=pa.array(~known))


def count_labels(column: pa.Array, classes: np.ndarray, n_classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Return (n,) how many of the nearest images carry the class of each row, and (n,) how many nearest there are.

    Args:
        column: (n,) `schema.NEAREST`.
        classes: (n,) class indices; -1 = none.
        n_classes: K.
    """
    known = column.is_valid().to_numpy(zero_copy_only=False)
    lists = column.field("classes")
    ends = lists.offsets.to_numpy()
    sizes = np.where(known, np.diff(ends), 0)
    values = lists.values.to_numpy(zero_copy_only=False)
    owner = np.repeat(np.arange(len(column)), np.diff(ends))
    values = values[ends[0] : ends[-1]] if len(ends) else values
    same = (values == classes[owner]) & known[owner] & (values < n_classes)
    return np.bincount(owner[same], minlength=len(column)), sizes


def _best_of_families(similar: Matrix, families: np.ndarray, n_looked: int) -> np.ndarray:
    """Return (n, N_NEAREST) columns of the most similar, one a family, best first; -1 where there are no more."""
    if n_looked < similar.shape[1]:
        looked = np.sort(np.argpartition(-similar, n_looked - 1, axis=1)[:, :n_looked], axis=1)
    else:
        looked = np.broadcast_to(np.arange(similar.shape[1]), similar.shape)
    values = np.take_along_axis(similar, looked, axis=1)
    order = np.argsort(-values, axis=1, kind="stable")
    looked, values = np.take_along_axis(looked, order, axis=1), np.take_along_axis(values, order, axis=1)
    family = families[looked]
    by_family = np.argsort(family, axis=1, kind="stable")
    sorted_family = np.take_along_axis(family, by_family, axis=1)
    again = np.zeros(family.shape, dtype=bool)
    again[:, 1:] = sorted_family[:, 1:] == sorted_family[:, :-1]
    repeated = np.empty_like(again)
    np.put_along_axis(repeated, by_family, again, axis=1)
    usable = np.isfinite(values) & ~repeated
    first = np.argsort(~usable, axis=1, kind="stable")[:, :N_NEAREST]
    best = np.where(np.take_along_axis(usable, first, axis=1), np.take_along_axis(looked, first, axis=1), -1)
    chosen = np.full((len(similar), N_NEAREST), -1, dtype=np.int64)
    chosen[:, : best.shape[1]] = best
    return chosen


def _directions(matrix: Matrix) -> Matrix:
    return np.asarray(matrix / (np.linalg.norm(matrix, axis=1, keepdims=True) + 1e-12), dtype=np.float32)
