"""Probes: different classifiers on the same image features, each row judged only by models that never saw it."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version

import numpy as np
import pyarrow.compute as pc

from curate.config import ProbesSpec
from curate.errors import ConfigError, InputError, did_you_mean
from curate.schema import canonical_json
from curate.teachers.features import image_features
from curate.teachers.folds import assign_folds
from curate.teachers.protocol import OUT_OF_FOLD_HERE, Answer, Request, TeacherCard

VERSION = 2
MAX_FIT_ROWS = (
    50_000  # a probe is fitted on at most so many rows of the other folds, chosen by the hash of their ids
)
BLOCK_ROWS = 20_000  # judged at once
N_COMPONENTS = 200
WHITENING = 0.5  # exponent: 0 keeps the scale of components, 1 makes them alike
N_NEIGHBOURS = 25
NEIGHBOUR_TEMPERATURE = 0.05  # of the cosine similarity
PRIOR_ROWS = 1.0  # pseudo-count spread over the classes in the neighbours' vote
MIN_ROWS = 20

Matrix = np.ndarray
Predict = Callable[[Matrix], Matrix]  # (n, d) -> (n, n_seen) probabilities
Fit = Callable[[Matrix, np.ndarray, int], Predict]  # (features, class positions 0 … n_seen - 1, seed)


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
        for name in self.spec.classifiers:
            probs = out_of_fold(features[rows], given, folds, len(request.classes), CLASSIFIERS[name], request)
            full = np.full((len(features), len(request.classes)), np.nan, dtype=np.float32)
            full[rows] = probs
            answers.append(Answer(self._card(name, full, request), full))
        return answers

    def _card(self, classifier: str, probs: Matrix, request: Request) -> TeacherCard:
        told = []
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
    features: Matrix, given: np.ndarray, folds: np.ndarray, n_classes: int, fit: Fit, request: Request
) -> Matrix:
    """Return calibrated float32 (n, n_classes) probabilities, each row from a model of the other folds.

    A row whose given class no other fold holds gets NaN: nothing can be said of it.
    """
    probs = np.full((len(given), n_classes), np.nan, dtype=np.float64)
    for fold in np.unique(folds):
        held, others = np.flatnonzero(folds == fold), np.flatnonzero(folds != fold)
        others = others[:: max(1, -(-len(others) // MAX_FIT_ROWS))]  # ids are hashes: every n-th is a sample
        seen, position = np.unique(given[others], return_inverse=True)
        if len(seen) < 2:
            continue
        project = projection(features[others], request.seed)
        predict = fit(project(features[others]), position, request.seed)
        known = np.full((len(held), n_classes), 0.0)
        for start in range(0, len(held), BLOCK_ROWS):
            block = slice(start, start + BLOCK_ROWS)
            known[block, seen] = predict(project(features[held[block]]))
        known[~np.isin(given[held], seen)] = np.nan
        probs[held] = known
    return _calibrated(probs, given, folds).astype(np.float32)


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


def _fit_linear(features: Matrix, position: np.ndarray, seed: int) -> Predict:
    """Multinomial logistic regression with a ridge."""
    from sklearn.exceptions import ConvergenceWarning  # noqa: PLC0415 - scikit-learn takes a second to import
    from sklearn.linear_model import LogisticRegression  # noqa: PLC0415 - as above

    scale = np.float32(np.sqrt(features.shape[1]))
    model = LogisticRegression(C=0.003, max_iter=200, tol=1e-3, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # nearly there is near enough for a probe
        model.fit(features * scale, position)

    def predict(matrix: Matrix) -> Matrix:
        probs: Matrix = model.predict_proba(matrix * scale)
        return probs

    return predict


def _fit_neighbours(features: Matrix, position: np.ndarray, seed: int) -> Predict:
    """Nearest neighbours by cosine, weighted by similarity; in blocks, so that memory is bounded."""
    del seed
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


def _fit_network(features: Matrix, position: np.ndarray, seed: int) -> Predict:
    """A network with one hidden layer and strong weight decay."""
    from sklearn.exceptions import ConvergenceWarning  # noqa: PLC0415 - scikit-learn takes a second to import
    from sklearn.neural_network import MLPClassifier  # noqa: PLC0415 - as above

    scale = np.float32(np.sqrt(features.shape[1]))
    size = min(200, len(features))
    model = MLPClassifier((128,), alpha=3.0, max_iter=30, batch_size=size, random_state=seed, tol=1e-3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # stopped early on purpose
        model.fit(features * scale, position)
    n_seen = int(position.max()) + 1

    def predict(matrix: Matrix) -> Matrix:
        probs: Matrix = model.predict_proba(matrix * scale)
        return probs if probs.shape[1] == n_seen else np.column_stack([1 - probs[:, 1], probs[:, 1]])

    return predict


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
