"""Trees beside the regression, and how many rows of unknown kind can be wrong at most."""

from __future__ import annotations

import numpy as np
import pytest

from curate.teachers.boxes.geometry import Floats, Ints
from curate.teachers.boxes.mixture import Contrast, fit_contrast
from curate.teachers.boxes.trees import MIN_MADE, blend

RATE = 0.05


def ringed(n: int, n_inside: int, seed: int) -> tuple[Floats, Ints]:
    """Return rows of which some lie near the middle, where no sum of columns is large, and which do."""
    random = np.random.default_rng(seed)
    angle, far = random.uniform(0, 2 * np.pi, n), random.normal(2.0, 0.4, n)
    x = np.stack([far * np.cos(angle), far * np.sin(angle)], axis=1)
    x[:n_inside] = random.normal(0, 0.4, (n_inside, 2))
    order = random.permutation(n)
    return x[order], (order < n_inside).astype(np.int64)


def fitted(unknown: Floats, made: Floats) -> Contrast:
    kind = np.ones(len(made), dtype=np.int64)
    return fit_contrast(unknown, made, kind, np.array([1 - RATE, RATE]), rounds=3, keep_rates=True)


def auc(chance: Floats, is_wrong: Ints) -> float:
    rank = np.argsort(np.argsort(chance))[is_wrong == 1]
    n, m = len(chance), len(rank)
    return float((rank.sum() - m * (m - 1) / 2) / (m * (n - m)))


def test_trees_see_what_only_holds_together_and_do_not_learn_rows_by_heart() -> None:
    unknown, is_wrong = ringed(4000, 200, seed=1)
    made = np.random.default_rng(2).normal(0, 0.4, (600, 2))
    contrast = fitted(unknown, made)
    assert auc(contrast.posterior(unknown)[:, 1], is_wrong) < 0.7
    chance = blend(contrast, unknown, made).posterior(unknown)
    assert chance.sum(axis=1) == pytest.approx(1.0)
    assert auc(chance[:, 1], is_wrong) > 0.95


def test_with_few_rows_in_doubt_the_regression_speaks_alone() -> None:
    unknown, _ = ringed(300, 15, seed=3)
    made = np.random.default_rng(4).normal(0, 0.4, (MIN_MADE - 1, 2))
    contrast = fitted(unknown, made)
    both = blend(contrast, unknown, made)
    assert both.trees is None
    assert both.posterior(unknown) == pytest.approx(contrast.posterior(unknown))


@pytest.mark.parametrize(("n_wrong", "low", "high"), [(0, 0.0, 0.02), (150, 0.035, 0.055)])
def test_right_rows_that_are_a_little_like_wrong_ones_are_not_taken_for_many(
    n_wrong: int, low: float, high: float
) -> None:
    random = np.random.default_rng(5)
    n = 3000
    unknown = random.normal(0, 1, (n, 3))
    unknown[: n // 3, 0] += 1.5  # sloppy, and still right
    unknown[:n_wrong, 0] = random.normal(4, 1, n_wrong)
    unknown = unknown[random.permutation(n)]
    made = np.stack([random.normal(4, 1, 600), *random.normal(0, 1, (2, 600))], axis=1)
    kind = np.ones(600, dtype=np.int64)
    found = fit_contrast(unknown, made, kind, np.array([1 - RATE, RATE]), rounds=12)
    assert low <= found.rates[1] <= high
