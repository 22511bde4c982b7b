from __future__ import annotations

import numpy as np
import pytest

from curate.teachers.boxes.evidence import NEAR_IOU
from curate.teachers.boxes.fuse import Detections, Given
from curate.teachers.boxes.geometry import Floats, overlaps
from curate.teachers.boxes.merges import LEAST, merge_numbers

LEFT, RIGHT, BOTH = [0.2, 0.2, 0.2, 0.2], [0.38, 0.2, 0.2, 0.2], [0.2, 0.2, 0.38, 0.2]


def given(*boxes: list[float]) -> Given:
    n = len(boxes)
    none = np.zeros(n, dtype=np.int64)
    return Given(none, np.array(boxes).reshape(-1, 4), none, np.arange(n, dtype=np.uint64))


def found(*boxes: list[float], prob: float = 0.8) -> Detections:
    n = len(boxes)
    none = np.zeros(n, dtype=np.int64)
    probs = np.full(n, prob)
    return Detections(none, np.array(boxes).reshape(-1, 4), none, probs, probs, none)


def numbers_of(boxes: Given, seen: Detections, n_teachers: int) -> list[Floats]:
    near = overlaps(boxes.image, boxes.boxes, seen.image, seen.boxes, min_iou=NEAR_IOU)
    return merge_numbers(boxes, seen, near, n_teachers)


def test_one_box_round_two_labels_is_a_merge_for_both() -> None:
    merged, held, split = numbers_of(given(LEFT, RIGHT), found(BOTH), 1)
    alone = 0.2 / 0.38  # IoU of each with the box round both
    assert merged == pytest.approx([0.8 * (1 - alone)] * 2)
    assert np.exp(held) - LEAST == pytest.approx([0.8, 0.8])
    assert split.tolist() == [0, 0]


def test_two_boxes_inside_one_label_are_a_split() -> None:
    merged, _, split = numbers_of(given(BOTH), found(LEFT, RIGHT), 1)
    assert merged.tolist() == [0]
    assert split == pytest.approx([0.8 * (1 - 0.2 / 0.38)])


def test_boxes_that_fit_one_to_one_are_neither() -> None:
    merged, held, split = numbers_of(given(LEFT, RIGHT), found(LEFT, RIGHT), 1)
    assert merged.tolist() == split.tolist() == [0, 0]
    assert np.exp(held) == pytest.approx([LEAST] * 2)


def test_a_label_drawn_twice_is_no_merge() -> None:
    twice = [0.22, 0.2, 0.2, 0.2]
    merged, _, _ = numbers_of(given(LEFT, twice), found([0.2, 0.2, 0.22, 0.2]), 1)
    assert merged.tolist() == [0, 0]


def test_what_one_of_two_teachers_says_counts_half() -> None:
    both = numbers_of(given(LEFT, RIGHT), found(BOTH), 2)[0]
    assert both == pytest.approx(numbers_of(given(LEFT, RIGHT), found(BOTH), 1)[0] / 2)


def test_nothing_given_and_nothing_found() -> None:
    assert [len(column) for column in numbers_of(given(), found(), 1)] == [0, 0, 0]
    assert [column.shape for column in numbers_of(given(LEFT), found(), 2)] == [(1,)] * 3
