"""What gates may name is what is given: the lists in `curate.check` and `curate.spec` against who gives."""

from __future__ import annotations

from typing import get_args

import pyarrow as pa

from curate import schema
from curate.audit.answers import Agreement
from curate.audit.result import statistics as audit_statistics
from curate.check import STATISTICIANS, discover, unknown_statistic
from curate.evaluation import against_truth
from curate.gx.suites import suite_folder
from curate.policy import DEFAULT_GATES
from curate.spec import Classifier
from curate.teachers.boxes.coco_metrics import _scores
from curate.teachers.classifiers import CLASSIFIERS


def names(table: pa.Table) -> set[str]:
    return set(table["name"].to_pylist())


def test_an_audit_gives_what_is_listed() -> None:
    given = names(audit_statistics(None, Agreement(2, 1, 0.0, 1.0), why={"*": "nobody looked"}))
    assert given | {"ran"} == set(STATISTICIANS["audit"])


def test_an_evaluation_gives_what_is_listed() -> None:
    rows = [
        {"label_id": f"l{at}", "sample_id": f"s{at}", "task": "classification", "label": "cat"}
        | {"reference_label": "dog" if at < 6 else "cat"}
        for at in range(12)
    ]
    labels = schema.table_from_rows(rows, schema.LABELS)
    assert names(against_truth(labels, schema.empty(schema.FINDINGS))) == set(STATISTICIANS["evaluation"])


def test_detectors_are_scored_by_what_is_listed() -> None:
    given = {row["name"] for row in _scores([], [], [], "teacher=one", None)}
    assert given | {"ran"} == set(STATISTICIANS["teachers"])


def test_every_suite_is_listed() -> None:
    assert {file.stem for file in suite_folder().glob("*.json")} == set(STATISTICIANS["expectations"])


def test_every_default_gate_names_something() -> None:
    checks = discover()
    assert [gate.statistic for gate in DEFAULT_GATES if unknown_statistic(gate.statistic, checks)] == []


def test_a_spec_may_name_every_classifier_of_the_probes() -> None:
    assert set(get_args(Classifier)) == set(CLASSIFIERS)
