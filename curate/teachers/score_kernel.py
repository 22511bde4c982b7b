"""A part of the rows through all teachers at once, in float32.

The part is what a core's cache holds: what a teacher says is read once, checked, and added to the pools before the
next one is looked at. Everything is row by row, without matrix products, whose rounding depends on how many rows
there are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from curate.teachers.flag_model import FlagModel, Scores
from curate.teachers.noise import Bools, Floats, Ints
from curate.teachers.pool import PROB_FLOOR, effective_weights, highest
from curate.teachers.rare_classes import beyond

CHUNK_CELLS = 100_000  # rows x classes at once
SUM_TOLERANCE = 0.02  # float16 rounding of a thousand classes stays below
LINEAR_SCALE = 4.0
_CHANNEL_FLOOR = 1e-12
_SAME_POOL = 1e-6


@dataclass(frozen=True, slots=True)
class Plan:
    """What scoring takes from a model, ready to use.

    Attributes:
        model: that it is of.
        kept: T positions of its teachers among those that are given.
        pools: (T,) weights of each log pool that is needed; the first goes with the channel.
        margin_scale: of the last pool, to be the one that the margin is taken of.
        log_channel: (K, K) log p(given = row | true = column), float32.
        log_tau: (K,) float32.
    """

    model: FlagModel
    kept: tuple[int, ...]
    pools: tuple[Floats, ...]
    margin_scale: float
    log_channel: Floats
    log_tau: Floats

    @classmethod
    def of(cls, model: FlagModel, kept: Sequence[int]) -> Plan:
        """Return the plan of a fitted model."""
        pools = [model.channel_weights]
        scale = 1.0
        if model.rule == "margin":
            scale = float(model.weights.sum() / model.channel_weights.sum())
            if np.abs(model.weights - scale * model.channel_weights).max() > _SAME_POOL:
                pools, scale = [*pools, model.weights], 1.0
        channel = np.log(np.maximum(np.ascontiguousarray(model.transition.T), _CHANNEL_FLOOR))
        return cls(
            model,
            tuple(kept),
            tuple(pools),
            scale,
            channel.astype(np.float32),
            np.log(model.tau).astype(np.float32),
        )


@dataclass(frozen=True, slots=True)
class Room:
    """Buffers of a thread, used again for every part: fresh memory costs more than what is computed in it."""

    values: Floats
    spare: Floats
    joint: Floats
    pools: tuple[Floats, ...]

    @classmethod
    def of(cls, plan: Plan, n_rows: int) -> Room:
        """Return room for so many rows."""
        made = np.empty((3 + len(plan.pools), n_rows, plan.model.n_classes), dtype=np.float32)
        return cls(made[0], made[1], made[2], tuple(made[3:]))


@dataclass(frozen=True, slots=True)
class Judged:
    """(n,) each: what the pools say of rows, before rare classes are spared."""

    distance: Floats
    doubt: Bools
    best: Ints  # the likeliest class that is not the given one
    prob_best: Floats
    prob_given: Floats


def in_float32(values: Floats, buffer: Floats) -> Floats:
    """Return (n, K) values as float32 in the buffer, which has n rows or more."""
    out = buffer[: len(values)]
    if values.dtype == np.float16 and values.size:
        import cv2  # noqa: PLC0415 - takes a twentieth of NumPy's time here; heavy for what needs none of it

        return np.asarray(cv2.convertFp16(np.ascontiguousarray(values).view(np.int16), out))
    with np.errstate(over="ignore"):
        np.copyto(out, values, casting="unsafe")
    return out


def validity(values: Floats, teacher: int, bad: Ints) -> tuple[Bools, Floats]:
    """Return (n,) which rows are probabilities, and (n,) their sums.

    Args:
        values: (n, K) float32.
        teacher: that they are of.
        bad: (n,) set to the teacher where it is -1 and a row is neither probabilities nor no answer (NaN only).
    """
    with np.errstate(invalid="ignore", over="ignore"):
        total = np.einsum("ij->i", values)
        valid = np.abs(total - 1.0) <= SUM_TOLERANCE  # NaN compares false
        if valid.all() and (not values.size or values.min() >= 0):
            return valid, total
        valid &= values.min(axis=1) >= 0
    absent = np.isnan(total)
    absent[absent] = np.isnan(values[absent]).all(axis=1)
    bad[(bad < 0) & ~absent & ~valid] = teacher
    return valid, total


def add_to_pools(plan: Plan, room: Room, place: int, values: Floats, answered: Bools) -> None:
    """Add teacher `place` of the plan to the pools of `room`; overwrites the values."""
    logs = np.maximum(values, np.float32(PROB_FLOOR), out=values)
    np.log(logs, out=logs)
    everyone = answered.all()
    last = len(plan.pools) - 1
    for which, (weights, pool) in enumerate(zip(plan.pools, room.pools, strict=True)):
        pooled = pool[: len(values)]
        free = logs if which == last else room.spare[: len(values)]
        weighted = np.multiply(logs, np.float32(weights[place]), out=free if place else pooled)
        if not everyone:
            weighted[~answered] = 0.0
        if place:
            np.add(pooled, weighted, out=pooled)


def share_out(plan: Plan, room: Room, probs: Sequence[Floats], answered: Bools) -> None:
    """Give the weights of teachers without an answer to the others, in proportion; where those have none, alike.

    Args:
        plan: of the model.
        room: with the sums over those that answered.
        probs: T arrays (n, K) of the kept teachers.
        answered: (n, T).
    """
    if answered.all():
        return
    n_answered = answered.sum(axis=1)
    for weights, pool in zip(plan.pools, room.pools, strict=True):
        pooled = pool[: len(answered)]
        used = np.where(answered, weights, 0.0).sum(axis=1)
        pooled *= (weights.sum() / np.where(used > 0, used, weights.sum())).astype(np.float32)[:, None]
        for row in np.flatnonzero((used <= 0) & (n_answered > 0)).tolist():
            said = [p[row].astype(np.float32) for p, has in zip(probs, answered[row], strict=True) if has]
            logs = np.log(np.maximum(said, np.float32(PROB_FLOOR)))
            pooled[row] = logs.sum(axis=0) * np.float32(weights.sum() / n_answered[row])


def linear_score(plan: Plan, at_given: Floats, answered: Bools, given: Ints) -> Floats:
    """Return (n,) self doubt in the weighted mean of the teachers' probabilities.

    Args:
        plan: of the model.
        at_given: (n, T) probability of the given label.
        answered: (n, T).
        given: (n,).
    """
    weights = effective_weights(plan.model.weights / plan.model.weights.sum(), answered)
    return np.asarray(1.0 - ((weights * np.where(answered, at_given, 0.0)).sum(axis=1) - plan.model.tau[given]))


def judge(plan: Plan, room: Room, given: Ints, at_given: Floats, answered: Bools) -> Judged:
    """Return what the pools in `room` say; overwrites its joint buffer."""
    model, n_rows = plan.model, len(given)
    joint = np.take(plan.log_channel, given, axis=0, out=room.joint[:n_rows], mode="clip")
    joint += room.pools[0][:n_rows]
    best, top, right = best_other(joint, given)
    joint -= top[:, None]
    np.exp(joint, out=joint)
    others = top + np.log(np.einsum("ij->i", joint).astype(np.float64))
    odds = others - right
    every = np.maximum(others, right) + np.log1p(np.exp(-np.abs(odds)))
    distance: Floats
    score: Floats
    if model.rule == "channel":
        distance, doubt = odds - model.cut, odds >= model.cut
    elif model.rule == "margin":
        adjusted = np.multiply(room.pools[-1][:n_rows], np.float32(plan.margin_scale), out=joint)
        adjusted -= plan.log_tau
        _, top_adjusted, right_adjusted = best_other(adjusted, given)
        score = (top_adjusted - right_adjusted).astype(np.float64)
        distance, doubt = score - model.cut, score > 0
    else:
        score = linear_score(plan, at_given, answered, given)
        distance, doubt = LINEAR_SCALE * (score - model.cut), score >= model.cut
    return Judged(distance, doubt, best, np.exp(top - every), np.exp(right - every))


def best_other(scores: Floats, given: Ints) -> tuple[Ints, Floats, Floats]:
    """Return (n,) the best class that is not the given one, its score and that of the given one, set to -inf."""
    flat, first_cells = scores.reshape(-1), np.arange(len(given)) * scores.shape[1]
    at_given = first_cells + given
    right = flat.take(at_given)
    flat[at_given] = -np.inf
    best = scores.argmax(axis=1)
    return best, flat.take(first_cells + best), right


def score_part(plan: Plan, room: Room, out: Scores, part: slice, given: Ints, probs: Sequence[Floats]) -> None:
    """Fill `out` at `part`.

    Args:
        plan: of the model.
        room: for that many rows.
        out: blank but for `outside`.
        part: of its rows.
        given: (n,) the part's class indices.
        probs: the part's (n, K) probabilities of all teachers.
    """
    y = np.where(out.outside[part], 0, given)
    said = _pooled(plan, room, y, probs, out.bad_teacher[part])
    found = judge(plan, room, y, said.at_given.T, said.answered.T)
    distance = found.distance
    if plan.model.offsets.size:
        distance = beyond(distance, plan.model.offsets[y])
    differs = found.doubt | (distance >= 0)
    suggested = np.where(differs, found.best, y)
    n_answered = said.answered.sum(axis=0)
    usable = ~out.outside[part] & (out.bad_teacher[part] < 0) & (n_answered > 0)
    cells = np.arange(len(y)) * plan.model.n_classes + suggested
    at_suggested = np.stack([probs[teacher].reshape(-1).take(cells) for teacher in plan.kept]).astype(np.float32)

    def put(column: Floats | Ints | Bools, values: Floats | Ints | Bools) -> None:
        np.copyto(column[part], values, where=usable, casting="same_kind")

    def mean(values: Floats) -> Floats:
        return np.asarray(np.where(said.answered, values, np.float32(0)).sum(axis=0) / np.maximum(n_answered, 1))

    put(out.judged, usable)
    put(out.risk, 0.5 + 0.5 * distance / (1.0 + np.abs(distance)))
    put(out.flagged, distance >= 0)
    put(out.suggested, suggested)
    put(out.suggested_prob, np.where(differs, found.prob_best, found.prob_given))
    put(out.n_agree, ((at_suggested >= said.top) & said.answered).sum(axis=0))
    put(out.n_teachers, n_answered)
    put(out.suggested_mean, mean(at_suggested / said.total))
    put(out.given_mean, mean(said.at_given))


@dataclass(frozen=True, slots=True)
class _Said:
    """(T, n) each, of the kept teachers: whether they answered, p(given label), the sum and the top as they stand."""

    answered: Bools
    at_given: Floats
    total: Floats
    top: Floats


def _pooled(plan: Plan, room: Room, y: Ints, probs: Sequence[Floats], bad: Ints) -> _Said:
    """Check what every teacher says of the part, and add it to the pools of `room`; `bad` as in `validity`."""
    n_kept, first_cells = len(plan.kept), np.arange(len(y)) * plan.model.n_classes
    answered = np.empty((n_kept, len(y)), dtype=bool)
    at_given, total, top = np.empty((3, n_kept, len(y)), dtype=np.float32)
    for teacher, answers in enumerate(probs):
        values = in_float32(answers, room.values)
        valid, sums = validity(values, teacher, bad)
        if teacher not in plan.kept:
            continue
        place = plan.kept.index(teacher)
        if not valid.all():
            values[~valid] = 1.0 / plan.model.n_classes
            sums[~valid] = 1.0
        answered[place], total[place], top[place] = valid, sums, highest(values)
        np.divide(values.reshape(-1).take(first_cells + y), sums, out=at_given[place])
        add_to_pools(plan, room, place, values, valid)
    share_out(plan, room, [probs[teacher] for teacher in plan.kept], answered.T)
    return _Said(answered, at_given, total, top)
