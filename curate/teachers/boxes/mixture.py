"""What rows of unknown kind are, learnt from them and from rows that were made to be of a kind: a mixture, by EM."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import gammaincinv

from curate.teachers.boxes.geometry import Bools, Floats, Ints
from curate.teachers.boxes.logistic import STEPS, Scale, fit_softmax, softmax

EM_STEPS = 3  # in a round of the EM: the targets change anyhow
GUESSED_ROWS = 20  # what the first guess of the rates counts
PULL = 20.0  # on the coefficients of kinds, in rows: errors at hand are not quite like those that were made
MOST_PULLS = 2.0
FEW = 2_000  # unknown rows; with fewer the pull grows, lest the few that are wrong are learnt by heart as right
FOLDS = 3  # of the unknown rows: a row that was fitted as right would vouch for itself
PURE = (0.1, 0.2, 0.3, 0.5)  # shares of the made rows, those that are the least like unknown ones
SURE = 0.95  # that a bound on a rate holds for the counts it is from


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
    scale = Scale.of(np.concatenate([unknown, made]))
    may = np.ones((len(unknown), len(rates)), dtype=bool) if possible is None else possible
    pull = PULL * float(np.clip(FEW / max(len(unknown), 1), 1.0, MOST_PULLS))
    rows = _Rows(scale.apply(unknown), scale.apply(made), kind, may, pull)
    target = rows.first_target()
    first, most = rates, rates[1:]
    parts: list[Floats | None] = [None] * FOLDS
    for turn in range(rounds):
        fitted = rows.fit_folds(target, parts)
        if turn == 0 and not keep_rates:  # more than the first guess is rather how unsteady labels and teachers are
            most = np.minimum(first[1:], _most_rates(rows.logs(fitted), kind, len(rates)))
        rows.guess(target, fitted, rates)
        if not keep_rates:  # with as many rows of doubt as `GUESSED_ROWS`, so that few rows do not claim certainty
            n = len(unknown)
            rates = (target[:n].sum(axis=0) + GUESSED_ROWS * first) / (n + GUESSED_ROWS)
            rates[1:] = np.minimum(rates[1:], most)
            rates[0] = 1 - rates[1:].sum()
        parts = list(fitted)
    coefficients = fit_softmax(rows.all, target, strength=pull, start=parts[0])
    coefficients[0] -= np.log(np.maximum(target.sum(axis=0), 1e-9))
    return Contrast(scale, coefficients, rates)


@dataclass(frozen=True, slots=True)
class _Rows:
    """Scaled evidence of unknown and made rows; unknown ones are in turn of one of `FOLDS` folds."""

    unknown: Floats
    made: Floats
    kind: Ints
    may: Bools
    pull: float

    @property
    def all(self) -> Floats:
        return np.concatenate([self.unknown, self.made])

    @property
    def fold(self) -> Ints:
        return np.arange(len(self.unknown)) % FOLDS

    def first_target(self) -> Floats:
        """(N + M, K): every unknown row of the first kind, every made one of its own."""
        n = len(self.unknown)
        target = np.zeros((n + len(self.made), self.may.shape[1]))
        target[:n, 0] = 1.0
        target[n + np.arange(len(self.made)), self.kind] = 1.0
        return target

    def fit_folds(self, target: Floats, starts: Sequence[Floats | None]) -> list[Floats]:
        """Return for each fold what the others fit: what a row is, is guessed by them; it does not vouch for itself."""
        z, fitted = self.all, []
        for part, start in enumerate(starts):
            used = np.concatenate([self.fold != part, np.ones(len(self.made), dtype=bool)])
            steps = STEPS if start is None else EM_STEPS
            fitted.append(fit_softmax(z[used], target[used], strength=self.pull, start=start, steps=steps))
        return fitted

    def logs(self, fitted: Sequence[Floats]) -> list[tuple[Floats, Floats]]:
        """Return of each fold the log odds of its unknown rows and of all made rows."""
        own = [(self.fold == part, w) for part, w in enumerate(fitted)]
        return [(np.where(self.may[its], self.unknown[its] @ w, -np.inf), self.made @ w) for its, w in own]

    def guess(self, target: Floats, fitted: Sequence[Floats], rates: Floats) -> None:
        """Write into `target` the chances of the unknown rows, each by the other folds."""
        sizes = np.maximum(target.sum(axis=0), 1e-9)  # a kind that was not made is never found
        for part, w in enumerate(fitted):
            its = np.flatnonzero(self.fold == part)
            logs = self.unknown[its] @ w - np.log(sizes) + np.log(rates)
            target[its] = softmax(np.where(self.may[its], logs, -np.inf))


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
