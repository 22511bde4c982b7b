"""Log pool or linear pool: which of them ranks better what a teacher contradicts that had no part in it."""

from __future__ import annotations

import numpy as np

from curate.teachers.noise import Bools, Floats, Ints
from curate.teachers.pool import class_means, fit_linear_weights, fit_log_weights, linear_pool, log_pool, log_probs
from curate.teachers.scoring import margin, self_doubt

FIT_ROWS = 6_000  # rows stand in the order of their hashes: the first are a sample
MIN_GAIN = 0.005  # of average precision


def log_ranks_better(probs: Floats, answered: Bools, votes: Ints, given: Ints) -> bool:
    """Whether the margin of the log pool ranks better than the doubt of the linear pool, by held-out teachers.

    Each teacher in turn is left out; both pools of the others rank the labels, and the labels that it contradicts are
    what is to be found. Teachers that are surer than they are right spoil a log pool more than a linear one. The log
    pool has to win for every teacher, and by MIN_GAIN on average.

    Args:
        probs: (N, T, K) of two teachers or more.
        answered: (N, T).
        votes: (N, T).
        given: (N,).
    """
    rows = slice(FIT_ROWS)
    probs, answered, votes, given = probs[rows], answered[rows], votes[rows], given[rows]
    logs = log_probs(probs)
    gains = []
    for teacher in range(probs.shape[1]):
        rest = np.delete(np.arange(probs.shape[1]), teacher)
        seen = answered[:, teacher] & answered[:, rest].any(axis=1)
        contradicted = votes[seen, teacher] != given[seen]
        if not 0 < contradicted.sum() < len(contradicted):
            continue
        part = (answered[seen][:, rest], given[seen])
        by_log = _log_score(logs[seen][:, rest], *part)
        by_linear = _linear_score(probs[seen][:, rest], *part)
        gains.append(average_precision(by_log, contradicted) - average_precision(by_linear, contradicted))
    return bool(gains) and min(gains) > 0 and float(np.mean(gains)) > MIN_GAIN


def average_precision(score: Floats, wanted: Bools) -> float:
    """Return the mean, over the wanted rows, of the share of wanted rows among those that score no less."""
    order = np.argsort(-score, kind="stable")
    hits = np.cumsum(wanted[order])
    return float((hits / np.arange(1, len(order) + 1))[wanted[order]].mean())


def _log_score(logs: Floats, answered: Bools, given: Ints) -> Floats:
    weights, _ = fit_log_weights(logs, answered, given)
    log_q = log_pool(logs, answered, weights)
    return margin(log_q, given, class_means(np.exp(log_q), given))


def _linear_score(probs: Floats, answered: Bools, given: Ints) -> Floats:
    pool = linear_pool(probs, answered, fit_linear_weights(probs, answered, given))
    return self_doubt(pool, given, class_means(pool, given))
