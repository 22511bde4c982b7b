"""The classifiers of the probes: each is fitted on projected features and chooses its own strength."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from curate.teachers.kernel import fit_kernel

N_NEIGHBOURS = 25
NEIGHBOUR_TEMPERATURE = 0.05  # of the cosine similarity
PRIOR_ROWS = 1.0  # pseudo-count spread over the classes in the neighbours' vote
LINEAR_C = (0.001, 0.004, 0.016, 0.064, 0.25, 1.0, 4.0)  # of components with variance 1
NETWORK_DECAY = (10.0, 3.0, 1.0, 0.1)  # per batch
NETWORK_BATCH = 200
NETWORK_STEPS = 400
MAX_CHOICE_ROWS = 5_000  # a setting is chosen on so many
MIN_SHARE = 0.05  # of a class in a row; below, it is not worth a row of its own

Matrix = np.ndarray
Predict = Callable[[Matrix], Matrix]  # (n, d) -> (n, n_seen) probabilities
# (features, (n, n_seen) shares of the classes, rows to choose settings on, seed); those rows are one whole fold
Fit = Callable[[Matrix, Matrix, np.ndarray, int], Predict]


def choose_strength(
    fit_at: Callable[[float, Matrix, Matrix], Predict],
    strengths: Sequence[float],
    features: Matrix,
    shares: Matrix,
    inner: np.ndarray,
) -> float:
    """Return the strength whose fit on the other rows suits the inner rows best by log loss.

    Tried in the given order, strongest regularisation first, until one is no better than the last. Families of the
    inner rows are all inner, so that copies do not plead for memorising. At most `MAX_CHOICE_ROWS` rows are used.
    """
    rows = np.arange(0, len(shares), max(1, -(-len(shares) // MAX_CHOICE_ROWS)))
    train = rows[~inner[rows]]
    known = (shares[train] > 0).any(axis=0)
    held = rows[inner[rows] & known[shares[rows].argmax(axis=1)]]
    if known.sum() < 2 or not len(held):
        return strengths[len(strengths) // 2]
    target = shares[held]
    best, lowest = strengths[0], np.inf
    for strength in strengths:
        probs = fit_at(strength, features[train], shares[train])(features[held])
        loss = -float((target * np.log(np.clip(probs, 1e-6, None))).sum(axis=1).mean())
        if loss >= lowest:
            break
        best, lowest = strength, loss
    return best


def linear_at(strength: float, features: Matrix, shares: Matrix, seed: int) -> Predict:
    """Fit a multinomial logistic regression with a ridge."""
    from sklearn.linear_model import LogisticRegression  # noqa: PLC0415 - scikit-learn takes a second to import

    scale = np.float32(np.sqrt(features.shape[1]))
    rows, classes, weights = weighted_rows(shares)
    model = LogisticRegression(C=strength, max_iter=200, tol=1e-3, random_state=seed)
    model.fit(features[rows] * scale, classes, sample_weight=weights)
    return lambda judged: _spread(model.predict_proba(judged * scale), model.classes_, shares.shape[1])


def linear_strength(features: Matrix, shares: Matrix, inner: np.ndarray, seed: int) -> float:
    """Return the ridge's strength that suits the inner rows best."""
    return choose_strength(lambda c, matrix, s: linear_at(c, matrix, s, seed), LINEAR_C, features, shares, inner)


def _fit_linear(features: Matrix, shares: Matrix, inner: np.ndarray, seed: int) -> Predict:
    return linear_at(linear_strength(features, shares, inner, seed), features, shares, seed)


def _fit_neighbours(features: Matrix, shares: Matrix, inner: np.ndarray, seed: int) -> Predict:
    """Nearest neighbours by cosine, weighted by similarity."""
    del inner, seed
    return neighbours_vote(features, shares, np.full(shares.shape[1], 1.0 / shares.shape[1]))


def neighbours_vote(features: Matrix, shares: Matrix, prior: Matrix) -> Predict:
    """Return what the nearest rows say of each class, weighted by similarity; in blocks, so that memory is bounded.

    Args:
        features: (n, d).
        shares: (n, K) what each row says of each class.
        prior: (K,) what `PRIOR_ROWS` further rows say.
    """
    directions = _directions(features)
    n_neighbours = min(N_NEIGHBOURS, len(directions))

    def predict(matrix: Matrix) -> Matrix:
        probs = np.empty((len(matrix), shares.shape[1]))
        block = max(1, 8_000_000 // len(directions))
        for start in range(0, len(matrix), block):
            similar = _directions(matrix[start : start + block]) @ directions.T
            nearest = np.argpartition(-similar, n_neighbours - 1, axis=1)[:, :n_neighbours]
            weights = np.take_along_axis(similar, nearest, axis=1)
            weights = np.exp((weights - weights.max(axis=1, keepdims=True)) / NEIGHBOUR_TEMPERATURE)
            cast = np.einsum("nk,nkc->nc", weights, shares[nearest]) + PRIOR_ROWS * prior
            probs[start : start + block] = cast / (weights.sum(axis=1, keepdims=True) + PRIOR_ROWS)
        return probs

    return predict


def _fit_network(features: Matrix, shares: Matrix, inner: np.ndarray, seed: int) -> Predict:
    """A network with one hidden layer, weight decay and early stopping."""
    from sklearn.neural_network import MLPClassifier  # noqa: PLC0415 - scikit-learn takes a second to import

    scale = np.float32(np.sqrt(features.shape[1]))

    def fit_at(strength: float, matrix: Matrix, some: Matrix) -> Predict:
        rows, classes, weights = weighted_rows(some)
        size = min(NETWORK_BATCH, len(rows))
        n_epochs = int(np.clip(NETWORK_STEPS * size // len(rows), 10, NETWORK_STEPS))
        model = MLPClassifier(
            (128,), alpha=strength, max_iter=n_epochs, batch_size=size, random_state=seed, tol=1e-3
        )
        model.fit(matrix[rows] * scale, classes, sample_weight=weights)
        return lambda judged: _spread(model.predict_proba(judged * scale), model.classes_, some.shape[1])

    return fit_at(choose_strength(fit_at, NETWORK_DECAY, features, shares, inner), features, shares)


def weighted_rows(shares: Matrix) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Return (row numbers, classes, weights): a row for each class that has a share in it worth counting.

    The weights are None where each row is of one class alone.
    """
    rows, classes = np.nonzero(shares >= MIN_SHARE)
    weights = shares[rows, classes]
    return rows, classes, None if len(rows) == len(shares) and (weights == 1.0).all() else weights


def _spread(probs: Matrix, classes: np.ndarray, n_classes: int) -> Matrix:
    """Return (n, n_classes) with zeros for the classes that the model never saw."""
    spread = np.zeros((len(probs), n_classes))
    spread[:, classes] = probs
    return spread


CLASSIFIERS: dict[str, Fit] = {
    "linear": _fit_linear,
    "kernel": fit_kernel,
    "neighbours": _fit_neighbours,
    "network": _fit_network,
}


def _directions(matrix: Matrix) -> Matrix:
    directions: Matrix = matrix / (np.linalg.norm(matrix, axis=1, keepdims=True) + 1e-12)
    return directions
