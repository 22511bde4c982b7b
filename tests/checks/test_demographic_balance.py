from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from checks_views import label, labels_view, sample, samples_view, statistic
from hypothesis import given
from hypothesis import strategies as st

from curate.check import run_check
from curate.checks import attribute_association, demographic_balance
from curate.checks.attributes import SMALL, AttributeDeclaration, as_published, suppressed
from curate.checks.reference_population import n_not_named
from curate.gates import gate_result
from curate.policy import Gate
from curate.reasons import render
from curate.statistics.intervals import wilson

AGE = AttributeDeclaration("age", "self-reported", (("old", 0.5), ("young", 0.5)), "census 2024")


def _statistics(rows: list[dict[str, Any]], *attributes: AttributeDeclaration) -> Any:  # noqa: ANN401 - pa.Table
    params = demographic_balance.DemographicBalanceParams(attributes=attributes)
    return run_check(replace(demographic_balance.CHECK, params=params), samples_view(rows)).statistics


def _rows(**counts: int) -> list[dict[str, Any]]:
    ages = [age for age, n in counts.items() for _ in range(n)]
    return [sample(i, attr_age=None if age == "unknown" else age) for i, age in enumerate(ages)]


def test_shares_leave_the_unknown_out_and_report_them() -> None:
    statistics = _statistics(_rows(old=60, young=20, unknown=20), AGE)
    share = statistic(statistics, "share", "attr_age=old")
    assert (share["value"], share["n"]) == (0.75, 80)
    assert (share["low"], share["high"]) == wilson(60, 80)
    assert statistic(statistics, "n_samples", "attr_age=(unknown)")["value"] == 20.0
    assert statistic(statistics, "share_known", "attr_age")["value"] == 0.8
    assert json.loads(share["detail"])["obtained"] == "self-reported"


def test_against_the_named_reference_only() -> None:
    statistics = _statistics(_rows(old=90, young=30), AGE)
    ratio = statistic(statistics, "representation_ratio", "attr_age=old")
    assert ratio["value"] == pytest.approx(1.5)
    detail = json.loads(ratio["detail"])
    assert (detail["represented"], detail["reference"]) == ("over", "census 2024")
    assert statistic(statistics, "reference_w", "attr_age")["value"] == pytest.approx(0.5)
    unnamed = _statistics(_rows(old=90, young=30), AttributeDeclaration("age", "perceived"))
    assert not {"representation_ratio", "reference_w"} & set(unnamed["name"].to_pylist())


def test_chance_is_not_remarked_on_and_few_are_insufficient() -> None:
    statistics = _statistics(_rows(old=24, young=16), AGE)
    assert (
        json.loads(statistic(statistics, "representation_ratio", "attr_age=old")["detail"])["represented"] is None
    )
    few = _statistics(_rows(old=12, young=11), AGE)
    assert statistic(few, "share", "attr_age=old")["outcome"] == "insufficient data"


def test_a_value_outside_the_reference_is_said_and_compared_with_nothing() -> None:
    statistics = _statistics(_rows(old=40, young=40, infant=20), AGE)
    row = statistic(statistics, "reference_w", "attr_age")
    assert (row["value"], row["n"], row["outcome"]) == (0.0, 80, None)
    detail = json.loads(row["detail"])
    assert (detail["not_in_reference"], detail["n_not_in_reference"]) == (["infant"], [20, 20])
    ratio = statistic(statistics, "representation_ratio", "attr_age=old")
    assert (ratio["value"], ratio["n"]) == (1.0, 80)  # 0.8 of all, which says nothing of old against young
    assert statistic(statistics, "share_not_in_reference", "attr_age")["value"] == 0.2
    whole = _statistics(_rows(old=40, young=40), AGE)
    assert statistic(whole, "share_not_in_reference", "attr_age")["value"] == 0.0


def test_a_reference_that_names_nothing_that_occurs_passes_no_gate() -> None:
    statistics = _statistics(_rows(Old=40, Young=40), AGE)
    for name, group in (("reference_w", "attr_age"), ("representation_ratio", "attr_age=old")):
        row = statistic(statistics, name, group)
        assert (row["value"], row["outcome"]) == (None, "insufficient data")
        assert json.loads(row["detail"])["insufficient"] == "the reference names no value that occurs"
    assert statistic(statistics, "share_not_in_reference", "attr_age")["value"] == 1.0


SIZES = st.dictionaries(st.sampled_from("abcdef"), st.integers(1, 25), min_size=2)


