"""Soft labels of two versions: how far they are apart, whatever each stores of them, and why."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.manifest import diff, publish
from curate.manifest.diff_side import Side, rows_at
from curate.manifest.diff_soft import Form, apart, stored_differs
from curate.manifest.soft_layout import AskedLayout, encode, layout_for, sampling_offsets
from curate.manifest.verbs import ShownDiff
from curate.policy import Policy

Worlds = Callable[..., Any]
K = 12


def stored(probs: np.ndarray[Any, Any], asked: AskedLayout, known: np.ndarray[Any, Any]) -> tuple[pa.Table, Form]:
    n_classes = probs.shape[1]
    layout = layout_for(n_classes, asked, 3)
    offsets = sampling_offsets([str(at) for at in range(len(probs))], 0)
    columns = encode(probs.astype(np.float32), ~known, layout, offsets)
    form = Form(layout, tuple(f"c{at}" for at in range(n_classes)), False, {}, {}, {})  # noqa: FBT003 - not each alone
    return pa.table(columns, names=[field.name for field in layout.fields()]), form


def random_probs(seed: int, n: int) -> np.ndarray[Any, Any]:
    return np.random.default_rng(seed).dirichlet(np.full(K, 0.2), size=n)


@settings(max_examples=40, deadline=None)
@given(
    seeds=st.tuples(st.integers(0, 99), st.integers(0, 99)),
    layouts=st.tuples(*[st.sampled_from(["full", "top_k", "sampled"])] * 2),
)
def test_the_distance_is_a_bound_from_below_exact_where_all_is_stored(
    seeds: tuple[int, int], layouts: tuple[AskedLayout, AskedLayout]
) -> None:
    n = 9
    probs = [random_probs(seed, n) for seed in seeds]
    known = [np.arange(n) != 2, np.arange(n) != 5]
    (was, one), (now, other) = (stored(*side) for side in zip(probs, layouts, known, strict=True))
    found = apart(was, now, (one, other), one.classes)
    true = 0.5 * np.abs(probs[0] - probs[1]).sum(axis=1)
    assert found[2] == found[5] == 1.0  # only one of both has any
    both = known[0] & known[1]
    assert (found[both] <= true[both] + 2e-3).all()
    if set(layouts) == {"full"}:
        np.testing.assert_allclose(found[both], true[both], atol=2e-3)
    assert (found == apart(now, was, (other, one), one.classes)).all()
    if seeds[0] == seeds[1]:
        assert (found[both] <= 2e-3).all()


def test_classes_are_matched_by_name() -> None:
    probs = random_probs(0, 6)
    was, form = stored(probs, "full", np.ones(6, dtype=np.bool_))
    now, _ = stored(probs[:, ::-1], "full", np.ones(6, dtype=np.bool_))
    turned = Form(form.layout, form.classes[::-1], False, {}, {}, {})  # noqa: FBT003 - not each alone
    assert apart(was, now, (form, turned), form.classes).max() <= 2e-3
    assert form.causes(turned) == ["classes_changed"]
    assert apart(was, now, (form, form), form.classes).max() > 0.1


def test_what_is_null_differs_from_what_is_not_and_values_by_their_bits() -> None:
    kind = pa.list_(pa.float16(), 1)
    one = pa.table(
        {"a": pa.array([[0.0], None, None, [0.5]], kind), "b": pa.array([1.0, None, 2.0, 3.0], pa.float16())}
    )
    other = pa.table(
        {"a": pa.array([[0.0], None, [0.0], [0.25]], kind), "b": pa.array([1.0, None, 2.0, 3.0], pa.float16())}
    )
    assert stored_differs(one, other, ["a", "b"]).tolist() == [False, False, True, True]
    assert stored_differs(one.slice(2), other.slice(2), ["a"]).tolist() == [True, True]
    assert stored_differs(one, other.drop_columns("b"), ["b"]).all()


def test_rows_are_read_where_they_lie(world: Worlds, tmp_path: Path) -> None:
    side = Side.of(publish(world().release(), tmp_path, "zoo").path)
    groups = side.groups("data", but=set())
    ids = side.table("data")["label_id"].to_pylist()
    with ThreadPoolExecutor(2) as pool:
        found = rows_at(groups, np.array([7, 0, 3, 3]), ["label_id"], pool)
    assert found["label_id"].to_pylist() == [ids[at] for at in (7, 0, 3, 3)]


def test_soft_labels_that_moved_are_told_with_both_and_the_cause(world: Worlds, tmp_path: Path) -> None:
    before, after = world().release(), world(seed=1).release()
    old, new = (publish(one, tmp_path, "zoo").path for one in (before, after))
    found = diff(old, new)
    told = [row for row in found.rows.to_pylist() if row["change"] == "soft label changed"]
    probs = [np.array(side.soft["probs"].combine_chunks().to_pylist(), dtype=object) for side in (before, after)]
    ids = before.data["label_id"].to_pylist()
    far = {
        label: 0.5 * float(np.abs(np.array(p, float) - np.array(q, float)).sum())
        for label, p, q in zip(ids, *probs, strict=True)
        if p is not None
    }
    assert {row["label_id"] for row in told} == {label for label, one in far.items() if one >= 0.05}
    soft = dict(zip(ids, probs[0], strict=True))
    for row in told:
        name, prob = row["before"].split(", ")[0].split(" ")
        assert float(prob) == pytest.approx(max(soft[row["label_id"]]), abs=6e-3)
        assert ("cat", "dog", "fox")[int(np.argmax(soft[row["label_id"]]))] == name
        assert row["causes"] == ["answers_changed"]
    summary = found.summary["soft"]["soft label changed"]
    assert summary == {"n_compared": len(ids), "n_differ": len(far)}
    lines = ShownDiff(found, 2).lines()
    assert (
        f"soft labels: {len(far)} of {len(ids)} compared differ, {len(told)} by 0.05 or more (--soft-from)" in lines
    )
    assert any("because of other answers of the same teachers" in line for line in lines)
    every = diff(old, new, soft_from=0.0).summary["changes"]["soft label changed"]
    assert every == len(far) >= len(told)
    assert diff(old, new, soft_from=1.0).summary["changes"]["soft label changed"] == 0


def test_another_temperature_is_the_cause_and_rows_that_moved_are_no_partners(
    world: Worlds, tmp_path: Path
) -> None:
    policies = [
        Policy(release_review=False, temperature=temperature, use_default_gates=False) for temperature in (1.0, 3.0)
    ]
    before, after = world(policy=policies[0]), world(policy=policies[1], left_out=(4, 8), flagged={})
    old, new = (publish(one.release(), tmp_path, "zoo").path for one in (before, after))
    found = diff(old, new)
    told = [row for row in found.rows.to_pylist() if row["change"] == "soft label changed"]
    assert told
    assert {tuple(row["causes"]) for row in told} == {("soft_settings_changed",)}
    gone = {before.label_id(4), before.label_id(8)}
    assert not gone & {row["label_id"] for row in told}
    uris = {row["label_id"]: row["uri"] for row in publish_rows(new)}
    assert all(uris[row["label_id"]] == row["uri"] for row in told)
    assert pc.all(pc.is_valid(found.rows["uri"])).as_py()


def publish_rows(version: Path) -> list[dict[str, Any]]:
    return Side.of(version).table("data", ["label_id", "uri"]).to_pylist()


def test_the_same_numbers_under_another_class_list_are_not_the_same(world: Worlds, tmp_path: Path) -> None:
    before = world().release()
    turned = [*before.head["classes"][1:], before.head["classes"][0]]
    after = dataclasses.replace(before, head={**before.head, "classes": turned})
    old, new = (publish(one, tmp_path / name, "zoo").path for one, name in ((before, "a"), (after, "b")))
    told = [row for row in diff(old, new).rows.to_pylist() if row["change"] == "soft label changed"]
    assert told
    assert {tuple(row["causes"]) for row in told} == {("classes_changed",)}
