from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curate import schema
from curate.check import build_findings
from curate.errors import InputError
from curate.policy import DEFAULT_RULES, Policy, Rule
from curate.verdict_rows import STRENGTH
from curate.verdicts import decide, rule_of_each


def samples(*ids: str, unreadable: tuple[str, ...] = ()) -> pa.Table:
    columns = {
        "sample_id": pa.array(ids, pa.string()),
        "content_sha256": pa.array([f"bytes-{i}" for i in ids], pa.string()),
        "error_code": pa.array(["truncated" if i in unreadable else None for i in ids], pa.string()),
    }
    return pa.table(columns)


def labels(*rows: tuple[str, str, str]) -> pa.Table:
    keys = ("label_id", "sample_id", "label")
    return schema.table_from_rows(
        [{"task": "classification", **dict(zip(keys, row, strict=True))} for row in rows], schema.LABELS
    )


def finding(sample: str, label: str | None, issue: str, **more: Any) -> dict[str, Any]:  # noqa: ANN401 - any column
    return {
        "sample_id": sample,
        "label_id": label,
        "issue": issue,
        "risk": 0.9,
        "reason_code": f"is_{issue}",
        **more,
    }


def decision(at: int, sample: str, label: str | None, word: str, **more: Any) -> dict[str, Any]:  # noqa: ANN401
    base = {"decision_id": f"d{at}", "at": "2026-01-01T00:00:00Z", "reviewer": "r", "sample_id": sample}
    return {**base, "label_id": label, "decision": word, **more}


def verdict_of(
    findings: list[dict[str, Any]], decisions: list[dict[str, Any]] | None = None, policy: Policy | None = None
) -> dict[str, Any]:
    """Return the verdict of the only label (l1: cat) of the only sample."""
    ledger = schema.table_from_rows(decisions or [], schema.DECISIONS)
    found = build_findings("made", findings)
    table = decide(samples("s1"), labels(("l1", "s1", "cat")), found, policy or Policy(), ledger)
    assert table.num_rows == 1
    row: dict[str, Any] = table.to_pylist()[0]
    return row


MISLABEL = finding("s1", "l1", "mislabel", flagged=True, suggested_label="dog", suggested_prob=0.97)
UNSURE = finding("s1", "l1", "mislabel", flagged=True, suggested_label="dog", suggested_prob=0.6)


def test_a_row_without_findings_is_kept_with_full_weight() -> None:
    row = verdict_of([])
    assert (row["action"], row["released_label"], row["weight"], row["risk"]) == ("keep", "cat", 1.0, 0.0)
    assert row["reasons"] == row["reason_codes"] == []


def test_every_label_and_every_bare_sample_has_exactly_one_verdict() -> None:
    table = decide(
        samples("s3", "s1", "s2"),
        labels(("l2", "s1", "cat"), ("l1", "s1", "dog")),
        schema.empty(schema.FINDINGS),
        Policy(),
    )
    assert table.schema.equals(schema.VERDICTS)
    rows = [(row["sample_id"], row["label_id"], row["released_label"]) for row in table.to_pylist()]
    assert rows == [("s1", "l1", "dog"), ("s1", "l2", "cat"), ("s2", None, None), ("s3", None, None)]


def test_a_sure_suggestion_relabels_and_an_unsure_one_waits() -> None:
    held = Policy(release_review=False)
    sure, unsure = verdict_of([MISLABEL], policy=held), verdict_of([UNSURE], policy=held)
    assert (sure["action"], sure["released_label"], sure["weight"]) == ("relabel", "dog", 1.0)
    assert (unsure["action"], unsure["released_label"], unsure["weight"]) == ("review", None, 0.0)


def test_a_label_that_only_teachers_doubt_is_released_without_a_label() -> None:
    row = verdict_of([UNSURE, finding("s1", None, "near_duplicate")])
    assert (row["action"], row["released_label"], row["weight"]) == ("review", None, 1.0)


@pytest.mark.parametrize(
    ("findings", "decisions", "policy"),
    [
        ([UNSURE, finding("s1", None, "duplicate_conflict")], [], Policy()),
        ([finding("s1", None, "blank")], [], Policy()),
        ([UNSURE], [decision(0, "s1", "l1", "relabel")], Policy()),
        ([UNSURE], [], Policy(soft_labels=False)),
    ],
)
def test_what_waits_for_another_reason_or_has_no_soft_label_stays_behind(
    findings: list[dict[str, Any]], decisions: list[dict[str, Any]], policy: Policy
) -> None:
    row = verdict_of(findings, decisions, policy)
    assert (row["action"], row["released_label"], row["weight"]) == ("review", None, 0.0)


