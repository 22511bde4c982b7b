"""Rows against a fitted model: a row's score depends on nothing but the row and the model."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from curate.teachers.flag_model import FlagModel, Scores
from curate.teachers.mixture import log_odds_wrong, posterior
from curate.teachers.noise import Bools, Floats, Ints
from curate.teachers.pool import linear_pool, log_pool, log_probs

CHUNK_CELLS = 2_000_000
SUM_TOLERANCE = 0.02  # float16 rounding of a thousand classes stays below

_LINEAR_SCALE = 4.0


def usable_rows(given: Ints, probs: Sequence[Floats]) -> tuple[Bools, Bools, Ints]:
    """Say which rows can be judged.

    Args:
        given: (N,).
        probs: T arrays (N, K).

    Returns:
        (N,) usable: the label is a class, no teacher is invalid, one has an answer; (N, T) answered;
        (N,) the first invalid teacher or -1. Invalid: not finite, negative, or a sum off one by over .02.

    Raises:
        InputError: a teacher that is invalid in every row that it answers (logits, perhaps, or percentages).
    """
    answered = np.empty((len(given), len(probs)), dtype=bool)
    bad = np.full(len(given), -1)
    for teacher in range(len(probs) - 1, -1, -1):
        values = probs[teacher]
        absent = np.isnan(values).all(axis=1)
        with np.errstate(invalid="ignore", over="ignore"):
            total = values.sum(axis=1, dtype=np.float64)
            valid = (values.min(axis=1) >= 0) & (np.abs(total - 1.0) <= SUM_TOLERANCE)  # NaN compares false
        answered[:, teacher] = ~absent & valid
        bad[~absent & ~valid] = teacher
    labeled = (given >= 0) & (given < probs[0].shape[1])
    return labeled & (bad < 0) & answered.any(axis=1), answered, bad


def margin(log_q: Floats, given: Ints, tau: Floats) -> Floats:
    """Return (N,) max over k ≠ given of (log q_k - log tau_k), less the same of the given class, in nats."""
    adjusted = log_q - np.log(tau)
    right = np.take_along_axis(adjusted, given[:, None], axis=1)[:, 0]
    np.put_along_axis(adjusted, given[:, None], -np.inf, axis=1)
    return np.asarray(adjusted.max(axis=1) - right)


def self_doubt(pool: Floats, given: Ints, tau: Floats) -> Floats:
    """Return (N,) 1 - (p_given - tau_given), for pools whose first choice is often wrong."""
    at_given = np.take_along_axis(pool, given[:, None], axis=1)[:, 0]
    return np.asarray(1.0 - (at_given - tau[given]))


def score_flags(model: FlagModel, given: Ints, names: Sequence[str], probs: Sequence[Floats]) -> Scores:
    """Score rows; a row's result depends on nothing but the row and the model.

    Args:
        model: fitted.
        given: (N,) class indices; outside 0 … K - 1 = no usable label.
        names: T teachers.
        probs: T arrays (N, K) in the order of `names`.
    """
    n_rows = len(given)
    scores = _blank(n_rows)
    usable, answered, bad = usable_rows(given, probs)
    np.copyto(scores.bad_teacher, bad)
    np.copyto(scores.outside, (given < 0) | (given >= model.n_classes))
    if model.rule == "none":
        return scores
    kept = [list(names).index(name) for name in model.names]
    usable &= answered[:, kept].any(axis=1)
    rows = np.flatnonzero(usable)
    step = max(1, CHUNK_CELLS // (len(kept) * model.n_classes))
    for start in range(0, len(rows), step):
        part = rows[start : start + step]
        block = np.stack(
            [np.where(answered[part, m, None], probs[m][part], 1.0 / model.n_classes) for m in kept], 1
        )
        _score_block(model, scores, part, given[part], block.astype(np.float64), answered[part][:, kept])
    return scores


def _blank(n_rows: int) -> Scores:
    nan = np.full(n_rows, np.nan)
    none = np.zeros(n_rows, dtype=np.int64)
    no = np.zeros(n_rows, dtype=bool)
    return Scores(
        no.copy(), nan.copy(), no.copy(), none - 1, nan.copy(), none.copy(), none.copy(), nan.copy(), nan.copy(),
        none - 1, no.copy(),
    )  # fmt: skip


def _score_block(model: FlagModel, out: Scores, rows: Ints, given: Ints, probs: Floats, answered: Bools) -> None:
    """Fill `out` at `rows` from (n, T, K) probabilities of the kept teachers."""
    probs /= probs.sum(axis=2, keepdims=True)
    logs = log_probs(probs)
    log_q = log_pool(logs, answered, model.channel_weights)
    if model.rule == "channel":
        distance = log_odds_wrong(log_q, given, model.transition)
        doubt = distance >= 0
    elif model.rule == "margin":
        score = margin(log_pool(logs, answered, model.weights), given, model.tau)
        distance, doubt = score - model.cut, score > 0
    else:
        score = self_doubt(linear_pool(probs, answered, model.weights), given, model.tau)
        distance, doubt = _LINEAR_SCALE * (score - model.cut), score >= model.cut
    truth = posterior(log_q, given, model.transition)
    others = truth.copy()
    np.put_along_axis(others, given[:, None], -1.0, axis=1)
    suggested = np.where(doubt | (distance >= 0), others.argmax(axis=1), given)
    n_answered = answered.sum(axis=1)
    mean = np.where(answered[:, :, None], probs, 0.0).sum(axis=1) / n_answered[:, None]
    out.judged[rows] = True
    out.risk[rows] = 0.5 + 0.5 * distance / (1.0 + np.abs(distance))
    out.flagged[rows] = distance >= 0
    out.suggested[rows] = suggested
    out.suggested_prob[rows] = np.take_along_axis(truth, suggested[:, None], axis=1)[:, 0]
    out.n_agree[rows] = ((probs.argmax(axis=2) == suggested[:, None]) & answered).sum(axis=1)
    out.n_teachers[rows] = n_answered
    out.suggested_mean[rows] = np.take_along_axis(mean, suggested[:, None], axis=1)[:, 0]
    out.given_mean[rows] = np.take_along_axis(mean, given[:, None], axis=1)[:, 0]
