from __future__ import annotations

import numpy as np

from curate.teachers.protocol import TeacherCard, prob_column, prob_matrix


def test_probabilities_come_back_the_same_also_from_a_slice() -> None:
    probs = np.array([[0.25, 0.75], [np.nan, np.nan], [1, 0]], np.float32)
    np.testing.assert_array_equal(prob_matrix(prob_column(probs)), probs)
    np.testing.assert_array_equal(prob_matrix(prob_column(probs).slice(1)), probs[1:])
    assert prob_matrix(prob_column(probs[:0])).shape == (0, 2)


def test_cards_come_back_the_same() -> None:
    card = TeacherCard(
        "a", "onnx", None, None, out_of_fold=False, calibration=None, digest="d", n_predicted=1, warnings=("w",)
    )
    assert TeacherCard.from_json(card.to_json()) == card
