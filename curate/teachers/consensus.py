"""What is true by all annotators and teachers together, and what it is by all but one of them.

Every annotator has an error rate; an error is taken to be any of the other classes alike. The teachers' mean is the
prior of each image. Rates and consensus follow from each other and are fitted in turns. What is said about one
annotator is held against a consensus that leaves his own answers out, so nobody confirms himself.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from curate.teachers.noise import Floats, Ints

N_ROUNDS = 12
_PRIOR_ANSWERS = 5.0  # each annotator begins with so many answers of the average quality
_LEAST = 1e-3  # error rates and teachers' probabilities are kept off 0 and 1
_N_GRID = 401
_CHI_SQUARE_95 = 3.841458820694124
_TEMPERATURES = (0.5, 0.7, 1.0, 1.4, 2.0, 2.8, 4.0)
_BLOCK_CELLS = 4_000_000  # images times classes that are worked on at once: 32 MB a matrix
_COMMON_RATES = (0.005, 0.01, 0.02, 0.04, 0.07, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5)


@dataclass(frozen=True, slots=True)
class Consensus:
    """What the answers say together.

    Attributes:
        probs: (N, K) by all annotators and teachers of each image.
        own_prob: (A,) of each answer, how likely it is by all others: the annotator's own answer is left out.
        others: (A,) of each answer, the class that is likeliest by all others.
        has_reference: (A,) whether there is anybody else: another annotator of the image, or a teacher.
        weight_rate: (J,) error rate by which each annotator was weighed, shrunken a little towards the average.
        temperature: by which the teachers were softened.
    """

    probs: Floats
    own_prob: Floats
    others: Ints
    has_reference: NDArray[np.bool_]
    weight_rate: Floats
    temperature: float


def find_consensus(
    image: Ints, annotator: Ints, label: Ints, *, n_images: int, n_classes: int, teachers: Floats | None = None
) -> Consensus:
    """Fit error rates and consensus.

    Args:
        image: (A,) index of the image of each answer.
        annotator: (A,) index of who gave it.
        label: (A,) class index.
        n_images: N.
        n_classes: K, at least 2.
        teachers: (N, K) mean probabilities; a row of NaN = no teacher has an answer. None = no teachers.

    Source: Dawid and Skene (1979) with one rate per annotator; leaving an answer's own author out follows CROWDLAB
    (Goh, Tkachenko and Mueller 2022).
    """
    n_annotators = int(annotator.max()) + 1 if len(annotator) else 0
    blocks = _blocks(image, n_images, n_classes)
    taught: NDArray[np.bool_] = np.zeros(n_images, dtype=bool)
    if teachers is not None:
        for images, _ in blocks:
            taught[images] = np.isfinite(teachers[images]).all(axis=1)
    n_answers = np.bincount(image, minlength=n_images)
    has_reference = (n_answers[image] > 1) | taught[image]
    shares = (np.bincount(label, minlength=n_classes) + 1.0) / (len(label) + n_classes)
    temperature = _temperature(teachers, taught, image, label) if teachers is not None else 1.0
    prior = np.tile(np.log(shares), (n_images, 1))
    for images, _ in blocks if teachers is not None else ():
        known = np.flatnonzero(taught[images]) + images.start
        prior[known] = np.log(np.clip(teachers[known], _LEAST, None)) / temperature  # type: ignore[index]
    rate = np.full(n_annotators, 0.2)
    seen = np.bincount(annotator, minlength=n_annotators)
    wrong = np.empty(len(image))
    for _ in range(N_ROUNDS):
        weight = _log_odds(rate, n_classes)[annotator]
        for images, rows in blocks:
            probs = _softmax(_together(prior[images], image[rows] - images.start, label[rows], weight[rows]))
            wrong[rows] = 1.0 - probs[image[rows] - images.start, label[rows]]
        average = float(wrong.mean()) if len(wrong) else 0.0
        errors = np.bincount(annotator, weights=wrong, minlength=n_annotators)
        rate = (errors + _PRIOR_ANSWERS * average) / (seen + _PRIOR_ANSWERS)
        rate = np.clip(rate, _LEAST, 1.0 - 1.0 / n_classes - _LEAST)
    own, best = np.empty(len(image)), np.empty(len(image), dtype=np.int64)
    weight = _log_odds(rate, n_classes)[annotator]
    for images, rows in blocks:
        at, given = image[rows] - images.start, label[rows]
        total = _together(prior[images], at, given, weight[rows])
        without = total[at]
        without[np.arange(len(rows)), given] -= weight[rows]
        left = _softmax(without)
        own[rows], best[rows] = left[np.arange(len(rows)), given], left.argmax(axis=1)
        prior[images] = _softmax(total)  # the prior of these images is not needed any more: one matrix less
    return Consensus(prior, own, best, has_reference, rate, temperature)


def _blocks(image: Ints, n_images: int, n_classes: int) -> list[tuple[slice, Ints]]:
    """Return slices of images with the answers about them, in the order of the answers; so memory is bounded."""
    order = np.argsort(image, kind="stable")
    starts = range(0, n_images, max(1, _BLOCK_CELLS // n_classes))
    slices = [slice(start, min(start + starts.step, n_images)) for start in starts]
    ends = np.searchsorted(image[order], [one.stop for one in slices])
    return [(one, rows) for one, rows in zip(slices, np.split(order, ends[:-1]), strict=True)]


def error_rates(
    own_prob: Floats, annotator: Ints, *, n_annotators: int, n_classes: int
) -> tuple[Floats, Floats, Floats]:
    """Return the error rate of each annotator with its 95 % interval, each (J,).

    The others are not always right either: an answer that they find likely with p has the probability
    (1 - e) p + e (1 - p) / (K - 1) under an error rate e. The rate is the likeliest one, the interval all those whose
    likelihood is not significantly lower (likelihood ratio, chi-square with one degree of freedom). It takes the
    others' probabilities at their word.

    Args:
        own_prob: (A,) of each answer, how likely it is by all others.
        annotator: (A,).
        n_annotators: J; one without answers gets 0, 0, 1.
        n_classes: K.
    """
    grid = np.linspace(0.0, 1.0, _N_GRID) ** 2  # finer where rates are low
    likely = np.clip(own_prob, 1e-9, 1.0 - 1e-9)
    log_likelihood = np.empty((len(grid), n_annotators))
    for place, rate in enumerate(grid):
        terms = np.log((1.0 - rate) * likely + rate * (1.0 - likely) / (n_classes - 1))
        log_likelihood[place] = np.bincount(annotator, weights=terms, minlength=n_annotators)
    inside = 2.0 * (log_likelihood.max(axis=0) - log_likelihood) <= _CHI_SQUARE_95
    low = grid[inside.argmax(axis=0)]
    high = grid[len(grid) - 1 - inside[::-1].argmax(axis=0)]
    return grid[log_likelihood.argmax(axis=0)], low, high


def _log_odds(rate: Floats, n_classes: int) -> Floats:
    """Return the log odds of "right" against one wrong class."""
    return np.asarray(np.log(1.0 - rate) - np.log(rate / (n_classes - 1)))


def _together(prior: Floats, image: Ints, label: Ints, weight: Floats) -> Floats:
    """Return the logits of images: their prior, and the weight of each answer on the class that it gives."""
    total = prior.copy()
    np.add.at(total, (image, label), weight)
    return total


def _softmax(logits: Floats) -> Floats:
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(shifted / shifted.sum(axis=1, keepdims=True))


def _temperature(teachers: Floats, taught: NDArray[Any], image: Ints, label: Ints) -> float:
    """Return by how much to soften the teachers, so that they are as sure as the answers bear out.

    Answers err as well: an answer that contradicts sure teachers is explained by one of the two, and which of them
    shows in how often it happens where the teachers are sure and where they are not. So the temperature is fitted
    together with a common error rate of the answers.
    """
    rows = np.flatnonzero(taught[image])
    if not len(rows):
        return 1.0
    n_classes = teachers.shape[1]
    own = np.empty((len(_TEMPERATURES), len(rows)))
    for start in range(0, len(rows), max(1, _BLOCK_CELLS // n_classes)):
        part = slice(start, start + max(1, _BLOCK_CELLS // n_classes))
        logits = np.log(np.clip(teachers[image[rows[part]]], _LEAST, None))
        for place, temperature in enumerate(_TEMPERATURES):
            own[place, part] = _softmax(logits / temperature)[np.arange(len(logits)), label[rows[part]]]
    best = (-np.inf, 1.0)
    for temperature, likely in zip(_TEMPERATURES, own, strict=True):
        for rate in _COMMON_RATES:
            likelihood = float(np.log((1.0 - rate) * likely + rate * (1.0 - likely) / (n_classes - 1)).mean())
            best = max(best, (likelihood, temperature))
    return best[1]
