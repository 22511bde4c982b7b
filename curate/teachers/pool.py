"""Several teachers' probabilities into one: a weighted log pool and a weighted linear pool.

Everything that is applied to rows works row by row without matrix products, so that a row's result is the same
bit for bit whatever batch it stands in.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.optimize import minimize

from curate.teachers.noise import Bools, Floats, Ints

PROB_FLOOR = 1e-6
MAX_WEIGHT = 20.0
_EM_ROUNDS = 200
_PART_CELLS = 100_000  # rows x classes at once: what a core's cache holds
_TINY = 1e-300


def softmax(logits: Floats) -> Floats:
    """Return probabilities over the last axis."""
    shifted = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return np.asarray(shifted / shifted.sum(axis=-1, keepdims=True))


def log_probs(probs: Floats) -> Floats:
    """Return log probabilities, floored at PROB_FLOOR so that one zero of one teacher is no veto; their own width."""
    return np.asarray(np.log(np.maximum(probs, probs.dtype.type(PROB_FLOOR))))


def effective_weights(weights: Floats, answered: Bools) -> Floats:
    """Return (N, T) weights: those of teachers without an answer go to the others in proportion."""
    used = np.where(answered, weights, 0.0)
    total = used.sum(axis=1, keepdims=True)
    n_answered = np.maximum(answered.sum(axis=1, keepdims=True), 1)
    plain = np.where(answered, weights.sum() / n_answered, 0.0)
    return np.asarray(np.where(total > 0, used * (weights.sum() / np.where(total > 0, total, 1.0)), plain))


def log_pool(logs: Floats, answered: Bools, weights: Floats) -> Floats:
    """Return (N, K) normalised log probabilities of the pool sum_m w_m log p_m.

    Args:
        logs: (N, T, K) log probabilities, see `log_probs`.
        answered: (N, T).
        weights: (T,), at least 0.
    """
    used = effective_weights(weights, answered).astype(logs.dtype)
    pooled = np.zeros((logs.shape[0], logs.shape[2]), dtype=logs.dtype)
    for teacher in range(logs.shape[1]):
        pooled += used[:, teacher, None] * logs[:, teacher]
    pooled -= pooled.max(axis=1, keepdims=True)
    return np.asarray(pooled - np.log(np.exp(pooled).sum(axis=1, keepdims=True)))


def linear_pool(probs: Floats, answered: Bools, weights: Floats) -> Floats:
    """Return (N, K) the weighted mean of the teachers' probabilities."""
    used = effective_weights(weights / weights.sum(), answered).astype(probs.dtype)
    pooled = np.zeros((probs.shape[0], probs.shape[2]), dtype=probs.dtype)
    for teacher in range(probs.shape[1]):
        pooled += used[:, teacher, None] * probs[:, teacher]
    return pooled


def fit_linear_weights(probs: Floats, answered: Bools, given: Ints) -> Floats:
    """Return (T,) weights of the linear pool that maximise the likelihood of the given labels (EM)."""
    at_given = np.take_along_axis(probs, given[:, None, None], axis=2)[:, :, 0]
    at_given = np.where(answered, np.maximum(at_given, PROB_FLOOR), 0.0)
    weights = np.full(probs.shape[1], 1.0 / probs.shape[1])
    for _ in range(_EM_ROUNDS):
        shares = at_given * weights
        shares /= np.maximum(shares.sum(axis=1, keepdims=True), PROB_FLOOR)
        fresh = shares.mean(axis=0)
        fresh /= fresh.sum()
        if np.abs(fresh - weights).max() < 1e-7:
            break
        weights = fresh
    return np.asarray(np.round(weights, 9))


def fit_log_weights(
    logs: Floats,
    answered: Bools,
    given: Ints,
    transition: Floats | None = None,
    *,
    start: Floats | None = None,
) -> tuple[Floats, float]:
    """Fit the log pool to the given labels: p(given | x) = sum_k softmax(sum_m w_m log p_m)_k T_k,given.

    Args:
        logs: (N, T, K).
        answered: (N, T).
        given: (N,).
        transition: (K, K) p(given = column | true = row); None = labels are never wrong.
        start: (T,) weights to begin with; None = the plain mean.

    Returns:
        (T,) weights ≥ 0 and the log likelihood (sum over rows, nats).
    """
    n_rows, n_teachers, n_classes = logs.shape
    channel = None if transition is None else np.ascontiguousarray(transition.T, dtype=logs.dtype)
    step = max(1, _PART_CELLS // n_classes)
    parts = [slice(start, start + step) for start in range(0, n_rows, step)]

    def loss(weights: Floats) -> tuple[float, Floats]:
        log_likelihood, gradient = 0.0, np.zeros(n_teachers)
        for part in parts:
            pool, y = np.exp(log_pool(logs[part], answered[part], weights)), given[part]
            if channel is None:
                likelihood = pool[np.arange(len(y)), y]
                pool[np.arange(len(y)), y] -= 1.0
                slope = pool
            else:
                joint = pool * channel[y]
                likelihood = joint.sum(axis=1)
                joint /= np.maximum(likelihood, np.finfo(joint.dtype).tiny)[:, None]
                slope = np.subtract(pool, joint, out=pool)
            log_likelihood += float(np.log(np.maximum(likelihood.astype(np.float64), _TINY)).sum())
            by_row = [np.einsum("nk,nk->n", slope, logs[part, m]) for m in range(n_teachers)]
            gradient += np.sum(by_row, axis=1, dtype=np.float64)
        return -log_likelihood / n_rows, gradient / n_rows

    weights, value = _minimize(loss, np.full(n_teachers, 1.0 / n_teachers) if start is None else start)
    return weights, -value * n_rows


def _minimize(loss: Callable[[Floats], tuple[float, Floats]], start: Floats) -> tuple[Floats, float]:
    result = minimize(
        loss, start, jac=True, method="L-BFGS-B", bounds=[(0.0, MAX_WEIGHT)] * len(start), options={"maxiter": 100}
    )
    weights = np.round(result.x, 9)
    if weights.sum() <= 0:  # no teacher says anything about the labels: all count alike
        weights = start
    return weights, float(result.fun)


def class_means(pool: Floats, given: Ints) -> Floats:
    """Return (K,) tau_k, the mean pooled probability of class k over the rows that are labeled k.

    Classes with few rows shrink towards the mean over classes, with the weight of five rows.
    """
    n_classes = pool.shape[1]
    at_given = np.take_along_axis(pool, given[:, None], axis=1)[:, 0]
    n_rows = np.bincount(given, minlength=n_classes)
    total = np.bincount(given, weights=at_given, minlength=n_classes)
    seen = n_rows > 0
    centre = (total[seen] / n_rows[seen]).mean() if seen.any() else 1.0 / n_classes
    return np.asarray(np.round(np.maximum((total + 5.0 * centre) / (n_rows + 5.0), PROB_FLOOR), 9))


def confidence_scale(log_q: Floats, accuracy: float) -> float:
    """Return the factor on the log probabilities at which the mean highest probability is `accuracy`.

    Between 1 (never less sure than fitted) and 20, by bisection; the mean grows with the factor.
    """
    low, high = 1.0, 20.0
    for _ in range(30):
        middle = 0.5 * (low + high)
        if float(softmax(log_q * middle).max(axis=1).mean()) < accuracy:
            low = middle
        else:
            high = middle
    return 0.5 * (low + high)
