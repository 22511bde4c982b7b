"""Of doubled boxes one stays, whatever the checks say of which and whatever a person decided."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from curate import schema
from curate.check import build_findings
from curate.policy import Policy, Rule
from curate.verdicts import decide

IDS = ("b0", "b1", "b2", "b3", "b4")
DROPPING = Policy(
    rules=(Rule(issue="duplicate_box", action="drop"), Rule(issue="duplicate", action="drop")), release_review=False
)
SAMPLES = pa.table({"sample_id": ["s"], "content_sha256": ["bytes"]})
BOXES = schema.table_from_rows(
    [{"task": "detection", "label_id": one, "sample_id": "s", "label": "cat"} for one in IDS], schema.LABELS
)


def repeats(issue: str, leaves: str, kept: str, risk: float = 0.9) -> dict[str, Any]:
    row = {"sample_id": "s", "label_id": leaves, "issue": issue, "risk": risk, "flagged": True}
    return row | {"reason_code": issue, "reason_args": {"kept": kept}}


def out(rows: list[dict[str, Any]], policy: Policy, dropped: tuple[str, ...] = ()) -> set[str]:
    """Return the labels that do not leave with the release."""
    checks = {"duplicate_box": "box_sanity", "duplicate": "box_noise"}
    found = [
        build_findings(check, [row for row in rows if row["issue"] == issue]) for issue, check in checks.items()
    ]
    said = [
        {"decision_id": f"d{one}", "at": "2026-01-01T00:00:00Z", "reviewer": "r", "sample_id": "s"}
        | {"label_id": one, "decision": "drop"}
        for one in dropped
    ]
    ledger = schema.table_from_rows(said, schema.DECISIONS)
    table = decide(SAMPLES, BOXES, pa.concat_tables(found), policy, ledger)
    return {row["label_id"] for row in table.to_pylist() if row["weight"] == 0}


def test_of_a_pair_that_two_checks_tell_apart_the_other_way_round_one_leaves() -> None:
    rows = [repeats("duplicate_box", "b1", "b0", 0.95), repeats("duplicate", "b0", "b1", 0.99)]
    for policy in (Policy(), DROPPING):
        assert out(rows, policy) == {"b0"}
        assert out(rows[:1], policy) == {"b1"}


def test_a_box_stays_where_a_person_dropped_the_one_that_it_repeats() -> None:
    assert out([repeats("duplicate_box", "b1", "b0")], DROPPING, dropped=("b0",)) == {"b0"}


PAIR = st.tuples(st.sampled_from(("duplicate_box", "duplicate")), st.permutations(IDS), st.sampled_from((0.5, 0.9)))


@given(st.lists(PAIR, max_size=8), st.sets(st.sampled_from(IDS), max_size=2), st.sampled_from((Policy(), DROPPING)))
def test_no_box_leaves_as_the_duplicate_of_one_that_leaves(
    pairs: list[tuple[str, list[str], float]], dropped: set[str], policy: Policy
) -> None:
    rows = {(issue, ids[0]): repeats(issue, ids[0], ids[1], risk) for issue, ids, risk in pairs}
    leaves = out(list(rows.values()), policy, tuple(sorted(dropped)))
    assert dropped <= leaves
    for box in leaves - dropped:
        kept = {row["reason_args"]["kept"] for (_, own), row in rows.items() if own == box}
        assert kept - leaves, f"{box} left and nothing that it repeats stayed"
    mutual = {(own, row["reason_args"]["kept"]) for (_, own), row in rows.items()}
    if len(mutual) == 1 and not dropped:
        assert len(leaves) == 1  # what is doubled does leave
