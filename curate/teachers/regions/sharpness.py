"""One exponent that makes the teachers' mean as sure as it is right: p ** sharpness, normalised, fitted to given labels.

The mean of several teachers that are each well calibrated is less sure than it could be; one of class ids is too sure.
Cells are no independent witnesses, but there is only one number to find. A part of the labels is taken to be wrong, so
that a few of them do not make the mean unsure.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize_scalar

Array = npt.NDArray[np.floating]

WRONG = 0.02  # of the labeled area, of any class: what a single cell can cost at most
BOUND = 4.0
MIN_CELLS = 200  # with fewer nothing is fitted
_LEAST = 1e-6


def fit_sharpness(pooled: Array, given: Array) -> float:
    """Return the exponent, from 1 / `BOUND` to `BOUND`, rounded; 1 where there are too few cells.

    It minimises - Σ given log((1 - WRONG) q + WRONG / K) over the cells, q = pooled ** exponent, normalised.

    Args:
        pooled: (N, K) weighted mean of the teachers in each cell; rows sum to 1.
        given: (N, K) share of the cell that each class has by the labels.
    """
    n, n_classes = pooled.shape
    if n < MIN_CELLS:
        return 1.0
    logs = np.log(np.maximum(pooled.astype(np.float64), _LEAST))
    share = given.astype(np.float64)

    def loss(log_exponent: float) -> float:
        q = np.exp(np.exp(log_exponent) * logs)
        q /= q.sum(axis=1, keepdims=True)
        return -float((share * np.log((1 - WRONG) * q + WRONG / n_classes)).sum())

    bound = np.log(BOUND)
    found = minimize_scalar(loss, bounds=(-bound, bound), method="bounded", options={"xatol": 1e-4})
    return round(float(np.exp(found.x)), 3)
