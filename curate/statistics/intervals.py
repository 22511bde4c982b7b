"""Intervals of shares and of ratios."""

from __future__ import annotations

import math

Z95 = 1.959963984540054  # two-sided 95 % quantile of the normal distribution


def wilson(n_hits: int, n: int, z: float = Z95) -> tuple[float, float]:
    """Return the Wilson score interval of a share; (0, 1) where nothing was seen.

    Unlike the normal approximation it stays in [0, 1] and is honest at 0 and at n.

    Raises:
        ValueError: fewer than 0 or more than `n` hits.

    Source: Wilson (1927); Brown, Cai, DasGupta, "Interval estimation for a binomial proportion" (2001), eq. 4.
    """
    if not 0 <= n_hits <= n:
        msg = f"the hits must be between 0 and n; given: {n_hits} of {n}"
        raise ValueError(msg)
    if n == 0:
        return 0.0, 1.0
    share = n_hits / n
    centre = share + z * z / (2 * n)
    spread = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    scale = 1 + z * z / n
    low = 0.0 if n_hits == 0 else max(0.0, (centre - spread) / scale)
    high = 1.0 if n_hits == n else min(1.0, (centre + spread) / scale)
    return low, high


def relative_risk(n_hits: int, n: int, n_hits_rest: int, n_rest: int) -> tuple[float, float, float] | None:
    """Return the ratio of two shares with its 95 % interval, or None where it is not defined.

    Half a hit is added to each cell where one of the hits is zero, so that the interval is finite (Haldane,
    Anscombe). None: one of the groups is empty, or nobody was hit in either.

    Source: Katz et al., "Obtaining confidence intervals for the risk ratio in cohort studies" (1978).
    """
    if n == 0 or n_rest == 0 or (n_hits == 0 and n_hits_rest == 0):
        return None
    extra = 0.5 if n_hits == 0 or n_hits_rest == 0 else 0.0
    hits, hits_rest = n_hits + extra, n_hits_rest + extra
    size, size_rest = n + 2 * extra, n_rest + 2 * extra
    ratio = (hits / size) / (hits_rest / size_rest)
    spread = Z95 * math.sqrt(max(0.0, 1 / hits - 1 / size + 1 / hits_rest - 1 / size_rest))
    return ratio, ratio * math.exp(-spread), ratio * math.exp(spread)
