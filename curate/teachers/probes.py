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
from curate.errors import TooFewRowsError
from curate.schema import canonical_json
from curate.spec import ProbesSpec
from curate.teachers.class_names import named
from curate.teachers.classifiers import CLASSIFIERS, Fit, Matrix
from curate.teachers.each_class import given_matrix
from curate.teachers.each_class import n_silent as silent_rows
from curate.teachers.features import image_features
from curate.teachers.folds import assign_folds
from curate.teachers.neighbours import nearest_column, nearest_labels
from curate.teachers.probes_each import folds_of, out_of_fold_each
from curate.teachers.protocol import OUT_OF_FOLD_HERE, Answer, Request, TeacherCard
from curate.teachers.refit import class_shares

VERSION = 6
MAX_FIT_ROWS = (
    50_000  # a probe is fitted on at most so many rows of the other folds, chosen by the hash of their ids
)
BLOCK_ROWS = 20_000  # judged at once
N_COMPONENTS = 200
WHITENING = 0.5  # exponent: 0 keeps the scale of components, 1 makes them alike
MIN_ROWS = 20


@dataclass(frozen=True, slots=True)
class Probes:
    """The probes of a spec; each classifier is a teacher of its own, all on the same features."""

    spec: ProbesSpec

    def answer(self, request: Request) -> Sequence[Answer]:
        """Judge every label row.

        Raises:
            ConfigError: unknown features.
            InputError: too few rows or families for the folds.
        """
        features = image_features(self.spec.features, request)
        if request.independent:
            return self._answer_each(features, request)
        order = np.argsort(np.asarray(request.labels["label_id"].to_pylist(), dtype=object), kind="stable")
        given = pc.index_in(request.labels["label"], value_set=_classes(request)).to_numpy(zero_copy_only=False)
        usable = np.isfinite(features).all(axis=1) & np.isfinite(given.astype(np.float64))
        rows = order[usable[order]]
        _refuse_too_few(rows, request.families, self.spec.folds)
        given = given[rows].astype(np.int64)
        folds = assign_folds(given, request.families[rows], self.spec.folds, seed=request.seed)
        answers: list[Answer] = []
        scarce = _scarce(given, request.families[rows], self.spec.folds)
        judged = out_of_fold(
            features[rows],
            given,
            folds,
            len(request.classes),
            {name: CLASSIFIERS[name] for name in self.spec.classifiers},
            seed=request.seed,
            workers=request.workers,
            refits=self.spec.refits,
        )
        nearest, n_searched = nearest_labels(
            features[rows],
            given,
            request.families[rows],
            projection(features[rows][:: _step(len(rows))], request.seed),
        )
        column = nearest_column(nearest, rows, len(features), n_searched)
        for name, probs in judged.items():
            full = np.full((len(features), len(request.classes)), np.nan, dtype=np.float32)
            full[rows] = probs
            card = self._card(name, full, [request.classes[at] for at in scarce], request)
            answers.append(Answer(card, full, None if answers else column))  # one column: the features are the same
        return answers

    def _answer_each(self, features: Matrix, request: Request) -> Sequence[Answer]:
        """Judge every class of every image by itself; see `probes_each`."""
        given = given_matrix(request.labels, request.classes)
        order = np.argsort(np.asarray(request.labels["label_id"].to_pylist(), dtype=object), kind="stable")
        rows = order[np.isfinite(features).all(axis=1)[order]]
        _refuse_too_few(rows, request.families, self.spec.folds)
        folds = folds_of(given[rows], request.families[rows], self.spec.folds, seed=request.seed)
        judged = out_of_fold_each(
            features[rows], given[rows], folds, self.spec.classifiers, seed=request.seed, workers=request.workers
        )
        answers = []
        for name, probs in judged.items():
            full = np.full(given.shape, np.nan, dtype=np.float32)
            full[rows] = probs
            answers.append(Answer(self._card(name, full, (), request), full))
        return answers

    def _card(self, classifier: str, probs: Matrix, scarce: Sequence[str], request: Request) -> TeacherCard:
        told = []
        if scarce:
            told.append(
                f"{len(scarce)} classes have fewer independent images than the {self.spec.folds} folds and are "
                f"hardly known: {named(scarce)}"
            )
        n_silent = silent_rows(probs, independent=request.independent)
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
            calibration="temperature, fitted on the other folds" + (", one-vs-rest" if request.independent else ""),
            digest=hashlib.sha256(canonical_json(about).encode()).hexdigest(),
            n_predicted=len(probs) - n_silent,
            warnings=tuple(told),
            preprocessing=f"features {self.spec.features} of the upright image, cropped to the box where there is one",
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
    refits: int = 0,
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
        refits: rounds in which the training rows' labels are weighed against the other training rows; 0 = none.
    """
    from sklearn.exceptions import ConvergenceWarning  # noqa: PLC0415 - scikit-learn takes a second to import
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # noqa: PLC0415 - scikit-learn's

    probs = {name: np.full((len(given), n_classes), np.nan) for name in fits}
    work = partial(judge_fold, features=features, given=given, folds=folds, fits=fits, seed=seed, refits=refits)
    with threadpool_limits(limits=1), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # nearly there is near enough for a probe
        for held, seen, answers in map_shards(work, list(np.unique(folds)), workers=workers, engine="threads"):
            for name, answer in answers.items():
                known = np.zeros((len(held), n_classes))
                known[:, seen] = answer
                known[~np.isin(given[held], seen)] = np.nan
                probs[name][held] = known
    return {name: _calibrated(found, given, folds).astype(np.float32) for name, found in probs.items()}


def judge_fold(
    fold: int,
    *,
    features: Matrix,
    given: np.ndarray,
    folds: np.ndarray,
    fits: Mapping[str, Fit],
    seed: int,
    refits: int,
) -> tuple[np.ndarray, np.ndarray, dict[str, Matrix]]:
    """Return (rows of the fold, classes that the other folds hold, probabilities by classifier), uncalibrated."""
    held, others = np.flatnonzero(folds == fold), np.flatnonzero(folds != fold)
    others = others[:: _step(len(others))]  # ids are hashes: every n-th is a sample
    seen, position = np.unique(given[others], return_inverse=True)
    if len(seen) < 2:
        return held, seen, {}
    project = projection(features[others], seed)
    projected = project(features[others])
    inner = folds[others] == np.setdiff1d(np.unique(folds), [fold])[0]
    shares = class_shares(projected, position, folds[others], refits, seed=seed)
    fitted = {name: fit(projected, shares, inner, seed) for name, fit in fits.items()}
    answers = {name: np.empty((len(held), len(seen))) for name in fits}
    for start in range(0, len(held), BLOCK_ROWS):
        block = slice(start, start + BLOCK_ROWS)
        projected = project(features[held[block]])
        for name, predict in fitted.items():
            answers[name][block] = predict(projected)
    return held, seen, answers


def _step(n_rows: int) -> int:
    """Return the step that leaves at most MAX_FIT_ROWS rows."""
    return max(1, -(-n_rows // MAX_FIT_ROWS))


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
    counts = (features >= 0).all(
        axis=0
    )  # activations and histograms: their spread grows with them, their root's does not
    features[:, counts] = np.sqrt(features[:, counts])
    mean, scale = features.mean(axis=0), features.std(axis=0) + 1e-6
    kept = (features - mean) / scale
    n = min(N_COMPONENTS, *kept.shape)
    pca = PCA(n, svd_solver="randomized", random_state=seed).fit(kept)
    spread = np.maximum(pca.explained_variance_, 1e-9) ** (WHITENING / 2)
    length = float(np.sqrt((pca.explained_variance_ / spread**2).sum()))

    def project(matrix: Matrix) -> Matrix:
        matrix = matrix.astype(np.float32)
        matrix[:, counts] = np.sqrt(np.maximum(matrix[:, counts], 0.0))
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


def _classes(request: Request) -> object:
    import pyarrow as pa  # noqa: PLC0415 - beside its only use

    return pa.array(request.classes, pa.string())


def _refuse_too_few(rows: np.ndarray, families: np.ndarray, n_folds: int) -> None:
    n_families = len(np.unique(families[rows]))
    if len(rows) < MIN_ROWS or n_families < n_folds:
        raise TooFewRowsError(
            f"Probes need at least {MIN_ROWS} readable labeled rows in {n_folds} or more independent families; "
            f"there are {len(rows)} rows in {n_families} families. Give more data, fewer folds, or another teacher."
        )
