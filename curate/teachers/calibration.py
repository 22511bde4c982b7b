"""Calibration of a teacher's probabilities on held-out folds: one temperature, robust to wrong labels.

A temperature changes how sure a teacher is and never what it says first, so that the guard against teachers that
memorised labels sees the same votes. It is fitted together with a uniform rate of wrong labels: else sure and right
answers that contradict wrong labels would pass for overconfidence.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from curate.teachers.noise import Bools, Floats, Ints
from curate.teachers.protocol import Answer
from curate.teachers.sampling import order_keys

N_FOLDS = 5
MIN_ROWS = 200
FIT_ROWS = 20_000  # the rows with the smallest keys
N_BINS = 15
_TEMPERATURES = np.exp(np.linspace(-1.5, 2.5, 41))
_RATES = np.array([0.0, 0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4])
_LEAST = 1e-6
_BLOCK_ROWS = 65_536  # calibrated at once, in twice the precision


@dataclass(frozen=True, slots=True)
class Calibrated:
    """Calibrated probabilities and what they stand on.

    Attributes:
        probs: (N, K), as precise as they came; rows of NaN stay.
        temperature: median over folds; above 1 = the teacher was surer than right.
        noise_rate: of the labels, as fitted beside it; a nuisance, no estimate to act on.
        error_before: expected calibration error of the first choice, held out, with that rate of labels wrong.
        error_after: the same after calibration.
    """

    probs: Floats
    temperature: float
    noise_rate: float
    error_before: float
    error_after: float


def calibrate(answer: Answer, given: Ints, ids: Sequence[str]) -> Answer:
    """Return the answer calibrated and its card saying so; one that is, or has too few rows, is returned as it came.

    Args:
        answer: of one teacher.
        given: (N,) class indices; negative = no usable label.
        ids: N label ids; their hashes make the folds.
    """
    card = answer.card
    if card.calibration is not None:
        return answer
    usable = np.isfinite(answer.probs).all(axis=1) & (given >= 0)
    if usable.sum() < MIN_ROWS or answer.probs.shape[1] < 2:
        return answer
    found = at_temperature(answer.probs, given, usable, order_keys(ids, len(given)))
    said = (
        f"temperature {found.temperature:.2f} on held-out folds, beside {found.noise_rate:.0%} wrong labels; "
        f"expected calibration error {found.error_before:.3f} before, {found.error_after:.3f} after"
    )
    return Answer(replace(card, calibration=said), found.probs)


def at_temperature(probs: Floats, given: Ints, usable: Bools, keys: np.ndarray) -> Calibrated:
    """Calibrate each fold at the temperature that suits the other folds best (Guo et al., ICML 2017).

    The likelihood is that of the given labels, (1 - e)·q_y + e·(1 - q_y)/(K - 1), over a grid of temperatures and of
    rates e of wrong labels.

    Args:
        probs: (N, K).
        given: (N,) class indices.
        usable: (N,) rows with an answer and a label.
        keys: (N,) hashes; they choose the folds.
    """
    folds = (keys % np.uint64(N_FOLDS)).astype(np.int64)
    rows = np.flatnonzero(usable)
    rows = rows[np.argsort(keys[rows], kind="stable")[:FIT_ROWS]]
    n_classes = probs.shape[1]
    losses = np.empty((len(_TEMPERATURES), len(_RATES), N_FOLDS))
    counts = np.maximum(np.bincount(folds[rows], minlength=N_FOLDS), 1)
    logs = _logs(probs[rows])
    for at, temperature in enumerate(_TEMPERATURES):
        own = _softmax(logs / temperature)[np.arange(len(rows)), given[rows]]
        for place, rate in enumerate(_RATES):
            loss = -np.log(np.maximum((1.0 - rate) * own + rate * (1.0 - own) / (n_classes - 1), 1e-12))
            losses[at, place] = np.bincount(folds[rows], weights=loss, minlength=N_FOLDS)
    after = probs.copy()
    first, sure = np.zeros(len(probs), dtype=np.int64), np.zeros(len(probs))
    chosen = []
    for fold in range(N_FOLDS):
        others = np.delete(np.arange(N_FOLDS), fold)
        total = losses[:, :, others].sum(axis=2) / counts[others].sum()
        best = np.unravel_index(int(total.argmin()), total.shape)
        chosen.append((float(_TEMPERATURES[best[0]]), float(_RATES[best[1]])))
        held = np.flatnonzero(folds == fold)
        for start in range(0, len(held), _BLOCK_ROWS):
            block = held[start : start + _BLOCK_ROWS]
            block = block[np.isfinite(probs[block]).all(axis=1)]
            softened = _softmax(_logs(probs[block]) / chosen[-1][0])
            after[block], first[block], sure[block] = softened, softened.argmax(axis=1), softened.max(axis=1)
    temperature, rate = (float(np.median(values)) for values in zip(*chosen, strict=True))
    known, labels = np.flatnonzero(usable), given[usable]
    before = probs[known].argmax(axis=1)
    sure_before = probs[known, before].astype(np.float64)
    errors = [
        _error_of_choice(choice, sureness, labels, n_classes, rate)
        for choice, sureness in ((before, sure_before), (first[known], sure[known]))
    ]
    return Calibrated(after, temperature, rate, *errors)


def calibration_error(probs: Floats, given: Ints, noise_rate: float = 0.0) -> float:
    """Return the expected calibration error of the first choice over N_BINS equal bins (Naeini et al., AAAI 2015).

    Args:
        probs: (N, K).
        given: (N,) class indices.
        noise_rate: share of labels that are wrong, alike for all; the confidence is compared as it shows through.
    """
    first = probs.argmax(axis=1)
    sure = probs[np.arange(len(probs)), first].astype(np.float64)
    return _error_of_choice(first, sure, given, probs.shape[1], noise_rate)


def _error_of_choice(first: Ints, sure: Floats, given: Ints, n_classes: int, noise_rate: float) -> float:
    expected = (1.0 - noise_rate) * sure + noise_rate * (1.0 - sure) / (n_classes - 1)
    bins = np.minimum((sure * N_BINS).astype(np.int64), N_BINS - 1)
    gaps = np.bincount(bins, weights=expected - (first == given), minlength=N_BINS)
    return float(np.abs(gaps).sum() / max(len(first), 1))


def _logs(probs: Floats) -> Floats:
    return np.asarray(np.log(np.maximum(probs.astype(np.float64), _LEAST)))


def _softmax(logits: Floats) -> Floats:
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(shifted / shifted.sum(axis=1, keepdims=True))
