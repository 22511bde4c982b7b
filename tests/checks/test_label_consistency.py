from __future__ import annotations

from checks_views import found, label, labels_view, sample, statistic

from curate.check import run_check
from curate.checks.label_consistency import CHECK


def _copies(*labels: str) -> list[dict[str, object]]:
    return [label(i, sample(i, content_sha256="c"), label=name) for i, name in enumerate(labels)]


def test_every_label_of_a_torn_picture_is_named_and_the_majority_is_suggested() -> None:
    rows = _copies("cat", "cat", "dog")
    result = run_check(CHECK, labels_view([*rows, label(9, sample(9), label="dog")]))
    conflicts = {row["label_id"]: row for row in found(result.findings, "duplicate_conflict")}
    assert set(conflicts) == {row["label_id"] for row in rows}
    odd = conflicts[rows[2]["label_id"]]
    assert (odd["suggested_label"], odd["suggested_prob"], odd["risk"]) == ("cat", 2 / 3, 2 / 3)
    assert odd["related_ids"] == sorted(str(rows[i]["sample_id"]) for i in (0, 1))
    assert conflicts[rows[0]["label_id"]]["suggested_label"] is None
    assert statistic(result.statistics, "share_consistent")["value"] == 0.0


def test_a_tie_suggests_nothing() -> None:
    result = run_check(CHECK, labels_view(_copies("cat", "dog")))
    assert {(r["risk"], r["suggested_label"]) for r in found(result.findings, "duplicate_conflict")} == {
        (0.5, None)
    }


def test_copies_that_agree_and_several_labels_on_one_sample_are_no_conflict() -> None:
    one = sample(5)
    rows = [*_copies("cat", "cat"), label(5, one, label="cat"), label(6, one, label="dog")]
    result = run_check(CHECK, labels_view(rows))
    assert result.findings.num_rows == 0
    assert statistic(result.statistics, "share_consistent")["value"] == 1.0


def test_boxes_of_copies_are_not_compared() -> None:
    rows = [row | {"task": "detection"} for row in _copies("cat", "dog")]
    result = run_check(CHECK, labels_view(rows))
    assert result.findings.num_rows == 0
    assert statistic(result.statistics, "share_consistent")["outcome"] == "insufficient data"
