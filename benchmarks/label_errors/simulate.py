"""Teachers, annotators and images whose mistakes hang together, made from one latent picture of each image.

An image is a point: its class's centre plus a spread that everybody sees, which makes some images hard for all. Centres
come in pairs that are alike. A teacher sees the image through noise of its own and is fitted out of fold to the *given*
labels, as real ones are: it learns the habits of the labels too. An annotator is an observer like that: where images are
hard, people and teachers err alike. Nothing is told to a teacher that a real one would not know.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize
from scipy.special import softmax

from curate.teachers.noise import Bools, Floats, Ints

N_DIMENSIONS = 16
ALIKE = 0.55  # of a centre is shared by the two classes of a pair


@dataclass(frozen=True)
class Setting:
    """What is simulated.

    Attributes:
        n_rows: images.
        noise: "none" | "human" | "class" | "uniform": what wrong labels depend on; human = how the image looks.
        rate: share of wrong labels.
        spread: of images around their class's centre; the larger, the more are hard for everybody.
        own: noise of each teacher's view; small beside `spread` = teachers that err together.
        careless: share of the human errors that hang on no image.
        sharpness: on the log probabilities of every teacher; above 1 = surer than right.
        n_teachers: of them.
        n_classes: K.
        tail: rows of the most common class to those of the rarest.
        fit_rows: a teacher is fitted on at most so many rows of the other half.
    """

    n_rows: int = 12_000
    noise: str = "human"
    rate: float = 0.09
    spread: float = 0.30
    own: float = 0.22
    careless: float = 0.3
    sharpness: float = 1.0
    n_teachers: int = 5
    n_classes: int = 10
    tail: float = 1.0
    fit_rows: int = 20_000


@dataclass(frozen=True)
class Simulated:
    """Given and true classes (N,), and probabilities (N, K) by teacher."""

    given: Ints
    true: Ints
    probs: dict[str, Floats]

    @property
    def wrong(self) -> Bools:
        return np.asarray(self.given != self.true)


def simulate(setting: Setting, seed: int) -> Simulated:
    random = np.random.default_rng(seed)
    k = setting.n_classes
    centres = _centres(random, k)
    shares = setting.tail ** (-np.arange(k) / max(k - 1, 1))
    true = random.choice(k, setting.n_rows, p=shares / shares.sum())
    spread = setting.spread * random.uniform(0.3, 1.7, setting.n_rows)[:, None]  # some images are hard
    seen = centres[true] + spread * random.normal(size=(setting.n_rows, N_DIMENSIONS))
    given = _labels(setting, seen, true, centres, random)
    probs = {}
    for m in range(setting.n_teachers):
        own = setting.own * (0.9 + 0.1 * m)
        view = seen + own * random.normal(size=seen.shape)
        probs[f"t{m}"] = _out_of_fold(view, given, setting, random)
    return Simulated(given, true, probs)


def weak_setting(n_rows: int, rate: float, accuracy: float, shared: float) -> Setting:
    """Return teachers whose best is about this accurate on ten classes; `shared` is a share of their view's variance.

    What all see alike makes some images hard for all, so that teachers err together; 0 = each errs by itself.
    """
    random = np.random.default_rng(0)
    centres = _centres(random, 10)
    true = random.integers(0, 10, 8_000)
    noise = random.uniform(0.3, 1.7, 8_000)[:, None] * random.normal(size=(8_000, N_DIMENSIONS))
    low, high = 0.0, 3.0
    for _ in range(25):
        middle = 0.5 * (low + high)
        right = (_nearest(centres[true] + middle * noise, centres) == true).mean()
        low, high = (middle, high) if right > accuracy else (low, middle)
    spread, own = low * np.sqrt(shared), low * np.sqrt(1.0 - shared)
    return Setting(n_rows, "human" if rate else "none", rate, spread=float(spread), own=float(own), careless=0.2)


def _centres(random: np.random.Generator, k: int) -> Floats:
    centres = random.normal(size=(k, N_DIMENSIONS)) / np.sqrt(N_DIMENSIONS)
    for one in range(0, k - 1, 2):
        centres[one + 1] = ALIKE * centres[one] + np.sqrt(1 - ALIKE**2) * centres[one + 1]
    return centres


def memorised(made: Simulated, share: float, seed: int) -> Simulated:
    """Return the set after the teacher that agrees best with the labels has seen a share of them."""
    best = max(made.probs, key=lambda name: float((made.probs[name].argmax(axis=1) == made.given).mean()))
    n_rows, k = made.probs[best].shape
    told = np.full((n_rows, k), 0.02 / (k - 1))
    told[np.arange(n_rows), made.given] = 0.98
    knows = np.random.default_rng(seed).random(n_rows) < share
    answers = np.where(knows[:, None], 0.1 * made.probs[best] + 0.9 * told, made.probs[best])
    return Simulated(made.given, made.true, {**made.probs, best: answers})


def _labels(s: Setting, seen: Floats, true: Ints, centres: Floats, random: np.random.Generator) -> Ints:
    n_rows, k = s.n_rows, s.n_classes
    if s.noise == "none" or s.rate <= 0:
        return true.copy()
    if s.noise == "uniform":
        return _some(true, (true + random.integers(1, k, n_rows)) % k, np.full(n_rows, s.rate), random)
    if s.noise == "class":
        rates = random.uniform(0.3, 1.7, k) * s.rate
        taken_for = np.array([random.permutation(np.delete(np.arange(k), c))[:2] for c in range(k)])
        return _some(true, taken_for[true, (random.random(n_rows) < 0.3).astype(int)], rates[true], random)
    # a person sees the image through noise too, and picks what is nearest; how much noise sets the rate
    jitter = random.normal(size=seen.shape)
    low, high = 0.0, 8.0
    for _ in range(25):
        middle = 0.5 * (low + high)
        looked = _nearest(seen + middle * jitter, centres)
        low, high = (middle, high) if (looked != true).mean() < s.rate * (1 - s.careless) else (low, middle)
    looked = _nearest(seen + low * jitter, centres)
    careless = s.rate * s.careless / (1.0 - s.rate * (1 - s.careless))
    other = _nearest(centres[true] + 2.0 * s.spread * random.normal(size=seen.shape), centres)
    other = np.where(other == true, (true + random.integers(1, k, n_rows)) % k, other)
    return np.where(looked == true, _some(true, other, np.full(n_rows, careless), random), looked)


def _some(true: Ints, other: Ints, rate: Floats, random: np.random.Generator) -> Ints:
    return np.where(random.random(len(true)) < rate, other, true)


def _nearest(points: Floats, centres: Floats) -> Ints:
    return np.asarray((points @ centres.T - 0.5 * (centres**2).sum(axis=1)).argmax(axis=1))


def _out_of_fold(view: Floats, given: Ints, s: Setting, random: np.random.Generator) -> Floats:
    half = random.random(len(given)) < 0.5
    probs = np.empty((len(given), s.n_classes))
    for held in (half, ~half):
        others = np.flatnonzero(~held)[: s.fit_rows]
        probs[held] = softmax(
            s.sharpness * _softmax_regression(view[others], given[others], s.n_classes)(view[held]), axis=1
        )
    return probs


def _softmax_regression(x: Floats, y: Ints, k: int, ridge: float = 1e-4):  # noqa: ANN202
    """Return the function from views to logits that was fitted."""
    x1 = np.column_stack([x, np.ones(len(x))])
    hot = np.eye(k)[y]

    def loss(flat: Floats) -> tuple[float, Floats]:
        w = flat.reshape(-1, k)
        logits = x1 @ w
        p = softmax(logits, axis=1)
        value = -np.log(np.maximum(p[np.arange(len(y)), y], 1e-300)).mean() + ridge * (w**2).sum()
        return value, (x1.T @ (p - hot) / len(y) + 2 * ridge * w).ravel()

    found = minimize(loss, np.zeros(x1.shape[1] * k), jac=True, method="L-BFGS-B", options={"maxiter": 60})
    w = found.x.reshape(-1, k)
    return lambda v: np.column_stack([v, np.ones(len(v))]) @ w