@given(SIZES, st.sets(st.sampled_from("abcdef"), min_size=1))
def test_what_a_reference_does_not_name_is_bounded_by_what_is_shown_anyway(
    known: dict[str, int], named: set[str]
) -> None:
    hidden = suppressed(known)
    reference = dict.fromkeys(named, 1 / len(named))
    outside = sum(n for value, n in known.items() if value not in named)
    low, high = n_not_named(known, reference, hidden)
    assert low <= outside <= high
    if not hidden:
        assert low == high
    for value in hidden:  # another split of the hidden that looks the same tells the same
        for other in hidden - {value}:
            moved = {**known, value: known[value] + 1, other: known[other] - 1}
            if moved[other] > 0 and all((moved[v] < SMALL) == (known[v] < SMALL) for v in hidden):
                assert n_not_named(moved, reference, hidden) == (low, high)


def test_a_small_group_that_a_reference_does_not_name_is_not_worked_out_from_the_ratios() -> None:
    found = [_statistics(_rows(old=500, young=15 - n, infant=n), AGE).to_pylist() for n in (2, 4)]
    told = [
        [row for row in rows if row["name"] in {"representation_ratio", "share_not_in_reference"}] for rows in found
    ]
    assert told[0] == told[1]
    ratio = next(row for row in told[0] if row["group"] == "attr_age=old")
    assert ratio["low"] < 500 / 513 / 0.5 < ratio["high"]
    assert next(row for row in told[0] if row["group"] == "attr_age=young")["outcome"] == "insufficient data"


def test_small_counts_are_hidden_and_cannot_be_worked_out() -> None:
    statistics = _statistics(_rows(old=50, young=3, infant=12), AGE)
    for group, shown in (("young", "<10"), ("infant", "hidden with it")):
        row = statistic(statistics, "n_samples", f"attr_age={group}")
        assert (row["value"], row["n"]) == (None, None)
        assert json.loads(row["detail"])["shown"] == shown
        share = statistic(statistics, "share", f"attr_age={group}")
        assert [share[key] for key in ("value", "low", "high", "n")] == [None] * 4
        assert share["outcome"] == "insufficient data"
    assert suppressed({"a": 3, "b": 0, "c": 40}) == {"a", "c"}
    assert suppressed({"a": 3, "b": 2, "c": 40}) == {"a", "b"}
    assert suppressed({"a": 30, "b": 0}) == set()


def test_a_gate_over_all_values_meets_those_that_are_hidden() -> None:
    statistics = _statistics(_rows(adult=20, young=8, old=7, infant=5), AGE)
    about: dict[str, Any] = {"statistic": "demographic_balance.share", "group": "attr_age=*", "min": 0.05}
    result = gate_result(statistics, [Gate(**about)])
    assert result.outcome == "warned"
    assert sorted(result.rows["outcome"].to_pylist()) == ["insufficient data"] * 3 + ["pass"]
    said = [row for row in result.rows.to_pylist() if row["outcome"] == "insufficient data"]
    assert all("fewer than 10 pictures" in render(row["reason_code"], row["reason_args"]) for row in said)
    assert gate_result(statistics, [Gate(**about, allow_insufficient=False)]).outcome == "failed"


def test_what_was_inferred_or_not_declared_may_not_gate() -> None:
    for declaration in ([AttributeDeclaration("age", "inferred")], []):
        detail = json.loads(
            statistic(_statistics(_rows(old=40), *declaration), "share_known", "attr_age")["detail"]
        )
        assert detail["may_gate"] is False


def test_an_empty_intersection_that_chance_would_fill_is_a_gap() -> None:
    cells = {("old", "day"): 40, ("old", "night"): 40, ("young", "day"): 40}
    rows = [values for values, n in cells.items() for _ in range(n)]
    view = [sample(i, attr_age=age, attr_light=light) for i, (age, light) in enumerate(rows)]
    row = statistic(_statistics(view), "n_gaps", "attr_age;attr_light")
    assert row["value"] == 1.0
    assert json.loads(row["detail"])["gaps"] == [["young", "night"]]
    assert (row["low"], row["high"], row["outcome"]) == (1.0, 1.0, None)


def test_combinations_too_small_to_be_judged_are_counted_and_no_gap_among_the_others_is_no_pass() -> None:
    cells = {("old", "day"): 40, ("young", "day"): 40, ("old", "night"): 4}  # young at night: 2 are expected
    rows = [values for values, n in cells.items() for _ in range(n)]
    statistics = _statistics([sample(i, attr_age=age, attr_light=light) for i, (age, light) in enumerate(rows)])
    row = statistic(statistics, "n_gaps", "attr_age;attr_light")
    assert (row["value"], row["low"], row["high"]) == (0.0, 0.0, 2.0)
    assert statistic(statistics, "n_unjudged_cells", "attr_age;attr_light")["value"] == 2.0
    gate = Gate(statistic="demographic_balance.n_gaps", group="*", max=0, allow_insufficient=False)
    result = gate_result(statistics, [gate])
    assert result.outcome == "failed"
    (said,) = result.rows.to_pylist()
    assert "2 of 4 combinations have too few pictures" in render(said["reason_code"], said["reason_args"])


