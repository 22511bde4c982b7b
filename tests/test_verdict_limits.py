"""What keeps teachers from pruning a class or a group."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curate import schema
from curate.check import build_findings
from curate.policy import Policy, Rule
from curate.reasons import render
from curate.verdicts import decide, held_back

DROPS = Rule(issue="mislabel", flagged=True, action="drop")


def rows(words: list[str], ages: list[str | None] | None = None) -> tuple[pa.Table, pa.Table]:
    ids = [f"s{at:03d}" for at in range(len(words))]
    columns = {"sample_id": ids, "content_sha256": ids, "error_code": pa.nulls(len(ids), pa.string())}
    samples = pa.table(columns | ({} if ages is None else {"attr_age": pa.array(ages, pa.string())}))
    labels = [
        {"label_id": f"l{one}", "sample_id": one, "task": "classification", "label": word}
        for one, word in zip(ids, words, strict=True)
    ]
    return samples, schema.table_from_rows(labels, schema.LABELS)


def mislabels(at: list[int], **more: Any) -> pa.Table:  # noqa: ANN401 - any column
    made = [
        {
            "sample_id": f"s{one:03d}",
            "label_id": f"ls{one:03d}",
            "issue": "mislabel",
            "risk": 0.5 + one / 1000,
            "flagged": True,
            "suggested_label": "other",
            "suggested_prob": 0.7,
            "reason_code": "teachers_disagree",
            **more,
        }
        for one in at
    ]
    return build_findings("label_noise", made)


def outcome(samples: pa.Table, labels: pa.Table, findings: pa.Table, policy: Policy) -> tuple[pa.Table, pa.Table]:
    capped = held_back(samples, labels, findings, policy)
    verdicts = decide(samples, labels, pa.concat_tables([findings, capped.findings]), policy)
    return verdicts, capped.statistics


@pytest.mark.parametrize("rules", [(), (DROPS,)])
def test_of_a_class_the_riskiest_leave_and_the_rest_stays_with_less_weight_and_a_reason(
    rules: tuple[Rule, ...],
) -> None:
    samples, labels = rows(["rare"] * 10 + ["common"] * 90)
    found = mislabels([0, 1, 2, 3, 4, 5, 50])
    verdicts, statistics = outcome(
        samples, labels, found, Policy(rules=rules, max_share_out=0.3, release_review=False)
    )
    actions = verdicts["action"].to_pylist()
    assert [at for at in range(100) if actions[at] in ("review", "drop")] == [3, 4, 5, 50]
    assert actions[:3] == ["soften"] * 3
    held = verdicts.to_pylist()[0]
    assert (held["weight"], held["released_label"]) == (0.5, "rare")
    assert sorted(held["reason_codes"]) == ["removal_cap", "teachers_disagree"]
    told = {row["group"]: (row["value"], row["n"]) for row in statistics.to_pylist()}
    assert told == {None: (3.0, 100), "class=rare": (3.0, 10)}


def test_a_declared_group_is_spared_as_well_and_its_value_is_not_told() -> None:
    samples, labels = rows(["a"] * 40, ["70+"] * 8 + ["20-29"] * 30 + [None] * 2)
    held = Policy(max_share_out=0.25, release_review=False)
    capped = held_back(samples, labels, mislabels(list(range(8))), held)
    told = capped.findings.to_pylist()
    assert [row["sample_id"] for row in sorted(told, key=lambda r: r["sample_id"])] == [f"s00{i}" for i in range(6)]
    text = render(told[0]["reason_code"], told[0]["reason_args"])
    assert "at most 25% of one age may leave" in text
    assert "70+" not in text


def test_what_leaves_without_its_label_does_not_leave_its_class() -> None:
    samples, labels = rows(["a"] * 10)
    verdicts, statistics = outcome(samples, labels, mislabels([0, 1, 2, 3]), Policy(max_share_out=0.2))
    assert verdicts["action"].to_pylist()[:4] == ["review"] * 4
    assert verdicts["weight"].to_pylist() == [1.0] * 10
    assert statistics["value"].to_pylist() == [0.0]


def test_a_new_label_takes_a_row_out_of_its_class() -> None:
    samples, labels = rows(["a"] * 10)
    sure = mislabels([0, 1, 2, 3], suggested_prob=0.99)
    verdicts, _ = outcome(samples, labels, sure, Policy(max_share_out=0.2))
    assert verdicts["action"].to_pylist()[:4] == ["soften", "soften", "relabel", "relabel"]


def test_other_reasons_to_drop_are_not_capped() -> None:
    samples, labels = rows(["a"] * 4)
    found = pa.concat_tables([mislabels([0, 1, 2]), build_findings("duplicates", [copy("s000")])])
    verdicts, _ = outcome(samples, labels, found, Policy(max_share_out=0.0, release_review=False))
    assert verdicts["action"].to_pylist() == ["drop", "soften", "review", "keep"]


def copy(sample: str) -> dict[str, Any]:
    return {"sample_id": sample, "issue": "exact_duplicate", "risk": 1.0, "reason_code": "exact_duplicate"}


def test_no_drop_while_the_estimates_of_the_noise_rate_disagree() -> None:
    samples, labels = rows(["a"] * 10)
    policy = Policy(rules=(DROPS,))
    unsure = mislabels([0], reason_args={"estimates_agree": False})
    assert decide(samples, labels, unsure, policy)["action"][0].as_py() == "review"
    assert decide(samples, labels, mislabels([0]), policy)["action"][0].as_py() == "drop"
    assert unsure["flagged"].to_pylist() == [True]


@settings(max_examples=40, deadline=None)
@given(
    words=st.lists(st.sampled_from("abc"), min_size=1, max_size=40),
    share=st.floats(0, 1),
    seed=st.integers(0, 99),
)
def test_no_class_loses_more_than_the_cap_and_row_order_leaves_no_trace(
    words: list[str], share: float, seed: int
) -> None:
    random = np.random.default_rng(seed)
    samples, labels = rows(words)
    found = mislabels(sorted(np.flatnonzero(random.random(len(words)) < 0.7).tolist()), risk=0.8)
    policy = Policy(max_share_out=share, release_review=False)
    verdicts, _ = outcome(samples, labels, found, policy)
    out = np.array([action not in {"keep", "soften"} for action in verdicts["action"].to_pylist()])
    for word in set(words):
        members = np.array(words) == word
        assert (out & members).sum() <= max(1, int(share * members.sum()))
    order = pa.array(random.permutation(len(words)))
    again, _ = outcome(samples.take(order), labels.take(order), found, policy)
    assert again.equals(verdicts)


def test_findings_about_labels_that_are_not_here_hold_nothing_back() -> None:
    samples, labels = rows(["a"] * 3)
    capped = held_back(samples, labels.slice(0, 0), mislabels([0, 1]), Policy(max_share_out=0.0))
    assert capped.findings.num_rows == 0
    assert capped.statistics["value"].to_pylist() == [0.0]
