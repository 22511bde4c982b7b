"""Several labels a row: each class is a question of its own, and a row is as doubtful as its worst answer.

A row says yes or no to every class, and so does each teacher, with independent probabilities. A noise channel of two
classes is fitted by likelihood (Natarajan et al., NeurIPS 2013): how often a label was left out and how often one was
invented. One class alone has too few labels to tell a channel from teachers that are merely unsure, so weights and
channel are fitted to the answers of all classes together, and each class then moves the two rates as far as its own
labels ask (EM from a prior that counts as `PRIOR_ROWS` labels; empirical Bayes). Whether teachers are independent
plays no part: with rare classes nearly all answers are "no", and agreement by chance drowns what pairs of teachers
could tell of the noise.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from curate.teachers.column_order import Moved, find_moved_of_several
from curate.teachers.disagreement import fit_flags
from curate.teachers.flag_model import FlagModel
from curate.teachers.mixture import Mixture, fit_mixture, log_odds_wrong, posterior
from curate.teachers.noise import BOUND_IF_SURE, Bools, Floats, Ints, binomial_rate
from curate.teachers.pool import log_pool, log_probs
from curate.teachers.scoring import score_flags

MAX_JOINT_CELLS = 200_000  # answers that the joint channel is fitted on
PRIOR_ROWS = 20.0  # labels of each kind that the joint channel counts as, beside a class's own
_ROUNDS = 30
MIN_ROWS_OF_A_KIND = 10  # with the class and without it; below, the class is not judged


@dataclass(frozen=True, slots=True)
class MultiLabelModel:
    """A binary model for each class; None = too few rows with it, or without it, to judge.

    `moved` holds the teachers of which whole classes fit other columns than was assumed.
    """

    models: tuple[FlagModel | None, ...]
    moved: tuple[Moved, ...] = ()


@dataclass(frozen=True, slots=True)
class CellScores:
    """An entry a row and class, (N, K); a risk below 0 = not judged.

    Attributes:
        risk: .5 at the class's cut.
        flagged: whether the label says the wrong thing about the class.
        prob: calibrated probability of that.
        n_agree: teachers that side with the suggestion.
        n_teachers: teachers with an answer.
        mean: their mean probability that the class is there.
    """

    risk: Floats
    flagged: Bools
    prob: Floats
    n_agree: Floats
    n_teachers: Floats
    mean: Floats


@dataclass(frozen=True, slots=True)
class MultiLabelScores:
    """One entry a row; NaN risk = not judged.

    Attributes:
        risk: (N,) the highest over classes, .5 at its class's cut.
        flagged: (N,) whether any class is.
        worst: (N,) the class with the highest risk; -1 = not judged.
        worst_prob: (N,) calibrated probability that the label says the wrong thing about `worst`.
        n_agree: (N,) teachers that side with the suggestion about `worst`.
        n_teachers: (N,) teachers with an answer.
        mean: (N,) their mean probability that `worst` is there.
        suggested: (N, K) the labels, with the flagged classes turned over.
    """

    risk: Floats
    flagged: Bools
    worst: Ints
    worst_prob: Floats
    n_agree: Ints
    n_teachers: Ints
    mean: Floats
    suggested: Bools


def fit_multi_label(given: Bools, names: Sequence[str], probs: Floats) -> MultiLabelModel:
    """Fit a channel for each class, from one of all classes together.

    Args:
        given: (N, K) which labels each row has.
        names: T teachers.
        probs: (N, T, K) independent probabilities; a teacher without an answer is a row of NaN.
    """
    moved = find_moved_of_several(names, probs, given)
    models: list[FlagModel | None] = []
    for k in range(given.shape[1]):
        n_with = int(given[:, k].sum())
        if min(n_with, len(given) - n_with) < MIN_ROWS_OF_A_KIND:
            models.append(None)
            continue
        p = probs[:, :, k]
        model = fit_flags(given[:, k].astype(np.int64), names, np.stack([1.0 - p, p], axis=2), independent=False)
        models.append(model if model.rule != "none" else None)
    joint = _fit_joint(given, names, probs, models)
    if joint is None:
        return MultiLabelModel(tuple(models), moved)
    shared, kept = joint
    own = [
        None
        if model is None
        else _with_own_rates(model, given[:, k], probs[:, kept, k], shared, [names[m] for m in kept])
        for k, model in enumerate(models)
    ]
    return MultiLabelModel(tuple(own), moved)


def _fit_joint(
    given: Bools, names: Sequence[str], probs: Floats, models: Sequence[FlagModel | None]
) -> tuple[Mixture, list[int]] | None:
    """Return the channel of all classes together and the teachers that it stands on; None where there is no noise.

    A teacher counts that was kept in most classes. Rows come in the order of their hashes: the first are a sample.
    """
    judged = [k for k, model in enumerate(models) if model is not None]
    fitted = [models[k] for k in judged]
    n_kept = [sum(name in model.names for model in fitted if model is not None) for name in names]
    kept = [m for m, n in enumerate(n_kept) if 2 * n > len(judged)]
    if len(judged) < 2 or not kept:
        return None
    cells = probs[: max(1, MAX_JOINT_CELLS // len(judged))][:, kept][:, :, judged].transpose(0, 2, 1)
    flat = cells.reshape(-1, len(kept))
    label = given[: len(cells)][:, judged].reshape(-1).astype(np.int64)
    logs, answered = _logs(flat)
    heard = answered.any(axis=1)
    mixture = fit_mixture(logs[heard], answered[heard], label[heard])
    return None if mixture.kind == "none" else (mixture, kept)


def _with_own_rates(
    model: FlagModel, given: Bools, probs: Floats, joint: Mixture, names: Sequence[str]
) -> FlagModel:
    """Return the model of a class with the joint weights, and the joint channel as far as its labels leave it alone.

    Args:
        model: of the class alone.
        given: (N,) whether the label is there.
        probs: (N, T) that it is.
        joint: of all classes.
        names: T teachers.
    """
    logs, answered = _logs(probs)
    heard = answered.any(axis=1)
    label = given[heard].astype(np.int64)
    log_q = log_pool(logs[heard], answered[heard], joint.weights)
    prior = PRIOR_ROWS * joint.transition
    transition = joint.transition
    for _ in range(_ROUNDS):
        counts = prior.copy()
        np.add.at(counts.T, label, posterior(log_q, label, transition))
        transition = counts / counts.sum(axis=1, keepdims=True)
    odds = log_odds_wrong(log_q, label, transition)
    wrong = float((1.0 / (1.0 + np.exp(-np.clip(odds, -700, 700)))).mean())
    total = float(joint.weights.sum())
    weight = {name: round(float(w) / total, 6) for name, w in zip(names, joint.weights, strict=True)}
    rate = binomial_rate(
        wrong, len(label), f"likelihood of a channel, drawn to that of all classes; {BOUND_IF_SURE}"
    )
    return replace(
        model,
        rule="channel",
        why=f"{model.why}; rates drawn to those of all classes together",
        names=tuple(names),
        weights=joint.weights,
        channel_weights=joint.weights,
        transition=np.round(transition, 9),
        noise_rate=rate,
        estimates={**model.estimates, "channel": rate},
        teachers=tuple(replace(one, weight=weight.get(one.name, 0.0)) for one in model.teachers),
        offsets=np.zeros(0),
    )


def _logs(probs: Floats) -> tuple[Floats, Bools]:
    """Return (n, T, 2) log probabilities of (n, T) probabilities, and (n, T) which are answers."""
    answered = np.asarray(~np.isnan(probs))
    p = np.where(answered, probs, 0.5).astype(np.float64)
    return log_probs(np.stack([1.0 - p, p], axis=2)), answered


def score_multi_label(
    model: MultiLabelModel, given: Bools, usable: Bools, names: Sequence[str], probs: Sequence[Floats]
) -> MultiLabelScores:
    """Score rows by their worst class; see `score_cells`."""
    cells = score_cells(model, given, usable, names, probs)
    worst = np.where((cells.risk >= 0).any(axis=1), cells.risk.argmax(axis=1), -1)
    at = (np.arange(len(given)), worst)
    judged = worst >= 0
    return MultiLabelScores(
        risk=np.where(judged, cells.risk[at], np.nan),
        flagged=np.asarray(cells.flagged.any(axis=1)),
        worst=worst,
        worst_prob=np.where(judged, cells.prob[at], np.nan),
        n_agree=cells.n_agree[at].astype(np.int64),
        n_teachers=cells.n_teachers[at].astype(np.int64),
        mean=cells.mean[at],
        suggested=given ^ cells.flagged,
    )


def score_cells(
    model: MultiLabelModel, given: Bools, usable: Bools, names: Sequence[str], probs: Sequence[Floats]
) -> CellScores:
    """Score every class of rows; a row's result depends on nothing but the row and the model.

    Args:
        model: fitted.
        given: (N, K).
        usable: (N,) rows that can be judged; the others are not.
        names: T teachers.
        probs: T arrays (N, K); NaN = no answer for that class.
    """
    n_rows, n_classes = given.shape
    risk = np.full((n_rows, n_classes), -1.0)
    flagged = np.zeros((n_rows, n_classes), dtype=bool)
    prob, agree, n_teachers, mean = (np.zeros((n_rows, n_classes)) for _ in range(4))
    for k, binary in enumerate(model.models):
        if binary is None:
            continue
        two = [np.stack([1.0 - p[:, k], p[:, k]], axis=1).astype(np.float32) for p in probs]
        label = given[:, k].astype(np.int64)
        scores = score_flags(binary, label, names, two)
        judged = scores.judged & usable
        risk[judged, k] = scores.risk[judged]
        flagged[:, k] = scores.flagged & judged
        differs = scores.suggested != label
        prob[:, k] = np.where(differs, scores.suggested_prob, 1.0 - scores.suggested_prob)
        agree[:, k], n_teachers[:, k] = scores.n_agree, scores.n_teachers
        mean[:, k] = np.where(label == 1, scores.given_mean, 1.0 - scores.given_mean)
    return CellScores(risk, flagged, prob, agree, n_teachers, mean)
