"""Several teachers' evidence on regions into one: a log pool that is fitted to the given labels, region by region.

    z_k = sum_m w_m(area) log p_m,k + b_k,  p(given = y) = (1 - e) softmax(z)_y + e q_y

Labels are wrong at a rate e, with a class drawn by how common it is (q), so that a wrong label moves no weight. Small
regions have weights of their own: teachers are less sure of them than they say.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize

from curate.teachers.agreement import Doubt, doubt_classes
from curate.teachers.memorised import Guard, find_memorised
from curate.teachers.regions.canvas import Ids

Array = npt.NDArray[np.float64]

CHECK = (
    "Check that its files are of these images and this size, and that its class ids count the classes in the labels' "
    "order and from the same number (0 or 1)."
)
SMALL = 1e-4  # of the image's area: regions of this size count half
MIN_REGIONS = 20  # with fewer nothing is fitted
START_NOISE = 0.05
PRIOR_LABELS = 20.0  # labels that speak for START_NOISE before any is seen
PRIOR_WEIGHT, PRIOR_BIAS = 0.1, 1.0  # nats for a weight that is 1 off the plain mean, for a bias of 1
MAX_WEIGHT, MAX_BIAS = 5.0, 5.0


@dataclass(frozen=True, slots=True)
class Pool:
    """How teachers are weighed.

    Attributes:
        large: (M,) weights on large regions.
        small: (M,) weights on specks; between the two by `believed`.
        bias: (K,) added to the log of each class.
        noise_rate: share of the regions whose label is wrong, as fitted.
        class_share: (K,) of the regions.
        guards: by teacher, whether it repeats labels.
        doubts: of teachers that name classes as if they knew nothing of these masks.
    """

    large: Array
    small: Array
    bias: Array
    noise_rate: float
    class_share: Array
    guards: Mapping[str, Guard]
    doubts: tuple[Doubt, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return JSON values that tell two pools apart."""
        arrays = (self.large, self.small, self.bias, self.class_share)
        return {"noise_rate": self.noise_rate, "fitted": [one.tolist() for one in arrays]}

    def log_probs(self, logs: npt.NDArray[Any], area: Array) -> Array:
        """Return (R, K) log probabilities of the pool.

        Args:
            logs: (R, M, K) of the teachers.
            area: (R,) of the regions, relative to the image.
        """
        believe = believed(area)[:, None]
        weights = self.large * believe + self.small * (1.0 - believe)
        return _normalised(np.einsum("nm,nmk->nk", weights, logs) + self.bias)

    def right(self, log_probs: Array, given: Ids) -> Array:
        """Return (R,) probability that the given label is right."""
        at = np.exp(log_probs[np.arange(len(given)), given]) * (1.0 - self.noise_rate)
        return np.asarray(at / (at + self.noise_rate * self.class_share[given]))


def believed(area: npt.NDArray[Any]) -> Array:
    """Return how much a region of this relative area counts: half at `SMALL`."""
    return np.asarray(area / (area + SMALL), dtype=np.float64)


def fit_pool(
    names: Sequence[str], logs: npt.NDArray[Any], votes: Ids, given: Ids, area: Array, n_classes: int
) -> Pool:
    """Weigh teachers by the likelihood of the given labels of regions; teachers that repeat labels get no weight.

    Args:
        names: M teachers.
        logs: (N, M, K) log of the mean probability on each region.
        votes: (N, M).
        given: (N,) class of each region.
        area: (N,) relative to the image.
        n_classes: K.
    """
    seen = believed(area)
    large = seen >= 0.5
    answered = votes[large].T >= 0
    guards = find_memorised(names, votes[large].T, answered, given[large], n_classes)
    kept = np.asarray([guards[name].kept for name in names])
    counts = np.bincount(given, weights=seen, minlength=n_classes) + 1.0
    share: Array = np.asarray(counts / counts.sum(), dtype=np.float64)
    start: Array = np.where(kept, 1.0 / max(int(kept.sum()), 1), 0.0).astype(np.float64)
    if large.sum() < MIN_REGIONS:
        return Pool(start, start, np.zeros(n_classes), START_NOISE, share, guards)
    problem = _Problem(np.asarray(logs, dtype=np.float64), given, seen, share, start)
    m = len(names)
    bounds = [(0.0, MAX_WEIGHT if one else 0.0) for one in kept] * 2
    bounds += [(-MAX_BIAS, MAX_BIAS)] * n_classes + [(-6.0, -1.0)]
    first = np.concatenate([start, start, np.zeros(n_classes), [np.log(START_NOISE / (1 - START_NOISE))]])
    fitted = np.round(minimize(problem, first, jac=True, method="L-BFGS-B", bounds=bounds).x, 9)
    bias = fitted[2 * m : 2 * m + n_classes]
    return Pool(fitted[:m], fitted[m : 2 * m], bias, float(_sigmoid(fitted[-1])), share, guards)


