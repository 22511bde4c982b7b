from __future__ import annotations

import itertools
import json

import numpy as np
import pytest
from checks_views import found, label, labels_view, sample, statistic
from hypothesis import given
from hypothesis import strategies as st

from curate.check import run_check
from curate.checks.box_sanity import CHECK
from curate.checks.boxes import overlapping_pairs

IMAGE = sample(0, width_px=100, height_px=100)


def _box(number: int, *bbox: float, **values: object) -> dict[str, object]:
    return label(number, IMAGE, **{"task": "detection", "bbox": list(bbox), **values})


@pytest.mark.parametrize(
    ("bbox", "issues", "code"),
    [
        ((0.1, 0.1, 0.3, 0.3), [], None),
        ((float("nan"), 0.1, 0.3, 0.3), ["invalid_box"], "box_not_finite"),
        ((0.1, 0.1, float("inf"), 0.3), ["invalid_box"], "box_not_finite"),
        ((0.1, 0.1, -0.2, 0.3), ["invalid_box"], "box_without_area"),
        ((1.2, 0.1, 0.3, 0.3), ["invalid_box"], "box_outside_image"),
        ((0.8, 0.1, 0.4, 0.4), ["box_outside"], "box_partly_outside"),
        ((-0.005, 0.1, 0.3, 0.3), [], None),
        ((0.1, 0.1, 0.02, 0.02), ["tiny_box"], "tiny_box"),
        ((0.0, 0.1, 1.0, 0.05), ["extreme_aspect_box"], "extreme_aspect_box"),
        ((0.0, 0.0, 1.0, 1.0), ["huge_box"], "huge_box"),
    ],
)
def test_single_boxes(bbox: tuple[float, ...], issues: list[str], code: str | None) -> None:
    findings = run_check(CHECK, labels_view([_box(0, *bbox)])).findings.to_pylist()
    assert [row["issue"] for row in findings] == issues
    assert [row["reason_code"] for row in findings] == ([code] if code else [])


def test_a_side_that_is_all_but_zero_has_a_ratio_that_can_be_written() -> None:
    result = run_check(CHECK, labels_view([_box(0, 0.0, 0.0, 1.2e-308, 1.0)]))
    (row,) = found(result.findings, "extreme_aspect_box")
    assert row["risk"] == pytest.approx(1.0)


def test_risk_follows_how_much_is_outside() -> None:
    rows = [_box(0, 0.8, 0.1, 0.4, 0.2), _box(1, 0.9, 0.5, 0.4, 0.2)]
    half, more = sorted(row["risk"] for row in run_check(CHECK, labels_view(rows)).findings.to_pylist())
    assert (half, more) == pytest.approx((0.5, 0.75))


def test_of_a_box_drawn_twice_one_stays_and_other_annotators_do_not_count() -> None:
    rows = [
        _box(0, 0.1, 0.1, 0.3, 0.3),
        _box(1, 0.1, 0.1, 0.3, 0.301),
        _box(2, 0.1, 0.1, 0.3, 0.3, annotator="second"),
        _box(3, 0.1, 0.1, 0.3, 0.3) | {"sample_id": sample(1)["sample_id"]},
    ]
    (twice,) = run_check(CHECK, labels_view(rows)).findings.to_pylist()
    assert (twice["issue"], twice["label_id"]) == ("duplicate_box", max(rows[0]["label_id"], rows[1]["label_id"]))


def test_two_classes_on_one_box_are_named_on_both() -> None:
    rows = [_box(0, 0.1, 0.1, 0.3, 0.3), _box(1, 0.1, 0.1, 0.3, 0.3, label="dog")]
    result = run_check(CHECK, labels_view(rows))
    assert len(found(result.findings, "conflicting_box")) == 2
    assert statistic(result.statistics, "share_with_finding", "issue=conflicting_box")["value"] == 1.0


def test_pairs_are_those_of_brute_force() -> None:
    rng = np.random.default_rng(0)
    things = rng.uniform([0, 0, 0.05, 0.05], 0.75, (60, 4))
    boxes = np.repeat(things, 5, axis=0) + rng.normal(0, 0.004, (300, 4))
    image = rng.integers(0, 3, 300)
    left, right, iou, is_complete = overlapping_pairs(image, boxes, 0.9)
    got = {(min(a, b), max(a, b)): v for a, b, v in zip(left.tolist(), right.tolist(), iou.tolist(), strict=True)}
    expected = {}
    for a, b in itertools.combinations(range(300), 2):
        (xa, ya, wa, ha), (xb, yb, wb, hb) = boxes[a], boxes[b]
        shared = max(0, min(xa + wa, xb + wb) - max(xa, xb)) * max(0, min(ya + ha, yb + hb) - max(ya, yb))
        value = shared / (wa * ha + wb * hb - shared)
        if image[a] == image[b] and value >= 0.9:
            expected[a, b] = value
    assert is_complete
    assert expected
    assert got == pytest.approx(expected)


def test_a_crowd_of_equal_boxes_is_cut_and_said() -> None:
    boxes = np.tile([[0.1, 0.1, 0.2, 0.2]], (100, 1))
    assert not overlapping_pairs(np.zeros(100, dtype=np.int64), boxes, 0.9, max_steps=10)[3]


@given(st.lists(st.tuples(*[st.floats(0, 0.02)] * 4, st.sampled_from(("cat", "dog"))), max_size=8))
def test_every_duplicate_repeats_a_box_that_stays(moves: list[tuple[float, float, float, float, str]]) -> None:
    rows = [_box(at, 0.1 + x, 0.1 + y, 0.3 + w, 0.3 + h, label=name) for at, (x, y, w, h, name) in enumerate(moves)]
    twice = found(run_check(CHECK, labels_view(rows)).findings, "duplicate_box")
    leaving = {row["label_id"] for row in twice}
    kept = {json.loads(row["reason_args"])["kept"] for row in twice}
    assert not kept & leaving
    assert kept <= {row["label_id"] for row in rows}
