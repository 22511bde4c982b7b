"""How much of what pairs of teachers imply is believed, and which pool is ranked: laws over seeds."""

from __future__ import annotations

import numpy as np
import pytest

from curate.teachers.disagreement import flag_labels
from curate.teachers.evaluation import evaluate
from curate.teachers.noise import Bools, Floats, Ints
from curate.teachers.pool import log_probs
from curate.teachers.pool_choice import average_precision, log_ranks_better
from curate.teachers.support import support

K = 6
N = 2000


def observers(
    seed: int, *, shared: float, own: float, n: int = 4, sharpness: float = 1.0
) -> tuple[Ints, dict[str, Floats]]:
    """Return truth and teachers that see it through noise that all share and noise of their own; about calibrated."""
    random = np.random.default_rng(seed)
    truth = random.integers(0, K, N)
    seen = np.eye(K)[truth] + shared * random.normal(size=(N, K))
    variance = shared**2 + own**2
    probs = {}
    for m in range(n):
        logits = sharpness * (seen + own * random.normal(size=(N, K))) / variance
        p = np.exp(logits - logits.max(axis=1, keepdims=True))
        probs[f"t{m}"] = p / p.sum(axis=1, keepdims=True)
    return truth, probs


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("shared", "own"), [(0.35, 0.45), (0.4, 0.5)])
def test_a_usual_rate_alone_is_no_evidence_of_wrong_labels(seed: int, shared: float, own: float) -> None:
    """Pairs of these teachers imply 3 to 13 % wrong labels, as many as real sets have; none is."""
    truth, probs = observers(seed, shared=shared, own=own)
    flags = flag_labels(truth, probs)
    pairwise = flags.model.estimates["pairwise"].estimate
    assert pairwise is not None
    assert 0.03 < pairwise < 0.14
    assert flags.flagged.mean() <= 0.005
    assert not flags.model.estimates_agree


@pytest.mark.parametrize("seed", range(3))
def test_teachers_that_are_unanimous_against_labels_are_believed(seed: int) -> None:
    truth, probs = observers(seed, shared=0.2, own=0.27)
    labels = uniform(truth, 0.03, seed)
    found = flag_labels(labels, probs)
    assert evaluate(found.risk, found.flagged, labels != truth, n_resamples=0).f1.value > 0.85
    assert flag_labels(truth, probs).flagged.mean() <= 0.005


def uniform(truth: Ints, rate: float, seed: int) -> Ints:
    random = np.random.default_rng(seed + 100)
    return np.where(random.random(N) < rate, (truth + random.integers(1, K, N)) % K, truth)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("shared", "own"), [(0.55, 0.45), (0.7, 0.5), (0.25, 0.2)])
def test_clean_labels_are_let_be_by_teachers_that_err_together(seed: int, shared: float, own: float) -> None:
    truth, probs = observers(seed, shared=shared, own=own)
    flags = flag_labels(truth, probs)
    assert flags.flagged.mean() <= 0.01


@pytest.mark.parametrize("seed", range(2))
def test_the_same_teachers_find_wrong_labels_that_hang_on_no_image(seed: int) -> None:
    truth, probs = observers(seed, shared=0.45, own=0.35)
    labels = uniform(truth, 0.13, seed)
    flags = flag_labels(labels, probs)
    found = evaluate(flags.risk, flags.flagged, labels != truth, n_resamples=0)
    assert found.f1.value > 0.6
    assert flags.flagged[labels == truth].mean() < 0.06
    assert "floor" in flags.model.estimates


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("sharpness", [1.0, 4.0])
def test_the_ensemble_ranks_no_worse_than_its_best_member(seed: int, sharpness: float) -> None:
    truth, probs = observers(seed, shared=0.35, own=0.45, sharpness=sharpness)
    labels = uniform(truth, 0.13, seed)
    wrong = labels != truth
    flags = flag_labels(labels, probs)
    best = max(average_precision(1.0 - p[np.arange(N), labels], wrong) for p in probs.values())
    assert average_precision(flags.risk, wrong) >= best - 0.01


def arrays(probs: dict[str, Floats]) -> tuple[Floats, Bools, Ints]:
    stacked = np.stack(list(probs.values()), axis=1)
    return stacked, np.ones(stacked.shape[:2], dtype=bool), stacked.argmax(axis=2)


def test_held_out_teachers_choose_the_pool() -> None:
    truth, probs = observers(0, shared=0.2, own=0.5, sharpness=6.0)
    labels = uniform(truth, 0.13, 0)
    assert log_ranks_better(*arrays(probs), labels)
    random = np.random.default_rng(1)  # each row's confidence is a matter of luck: logarithms trust the loudest
    loud = {}
    for name, p in observers(0, shared=0.2, own=0.5)[1].items():
        power = (p / p.max(axis=1, keepdims=True)) ** np.exp(2.0 * random.normal(size=(N, 1)))
        loud[name] = power / power.sum(axis=1, keepdims=True)
    assert not log_ranks_better(*arrays(loud), labels)


def test_strength_a_floor_or_a_usual_rate_support_a_rate() -> None:
    truth, probs = observers(0, shared=0.5, own=0.4)
    stacked, answered, _ = arrays(probs)
    logs = log_probs(stacked)
    strong = support(0.10, 0.11, logs, answered, truth)
    assert (strong.share, strong.channel) == (1.0, None)
    assert support(0.25, 0.45, logs, answered, truth).share == 0.0
    assert support(0.09, 0.25, logs, answered, truth).share == 0.0  # a usual rate alone is no evidence
    few = support(0.09, 0.25, logs, answered, uniform(truth, 0.03, 0))
    assert few.share == 1.0
    assert "so many in all are usual" in few.why
    labels = uniform(truth, 0.13, 0)
    floor = support(0.25, 0.45, logs, answered, labels)
    assert floor.share == pytest.approx(np.sqrt(floor.channel.rate / 0.25), abs=0.02)
    assert floor.channel.rate == pytest.approx(0.13, abs=0.04)
