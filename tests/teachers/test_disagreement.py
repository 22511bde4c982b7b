"""Flags from teachers: quality on known noise, the guard, the regimes, and the laws of scoring."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given as for_all
from hypothesis import settings
from hypothesis import strategies as st

from curate.errors import InputError
from curate.teachers.disagreement import flag_labels
from curate.teachers.evaluation import evaluate
from curate.teachers.noise import Floats, Ints
from curate.teachers.scoring import score_flags, usable_rows

K = 6


def teachers_of(
    truth: Ints, *, n: int = 4, skill: float = 3.0, seed: int = 0, labels_noise: float = 0.0
) -> dict[str, Floats]:
    """Independent teachers: softmax of a signal on the truth plus own noise, seen through the labels' noise."""
    random = np.random.default_rng(seed)
    made = {}
    for m in range(n):
        logits = random.normal(size=(len(truth), K)) * 1.2
        logits[np.arange(len(truth)), truth] += skill + 0.3 * m
        p = np.exp(logits)
        p /= p.sum(axis=1, keepdims=True)
        made[f"t{m}"] = (1 - labels_noise) * p + labels_noise / (K - 1) * (1 - p)
    return made


def noisy(truth: Ints, rate: float, *, seed: int = 1, by_class: bool = False) -> Ints:
    random = np.random.default_rng(seed)
    wrong = random.random(len(truth)) < rate
    step = np.ones(len(truth), int) if by_class else random.integers(1, K, len(truth))
    return np.where(wrong, (truth + step) % K, truth)


@pytest.fixture(scope="module")
def truth() -> Ints:
    return np.random.default_rng(7).integers(0, K, 4000)


@pytest.mark.parametrize("by_class", [False, True])
@pytest.mark.parametrize("rate", [0.1, 0.3])
def test_independent_teachers_find_wrong_labels_and_their_rate(truth: Ints, rate: float, *, by_class: bool) -> None:
    labels = noisy(truth, rate, by_class=by_class)
    probs = teachers_of(truth, labels_noise=rate)
    flags = flag_labels(labels, probs)
    measured = evaluate(flags.risk, flags.flagged, labels != truth, n_resamples=0)
    assert flags.regime == "independent"
    assert measured.f1.value > 0.93
    assert measured.average_precision.value > 0.96
    assert abs(flags.noise_rate.estimate - rate) < 0.03
    assert flags.noise_rate.low <= flags.noise_rate.estimate <= flags.noise_rate.high
    found = flags.flagged & (labels != truth)
    assert (flags.suggested[found] == truth[found]).mean() > 0.95


def test_suggested_probabilities_are_calibrated(truth: Ints) -> None:
    labels = noisy(truth, 0.2)
    flags = flag_labels(labels, teachers_of(truth, skill=2.0, labels_noise=0.2))
    right = flags.suggested[flags.flagged] == truth[flags.flagged]
    assert abs(right.mean() - flags.suggested_prob[flags.flagged].mean()) < 0.08


@pytest.mark.parametrize("share", [0.2, 0.5, 0.8, 0.95])
def test_a_teacher_that_memorised_the_labels_is_left_out(truth: Ints, share: float) -> None:
    labels = noisy(truth, 0.1)
    probs = teachers_of(truth, n=5, labels_noise=0.1)
    memorised = np.random.default_rng(3).random(len(truth)) < share
    probs["t4"] = np.where(memorised[:, None], np.eye(K)[labels] * 0.94 + 0.01, probs["t4"])
    flags = flag_labels(labels, probs)
    by_name = {teacher.name: teacher for teacher in flags.teachers}
    assert [name for name, t in by_name.items() if not t.kept] == ["t4"]
    assert "memorised" in by_name["t4"].why
    assert by_name["t4"].weight == 0.0
    assert abs(by_name["t4"].memorised_share - share) < 0.1
    without = flag_labels(labels, {name: p for name, p in probs.items() if name != "t4"})
    np.testing.assert_array_equal(flags.risk, without.risk)


def test_a_different_teacher_is_not_taken_for_one_that_memorised(truth: Ints) -> None:
    """Three teachers err together, so the fourth sides with the label where they agree on another class."""
    labels = noisy(truth, 0.05)
    signal = np.eye(K)[truth] * 2.0
    shared = np.random.default_rng(5).normal(size=(len(truth), K)) * 1.5
    probs = {}
    for m in range(4):
        own = np.random.default_rng(10 + m).normal(size=(len(truth), K))
        logits = signal + (shared + 0.5 * own if m < 3 else 1.6 * own)
        probs[f"t{m}"] = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    found = {teacher.name: teacher for teacher in flag_labels(labels, probs).teachers}
    assert found["t3"].kept
    assert "merely different" in found["t3"].why


