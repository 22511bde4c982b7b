from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from checks_views import sample, samples_view, statistic
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.check import CheckResult, run_check
from curate.checks.image_quality import CHECK, ISSUES, _below
from curate.reasons import render
from curate.statistics.intervals import wilson

SHARP: dict[str, Any] = {"blur_laplacian_std": 60.0, "blur_luma_std": 8.0, "colorfulness": 30.0}
FLAT = {"brightness_p05": 0.5, "brightness_p99": 0.5, "entropy_bits": 0.0, "blur_laplacian_std": 0.0}

CASES: dict[str, tuple[Mapping[str, Any], set[str]]] = {
    "plain": ({}, set()),
    "dark": ({"brightness_p99": 0.31, "brightness_p05": 0.0}, {"dark"}),
    "not quite dark": ({"brightness_p99": 0.33, "brightness_p05": 0.0}, set()),
    "bright": ({"brightness_p05": 0.96, "brightness_p99": 1.0}, {"bright"}),
    "blurry": ({"blur_laplacian_std": 30.0}, {"blurry"}),
    "smooth drawing": ({"blur_laplacian_std": 20.0, "blur_luma_std": 40.0}, set()),
    "low information": ({"entropy_bits": 1.3}, {"low_information"}),
    "gray": ({"colorfulness": 0.0}, {"gray"}),
    "odd aspect": ({"width_px": 34 * 5, "height_px": 100 * 5}, {"odd_aspect", "odd_size"}),
    "odd size": ({"width_px": 640, "height_px": 480}, {"odd_size"}),
    "blank": (FLAT, {"blank", "low_information", "blurry"}),
}


def usual(n: int = 40) -> list[dict[str, Any]]:
    """Return good images whose sizes vary a little."""
    return [sample(number, **SHARP, width_px=60 + number % 9) for number in range(n)]


def judged(rows: list[dict[str, Any]]) -> CheckResult:
    return run_check(CHECK, samples_view(rows))


def issues_of(result: CheckResult, row: Mapping[str, Any]) -> set[str]:
    return {f["issue"] for f in result.findings.to_pylist() if f["sample_id"] == row["sample_id"]}


@pytest.mark.parametrize("name", CASES)
def test_each_issue_is_flagged_alone(name: str) -> None:
    values, expected = CASES[name]
    row = sample(1000, **{**SHARP, **values})
    result = judged([*usual(), row])
    assert issues_of(result, row) == expected
    assert len(result.findings) == len(expected)  # and no other image has a finding
    for finding in result.findings.to_pylist():
        assert 0.5 <= finding["risk"] <= 1.0
        assert finding["flagged"]
        assert "?" not in render(finding["reason_code"], json.loads(finding["reason_args"]))


def test_an_unreadable_image_has_one_finding_with_the_reason_of_the_scan() -> None:
    args = json.dumps({"path": "a.png", "n_bytes": 3, "needed": "more"})
    empty = dict.fromkeys(("width_px", "height_px", "brightness_p05", "brightness_p99", "entropy_bits"))
    row = sample(1, error_code="truncated", error_args=args, **empty)
    (finding,) = judged([*usual(), row]).findings.to_pylist()
    assert (finding["issue"], finding["risk"], finding["flagged"]) == ("unreadable", 1.0, True)
    assert finding["reason_code"] == "truncated"
    assert json.loads(finding["reason_args"]) == json.loads(args)


def test_where_gray_is_the_norm_it_is_no_issue() -> None:
    gray = [sample(100 + n, **{**SHARP, "colorfulness": 0.0}) for n in range(60)]
    result = judged([*usual(40), *gray])
    assert "gray" not in result.findings["issue"].to_pylist()
    row = statistic(result.statistics, "share_gray")
    assert row["value"] == 0.0
    assert json.loads(row["detail"])["gray_is_norm"] is True


def test_shares_have_wilson_intervals_over_the_readable() -> None:
    rows = [*usual(38), sample(900, **{**SHARP, "brightness_p99": 0.2}), sample(901, error_code="truncated")]
    statistics = judged(rows).statistics
    assert set(statistics["name"].to_pylist()) == {f"share_{issue}" for issue in (*ISSUES, "unreadable")}
    dark = statistic(statistics, "share_dark")
    assert (dark["value"], dark["n"]) == (1 / 39, 39)
    assert (dark["low"], dark["high"]) == wilson(1, 39)
    assert statistic(statistics, "share_unreadable")["value"] == 1 / 40


def test_nothing_to_measure_is_insufficient_data_and_no_pass() -> None:
    outcomes = set(judged([]).statistics["outcome"].to_pylist())
    assert outcomes == {"insufficient data"}
    only_bad = judged([sample(1, error_code="truncated")]).statistics
    assert statistic(only_bad, "share_dark")["outcome"] == "insufficient data"
    assert statistic(only_bad, "share_unreadable")["value"] == 1.0


def test_usual_sizes_do_not_depend_on_the_order() -> None:
    rows = [*usual(), sample(1000, **SHARP, width_px=4000)]
    assert judged(rows).findings.equals(judged(rows[::-1]).findings)
    assert judged(rows).statistics.equals(judged(rows[::-1]).statistics)


def test_unknown_measures_are_not_flagged() -> None:
    row = sample(1, **dict.fromkeys(("brightness_p05", "brightness_p99", "entropy_bits", "colorfulness")))
    result = judged([*usual(), {**row, "blur_laplacian_std": None, "blur_luma_std": None}])
    assert issues_of(result, row) == set()


@settings(max_examples=50, deadline=None)
@given(values=st.lists(st.floats(0, 10), min_size=2, max_size=9), cut=st.floats(0.01, 5))
def test_risk_falls_with_the_measure_and_splits_at_the_cut(values: list[float], cut: float) -> None:
    measure = np.sort(np.array(values))
    risk = _below(measure, cut)
    assert (np.diff(risk) <= 1e-12).all()
    assert ((risk >= 0.5) == (measure < cut)).all()
    assert ((risk == 0.0) == (measure >= cut)).all()


def test_counts_of_findings_and_of_statistics_agree() -> None:
    rows = usual() + [sample(1000 + n, **{**SHARP, **values}) for n, (values, _) in enumerate(CASES.values())]
    result = judged(rows)
    for issue in ISSUES:
        n = pa.compute.sum(pa.compute.equal(result.findings["issue"], issue)).as_py()
        assert json.loads(statistic(result.statistics, f"share_{issue}")["detail"])["n_flagged"] == n


def test_what_is_measured_of_a_blurry_image_is_on_the_scale_of_its_cut() -> None:
    rows = [*usual(), sample(99, **{**SHARP, "blur_laplacian_std": 30.0, "width_px": 64})]
    found = [row for row in run_check(CHECK, samples_view(rows)).findings.to_pylist() if row["issue"] == "blurry"]
    args = json.loads(found[0]["reason_args"])
    assert args["measured"] < args["cut"] == CHECK.params.blurry_max
    assert f"sharpness is {args['measured']}" in render(found[0]["reason_code"], args)
