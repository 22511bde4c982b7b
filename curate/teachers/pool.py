"""Several teachers' probabilities into one: a weighted log pool and a weighted linear pool.

Everything that is applied to rows works row by row without matrix products, so that a row's result is the same
bit for bit whatever batch it stands in.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import combinations_with_replacement

import numpy as np

from curate.teachers.newton import Derivatives, is_flat, minimize_within
from curate.teachers.noise import Bools, Floats, Ints

PROB_FLOOR = 1e-6
MAX_WEIGHT = 20.0
_EM_ROUNDS = 200
_PART_CELLS = 50_000  # rows x classes at once: what a core's cache holds
_TINY = 1e-300
_FIRST_ROWS = 2_500  # that a fit begins with: rows stand in the order of their hashes
_CURVED_ROWS = 4_000
_LINE_SEARCH = 1e-3  # of what the gradient promises, as L-BFGS-B asks for


def highest(values: Floats) -> Floats:
    """Return (n,) the highest of each row of (n, K): where it is takes NumPy half the time of what it is."""
    return np.asarray(values.reshape(-1).take(np.arange(len(values)) * values.shape[1] + values.argmax(axis=1)))


def softmax(logits: Floats) -> Floats:
    """Return probabilities over the last axis."""
    shifted = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return np.asarray(shifted / shifted.sum(axis=-1, keepdims=True))


def log_probs(probs: Floats) -> Floats:
    """Return log probabilities, floored at PROB_FLOOR so that one zero of one teacher is no veto; their own width."""
    logs = np.maximum(probs, probs.dtype.type(PROB_FLOOR))
    return np.asarray(np.log(logs, out=logs))


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
    n_rows, n_teachers, _ = logs.shape
    channel = None if transition is None else np.ascontiguousarray(transition.T, dtype=logs.dtype)
    begin = np.full(n_teachers, 1.0 / n_teachers) if start is None else start
    if not answered.all():
        weights, value = _scipy(lambda point: _loss_of_some(logs, answered, given, channel, point), begin)
    elif channel is None:
        weights, value = _fit_plain(logs, given, begin)
    else:
        weights, value = _first_step(logs, given, channel, begin) or _scipy(
            lambda point: _loss(logs, given, channel, point)[:2], begin
        )
    weights = np.round(weights, 9)
    if weights.sum() <= 0:  # no teacher says anything about the labels: all count alike
        weights = begin
    return weights, -value * n_rows


def _parts(n_rows: int, n_classes: int) -> list[slice]:
    step = max(1, _PART_CELLS // n_classes)
    return [slice(start, start + step) for start in range(0, n_rows, step)]


def _fit_plain(logs: Floats, given: Ints, start: Floats) -> tuple[Floats, float]:
    """Return weights and mean loss without a channel: a convex loss, with one end wherever one begins."""
    if len(logs) > 2 * _FIRST_ROWS:
        few = logs[:_FIRST_ROWS], given[:_FIRST_ROWS]
        found = _first_step(*few, None, start) and _first_step(logs, given, None, start)
        if found is not None:
            return found
        start, _ = minimize_within(lambda point: _loss(*few, None, point, n_curved=_FIRST_ROWS), start, MAX_WEIGHT)
    else:
        found = _first_step(logs, given, None, start)
        if found is not None:
            return found
    return minimize_within(lambda point: _loss(logs, given, None, point, n_curved=_CURVED_ROWS), start, MAX_WEIGHT)


def _first_step(logs: Floats, given: Ints, channel: Floats | None, start: Floats) -> tuple[Floats, float] | None:
    """Return where L-BFGS-B ends if its first step, the gradient, leads to where all is flat; else None.

    That is so where teachers are sure: what is computed there costs less than SciPy takes to load.
    """
    value, gradient, _ = _loss(logs, given, channel, start)
    there = np.clip(start - gradient, 0.0, MAX_WEIGHT)
    found, slope, _ = _loss(logs, given, channel, there)
    falls = found <= value - _LINE_SEARCH * float(gradient @ (start - there))
    return (there, found) if falls and is_flat(there, slope, MAX_WEIGHT) else None


def _loss(logs: Floats, given: Ints, channel: Floats | None, weights: Floats, *, n_curved: int = 0) -> Derivatives:
    """Return the mean loss of weights, its gradient and its curvature, where all teachers answered every row.

    With q the pool and r its posterior given the label, the log likelihood has the gradient E_r[log p_m] - E_q[log p_m]
    and the second derivatives Cov_r - Cov_q of the teachers' log probabilities. The latter are taken from the first
    `n_curved` rows, which are a sample: they say how long a step is, not where it ends.
    """
    n_rows, n_teachers, n_classes = logs.shape
    total, gradient, curvature, seen = 0.0, np.zeros(n_teachers), np.zeros((n_teachers, n_teachers)), 0
    for part in _parts(n_rows, n_classes):
        found = [logs[part, m] for m in range(n_teachers)]
        pool, likelihood, posterior = _pool_and_posterior(found, given[part], channel, weights)
        total += float(np.log(np.maximum(likelihood.astype(np.float64), _TINY)).sum())
        if part.start < n_curved:
            curvature += _covariances(pool, found) - _covariances(posterior, found)
            seen = min(part.stop, n_rows)
        slope = np.subtract(pool, posterior, out=pool)
        gradient += np.sum([np.einsum("nk,nk->n", slope, log) for log in found], axis=1, dtype=np.float64)
    return -total / n_rows, gradient / n_rows, curvature / max(seen, 1)


def _covariances(probs: Floats, logs: Sequence[Floats]) -> Floats:
    """Return (T, T) covariances of the teachers' log probabilities under (n, K) probabilities, summed over rows."""
    weighted = [np.multiply(probs, log) for log in logs]
    means = np.stack([np.einsum("nk->n", w) for w in weighted])
    found = np.zeros((len(logs), len(logs)))
    for one, other in combinations_with_replacement(range(len(logs)), 2):
        mixed = np.einsum("nk,nk->n", weighted[one], logs[other]) - means[one] * means[other]
        found[one, other] = found[other, one] = mixed.sum(dtype=np.float64)
    return found


