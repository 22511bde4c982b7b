"""How much of what pairs of teachers imply is believed, and which pool is ranked: laws over seeds."""

from __future__ import annotations

import numpy as np
import pytest

from curate.teachers.disagreement import Flags, flag_labels
from curate.teachers.evaluation import evaluate
from curate.teachers.mixture import fit_floor
from curate.teachers.noise import Bools, Floats, Ints
from curate.teachers.pool import log_probs
from curate.teachers.pool_choice import average_precision, log_ranks_better
from curate.teachers.scoring import Scorer
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
def test_a_usual_rate_is_not_believed_where_the_labels_are_compatible_with_no_errors(
    seed: int, shared: float, own: float
) -> None:
    """Pairs of these teachers imply 3 to 13 % wrong labels, as many as real sets have; none is."""
    truth, probs = observers(seed, shared=shared, own=own)
    flags = flag_labels(truth, probs)
    pairwise = flags.model.estimates["pairwise"].estimate
    assert pairwise is not None
    assert 0.03 < pairwise < 0.14
    assert flags.flagged.mean() <= 0.005
    assert "compatible with no errors" in flags.why
    assert not flags.model.estimates_agree  # no label is dropped for it, and an audit is asked for
    told = flag_labels(truth, probs, features=dict.fromkeys(probs, "one backbone"))
    assert told.flagged.mean() <= 0.005


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


@pytest.mark.parametrize("seed", range(3))
def test_errors_of_people_at_what_is_hard_are_found_beside_a_few_careless_ones(seed: int) -> None:
    random = np.random.default_rng(seed)
    truth, probs = observers(seed, shared=0.3, own=0.3, n=5)
    person = probs.pop("t4").argmax(axis=1)  # another observer gives the labels, surest where teachers are
    looked = random.random(N) < 0.7
    labels = uniform(np.where(looked, person, truth), 0.02, seed)
    flags = flag_labels(labels, probs)
    assert evaluate(flags.risk, flags.flagged, labels != truth, n_resamples=0).f1.value > 0.4
    careful = np.where(labels == truth, truth, np.where(looked, person, truth))
    assert flag_labels(careful, probs).flagged.mean() <= flags.flagged.mean()


@pytest.mark.parametrize("sharpness", [3.0, 6.0])
def test_teachers_that_are_too_sure_have_the_same_floor(sharpness: float) -> None:
    truth, probs = observers(1, shared=0.35, own=0.45)
    labels = uniform(truth, 0.03, 1)
    stacked, answered, _ = arrays(probs)
    logs = log_probs(stacked)
    sharp = sharpness * logs
    sharp -= np.log(np.exp(sharp).sum(axis=2, keepdims=True))
    floor = fit_floor(logs, answered, labels)[1]
    assert floor > 0.01
    assert fit_floor(sharp, answered, labels)[1] == pytest.approx(floor, rel=0.1)


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
    nothing = support(0.09, 0.25, logs, answered, truth)  # a usual rate, and no label is surely wrong
    assert nothing.share == 0.0
    assert "compatible with no errors" in nothing.why
    few = support(0.09, 0.25, logs, answered, uniform(truth, 0.03, 0))
    assert few.share == 1.0
    assert "so many in all are usual" in few.why
    labels = uniform(truth, 0.13, 0)
    floor = support(0.25, 0.45, logs, answered, labels)
    assert floor.share == pytest.approx(np.sqrt(floor.channel.rate / 0.25), abs=0.02)
    assert floor.channel.rate == pytest.approx(0.13, abs=0.04)


def worlds() -> dict[tuple[str, str], tuple[Ints, dict[str, Floats], bool | None]]:
    """Return labels and teachers that lead to every regime and rule, and whether teachers are declared independent."""
    truth, strong = observers(0, shared=0.1, own=0.2)
    seen, middling = observers(1, shared=0.3, own=0.3)
    other, mean = observers(1, shared=0.25, own=0.4)
    pool = np.mean(list(mean.values()), axis=0)
    unsure = pool.max(axis=1) < np.quantile(
        pool.max(axis=1), 0.6
    )  # where images are hard, the second guess is given
    half = np.random.default_rng(1).random(N) < 0.5
    hard = np.where(unsure & half, np.argsort(-pool, axis=1)[:, 1], other)
    return {
        ("independent", "channel"): (uniform(truth, 0.13, 0), strong, None),
        ("independent", "margin"): (uniform(other, 0.03, 1), mean, None),
        ("independent", "linear"): (uniform(seen, 0.03, 1), middling, None),
        ("shared", "channel"): (uniform(other, 0.13, 1), mean, False),
        ("shared", "margin"): (hard, mean, None),
        ("shared", "linear"): (*observers(1, shared=0.5, own=0.4), None),
    }


IDS = [f"id{i}" for i in range(N)]


@pytest.fixture(scope="module")
def judged() -> list[tuple[Ints, dict[str, Floats], bool | None, Flags]]:
    """Return the worlds, each with its flags."""
    made = worlds()
    found = [
        (labels, p, told, flag_labels(labels, p, ids=IDS, independent=told)) for labels, p, told in made.values()
    ]
    assert {(flags.model.regime, flags.model.rule) for *_, flags in found} == set(made)
    return found


@pytest.mark.parametrize(("workers", "size"), [(1, 7), (3, 640), (3, N)])
def test_no_bit_of_a_score_hangs_on_batches_or_workers_whatever_the_rule(
    judged: list[tuple[Ints, dict[str, Floats], bool | None, Flags]], workers: int, size: int
) -> None:
    for labels, probs, _, whole in judged:
        with Scorer(whole.model, tuple(probs), workers=workers) as scorer:
            parts = [
                scorer.score(labels[at : at + size], [p[at : at + size] for p in probs.values()])
                for at in range(0, N, size)
            ]
        for what in ("risk", "suggested", "suggested_prob", "flagged"):
            joined = np.concatenate([getattr(part, what) for part in parts])
            np.testing.assert_array_equal(joined, getattr(whole.scores, what))


def test_no_bit_of_a_risk_hangs_on_the_order_of_rows_whatever_the_rule(
    judged: list[tuple[Ints, dict[str, Floats], bool | None, Flags]],
) -> None:
    order = np.random.default_rng(5).permutation(N)
    for labels, probs, told, whole in judged:
        turned = {name: p[order] for name, p in probs.items()}
        other = flag_labels(labels[order], turned, ids=[IDS[i] for i in order], independent=told)
        np.testing.assert_array_equal(other.risk, whole.risk[order])