def test_shared_features_get_the_channel_and_clean_labels_next_to_no_flags(truth: Ints) -> None:
    probs = teachers_of(truth, n=3, skill=1.0)
    clean = flag_labels(truth, probs, features=dict.fromkeys(probs, "pixels"))
    assert clean.regime == "shared"
    assert "share features" in clean.why
    assert clean.flagged.mean() <= 0.005
    labels = noisy(truth, 0.08)
    seen = flag_labels(labels, probs, features=dict.fromkeys(probs, "pixels"))
    measured = evaluate(seen.risk, seen.flagged, labels != truth, n_resamples=0)
    assert measured.precision.value > 0.6
    assert measured.f1.value > 0.5


def test_one_teacher_is_no_independent_evidence(truth: Ints) -> None:
    labels = noisy(truth, 0.2)
    flags = flag_labels(labels, teachers_of(truth, n=1))
    assert flags.regime == "shared"
    assert flags.why.startswith("one teacher")
    assert "not checkable" in flags.teachers[0].why
    assert evaluate(flags.risk, flags.flagged, labels != truth, n_resamples=0).f1.value > 0.85


def test_a_copy_of_a_teacher_is_no_second_opinion(truth: Ints) -> None:
    labels = noisy(truth, 0.1)
    probs = teachers_of(truth, n=2, labels_noise=0.1)
    one, other = probs["t0"], probs["t1"]
    copies = flag_labels(labels, {"a": one, "b": one.astype(np.float16).astype(np.float64), "c": one})
    assert copies.regime == "shared"
    assert copies.why.startswith("3 teachers that are one; 2 of them give the answers of another one once more")
    mixed = flag_labels(labels, {"a": one, "b": other, "c": one})
    assert mixed.regime == "independent"
    assert "1 of them give" in mixed.why
    assert abs(mixed.model.estimates["pairwise"].estimate - 0.1) < 0.03
    assert "once more" not in flag_labels(labels, probs).why


def test_pairs_within_one_feature_set_do_not_count_for_the_rate(truth: Ints) -> None:
    labels = noisy(truth, 0.2)
    probs = teachers_of(truth, n=3, labels_noise=0.2)
    mixed = flag_labels(labels, probs, features={"t0": "a", "t1": "a", "t2": None})
    assert mixed.regime == "independent"
    assert "2 sorts of features" in mixed.why
    assert abs(mixed.noise_rate.estimate - 0.2) < 0.03


@pytest.mark.parametrize(("n_rows", "n_classes"), [(0, K), (10, K), (500, 1)])
def test_too_little_data_flags_nothing_and_says_so(n_rows: int, n_classes: int) -> None:
    labels = np.arange(n_rows) % n_classes
    probs = np.random.default_rng(0).dirichlet(np.ones(K), n_rows)
    flags = flag_labels(labels, {"a": probs, "b": probs[::-1]})
    assert not flags.flagged.any()
    assert np.isnan(flags.risk).all()
    assert flags.noise_rate.estimate is None
    assert flags.noise_rate.method == flags.regime == "insufficient data"


def test_rows_that_cannot_be_judged_are_set_aside_without_changing_the_others(truth: Ints) -> None:
    labels = noisy(truth, 0.2)
    probs = teachers_of(truth, labels_noise=0.2)
    spoiled = {name: p.copy() for name, p in probs.items()}
    spoiled["t1"][0, 0] = np.nan
    spoiled["t1"][1] *= 3.0
    spoiled["t2"][2, 0] = -0.5
    spoiled["t3"][3] = np.nan  # no answer: the others judge
    odd = labels.copy()
    odd[4], odd[5] = -1, K
    flags = flag_labels(odd, spoiled)
    np.testing.assert_array_equal(np.flatnonzero(~flags.scores.judged), [0, 1, 2, 4, 5])
    np.testing.assert_array_equal(flags.scores.bad_teacher[:4], [1, 1, 2, -1])
    assert np.isnan(flags.risk[[0, 1, 2, 4, 5]]).all()
    assert not flags.flagged[[0, 1, 2, 4, 5]].any()
    assert flags.scores.n_teachers[3] == 3
    whole = flag_labels(labels, probs)
    assert (flags.flagged[6:] == whole.flagged[6:]).mean() > 0.999


def test_float16_rounding_is_no_error() -> None:
    probs = np.random.default_rng(0).dirichlet(np.full(1000, 0.05), 64).astype(np.float16)
    usable, _, bad = usable_rows(np.zeros(64, int), [probs])
    assert usable.all()
    assert (bad == -1).all()


