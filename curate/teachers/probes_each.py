"""Probes where an image has several labels: one-vs-rest on the same features, each row judged by other folds.

Three views of the features as with single labels: a ridge logistic regression for each class, the neighbours' shares,
and one network with an output for each class (sigmoid).
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from functools import partial

import numpy as np

from curate.adapters.execution import map_shards
from curate.teachers.classifiers import (
    LINEAR_C,
    NETWORK_BATCH,
    NETWORK_DECAY,
    NETWORK_STEPS,
    neighbours_vote,
)
from curate.teachers.folds import assign_folds

Matrix = np.ndarray
Predict = Callable[[Matrix], Matrix]  # (n, d) -> (n, K) probabilities
Fit = Callable[[Matrix, Matrix, np.ndarray, int], Predict]  # features, bool (n, K) given, inner rows, seed

MAX_CHOICE_CLASSES = 12  # a strength is chosen on so many of the classes, the most frequent ones
MIN_OF_A_KIND = 2  # rows with a class and without it that the other folds must hold


def folds_of(given: Matrix, families: np.ndarray, n_folds: int, *, seed: int) -> np.ndarray:
    """Return a fold a row, spread evenly over the rarest label that each row has; families stay together."""
    counts = given.sum(axis=0)
    rarity = np.where(given, counts[None, :], np.iinfo(np.int64).max)
    kind = np.where(given.any(axis=1), rarity.argmin(axis=1), given.shape[1])
    return assign_folds(kind, families, n_folds, seed=seed)


def out_of_fold_each(
    features: Matrix, given: Matrix, folds: np.ndarray, names: tuple[str, ...], *, seed: int, workers: int = 1
) -> dict[str, Matrix]:
    """Return calibrated float32 (n, K) probabilities by classifier; NaN where the other folds cannot tell a class.

    Args:
        features: (n, d), rows in canonical order.
        given: bool (n, K).
        folds: (n,).
        names: of `CLASSIFIERS`.
        seed: of everything random.
        workers: threads; their number changes no bit.
    """
    from sklearn.exceptions import ConvergenceWarning  # noqa: PLC0415 - scikit-learn takes a second to import
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # noqa: PLC0415 - scikit-learn's

    probs = {name: np.full(given.shape, np.nan) for name in names}
    work = partial(_judge_fold, features=features, given=given, folds=folds, names=names, seed=seed)
    with threadpool_limits(limits=1), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # nearly there is near enough for a probe
        for held, known, answers in map_shards(work, list(np.unique(folds)), workers=workers, engine="threads"):
            for name, answer in answers.items():
                probs[name][np.ix_(held, known)] = answer
    return {name: _calibrated(found, given, folds).astype(np.float32) for name, found in probs.items()}


def _judge_fold(
    fold: int, *, features: Matrix, given: Matrix, folds: np.ndarray, names: tuple[str, ...], seed: int
) -> tuple[np.ndarray, np.ndarray, Mapping[str, Matrix]]:
    from curate.teachers.probes import MAX_FIT_ROWS, projection  # noqa: PLC0415 - it asks this module

    held, others = np.flatnonzero(folds == fold), np.flatnonzero(folds != fold)
    others = others[:: max(1, -(-len(others) // MAX_FIT_ROWS))]
    n_with = given[others].sum(axis=0)
    known = np.flatnonzero(np.minimum(n_with, len(others) - n_with) >= MIN_OF_A_KIND)
    if not len(known):
        return held, known, {}
    project = projection(features[others], seed)
    inner = folds[others] == np.setdiff1d(np.unique(folds), [fold])[0]
    seen, judged = project(features[others]), project(features[held])
    labels = given[np.ix_(others, known)]
    return held, known, {name: CLASSIFIERS[name](seen, labels, inner, seed)(judged) for name in names}


def _linear(features: Matrix, given: Matrix, inner: np.ndarray, seed: int) -> Predict:
    def fit_at(strength: float, matrix: Matrix, labels: Matrix) -> Predict:
        models = [_one_vs_rest(strength, matrix, labels[:, at], seed) for at in range(labels.shape[1])]
        return lambda judged: np.stack([model(judged) for model in models], axis=1)

    return fit_at(_choose(fit_at, LINEAR_C, features, given, inner), features, given)


def _one_vs_rest(strength: float, features: Matrix, label: np.ndarray, seed: int) -> Predict:
    from sklearn.linear_model import LogisticRegression  # noqa: PLC0415 - scikit-learn takes a second to import

    if label.all() or not label.any():  # of the rows that a strength is chosen on
        return lambda judged: np.full(len(judged), float(label[0]))
    scale = np.float32(np.sqrt(features.shape[1]))
    model = LogisticRegression(C=strength, max_iter=200, tol=1e-3, random_state=seed).fit(features * scale, label)
    return lambda judged: np.asarray(model.predict_proba(judged * scale)[:, 1])


def _neighbours(features: Matrix, given: Matrix, inner: np.ndarray, seed: int) -> Predict:
    del inner, seed
    return neighbours_vote(features, given.astype(np.float64), given.mean(axis=0))


def _network(features: Matrix, given: Matrix, inner: np.ndarray, seed: int) -> Predict:
    from sklearn.neural_network import MLPClassifier  # noqa: PLC0415 - scikit-learn takes a second to import

    scale = np.float32(np.sqrt(features.shape[1]))

    def fit_at(strength: float, matrix: Matrix, labels: Matrix) -> Predict:
        size = min(NETWORK_BATCH, len(matrix))
        n_epochs = int(np.clip(NETWORK_STEPS * size // len(matrix), 10, NETWORK_STEPS))
        options = {"alpha": strength, "max_iter": n_epochs, "batch_size": size, "random_state": seed, "tol": 1e-3}
        if labels.shape[1] == 1:  # a single output is a classifier of two classes to scikit-learn
            model = MLPClassifier((128,), **options).fit(matrix * scale, labels[:, 0].astype(np.int64))
            return lambda judged: np.asarray(model.predict_proba(judged * scale)[:, -1:])
        model = MLPClassifier((128,), **options).fit(matrix * scale, labels.astype(np.int64))
        return lambda judged: np.asarray(model.predict_proba(judged * scale))

    return fit_at(_choose(fit_at, NETWORK_DECAY, features, given, inner), features, given)


def _choose(
    fit_at: Callable[[float, Matrix, Matrix], Predict],
    strengths: tuple[float, ...],
    features: Matrix,
    given: Matrix,
    inner: np.ndarray,
) -> float:
    """Return the strength that suits the inner rows best, tried from the strongest until one is no better."""
    train, held = np.flatnonzero(~inner), np.flatnonzero(inner)
    n_with = given[train].sum(axis=0)
    frequent = np.argsort(-np.minimum(n_with, len(train) - n_with), kind="stable")[:MAX_CHOICE_CLASSES]
    frequent = frequent[np.minimum(n_with, len(train) - n_with)[frequent] > 0]
    if not len(held) or not len(frequent):
        return strengths[len(strengths) // 2]
    target = given[np.ix_(held, frequent)]
    best, lowest = strengths[0], np.inf
    for strength in strengths:
        probs = fit_at(strength, features[train], given[np.ix_(train, frequent)])(features[held])
        loss = float(_loss(probs, target).mean())
        if loss >= lowest:
            break
        best, lowest = strength, loss
    return best


def _loss(probs: Matrix, given: Matrix) -> Matrix:
    kept = np.clip(probs, 1e-6, 1 - 1e-6)
    loss: Matrix = -np.where(given, np.log(kept), np.log1p(-kept))
    return loss


def _calibrated(probs: Matrix, given: Matrix, folds: np.ndarray) -> Matrix:
    """Return probabilities at the temperature of the log odds that suits the *other* folds best, one for all classes."""
    kept = np.clip(probs, 1e-6, 1 - 1e-6)
    odds = np.log(kept) - np.log1p(-kept)
    temperatures = np.exp(np.linspace(-1.0, 1.5, 26))
    losses = np.stack([np.nanmean(_loss(_sigmoid(odds / t), given), axis=1) for t in temperatures])
    made = np.full_like(probs, np.nan)
    for fold in np.unique(folds):
        others = (folds != fold) & np.isfinite(losses[0])
        best = temperatures[int(losses[:, others].mean(axis=1).argmin())] if others.any() else 1.0
        made[folds == fold] = _sigmoid(odds[folds == fold] / best)
    return made


def _sigmoid(odds: Matrix) -> Matrix:
    probs: Matrix = 1.0 / (1.0 + np.exp(-odds))
    return probs


CLASSIFIERS: Mapping[str, Fit] = {"linear": _linear, "neighbours": _neighbours, "network": _network}
