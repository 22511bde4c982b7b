"""Rows against a fitted model: a row's score depends on nothing but the row and the model."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Self

import numpy as np

from curate.teachers.flag_model import FlagModel, Scores
from curate.teachers.noise import Bools, Floats, Ints
from curate.teachers.score_kernel import (
    CHUNK_CELLS,
    Plan,
    Room,
    add_to_pools,
    best_other,
    in_float32,
    judge,
    score_part,
    share_out,
    validity,
)


def usable_rows(given: Ints, probs: Sequence[Floats]) -> tuple[Bools, Bools, Ints]:
    """Say which rows can be judged.

    Args:
        given: (N,).
        probs: T arrays (N, K).

    Returns:
        (N,) usable: the label is a class, no teacher is invalid, one has an answer; (N, T) answered;
        (N,) the first invalid teacher or -1. Invalid: not finite, negative, or a sum off one by over .02.
    """
    n_rows, n_classes = len(given), probs[0].shape[1]
    answered = np.empty((n_rows, len(probs)), dtype=bool)
    bad = np.full(n_rows, -1)
    step = max(1, CHUNK_CELLS // n_classes)
    buffer = np.empty((min(step, n_rows), n_classes), dtype=np.float32)
    for start in range(0, n_rows, step):
        part = slice(start, start + step)
        for teacher, values in enumerate(probs):
            answered[part, teacher] = validity(in_float32(values[part], buffer), teacher, bad[part])[0]
    labeled = (given >= 0) & (given < n_classes)
    return labeled & (bad < 0) & answered.any(axis=1), answered, bad


def margin(log_q: Floats, given: Ints, tau: Floats) -> Floats:
    """Return (N,) max over k ≠ given of (log q_k - log tau_k), less the same of the given class, in nats."""
    _, top, right = best_other(log_q - np.log(tau).astype(log_q.dtype), given)
    return np.asarray(top - right)


def self_doubt(pool: Floats, given: Ints, tau: Floats) -> Floats:
    """Return (N,) 1 - (p_given - tau_given), for pools whose first choice is often wrong."""
    at_given = np.take_along_axis(pool, given[:, None], axis=1)[:, 0]
    return np.asarray(1.0 - (at_given - tau[given]))


class Scorer:
    """A fitted model with the threads and the memory to score batch after batch with it.

    Args:
        model: fitted.
        names: T teachers, in the order in which their probabilities come.
        workers: threads.
    """

    def __init__(self, model: FlagModel, names: Sequence[str], *, workers: int = 1) -> None:
        self._model = model
        self._step = max(1, CHUNK_CELLS // max(model.n_classes, 1))
        is_fitted = model.rule != "none"  # too few rows have no score
        self._plan = Plan.of(model, [list(names).index(name) for name in model.names]) if is_fitted else None
        self._rooms: list[Room | None] = [None] * workers
        self._threads = ThreadPoolExecutor(workers) if workers > 1 and is_fitted else None

    def __enter__(self) -> Self:
        """Return the scorer, whose threads end with the block."""
        return self

    def __exit__(self, *exception: object) -> None:
        """End the threads."""
        if self._threads is not None:
            self._threads.shutdown()

    def score(self, given: Ints, probs: Sequence[Floats]) -> Scores:
        """Score rows; a row's result depends on nothing but the row and the model.

        Args:
            given: (N,) class indices; outside 0 … K - 1 = no usable label.
            probs: T arrays (N, K).
        """
        scores = _blank(len(given))
        np.copyto(scores.outside, (given < 0) | (given >= self._model.n_classes))
        plan, n_workers = self._plan, len(self._rooms)
        if plan is None:
            np.copyto(scores.bad_teacher, usable_rows(given, probs)[2])
            _say_nan(scores, probs)
            return scores
        starts = range(0, len(given), self._step)

        def score_every(first: int) -> None:
            for start in starts[first::n_workers]:
                part = slice(start, start + self._step)
                score_part(
                    plan, self._room(plan, first, len(given)), scores, part, given[part], [p[part] for p in probs]
                )

        if self._threads is None:
            score_every(0)
        else:  # each writes rows of its own: who is first leaves no trace
            list(self._threads.map(score_every, range(n_workers)))
        _say_nan(scores, probs)
        return scores

    def _room(self, plan: Plan, worker: int, n_rows: int) -> Room:
        room, n_rows = self._rooms[worker], min(self._step, n_rows)
        if room is None or len(room.values) < n_rows:
            room = self._rooms[worker] = Room.of(plan, n_rows)
        return room


def score_flags(
    model: FlagModel, given: Ints, names: Sequence[str], probs: Sequence[Floats], *, workers: int = 1
) -> Scores:
    """Score rows once, see `Scorer`."""
    with Scorer(model, names, workers=workers) as scorer:
        return scorer.score(given, probs)


def distances(model: FlagModel, given: Ints, probs: Floats, answered: Bools) -> tuple[Floats, Bools]:
    """Return (N,) how far beyond the cut each label is, before rare classes are spared, and whether it is in doubt.

    Args:
        model: fitted.
        given: (N,).
        probs: (N, T, K) of the kept teachers, rows that sum to one.
        answered: (N, T).
    """
    plan = Plan.of(model, range(probs.shape[1]))
    step = max(1, CHUNK_CELLS // model.n_classes)
    room = Room.of(plan, min(step, len(given)))
    distance, doubt = np.empty(len(given)), np.empty(len(given), dtype=bool)
    for start in range(0, len(given), step):
        part = slice(start, start + step)
        block, y, known = probs[part], given[part], answered[part]
        for teacher in range(probs.shape[1]):
            add_to_pools(plan, room, teacher, in_float32(block[:, teacher], room.values), known[:, teacher])
        share_out(plan, room, [block[:, teacher] for teacher in range(probs.shape[1])], known)
        at_given = np.take_along_axis(block, y[:, None, None], axis=2)[:, :, 0]
        found = judge(plan, room, y, at_given, known)
        distance[part], doubt[part] = found.distance, found.doubt
    return distance, doubt


def _say_nan(scores: Scores, probs: Sequence[Floats]) -> None:
    """Say of the rows of invalid teachers, which are few, whether some of their probabilities are NaN."""
    for teacher in np.unique(scores.bad_teacher[scores.bad_teacher >= 0]):
        rows = np.flatnonzero(scores.bad_teacher == teacher)
        scores.bad_nan[rows] = np.isnan(probs[teacher][rows]).any(axis=1)


def _blank(n_rows: int) -> Scores:
    nan = np.full(n_rows, np.nan)
    none = np.zeros(n_rows, dtype=np.int64)
    no = np.zeros(n_rows, dtype=bool)
    return Scores(
        no.copy(), nan.copy(), no.copy(), none - 1, nan.copy(), none.copy(), none.copy(), nan.copy(), nan.copy(),
        none - 1, no.copy(), no.copy(),
    )  # fmt: skip
