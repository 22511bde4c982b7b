"""A kernel probe in closed form: least squares on a Gaussian kernel, so that fitting again on other labels is cheap.

The kernel is reduced to a bounded number of landmark rows (Williams and Seeger, NIPS 2000). What depends on images
alone is computed once; labels enter by one product and the solution of one factored system.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from scipy.linalg import cho_factor, cho_solve, solve_triangular
from scipy.special import softmax

Matrix = np.ndarray

N_LANDMARKS = 1_500
WIDTH = 0.5  # of exp(-WIDTH · d²) between directions of unit length, where unrelated rows are at d² = 2
RIDGES = (10.0, 3.0, 1.0, 0.3)  # strongest first
SHARPNESS = np.exp(np.linspace(0.0, 3.5, 36))  # of the softmax over least-squares scores
_JITTER = 1e-5
_BLOCK_ROWS = 10_000


class KernelMap:
    """Images as float32 vectors whose inner products are the kernel's, as far as the landmarks tell.

    Landmarks are every n-th of the given rows: those stand in the order of hashes, so that this is a sample.
    """

    def __init__(self, features: Matrix) -> None:
        self._landmarks = _directions(features[:: max(1, -(-len(features) // N_LANDMARKS))])
        own = _kernel(self._landmarks, self._landmarks).astype(np.float64)
        own[np.diag_indices_from(own)] += _JITTER
        self._root = np.linalg.cholesky(own).astype(np.float32)

    def __call__(self, features: Matrix) -> Matrix:
        """Return float32 (n, n_landmarks)."""
        mapped = np.empty((len(features), len(self._landmarks)), dtype=np.float32)
        for start in range(0, len(features), _BLOCK_ROWS):
            part = slice(start, start + _BLOCK_ROWS)
            near = _kernel(self._landmarks, _directions(features[part]))
            mapped[part] = solve_triangular(self._root, near, lower=True, overwrite_b=True, check_finite=False).T
        return mapped


class LeaveOut:
    """Least squares on some blocks of rows at a time, whatever the labels: a block's moments are summed up once."""

    def __init__(self, mapped: Matrix, blocks: np.ndarray) -> None:
        self.blocks, self._mapped = blocks, mapped
        self._rows = {int(b): np.flatnonzero(blocks == b) for b in np.unique(blocks)}
        self._moments = {b: mapped[rows].T @ mapped[rows] for b, rows in self._rows.items()}
        self._factors: dict[tuple[float, int | None], tuple[Matrix, bool]] = {}

    def scores(self, targets: Matrix, ridge: float, held: int) -> Matrix:
        """Return (n_held, K) scores of the rows of a block by a fit on all others to float targets (n, K)."""
        weights, centre = self.fitted(targets, ridge, held)
        return np.asarray(self._mapped[self._rows[held]] @ weights + centre)

    def fitted(self, targets: Matrix, ridge: float, held: int | None) -> tuple[Matrix, Matrix]:
        """Return (weights, centre) of a fit on all rows but those of a block; None leaves out no block."""
        key = (ridge, held)
        if key not in self._factors:
            moments = np.sum([m for block, m in self._moments.items() if block != held], axis=0)
            moments[np.diag_indices_from(moments)] += ridge
            self._factors[key] = cho_factor(moments, lower=True, overwrite_a=True, check_finite=False)
        rest = slice(None) if held is None else self.blocks != held
        centre = targets[rest].mean(axis=0, dtype=np.float64).astype(np.float32)
        weights = cho_solve(self._factors[key], self._mapped[rest].T @ (targets[rest] - centre), check_finite=False)
        return weights, centre


def ridge_and_sharpness(leave: LeaveOut, targets: Matrix, held: Sequence[int]) -> tuple[float, float]:
    """Return the ridge and the softmax's sharpness that suit the targets of the held blocks best by log loss."""
    best, lowest = (RIDGES[0], 1.0), np.inf
    target = np.concatenate([targets[leave.blocks == block] for block in held])
    for ridge in RIDGES:
        scores = np.concatenate([leave.scores(targets, ridge, block) for block in held])
        losses = [float(-(target * log_softmax(s * scores)).sum(axis=1).mean()) for s in SHARPNESS]
        if min(losses) >= lowest:
            break
        best, lowest = (ridge, float(SHARPNESS[int(np.argmin(losses))])), min(losses)
    return best


def fit_kernel(features: Matrix, shares: Matrix, inner: np.ndarray, seed: int) -> Callable[[Matrix], Matrix]:
    """Fit the kernel probe; ridge and sharpness are chosen on the inner rows."""
    del seed
    to_kernel = KernelMap(features)
    leave = LeaveOut(to_kernel(features), inner.astype(np.int64))
    targets = shares.astype(np.float32)
    can_choose = inner.any() and not inner.all()
    ridge, sharpness = ridge_and_sharpness(leave, targets, [1]) if can_choose else (1.0, float(np.e))
    weights, centre = leave.fitted(targets, ridge, None)

    def predict(matrix: Matrix) -> Matrix:
        return np.asarray(softmax(sharpness * (to_kernel(matrix) @ weights + centre).astype(np.float64), axis=1))

    return predict


def log_softmax(logits: Matrix) -> Matrix:
    """Return log probabilities over the last axis of (n, K)."""
    shifted = logits - logits.max(axis=1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True)))


def _kernel(ones: Matrix, others: Matrix) -> Matrix:
    """Return float32 (n_ones, n_others) between directions of unit length."""
    return np.asarray(np.exp(np.float32(2.0 * WIDTH) * (ones @ others.T - np.float32(1.0))))


def _directions(features: Matrix) -> Matrix:
    return np.asarray(features / (np.linalg.norm(features, axis=1, keepdims=True) + 1e-12), dtype=np.float32)
