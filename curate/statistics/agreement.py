"""How far people who label the same things agree beyond chance."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.integer[Any]]


def cohen_kappa(one: Ints, other: Ints, n_classes: int) -> float | None:
    """Return the chance-corrected agreement of two people on the same rows; None where chance alone explains all.

    Args:
        one: (N,) class indices.
        other: (N,) of the same rows.
        n_classes: K.

    Source: Cohen, "A coefficient of agreement for nominal scales" (1960).
    """
    if not len(one):
        return None
    table = np.zeros((n_classes, n_classes))
    np.add.at(table, (one, other), 1.0)
    table /= len(one)
    chance = float((table.sum(axis=0) * table.sum(axis=1)).sum())
    return None if chance >= 1.0 else (float(np.trace(table)) - chance) / (1.0 - chance)


def fleiss_kappa(counts: Ints) -> float | None:
    """Return the agreement of as many people on each row, whoever they are; None where it is not defined.

    Args:
        counts: (N, K), how many chose each class; every row has the same sum, at least 2.

    Source: Fleiss, "Measuring nominal scale agreement among many raters" (1971).
    """
    raters = counts.sum(axis=1)
    if not len(counts) or raters[0] < 2 or (raters != raters[0]).any():
        return None
    n = float(raters[0])
    observed = float(((counts * (counts - 1)).sum(axis=1) / (n * (n - 1))).mean())
    shares = counts.sum(axis=0) / counts.sum()
    chance = float((shares**2).sum())
    return None if chance >= 1.0 else (observed - chance) / (1.0 - chance)


def krippendorff_alpha(counts: Ints) -> float | None:
    """Return the agreement of any number of people on each row (nominal); None where it is not defined.

    Args:
        counts: (N, K), how many chose each class; rows with fewer than two answers do not count.

    Source: Krippendorff, "Computing Krippendorff's alpha-reliability" (2011).
    """
    paired = counts[counts.sum(axis=1) >= 2].astype(np.float64)
    total = paired.sum()
    if not total:
        return None
    per_row = paired.sum(axis=1)
    disagree = float(((per_row[:, None] - paired) * paired / (per_row[:, None] - 1.0)).sum()) / total
    by_class = paired.sum(axis=0)
    chance = float((by_class * (total - by_class)).sum()) / (total * (total - 1.0))
    return None if chance == 0.0 else 1.0 - disagree / chance
