"""What went into a version: digests that differ where, and only where, the thing itself differs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from curate import schema
from curate.check import build_findings
from curate.manifest import diff, publish
from curate.manifest.inputs import (
    UNKNOWN,
    digest_answers,
    digest_labels,
    digest_teachers,
    input_text,
    inputs_changed,
)
from curate.policy import Policy, Rule

Worlds = Callable[..., Any]
ROW = {
    "label_id": "a", "sample_id": "s", "task": "tracking", "label": "car", "bbox": [0.1, 0.2, 0.3, 0.4],
    "mask": {"height_px": 2, "width_px": 2, "counts": b"\x01\x03"}, "polygons": [[0.0, 0.0, 1.0, 0.0, 1.0, 1.0]],
    "track_id": "7", "frame": 3, "annotator": "ann", "source_key": "k", "flags": ["crowd"],
}  # fmt: skip
OTHER = {"label_id": "b", "sample_id": "s", "task": "tracking", "label": "van"}


def labels(*rows: dict[str, Any]) -> pa.Table:
    return schema.table_from_rows(list(rows), schema.LABELS)


def test_labels_have_one_digest_whatever_their_order_and_chunks() -> None:
    plain = labels(ROW, OTHER)
    turned = labels(OTHER, ROW)
    chunked = pa.concat_tables([labels(OTHER), labels(ROW), labels()])
    assert digest_labels(plain) == digest_labels(turned) == digest_labels(chunked)
    assert digest_labels(plain.slice(1)) == digest_labels(labels(OTHER))
    # fixed for good: versions of different releases of curate and Arrow are compared
    assert digest_labels(plain) == "571ff587de0cd9a62d8b1a3f15d12ee88de0394bc72760fb05a8e59f0703186d"


@pytest.mark.parametrize(
    "change",
    [
        {"label": "van"}, {"bbox": [0.1, 0.2, 0.3, 0.5]}, {"bbox": None}, {"track_id": "8"}, {"frame": 4},
        {"mask": {"height_px": 2, "width_px": 2, "counts": b"\x02\x02"}},
        {"polygons": [[0.0, 0.0, 1.0], [0.0, 1.0, 1.0]]},
        {"flags": []}, {"flags": None}, {"flags": ["cro", "wd"]}, {"annotator": "bob"}, {"label_id": "c"},
    ],
)  # fmt: skip
def test_whatever_the_source_says_otherwise_is_another_digest(change: dict[str, Any]) -> None:
    assert digest_labels(labels(ROW, OTHER)) != digest_labels(labels(ROW | change, OTHER))


def answers(ids: list[str], seed: int = 0) -> pa.Table:
    probs = np.random.default_rng(seed).dirichlet(np.ones(3), len(ids)).astype(np.float16)
    return pa.table({"label_id": ids, "prob_t": pa.FixedSizeListArray.from_arrays(pa.array(probs.ravel()), 3)})


def test_answers_made_elsewhere_are_named_by_their_teacher_and_fitted_ones_by_value() -> None:
    table = [{"name": "t", "kind": "table", "digest": "ab", "n_predicted": 3, "warnings": []}]
    probes = [{"name": "t", "kind": "probes", "digest": "ab"}]
    few, many = answers(["a", "b"]), answers(["a", "b", "c"])
    assert digest_answers(few, table) == digest_answers(many, table)
    assert digest_answers(few, table) != digest_answers(few, [table[0] | {"digest": "cd"}])
    assert digest_answers(few, probes) != digest_answers(answers(["a", "b"], seed=1), probes)
    assert digest_answers(few, []) != digest_answers(many, [])
    # trackers answer about frames: that they were asked beside labels with other ids is no answer
    assert digest_answers(few.select(["label_id"]), []) == digest_answers(None, []) == "none"
    assert digest_teachers(table) == digest_teachers([table[0] | {"n_predicted": 2, "warnings": ["1 is silent"]}])
    assert digest_teachers(table) != digest_teachers([table[0] | {"digest": "cd"}])


def test_what_one_of_two_versions_does_not_tell_is_not_named() -> None:
    old, new = (
        {"policy": "p", "predictions": "x", "teachers": "t"},
        {"policy": "p", "predictions": "y", "teachers": "u"},
    )
    assert inputs_changed(old, new) == ["predictions", "teachers"]
    assert inputs_changed(old, new | {"labels": "l", "policy": "q"}) == ["policy"]
    assert inputs_changed(new | {"labels": "l"}, new | {"labels": "m", "detectors": "d"}) == ["detectors", "labels"]
    assert inputs_changed(new | {"labels": "l"}, new | {"labels": UNKNOWN}) == []
    assert input_text("labels") == "labels of the source"


def test_a_finding_that_stands_as_it_was_is_no_cause(world: Worlds, tmp_path: Path) -> None:
    class Twins(world):  # type: ignore[misc]
        def findings(self) -> pa.Table:
            twin = {"issue": "near_duplicate", "sample_id": self.sample_id(4), "flagged": True, "risk": 0.9}
            twin |= {"reason_code": "near_duplicate", "reason_args": {}}
            return pa.concat_tables([super().findings(), build_findings("duplicates", [twin])])

    rules = (Rule(issue="near_duplicate", action="keep"), Rule(issue="mislabel", action="review"))
    policy = Policy(rules=rules, release_review=False)
    was, now = (
        publish(Twins(policy=policy, flagged=flagged).release(), tmp_path, "zoo").path
        for flagged in ({}, {4: "fox"})
    )
    causes = {
        (row["change"], *row["causes"])
        for found in (diff(was, now), diff(now, was))
        for row in found.rows.to_pylist()
    }
    assert ("removed", "teachers_disagree") in causes
    assert ("added", "no_longer_teachers_disagree") in causes
    assert not any("near_duplicate" in codes for codes in causes)


def test_a_row_that_is_new_in_the_source_is_not_there_because_of_a_finding(world: Worlds, tmp_path: Path) -> None:
    policy = Policy(rules=(Rule(issue="mislabel", action="keep"),))
    was, now = (
        publish(world(policy=policy, flagged={4: "fox"}, left_out=gone).release(), tmp_path, "zoo").path
        for gone in ((4,), ())
    )
    assert [row["causes"] for row in diff(was, now).rows.to_pylist()] == [["new_in_source"]]
