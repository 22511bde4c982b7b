"""Folds for out-of-fold predictions: stratified by class, families kept together, independent of row order."""

from __future__ import annotations

import numpy as np

Ints = np.ndarray


def assign_folds(given: Ints, families: Ints, n_folds: int, *, seed: int) -> Ints:
    """Return a fold (0 … n_folds - 1) for each row; rows of one family are in one fold.

    Families are dealt out class by class in a shuffled order, each to the next fold, so that every class is spread
    as evenly as its families allow. A family counts for the class of its first row.

    Args:
        given: (n,) class indices; rows in canonical order (sorted by id).
        families: (n,) integers.
        n_folds: at least 2.
        seed: of the shuffle.
    """
    _, first, family = np.unique(families, return_index=True, return_inverse=True)
    # numbered by first appearance in the canonical order, so that the caller's numbering leaves no trace
    appearance = np.argsort(np.argsort(first))
    n_families = len(first)
    shuffled = np.random.default_rng(seed).permutation(n_families)[appearance]
    label = given[first]
    order = np.lexsort((shuffled, label))
    fold_of_family = np.empty(n_families, dtype=np.int64)
    fold_of_family[order] = np.arange(n_families) % n_folds
    chosen: Ints = fold_of_family[family.reshape(-1)]
    return chosen
