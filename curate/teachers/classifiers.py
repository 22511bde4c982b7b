"""The classifiers of the probes: each is fitted on projected features and chooses its own strength."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

N_NEIGHBOURS = 25
NEIGHBOUR_TEMPERATURE = 0.05  # of the cosine similarity
PRIOR_ROWS = 1.0  # pseudo-count spread over the classes in the neighbours' vote
LINEAR_C = (0.001, 0.004, 0.016, 0.064, 0.25, 1.0, 4.0)  # of components with variance 1
NETWORK_DECAY = (10.0, 3.0, 1.0, 0.1)  # per batch
NETWORK_BATCH = 200
NETWORK_STEPS = 400
MAX_CHOICE_ROWS = 5_000  # a setting is chosen on so many

Matrix = np.ndarray
Predict = Callable[[Matrix], Matrix]  # (n, d) -> (n, n_seen) probabilities
# (features, class positions 0 … n_seen - 1, rows to choose settings on, seed); those rows are one whole fold
Fit = Callable[[Matrix, np.ndarray, np.ndarray, int], Predict]


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
