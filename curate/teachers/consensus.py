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
    taught: NDArray[np.bool_] = np.zeros(n_images, dtype=bool)
    if teachers is not None:
        taught = np.asarray(np.isfinite(teachers).all(axis=1))
    n_answers = np.bincount(image, minlength=n_images)
    has_reference = (n_answers[image] > 1) | taught[image]
    shares = (np.bincount(label, minlength=n_classes) + 1.0) / (len(label) + n_classes)
    temperature = _temperature(teachers, taught, image, label) if teachers is not None else 1.0
    prior = np.tile(np.log(shares), (n_images, 1))
    if teachers is not None and taught.any():
        prior[taught] = np.log(np.clip(teachers[taught], _LEAST, None)) / temperature
    rate = np.full(n_annotators, 0.2)
    seen = np.bincount(annotator, minlength=n_annotators)
    for _ in range(N_ROUNDS):
        _, _, probs = _posteriors(prior, image, label, rate[annotator], n_classes)
        wrong = 1.0 - probs[image, label]
        average = float(wrong.mean()) if len(wrong) else 0.0
        errors = np.bincount(annotator, weights=wrong, minlength=n_annotators)
        rate = (errors + _PRIOR_ANSWERS * average) / (seen + _PRIOR_ANSWERS)
        rate = np.clip(rate, _LEAST, 1.0 - 1.0 / n_classes - _LEAST)
    own, best, probs = _posteriors(prior, image, label, rate[annotator], n_classes)
    return Consensus(probs, own, best, has_reference, rate, temperature)


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


def _posteriors(
    prior: Floats, image: Ints, label: Ints, rate: Floats, n_classes: int
) -> tuple[Floats, Ints, Floats]:
    """Return each answer's probability by all others, the class those find likeliest, and the whole consensus."""
    weight = np.log(1.0 - rate) - np.log(rate / (n_classes - 1))  # log odds of "right" against one wrong class
    total = prior.copy()
    np.add.at(total, (image, label), weight)
    without = total[image]
    without[np.arange(len(image)), label] -= weight
    left = _softmax(without)
    return left[np.arange(len(image)), label], left.argmax(axis=1), _softmax(total)


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
    logits = np.log(np.clip(teachers[image[rows]], _LEAST, None))
    best = (-np.inf, 1.0)
    for temperature in _TEMPERATURES:
        own = _softmax(logits / temperature)[np.arange(len(rows)), label[rows]]
        for rate in _COMMON_RATES:
            likelihood = float(np.log((1.0 - rate) * own + rate * (1.0 - own) / (n_classes - 1)).mean())
            best = max(best, (likelihood, temperature))
    return best[1]