def _pool_and_posterior(
    logs: Sequence[Floats], given: Ints, channel: Floats | None, weights: Floats
) -> tuple[Floats, Floats, Floats]:
    """Return (n, K) the pool, (n,) the likelihood of the given labels and (n, K) the posterior given them."""
    rows = np.arange(len(given))
    pool = logs[0] * logs[0].dtype.type(weights[0])
    spare = np.empty_like(pool)
    for log, weight in zip(logs[1:], weights[1:], strict=True):
        pool += np.multiply(log, log.dtype.type(weight), out=spare)
    pool -= highest(pool)[:, None]
    np.exp(pool, out=pool)
    pool /= np.einsum("nk->n", pool)[:, None]
    if channel is None:
        likelihood = pool[rows, given]
        spare[:] = 0.0
        spare[rows, given] = 1.0
        return pool, likelihood, spare
    np.take(channel, given, axis=0, out=spare, mode="clip")
    spare *= pool
    likelihood = np.einsum("nk->n", spare)
    spare /= np.maximum(likelihood, np.finfo(spare.dtype).tiny)[:, None]
    return pool, likelihood, spare


def _loss_of_some(
    logs: Floats, answered: Bools, given: Ints, channel: Floats | None, weights: Floats
) -> tuple[float, Floats]:
    """Return mean loss and gradient where the weights of silent teachers go to the others."""
    n_rows, n_teachers, n_classes = logs.shape
    log_likelihood, gradient = 0.0, np.zeros(n_teachers)
    for part in _parts(n_rows, n_classes):
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


def _scipy(loss: Callable[[Floats], tuple[float, Floats]], start: Floats) -> tuple[Floats, float]:
    from scipy.optimize import minimize  # noqa: PLC0415 - takes longer to load than most tables to fit

    bounds = [(0.0, MAX_WEIGHT)] * len(start)
    result = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": 100})
    return result.x, float(result.fun)


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
