from __future__ import annotations

import json
from typing import Any, Literal

import pyarrow as pa
import pytest

from curate import schema
from curate.check import Check, build_statistics, errored
from curate.gates import GATES, gate_result, judge
from curate.policy import DEFAULT_GATES, Gate, Policy
from curate.reasons.verdicts import SENTENCES


def statistics(*rows: dict[str, Any]) -> pa.Table:
    return build_statistics("noise", list(rows))


RATE = {"name": "rate", "value": 0.10, "low": 0.05, "high": 0.25, "n": 100}


def outcome(gate: Gate, *rows: dict[str, Any]) -> tuple[str, str]:
    """Return (outcome of the first statistic, outcome of all gates)."""
    table = statistics(*rows)
    return judge(table, [gate])["outcome"][0].as_py(), gate_result(table, [gate]).outcome


@pytest.mark.parametrize(
    ("bounds", "expected"),
    [
        ({"max": 0.2}, ("pass", "passed")),
        ({"max": 0.1}, ("pass", "passed")),
        ({"max": 0.09}, ("fail", "failed")),
        ({"max": 0.09, "level": "warn"}, ("warn", "warned")),
        ({"max": 0.09, "level": "info"}, ("warn", "passed")),
        ({"min": 0.2}, ("fail", "failed")),
        ({"min": 0.05, "max": 0.2}, ("pass", "passed")),
        ({"max": 0.2, "bound": "interval"}, ("fail", "failed")),
        ({"max": 0.3, "bound": "interval"}, ("pass", "passed")),
        ({"min": 0.06, "bound": "interval"}, ("fail", "failed")),
    ],
)
def test_bounds(bounds: dict[str, Any], expected: tuple[str, str]) -> None:
    assert outcome(Gate(statistic="noise.rate", **bounds), RATE) == expected


def test_a_bound_on_the_interval_without_one_takes_the_value() -> None:
    gate = Gate(statistic="noise.rate", max=0.2, bound="interval")
    assert outcome(gate, {"name": "rate", "value": 0.1}) == ("pass", "passed")


@pytest.mark.parametrize("value", [None, float("nan")])
@pytest.mark.parametrize("level", ["fail", "warn"])
def test_a_value_that_is_no_number_is_errored_and_never_passes(value: float | None, level: Any) -> None:  # noqa: ANN401
    gate = Gate(statistic="noise.rate", max=1.0, level=level)
    assert outcome(gate, {"name": "rate", "value": value}) == ("errored", "failed" if level == "fail" else "warned")


def test_an_interval_that_is_no_number_is_errored() -> None:
    gate = Gate(statistic="noise.rate", max=1.0, bound="interval")
    assert outcome(gate, {**RATE, "high": float("nan")}) == ("errored", "failed")


def test_infinity_is_above_every_bound_and_can_be_written() -> None:
    assert outcome(Gate(statistic="noise.rate", max=1.0), {"name": "rate", "value": float("inf")}) == (
        "fail",
        "failed",
    )


def test_an_errored_statistic_stays_errored_whatever_its_value() -> None:
    assert outcome(Gate(statistic="noise.rate", max=1.0), {**RATE, "outcome": "errored"}) == ("errored", "failed")


FEW = {"name": "rate", "n": 3, "outcome": "insufficient data"}


@pytest.mark.parametrize(
    ("group", "allow", "expected"),
    [
        (None, None, "failed"),  # nobody knows the number, and nobody said that this does
        (None, True, "warned"),
        (None, False, "failed"),
        ("class=cat", None, "warned"),  # a small group is not a number that somebody should know
        ("class=cat", True, "warned"),
        ("class=cat", False, "failed"),
    ],
)
def test_what_is_not_known_blocks_of_the_whole_and_not_of_a_small_group(
    group: str | None, allow: bool | None, expected: str
) -> None:
    gate = Gate(statistic="noise.rate", group=group, max=0.1, allow_insufficient=allow)
    assert outcome(gate, {**FEW, "group": group}) == ("insufficient data", expected)
    quiet = gate.model_copy(update={"level": "warn"})
    assert outcome(quiet, {**FEW, "group": group}) == ("insufficient data", "warned")


def test_a_gate_that_blocks_on_what_is_not_known_says_so_and_what_lets_it_through() -> None:
    table = statistics(FEW)
    rows = gate_result(table, [Gate(statistic="noise.rate", max=0.1)]).rows.to_pylist()
    text = SENTENCES[rows[0]["reason_code"]].format(**json.loads(rows[0]["reason_args"]))
    assert "does not pass" in text
    assert "allow_insufficient" in text
    warned = gate_result(table, [Gate(statistic="noise.rate", max=0.1, level="warn")]).rows.to_pylist()
    assert "neither passed nor failed" in SENTENCES[warned[0]["reason_code"]]


def test_the_default_gate_on_the_noise_rate_warns_where_the_estimates_disagree() -> None:
    rows = build_statistics("label_noise", [{"name": "noise_rate", "value": 0.1, "outcome": "insufficient data"}])
    defaults = [gate for gate in DEFAULT_GATES if gate.statistic == "label_noise.noise_rate"]
    assert gate_result(rows, defaults).outcome == "warned"
    explicit = Gate(statistic="label_noise.noise_rate", max=0.2)
    assert gate_result(rows, [explicit]).outcome == "failed"
    assert Policy(gates=(explicit,)).all_gates().count(defaults[0]) == 0