def test_a_box_that_only_teachers_doubt_stays_behind() -> None:
    box = schema.table_from_rows(
        [{"task": "detection", "label_id": "l1", "sample_id": "s1", "label": "cat"}], schema.LABELS
    )
    row = decide(samples("s1"), box, build_findings("made", [UNSURE]), Policy()).to_pylist()[0]
    assert (row["action"], row["released_label"], row["weight"]) == ("review", None, 0.0)


@pytest.mark.parametrize(("task", "named"), [("classification", "mislabel"), ("segmentation", "odd")])
def test_what_is_to_be_relabeled_and_is_not_told_how_waits(task: str, named: str) -> None:
    """A mask leaves in part only where regions are all that is asked about; here nobody says which pixels."""
    label = schema.table_from_rows(
        [{"task": task, "label_id": "l1", "sample_id": "s1", "label": "cat"}], schema.LABELS
    )
    policy = Policy(rules=(Rule(issue=named, action="relabel"),), soft_labels=False)
    found = build_findings("made", [finding("s1", "l1", named)])
    (row,) = decide(samples("s1"), label, found, policy, schema.empty(schema.DECISIONS)).to_pylist()
    assert (row["action"], row["released_label"], row["weight"]) == ("review", None, 0.0)


def test_a_person_who_keeps_a_doubted_label_releases_it() -> None:
    row = verdict_of([UNSURE], [decision(0, "s1", "l1", "keep")])
    assert (row["action"], row["released_label"], row["weight"]) == ("keep", "cat", 1.0)


def test_release_review_releases_the_given_label() -> None:
    row = verdict_of([UNSURE], policy=Policy(release_review=True))
    assert (row["action"], row["released_label"], row["weight"]) == ("review", "cat", 1.0)


def test_the_strongest_action_wins_and_all_reasons_stay_in_its_order() -> None:
    found = [
        finding("s1", None, "near_duplicate", risk=0.99),
        finding("s1", "l1", "mislabel", risk=0.6),
        finding("s1", None, "exact_duplicate", risk=0.2),
    ]
    row = verdict_of(found)
    assert row["action"] == "drop"
    assert row["reason_codes"] == ["is_exact_duplicate", "is_mislabel", "is_near_duplicate"]
    assert row["risk"] == 0.99
    assert len(set(row["reasons"])) == 3


def test_soften_takes_the_smallest_weight_of_its_rules() -> None:
    rules = (Rule(issue="a", action="soften", weight=0.7), Rule(issue="b", action="soften", weight=0.3))
    row = verdict_of([finding("s1", "l1", "a"), finding("s1", "l1", "b")], policy=Policy(rules=rules))
    assert (row["action"], row["weight"], row["released_label"]) == ("soften", 0.3, "cat")


@pytest.mark.parametrize("suggested", [None, "cat"])
def test_a_relabel_without_another_label_waits_for_review(suggested: str | None) -> None:
    rules = (Rule(issue="mislabel", action="relabel"),)
    row = verdict_of([finding("s1", "l1", "mislabel", suggested_label=suggested)], policy=Policy(rules=rules))
    assert row["action"] == "review"


def test_a_finding_about_an_image_with_two_labels_relabels_neither() -> None:
    rules = (Rule(issue="mislabel", action="relabel"),)
    found = build_findings("made", [finding("s1", None, "mislabel", suggested_label="fox", suggested_prob=1.0)])
    two = labels(("l1", "s1", "cat"), ("l2", "s1", "dog"))
    assert decide(samples("s1"), two, found, Policy(rules=rules))["action"].to_pylist() == ["review", "review"]
    one = labels(("l1", "s1", "cat"))
    assert decide(samples("s1"), one, found, Policy(rules=rules))["released_label"].to_pylist() == ["fox"]


