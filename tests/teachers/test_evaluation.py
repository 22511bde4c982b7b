from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, f1_score, precision_score, recall_score

from curate.errors import InputError
from curate.teachers.evaluation import evaluate


def test_agrees_with_scikit_learn_with_ties_and_any_order() -> None:
    random = np.random.default_rng(0)
    wrong = random.random(500) < 0.2
    risk = np.round(random.random(500) * 0.6 + wrong * 0.3, 1)
    flagged = risk >= 0.5
    found = evaluate(risk, flagged, wrong)
    assert found.average_precision.value == pytest.approx(average_precision_score(wrong, risk))
    assert found.precision.value == pytest.approx(precision_score(wrong, flagged))
    assert found.recall.value == pytest.approx(recall_score(wrong, flagged))
    assert found.f1.value == pytest.approx(f1_score(wrong, flagged))
    assert found.f1.low < found.f1.value < found.f1.high
    order = random.permutation(500)
    again = evaluate(risk[order], flagged[order], wrong[order], n_resamples=0)
    assert again.average_precision.value == pytest.approx(found.average_precision.value, abs=1e-12)


def test_intervals_cover_the_truth_about_as_often_as_they_say() -> None:
    random = np.random.default_rng(1)
    covered = 0
    for _ in range(60):
        wrong = random.random(300) < 0.3
        flagged = np.where(wrong, random.random(300) < 0.7, random.random(300) < 0.1)
        recall = evaluate(flagged.astype(float), flagged, wrong, n_resamples=100).recall
        covered += recall.low <= 0.7 <= recall.high
    assert covered >= 50


def test_undefined_measures_are_none_and_unjudged_rows_are_left_out() -> None:
    nothing = evaluate(np.array([0.1, np.nan]), np.array([False, False]), np.array([False, True]))
    assert nothing.n == 1
    assert nothing.precision.value is None
    assert nothing.average_precision.value is None
    assert evaluate(np.array([]), np.array([]), np.array([])).f1.value is None
    with pytest.raises(InputError, match="same rows"):
        evaluate(np.zeros(2), np.zeros(3), np.zeros(2))
