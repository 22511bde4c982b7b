from __future__ import annotations

import pytest

from curate.report.teachers import told_of


def weight(check: str, value: float, detail: dict[str, str]) -> dict[str, object]:
    row = {"check": check, "name": "teacher_weight", "group": "teacher=judge", "value": value}
    return {**row, "outcome": None, "detail": detail}


@pytest.mark.parametrize(
    ("check", "key"),
    [
        ("label_noise", "why"),
        ("multi_label_noise", "why"),
        ("box_noise", "why"),
        ("mask_noise", "guard"),
    ],
)
def test_a_teacher_has_the_weight_of_the_check_that_weighed_it(check: str, key: str) -> None:
    [told] = told_of([{"name": "judge"}], [weight(check, 0.25, {key: "it agrees with nobody"})])
    assert told["weight"] == 0.25
    assert told["note"] == "it agrees with nobody"


def test_a_teacher_that_nothing_weighed_has_no_weight_and_one_that_failed_comes_last() -> None:
    failed = {"check": "teachers", "name": "ran", "group": "teacher=broken", "value": 0.0, "outcome": "errored"}
    told = told_of([{"name": "judge"}], [{**failed, "detail": {"message": "no such file"}}])
    assert [(one["name"], one["weight"], one["note"]) for one in told] == [
        ("judge", None, ""),
        ("broken", None, "no such file"),
    ]
