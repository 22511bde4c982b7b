from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from curate.statistics.association import (
    adjusted_residuals,
    cramers_v,
    discoveries,
    fit_to_reference,
    two_sided_p,
)
from curate.statistics.diversity import (
    effective_number,
    entropy_nats,
    evenness,
    js_divergence,
    js_expected_by_chance,
)
from curate.statistics.intervals import relative_risk, wilson

counts = st.lists(st.integers(0, 1000), min_size=1, max_size=8)


@given(st.integers(0, 500), st.integers(0, 500))
def test_wilson_is_scipys(hits: int, rest: int) -> None:
    n = hits + rest
    low, high = wilson(hits, n)
    assert 0 <= low <= high <= 1
    if n:
        expected = stats.binomtest(hits, n).proportion_ci(method="wilson")
        assert (low, high) == pytest.approx((expected.low, expected.high), abs=1e-9)
    else:
        assert (low, high) == (0.0, 1.0)


def test_wilson_refuses_more_hits_than_rows() -> None:
    with pytest.raises(ValueError, match="3 of 2"):
        wilson(3, 2)


def test_relative_risk() -> None:
    ratio = relative_risk(10, 100, 5, 100)
    assert ratio is not None
    expected = stats.contingency.relative_risk(10, 100, 5, 100)
    interval = expected.confidence_interval(0.95)
    assert ratio == pytest.approx((expected.relative_risk, interval.low, interval.high))
    assert relative_risk(0, 100, 0, 100) is None
    assert relative_risk(0, 0, 1, 2) is None
    zero = relative_risk(0, 100, 5, 100)
    assert zero is not None
    assert math.isfinite(zero[2])


@given(counts)
def test_diversity_is_between_one_and_all(values: list[int]) -> None:
    number = effective_number(values)
    present = sum(v > 0 for v in values)
    assert number == 0 if present == 0 else 1 - 1e-9 <= number <= present + 1e-9
    even = evenness(values)
    assert even is None or 0 <= even <= 1
    assert entropy_nats([v * 3 for v in values]) == pytest.approx(entropy_nats(values), abs=1e-9)


@given(st.lists(st.tuples(st.integers(0, 100), st.integers(0, 100)), min_size=1, max_size=6))
def test_js_is_symmetric_bounded_and_zero_for_equals(pairs: list[tuple[int, int]]) -> None:
    a, b = [p[0] for p in pairs], [p[1] for p in pairs]
    value = js_divergence(a, b)
    if not sum(a) or not sum(b):
        assert value is None
        return
    assert value is not None
    assert 0 <= value <= 1
    assert js_divergence(b, a) == pytest.approx(value, abs=1e-9)
    assert js_divergence(a, a) == pytest.approx(0, abs=1e-9)


def test_js_of_strangers_is_one_and_chance_is_about_what_draws_have() -> None:
    assert js_divergence([5, 0], [0, 5]) == pytest.approx(1.0)
    rng = np.random.default_rng(0)
    shares = np.full(10, 0.1)
    drawn = [js_divergence(rng.multinomial(300, shares), rng.multinomial(700, shares)) for _ in range(300)]
    chance = js_expected_by_chance(np.full(10, 30), np.full(10, 70))
    assert chance == pytest.approx(np.mean(np.asarray(drawn, dtype=float)), rel=0.1)


def test_cramers_v_is_corrected_for_many_cells() -> None:
    """The note's case: 7 groups by 1000 labels, independent: the plain V is .2 and more, the corrected near 0."""
    rng = np.random.default_rng(0)
    table = np.zeros((7, 1000))
    np.add.at(table, (rng.integers(0, 7, 20_000), rng.integers(0, 1000, 20_000)), 1)
    plain = stats.contingency.association(table.astype(int), method="cramer")
    corrected = cramers_v(table)
    assert corrected is not None
    assert plain > 0.2
    assert corrected < 0.05
    assert cramers_v(np.eye(3) * 50) == pytest.approx(1.0, abs=0.01)
    assert cramers_v([[5, 5]]) is None
    assert cramers_v([[0, 0], [0, 0]]) is None


def test_adjusted_residuals_of_a_two_by_two_table_are_its_z() -> None:
    table = np.array([[30, 10], [20, 40]])
    residuals = adjusted_residuals(table)
    chi2 = stats.chi2_contingency(table, correction=False).statistic
    assert np.abs(residuals) == pytest.approx(np.full((2, 2), math.sqrt(chi2)))
    assert residuals[0, 0] > 0 > residuals[0, 1]
    assert not adjusted_residuals([[0, 0], [1, 2]]).any()


@given(st.lists(st.floats(0, 1), max_size=30))
def test_discoveries_are_scipys(values: list[float]) -> None:
    expected = stats.false_discovery_control(values) <= 0.05 if values else np.zeros(0, dtype=bool)
    got = discoveries(values)
    near = np.abs(stats.false_discovery_control(values) - 0.05) < 1e-12 if values else got
    assert ((got == expected) | near).all()


def test_fit_to_reference() -> None:
    fit = fit_to_reference([60, 40], [0.5, 0.5])
    assert fit is not None
    power = stats.power_divergence([60, 40], lambda_="log-likelihood")
    assert (fit.g, fit.p_value) == pytest.approx((power.statistic, power.pvalue))
    assert fit.w == pytest.approx(0.2)
    strange = fit_to_reference([5, 5], [1.0, 0.0])
    assert strange is not None
    assert strange.p_value == 0.0
    assert fit_to_reference([0, 0], [0.5, 0.5]) is None
    assert two_sided_p([0.0, 1.959964]) == pytest.approx([1.0, 0.05], abs=1e-6)
