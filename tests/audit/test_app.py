# ruff: noqa: ANN401 - FiftyOne has no types
"""The audit in FiftyOne: nothing tells what is suspected before the answer, tags come back, then all is shown."""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import end_to_end as e2e
import pytest

from curate.adapters.mongod import ensure_database, stop_database
from curate.audit import app
from curate.audit.verbs import open_audit
from curate.review import ledger
from curate.review.signals import standing_signals

pytestmark = pytest.mark.mongo


@pytest.fixture
def workspace(finished: e2e.Finished, tmp_path: Path) -> Iterator[Path]:
    shutil.copytree(finished.workspace, tmp_path / "ws")
    ensure_database(tmp_path / "ws")
    yield tmp_path / "ws"
    stop_database(tmp_path / "ws")


def fields_shown(view: Any) -> set[str]:
    return set(view.get_field_schema())


def test_answers_are_given_blind_come_back_as_tags_and_are_then_compared(workspace: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # FiftyOne's own, at import
        audit, _ = open_audit(workspace, "pets", budget=44)
        dataset = app.show(workspace, "pets", audit)
    to_judge = dataset.load_saved_view(app.TO_JUDGE)
    assert len(to_judge) == 44
    assert fields_shown(to_judge).isdisjoint({"risk", "suggested_label", "was_flagged", "answer"})
    assert to_judge.values("look") == [look.look for look in audit.design.looks]
    assert all(Path(file).is_file() for file in dataset.values("filepath"))
    assert len(app.show(workspace, "pets", audit)) == 44  # the same one

    first, second, third, fourth = to_judge.limit(4)
    other = next(name for name in ("cat", "dog") if name != second.given.label)
    for sample, tags in (
        (first, ["correct", "blurry, ask Ann"]),
        (second, [f"curate:wrong:{other}"]),
        (third, ["wrong", "correct"]),
        (fourth, [f"wrong:{fourth.given.label}"]),
    ):
        sample.tags = tags
        sample.save()
    folder = ledger.ledger_folder(workspace, "pets")
    taken = app.pull_answers(workspace, "pets", reviewer="ann", ledger_folder=folder)
    assert (taken.n_fresh, taken.n_decisions) == (2, 2)
    assert ["contradict each other" in taken.problems[0], "as the true one" in taken.problems[1]] == [True, True]
    assert taken.result.estimates is None
    dataset.reload()
    assert len(dataset.load_saved_view(app.TO_JUDGE)) == 42
    answered = dataset.load_saved_view(app.ANSWERED)
    assert answered.values("answer") == ["correct", f"wrong: {other}"]
    assert "risk" in fields_shown(answered)
    rows = ledger.read(folder).decisions.to_pylist()
    assert sorted(row["decision"] for row in rows) == ["keep", "relabel"]
    assert {row["reviewer"] for row in rows} == {"ann"}

    second.reload()
    second.tags = ["can't tell"]
    second.save()
    assert app.pull_answers(workspace, "pets", reviewer="ann", ledger_folder=folder).n_decisions == 1
    assert ledger.standing(ledger.read(folder).decisions)["decision"].to_pylist() == ["keep"]

    assert standing_signals(ledger.read(folder).decisions) == {}  # a pull of the review has nothing to take back
