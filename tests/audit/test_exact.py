"""Bounds of a finite population are exact, and combinations of them hold their level."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import beta, hypergeom

from curate.statistics.exact import Cell, joint_bounds, lower_count, share_interval, upper_count


@st.composite
def cells(draw: st.DrawFn) -> Cell:
    n_all = draw(st.integers(1, 400))
    n_drawn = draw(st.integers(1, n_all))
    n_wrong = draw(st.integers(0, n_drawn))
    return Cell(n_all, n_drawn, n_wrong, draw(st.integers(0, n_drawn - n_wrong)))


@settings(max_examples=40, deadline=None)
@given(cells())
def test_bounds_enclose_what_was_seen_and_are_the_last_that_is_plausible(cell: Cell) -> None:
    low, high = lower_count(cell, 0.05), upper_count(cell, 0.05)
    assert cell.n_wrong <= low <= high <= cell.n_all - (cell.n_drawn - cell.n_wrong)
    assert hypergeom.sf(cell.n_wrong - 1, cell.n_all, low, cell.n_drawn) > 0.05
    if low > cell.n_wrong:
        assert hypergeom.sf(cell.n_wrong - 1, cell.n_all, low - 1, cell.n_drawn) <= 0.05
    if cell.n_drawn == cell.n_all:
        assert low == high == cell.n_wrong


def test_an_unlimited_population_has_the_bounds_of_clopper_and_pearson() -> None:
    huge = Cell(10_000_000, 50, 3)
    low, high = beta.ppf(0.025, 3, 48), beta.ppf(0.975, 4, 47)
    assert lower_count(huge, 0.025) / huge.n_all == pytest.approx(low, abs=1e-5)
    assert upper_count(huge, 0.025) / huge.n_all == pytest.approx(high, abs=1e-5)
    assert share_interval(3, 50) == pytest.approx((low, high))
    assert share_interval(0, 0) == (0.0, 1.0)
    assert share_interval(0, 10)[0] == 0.0
    assert share_interval(10, 10)[1] == 1.0


@pytest.mark.parametrize(("n_all", "n_drawn", "n_wrong"), [(60, 20, 3), (500, 40, 0), (500, 40, 480), (90, 90, 4)])
def test_one_cell_covers_its_truth_at_least_as_often_as_promised(n_all: int, n_drawn: int, n_wrong: int) -> None:
    """Exact: summed over every possible draw, no simulation."""
    chance = hypergeom.pmf(np.arange(n_drawn + 1), n_all, n_wrong, n_drawn)
    covered = 0.0
    for x, p in enumerate(chance.tolist()):
        if p > 0:
            low, high = joint_bounds([Cell(n_all, n_drawn, x)])[0]
            covered += p * (low <= n_wrong <= high)
    assert covered >= 0.95


def test_two_cells_cover_their_truths_together_at_least_as_often_as_promised() -> None:
    """Exact; a stratum drawn nearly whole beside a thin one is where approximations fail."""
    thick, thin = (60, 40, 2), (400, 69, 1)
    covered = 0.0
    for x, p in enumerate(hypergeom.pmf(np.arange(3), 60, 2, 40).tolist()):
        for y, q in enumerate(hypergeom.pmf(np.arange(2), 400, 1, 69).tolist()):
            bounds = joint_bounds([Cell(*thick[:2], x), Cell(*thin[:2], y)])
            low, high = (sum(ends) for ends in zip(*bounds, strict=True))
            covered += p * q * (low <= 3 <= high)
    assert covered >= 0.95


def test_doubt_widens_in_both_directions_and_an_unseen_cell_can_be_anything() -> None:
    sure, unsure = joint_bounds([Cell(100, 22, 5)])[0], joint_bounds([Cell(100, 22, 5, 2)])[0]
    assert unsure[0] == sure[0]
    assert unsure[1] > sure[1]
    assert joint_bounds([Cell(100, 0, 0)]) == [(0, 100)]
    assert joint_bounds([]) == []
