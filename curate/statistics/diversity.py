"""How even a distribution is, and how far two of them are apart."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


def _shares(counts: npt.ArrayLike) -> Floats:
    values = np.asarray(counts, dtype=np.float64)
    if values.ndim != 1 or bool((values < 0).any()) or not bool(np.isfinite(values).all()):
        msg = f"counts must be a list of finite numbers of at least 0; given: {values.tolist()}"
        raise ValueError(msg)
    total = float(values.sum())
    return values / total if total > 0 else np.zeros_like(values)


def entropy_nats(counts: npt.ArrayLike) -> float:
    """Return the Shannon entropy of the shares, in nats; 0 where nothing was counted."""
    shares = _shares(counts)
    shares = shares[shares > 0]
    return max(0.0, float(-(shares * np.log(shares)).sum()))


def effective_number(counts: npt.ArrayLike) -> float:
    """Return exp(H): as many equally large classes are as diverse as these. 0 where nothing was counted.

    Source: Hill, "Diversity and evenness" (1973), order 1.
    """
    return math.exp(entropy_nats(counts)) if float(np.sum(counts)) > 0 else 0.0


def evenness(counts: npt.ArrayLike) -> float | None:
    """Return H / ln K in [0, 1] over all K classes, empty ones included; None for fewer than two."""
    n_classes = int(np.asarray(counts).size)
    if n_classes < 2 or float(np.sum(counts)) <= 0:
        return None
    return min(1.0, entropy_nats(counts) / math.log(n_classes))


def js_divergence(counts_a: npt.ArrayLike, counts_b: npt.ArrayLike) -> float | None:
    """Return the Jensen-Shannon divergence, base 2: 0 = the same shares, 1 = nothing in common.

    None where one of the two is empty. Source: Lin, "Divergence measures based on the Shannon entropy" (1991).
    """
    a, b = _shares(counts_a), _shares(counts_b)
    if a.shape != b.shape:
        msg = f"both need the same classes; given: {a.size} and {b.size}"
        raise ValueError(msg)
    if a.sum() == 0 or b.sum() == 0:
        return None
    mixed = (a + b) / 2
    value = entropy_nats(mixed) - (entropy_nats(a) + entropy_nats(b)) / 2
    return min(1.0, max(0.0, value / math.log(2)))


def js_expected_by_chance(counts_a: npt.ArrayLike, counts_b: npt.ArrayLike) -> float | None:
    """Return about what divergence two draws from one population have: what is below it says nothing.

    First order: 2 · N · ln 2 · JS is chi-square with K - 1 degrees of freedom for equal sizes; for sizes n and m
    the mean is (K - 1)(1/n + 1/m) / (8 ln 2). Classes that neither has do not count.
    """
    a, b = np.asarray(counts_a, dtype=np.float64), np.asarray(counts_b, dtype=np.float64)
    n, m = float(a.sum()), float(b.sum())
    if n <= 0 or m <= 0:
        return None
    n_classes = int(((a + b) > 0).sum())
    return min(1.0, (n_classes - 1) * (1 / n + 1 / m) / (8 * math.log(2)))
