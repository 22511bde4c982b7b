"""The mixture p(given | x) = sum_k q_k(x) T_k,given: what of the disagreement a noise channel explains."""

from __future__ import annotations

from dataclasses import dataclass
from math import lgamma
from typing import Any

import numpy as np

from curate.teachers.noise import Bools, Floats, Ints, uniform_transition
from curate.teachers.pool import MAX_WEIGHT, fit_log_weights, log_pool

_ROUNDS = 12
_MIN_RATE = 1e-6
_PRIOR_ROWS = 5.0
_MAX_RATE = 0.9  # of what labels at random would have
_BY_CLASS = 0.25


@dataclass(frozen=True, slots=True)
class Mixture:
    """A fitted channel.

    Attributes:
        weights: (T,) of the log pool q.
        transition: (K, K) p(given = column | true = row).
        rate: share of wrong labels that the channel implies.
        kind: "none" | "uniform" | "full", or "look_alike": uniform, where confusions by class go with the picture.
        log_likelihood: nats, sum over rows.
    """

    weights: Floats
    transition: Floats
    rate: float
    kind: str
    log_likelihood: float


def posterior(log_q: Floats, given: Ints, transition: Floats) -> Floats:
    """Return (N, K) p(true | teachers, given)."""
    joint = np.exp(log_q) * np.ascontiguousarray(transition.T.astype(log_q.dtype))[given]
    return np.asarray(joint / np.maximum(joint.sum(axis=1, keepdims=True), np.finfo(joint.dtype).tiny))


def log_odds_wrong(log_q: Floats, given: Ints, transition: Floats) -> Floats:
    """Return (N,) log p(label wrong) - log p(label right) under the channel, nats; never infinite."""
    channel = np.log(np.maximum(np.ascontiguousarray(transition.T), 1e-12)).astype(log_q.dtype)
    joint = log_q + channel[given]
    right = np.take_along_axis(joint, given[:, None], axis=1)[:, 0]
    np.put_along_axis(joint, given[:, None], -np.inf, axis=1)
    top = joint.max(axis=1)
    return np.asarray(top + np.log(np.exp(joint - top[:, None]).sum(axis=1)) - right)


def fit_mixture(logs: Floats, answered: Bools, given: Ints) -> Mixture:
    """Fit pool weights and channel by likelihood; no channel, a uniform one or a full one by extended BIC.

    A cell of the full channel is a parameter only where it holds two rows or more: confusions are few. That they may
    stand anywhere costs log C(cells, held) nats (Chen and Chen, Biometrika 2008): else the confusions of weak
    teachers pass for noise on clean labels.

    Args:
        logs: (N, T, K) log probabilities of the teachers.
        answered: (N, T).
        given: (N,).
    """
    return fit_floor(logs, answered, given)[0]


def fit_floor(logs: Floats, answered: Bools, given: Ints) -> tuple[Mixture, float]:
    """Return `fit_mixture` and the rate of the uniform channel alone, 0 where the likelihood (BIC) asks for none."""
    n_rows, n_teachers, n_classes = logs.shape
    weights, likelihood = fit_log_weights(logs, answered, given)
    none = Mixture(weights, uniform_transition(0.0, n_classes), 0.0, "none", likelihood)
    uniform = _fit_uniform(logs, answered, given, none)
    candidates: list[tuple[Mixture, float]] = [(none, n_teachers), (uniform, n_teachers + 1)]
    if n_rows >= n_classes * (n_classes - 1):
        full, n_held = _fit_full(logs, answered, given, uniform)
        anywhere = _log_choose(n_classes * (n_classes - 1), n_held)
        full_cost = n_teachers + n_held + 2.0 * anywhere / np.log(n_rows)
        candidates.append((full, full_cost))
    best = max(candidates, key=lambda pair: pair[0].log_likelihood - 0.5 * pair[1] * np.log(n_rows))[0]
    best = _look_alike(best, uniform, n_rows) if best.kind == "full" else best
    asked = uniform.log_likelihood - likelihood > 0.5 * np.log(n_rows)
    return best, uniform.rate if asked else 0.0


