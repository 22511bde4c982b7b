"""What a statistician signs: over many draws the intervals hold the truth as often as they promise."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from audit_world import World, world

from curate.audit.answers import Answer
from curate.audit.draw import draw
from curate.audit.estimate import Counted, estimate, estimates
from curate.audit.threshold import certify, place
from curate.statistics.exact import Cell

N_DRAWS = 300
# 95 % of 300 draws, less 2.6 standard errors of a simulation: a right interval fails once in two hundred
LEAST = 0.95 - 2.6 * np.sqrt(0.95 * 0.05 / N_DRAWS)

WORLDS = {
    "flagged well": world(6_000, noise=0.1, sharpness=8),
    "flagged badly": world(6_000, noise=0.2, sharpness=2),
    "hardly any wrong": world(6_000, noise=0.01, sharpness=8),
    "few labels": world(500, noise=0.1, sharpness=6),
    "cut far too high": world(6_000, noise=0.3, sharpness=6, cut=0.97),
}


@pytest.mark.parametrize("name", WORLDS)
def test_intervals_hold_the_truth_as_often_as_they_promise(name: str) -> None:
    known = WORLDS[name]
    design, membership = draw(known.labels, subject={"name": name}, budget=200)
    random = np.random.default_rng(7)
    order = np.argsort(np.array(membership["label_id"].to_pylist(), dtype=int))
    band = membership["band"].to_numpy()[order]
    n_wrong = [int(known.wrong[band == number].sum()) for number in range(len(design.bands))]
    covered: Counter[str] = Counter()
    for _ in range(N_DRAWS):
        counted = [
            Counted(
                Cell(one.n_all, one.n_drawn, int(random.hypergeometric(wrong, one.n_all - wrong, one.n_drawn))),
                one.flagged,
            )
            for one, wrong in zip(design.bands, n_wrong, strict=True)
        ]
        for measure, found in estimate(counted, alpha=design.alpha).items():
            if found.low is None or found.high is None:
                covered[measure] += 1  # it says nothing, so it says nothing wrong
                continue
            covered[measure] += found.low - 1e-6 <= known.truth[measure] <= found.high + 1e-6
    assert {measure: count / N_DRAWS for measure, count in covered.items() if count / N_DRAWS < LEAST} == {}
    assert set(covered) == {"precision", "recall", "f1", "noise_rate"}


def test_every_label_of_a_band_has_the_same_chance_and_estimates_are_unbiased() -> None:
    known = world(400, noise=0.2, sharpness=3)
    drawn: Counter[str] = Counter()
    rates = []
    n_draws = 200
    for seed in range(n_draws):
        design, _ = draw(known.labels, subject={"name": "x"}, budget=60, seed=seed)
        drawn.update(item.label_id for item in design.items)
        weighted = [known.wrong[int(item.label_id)] / item.inclusion_probability for item in design.items]
        rates.append(sum(weighted) / 400)
    chance = {item.band: item.inclusion_probability for item in design.items}
    design, membership = draw(known.labels, subject={"name": "x"}, budget=60)
    share = np.array([drawn[one] / n_draws for one in membership["label_id"].to_pylist()])
    expected = np.array([chance[band] for band in membership["band"].to_pylist()])
    z = (share - expected) / np.sqrt(np.maximum(expected * (1 - expected), 1e-9) / n_draws)
    assert 0.8 < z[expected < 1].std() < 1.2
    assert abs(np.mean(rates) - known.wrong.mean()) < 3 * np.std(rates) / np.sqrt(n_draws)


def test_a_threshold_is_certified_wrongly_less_often_than_promised() -> None:
    """Precision is .87 whatever the risk: no threshold deserves .9, so each certificate is an error."""
    random = np.random.default_rng(3)
    base = world(900, noise=0.3, sharpness=6)
    wrong = np.where(base.flagged, random.random(900) < 0.87, base.wrong)
    known = World(base.labels, wrong, base.flagged)
    falls = sorted(base.labels["risk"].to_pylist(), reverse=True)
    order = np.argsort(-np.array(base.labels["risk"].to_pylist()))
    errors = 0
    n_draws = 150
    for seed in range(n_draws):
        design, _ = draw(known.labels, subject={"name": "x"}, budget=200, seed=seed, target_precision=0.9)
        certificate = certify(design, known.answers(design), 0.9)
        if certificate.risk is not None:
            assert certificate.bound is not None
            assert certificate.bound >= 0.9
            n_above = certificate.n_above
            assert falls[n_above - 1] >= certificate.risk
            errors += float(wrong[order[:n_above]].mean()) < 0.9
    assert errors / n_draws <= 0.05 + 2.6 * np.sqrt(0.05 * 0.95 / n_draws)


def test_good_flags_are_certified_and_the_reach_is_said() -> None:
    known = world(4_000, noise=0.2, sharpness=14)
    design, _ = draw(known.labels, subject={"name": "x"}, budget=200, target_precision=0.9)
    found = certify(design, known.answers(design), 0.9)
    assert found.risk is not None
    assert found.named_before
    above = np.array(known.labels["risk"].to_pylist()) >= found.risk
    assert found.n_above == above.sum()
    assert known.wrong[above].mean() >= 0.9
    beyond = certify(design, known.answers(design), 0.999)
    assert beyond.risk is None
    assert not beyond.named_before
    assert "beyond this audit" in beyond.why
    assert found.reach < 0.999


@pytest.mark.parametrize("cut", [0.2, 0.5, 0.8])
def test_the_threshold_is_placed_close_to_the_best_one(cut: float) -> None:
    known = world(8_000, noise=0.15, sharpness=6, cut=cut)
    order = np.argsort(-np.array(known.labels["risk"].to_pylist()))
    hits = np.cumsum(known.wrong[order])
    f1 = 2 * hits / (np.arange(1, len(hits) + 1) + hits[-1])
    lost = []
    for seed in range(8):
        design, _ = draw(known.labels, subject={"name": "x"}, budget=200, seed=seed)
        placed = place(design, known.answers(design))
        assert placed is not None
        lost.append(float(f1.max() - f1[placed.n_above - 1]))
    assert np.mean(lost) <= 0.02


def test_what_nobody_can_tell_widens_the_interval_and_certifies_nothing() -> None:
    known = world(3_000, noise=0.2, sharpness=14)
    design, _ = draw(known.labels, subject={"name": "x"}, budget=200, target_precision=0.8)
    flagged = [item.label_id for item in design.items if item.flagged]
    sure = estimates(design, known.answers(design))
    doubtful = frozenset(flagged[:20])
    unsure = estimates(design, known.answers(design, doubtful))
    assert unsure.unsure == 20
    assert sure.precision.low is not None
    assert unsure.precision.low is not None
    assert unsure.precision.low < sure.precision.low - 0.1
    assert certify(design, known.answers(design), 0.8).risk is not None
    assert certify(design, known.answers(design, doubtful), 0.8).risk is None


def test_without_wrong_labels_recall_is_unknown_and_no_threshold_is_placed() -> None:
    base = world(2_000)
    known = World(base.labels, np.zeros(2_000, bool), base.flagged)
    design, _ = draw(known.labels, subject={"name": "x"}, budget=200)
    found = estimates(design, known.answers(design))
    assert found.recall.value is None
    assert found.f1.value is None
    assert found.precision.value == 0.0
    assert place(design, known.answers(design)) is None
    assert found.risk_kind == "rank"


def test_a_risk_that_is_a_probability_is_called_one_and_one_that_is_none_is_not() -> None:
    random = np.random.default_rng(0)
    base = world(5_000, noise=0.3, sharpness=9)
    risk = np.array(base.labels["risk"].to_pylist())
    honest = World(base.labels, random.random(5_000) < risk, base.flagged)
    design, _ = draw(base.labels, subject={"name": "x"}, budget=400)
    assert estimates(design, honest.answers(design)).risk_kind == "probability"
    all_right = {item.item: Answer("x", "correct") for item in design.items}
    assert estimates(design, all_right).risk_kind == "rank"


def test_the_sample_speaks_for_other_flags_over_the_same_labels() -> None:
    known = world(3_000, noise=0.15, sharpness=5)
    risk = np.array(known.labels["risk"].to_pylist())
    now = World(known.labels, known.wrong, risk >= 0.8)
    held: Counter[str] = Counter()
    n_draws = 100
    for seed in range(n_draws):
        design, membership = draw(known.labels, subject={"name": "x"}, budget=200, seed=seed)
        flags = {one: bool(now.flagged[int(one)]) for one in membership["label_id"].to_pylist()}
        sizes = Counter(zip(membership["band"].to_pylist(), flags.values(), strict=True))
        drawn = {item.label_id: flags[item.label_id] for item in design.items}
        found = estimates(design, known.answers(design), drawn, sizes)
        for measure, truth in now.truth.items():
            one = getattr(found, measure)
            held[measure] += one.low - 1e-9 <= truth <= one.high + 1e-9
    least = 0.95 - 2.6 * np.sqrt(0.95 * 0.05 / n_draws)
    assert {measure: n / n_draws for measure, n in held.items() if n / n_draws < least} == {}
