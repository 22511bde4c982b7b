"""What of released images is to be ignored: which labels and places, and which are settled."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest

from curate import schema
from curate.manifest.build import Release, build_release
from curate.policy import Policy, Rule
from curate.verdicts import decide

BYTES = "a" * 64
PLACE = [0.5, 0.5, 0.2, 0.2]


def sample(name: str) -> dict[str, Any]:
    return {"sample_id": name, "source": "s", "uri": f"{name}.png", "label_state": "labeled"}


def box(name: str, of: str, task: str = "detection", label: str = "cat") -> dict[str, Any]:
    bbox = [0.1, 0.1, 0.2, 0.2] if task == "detection" else None
    return {"label_id": name, "sample_id": of, "task": task, "label": label, "bbox": bbox}


def finding(issue: str, of: str, label_id: str | None, **more: Any) -> dict[str, Any]:  # noqa: ANN401 - any value
    told = {
        "check": "box_noise",
        "issue": issue,
        "sample_id": of,
        "label_id": label_id,
        "risk": 0.9,
        "flagged": True,
    }
    named = {"finding_id": f"{issue}-{of}-{label_id}", "reason_code": f"box_{issue}", "reason_args": "{}"}
    return {**told, **named, **more}


def decision(of: str, label_id: str | None, what: str, **more: Any) -> dict[str, Any]:  # noqa: ANN401 - any value
    told = {"decision_id": f"d-{of}-{label_id}", "at": "2026-01-01T00:00:00Z", "reviewer": "Ann", "sample_id": of}
    return {**told, "label_id": label_id, "decision": what, "content_sha256": BYTES, **more}


def made(
    labels: list[dict[str, Any]], findings: list[dict[str, Any]], decisions: list[dict[str, Any]] | None = None,
    policy: Policy | None = None,
) -> Release:  # fmt: skip
    """Return the release of images with two boxes or more."""
    policy = policy or Policy(soft_labels=False)
    names = sorted({row["sample_id"] for row in labels})
    scanned = [{"sample_id": name, "content_sha256": BYTES, "width_px": 10, "height_px": 10} for name in names]
    samples = schema.table_from_rows([sample(name) for name in names], schema.SAMPLES)
    scan = schema.table_from_rows(scanned, schema.SCAN)
    table = schema.table_from_rows(labels, schema.LABELS)
    found = schema.table_from_rows(findings, schema.FINDINGS)
    said = schema.table_from_rows(decisions or [], schema.DECISIONS)
    with_bytes = samples.append_column("content_sha256", pa.array([BYTES] * len(names)))
    return build_release(
        samples=samples, labels=table, scan=scan, verdicts=decide(with_bytes, table, found, policy, said), findings=found,
        outcomes=schema.empty(schema.INGEST_OUTCOMES), policy=policy, classes=["cat", "dog"], decisions=said,
    )  # fmt: skip


def ids(release: Release) -> list[str | None]:
    return [] if release.ignore is None else release.ignore["label_id"].to_pylist()


TWO = [box("l1", "a"), box("l2", "a")]


@pytest.mark.parametrize("issue", ["location", "swap", "spurious", "duplicate"])
def test_a_box_that_waits_in_a_released_image_is_to_be_ignored(issue: str) -> None:
    release = made(TWO, [finding(issue, "a", "l1")])
    assert release.data["label_id"].to_pylist() == ["l2"]
    assert release.ignore is not None
    (row,) = release.ignore.to_pylist()
    assert (row["label_id"], row["label"], row["bbox"]) == ("l1", "cat", [0.1, 0.1, 0.2, 0.2])
    assert (row["reasons"], row["reason_codes"]) == ([f"{issue}-a-l1"], [f"box_{issue}"])


def test_a_box_in_the_wrong_place_is_to_be_ignored_there_and_where_it_should_be() -> None:
    release = made(TWO, [finding("location", "a", "l1", suggested_label="cat", suggested_bbox=PLACE)])
    assert release.ignore is not None
    rows = [(row["label_id"], row["label"], row["bbox"]) for row in release.ignore.to_pylist()]
    assert sorted(rows) == [("l1", "cat", [0.1, 0.1, 0.2, 0.2]), ("l1", "cat", PLACE)]
    kept = made(TWO, [finding("location", "a", "l1", suggested_bbox=PLACE)], [decision("a", "l1", "keep")])
    assert kept.ignore is None


def test_of_an_image_that_is_not_released_nothing_is_to_be_ignored() -> None:
    release = made(TWO, [finding("swap", "a", "l1"), finding("swap", "a", "l2")])
    assert release.data.num_rows == 0
    assert release.ignore is None


@pytest.mark.parametrize("issue", ["spurious", "duplicate", "swap", "location"])
def test_a_dropped_box_is_to_be_ignored_unless_nothing_is_there(issue: str) -> None:
    policy = Policy(soft_labels=False, rules=(Rule(issue=issue, action="drop"),))
    release = made(TWO, [finding(issue, "a", "l1")], policy=policy)
    assert release.data["label_id"].to_pylist() == ["l2"]
    assert ids(release) == (["l1"] if issue in {"swap", "location"} else [])


def test_a_box_that_a_person_dropped_is_settled() -> None:
    release = made(TWO, [finding("swap", "a", "l1")], [decision("a", "l1", "drop")])
    assert release.data["label_id"].to_pylist() == ["l2"]
    assert release.ignore is None


def test_what_waits_is_released_as_given_where_policy_says_so() -> None:
    release = made(TWO, [finding("swap", "a", "l1")], policy=Policy(soft_labels=False, release_review=True))
    assert release.data["label_id"].to_pylist() == ["l1", "l2"]
    assert release.ignore is None


MISSING = finding("missing", "a", None, suggested_label="dog", suggested_bbox=PLACE)
PUT_THERE = decision("a", "new", "reject", to_label="dog", to_bbox=[0.51, 0.5, 0.2, 0.2])


@pytest.mark.parametrize(
    ("decisions", "n"),
    [
        ([], 1),
        ([decision("a", None, "keep")], 0),
        ([decision("a", None, "note")], 1),
        ([decision("a", None, "keep", content_sha256="b" * 64)], 1),
        ([decision("a", "l1", "keep")], 1),
        ([PUT_THERE], 0),
    ],
    ids=["nobody", "image kept", "a note", "other bytes", "another box", "answered"],
)
def test_a_place_where_a_box_may_be_missing_is_open_until_somebody_answers(
    decisions: list[dict[str, Any]], n: int
) -> None:
    release = made(TWO, [MISSING], decisions)
    assert release.data["label_id"].to_pylist() == ["l1", "l2"], "nothing is said against the others"
    rows = [] if release.ignore is None else release.ignore.to_pylist()
    assert [(row["label_id"], row["label"], row["bbox"]) for row in rows] == [(None, "dog", PLACE)] * n


def test_a_rule_that_keeps_or_drops_what_lacks_a_box_leaves_no_open_place() -> None:
    kept = made(TWO, [MISSING], policy=Policy(soft_labels=False, rules=(Rule(issue="missing", action="keep"),)))
    assert (kept.data.num_rows, kept.ignore) == (2, None)
    dropped = made(TWO, [MISSING], policy=Policy(soft_labels=False, rules=(Rule(issue="missing", action="drop"),)))
    assert (dropped.data.num_rows, dropped.ignore) == (0, None)
    held = made(TWO, [MISSING], policy=Policy(soft_labels=False, missing_labels="hold_back"))
    assert (held.data.num_rows, held.ignore) == (0, None)


def test_of_several_labels_one_that_waits_or_may_be_missing_is_not_known() -> None:
    labels = [box("t1", "a", "multi_label"), box("t2", "a", "multi_label", "dog"), box("t3", "b", "multi_label")]
    extra = {**finding("extra_label", "a", "t2"), "check": "multi_label_noise"}
    left_out = {**finding("missing_label", "b", None, suggested_label="dog"), "check": "multi_label_noise"}
    release = made(labels, [extra, left_out])
    assert release.data["label_id"].to_pylist() == ["t1", "t3"]
    assert release.ignore is not None
    rows = [(row["sample_id"], row["label_id"], row["label"], row["bbox"]) for row in release.ignore.to_pylist()]
    assert rows == [("a", "t2", "dog", None), ("b", None, "dog", None)]


def test_the_order_of_findings_leaves_no_trace() -> None:
    found = [
        finding("swap", "a", "l1"),
        MISSING,
        finding("missing", "b", None, suggested_label="cat", suggested_bbox=PLACE),
    ]
    labels = [*TWO, box("l3", "b")]
    one, other = (made(labels, rows).ignore for rows in (found, found[::-1]))
    assert one is not None
    assert one.equals(other)
    assert one["sample_id"].to_pylist() == ["a", "a", "b"]