def _look_alike(full: Mixture, uniform: Mixture, n_rows: int) -> Mixture:
    """Return the full channel, or a uniform one of its rate where confusions by class tell little about wrong labels.

    Annotators take a picture for what it looks like. That leaves confusions between look-alike classes too, but the
    picture says which: counted once more by class, they rank right labels of confused classes above wrong ones of
    others. Where labels are wrong by class alone, knowing the class saves up to log(K - 1) nats a wrong label; the
    full channel stands where it saves a quarter of that. Else it says how many labels are wrong, and a uniform one
    which: they are cut at that rate.
    """
    n_classes = len(full.transition)
    saved = (full.log_likelihood - uniform.log_likelihood) / (n_rows * max(full.rate, _MIN_RATE))
    if saved >= _BY_CLASS * np.log(n_classes - 1):
        return full
    rate = min(full.rate, _MAX_RATE * (1.0 - 1.0 / n_classes))
    return Mixture(uniform.weights, uniform_transition(rate, n_classes), rate, "look_alike", uniform.log_likelihood)


def _log_choose(n: int, k: int) -> float:
    return lgamma(n + 1) - lgamma(k + 1) - lgamma(n - k + 1)


def _fit_uniform(logs: Floats, answered: Bools, given: Ints, none: Mixture) -> Mixture:
    """Fit pool weights and the one rate together, from a low and a middling rate; the likeliest end counts.

    Where both end below what is likely without noise (`none`), its weights are a third start: those of teachers that
    are too sure are far from alike ones of sum one, and the way there ends early.
    """
    from scipy.optimize import minimize  # noqa: PLC0415 - takes longer to load than most tables to fit

    n_rows, n_teachers, n_classes = logs.shape

    def loss(point: Floats) -> tuple[float, Floats]:
        weights, rate = point[:-1], point[-1]
        other = rate / (n_classes - 1)
        pool = np.exp(log_pool(logs, answered, weights))
        at_given = np.take_along_axis(pool, given[:, None], axis=1)[:, 0]
        likelihood = np.maximum((1.0 - rate) * at_given + other * (1.0 - at_given), 1e-300)
        joint = pool * other
        np.put_along_axis(joint, given[:, None], ((1.0 - rate) * at_given)[:, None], axis=1)
        slope = pool - joint / likelihood[:, None]
        by_weight = [(slope * logs[:, m]).sum() for m in range(n_teachers)]
        by_rate = ((at_given - (1.0 - at_given) / (n_classes - 1)) / likelihood).sum()
        return -float(np.log(likelihood).mean()), np.array([*by_weight, by_rate]) / n_rows

    bounds = [(0.0, MAX_WEIGHT)] * n_teachers + [(_MIN_RATE, _MAX_RATE * (1.0 - 1.0 / n_classes))]
    ends: list[Any] = []
    alike = np.full(n_teachers, 1.0 / n_teachers)
    for first, start in ((alike, 0.05), (alike, 0.25), (none.weights, 0.02)):
        if len(ends) == 2 and -min(float(end.fun) for end in ends) * n_rows > none.log_likelihood:
            break
        point = np.append(first, start)
        ends.append(minimize(loss, point, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": 200}))
    best = min(ends, key=lambda end: float(end.fun))
    weights, rate = np.round(best.x[:-1], 9), round(float(best.x[-1]), 9)
    if weights.sum() <= 0:
        weights = np.full(n_teachers, 1.0 / n_teachers)
    return Mixture(weights, uniform_transition(rate, n_classes), rate, "uniform", -float(best.fun) * n_rows)


def _fit_full(logs: Floats, answered: Bools, given: Ints, start: Mixture) -> tuple[Mixture, int]:
    """EM on the whole matrix, smoothed towards the uniform one by a few rows a class; and how many cells it holds."""
    n_classes = logs.shape[2]
    prior = _PRIOR_ROWS * uniform_transition(max(start.rate, 1e-3), n_classes)
    matrix, weights, before = start.transition, start.weights, -np.inf
    likelihood = start.log_likelihood
    for _ in range(_ROUNDS):
        share = posterior(log_pool(logs, answered, weights), given, matrix)
        counts = prior.copy()
        np.add.at(counts.T, given, share)
        matrix = counts / counts.sum(axis=1, keepdims=True)
        weights, likelihood = fit_log_weights(logs, answered, given, matrix, start=weights)
        if likelihood - before < 1e-2:
            break
        before = likelihood
    true_share = np.exp(log_pool(logs, answered, weights)).mean(axis=0)
    rate = float(1.0 - (true_share * np.diag(matrix)).sum())
    held = (counts - prior >= 2.0) & ~np.eye(n_classes, dtype=bool)
    return Mixture(weights, matrix, rate, "full", likelihood), int(held.sum())
