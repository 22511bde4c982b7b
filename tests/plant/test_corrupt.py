"""Errors are planted where and as the kind says, in a copy, decided by ids alone."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curate import schema
from curate.errors import ConfigError
from curate.ingest.rle import area_of_mask, decode_mask, encode_mask
from curate.plant.classes import Opinions
from curate.plant.corrupt import KINDS, corrupt, kinds_for
from curate.plant.measure import Row, measure, missing_places, rows_of, scores_by_label
from curate.plant.shapes import IOU_RANGE, iou, shifted
from curate.policy import Policy, Rule

CLASSES = ("cat", "dog", "eel")
RULE = Rule(issue="missing", action="review")


def pictures(n: int = 200) -> pa.Table:
    rows = [
        {"label_id": f"l{i:04}", "sample_id": f"s{i:04}", "task": "classification", "label": CLASSES[i % 3]}
        for i in range(n)
    ]
    return schema.table_from_rows(rows, schema.LABELS)


def boxes(n_images: int = 40, *, task: str = "detection") -> pa.Table:
    """Three boxes an image, apart from each other; as tracks: three tracks through all images as frames."""
    square = np.zeros((40, 40), bool)
    square[5:25, 5:25] = True
    rows: list[dict[str, Any]] = []
    for image in range(n_images):
        for part in range(3):
            row: dict[str, Any] = {"label_id": f"b{image:03}-{part}", "sample_id": f"s{image:03}", "task": task}
            row |= {"label": CLASSES[part], "bbox": [0.05 + 0.3 * part, 0.1 + 0.2 * part, 0.2, 0.15]}
            if task == "tracking":
                row |= {"track_id": f"t{part}", "frame": image}
            if task == "segmentation":
                row |= {"mask": encode_mask(square), "bbox": None}
            rows.append(row)
    return schema.table_from_rows(rows, schema.LABELS)


def opinions(labels: pa.Table) -> Opinions:
    """Teachers that are sure of most; they take cats for dogs, and find the first ten hard."""
    ids = labels["label_id"].to_pylist()
    probs = np.full((len(ids), 3), 0.01)
    for at, label in enumerate(labels["label"].to_pylist()):
        own = CLASSES.index(label)
        probs[at, own] = 0.97 if at >= 10 else 0.5
        if label == "cat":
            probs[at, 1] += 0.1
        if at < 10:
            probs[at, (own + 1) % 3] += 0.35
    return Opinions({one: at for at, one in enumerate(ids)}, probs / probs.sum(axis=1, keepdims=True), CLASSES)


@pytest.mark.parametrize("task", ["classification", "detection", "segmentation", "tracking"])
@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 1000), order=st.randoms(use_true_random=False))
def test_row_order_leaves_no_trace_and_what_was_given_is_not_changed(task: str, seed: int, order: Any) -> None:  # noqa: ANN401
    labels = pictures(60) if task == "classification" else boxes(20, task=task)
    kept = labels.to_pylist()
    mixed = list(range(labels.num_rows))
    order.shuffle(mixed)
    arguments: dict[str, Any] = {"share": 0.1, "classes": CLASSES, "seed": seed}
    kinds = [kind for kind in kinds_for(labels) if kind not in {"hard", "class"}]
    one = corrupt(labels, kinds, **arguments)
    other = corrupt(labels.take(pa.array(mixed)), kinds, **arguments)
    assert one.labels == other.labels
    assert one.planted == other.planted
    assert labels.to_pylist() == kept
    planted = set(one.planted["label_id"].to_pylist())
    assert len(planted) == one.planted.num_rows
    before, after = ({row["label_id"]: row for row in rows} for rows in (kept, one.labels.to_pylist()))
    switched = {row["sample_id"] for row in one.planted.to_pylist() if row["kind"] == "switch"}
    for label_id in before.keys() & after.keys() - planted:
        same = before[label_id] == after[label_id]
        assert same or (
            switched and before[label_id] | {"track_id": after[label_id]["track_id"]} == after[label_id]
        )
    assert before.keys() ^ after.keys() <= planted


def test_each_kind_of_wrong_class_follows_its_rule() -> None:
    labels = pictures(300)
    found = corrupt(labels, ["hard", "class", "uniform"], share=0.1, classes=CLASSES, opinions=opinions(labels))
    rows = found.planted.to_pylist()
    assert Counter(row["kind"] for row in rows) == {"hard": 30, "class": 30, "uniform": 30}
    assert all(row["from_label"] != row["to_label"] for row in rows)
    now = dict(zip(found.labels["label_id"].to_pylist(), found.labels["label"].to_pylist(), strict=True))
    assert all(now[row["label_id"]] == row["to_label"] for row in rows)
    assert {row["label_id"] for row in rows if row["kind"] == "hard"} >= {f"l{i:04}" for i in range(10)}
    cats = [row["to_label"] for row in rows if (row["kind"], row["from_label"]) == ("class", "cat")]
    assert cats.count("dog") > cats.count("eel")


def test_boxes_are_dropped_moved_swapped_and_invented() -> None:
    labels = boxes()
    given = {row["label_id"]: row for row in labels.to_pylist()}
    found = corrupt(labels, kinds_for(labels), share=0.05, classes=CLASSES)
    now = {row["label_id"]: row for row in found.labels.to_pylist()}
    rows = found.planted.to_pylist()
    assert set(Counter(row["kind"] for row in rows)) == {"drop", "shift", "swap", "invent"}
    for row in rows:
        one = row["label_id"]
        if row["kind"] == "drop":
            assert one not in now
            assert row["bbox"] == given[one]["bbox"]
        elif row["kind"] == "shift":
            assert IOU_RANGE[0] - 1e-6 <= iou(now[one]["bbox"], given[one]["bbox"]) <= IOU_RANGE[1] + 1e-6
        elif row["kind"] == "swap":
            assert now[one]["bbox"] == given[one]["bbox"]
            assert now[one]["label"] != given[one]["label"]
        else:
            assert one not in given
            others = [r for r in now.values() if r["sample_id"] == row["sample_id"] and r["label_id"] != one]
            assert all(iou(r["bbox"], now[one]["bbox"]) <= 0.1 for r in others)
    assert {row["sample_id"] for row in now.values()} == {row["sample_id"] for row in given.values()}


@given(st.tuples(st.floats(0, 0.9), st.floats(0, 0.9), st.floats(0.01, 1), st.floats(0.01, 1)), st.text(max_size=5))
def test_a_moved_box_stays_in_the_image_at_an_overlap_that_is_wrong(box: tuple[float, ...], salt: str) -> None:
    x, y, w, h = box
    given_box = [x, y, min(w, 1 - x), min(h, 1 - y)]
    moved = shifted(given_box, salt)
    assert moved[0] >= -1e-6
    assert moved[1] >= -1e-6
    assert moved[0] + moved[2] <= 1 + 1e-6
    assert moved[1] + moved[3] <= 1 + 1e-6
    assert IOU_RANGE[0] - 1e-6 <= iou(moved, given_box) <= IOU_RANGE[1] + 1e-6


def test_masks_are_eroded() -> None:
    labels = boxes(task="segmentation")
    given = {row["label_id"]: row for row in labels.to_pylist()}
    found = corrupt(labels, ["erode"], share=0.05, classes=CLASSES)
    now = {row["label_id"]: row for row in found.labels.to_pylist()}
    assert found.planted.num_rows == 6
    for one in found.planted["label_id"].to_pylist():
        before, after = given[one]["mask"], now[one]["mask"]
        assert 0 < area_of_mask(after) <= 0.6 * area_of_mask(before)
        assert not (decode_mask(after) & ~decode_mask(before)).any()


def test_tracks_exchange_their_ids_from_a_frame_on() -> None:
    labels = boxes(task="tracking")
    found = corrupt(labels, ["switch"], share=0.05, classes=CLASSES)
    begins = found.planted.to_pylist()
    assert len(begins) == 2
    frames = {int(row["sample_id"][1:]) for row in begins}
    assert len(frames) == 1
    start = frames.pop()
    given = {row["label_id"]: row for row in labels.to_pylist()}
    changed = [r for r in found.labels.to_pylist() if r["track_id"] != given[r["label_id"]]["track_id"]]
    assert {row["frame"] for row in changed} == set(range(start, 40))
    assert len({given[row["label_id"]]["track_id"] for row in changed}) == 2
    per_frame = Counter((row["frame"], row["track_id"]) for row in found.labels.to_pylist())
    assert set(per_frame.values()) == {1}


@pytest.mark.parametrize(
    ("kinds", "share", "said"),
    [
        (["uniform"], 0.9, "at most"),
        (["hard"], 0.05, "need teachers"),
        (["hard", "class", "uniform"], 0.25, "spoil"),
    ],
)
def test_what_cannot_be_planted_is_refused(kinds: list[str], share: float, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        corrupt(pictures(30), kinds, share=share, classes=CLASSES)


def test_a_kind_that_does_not_exist_or_does_not_fit_is_named() -> None:
    with pytest.raises(ConfigError, match="Did you mean 'uniform'"):
        kinds_for(pictures(5), ["unifrom"])
    with pytest.raises(ConfigError, match="'erode' is for segmentation"):
        kinds_for(pictures(5), ["erode"])
    assert kinds_for(boxes(2)) == ["drop", "shift", "swap", "invent"]
    assert {kind for kind, (tasks, _) in KINDS.items() if "tracking" in tasks} >= {"switch"}


def test_a_dropped_box_is_found_by_the_riskiest_place_that_overlaps_it_once() -> None:
    labels = boxes(2)
    box = [0.5, 0.5, 0.2, 0.2]
    planted = schema.table_from_rows(
        [{"label_id": "gone", "sample_id": "s000", "kind": "drop", "from_label": "cat", "bbox": box}],
        corrupt(labels, ["swap"], share=0.1, classes=CLASSES).planted.schema,
    )
    places = [
        {"finding_id": f"f{i}", "check": "x", "issue": "missing", "sample_id": sample, "risk": risk}
        | {"suggested_bbox": place, "reason_code": "x", "reason_args": "{}"}
        for i, (sample, risk, place) in enumerate(
            [
                ("s000", 0.6, box),
                ("s000", 0.8, [0.51, 0.5, 0.2, 0.2]),
                ("s001", 0.9, box),
                ("s000", 0.7, [0, 0, 0.1, 0.1]),
            ]
        )
    ]
    missing = missing_places(schema.table_from_rows(places, schema.FINDINGS), Policy(rules=(RULE,)))
    rows = rows_of(labels, planted, {}, missing, set())
    listed = {row.id: (row.score, row.kind) for row in rows if row.score}
    assert listed == {"gone": (1.8, "drop"), "f2": (1.9, None), "f3": (1.7, None)}


def test_measures_count_what_a_reviewer_finds_within_the_budget() -> None:
    rows = [
        Row("a", 0.9, "uniform", before=False),
        Row("b", 0.8, None, before=True),
        Row("c", 0.7, None, before=False),
    ]
    rows += [Row("d", 0.6, "uniform", before=False), Row("e", 0.0, "uniform", before=False)]
    found = measure(rows, ["uniform"], budget=3)
    assert (found.n_listed, found.n_planted_in_budget) == (5, 1)
    assert found.precision.value == pytest.approx(1 / 3)
    assert found.precision_with_earlier.value == pytest.approx(2 / 3)
    kind = found.kinds[0]
    assert (kind.n, kind.n_in_budget) == (3, 1)
    assert kind.recall.low is not None
    assert kind.recall.high is not None
    assert kind.recall.low < 1 / 3 < kind.recall.high
    assert kind.average_precision.value == pytest.approx((1 + 0.5 + 3 / 5) / 3)
    assert kind.average_precision_without_earlier.value == pytest.approx((1 + 2 / 3 + 3 / 4) / 3)
    assert measure(rows, ["uniform"]).budget == 3


def test_the_list_goes_on_to_the_budget_by_risk_then_by_hash_and_each_kind_has_its_precision() -> None:
    rows = [
        Row("a", 1.9, "swap", before=False),
        Row("b", 1.8, None, before=True),
        Row("c", 1.7, None, before=False),
    ]
    rows += [Row("d", 0.3, "shift", before=False), Row("e", 0.2, None, before=False)]
    rows += [Row(f"z{at}", 0.0, None, before=False) for at in range(50)]
    found = measure(rows, ["swap", "shift"], budget=40)
    assert found.n_listed == 55
    assert found.precision.value == pytest.approx(2 / 40)
    assert measure(rows[::-1], ["swap", "shift"], budget=40) == found
    swap, shift = measure(rows, ["swap", "shift"], budget=4).kinds
    assert (swap.precision.value, swap.precision_without_earlier.value) == (
        pytest.approx(1 / 3),
        pytest.approx(1 / 2),
    )
    assert (shift.precision.value, shift.n_in_budget) == (pytest.approx(1 / 3), 1)
    assert (swap.precision.low or 0) < 1 / 3 < (swap.precision.high or 0)


def test_what_a_check_tells_for_the_order_alone_is_not_acted_on() -> None:
    base = {"check": "box_noise", "sample_id": "s", "issue": "swap", "reason_code": "x", "reason_args": "{}"}
    found = [
        base | {"finding_id": "1", "label_id": "a", "risk": 0.3, "flagged": True},
        base | {"finding_id": "2", "label_id": "b", "risk": 0.3, "flagged": False},
        base | {"finding_id": "3", "label_id": "c", "risk": 0.6, "flagged": False},
    ]
    policy = Policy(rules=(Rule(issue="swap", action="drop"),))
    scores = scores_by_label(schema.table_from_rows(found, schema.FINDINGS), policy, None, {"box_noise": 0.5})
    assert scores == {"a": 1.3, "b": 0.3, "c": 1.6}


def test_what_the_policy_acts_on_is_looked_at_first() -> None:
    base = {"check": "x", "sample_id": "s", "reason_code": "x", "reason_args": "{}"}
    found = [
        base | {"finding_id": "1", "issue": "mislabel", "label_id": "a", "risk": 0.9, "flagged": True},
        base | {"finding_id": "2", "issue": "track_jump", "label_id": "b", "risk": 1.0},
        base | {"finding_id": "3", "issue": "mislabel", "label_id": None, "risk": 1.0, "flagged": True},
    ]
    assert scores_by_label(schema.table_from_rows(found, schema.FINDINGS), Policy()) == {"a": 1.9, "b": 1.0}
