"""The vectorised parts against the plain loops that they stand for."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.teachers.boxes import geometry
from curate.teachers.boxes.fuse import SAME_IOU, Detections, fuse
from curate.teachers.boxes.match import assign

QUICK = settings(max_examples=60, deadline=None, derandomize=True, database=None)
_side = st.integers(1, 6)
_box = st.tuples(st.integers(0, 8), st.integers(0, 8), _side, _side)
_placed = st.tuples(st.integers(0, 2), _box)


def slow_iou(a: tuple[int, ...], b: tuple[int, ...]) -> float:
    cells = [{(x, y) for x in range(c[0], c[0] + c[2]) for y in range(c[1], c[1] + c[3])} for c in (a, b)]
    return len(cells[0] & cells[1]) / len(cells[0] | cells[1])


@QUICK
@given(st.lists(_placed, max_size=8), st.lists(_placed, max_size=8), st.sampled_from([0.0, 0.2, 0.5]))
def test_overlaps_are_those_of_a_loop_over_all_pairs(
    left: list[tuple[int, tuple[int, ...]]], right: list[tuple[int, tuple[int, ...]]], least: float
) -> None:
    left, right = sorted(left), sorted(right)
    images = [np.array([image for image, _ in rows], dtype=np.int64) for rows in (left, right)]
    boxes = [np.array([box for _, box in rows], dtype=float).reshape(-1, 4) for rows in (left, right)]
    a, b, iou = geometry.overlaps(images[0], boxes[0], images[1], boxes[1], min_iou=least)
    expected = {
        (i, j): slow_iou(left[i][1], right[j][1])
        for i in range(len(left))
        for j in range(len(right))
        if left[i][0] == right[j][0] and slow_iou(left[i][1], right[j][1]) > least
    }
    assert dict(zip(zip(a.tolist(), b.tolist(), strict=True), iou.tolist(), strict=True)) == pytest.approx(expected)


def test_overlaps_do_not_depend_on_how_many_pairs_are_looked_at_together(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(0)
    image = np.sort(random.integers(7, size=60))
    boxes = random.uniform(0.1, 1, (60, 4))
    whole = geometry.overlaps(image, boxes, image, boxes, min_iou=0.1)
    monkeypatch.setattr(geometry, "PAIRS_AT_ONCE", 5)
    for one, other in zip(whole, geometry.overlaps(image, boxes, image, boxes, min_iou=0.1), strict=True):
        assert np.array_equal(one, other)


def slow_clusters(found: Detections) -> list[int]:
    """Greedy suppression as it is told: best first, each takes what is left of its neighbours."""
    order = sorted(range(len(found.prob)), key=lambda k: (-found.prob[k], k))
    leader = [-1] * len(order)
    for k in order:
        if leader[k] < 0:
            for other in range(len(order)):
                iou = geometry.iou_of(found.boxes[k], found.boxes[other])
                if leader[other] < 0 and found.image[k] == found.image[other] and (iou > SAME_IOU or k == other):
                    leader[other] = k
    return leader


@QUICK
@given(st.lists(st.tuples(_placed, st.integers(1, 9), st.integers(0, 1), st.integers(0, 2)), max_size=14))
def test_clusters_are_those_of_greedy_suppression(
    rows: list[tuple[tuple[int, tuple[int, ...]], int, int, int]],
) -> None:
    rows = sorted(rows)
    found = Detections(
        np.array([row[0][0] for row in rows], dtype=np.int64),
        np.array([row[0][1] for row in rows], dtype=float).reshape(-1, 4),
        np.array([row[3] for row in rows], dtype=np.int64),
        np.array([row[1] / 10 for row in rows]),
        np.array([row[1] / 10 for row in rows]),
        np.array([row[2] for row in rows], dtype=np.int64),
    )
    clusters = fuse(found, 2, 3)
    leaders = slow_clusters(found)
    assert len(clusters.image) == len(set(leaders))
    best = sorted(
        (
            int(found.image[k]),
            *(max([found.prob[m] for m in members if found.teacher[m] == t], default=0.0) for t in (0, 1)),
        )
        for k in set(leaders)
        for members in [[m for m, leader in enumerate(leaders) if leader == k]]
    )
    assert best == sorted(
        (int(image), *probs) for image, probs in zip(clusters.image, clusters.probs.tolist(), strict=True)
    )
    assert (clusters.spread >= 0).all()
    assert (clusters.spread <= 1).all()


@QUICK
@given(st.dictionaries(st.tuples(st.integers(0, 3), st.integers(0, 3)), st.integers(1, 20), max_size=9))
def test_the_match_has_the_largest_total_worth(edges: dict[tuple[int, int], int]) -> None:
    pairs = sorted(edges)
    a, b = (np.array([pair[side] for pair in pairs], dtype=np.int64) for side in (0, 1))
    worth = np.array([edges[pair] for pair in pairs], dtype=float)
    chosen = assign(4, 4, a, b, worth)
    used = [row for row in chosen.tolist() if row >= 0]
    assert all(a[row] == place for place, row in enumerate(chosen.tolist()) if row >= 0)
    assert len({b[row] for row in used}) == len(used)
    best = max(sum(edges.get((i, j), 0) for i, j in enumerate(order)) for order in permutations(range(4)))
    assert worth[used].sum() == best