def test_two_suggestions_the_surer_one_is_taken() -> None:
    weak = finding("s1", "l1", "mislabel", flagged=True, suggested_label="fox", suggested_prob=0.96)
    other = build_findings("other", [weak])
    found = pa.concat_tables([build_findings("made", [MISLABEL]), other])
    table = decide(samples("s1"), labels(("l1", "s1", "cat")), found, Policy())
    assert table["released_label"].to_pylist() == ["dog"]


def test_unreadable_is_dropped_whatever_rules_and_people_say() -> None:
    ledger = schema.table_from_rows([decision(1, "s1", None, "keep")], schema.DECISIONS)
    policy = Policy(use_default_rules=False)
    table = decide(
        samples("s1", unreadable=("s1",)),
        labels(("l1", "s1", "cat")),
        schema.empty(schema.FINDINGS),
        policy,
        ledger,
    )
    row = table.to_pylist()[0]
    assert (row["action"], row["weight"], row["risk"], row["released_label"]) == ("drop", 0.0, 1.0, None)
    assert row["reason_codes"] == ["truncated", "decision_keep"]


@pytest.mark.parametrize(
    ("word", "to_label", "expected"),
    [
        ("keep", None, ("keep", "cat", 1.0, "decision_keep")),
        ("reject", None, ("keep", "cat", 1.0, "decision_reject")),
        ("drop", None, ("drop", None, 0.0, "decision_drop")),
        ("relabel", "fox", ("relabel", "fox", 1.0, "decision_relabel")),
        ("relabel", "cat", ("keep", "cat", 1.0, "decision_relabel")),
        ("relabel", None, ("review", None, 0.0, "decision_without_label")),
        ("accept", None, ("relabel", "dog", 1.0, "decision_accept")),
        ("accept", "fox", ("relabel", "fox", 1.0, "decision_accept")),
    ],
)
def test_a_decision_wins_over_rules(word: str, to_label: str | None, expected: tuple[Any, ...]) -> None:
    row = verdict_of([UNSURE], [decision(1, "s1", "l1", word, to_label=to_label)])
    assert (row["action"], row["released_label"], row["weight"], row["reason_codes"][0]) == expected
    assert row["reason_codes"][1:] == ["is_mislabel"]
    assert row["reasons"][0] == "d1"


def test_accept_takes_the_suggestion_of_the_finding_it_names() -> None:
    other = build_findings("other", [{**UNSURE, "suggested_label": "fox", "suggested_prob": 0.1}])
    found = pa.concat_tables([build_findings("made", [UNSURE]), other])
    ledger = [decision(1, "s1", "l1", "accept", finding_id=other["finding_id"][0].as_py())]
    table = schema.table_from_rows(ledger, schema.DECISIONS)
    row = decide(samples("s1"), labels(("l1", "s1", "cat")), found, Policy(), table).to_pylist()[0]
    assert row["released_label"] == "fox"


def test_accept_without_any_suggestion_waits_and_says_so() -> None:
    row = verdict_of([finding("s1", "l1", "blank")], [decision(1, "s1", "l1", "accept")])
    assert (row["action"], row["reason_codes"][0]) == ("review", "decision_without_suggestion")


def test_the_latest_decision_counts_and_notes_do_not() -> None:
    ledger = [
        decision(1, "s1", "l1", "drop"),
        decision(2, "s1", None, "relabel", to_label="fox"),
        decision(3, "s1", "l1", "note"),
    ]
    row = verdict_of([], ledger)
    assert (row["action"], row["released_label"]) == ("relabel", "fox")
    assert row["reasons"] == ["d1", "d2"]


def test_a_decision_for_other_bytes_does_not_apply_and_is_said() -> None:
    ledger = [
        decision(1, "s1", "l1", "keep", content_sha256="bytes-s1"),
        decision(2, "s1", "l1", "drop", content_sha256="bytes-before"),
    ]
    row = verdict_of([UNSURE], ledger)
    assert row["action"] == "keep"
    assert row["reason_codes"] == ["decision_keep", "decision_stale", "is_mislabel"]
    alone = verdict_of([UNSURE], ledger[1:])
    assert (alone["action"], alone["reason_codes"][0]) == ("review", "decision_stale")


