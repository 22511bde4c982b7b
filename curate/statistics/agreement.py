"""How far people who label the same things agree beyond chance."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from curate.statistics.exact import ALPHA, share_interval

Ints = NDArray[np.integer[Any]]
N_RESAMPLES = 1_000
_CELLS_AT_ONCE = 10_000_000  # resamples times kinds of images


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


def cohen_interval(one: Ints, other: Ints) -> tuple[float, float] | None:
    """Return the 95 % interval of `cohen_kappa`: the percentile bootstrap over the rows that both labeled.

    Args:
        one: (N,) class indices.
        other: (N,) of the same rows.

    Source: Efron, "Bootstrap methods: another look at the jackknife" (1979). Where both always agree, resampling
    cannot see a disagreement; the lower end is then that of the exact limit of their share (Clopper and Pearson 1934).
    """
    if not len(one):
        return None
    kinds, n_of = np.unique(np.stack([one, other], axis=1), axis=0, return_counts=True)
    given, places = np.unique(kinds, return_inverse=True)
    sides = np.eye(len(given))[places.reshape(kinds.shape)]  # (P, 2, K)
    same = (kinds[:, 0] == kinds[:, 1]).astype(float)

    def kappas(weights: NDArray[np.float64]) -> NDArray[np.float64]:
        chance = ((weights @ sides[:, 0]) * (weights @ sides[:, 1])).sum(axis=1)
        return _beyond(weights @ same, chance)

    return _interval(n_of, kappas, kinds[:, 0], n_apart=int((one != other).sum()))


def fleiss_interval(counts: Ints) -> tuple[float, float] | None:
    """Return the 95 % interval of `fleiss_kappa`, see `cohen_interval`; counts as there, for which it is defined."""
    kinds, n_of = np.unique(counts, axis=0, return_counts=True)
    n = float(kinds[0].sum()) if len(kinds) else 0.0
    if n < 2:
        return None
    agreed = (kinds * (kinds - 1)).sum(axis=1) / (n * (n - 1))

    def kappas(weights: NDArray[np.float64]) -> NDArray[np.float64]:
        return _beyond(weights @ agreed, ((weights @ kinds / n) ** 2).sum(axis=1))

    return _interval(n_of, kappas, kinds.argmax(axis=1), n_apart=_n_apart(counts))


def krippendorff_interval(counts: Ints) -> tuple[float, float] | None:
    """Return the 95 % interval of `krippendorff_alpha`, see `cohen_interval`; counts as there."""
    paired = counts[counts.sum(axis=1) >= 2]
    if not len(paired):
        return None
    kinds, n_of = np.unique(paired, axis=0, return_counts=True)
    answers = kinds.sum(axis=1).astype(float)
    apart = ((answers[:, None] - kinds) * kinds / (answers[:, None] - 1.0)).sum(axis=1)

    def alphas(weights: NDArray[np.float64]) -> NDArray[np.float64]:
        total = weights @ answers * len(paired)
        by_class = weights @ kinds * len(paired)
        chance = (by_class * (total[:, None] - by_class)).sum(axis=1) / (total * (total - 1.0))
        return _beyond(1.0 - weights @ apart * len(paired) / total, 1.0 - chance)

    return _interval(n_of, alphas, kinds.argmax(axis=1), n_apart=_n_apart(paired))


def _n_apart(counts: Ints) -> int:
    return int((counts.max(axis=1) < counts.sum(axis=1)).sum())


def _beyond(agreed: NDArray[np.float64], chance: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return agreement beyond chance; NaN where chance alone explains all."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(chance < 1.0, (agreed - chance) / (1.0 - chance), np.nan)


def _interval(
    n_of: Ints, statistic: Callable[[NDArray[np.float64]], NDArray[np.float64]], class_of: Ints, *, n_apart: int
) -> tuple[float, float] | None:
    """Return the percentiles of a statistic of resampled rows; None where it is not defined for most of them.

    Args:
        n_of: (P,) rows of each kind, in an order that no row order shows in.
        statistic: (B, P) shares of the kinds → (B,).
        class_of: (P,) that all say, where they all say the same.
        n_apart: rows on which not all say the same.
    """
    n = int(n_of.sum())
    random = np.random.default_rng(0)
    at_once = max(1, _CELLS_AT_ONCE // len(n_of))
    sizes = [min(at_once, N_RESAMPLES - done) for done in range(0, N_RESAMPLES, at_once)]
    drawn = [statistic(random.multinomial(n, n_of / n, size=size) / n) for size in sizes]
    values = np.concatenate(drawn)
    known = values[np.isfinite(values)]
    if len(known) < N_RESAMPLES / 2:
        return None
    low, high = np.quantile(known, [ALPHA / 2, 1 - ALPHA / 2])
    if n_apart == 0:  # then 1 - statistic = disagreement / (1 - chance), and disagreement may be as high as this
        _, most = share_interval(0, n)
        low = min(low, 1.0 - most / max(_disagreement_by_chance(np.bincount(class_of, n_of.astype(float))), 1e-12))
    return max(-1.0, float(low)), float(high)


def _disagreement_by_chance(n_of_class: NDArray[Any]) -> float:
    """Return how often two answers would differ by chance where all rows are unanimous."""
    shares = n_of_class / n_of_class.sum()
    return float(1.0 - (shares**2).sum())