def doubt_segmenters(
    names: Sequence[str], votes: Ids, given: Ids, area: Array, classes: Sequence[str]
) -> tuple[Doubt, ...]:
    """Return the teachers that agree with labeled regions as often as chance has it, by area.

    Args:
        names: M teachers.
        votes: (N, M) class that each prefers in each region; negative = none.
        given: (N,) class of each region.
        area: (N,) relative to the image.
        classes: K names.
    """
    found = []
    for at, name in enumerate(names):
        rows = np.flatnonzero(votes[:, at] >= 0)
        labels, own, weight = given[rows].astype(np.int64), votes[rows, at].astype(np.int64), area[rows]
        things = "labeled regions, by area,"
        doubt = doubt_classes(name, labels, own, classes, CHECK, things=things, weight=weight)
        found += [doubt] if doubt is not None else []
    return tuple(found)


@dataclass(frozen=True, slots=True)
class _Problem:
    """Negative log likelihood of the labels, with weak priors, and its gradient: weights, weights, biases, logit of e."""

    logs: Array
    given: Ids
    seen: Array
    share: Array
    start: Array

    def __call__(self, parameters: Array) -> tuple[float, Array]:
        n, m, n_classes = self.logs.shape
        small = 1.0 - self.seen
        weights = parameters[:m] * self.seen[:, None] + parameters[m : 2 * m] * small[:, None]
        bias = parameters[2 * m : 2 * m + n_classes]
        probs = np.exp(_normalised(np.einsum("nm,nmk->nk", weights, self.logs) + bias))
        noise = float(_sigmoid(parameters[-1]))
        at = probs[np.arange(n), self.given]
        likelihood = (1.0 - noise) * at + noise * self.share[self.given]
        sure = (1.0 - noise) * at / likelihood
        slope = probs * sure[:, None]
        slope[np.arange(n), self.given] -= sure
        slope *= self.seen[:, None]
        by_teacher = np.einsum("nk,nmk->nm", slope, self.logs)
        off = parameters[: 2 * m] - np.tile(self.start, 2)
        loss = (
            -(self.seen * np.log(likelihood)).sum() + PRIOR_WEIGHT * (off**2).sum() + PRIOR_BIAS * (bias**2).sum()
        )
        loss -= PRIOR_LABELS * (START_NOISE * np.log(noise) + (1 - START_NOISE) * np.log(1 - noise))
        gradient = np.concatenate(
            [
                (by_teacher * self.seen[:, None]).sum(axis=0),
                (by_teacher * small[:, None]).sum(axis=0),
                slope.sum(axis=0) + 2.0 * PRIOR_BIAS * bias,
                [-(self.seen * (self.share[self.given] - at) / likelihood).sum() * noise * (1 - noise)],
            ]
        )
        gradient[: 2 * m] += 2.0 * PRIOR_WEIGHT * off
        gradient[-1] -= PRIOR_LABELS * (START_NOISE - noise)
        return float(loss), gradient


def _normalised(logits: Array) -> Array:
    shifted = logits - logits.max(axis=1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True)))


def _sigmoid(value: float) -> float:
    return float(1.0 / (1.0 + np.exp(-value)))