def test_a_person_may_label_what_nobody_labeled_but_a_rule_may_not() -> None:
    found = build_findings("made", [finding("s1", None, "mislabel", suggested_label="dog", suggested_prob=1.0)])
    rules = Policy(rules=(Rule(issue="mislabel", action="relabel"),))
    bare = schema.empty(schema.LABELS)
    assert decide(samples("s1"), bare, found, rules)["action"].to_pylist() == ["review"]
    ledger = schema.table_from_rows([decision(1, "s1", None, "accept")], schema.DECISIONS)
    assert decide(samples("s1"), bare, found, rules, ledger)["released_label"].to_pylist() == ["dog"]


def test_a_label_for_an_image_with_several_labels_waits_and_says_so() -> None:
    two = labels(("l1", "s1", "cat"), ("l2", "s1", "dog"))
    ledger = schema.table_from_rows([decision(1, "s1", None, "relabel", to_label="fox")], schema.DECISIONS)
    table = decide(samples("s1"), two, schema.empty(schema.FINDINGS), Policy(), ledger)
    assert table["action"].to_pylist() == ["review", "review"]
    assert table["reason_codes"].to_pylist() == [["decision_without_target"]] * 2


def test_a_withdrawn_decision_was_never_made() -> None:
    taken_back = decision(2, "s1", "l1", "note", why="withdraws decision d1")
    row = verdict_of([], [decision(1, "s1", "l1", "drop"), taken_back])
    assert (row["action"], row["reasons"]) == ("keep", [])
    again = verdict_of([], [decision(1, "s1", "l1", "drop"), taken_back, decision(3, "s1", "l1", "drop")])
    assert (again["action"], again["reasons"]) == ("drop", ["d3"])


def test_a_box_drawn_by_hand_is_a_reason_that_decides_nothing() -> None:
    rows = [decision(1, "s1", "l1", "note"), decision(2, "s1", None, "note"), decision(3, "s1", "l1", "note")]
    ledger = with_boxes(rows, [[0.1, 0.1, 0.2, 0.2], [0.0, 0.0, 0.5, 0.5], None])
    row = decide(samples("s1"), labels(("l1", "s1", "cat")), build_findings("made", [UNSURE]), Policy(), ledger)
    assert row["action"].to_pylist() == ["review"]
    assert row["reason_codes"].to_pylist() == [["decision_box_moved", "decision_box_added", "is_mislabel"]]


def with_boxes(rows: list[dict[str, Any]], boxes: list[list[float] | None]) -> pa.Table:
    table = schema.table_from_rows(rows, schema.DECISIONS)
    kept = [name for name in table.column_names if name != "to_bbox"]
    return table.select(kept).append_column("to_bbox", pa.array(boxes, schema.BBOX))


def test_findings_about_rows_that_are_not_here_change_nothing() -> None:
    found = build_findings("made", [finding("s9", None, "exact_duplicate"), finding("s1", "l9", "invalid_box")])
    row = decide(samples("s1"), labels(("l1", "s1", "cat")), found, Policy()).to_pylist()[0]
    assert (row["action"], row["reasons"]) == ("keep", [])


def test_a_risk_that_is_no_number_counts_as_the_worst() -> None:
    rules = (Rule(issue="odd", min_risk=0.9, action="drop"),)
    row = verdict_of([finding("s1", "l1", "odd", risk=float("nan"))], policy=Policy(rules=rules))
    assert (row["action"], row["risk"]) == ("drop", 1.0)


def test_lost_samples_and_repeated_ids_are_named() -> None:
    none = schema.empty(schema.FINDINGS)
    with pytest.raises(
        InputError, match=r"1 labels name a sample that is not in the samples table \(first: label l1"
    ):
        decide(samples("s2"), labels(("l1", "s1", "cat")), none, Policy())
    with pytest.raises(InputError, match="Every sample needs an id of its own; 1 sample"):
        decide(samples("s1", "s1"), labels(), none, Policy())
    with pytest.raises(InputError, match="Every label needs an id of its own; 1 label"):
        decide(samples("s1"), labels(("l1", "s1", "cat"), ("l1", "s1", "cat")), none, Policy())


def test_nothing_in_nothing_out() -> None:
    table = decide(samples(), labels(), schema.empty(schema.FINDINGS), Policy())
    assert table.schema.equals(schema.VERDICTS)
    assert table.num_rows == 0


