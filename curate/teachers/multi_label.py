"""Several labels a row: each class is a question of its own, and a row is as doubtful as its worst answer.

A row says yes or no to every class, and so does each teacher, with independent probabilities. Per class a noise
channel of two classes is fitted by likelihood (Natarajan et al., NeurIPS 2013): how often a label was left out and how
often one was invented. Whether teachers are independent plays no part: with rare classes nearly all answers are "no",
and agreement by chance drowns what pairs of teachers could tell of the noise.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from curate.teachers.disagreement import fit_flags
from curate.teachers.flag_model import FlagModel
from curate.teachers.noise import Bools, Floats, Ints
from curate.teachers.scoring import score_flags

MIN_ROWS_OF_A_KIND = 10  # with the class and without it; below, the class is not judged


@dataclass(frozen=True, slots=True)
class MultiLabelModel:
    """A binary model for each class; None = too few rows with it, or without it, to judge."""

    models: tuple[FlagModel | None, ...]


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
    """Fit a channel for each class.

    Args:
        given: (N, K) which labels each row has.
        names: T teachers.
        probs: (N, T, K) independent probabilities; a teacher without an answer is a row of NaN.
    """
    models: list[FlagModel | None] = []
    for k in range(given.shape[1]):
        n_with = int(given[:, k].sum())
        if min(n_with, len(given) - n_with) < MIN_ROWS_OF_A_KIND:
            models.append(None)
            continue
        p = probs[:, :, k]
        model = fit_flags(given[:, k].astype(np.int64), names, np.stack([1.0 - p, p], axis=2), independent=False)
        models.append(model if model.rule != "none" else None)
    return MultiLabelModel(tuple(models))


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
