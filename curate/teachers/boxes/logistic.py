"""Logistic regressions: pulled to a prior, of several kinds, and learnt from rows of which only some are known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.linalg import cho_factor, cho_solve
from scipy.special import gammaincinv

from curate.teachers.boxes.geometry import Bools, Floats, Ints, expit

STEPS = 50
TOLERANCE = 1e-8
SOFTMAX_TOLERANCE = 1e-3
REFRESH = 3  # steps with the same second derivatives, which cost the most
EM_STEPS = 3  # in a round of the EM: the targets change anyhow
SLACK = 1e-8  # so that the row which sets a cut is not lost to rounding
GUESSED_ROWS = 20  # what the first guess of the rates counts
PULL = 20.0  # on the coefficients of kinds, in rows: errors at hand are not quite like those that were made
MOST_PULLS = 2.0
FEW = 2_000  # unknown rows; with fewer the pull grows, lest the few that are wrong are learnt by heart as right
FOLDS = 3  # of the unknown rows: a row that was fitted as right would vouch for itself
PURE = (0.1, 0.2, 0.3, 0.5)  # shares of the made rows, those that are the least like unknown ones
SURE = 0.95  # that a bound on a rate holds for the counts it is from
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


@dataclass(frozen=True, slots=True)
class Contrast:
    """How likely evidence is under each kind, from rows of unknown kind and rows that were made to be of one.

    Attributes:
        scale: of the evidence.
        coefficients: (F + 1, K) of log P(evidence | kind), up to a constant that is the same for all kinds.
        rates: (K,) share of each kind among the rows of unknown kind.
    """

    scale: Scale
    coefficients: Floats
    rates: Floats

    def log_likelihoods(self, x: Floats) -> Floats:
        """(N, K) log P(evidence | kind), up to a constant that is the same for all kinds of a row."""
        return np.asarray(self.scale.apply(x) @ self.coefficients, dtype=np.float64)

    def posterior(self, x: Floats, possible: Bools | None = None) -> Floats:
        """(N, K) chance of each kind for rows of unknown kind with this evidence.

        The chance of a kind that is not `possible` (N, K) goes to the first: what looks like a thing drawn twice is a
        thing, and no likelier to be wrong in another way.
        """
        logs = self.log_likelihoods(x) + np.log(self.rates)
        chance = softmax(logs)
        if possible is not None:
            chance = np.where(possible, chance, 0.0)
            chance[:, 0] = 1 - chance[:, 1:].sum(axis=1)
        return chance


def fit_contrast(
    unknown: Floats,
    made: Floats,
    kind: Ints,
    rates: Floats,
    *,
    rounds: int,
    keep_rates: bool = False,
    possible: Bools | None = None,
) -> Contrast:
    """Fit by expectation maximisation: what the unknown rows are is guessed, fitted to, and guessed again.

    The first kind is what the unknown rows mostly are; nothing was made of it. Rates start at `rates`.

    Args:
        unknown: (N, F) evidence of the rows of unknown kind.
        made: (M, F) evidence of rows that were made.
        kind: (M,) of the made rows, 1 … K - 1.
        rates: (K,) first guess of the shares among the unknown rows; sums to 1.
        rounds: of the EM.
        keep_rates: leave the rates as they are.
        possible: (N, K) which kinds an unknown row can be of, the first always; default: any.
    """
    x = np.concatenate([unknown, made])
    scale = Scale.of(x)
    z = scale.apply(x)
    n, n_kinds = len(unknown), len(rates)
    may = np.ones((n, n_kinds), dtype=bool) if possible is None else possible
    target = np.zeros((len(x), n_kinds))
    target[:n, 0] = 1.0
    target[n + np.arange(len(made)), kind] = 1.0
    first, most = rates, rates[1:]
    sizes = target.sum(axis=0)
    pull = PULL * float(np.clip(FEW / max(n, 1), 1.0, MOST_PULLS))
    fold = np.arange(n) % FOLDS
    parts: list[Floats | None] = [None] * FOLDS
    for turn in range(rounds):
        for part in range(FOLDS):  # what a row is, is guessed by the others: it does not vouch for itself
            used = np.concatenate([fold != part, np.ones(len(made), dtype=bool)])
            steps = STEPS if parts[part] is None else EM_STEPS
            parts[part] = fit_softmax(z[used], target[used], strength=pull, start=parts[part], steps=steps)
        if turn == 0 and not keep_rates:  # more than the first guess is rather how unsteady labels and teachers are
            logs = [
                (np.where(may[fold == part], z[:n][fold == part] @ w, -np.inf), z[n:] @ w)
                for part, w in enumerate(parts)
                if w is not None
            ]
            most = np.minimum(first[1:], _most_rates(logs, kind, n_kinds))
        sizes = np.maximum(target.sum(axis=0), 1e-9)  # a kind that was not made is never found
        guessed = [z[:n][fold == part] @ weights - np.log(sizes) for part, weights in enumerate(parts)]
        for part, logs in enumerate(guessed):
            target[:n][fold == part] = softmax(np.where(may[fold == part], logs + np.log(rates), -np.inf))
        if not keep_rates:  # with as many rows of doubt as `GUESSED_ROWS`, so that few rows do not claim certainty
            rates = (target[:n].sum(axis=0) + GUESSED_ROWS * first) / (n + GUESSED_ROWS)
            rates[1:] = np.minimum(rates[1:], most)
            rates[0] = 1 - rates[1:].sum()
    sizes = np.maximum(target.sum(axis=0), 1e-9)
    weights = fit_softmax(z, target, strength=pull, start=parts[0])
    coefficients = weights.copy()
    coefficients[0] -= np.log(sizes)
    return Contrast(scale, coefficients, rates)


def _most_rates(logs: Sequence[tuple[Floats, Floats]], kind: Ints, n_kinds: int) -> Floats:
    """Return (K - 1,) bounds on the rates of the made kinds among the unknown rows.

    If a share r of the unknown rows is of a kind, then of the unknown rows at least r · q score as high as the share q
    of the made rows with the highest scores (the mixture proportion bound, Blanchard, Lee and Scott 2010). An EM alone
    would take whatever is a little like the kind for it. Counts are taken at the upper
    end of their exact one-sided 95 % interval.

    Args:
        logs: of each fold, log odds of its unknown rows (fitted without them) and of all made rows, by kind.
        kind: (M,) of the made rows.
        n_kinds: K.
    """
    n = sum(len(unknown) for unknown, _ in logs)
    most = np.ones(n_kinds - 1)
    for one in range(1, n_kinds):
        if not (kind == one).any():
            continue
        scores = [
            (unknown[:, one] - unknown[:, 0], (made[:, one] - made[:, 0])[kind == one]) for unknown, made in logs
        ]
        for share in PURE:
            count = sum(int((unknown > np.quantile(made, 1 - share)).sum()) for unknown, made in scores)
            most[one - 1] = min(most[one - 1], float(gammaincinv(count + 1, SURE)) / (n * share))
    return most


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