def reference(row: dict[str, Any], rules: tuple[Rule, ...]) -> int:
    """Find the first rule that matches, one row at a time."""
    import fnmatch  # noqa: PLC0415 - only the reference needs it

    for at, rule in enumerate(rules):
        if (
            fnmatch.fnmatchcase(row["issue"], rule.issue)
            and (rule.check is None or fnmatch.fnmatchcase(row["check"], rule.check))
            and row["risk"] >= rule.min_risk
            and (rule.flagged is None or row["flagged"] is rule.flagged)
            and (row["suggested_prob"] or 0.0) >= rule.min_suggested_prob
        ):
            return at
    return -1


ISSUES = st.sampled_from(["mislabel", "blank", "near_duplicate", "exact_duplicate", "odd"])
FINDING_ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "issue": ISSUES,
            "at": st.integers(0, 5),
            "risk": st.floats(0, 1),
            "flagged": st.sampled_from([True, False, None]),
            "suggested_label": st.sampled_from(["cat", "dog", None]),
            "suggested_prob": st.none() | st.floats(0, 1),
            "whole": st.booleans(),
        }
    ),
    max_size=12,
    unique_by=lambda row: (row["issue"], row["at"], row["whole"]),
)
RULES = st.lists(
    st.builds(
        Rule,
        issue=st.sampled_from(["mislabel", "b*", "*_duplicate", "*"]),
        check=st.sampled_from([None, "made", "other", "m*"]),
        action=st.sampled_from(STRENGTH),
        min_risk=st.sampled_from([0.0, 0.5]),
        flagged=st.sampled_from([None, True, False]),
        min_suggested_prob=st.sampled_from([0.0, 0.5]),
        weight=st.sampled_from([0.25, 1.0]),
    ),
    max_size=4,
).map(tuple)


def found_table(rows: list[dict[str, Any]]) -> pa.Table:
    full = [
        {
            **{key: row[key] for key in ("issue", "risk", "flagged", "suggested_label", "suggested_prob")},
            "sample_id": f"s{row['at']}",
            "label_id": None if row["whole"] else f"l{row['at']}",
            "reason_code": f"is_{row['issue']}",
        }
        for row in rows
    ]
    return build_findings("made", full)


@settings(max_examples=60, deadline=None)
@given(rows=FINDING_ROWS, rules=RULES)
def test_rules_match_as_the_reference_says(rows: list[dict[str, Any]], rules: tuple[Rule, ...]) -> None:
    found = found_table(rows)
    every = rules + DEFAULT_RULES
    assert rule_of_each(found, every).tolist() == [reference(row, every) for row in found.to_pylist()]


@settings(max_examples=60, deadline=None)
@given(rows=FINDING_ROWS, rules=RULES, seed=st.integers(0, 99), word=st.sampled_from(["keep", "drop", "reject"]))
def test_laws(rows: list[dict[str, Any]], rules: tuple[Rule, ...], seed: int, word: str) -> None:
    ids = [f"s{i}" for i in range(6)]
    all_samples, given_labels = samples(*ids), labels(*((f"l{i}", f"s{i}", "cat") for i in range(5)))
    found = found_table(rows)
    policy = Policy(rules=rules)
    ledger = schema.table_from_rows([decision(1, "s2", "l2", word)], schema.DECISIONS)
    table = decide(all_samples, given_labels, found, policy, ledger)
    mixed = np.random.default_rng(seed)
    shuffled = [t.take(pa.array(mixed.permutation(t.num_rows))) for t in (all_samples, given_labels, found)]
    assert table.equals(decide(shuffled[0], shuffled[1], shuffled[2], policy, ledger))
    assert table.num_rows == 6
    by_label = {row["label_id"]: row for row in table.to_pylist()}
    assert by_label["l2"]["action"] == ("drop" if word == "drop" else "keep")
    for row in by_label.values():
        labeled = row["action"] in {"keep", "soften", "relabel"}
        doubted = [r["issue"] for r in rows if f"s{r['at']}" == row["sample_id"]]
        soft_only = row["action"] == "review" and row["label_id"] is not None and "mislabel" in doubted
        assert row["weight"] == 0.0 or labeled or (row["weight"] == 1.0 and soft_only)
        assert (row["released_label"] is None) == (not labeled or row["label_id"] is None)
        assert len(row["reasons"]) == len(row["reason_codes"])
        about = [r for r in rows if f"s{r['at']}" == row["sample_id"] and (r["whole"] or row["label_id"])]
        assert len(row["reasons"]) == len(about) + (row["label_id"] == "l2")
