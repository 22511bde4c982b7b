from __future__ import annotations

import pytest

from curate.summary import summary_lines

BASE = {
    "name": "pets",
    "counts": {"n_images": 9, "n_labels": 9},
    "notes": [],
}


@pytest.mark.parametrize(
    ("noise", "told"),
    [
        (
            {"n_wrong": 3.0, "n_flagged": 2.0, "precision": 1.0, "recall": 2 / 3, "f1": 0.8},
            "3 labels are known to be wrong: the flags have precision 1.00, recall 0.67, F1 0.80",
        ),
        (  # nothing flagged: there is no precision, and the line stays
            {"n_wrong": 3.0, "n_flagged": 0.0, "recall": 0.0, "f1": 0.0},
            "3 labels are known to be wrong: the flags have recall 0.00, F1 0.00",
        ),
        (
            {"n_wrong": 3.0, "recall": 0.0, "f1": 0.0},
            "3 labels are known to be wrong; label noise was not judged, so no flags stand against them",
        ),
    ],
)
def test_the_truth_is_told_whatever_was_flagged(noise: dict[str, float], told: str) -> None:
    (line,) = [line for line in summary_lines({**BASE, "label_noise": noise}) if "against truth" in line]
    assert line.split("against truth")[1].strip() == told