def _association(is_related: bool) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    rows = []
    for i in range(400):
        age = str(rng.choice(["old", "young"]))
        is_cat = rng.random() < (0.5 if not is_related else 0.9 if age == "old" else 0.1)
        rows.append(label(i, sample(i, attr_age=age), label="cat" if is_cat else "dog"))
        rows[-1]["attr_light"] = None
    return statistic(run_check(attribute_association.CHECK, labels_view(rows)).statistics, "cramers_v", "attr_age")


def test_related_labels_and_attributes_stand_out() -> None:
    row = _association(is_related=True)
    cells = json.loads(row["detail"])["cells"]
    assert row["value"] == pytest.approx(0.8, abs=0.05)
    assert len(cells) == 4
    over = next(cell for cell in cells if (cell["value"], cell["label"]) == ("old", "cat"))
    assert over["residual"] > 10
    assert over["relative_risk"][1] > 4


def test_unrelated_ones_do_not() -> None:
    row = _association(is_related=False)
    assert row["value"] < 0.1
    assert json.loads(row["detail"])["cells"] == []


def _cells(counts: dict[tuple[str, str], int]) -> dict[str, Any]:
    pairs = [pair for pair, n in counts.items() for _ in range(n)]
    rows = [label(i, sample(i, attr_age=age), label=name) for i, (age, name) in enumerate(pairs)]
    found = run_check(attribute_association.CHECK, labels_view(rows)).statistics
    return dict(json.loads(statistic(found, "cramers_v", "attr_age")["detail"]))


def test_an_attribute_that_is_the_label_has_no_ratio_made_of_nothing() -> None:
    detail = _cells({("old", "old"): 400, ("young", "young"): 420})
    assert detail["determines_label"] is True
    relations = {(cell["value"], cell["label"]): cell["relation"] for cell in detail["cells"]}
    assert relations[("old", "old")] == "always, and nowhere else"
    assert relations[("old", "young")] == "never"
    assert all(cell["relative_risk"] is None for cell in detail["cells"])


def test_a_label_of_one_value_alone_does_not_make_the_attribute_determine_it() -> None:
    detail = _cells({("old", "cat"): 100, ("old", "dog"): 100, ("young", "dog"): 200})
    assert detail["determines_label"] is False
    cells = {(cell["value"], cell["label"]): cell for cell in detail["cells"]}
    assert (cells["old", "cat"]["relation"], cells["old", "cat"]["relative_risk"]) == ("nowhere else", None)
    assert cells["old", "dog"]["relation"] is None
    assert cells["old", "dog"]["relative_risk"][0] == pytest.approx(0.5)
    assert cells["young", "cat"]["relation"] == "never"
    same = _cells({("old", "cat"): 50, ("young", "cat"): 50})
    assert same["determines_label"] is False  # one label only: nothing to determine
    few = _cells({("old", "old"): 400, ("young", "young"): 8})
    assert all(cell["relation"] is None for cell in few["cells"])  # 8 are too few to be told


def test_no_number_tells_how_a_hidden_sum_is_split() -> None:
    """Diversity and association beside the shown counts: any split of what is hidden gives the same numbers."""
    found = []
    for split in ((3, 9), (5, 7), (6, 6)):
        sizes = dict(zip(("a", "b", "x", "y"), (200, 100, *split), strict=True))
        values = [value for value, n in sizes.items() for _ in range(n)]
        labels = ["yes" if at % 3 else "no" for at in range(len(values))]
        ids = [f"{at:024}" for at in range(len(values))]
        samples = pa.table({"sample_id": ids, "attr_kind": values})
        table = samples.append_column("label", pa.array(labels))
        rows: list[dict[str, Any]] = []
        for check, view in ((demographic_balance.CHECK, samples), (attribute_association.CHECK, table)):
            rows += run_check(check, view).statistics.to_pylist()
        found.append({row["name"]: row["value"] for row in rows if row["group"] == "attr_kind"})
    assert set(found[0]) >= {"evenness", "effective_groups", "cramers_v"}
    assert found[0] == found[1] == found[2]
    assert as_published({"a": 200, "x": 3, "y": 9, "none": 0}) == [200.0, 6.0, 6.0, 0.0]
