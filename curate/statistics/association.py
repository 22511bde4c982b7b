"""Whether two columns of a cross table go together, and whether counts fit a reference."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]


def _expected(table: npt.ArrayLike) -> tuple[Floats, Floats]:
    counts = np.asarray(table, dtype=np.float64)
    if counts.ndim != 2 or bool((counts < 0).any()):
        msg = f"a cross table has two dimensions and no negative counts; given the shape {counts.shape}"
        raise ValueError(msg)
    total = counts.sum()
    margins = counts.sum(axis=1, keepdims=True) @ counts.sum(axis=0, keepdims=True)
    return counts, margins / total if total > 0 else np.zeros_like(counts)


def _without_empty(table: npt.ArrayLike) -> Floats:
    counts = np.asarray(table, dtype=np.float64)
    counts = counts[counts.sum(axis=1) > 0]
    return np.asarray(counts[:, counts.sum(axis=0) > 0], dtype=np.float64)


def cramers_v(table: npt.ArrayLike) -> float | None:
    """Return the bias-corrected Cramér's V of a cross table, in [0, 1]; None where it is not defined.

    The plain V grows with the number of cells even where nothing is related (7 by 1000 independent: .225).
    Source: Bergsma, "A bias-correction for Cramér's V and Tschuprow's T" (2013).
    """
    counts, expected = _expected(_without_empty(table))
    n_rows, n_columns = counts.shape
    n = float(counts.sum())
    if n < 2 or min(n_rows, n_columns) < 2:
        return None
    phi2 = float(((counts - expected) ** 2 / expected).sum()) / n
    phi2 = max(0.0, phi2 - (n_rows - 1) * (n_columns - 1) / (n - 1))
    rows = n_rows - (n_rows - 1) ** 2 / (n - 1)
    columns = n_columns - (n_columns - 1) ** 2 / (n - 1)
    smaller = min(rows, columns) - 1
    return min(1.0, math.sqrt(phi2 / smaller)) if smaller > 0 else None


def adjusted_residuals(table: npt.ArrayLike) -> Floats:
    """Return how many standard deviations each cell is from independence; 0 where a margin is empty or full.

    Source: Haberman, "The analysis of residuals in cross-classified tables" (1973).
    """
    counts, expected = _expected(table)
    n = counts.sum()
    if n == 0:
        return np.zeros_like(counts)
    rows = 1 - counts.sum(axis=1, keepdims=True) / n
    columns = 1 - counts.sum(axis=0, keepdims=True) / n
    variance = expected * rows * columns
    spread = np.sqrt(np.where(variance > 0, variance, 1.0))
    return np.where(variance > 0, (counts - expected) / spread, 0.0)


def discoveries(p_values: npt.ArrayLike, rate: float = 0.05) -> Bools:
    """Return which of the p-values (any shape) are discoveries at this false-discovery rate.

    Source: Benjamini, Hochberg (1995); cells of a cross table are positively or weakly dependent.
    """
    values = np.asarray(p_values, dtype=np.float64)
    flat = np.sort(values, axis=None)
    if not flat.size:
        return np.zeros(values.shape, dtype=bool)
    passing = np.flatnonzero(flat <= rate * np.arange(1, flat.size + 1) / flat.size)
    cut = flat[passing[-1]] if passing.size else -1.0
    return np.asarray(values <= cut, dtype=bool)


def two_sided_p(z: npt.ArrayLike) -> Floats:
    """Return the two-sided p-values of standard normal scores."""
    from scipy.special import ndtr  # noqa: PLC0415 - scipy.stats takes a second to import, and a cached run needs none

    return np.asarray(2 * ndtr(-np.abs(np.asarray(z, dtype=np.float64))), dtype=np.float64)


@dataclass(frozen=True, slots=True)
class Fit:
    """How counts fit a reference: the G statistic, its p-value, and Cohen's w as the effect size."""

    g: float
    p_value: float
    w: float


def fit_to_reference(counts: npt.ArrayLike, shares: npt.ArrayLike) -> Fit | None:
    """Return the G-test of counts against reference shares; None where nothing was counted.

    The shares are scaled to sum to 1. Counts where the reference has nothing make G infinite and p 0.
    Source: Cohen, "Statistical power analysis" (1988), w = sqrt(Σ (p - q)² / q).
    """
    observed, reference = np.asarray(counts, dtype=np.float64), np.asarray(shares, dtype=np.float64)
    if observed.shape != reference.shape or reference.sum() <= 0:
        msg = f"the reference needs a share for each of the {observed.size} values; given: {reference.tolist()}"
        raise ValueError(msg)
    n = observed.sum()
    if n == 0:
        return None
    reference = reference / reference.sum()
    if bool(((reference == 0) & (observed > 0)).any()):
        return Fit(math.inf, 0.0, math.inf)
    seen = observed > 0
    g = float(2 * (observed[seen] * np.log(observed[seen] / (n * reference[seen]))).sum())
    from scipy.special import chdtrc  # noqa: PLC0415 - as in `two_sided_p`

    real = reference > 0
    w = math.sqrt(float(((observed[real] / n - reference[real]) ** 2 / reference[real]).sum()))
    p_value = float(chdtrc(max(int(real.sum()) - 1, 1), max(g, 0.0)))
    return Fit(max(g, 0.0), p_value, w)
