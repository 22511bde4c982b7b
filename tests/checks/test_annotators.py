"""Annotators are held against the others and the teachers, never against themselves."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curate import schema
from curate.check import run_check
from curate.checks.annotators import CHECK
from curate.reasons import render
from curate.statistics.agreement import (
    cohen_interval,
    cohen_kappa,
    fleiss_interval,
    fleiss_kappa,
    krippendorff_alpha,
    krippendorff_interval,
)
from curate.teachers import consensus
from curate.teachers.consensus import error_rates, find_consensus
from curate.views import annotations_view

CLASSES = ("bird", "cat", "dog")


def crowd(
    n: int = 600, *, answers: int = 3, rates: tuple[float, ...] = (0.05, 0.05, 0.1, 0.1, 0.4), teacher: float = 0.0
) -> tuple[pa.Table, np.ndarray]:
    """`n` images with answers of some of five annotators, and the truth; `teacher` > 0 adds one of that accuracy."""
    random = np.random.default_rng(0)
    truth = random.integers(0, 3, n)
    rows: list[dict[str, Any]] = []
    probs = np.full((n, 3), 0.1)
    seen = np.where(random.random(n) < teacher, truth, (truth + 1) % 3)
    probs[np.arange(n), seen] = 0.8
    for image in range(n):
        for who in random.choice(len(rates), answers, replace=False):
            wrong = random.random() < rates[who]
            label = CLASSES[(truth[image] + wrong * random.integers(1, 3)) % 3]
            row = {"label_id": f"l{image:04}-{who}", "sample_id": f"s{image:04}", "task": "classification"}
            row |= {"label": label, "annotator": f"ann{who}"}
            rows.append(row | ({"prob_one": probs[image].tolist()} if teacher else {}))
    extra = [pa.field("prob_one", pa.list_(pa.float64(), 3))] if teacher else []
    return pa.Table.from_pylist(rows, schema=pa.schema([*schema.LABELS, *extra])), truth


def statistics(table: pa.Table) -> dict[tuple[str, str | None], dict[str, Any]]:
    return {(row["name"], row["group"]): row for row in run_check(CHECK, table).statistics.to_pylist()}


def test_error_rates_are_those_of_the_annotators_and_intervals_hold_them() -> None:
    found = statistics(crowd()[0])
    for who, rate in enumerate((0.05, 0.05, 0.1, 0.1, 0.4)):
        row = found["error_rate", f"annotator=ann{who}"]
        assert row["low"] - 0.02 <= rate <= row["high"] + 0.02  # 95 % each; five of them, one draw
    assert found["error_rate", "annotator=ann4"]["low"] > found["error_rate", "annotator=ann3"]["high"]
    assert found["n_annotators", None]["value"] == 5
    assert found["krippendorff_alpha", None]["value"] == pytest.approx(0.57, abs=0.1)
    pair = found["share_disagreement", "annotators=ann0|ann4"]
    assert pair["low"] > found["share_disagreement", "annotators=ann0|ann1"]["high"]
    assert json.loads(pair["detail"])["classes"][0][2] >= 1


def test_one_answer_an_image_is_held_against_the_teacher_and_without_one_against_nobody() -> None:
    alone = statistics(crowd(answers=1)[0])
    assert alone["error_rate", None]["outcome"] == "insufficient data"
    assert ("error_rate", "annotator=ann4") not in alone
    assert alone["krippendorff_alpha", None]["outcome"] == "insufficient data"
    taught = statistics(crowd(answers=1, teacher=0.95)[0])
    assert taught["error_rate", "annotator=ann4"]["low"] > taught["error_rate", "annotator=ann0"]["high"]


@pytest.mark.parametrize("teacher", [0.7, 0.9])
def test_doubts_of_a_weak_teacher_are_no_errors_of_all(teacher: float) -> None:
    """The mean of 1 - p(answer) by the others says .3 and more where a teacher is sure of little."""
    found = statistics(crowd(1_500, answers=1, rates=(0.05,) * 5, teacher=teacher)[0])
    row = found["error_rate", None]
    assert row["low"] - 0.02 <= 0.05 <= row["high"] + 0.02
    each = [found["error_rate", f"annotator=ann{who}"]["value"] for who in range(5)]
    assert min(each) <= row["value"] <= max(each)


def test_an_annotator_who_errs_on_one_class_is_named_with_his_doubted_labels() -> None:
    table, truth = crowd(1_500, rates=(0.03, 0.03, 0.03, 0.03, 0.03))
    rows = table.to_pylist()
    for row in rows:  # ann2 calls every third bird a cat
        image = int(row["sample_id"][1:])
        if row["annotator"] == "ann2" and truth[image] == 0 and image % 3 == 0:
            row["label"] = "cat"
    result = run_check(CHECK, pa.Table.from_pylist(rows, schema=table.schema))
    groups = [row["group"] for row in result.statistics.to_pylist() if ",class=" in (row["group"] or "")]
    assert groups == ["annotator=ann2,class=cat"]
    prone = [row for row in result.findings.to_pylist() if row["issue"] == "annotator_error_prone"]
    assert len(prone) > 20
    wrong = [truth[int(row["sample_id"][1:])] != 1 for row in prone]
    assert np.mean(wrong) > 0.8  # the rest are those where the others erred
    assert "Annotator ann2 makes" in render("annotator_error_prone", prone[0]["reason_args"])


def test_an_outvoted_label_gets_the_consensus_as_suggestion() -> None:
    table, truth = crowd(answers=3)
    found = [row for row in run_check(CHECK, table).findings.to_pylist() if row["issue"] == "annotators_outvote"]
    right = [row["suggested_label"] == CLASSES[truth[int(row["sample_id"][1:])]] for row in found]
    assert np.mean(right) == pytest.approx(np.mean([row["suggested_prob"] for row in found]), abs=0.06)
    assert all(row["risk"] > 0.5 for row in found)
    assert len({row["label_id"] for row in found}) == len(found)


def test_weighing_annotators_beats_the_majority() -> None:
    table, truth = crowd(2_000, answers=3, rates=(0.05, 0.45, 0.45, 0.45, 0.45))
    image = np.array([int(one[1:]) for one in table["sample_id"].to_pylist()])
    who = np.array([int(one[3:]) for one in table["annotator"].to_pylist()])
    label = np.array([CLASSES.index(one) for one in table["label"].to_pylist()])
    counts = np.zeros((2_000, 3))
    np.add.at(counts, (image, label), 1)
    found = find_consensus(image, who, label, n_images=2_000, n_classes=3)
    assert (found.probs.argmax(axis=1) == truth).mean() > (counts.argmax(axis=1) == truth).mean() + 0.03
    assert np.allclose(found.probs.sum(axis=1), 1.0)
    assert found.weight_rate.argmin() == 0


def test_nobody_confirms_himself() -> None:
    """Where two disagree, each is held against the other alone."""
    image, who = np.repeat(np.arange(40), 2), np.tile([0, 1], 40)
    label = np.repeat(np.arange(40) % 2, 2)
    label[:2] = (0, 1)
    found = find_consensus(image, who, label, n_images=40, n_classes=2)
    assert found.others[:2].tolist() == [1, 0]
    assert (found.own_prob[:2] < 0.5).all()
    assert (found.own_prob[2:] > 0.5).all()


def test_intervals_of_error_rates_hold_the_truth_as_often_as_they_promise() -> None:
    """300 annotators with 60 answers each, held against others that are right with the probability they say."""
    random = np.random.default_rng(1)
    truth = random.uniform(0.02, 0.4, 300)
    who = np.repeat(np.arange(300), 60)
    sure = random.uniform(0.6, 0.99, len(who))  # of the class the others name, of three
    others_right, he_right = random.random(len(who)) < sure, random.random(len(who)) > truth[who]
    same_error = random.random(len(who)) < 0.5  # two wrong answers of three classes meet half of the time
    agrees = np.where(others_right, he_right, ~he_right & same_error)
    own = np.where(agrees, sure, (1 - sure) / 2)
    rate, low, high = error_rates(own, who, n_annotators=300, n_classes=3)
    assert np.mean((low <= truth) & (truth <= high)) >= 0.95 - 2.6 * np.sqrt(0.95 * 0.05 / 300)
    assert abs(np.mean(rate - truth)) < 0.02


@settings(max_examples=20, deadline=None)
@given(st.lists(st.lists(st.integers(0, 4), min_size=3, max_size=3), min_size=1, max_size=12))
def test_agreement_is_at_most_one_and_one_only_where_all_agree(rows: list[list[int]]) -> None:
    counts = np.array(rows)
    alpha = krippendorff_alpha(counts)
    if alpha is not None:
        assert alpha <= 1.0 + 1e-9
        paired = counts[counts.sum(axis=1) >= 2]
        assert (abs(alpha - 1.0) < 1e-9) == bool((paired.max(axis=1) == paired.sum(axis=1)).all())


def test_agreement_of_known_tables() -> None:
    # Fleiss (1971) as worked out on the page of that name in Wikipedia: ten subjects, fourteen raters
    fleiss = [[0, 0, 0, 0, 14], [0, 2, 6, 4, 2], [0, 0, 3, 5, 6], [0, 3, 9, 2, 0], [2, 2, 8, 1, 1]]
    fleiss += [[7, 7, 0, 0, 0], [3, 2, 6, 3, 0], [2, 5, 3, 2, 2], [6, 5, 2, 1, 0], [0, 2, 2, 3, 7]]
    assert fleiss_kappa(np.array(fleiss)) == pytest.approx(0.210, abs=5e-4)
    assert fleiss_kappa(np.array([[2, 0], [1, 2]])) is None
    one, other = np.repeat([0, 0, 1, 1], [20, 5, 10, 15]), np.repeat([0, 1, 0, 1], [20, 5, 10, 15])
    assert cohen_kappa(one, other, 2) == pytest.approx(0.4)
    assert cohen_kappa(one[:3], one[:3], 2) is None
    # Krippendorff (2011), his nominal example with missing answers: alpha = .743
    data = ["1 1 . 1", "2 2 3 2", "3 3 3 3", "3 3 3 3", "2 2 2 2", "1 2 3 4", "4 4 4 4", "1 1 2 1", "2 2 2 2"]
    data += [". 5 5 5", ". . 1 1", ". . 3 ."]
    counts = np.zeros((12, 5), dtype=int)
    for row, text in enumerate(data):
        for word in text.split():
            if word != ".":
                counts[row, int(word) - 1] += 1
    assert krippendorff_alpha(counts) == pytest.approx(0.743, abs=5e-4)


def test_without_annotators_or_with_several_classes_an_image_there_is_nothing_to_judge() -> None:
    table, _ = crowd(20)
    rows = table.to_pylist()
    for row in rows:
        row["annotator"] = "ann"
    for changed in (rows, [row | {"annotator": None} for row in rows]):
        found = run_check(CHECK, pa.Table.from_pylist(changed, schema=table.schema))
        assert found.findings.num_rows == 0
        assert found.statistics["outcome"].to_pylist() == ["insufficient data"]


def test_teachers_of_the_given_label_speak_about_the_other_answers_of_its_image() -> None:
    table, _ = crowd(10)
    given = table.filter(pa.array([row.endswith(("-0", "-1")) for row in table["label_id"].to_pylist()]))
    first = {row["sample_id"]: row for row in reversed(given.to_pylist())}
    labels = pa.Table.from_pylist(list(first.values()), schema=table.schema)
    known = set(labels["label_id"].to_pylist())
    others = table.filter(pa.array([one not in known for one in table["label_id"].to_pylist()]))
    samples = pa.table({"sample_id": [f"s{i:04}" for i in range(10)], "content_sha256": ["x"] * 10})
    samples = samples.append_column("error_code", pa.nulls(10, pa.string()))
    kind = pa.list_(pa.float16(), 3)
    probs = pa.array([[np.float16(i), 0, 0] for i in range(labels.num_rows)], kind)
    predictions = pa.table({"label_id": labels["label_id"], "prob_one": probs})
    view = annotations_view(labels, others, samples, predictions)
    assert view.num_rows == table.num_rows
    said = {row["sample_id"]: row["prob_one"] for row in view.to_pylist() if row["label_id"] in known}
    assert all(row["prob_one"] == said.get(row["sample_id"]) for row in view.to_pylist())


@pytest.mark.parametrize("cells", [3, 100, 10_000])
def test_consensus_is_the_same_bit_for_bit_however_many_images_are_worked_on_at_once(
    cells: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    random = np.random.default_rng(5)
    image, who, label = random.integers(0, 90, 200), random.integers(0, 7, 200), random.integers(0, 4, 200)
    teachers = random.dirichlet(np.ones(4), 90)
    teachers[::9] = np.nan
    whole = find_consensus(image, who, label, n_images=90, n_classes=4, teachers=teachers)
    monkeypatch.setattr(consensus, "_BLOCK_CELLS", cells)
    parts = find_consensus(image, who, label, n_images=90, n_classes=4, teachers=teachers)
    for name in ("probs", "own_prob", "others", "has_reference", "weight_rate"):
        assert np.array_equal(getattr(whole, name), getattr(parts, name))
    assert whole.temperature == parts.temperature


def two(n: int, share: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    one = random.integers(3, size=n)
    return one, np.where(random.random(n) < share, random.integers(3, size=n), one)


def test_the_interval_of_a_kappa_holds_the_truth_as_often_as_it_says_and_forgets_the_order() -> None:
    truth = 1 - 0.3  # two who agree unless one answers by chance, with three classes alike
    ends = [cohen_interval(*two(150, 0.3, seed)) for seed in range(200)]
    held = [low <= truth <= high for low, high in filter(None, ends)]
    assert 0.90 <= np.mean(held) <= 0.995
    one, other = two(80, 0.3, 0)
    order = np.random.default_rng(5).permutation(80)
    assert cohen_interval(one, other) == cohen_interval(one[order], other[order])


def test_intervals_of_agreement_are_alike_for_two_and_never_a_point_where_all_agree() -> None:
    one, other = two(400, 0.2, 1)
    counts = np.zeros((400, 3), int)
    np.add.at(counts, (np.arange(400), one), 1)
    np.add.at(counts, (np.arange(400), other), 1)
    known = [cohen_interval(one, other), fleiss_interval(counts), krippendorff_interval(counts)]
    kappa = cohen_kappa(one, other, 3)
    for ends in known:
        assert ends is not None
        assert ends == pytest.approx(known[0], abs=0.03)
        assert ends[0] < (kappa or 0) < ends[1]
    same = np.arange(30) % 3
    unanimous = np.eye(3, dtype=int)[same] * 2
    for ends in (cohen_interval(same, same), fleiss_interval(unanimous), krippendorff_interval(unanimous)):
        assert ends is not None
        assert 0.7 < ends[0] < 0.95 < ends[1] == 1.0
    assert cohen_interval(same[:0], same[:0]) is None
    assert cohen_interval(np.zeros(20, int), np.zeros(20, int)) is None
