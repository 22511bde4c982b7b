from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest

from curate import schema
from curate.check import build_statistics
from curate.summary import summary_lines
from curate.summary_audit import better_threshold
from curate.summary_noise import label_noise_of
from curate.summary_teachers import reasons_once, teachers_warn

BASE: dict[str, Any] = {
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


def test_rows_that_leave_without_their_label_are_counted() -> None:
    summary = {
        **BASE,
        "counts": {**BASE["counts"], "n_released": 8, "n_excluded": 1},
        "actions": {"keep": 7, "review": 1, "drop": 1},
        "n_without_label": 1,
        "excluded_by_reason": {},
        "gates": "passed",
        "gates_not_passed": [],
    }
    told = "\n".join(summary_lines(summary))
    assert "8 rows; 1 stay behind" in told
    assert "1 without a label, which only teachers doubt" in told
    assert "without a label" not in "\n".join(summary_lines({**summary, "n_without_label": 0}))


def test_warnings_of_cards_are_a_line_a_teacher_and_the_same_ones_share_it() -> None:
    cards = [
        {"name": "a", "warnings": ["2 rows are not judged", "knows no cat"]},
        {"name": "b", "warnings": []},
        {"name": "c", "warnings": ["2 rows are not judged", "knows no cat"]},
        {"name": "a", "warnings": ["knows no cat"]},
    ]
    assert teachers_warn(cards, schema.empty(schema.STATISTICS)) == ["a, c: 2 rows are not judged; knows no cat"]


def test_a_check_that_doubts_a_teacher_is_heard_and_rows_of_none_are_not() -> None:
    rows = [
        {"check": "track_noise", "name": "share_seen", "group": f"teacher={name}", "value": 0.1, "detail": detail}
        for name, detail in (
            ("d", '{"warning":"it sees 1%"}'),
            ("e", "{}"),
            ("gone", '{"warning":"x"}'),
            ("f", None),
        )
    ]
    cards = [{"name": name} for name in "def"]
    told = teachers_warn(cards, schema.table_from_rows(rows, schema.STATISTICS))
    assert told == ["d: it sees 1%"]


def test_why_a_teacher_failed_stands_once_and_gates_point_at_it() -> None:
    why = "ValueError: no such layer: conv9"
    summary: dict[str, Any] = {
        **BASE,
        "counts": {**BASE["counts"], "n_released": 9, "n_excluded": 0},
        "actions": {"keep": 9},
        "n_without_label": 0,
        "excluded_by_reason": {},
        "teachers_failed": [f"net: {why}"],
        "gates": "failed",
        "gates_not_passed": [
            {"level": "fail", "outcome": "errored", "message": f"teachers.ran (teacher=net) could not be ({why})."},
            {"level": "fail", "outcome": "fail", "message": "share_out is 0.2, above 0.1."},
        ],
    }
    told = summary_lines(summary)
    assert "\n".join(told).count(why) == 1
    assert "                 errored: teachers.ran (teacher=net) could not be (its reason stands above)." in told
    assert "                 fail: share_out is 0.2, above 0.1." in told
    assert reasons_once("all (no value)", ["net: "]) == "all (no value)"


MANIFEST = {"manifest": "/m", "id": "0123456789", "version": 2, "is_new": False}


@pytest.mark.parametrize(
    ("published", "told"),
    [
        ({}, "v2 (0123456) unchanged, nothing published → /m"),
        ({"repaired": True}, "v2 (0123456) was damaged and is written again → /m"),
        ({"repaired": True, "is_new": True}, "v2 (0123456) published; it was damaged and is written again → /m"),
        (
            {"repaired": True, "retracted": "leak"},
            "v2 (0123456) was RETRACTED (leak) and is not the latest; it was damaged and is written again → /m",
        ),
    ],
)
def test_what_became_of_the_version_is_told(published: dict[str, Any], told: str) -> None:
    (line,) = [line for line in summary_lines({**BASE, **MANIFEST, **published}) if "manifest" in line]
    assert line.removeprefix("  manifest       ") == told


def test_where_an_audit_stands_its_figure_is_told_and_none_is_called_for() -> None:
    noise: dict[str, Any] = {"noise_rate": 0.08, "low": 0.06, "high": 0.1, "n_flagged": 12.0}
    unsure = {
        **noise,
        "insufficient": "its estimates disagree (a 2.0%, b 8.0%)",
        "next": "an audit tells: curate audit",
    }
    audit = {"noise_rate": {"value": 0.031, "low": 0.02, "high": 0.05}}

    def line(found: dict[str, Any], **more: Any) -> str:  # noqa: ANN401 - of the summary
        lines = summary_lines({**BASE, "label_noise": found, **more})
        return next(one for one in lines if "wrong labels" in one).split("wrong labels")[1].strip()

    assert line(unsure).startswith(
        "not known: its estimates disagree (a 2.0%, b 8.0%); an audit tells: curate audit;"
    )
    told = line(unsure, audit=audit)
    assert told.startswith("3.1% (by the audit; interval 2.0% to 5.0%); 12 flagged; drops become reviews")
    assert "curate audit" not in told
    assert line(noise, audit=audit).endswith("12 flagged; the teachers' estimate is 8.0%")
    assert line(noise) == "about 8.0% (estimate; interval 6.0% to 10.0%); 12 flagged"


@pytest.mark.parametrize("kind", ["probability", "rank"])
def test_a_risk_is_what_an_audit_says_it_is(kind: str) -> None:
    teachers = build_statistics(
        "label_noise", [{"name": "noise_rate", "value": 0.1, "detail": {"risk_kind": "rank"}}]
    )
    audit = build_statistics("audit", [{"name": "calibration_error", "value": 0.05, "detail": {"risk_kind": kind}}])
    assert label_noise_of(teachers)["risk_kind"] == "rank"
    assert label_noise_of(pa.concat_tables([audit, teachers]))["risk_kind"] == kind
    assert label_noise_of(audit) == {}


def proof(**changes: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON
    """What an audit says of flags that are right in 80 % of the cases and find two of five wrong labels."""
    return {
        "says": "complete",
        "of_these_flags": {"precision": {"value": 0.8, "low": 0.78}, "f1": {"value": 0.53}},
        "certificate": {"target": 0.75, "risk": 0.41, "n_above": 310},
        "best_f1": {"risk": 0.22, "n_above": 640, "f1": 0.71},
        **changes,
    }


@pytest.mark.parametrize(
    ("said", "told"),
    [
        (proof(), "flags 310 labels, certified for precision 75.0%: checks: {label_noise: {flag_risk: 0.41}}"),
        (proof(flag_risk=0.41, best_f1=None), None),  # it is in use
        (
            proof(flag_risk=0.3),
            "F1 about 0.71 instead of 0.53 (an estimate): checks: {label_noise: {flag_risk: 0.22}}",
        ),
        (proof(flag_risk=0.3, certificate={"target": 0.9, "risk": 0.41, "n_above": 310}), "for precision 90.0%"),
        (proof(certificate={"target": 0.9, "risk": None, "n_above": 0}), "flag_risk: 0.22"),
        (proof(certificate=None, best_f1={"risk": 0.45, "n_above": 90, "f1": 0.54}), None),  # no gain to speak of
        (proof(of_these_flags=None), None),  # looks are open, or labels changed
        (None, None),
    ],
)
def test_a_threshold_that_an_audit_found_better_is_told_at_the_end(
    said: dict[str, Any] | None, told: str | None
) -> None:
    better = better_threshold(said)
    last = summary_lines({**BASE, "audit_threshold": better})[-1]
    if told is None:
        assert better is None
        assert last.startswith("  next")
    else:
        assert told in last
