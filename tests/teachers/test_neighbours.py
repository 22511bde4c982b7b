from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from asked import ask, encoded, picture, shuffled
from hypothesis import given, settings
from hypothesis import strategies as st

from curate import schema
from curate.check import run_check
from curate.checks.label_noise import CHECK, LabelNoiseParams
from curate.reasons import render
from curate.spec import ProbesSpec
from curate.teachers import neighbours, predict_all
from curate.teachers.neighbours import count_labels, nearest_column, nearest_labels
from curate.teachers.probes import projection

CLASSES = ("across", "down")
PROBES = ProbesSpec(kind="probes", folds=4, classifiers=("linear",))


def by_hand(features: np.ndarray, labels: np.ndarray, families: np.ndarray, row: int, n: int) -> list[int]:
    """Return the labels of the n nearest rows, one of each other family, by one sort of all of them."""
    directions = features / np.linalg.norm(features, axis=1, keepdims=True)
    found: list[int] = []
    seen = {families[row]}
    for other in np.argsort(-(directions @ directions[row]), kind="stable"):
        if families[other] not in seen:
            seen.add(families[other])
            found.append(int(labels[other]))
    return found[:n]


@given(st.integers(0, 10_000), st.integers(2, 90), st.integers(1, 60))
@settings(max_examples=60, deadline=None)
def test_the_nearest_are_those_that_a_sort_of_everything_gives(seed: int, n: int, n_families: int) -> None:
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(n, 5)).astype(np.float32)
    labels, families = rng.integers(0, 4, n), rng.integers(0, n_families, n)
    nearest, n_searched = nearest_labels(features, labels, families, lambda matrix: matrix)
    assert n_searched == n
    for row in range(n):
        assert nearest[row][nearest[row] >= 0].tolist() == by_hand(features, labels, families, row, 30)


def test_blocks_and_a_bounded_search_change_only_what_they_say(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    features = rng.normal(size=(200, 6)).astype(np.float32)
    labels, families = rng.integers(0, 3, 200), np.arange(200)
    whole, _ = nearest_labels(features, labels, families, lambda matrix: matrix)
    monkeypatch.setattr(neighbours, "_BLOCK_CELLS", 1_000)
    np.testing.assert_array_equal(nearest_labels(features, labels, families, lambda matrix: matrix)[0], whole)
    monkeypatch.setattr(neighbours, "MAX_SEARCHED", 60)
    some, n_searched = nearest_labels(features, labels, families, lambda matrix: matrix)
    assert n_searched == 50
    for row in (0, 7, 199):
        among = np.union1d(np.arange(0, 200, 4), [row])
        place = int(np.searchsorted(among, row))
        told = by_hand(features[among], labels[among], families[among], place, 30)
        assert some[row][some[row] >= 0].tolist() == told


@given(st.lists(st.lists(st.integers(0, 3), max_size=30), min_size=1, max_size=12), st.data())
@settings(max_examples=40, deadline=None)
def test_counts_are_those_of_the_lists(lists: list[list[int]], data: st.DataObject) -> None:
    nearest = np.full((len(lists), 30), -1)
    for row, one in enumerate(lists):
        nearest[row, : len(one)] = one
    rows = np.sort(np.random.default_rng(0).permutation(len(lists) + 3)[: len(lists)])
    column = nearest_column(nearest, rows, len(lists) + 3, 99)
    assert column.type == schema.NEAREST
    column.validate(full=True)
    wanted = np.array(data.draw(st.lists(st.integers(-1, 3), min_size=len(column), max_size=len(column))))
    start = data.draw(st.integers(0, len(column)))
    n_same, n_near = count_labels(column[start:], wanted[start:], 4)
    full: list[list[int]] = [[] for _ in range(len(column))]
    for row, one in zip(rows, lists, strict=True):
        full[row] = one
    assert n_near.tolist() == [len(one) for one in full[start:]]
    assert n_same.tolist() == [one.count(int(w)) for one, w in zip(full[start:], wanted[start:], strict=True)]


def test_what_a_reason_says_of_neighbours_is_true_of_the_pictures(tmp_path: Path) -> None:
    """Wrong labels among drawings, one of them on five copies: the copies are no witnesses."""
    rng = np.random.default_rng(3)
    truth = np.array([0, 1] * 30)
    images = [encoded(picture(int(kind), rng)) for kind in truth]
    images += [images[0]] * 4
    labels = np.concatenate([truth, [0] * 4])
    labels[[0, 60, 61, 62, 63, 7]] = [1, 1, 1, 1, 1, 0]
    families = np.concatenate([np.arange(60), [0] * 4])
    request = replace(ask(tmp_path / "in", images, [CLASSES[at] for at in labels], CLASSES), families=families)
    told = predict_all([PROBES], request)
    column = told.table["nearest_probes_linear"].combine_chunks()
    view = pa.table(
        {
            "sample_id": request.labels["sample_id"],
            "label_id": told.table["label_id"],
            "label": request.labels["label"],
            "prob_probes_linear": told.table["prob_probes_linear"],
            "nearest_probes_linear": column,
        }
    )
    check = replace(CHECK, params=LabelNoiseParams(classes=CLASSES, flag_risk=0.5))
    findings = [row for row in run_check(check, view).findings.to_pylist() if row["issue"] == "mislabel"]
    place = {label_id: row for row, label_id in enumerate(view["label_id"].to_pylist())}
    assert {0, 7} <= {place[row["label_id"]] for row in findings}
    for row in findings:
        at = place[row["label_id"]]
        near = [CLASSES[k] for k in column[at].as_py()["classes"]]
        args = json.loads(row["reason_args"])
        n_same = near.count(args["suggested"])
        assert f"; {n_same} of the {len(near)} nearest of 64 images searched are labeled {args['suggested']}, " in (
            render(row["reason_code"], row["reason_args"])
        )
        assert near.count(args["given"]) == args["n_near_given"]
    first = column[0].as_py()["classes"]
    assert first.count(1) < 10  # not one of the four copies with the same wrong label, and few others


def test_row_order_leaves_no_trace(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    images = [encoded(picture(at % 2, rng)) for at in range(40)]
    request = ask(tmp_path / "in", images, ["across", "down"] * 20, CLASSES)
    order = np.random.default_rng(6).permutation(40)
    plain = predict_all([PROBES], request).table["nearest_probes_linear"].combine_chunks()
    other = predict_all([PROBES], shuffled(request, order)).table["nearest_probes_linear"].combine_chunks()
    assert plain.take(pa.array(order)).equals(other)


def test_the_projection_that_says_what_is_near_sees_no_label() -> None:
    features = np.random.default_rng(0).normal(size=(50, 8)).astype(np.float32)
    project = projection(features, 0)
    one, _ = nearest_labels(features, np.zeros(50, int), np.arange(50), project)
    two, _ = nearest_labels(features, np.arange(50), np.arange(50), project)
    assert (one >= 0).sum(axis=1).tolist() == (two >= 0).sum(axis=1).tolist() == [30] * 50


def test_an_older_reason_without_neighbours_reads_as_before() -> None:
    args = {
        "n_agree": 4,
        "n_teachers": 5,
        "suggested": "cat",
        "suggested_mean": 0.93,
        "given": "dog",
        "given_mean": 0,
    }
    assert render("teachers_disagree", args).endswith("the given label dog gets 0")
