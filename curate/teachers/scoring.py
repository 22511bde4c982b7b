"""Rows against a fitted model: a row's score depends on nothing but the row and the model."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from curate.teachers.flag_model import FlagModel, Scores
from curate.teachers.mixture import log_odds_wrong, posterior
from curate.teachers.noise import Bools, Floats, Ints
from curate.teachers.pool import linear_pool, log_pool, log_probs
from curate.teachers.rare_classes import beyond

CHUNK_CELLS = 250_000  # rows x teachers x classes at once: what a core's cache holds
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
    step = max(1, CHUNK_CELLS // probs[0].shape[1])
    for teacher in range(len(probs) - 1, -1, -1):
        for start in range(0, len(given), step):
            part = slice(start, start + step)
            valid, absent = _validity(probs[teacher][part])
            answered[part, teacher] = valid
            bad[part][~absent & ~valid] = teacher
    labeled = (given >= 0) & (given < probs[0].shape[1])
    return labeled & (bad < 0) & answered.any(axis=1), answered, bad


def _validity(values: Floats) -> tuple[Bools, Bools]:
    """Return which rows are probabilities, and which are no answer at all (NaN only)."""
    values = values.astype(np.float64 if values.dtype == np.float64 else np.float32, copy=False)
    with np.errstate(invalid="ignore", over="ignore"):
        total = values.sum(axis=1)
        valid = (values.min(axis=1) >= 0) & (np.abs(total - 1.0) <= SUM_TOLERANCE)  # NaN compares false
    absent = np.isnan(total)
    absent[absent] = np.isnan(values[absent]).all(axis=1)
    return valid, absent


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


def score_flags(
    model: FlagModel, given: Ints, names: Sequence[str], probs: Sequence[Floats], *, workers: int = 1
) -> Scores:
    """Score rows; a row's result depends on nothing but the row and the model.

    Args:
        model: fitted.
        given: (N,) class indices; outside 0 … K - 1 = no usable label.
        names: T teachers.
        probs: T arrays (N, K) in the order of `names`.
        workers: threads.
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

    def score_part(start: int) -> None:
        part = rows[start : start + step]
        block = np.empty((len(part), len(kept), model.n_classes), dtype=np.float32)
        for place, m in enumerate(kept):
            block[:, place] = probs[m][part]
        answers = answered[part][:, kept]
        block[~answers] = 1.0 / model.n_classes
        _score_block(model, scores, part, given[part], block, answers)

    with ThreadPoolExecutor(workers) as threads:  # each writes rows of its own: who is first leaves no trace
        list(threads.map(score_part, range(0, len(rows), step)))
    return scores


def distances(model: FlagModel, given: Ints, probs: Floats, answered: Bools) -> tuple[Floats, Bools]:
    """Return (n,) how far beyond the cut each label is, before rare classes are spared, and whether it is in doubt.

    Args:
        model: fitted.
        given: (n,).
        probs: (n, T, K) of the kept teachers, rows that sum to one.
        answered: (n, T).
    """
    logs = log_probs(probs)
    if model.rule == "channel":
        log_q = log_pool(logs, answered, model.channel_weights)
        distance = log_odds_wrong(log_q, given, model.transition).astype(np.float64)
        return distance, distance >= 0
    if model.rule == "margin":
        score = margin(log_pool(logs, answered, model.weights), given, model.tau).astype(np.float64)
        return score - model.cut, score > 0
    score = self_doubt(linear_pool(probs, answered, model.weights), given, model.tau).astype(np.float64)
    return _LINEAR_SCALE * (score - model.cut), score >= model.cut


def _blank(n_rows: int) -> Scores:
    nan = np.full(n_rows, np.nan)
    none = np.zeros(n_rows, dtype=np.int64)
    no = np.zeros(n_rows, dtype=bool)
    return Scores(
        no.copy(), nan.copy(), no.copy(), none - 1, nan.copy(), none.copy(), none.copy(), nan.copy(), nan.copy(),
        none - 1, no.copy(),
    )  # fmt: skip


def _score_block(model: FlagModel, out: Scores, rows: Ints, given: Ints, probs: Floats, answered: Bools) -> None:
    """Fill `out` at `rows` from (n, T, K) float32 probabilities of the kept teachers; changes `probs`."""
    probs /= probs.sum(axis=2, keepdims=True)
    log_q = log_pool(log_probs(probs), answered, model.channel_weights)
    distance, doubt = distances(model, given, probs, answered)
    first_choice = probs.argmax(axis=2)
    if model.offsets.size:
        distance = beyond(distance, model.offsets[given])
    truth = posterior(log_q, given, model.transition)
    others = truth.copy()
    np.put_along_axis(others, given[:, None], -1.0, axis=1)
    suggested = np.where(doubt | (distance >= 0), others.argmax(axis=1), given)
    n_answered = answered.sum(axis=1)
    probs[~answered] = 0.0
    at_given, at_suggested = (
        np.take_along_axis(probs, c[:, None, None], axis=2)[:, :, 0] for c in (given, suggested)
    )
    out.judged[rows] = True
    out.risk[rows] = 0.5 + 0.5 * distance / (1.0 + np.abs(distance))
    out.flagged[rows] = distance >= 0
    out.suggested[rows] = suggested
    out.suggested_prob[rows] = np.take_along_axis(truth, suggested[:, None], axis=1)[:, 0]
    out.n_agree[rows] = ((first_choice == suggested[:, None]) & answered).sum(axis=1)
    out.n_teachers[rows] = n_answered
    out.suggested_mean[rows] = at_suggested.sum(axis=1) / n_answered
    out.given_mean[rows] = at_given.sum(axis=1) / n_answered
