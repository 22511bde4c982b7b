"""Logistic regressions: pulled to a prior, of several kinds, and what share of the things is labeled."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.linalg import cho_factor, cho_solve

from curate.teachers.boxes.geometry import Bools, Floats, expit

STEPS = 50
TOLERANCE = 1e-8
SOFTMAX_TOLERANCE = 1e-3
REFRESH = 3  # steps with the same second derivatives, which cost the most
SLACK = 1e-8  # so that the row which sets a cut is not lost to rounding
LEAST_SURE = 50  # rows that are needed to see which share of them is labeled


def fit_logistic(x: Floats, y: Floats, *, prior: Floats, strength: float, weight: Floats | None = None) -> Floats:
    """Return the coefficients w of expit(x @ w) for soft targets y, by Newton's method.

    Minimises the log loss + strength/2 · |w - prior|²: with few rows the prior stays.

    Args:
        x: (N, F), with a column of ones where an intercept is wanted.
        y: (N,) in [0, 1].
        prior: (F,) what w is pulled to.
        strength: of the pull, in rows.
        weight: (N,) of the rows; default 1.
    """
    w = prior.astype(np.float64).copy()
    weight = np.ones(len(x)) if weight is None else weight
    for _ in range(STEPS):
        p = expit(x @ w)
        slope = x.T @ (weight * (p - y)) + strength * (w - prior)
        curve = (x * (weight * p * (1 - p))[:, None]).T @ x + strength * np.eye(len(w))
        step = np.linalg.solve(curve, slope)
        step *= min(1.0, 5.0 / max(float(np.abs(step).max()), 1e-12))  # Newton leaps where classes are separable
        w -= step
        if np.abs(step).max() < TOLERANCE:
            break
    return w


def fit_softmax(
    x: Floats, y: Floats, *, strength: float, start: Floats | None = None, steps: int = STEPS
) -> Floats:
    """Return the (F, K) coefficients of softmax(x @ w) for soft targets y, by Newton's method.

    Minimises the log loss + strength/2 · |w|² (the first row, the intercepts, is pulled a thousandth as much).

    Args:
        x: (N, F), the first column ones.
        y: (N, K), rows sum to 1.
        strength: of the pull, in rows.
        start: (F, K) where to begin; default 0.
        steps: at most.
    """
    n_columns, n_kinds = x.shape[1], y.shape[1]
    w = np.zeros((n_columns, n_kinds)) if start is None else start.copy()
    pull = np.full(n_columns, strength)
    pull[0] = strength / 1000
    for turn in range(steps):
        p = softmax(x @ w)
        if turn % REFRESH == 0:
            curve = cho_factor(_curve(x, p) + np.diag(np.tile(pull, n_kinds)))
        slope = x.T @ (p - y) + pull[:, None] * w
        step = cho_solve(curve, slope.T.reshape(-1)).reshape(n_kinds, n_columns).T
        step *= min(1.0, 2.0 / max(float(np.abs(step).max()), 1e-12))  # Newton leaps where classes are separable
        w -= step
        if np.abs(step).max() < SOFTMAX_TOLERANCE:
            break
    return w


def _curve(x: Floats, p: Floats) -> Floats:
    """Return the second derivatives of the log loss by the coefficients, kind by kind."""
    n_columns, n_kinds = x.shape[1], p.shape[1]
    curve = np.zeros((n_kinds, n_columns, n_kinds, n_columns))
    for a in range(n_kinds):
        for b in range(a, n_kinds):
            share = p[:, a] * ((a == b) - p[:, b])
            block = (x * share[:, None]).T @ x
            curve[a, :, b, :] = block
            curve[b, :, a, :] = block.T
    return curve.reshape(n_kinds * n_columns, -1)


def softmax(logs: Floats) -> Floats:
    """Return exp(logs), each row divided by its sum."""
    logs = np.exp(logs - logs.max(axis=1, keepdims=True))
    return np.asarray(logs / logs.sum(axis=1, keepdims=True), dtype=np.float64)


@dataclass(frozen=True, slots=True)
class Scale:
    """What makes columns comparable: fitted once, then the same for every row."""

    mean: Floats
    std: Floats

    @classmethod
    def of(cls, x: Floats) -> Scale:
        """Return the scale of the columns; one that does not vary is left as it is."""
        std = x.std(axis=0)
        return cls(x.mean(axis=0), np.where(std > 1e-9, std, 1.0))

    def apply(self, x: Floats) -> Floats:
        """Return the columns with mean 0 and deviation 1, and a column of ones before them."""
        return np.concatenate([np.ones((len(x), 1)), (x - self.mean) / self.std], axis=1)


def labeled_share(x: Floats, is_labeled: Bools) -> float:
    """Return the share of things that somebody labeled, from rows that may be things (Elkan and Noto 2008).

    Where there surely is a thing, what is not labeled was overlooked. So P(labeled | x) is fitted, and the share is
    that of the rows with the highest values; of several choices of how many the largest share counts, so that
    rows that are no things after all do not pass for overlooked ones.

    Args:
        x: (N, F).
        is_labeled: (N,).
    """
    z = Scale.of(x).apply(x)
    labeled = is_labeled.astype(np.float64)
    n_labeled = int(labeled.sum())
    share, prior = 0.95, np.zeros(z.shape[1])
    for _ in range(3):
        chance = labeled
        for _ in range(5):
            p = expit(z @ fit_logistic(z, chance, prior=prior, strength=1.0))
            chance = np.where(is_labeled, 1.0, (1 - share) * p / np.maximum(1 - share * p, 1e-12))
        surest = labeled[np.lexsort((-labeled, -p))]
        sizes = [max(n_labeled // part, min(n_labeled, LEAST_SURE)) for part in (3, 4, 8, 16)]
        share = max(float(surest[:size].sum() + 1) / (size + 2) for size in sizes)
    return share


def cut_for_f1(chance: Floats, *, least: float) -> float:
    """Return from which chance on rows are flagged so that the F1 to be expected is the highest; at least `least`.

    With chances that hold, flagging the n rows with the highest finds sum(chance of these) of sum(chance of all).
    """
    ranked = np.sort(chance)[::-1]
    if not len(ranked):
        return least
    expected = 2 * np.cumsum(ranked) / (np.arange(1, len(ranked) + 1) + ranked.sum())
    return max(least, float(ranked[int(expected.argmax())]) - SLACK)
