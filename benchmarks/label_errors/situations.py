"""Situations that users meet, made from a table of teachers with a known truth; what is simulated is said of each.

Real are the teachers' answers and which classes they take for each other. Drawn are the labels:

- human-like noise: an image's label is wrong the more often the less the teachers' mean gives the true class, and the
  wrong class is drawn from that mean. So labels are wrong where images are hard, and hard in the way that teachers find
  hard too: the worst case for whoever trusts teachers.
- a teacher that memorised a share of the labels it is to judge: on these, nine tenths of its answer is the given label.
- a small set: 2,800 rows whose teachers are weakened: their log probabilities are halved, and noise of their own is
  added until the mean teacher is right in half to two thirds of the rows.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from curate.teachers.noise import Floats, Ints
from curate.teachers.pool import softmax

MEMORISED = (0.2, 0.5, 0.8, 0.95)
HUMAN_RATES = (0.09, 0.40)
SMALL_ROWS, SMALL_RATE = 2_800, 0.13
TOLD = 0.98  # of a memorised label
Situation = tuple[str, Ints, Ints, dict[str, Floats]]  # name, given, true, probs


def best_teacher(given: Ints, probs: dict[str, Floats]) -> str:
    return max(probs, key=lambda name: float((probs[name].argmax(axis=1) == given).mean()))


def memorised(given: Ints, probs: dict[str, Floats], share: float, seed: int = 0) -> dict[str, Floats]:
    """Return the teachers after the best of them has seen a share of the labels that it is to judge."""
    name = best_teacher(given, probs)
    n_rows, n_classes = probs[name].shape
    seen = np.random.default_rng(seed).random(n_rows) < share
    told = np.full((n_rows, n_classes), (1.0 - TOLD) / (n_classes - 1))
    told[np.arange(n_rows), given] = TOLD
    return {**probs, name: np.where(seen[:, None], 0.1 * probs[name] + 0.9 * told, probs[name])}


def human_like(true: Ints, probs: dict[str, Floats], rate: float, seed: int = 0) -> Ints:
    """Return (N,) labels of which about `rate` are wrong, the harder an image the more often."""
    random = np.random.default_rng(seed)
    mean = np.mean(list(probs.values()), axis=0)
    rows = np.arange(len(true))
    hard = 1.0 - mean[rows, true] + 0.02
    low, high = 0.0, 1e3
    for _ in range(60):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if np.minimum(middle * hard, 0.9).mean() < rate else (low, middle)
    wrong = random.random(len(true)) < np.minimum(high * hard, 0.9)
    other = mean + 1e-3
    other[rows, true] = 0.0
    edges = np.cumsum(other / other.sum(axis=1, keepdims=True), axis=1)
    drawn = (random.random((len(true), 1)) > edges).sum(axis=1).clip(0, mean.shape[1] - 1)
    return np.where(wrong, drawn, true)


def weakened(true: Ints, probs: dict[str, Floats], seed: int = 0) -> dict[str, Floats]:
    """Return teachers of the same confusions that are right in half to two thirds of the rows."""
    random = np.random.default_rng(seed)
    logs = {name: 0.5 * np.log(np.maximum(p, 1e-4)) for name, p in probs.items()}
    noise = {name: random.standard_normal(p.shape) for name, p in probs.items()}
    for scale in np.arange(0.5, 6.0, 0.25):
        weak = {name: softmax(logs[name] + scale * noise[name]) for name in probs}
        right = np.mean([(p.argmax(axis=1) == true).mean() for p in weak.values()])
        if right < 0.6:
            break
    return weak


def situations(name: str, given: Ints, true: Ints, probs: dict[str, Floats]) -> Iterator[Situation]:
    """Yield the table as it is and what is made of it."""
    yield f"{name}, {np.mean(given != true):.0%} wrong", given, true, probs
    if len(probs) > 1:
        for share in MEMORISED:
            yield f"{name}, best teacher memorised {share:.0%}", given, true, memorised(given, probs, share)
    for rate in HUMAN_RATES:
        labels = human_like(true, probs, rate)
        yield f"{name}, human-like noise {rate:.0%} (simulated)", labels, true, probs
        if len(probs) > 1:
            answers = memorised(labels, probs, 0.8)
            yield f"{name}, human-like noise {rate:.0%}, best teacher memorised 80%", labels, true, answers
    few = np.random.default_rng(0).permutation(len(true))[:SMALL_ROWS]
    weak = weakened(true[few], {name: p[few] for name, p in probs.items()})
    labels = human_like(true[few], weak, SMALL_RATE)
    yield f"{name}, {len(few):,} rows, weak teachers, human-like noise {SMALL_RATE:.0%}", labels, true[few], weak
