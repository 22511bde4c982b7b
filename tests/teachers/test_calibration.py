"""Calibration of users' teachers: on held-out folds, untouched votes, robust to wrong labels, on the card."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curate.spec import TableTeacherSpec
from curate.teachers import predict_all
from curate.teachers.calibration import N_FOLDS, at_temperature, calibrate, calibration_error
from curate.teachers.noise import Floats, Ints
from curate.teachers.protocol import Answer, Request, TeacherCard
from curate.teachers.sampling import order_keys

K = 5
N = 4000
IDS = [f"id{i}" for i in range(N)]
CARD = TeacherCard("mine", "table", None, None, out_of_fold=True, calibration=None, digest="", n_predicted=N)


def teacher(sharpness: float, seed: int = 0) -> tuple[Ints, Floats]:
    """Return truth drawn from calibrated probabilities, and these at another temperature."""
    random = np.random.default_rng(seed)
    logits = 2.5 * random.normal(size=(N, K))
    honest = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    truth = (honest.cumsum(axis=1) > random.random((N, 1))).argmax(axis=1)
    stretched = honest**sharpness
    return truth, stretched / stretched.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("noise", [0.0, 0.2])
@pytest.mark.parametrize("sharpness", [0.5, 1.0, 3.0])
def test_the_temperature_is_found_whatever_labels_are_wrong(sharpness: float, noise: float) -> None:
    truth, probs = teacher(sharpness)
    random = np.random.default_rng(1)
    labels = np.where(random.random(N) < noise, (truth + random.integers(1, K, N)) % K, truth)
    answer = calibrate(Answer(CARD, probs.astype(np.float32)), labels, IDS)
    found = at_temperature(probs, labels, np.ones(N, dtype=bool), order_keys(IDS, N))
    assert found.temperature == pytest.approx(sharpness, rel=0.25)
    assert found.noise_rate == pytest.approx(noise, abs=0.06)
    assert calibration_error(answer.probs, truth) < 0.04
    np.testing.assert_array_equal(answer.probs.argmax(axis=1), probs.argmax(axis=1))
    assert "before" in (answer.card.calibration or "")
    if sharpness == 3.0:
        assert found.error_after < 0.5 * found.error_before


def test_no_label_has_a_say_in_its_own_fold() -> None:
    truth, probs = teacher(3.0)
    keys = order_keys(IDS, N)
    one = keys % np.uint64(N_FOLDS) == 0
    spoiled = np.where(one, (truth + 1) % K, truth)
    everything = np.ones(N, dtype=bool)
    np.testing.assert_array_equal(
        at_temperature(probs, truth, everything, keys).probs[one],
        at_temperature(probs, spoiled, everything, keys).probs[one],
    )


def test_what_is_calibrated_or_small_stays_as_it_came() -> None:
    truth, probs = teacher(3.0)
    told = Answer(TeacherCard(**{**CARD.to_json(), "warnings": (), "calibration": "isotonic"}), probs)
    assert calibrate(told, truth, IDS) is told
    few = Answer(CARD, probs[:150])
    assert calibrate(few, truth[:150], IDS[:150]) is few
    silent = probs.copy()
    silent[:100] = np.nan
    assert np.isnan(calibrate(Answer(CARD, silent), truth, IDS).probs[:100]).all()


def test_a_table_of_a_run_is_calibrated_and_its_card_says_so(
    make_request: Callable[..., Request], tmp_path: Path
) -> None:
    request = make_request(["red", "green", "blue"] * 80)
    random = np.random.default_rng(0)
    first = np.where(random.random(240) < 0.3, random.integers(0, 3, 240), np.arange(240) % 3)
    probs = np.where(np.eye(3)[first] > 0, 0.998, 0.001)  # sure of all, right in four of five
    rows = pa.table(
        {"uri": request.labels["uri"], "prob_mine": pa.array(probs.tolist(), pa.list_(pa.float64(), 3))}
    )
    pq.write_table(rows.replace_schema_metadata({"classes": '["red","green","blue"]'}), tmp_path / "t.parquet")
    predictions = predict_all([TableTeacherSpec(kind="table", name="mine", path="t.parquet", key="uri")], request)
    assert not predictions.errors
    assert "calibration error" in (predictions.cards[0].calibration or "")
    kept = np.array(predictions.table["prob_mine"].to_pylist(), dtype=float)
    assert 0.6 < kept.max(axis=1).mean() < 0.95