def test_a_gate_that_matches_nothing_is_said_and_blocks() -> None:
    gate = Gate(statistic="nois.rate", max=0.1)
    judged = judge(statistics(RATE), [gate])
    added = judged.to_pylist()[1]
    assert (added["check"], added["name"], added["outcome"]) == ("nois", "rate", "errored")
    result = gate_result(statistics(RATE), [gate])
    assert result.outcome == "failed"
    assert result.rows["reason_code"].to_pylist() == ["gate_matches_nothing"]
    again = judge(judged, [gate])
    assert again["outcome"].to_pylist().count("errored") == 2  # a judged table judged again still says so


def test_a_check_that_crashed_does_not_pass_its_gates() -> None:
    check = Check(name="noise", version=1, view="labels", needs=(), scope="row", params=None)
    crashed = errored(check, ValueError("no")).statistics
    assert gate_result(crashed, [Gate(statistic="noise.*", max=1.0)]).outcome == "failed"
    assert gate_result(crashed, [Gate(statistic="noise.rate", max=1.0)]).outcome == "failed"


def test_groups_match_only_gates_for_groups() -> None:
    rows = ({**RATE, "group": "class=cat"}, {**RATE, "group": "class=dog", "value": 0.5}, RATE)
    gate = Gate(statistic="noise.rate", group="class=*", max=0.2)
    assert judge(statistics(*rows), [gate])["outcome"].to_pylist() == ["pass", "fail", None]
    whole = Gate(statistic="noise.rate", max=0.05)
    assert judge(statistics(*rows), [whole])["outcome"].to_pylist() == [None, None, "fail"]


def test_the_worst_of_several_gates_counts_and_its_bound_is_the_threshold() -> None:
    gates = [
        Gate(statistic="noise.*", max=0.5),
        Gate(statistic="noise.rate", min=0.3),
        Gate(statistic="noise.rate", max=0.01, level="warn"),
    ]
    row = judge(statistics(RATE), gates).to_pylist()[0]
    assert (row["outcome"], row["threshold"]) == ("fail", 0.3)
    assert gate_result(statistics(RATE), gates).rows["outcome"].to_pylist() == ["pass", "fail", "warn"]


def test_every_row_has_its_columns_and_every_reason_its_sentence() -> None:
    gates = [Gate(statistic="noise.rate", max=0.01), Gate(statistic="other.x", min=1)]
    table = gate_result(statistics(RATE), gates).rows
    assert table.schema.equals(GATES)
    for row in table.to_pylist():
        text = SENTENCES[row["reason_code"]].format(**json.loads(row["reason_args"]))
        assert row["statistic"] in text


def test_no_gates_pass_and_leave_statistics_alone() -> None:
    table = statistics(RATE)
    assert gate_result(table, []).passed
    assert judge(table, []).equals(table)
    assert judge(schema.empty(schema.STATISTICS), []).num_rows == 0


def test_a_gate_on_a_check_that_did_not_run_says_why_and_does_not_pass() -> None:
    did_not = {"name": "ran", "outcome": "insufficient data", "detail": {"why": "no teacher has given predictions"}}
    table = statistics(did_not)
    gates = [Gate(statistic="noise.rate", max=0.1), *(gate for gate in DEFAULT_GATES if gate.statistic == "*.ran")]
    result = gate_result(table, gates)
    assert result.outcome == "failed"
    told = [SENTENCES[r["reason_code"]].format(**json.loads(r["reason_args"])) for r in result.rows.to_pylist()]
    assert told == [
        "noise.rate (all) has no value, no teacher has given predictions, so its gate does not pass.",
        "noise.ran (all) is neither passed nor failed: no teacher has given predictions.",
    ]
    judged = judge(table, gates)
    assert gate_result(judged, gates).rows.equals(result.rows)  # what stands in a release is judged the same again


def test_a_gate_on_nothing_names_what_is_near_and_an_audit_says_where_it_comes_from() -> None:
    told = [
        SENTENCES[row["reason_code"]].format(**json.loads(row["reason_args"]))
        for row in gate_result(
            statistics(RATE), [Gate(statistic="noise.rat", max=1), Gate(statistic="audit.precision", min=0.9)]
        ).rows.to_pylist()
    ]
    assert told == [
        "No statistic is called noise.rat (all), so its gate does not pass. Did you mean 'noise.rate'?",
        "No statistic is called audit.precision (all), so its gate does not pass. Audits come from: curate audit NAME.",
    ]


def test_a_broken_bound_of_the_interval_is_not_told_as_the_value() -> None:
    (row,) = gate_result(
        statistics(RATE), [Gate(statistic="noise.rate", max=0.2, bound="interval")]
    ).rows.to_pylist()
    told = SENTENCES[row["reason_code"]].format(**json.loads(row["reason_args"]))
    assert told == "noise.rate (all) is 0.1 and may be 0.25; at most 0.2 is allowed."


@pytest.mark.parametrize(("level", "expected"), [("warn", "passed"), ("info", "passed"), ("fail", "failed")])
def test_a_check_without_a_subject_warns_of_nothing_and_passes_no_gate_that_must_hold(
    level: Literal["warn", "info", "fail"], expected: str
) -> None:
    gate = Gate(statistic="noise.rate", max=0.2, level=level)
    table = statistics({"name": "applies", "value": 0.0, "detail": {"why": "no such labels"}})
    told = gate_result(table, [gate])
    assert told.outcome == expected
    (row,) = told.rows.to_pylist()
    assert row["outcome"] == "errored"
    sentence = SENTENCES[row["reason_code"]].format(**json.loads(row["reason_args"]))
    if level == "fail":
        assert sentence == "noise.rate (all) has no value, no such labels, so its gate does not pass."
    else:
        assert sentence == "noise.rate (all) judges nothing here: no such labels."
