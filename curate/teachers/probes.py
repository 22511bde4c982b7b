"""Probes: different classifiers on the same image features, each row judged only by models that never saw it."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version

import numpy as np
import pyarrow.compute as pc

from curate.adapters.execution import map_shards
from curate.config import ProbesSpec
from curate.errors import ConfigError, InputError, did_you_mean
from curate.schema import canonical_json
from curate.teachers.class_names import named
from curate.teachers.features import image_features
from curate.teachers.folds import assign_folds
from curate.teachers.protocol import OUT_OF_FOLD_HERE, Answer, Request, TeacherCard

VERSION = 3
MAX_FIT_ROWS = (
    50_000  # a probe is fitted on at most so many rows of the other folds, chosen by the hash of their ids
)
BLOCK_ROWS = 20_000  # judged at once
N_COMPONENTS = 200
WHITENING = 0.5  # exponent: 0 keeps the scale of components, 1 makes them alike
N_NEIGHBOURS = 25
NEIGHBOUR_TEMPERATURE = 0.05  # of the cosine similarity
PRIOR_ROWS = 1.0  # pseudo-count spread over the classes in the neighbours' vote
LINEAR_C = (0.001, 0.004, 0.016, 0.064, 0.25, 1.0, 4.0)  # of components with variance 1
NETWORK_DECAY = (10.0, 3.0, 1.0, 0.1)  # per batch
NETWORK_BATCH = 200
NETWORK_STEPS = 400
MAX_CHOICE_ROWS = 5_000  # a setting is chosen on so many
MIN_ROWS = 20

Matrix = np.ndarray
Predict = Callable[[Matrix], Matrix]  # (n, d) -> (n, n_seen) probabilities
# (features, class positions 0 … n_seen - 1, rows to choose settings on, seed); those rows are one whole fold
Fit = Callable[[Matrix, np.ndarray, np.ndarray, int], Predict]


@dataclass(frozen=True, slots=True)
class Probes:
    """The probes of a spec; each classifier is a teacher of its own, all on the same features."""

    spec: ProbesSpec

    def answer(self, request: Request) -> Sequence[Answer]:
        """Judge every label row.

        Raises:
            ConfigError: an unknown classifier or features.
            InputError: too few rows or families for the folds.
        """
        for name in self.spec.classifiers:
            if name not in CLASSIFIERS:
                hint = did_you_mean(name, CLASSIFIERS)
                raise ConfigError(
                    f"There is no probe {name!r}. Classifiers: {', '.join(CLASSIFIERS)}. {hint}".rstrip()
                )
        features = image_features(self.spec.features, request)
        order = np.argsort(np.asarray(request.labels["label_id"].to_pylist(), dtype=object), kind="stable")
        given = pc.index_in(request.labels["label"], value_set=_classes(request)).to_numpy(zero_copy_only=False)
        usable = np.isfinite(features).all(axis=1) & np.isfinite(given.astype(np.float64))
        rows = order[usable[order]]
        _refuse_too_few(rows, request.families, self.spec.folds)
        given = given[rows].astype(np.int64)
        folds = assign_folds(given, request.families[rows], self.spec.folds, seed=request.seed)
        answers = []
        scarce = _scarce(given, request.families[rows], self.spec.folds)
        judged = out_of_fold(
            features[rows],
            given,
            folds,
            len(request.classes),
            {name: CLASSIFIERS[name] for name in self.spec.classifiers},
            seed=request.seed,
            workers=request.workers,
        )
        for name, probs in judged.items():
            full = np.full((len(features), len(request.classes)), np.nan, dtype=np.float32)
            full[rows] = probs
            answers.append(Answer(self._card(name, full, [request.classes[at] for at in scarce], request), full))
        return answers

    def _card(self, classifier: str, probs: Matrix, scarce: Sequence[str], request: Request) -> TeacherCard:
        told = []
        if scarce:
            told.append(
                f"{len(scarce)} classes have fewer independent images than the {self.spec.folds} folds and are "
                f"hardly known: {named(scarce)}"
            )
        n_silent = int(np.isnan(probs).any(axis=1).sum())
        if n_silent:
            told.append(
                f"{n_silent} rows are not judged: their image cannot be decoded or no other fold holds their class"
            )
        if len(probs) > MAX_FIT_ROWS:
            told.append(f"fitted on at most {MAX_FIT_ROWS} rows of the other folds")
        about = {
            "probe": classifier,
            "version": VERSION,
            "spec": self.spec.model_dump(mode="json", exclude={"classifiers", "name"}),
            "seed": request.seed,
            "scikit-learn": version("scikit-learn"),
            "numpy": version("numpy"),
        }
        return TeacherCard(
            name=f"{self.spec.name}_{classifier}",
            kind="probes",
            trained_on=OUT_OF_FOLD_HERE,
            features=self.spec.features,
            out_of_fold=True,
            calibration="temperature, fitted on the other folds",
            digest=hashlib.sha256(canonical_json(about).encode()).hexdigest(),
            n_predicted=len(probs) - n_silent,
            warnings=tuple(told),
        )


def out_of_fold(
    features: Matrix,
    given: np.ndarray,
    folds: np.ndarray,
    n_classes: int,
    fits: Mapping[str, Fit],
    *,
    seed: int,
    workers: int = 1,
) -> dict[str, Matrix]:
    """Return calibrated float32 (n, n_classes) probabilities by classifier, each row judged by the other folds.

    A row whose given class no other fold holds gets NaN: nothing can be said of it. Folds run side by side,
    each on one thread, so that the number of workers and cores changes no bit.

    Args:
        features: (n, d), rows in canonical order.
        given: (n,) class indices.
        folds: (n,) from `assign_folds`.
        n_classes: of the dataset.
        fits: classifier -> how it is fitted.
        seed: of everything random.
        workers: threads.
    """
    from sklearn.exceptions import ConvergenceWarning  # noqa: PLC0415 - scikit-learn takes a second to import
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # noqa: PLC0415 - scikit-learn's

    probs = {name: np.full((len(given), n_classes), np.nan) for name in fits}
    work = partial(_judge_fold, features=features, given=given, folds=folds, fits=fits, seed=seed)
    with threadpool_limits(limits=1), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # nearly there is near enough for a probe
        for held, seen, answers in map_shards(work, list(np.unique(folds)), workers=workers, engine="threads"):
            for name, answer in answers.items():
                known = np.zeros((len(held), n_classes))
                known[:, seen] = answer
                known[~np.isin(given[held], seen)] = np.nan
                probs[name][held] = known
    return {name: _calibrated(found, given, folds).astype(np.float32) for name, found in probs.items()}


def _judge_fold(
    fold: int, *, features: Matrix, given: np.ndarray, folds: np.ndarray, fits: Mapping[str, Fit], seed: int
) -> tuple[np.ndarray, np.ndarray, dict[str, Matrix]]:
    """Return (rows of the fold, classes that the other folds hold, probabilities by classifier)."""
    held, others = np.flatnonzero(folds == fold), np.flatnonzero(folds != fold)
    others = others[:: max(1, -(-len(others) // MAX_FIT_ROWS))]  # ids are hashes: every n-th is a sample
    seen, position = np.unique(given[others], return_inverse=True)
    if len(seen) < 2:
        return held, seen, {}
    project = projection(features[others], seed)
    projected = project(features[others])
    inner = folds[others] == np.setdiff1d(np.unique(folds), [fold])[0]
    fitted = {name: fit(projected, position, inner, seed) for name, fit in fits.items()}
    answers = {name: np.empty((len(held), len(seen))) for name in fits}
    for start in range(0, len(held), BLOCK_ROWS):
        block = slice(start, start + BLOCK_ROWS)
        projected = project(features[held[block]])
        for name, predict in fitted.items():
            answers[name][block] = predict(projected)
    return held, seen, answers


def _scarce(given: np.ndarray, families: np.ndarray, n_folds: int) -> np.ndarray:
    """Return the classes that have fewer families than there are folds."""
    pairs = np.unique(np.stack([given, families]), axis=1)
    classes, n_families = np.unique(pairs[0], return_counts=True)
    scarce: np.ndarray = classes[n_families < n_folds]
    return scarce


def projection(features: Matrix, seed: int) -> Callable[[Matrix], Matrix]:
    """Return the function that standardises, keeps the main components and half-whitens them."""
    from sklearn.decomposition import PCA  # noqa: PLC0415 - scikit-learn takes a second to import

    features = features.astype(np.float32)
    mean, scale = features.mean(axis=0), features.std(axis=0) + 1e-6
    kept = (features - mean) / scale
    n = min(N_COMPONENTS, *kept.shape)
    pca = PCA(n, svd_solver="randomized", random_state=seed).fit(kept)
    spread = np.maximum(pca.explained_variance_, 1e-9) ** (WHITENING / 2)
    length = float(np.sqrt((pca.explained_variance_ / spread**2).sum()))

    def project(matrix: Matrix) -> Matrix:
        projected: Matrix = (pca.transform((matrix - mean) / scale) / spread / length).astype(np.float32)
        return projected

    return project


def _calibrated(probs: Matrix, given: np.ndarray, folds: np.ndarray) -> Matrix:
    """Return probabilities at the temperature that suits the *other* folds best (Guo et al., ICML 2017)."""
    logs = np.log(np.clip(probs, 1e-6, None))
    temperatures = np.exp(np.linspace(-1.0, 1.5, 41))
    rows = np.arange(len(given))
    known = np.isfinite(probs).all(axis=1)
    losses = np.full((len(temperatures), len(given)), np.nan)
    for at, temperature in enumerate(temperatures):
        scaled = logs / temperature
        top = scaled.max(axis=1)
        losses[at] = top + np.log(np.exp(scaled - top[:, None]).sum(axis=1)) - scaled[rows, given]
    calibrated = np.full_like(probs, np.nan)
    for fold in np.unique(folds):
        held, others = (folds == fold) & known, (folds != fold) & known
        best = temperatures[int(losses[:, others].mean(axis=1).argmin())] if others.any() else 1.0
        scaled = np.exp((logs[held] - logs[held].max(axis=1, keepdims=True)) / best)
        calibrated[held] = scaled / scaled.sum(axis=1, keepdims=True)
    return calibrated


def choose_strength(
    fit_at: Callable[[float, Matrix, np.ndarray], Predict],
    strengths: Sequence[float],
    features: Matrix,
    position: np.ndarray,
    inner: np.ndarray,
) -> float:
    """Return the strength whose fit on the other rows suits the inner rows best by log loss.

    Tried in the given order, strongest regularisation first, until one is no better than the last. Families of the
    inner rows are all inner, so that copies do not plead for memorising. At most `MAX_CHOICE_ROWS` rows are used.
    """
    rows = np.arange(0, len(position), max(1, -(-len(position) // MAX_CHOICE_ROWS)))
    train = rows[~inner[rows]]
    known, inside = np.unique(position[train], return_inverse=True)
    held = rows[inner[rows] & np.isin(position[rows], known)]
    if len(known) < 2 or not len(held):
        return strengths[len(strengths) // 2]
    target = np.searchsorted(known, position[held])
    best, lowest = strengths[0], np.inf
    for strength in strengths:
        probs = fit_at(strength, features[train], inside)(features[held])
        loss = -float(np.log(np.clip(probs[np.arange(len(held)), target], 1e-6, None)).mean())
        if loss >= lowest:
            break
        best, lowest = strength, loss
    return best


def _fit_linear(features: Matrix, position: np.ndarray, inner: np.ndarray, seed: int) -> Predict:
    """Multinomial logistic regression with a ridge."""
    from sklearn.linear_model import LogisticRegression  # noqa: PLC0415 - scikit-learn takes a second to import

    scale = np.float32(np.sqrt(features.shape[1]))

    def fit_at(strength: float, matrix: Matrix, classes: np.ndarray) -> Predict:
        model = LogisticRegression(C=strength, max_iter=200, tol=1e-3, random_state=seed)
        model.fit(matrix * scale, classes)
        return lambda judged: np.asarray(model.predict_proba(judged * scale))

    return fit_at(choose_strength(fit_at, LINEAR_C, features, position, inner), features, position)


def _fit_neighbours(features: Matrix, position: np.ndarray, inner: np.ndarray, seed: int) -> Predict:
    """Nearest neighbours by cosine, weighted by similarity; in blocks, so that memory is bounded."""
    del inner, seed
    directions = _directions(features)
    votes = np.eye(int(position.max()) + 1)[position]
    n_neighbours = min(N_NEIGHBOURS, len(directions))

    def predict(matrix: Matrix) -> Matrix:
        probs = np.empty((len(matrix), votes.shape[1]))
        block = max(1, 8_000_000 // len(directions))
        for start in range(0, len(matrix), block):
            similar = _directions(matrix[start : start + block]) @ directions.T
            nearest = np.argpartition(-similar, n_neighbours - 1, axis=1)[:, :n_neighbours]
            weights = np.take_along_axis(similar, nearest, axis=1)
            weights = np.exp((weights - weights.max(axis=1, keepdims=True)) / NEIGHBOUR_TEMPERATURE)
            cast = np.einsum("nk,nkc->nc", weights, votes[nearest]) + PRIOR_ROWS / votes.shape[1]
            probs[start : start + block] = cast / cast.sum(axis=1, keepdims=True)
        return probs

    return predict


def _fit_network(features: Matrix, position: np.ndarray, inner: np.ndarray, seed: int) -> Predict:
    """A network with one hidden layer, weight decay and early stopping."""
    from sklearn.neural_network import MLPClassifier  # noqa: PLC0415 - scikit-learn takes a second to import

    scale = np.float32(np.sqrt(features.shape[1]))

    def fit_at(strength: float, matrix: Matrix, classes: np.ndarray) -> Predict:
        size = min(NETWORK_BATCH, len(matrix))
        n_epochs = int(np.clip(NETWORK_STEPS * size // len(matrix), 10, NETWORK_STEPS))
        model = MLPClassifier(
            (128,), alpha=strength, max_iter=n_epochs, batch_size=size, random_state=seed, tol=1e-3
        )
        model.fit(matrix * scale, classes)
        return lambda judged: _both(np.asarray(model.predict_proba(judged * scale)))

    return fit_at(choose_strength(fit_at, NETWORK_DECAY, features, position, inner), features, position)


def _both(probs: Matrix) -> Matrix:
    """Return two columns where a model of two classes gives only the second."""
    return probs if probs.shape[1] > 1 else np.column_stack([1 - probs[:, 0], probs[:, 0]])


CLASSIFIERS: dict[str, Fit] = {"linear": _fit_linear, "neighbours": _fit_neighbours, "network": _fit_network}


def _directions(matrix: Matrix) -> Matrix:
    directions: Matrix = matrix / (np.linalg.norm(matrix, axis=1, keepdims=True) + 1e-12)
    return directions


def _classes(request: Request) -> object:
    import pyarrow as pa  # noqa: PLC0415 - beside its only use

    return pa.array(request.classes, pa.string())


def _refuse_too_few(rows: np.ndarray, families: np.ndarray, n_folds: int) -> None:
    n_families = len(np.unique(families[rows]))
    if len(rows) < MIN_ROWS or n_families < n_folds:
        raise InputError(
            f"Probes need at least {MIN_ROWS} readable labeled rows in {n_folds} or more independent families; "
            f"there are {len(rows)} rows in {n_families} families. Give more data, fewer folds, or another teacher."
        )
