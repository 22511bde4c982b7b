"""How many of the given labels are wrong, estimated without an audit: several ways, all of them shown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]
Ints = NDArray[np.integer[Any]]
Bools = NDArray[np.bool_]

INSUFFICIENT = "insufficient data"
# of what a channel explains: a teacher that errs surely looks like a wrong label, one that errs with the labels hides one
BOUND_IF_SURE = "a lower bound only if the teachers are right where they are sure"
N_BLOCKS = 20
_T_975_DF19 = 2.093  # two-sided 95 % of Student's t with N_BLOCKS - 1 degrees of freedom
_PRIOR_ROWS = 5.0
SHOWN_CONFUSIONS = 20
MATRIX_CLASSES = 50


@dataclass(frozen=True, slots=True)
class NoiseRate:
    """A share of wrong labels with a 95 % interval; all None where `method` is "insufficient data"."""

    estimate: float | None
    low: float | None
    high: float | None
    method: str

    def to_json(self) -> dict[str, Any]:
        """Return the four fields as JSON values."""
        return asdict(self)


UNKNOWN = NoiseRate(None, None, None, INSUFFICIENT)


def pairwise_rate(
    votes: Ints, answered: Bools, given: Ints, n_classes: int, *, groups: Sequence[int] | None = None
) -> NoiseRate:
    """Estimate the noise rate from how often teachers agree with each other and with the given labels.

    With B_ab = (K·agree_ab - 1)/(K - 1), u = sqrt(B_ay·B_by/B_ab) is the chance-corrected quality of the given
    labels, and the rate is 1 - ((K - 1)·u + 1)/K; the median over pairs counts. It holds where the errors of two
    teachers are independent given the truth; teachers that share features share errors, and then it does not.

    Args:
        votes: (T, N) class indices.
        answered: (T, N) whether the teacher has an answer.
        given: (N,) class indices of the given labels.
        n_classes: K, at least 2.
        groups: T; a pair within one group shares errors and does not count.

    Returns:
        The median; the interval covers both the jackknife over blocks of rows and the middle half of the pairs.
    """
    if len(votes) < 2 or not given.size:
        return UNKNOWN
    block = np.arange(given.size) % N_BLOCKS
    used: list[tuple[NDArray[Any], NDArray[Any]]] = []
    for one, other in combinations(range(len(votes)), 2):
        if groups is not None and groups[one] == groups[other]:
            continue
        both = answered[one] & answered[other]
        agree = (votes[one] == given, votes[other] == given, votes[one] == votes[other])
        n = np.bincount(block, weights=both, minlength=N_BLOCKS)
        hits = np.stack([np.bincount(block, weights=both & a, minlength=N_BLOCKS) for a in agree])
        used.append((n, hits))
    if not used:
        return UNKNOWN
    whole = np.array([_pair_rate(n.sum(), hits.sum(axis=1), n_classes) for n, hits in used])
    if not np.isfinite(whole).any():
        return UNKNOWN
    estimate = float(np.nanmedian(whole))
    held_out = np.array(
        [
            _median([_pair_rate(n.sum() - n[b], hits.sum(axis=1) - hits[:, b], n_classes) for n, hits in used])
            for b in range(N_BLOCKS)
        ]
    )
    held_out = held_out[np.isfinite(held_out)]
    error = np.sqrt((len(held_out) - 1) / len(held_out) * np.sum((held_out - held_out.mean()) ** 2))
    quarter, three_quarters = np.nanquantile(whole, [0.25, 0.75])
    low = min(estimate - _T_975_DF19 * error, quarter)
    high = max(estimate + _T_975_DF19 * error, three_quarters)
    return NoiseRate(estimate, float(max(low, 0.0)), float(min(high, 1.0)), "pairwise agreement of teachers")


def _median(values: Sequence[float]) -> float:
    finite = [v for v in values if np.isfinite(v)]
    return float(np.median(finite)) if finite else float("nan")


def _pair_rate(n: float, hits: Floats, n_classes: int) -> float:
    """Return the rate from one pair's counts: hits = (one with given, other with given, one with other)."""
    if n <= 0:
        return float("nan")
    one, other, pair = (n_classes * hits / n - 1.0) / (n_classes - 1.0)
    if pair <= 0 or one <= 0 or other <= 0:
        return float("nan")
    quality = min(1.0, float(np.sqrt(one * other / pair)))
    return 1.0 - ((n_classes - 1.0) * quality + 1.0) / n_classes


