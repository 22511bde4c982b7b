# ruff: noqa: ANN401 - documents are any JSON
from __future__ import annotations

from typing import Any

from bson import ObjectId
from hypothesis import given, settings
from hypothesis import strategies as st

from curate import schema
from curate.review import merge, signals
from curate.review.ledger import standing

SAMPLE = "0" * 24
LABELS = ["1" * 24, "2" * 24]
CLASSES = ["cat", "dog", "a [1, 2]", "ü:x"]
TAGS = ["curate:accept", "curate:reject", "curate:keep", "curate:drop", *(f"curate:relabel:{c}" for c in CLASSES)]
TAGS += [f"curate:add:{c}" for c in CLASSES]
LISTS = {"Detections": "detections", "Classifications": "classifications"}

boxes = st.lists(st.floats(0, 1).map(lambda v: round(v, 4)), min_size=4, max_size=4)
tags = st.lists(st.sampled_from([*TAGS, "mine"]), max_size=3, unique=True)


def baseline(kind: str) -> dict[str, Any]:
    labels = [{"id": i, "label": "cat"} | ({"bbox": [0.1] * 4} if kind == "Detections" else {}) for i in LABELS]
    if kind == "Classifications":
        labels[0]["extra"] = True
        return {"_id": ObjectId(SAMPLE), "labels": labels, "missing": ["dog", "ü:x"]}
    return {"_id": ObjectId(SAMPLE), "labels": labels if kind == "Detections" else labels[:1]}


def given_document(kind: str) -> dict[str, Any]:
    labels: list[dict[str, Any]] = [
        {"_id": ObjectId(i), "_cls": kind.removesuffix("s"), "tags": [], "label": "cat"} for i in LABELS
    ]
    if kind == "Classification":
        return {"_id": ObjectId(SAMPLE), "tags": [], "ground_truth": labels[0]}
    for label in labels if kind == "Detections" else ():
        label |= {"attributes": {}, "bounding_box": [0.1] * 4}
    return {"_id": ObjectId(SAMPLE), "tags": [], "ground_truth": {"_cls": kind, LISTS[kind]: labels}}


@st.composite
def states(draw: st.DrawFn, kind: str) -> dict[str, Any]:
    """Return a sample document as a reviewer may leave it."""
    document = given_document(kind)
    document["tags"] = draw(tags)
    shown = []
    for label in merge.labels_of(document):
        label["tags"] = draw(tags)
        label["label"] = draw(st.sampled_from(CLASSES))
        if kind == "Detections":
            label["bounding_box"] = draw(boxes)
        if draw(st.booleans()):
            shown.append(label)
    if kind == "Classification":
        if not shown:
            del document["ground_truth"]
        return document
    for i in range(draw(st.integers(0, 2))):
        one: dict[str, Any] = {"_id": ObjectId(str(i + 5) * 24), "_cls": kind.removesuffix("s"), "tags": []}
        one |= {"attributes": {}, "bounding_box": draw(boxes)} if kind == "Detections" else {}
        shown.append(one | {"label": draw(st.sampled_from(CLASSES))})
    document["ground_truth"] = {"_cls": kind, LISTS[kind]: shown}
    return document


class Book:
    """A ledger in memory, and a pull into it, made of the parts that `pull` is made of."""

    def __init__(self, kind: str) -> None:
        self.rows: list[dict[str, Any]] = []
        self.before = baseline(kind)

    @property
    def decisions(self) -> Any:
        return schema.table_from_rows(self.rows, schema.DECISIONS)

    def pull(self, document: dict[str, Any]) -> int:
        held = signals.standing_signals(self.decisions)
        ours = merge.held_signals(SAMPLE, merge.sole_label(document, self.before), held, held)
        shown, _ = merge.shown_signals(document, self.before)
        n = 0
        for target in sorted(shown.keys() | ours.keys(), key=str):
            for row in signals.compare(target, shown.get(target, set()), ours.get(target, {}), {"label": "cat"}):
                identity = {"decision_id": f"d{len(self.rows)}", "at": "now", "reviewer": "Ann"}
                self.rows.append(row | identity)
                n += 1
        return n


for_both = st.sampled_from(["Classification", "Classifications", "Detections"]).flatmap(
    lambda kind: st.tuples(st.just(kind), st.lists(states(kind), min_size=1, max_size=3))
)


QUIET = settings(deadline=None)  # a busy machine is no failure


@QUIET
@given(for_both)
def test_a_second_pull_finds_nothing_whatever_was_done(case: tuple[str, list[dict[str, Any]]]) -> None:
    kind, documents = case
    book = Book(kind)
    for document in documents:
        book.pull(document)
        assert book.pull(document) == 0


@QUIET
@given(for_both)
def test_undoing_everything_leaves_nothing_standing(case: tuple[str, list[dict[str, Any]]]) -> None:
    kind, documents = case
    book = Book(kind)
    for document in documents:
        book.pull(document)
    book.pull(given_document(kind))
    assert standing(book.decisions).num_rows == 0
    assert signals.standing_signals(book.decisions) == {}


@QUIET
@given(for_both)
def test_a_rebuilt_sample_shows_what_the_ledger_holds(case: tuple[str, list[dict[str, Any]]]) -> None:
    kind, documents = case
    book = Book(kind)
    for document in documents:
        book.pull(document)
    held = signals.standing_signals(book.decisions)
    rebuilt = given_document(kind)
    if kind in LISTS:
        rebuilt["ground_truth"][LISTS[kind]] += merge.added_labels(SAMPLE, held, set(LABELS), kind)
    assert book.pull(merge.replay(rebuilt, book.before, held)) == 0


@QUIET
@given(for_both)
def test_a_rewritten_sample_keeps_what_a_reviewer_did(case: tuple[str, list[dict[str, Any]]]) -> None:
    kind, documents = case
    book = Book(kind)
    book.pull(documents[0])
    held = signals.standing_signals(book.decisions)
    merged = merge.merge(given_document(kind), documents[0], book.before)
    assert book.pull(merge.replay(merged, book.before, held)) == 0


def test_a_label_outside_the_classes_is_refused_with_a_hint() -> None:
    assert signals.refused(("relabel", "cta"), ["cat"]) == (
        "the label 'cta' is not a class of this dataset and was not taken. Did you mean 'cat'?"
    )
    assert signals.refused(("added", "dog [0.1, 0.1, 0.2, 0.2]"), ["cat"]) is not None
    assert signals.refused(("relabel", "cat"), ["cat"]) is None
    assert signals.refused(("drop", ""), ["cat"]) is None
    assert signals.refused(("relabel", "anything"), []) is None


def test_to_accept_what_is_missing_is_to_add_it_and_what_is_extra_to_drop_it() -> None:
    document, before = given_document("Classifications"), baseline("Classifications")
    document["tags"] = ["curate:accept", "curate:add:cat"]
    for label in document["ground_truth"]["classifications"]:
        label["tags"] = ["curate:accept"]
    shown, unknown = merge.shown_signals(document, before)
    assert not unknown
    added = [f"{name} [0.0, 0.0, 1.0, 1.0]" for name in ("cat", "dog", "ü:x")]
    assert sorted(shown[SAMPLE, None]) == [("added", one) for one in added]
    assert shown[SAMPLE, LABELS[0]] == {("drop", "")}
    assert shown[SAMPLE, LABELS[1]] == {("accept", "")}
    row = signals.row_of_signal((SAMPLE, None), ("added", added[1]), {"sha": "abc"})
    assert (row["decision"], row["to_label"], row["to_bbox"]) == ("note", "dog", [0.0, 0.0, 1.0, 1.0])
