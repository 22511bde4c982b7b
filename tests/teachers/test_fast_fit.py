"""What is quick has to be the same: the fit beside SciPy's, derivatives, conversions, what a command loads."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from curate.teachers import pool
from curate.teachers.newton import minimize_within
from curate.teachers.noise import Floats, Ints, uniform_transition
from curate.teachers.pool import MAX_WEIGHT, fit_log_weights, highest, log_probs
from curate.teachers.score_kernel import in_float32


def answers(n_rows: int, n_teachers: int, n_classes: int, seed: int, strength: float = 2.0) -> tuple[Floats, Ints]:
    """Return (N, T, K) log probabilities and (N,) labels, a tenth of them wrong."""
    random = np.random.default_rng(seed)
    truth = random.integers(0, n_classes, n_rows)
    given = np.where(random.random(n_rows) < 0.1, random.integers(0, n_classes, n_rows), truth)
    logits = random.normal(size=(n_teachers, n_rows, n_classes)) + strength * np.eye(n_classes)[truth]
    probs = np.exp(logits) / np.exp(logits).sum(axis=2, keepdims=True)
    return log_probs(probs.astype(np.float32)).transpose(1, 0, 2), given


@given(
    n_rows=st.sampled_from([200, 6_000]),
    n_teachers=st.integers(1, 4),
    n_classes=st.integers(2, 9),
    seed=st.integers(0, 99),
)
@settings(max_examples=8, deadline=None)
def test_weights_are_those_that_scipy_finds(n_rows: int, n_teachers: int, n_classes: int, seed: int) -> None:
    logs, labels = answers(n_rows, n_teachers, n_classes, seed)
    weights, likelihood = fit_log_weights(logs, np.ones(logs.shape[:2], dtype=bool), labels)
    bounds = [(0.0, MAX_WEIGHT)] * n_teachers
    start = np.full(n_teachers, 1.0 / n_teachers)
    theirs = minimize(
        lambda w: pool._loss(logs, labels, None, w)[:2], start, jac=True, method="L-BFGS-B", bounds=bounds
    )
    assert likelihood >= -theirs.fun * n_rows - 1e-5 * n_rows
    assert np.abs(weights - theirs.x).max() < 0.02
    assert weights.min() >= 0


@pytest.mark.parametrize("rate", [None, 0.2])
def test_gradient_and_curvature_are_those_of_the_loss(rate: float | None) -> None:
    logs, labels = answers(400, 3, 5, seed=1)
    logs = logs.astype(np.float64)
    channel = None if rate is None else np.ascontiguousarray(uniform_transition(rate, 5).T)
    point, step = np.array([0.4, 0.9, 0.2]), 1e-5
    _, gradient, curvature = pool._loss(logs, labels, channel, point, n_curved=len(logs))
    for m in range(3):
        ahead, behind = (pool._loss(logs, labels, channel, point + sign * step * np.eye(3)[m]) for sign in (1, -1))
        assert gradient[m] == pytest.approx((ahead[0] - behind[0]) / (2 * step), abs=1e-7)
        assert curvature[m] == pytest.approx((ahead[1] - behind[1]) / (2 * step), abs=1e-6)


@given(
    st.lists(st.floats(-3, 3), min_size=3, max_size=3),
    st.lists(st.floats(-2, 30), min_size=3, max_size=3),
)
@settings(max_examples=60, deadline=None)
def test_newton_finds_the_least_point_within_bounds(slopes: list[float], centre: list[float]) -> None:
    factor = np.array([[1.0, 0.0, 0.0], [slopes[0], 1.0, 0.0], [slopes[1], slopes[2], 1.0]])
    square = factor @ factor.T

    def loss(point: Floats) -> tuple[float, Floats, Floats]:
        away = point - np.array(centre)
        return float(0.5 * away @ square @ away), square @ away, square

    point, value = minimize_within(loss, np.ones(3), 20.0)
    assert ((point >= 0) & (point <= 20)).all()
    assert value == pytest.approx(loss(point)[0], abs=1e-6)
    theirs = minimize(
        lambda p: loss(p)[:2], np.ones(3), jac=True, method="L-BFGS-B", bounds=[(0, 20)] * 3,
        options={"ftol": 1e-15, "gtol": 1e-10},
    )  # fmt: skip
    assert value <= theirs.fun + 1e-4 * max(1.0, theirs.fun)


def test_every_float16_becomes_the_same_float32() -> None:
    halves = np.arange(2**16, dtype=np.uint16).view(np.float16).reshape(256, 256)
    found = in_float32(halves, np.empty((300, 256), np.float32))
    assert np.array_equal(found, halves.astype(np.float32), equal_nan=True)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [(0, 4), (1, 2), (7, 3), (50, 1001)])
def test_the_highest_of_each_row(shape: tuple[int, int], dtype: type) -> None:
    values = np.random.default_rng(0).normal(size=shape).astype(dtype)
    assert np.array_equal(highest(values), values.max(axis=1))


def test_flagging_a_table_loads_neither_pandas_nor_torch(tmp_path: Path) -> None:
    logs, labels = answers(2_000, 3, 4, seed=2, strength=8.0)
    columns = {
        f"prob_t{m}": pa.FixedSizeListArray.from_arrays(pa.array(np.exp(logs[:, m]).ravel()), 4) for m in range(3)
    }
    pq.write_table(pa.table({"label": pa.array(labels), **columns}), tmp_path / "in.parquet")
    code = (
        "import atexit, sys; atexit.register(lambda: sys.stderr.write(' '.join(sorted(sys.modules)))); "
        "from curate.cli import main; main()"
    )
    command = [
        sys.executable,
        "-c",
        code,
        "flag",
        str(tmp_path / "in.parquet"),
        "--out",
        str(tmp_path / "o.parquet"),
        "-q",
    ]
    told = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120, env=dict(os.environ))
    assert "flagged" in told.stdout
    assert {name.partition(".")[0] for name in told.stderr.split()}.isdisjoint({"pandas", "torch", "fiftyone"})