def confident_transition(pool: Floats, given: Ints, tau: Floats) -> tuple[Floats, float]:
    """Estimate the transition matrix by counting confident answers (confident learning, Northcutt et al. 2021).

    A row counts for its likeliest class among those whose pooled probability reaches the class's own mean tau.
    Counts are scaled to the number of given labels by class. Classes with few rows shrink towards uniform noise.

    Args:
        pool: (N, K) pooled probabilities.
        given: (N,) given class indices.
        tau: (K,) mean pooled probability of a class over the rows that are labeled with it.

    Returns:
        (K, K) p(given = column | true = row), rows sum to one; and the share off the diagonal.
    """
    n_classes = pool.shape[1]
    confident = pool >= tau
    counted = confident.any(axis=1)
    true = np.where(confident, pool, -1.0).argmax(axis=1)
    joint = np.zeros((n_classes, n_classes))
    np.add.at(joint, (true[counted], given[counted]), 1.0)
    labeled = np.bincount(given, minlength=n_classes)
    joint *= labeled / np.maximum(joint.sum(axis=0), 1.0)
    rate = float(1.0 - np.trace(joint) / max(joint.sum(), 1.0))
    joint += _PRIOR_ROWS * uniform_transition(min(rate, 0.5), n_classes)
    transition = joint / joint.sum(axis=1, keepdims=True)
    return 0.99 * transition + 0.01 / n_classes, rate


def uniform_transition(rate: float, n_classes: int) -> Floats:
    """Return the (K, K) matrix in which a label is wrong with `rate`, each wrong class equally likely."""
    matrix = np.full((n_classes, n_classes), rate / (n_classes - 1))
    np.fill_diagonal(matrix, 1.0 - rate)
    return matrix


def binomial_rate(rate: float, n_rows: int, method: str) -> NoiseRate:
    """Return the rate with its 95 % Wilson interval: sampling error only, no error of the model."""
    z = 1.959964
    centre = (rate + z * z / (2 * n_rows)) / (1 + z * z / n_rows)
    half = z / (1 + z * z / n_rows) * np.sqrt(rate * (1 - rate) / n_rows + z * z / (4 * n_rows**2))
    return NoiseRate(rate, float(max(0.0, centre - half)), float(min(1.0, centre + half)), method)


def transition_json(transition: Floats, classes: Sequence[str]) -> dict[str, Any]:
    """Return which class is taken for which, as JSON values.

    Args:
        transition: (K, K) p(given = column | true = row).
        classes: K names.

    Returns:
        `confusions`, the SHOWN_CONFUSIONS likeliest wrong labels as {true, given, prob}, likeliest first; and
        `matrix`, rounded to four digits, where there are at most MATRIX_CLASSES classes.
    """
    off = transition - np.diag(np.diag(transition))
    flat = np.lexsort((np.arange(off.size), -np.round(off, 6).ravel()))[:SHOWN_CONFUSIONS]
    n_classes = len(classes)
    pairs = [divmod(int(at), n_classes) for at in flat if off.ravel()[at] > 0]
    told: dict[str, Any] = {
        "meaning": "p(given | true)",
        "confusions": [
            {"true": classes[true], "given": classes[given], "prob": round(float(off[true, given]), 4)}
            for true, given in pairs
        ],
    }
    if n_classes <= MATRIX_CLASSES:
        told |= {"classes": list(classes), "matrix": np.round(transition, 4).tolist()}
    return told


def mean_bounds(rates: Sequence[NoiseRate]) -> tuple[float | None, float | None]:
    """Return bounds of the mean of rates: the means of theirs, which hold where all of them do; None without bounds."""
    bounds = [(one.low, one.high) for one in rates if one.estimate is not None]
    lows = [low for low, _ in bounds if low is not None]
    highs = [high for _, high in bounds if high is not None]
    if not bounds or len(lows) < len(bounds) or len(highs) < len(bounds):
        return None, None
    return float(np.mean(lows)), float(np.mean(highs))