def test_errors_name_what_is_wrong(truth: Ints) -> None:
    with pytest.raises(InputError, match="at least one teacher"):
        flag_labels(truth, {})
    with pytest.raises(InputError, match="'b' has"):
        flag_labels(truth, {"a": np.ones((len(truth), 2)) / 2, "b": np.ones((len(truth), 3)) / 3})


@settings(max_examples=8, deadline=None)
@for_all(seed=st.integers(0, 1000), size=st.integers(1, 700), rule=st.sampled_from(["margin", "channel", "shared"]))
def test_a_row_scores_the_same_in_any_batch_and_order(seed: int, size: int, rule: str) -> None:
    random = np.random.default_rng(seed)
    truth = random.integers(0, K, 700)
    labels = noisy(truth, 0.2, seed=seed)
    probs = teachers_of(truth, seed=seed, labels_noise=0.2 if rule == "channel" else 0.0)
    before = {name: p.copy() for name, p in probs.items()}
    flags = flag_labels(labels, probs, independent=rule != "shared")
    names = tuple(probs)
    parts = [
        score_flags(flags.model, labels[s : s + size], names, [probs[n][s : s + size] for n in names])
        for s in range(0, 700, size)
    ]
    np.testing.assert_array_equal(np.concatenate([p.risk for p in parts]), flags.risk)
    np.testing.assert_array_equal(np.concatenate([p.suggested_prob for p in parts]), flags.suggested_prob)
    order = random.permutation(700)
    ids = [f"id{i}" for i in range(700)]
    one = flag_labels(labels, probs, ids=ids, independent=rule != "shared")
    other = flag_labels(
        labels[order],
        {name: p[order] for name, p in probs.items()},
        ids=[ids[i] for i in order],
        independent=rule != "shared",
    )
    np.testing.assert_array_equal(other.risk, one.risk[order])
    assert ((flags.risk >= 0) & (flags.risk <= 1)).all()
    np.testing.assert_array_equal(flags.flagged, flags.risk >= 0.5)
    for name, p in probs.items():
        np.testing.assert_array_equal(p, before[name])


def tailed(seed: int, noise: float, skill: float) -> tuple[Ints, Ints, dict[str, Floats]]:
    """100:1 from the first class to the last; teachers that err together and lean to what is common."""
    random = np.random.default_rng(seed)
    shares = 100.0 ** (-np.arange(K) / (K - 1))
    shares /= shares.sum()
    truth = random.choice(K, 6000, p=shares)
    shared = random.normal(size=(6000, K))
    probs = {}
    for m in range(4):
        logits = 0.8 * shared + 0.9 * random.normal(size=(6000, K)) + 0.6 * np.log(shares)
        logits[np.arange(6000), truth] += skill
        probs[f"t{m}"] = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return truth, noisy(truth, noise, seed=seed), probs


@pytest.mark.parametrize("noise", [0.0, 0.08])
@pytest.mark.parametrize("features", [None, "pixels"])
def test_clean_rows_of_a_long_tail_are_flagged_at_most_twice_as_often(noise: float, features: str | None) -> None:
    truth, labels, probs = tailed(3, noise, 2.5)
    flags = flag_labels(labels, probs, features=dict.fromkeys(probs, features))
    clean = labels == truth
    head, tail = clean & (truth < 2), clean & (truth >= K // 2)
    n_tail = int(flags.flagged[tail].sum())
    assert n_tail <= 2 * flags.flagged[head].mean() * tail.sum() + 3  # three rows of luck


def test_sure_evidence_counts_in_rare_classes_too() -> None:
    truth, labels, probs = tailed(5, 0.08, 9.0)
    flags = flag_labels(labels, probs)
    wrong = labels != truth
    rare = labels >= K // 2
    assert flags.flagged[wrong & rare].mean() > 0.9


def test_the_rate_of_one_teacher_is_a_bound_only_if_it_is_right_where_it_is_sure(truth: Ints) -> None:
    """Sure errors of its own look like wrong labels: the rate then lies above the truth, and says what it rests on."""
    labels = noisy(truth, 0.05)
    seen = np.where((truth == 0) & (np.random.default_rng(3).random(len(truth)) < 0.3), 1, truth)
    flags = flag_labels(labels, teachers_of(seen, n=1))
    assert flags.noise_rate.low is not None
    assert flags.noise_rate.low > (labels != truth).mean()
    for rate in (flags.noise_rate, flags.model.estimates["channel"]):
        assert rate.method.endswith("; a lower bound only if the teachers are right where they are sure")
