from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.errors import InputError
from curate.manifest.soft import soft_labels, soft_schema
from curate.manifest.soft_layout import TOP_K, Layout, encode, layout_for, sampling_offsets

WHOLE = 2 * TOP_K + 1  # up to here full takes no more bytes than top_k


def predictions(**teachers: Any) -> pa.Table:  # noqa: ANN401 - array-likes
    columns: dict[str, Any] = {}
    for name, values in teachers.items():
        probs = np.asarray(values, dtype=np.float16)
        columns["label_id"] = pa.array([f"l{i}" for i in range(len(probs))])
        columns[f"prob_{name}"] = pa.FixedSizeListArray.from_arrays(pa.array(probs.ravel()), probs.shape[1])
    return pa.table(columns)


def rows(*label_ids: str | None) -> pa.Table:
    return pa.table(
        {"sample_id": pa.array([f"s-{i}" for i in label_ids]), "label_id": pa.array(label_ids, pa.string())}
    )


def test_the_ensemble_is_the_weighted_mean() -> None:
    made = predictions(a=[[0.8, 0.2]], b=[[0.4, 0.6]])
    plain = soft_labels(rows("l0"), made, ("x", "y"))["probs"][0].as_py()
    assert plain == pytest.approx([0.6, 0.4], abs=1e-3)
    weighted = soft_labels(rows("l0"), made, ("x", "y"), weights={"a": 3, "b": 1})["probs"][0].as_py()
    assert weighted == pytest.approx([0.7, 0.3], abs=1e-3)
    alone = soft_labels(rows("l0"), made, ("x", "y"), weights={"a": 1})["probs"][0].as_py()
    assert alone == pytest.approx([0.8, 0.2], abs=1e-3)


def test_a_teacher_without_an_answer_leaves_the_others_their_say() -> None:
    made = predictions(a=[[0.8, 0.2], [0.5, 0.5]], b=[[0.4, 0.6], [0.0, 1.0]])
    column = pa.FixedSizeListArray.from_arrays(
        pa.array(np.asarray([0.4, 0.6, 0, 0], dtype=np.float16)), 2, mask=pa.array([False, True])
    )
    made = made.set_column(made.schema.get_field_index("prob_b"), "prob_b", column)
    got = soft_labels(rows("l1", "l0", "l9", None), made, ("x", "y"))["probs"].to_pylist()
    assert got[0] == pytest.approx([0.5, 0.5], abs=1e-3)
    assert got[1] == pytest.approx([0.6, 0.4], abs=1e-3)
    assert got[2:] == [None, None]


def test_temperature_softens_before_anything_is_cut() -> None:
    soft = soft_labels(rows("l0"), predictions(a=[[0.9, 0.1]]), ("x", "y"), temperature=2.0)["probs"][0].as_py()
    root = np.sqrt([0.9, 0.1])
    assert soft == pytest.approx((root / root.sum()).tolist(), abs=1e-3)


def test_many_classes_are_stored_as_the_top_ones_and_the_rest() -> None:
    k = 100
    probs = np.random.default_rng(0).dirichlet(np.full(k, 0.1), size=5)
    table = soft_labels(rows("l3", None, "l0"), predictions(a=probs), [f"c{i}" for i in range(k)])
    assert table.schema.equals(soft_schema(layout_for(k)))
    row = table.to_pylist()[0]
    half = probs[3].astype(np.float16).astype(float)
    order = np.argsort(-half, kind="stable")[:TOP_K]
    np.testing.assert_allclose(row["top_probs"], np.sort(half)[::-1][:TOP_K] / half.sum(), rtol=2e-3)
    assert set(row["top_classes"][:5]) == set(order[:5].tolist())
    assert sum(row["top_probs"]) + row["tail_mass"] == pytest.approx(1.0, abs=5e-3)
    assert table["top_probs"][1].as_py() is None
    assert table["tail_mass"][1].as_py() is None


def test_ties_go_to_the_lower_class() -> None:
    table = soft_labels(rows("l0"), predictions(a=np.full((1, 80), 1 / 80)), [str(i) for i in range(80)])
    assert table["top_classes"][0].as_py() == list(range(TOP_K))


def test_what_does_not_fit_is_an_error_with_the_numbers() -> None:
    made = predictions(a=[[0.5, 0.5]])
    with pytest.raises(InputError, match="prob_a needs 3 probabilities a row"):
        soft_labels(rows("l0"), made, ("x", "y", "z"))
    with pytest.raises(InputError, match="for teachers among: a"):
        soft_labels(rows("l0"), made, ("x", "y"), weights={"b": 1.0})
    with pytest.raises(InputError, match="for teachers among: a"):
        soft_labels(rows("l0"), made, ("x", "y"), weights={"a": 0.0})
    for bad in ([[np.nan, 1.0]], [[-0.5, 1.5]], [[0.0, 0.0]]):
        with pytest.raises(InputError, match="prob_a holds a row with NaN"):
            soft_labels(rows("l0"), predictions(a=bad), ("x", "y"))


@settings(max_examples=25, deadline=None)
@given(k=st.integers(2, 90), n=st.integers(0, 20), seed=st.integers(0, 99))
def test_laws(k: int, n: int, seed: int) -> None:
    generator = np.random.default_rng(seed)
    made = predictions(
        a=generator.dirichlet(np.ones(k), size=max(n, 1)), b=generator.dirichlet(np.ones(k), size=max(n, 1))
    )
    wanted = rows(*[f"l{i}" for i in range(n)])
    classes = [str(i) for i in range(k)]
    table = soft_labels(wanted, made, classes)
    assert table.num_rows == n
    shuffled = made.take(pa.array(generator.permutation(made.num_rows)))
    assert table.equals(soft_labels(wanted, shuffled, classes))
    for row in table.to_pylist():
        listed = row["probs"] if k <= WHOLE else row["top_probs"]
        total = sum(listed) + (0.0 if k <= WHOLE else row["tail_mass"])
        assert total == pytest.approx(1.0, abs=0.02)
        assert min(listed) >= 0
        if k > WHOLE:
            assert listed == sorted(listed, reverse=True)
            assert len(set(row["top_classes"])) == TOP_K


@pytest.mark.parametrize(
    ("n_classes", "asked", "top_k", "expected"),
    [
        (10, "auto", 32, "full"),
        (65, "auto", 32, "full"),  # 130 bytes either way
        (66, "auto", 32, "top_k"),
        (1000, "auto", 32, "top_k"),
        (1000, "full", 32, "full"),
        (1000, "sampled", 32, "sampled"),
        (20, "auto", 4, "top_k"),
        (4, "top_k", 4, "full"),  # nothing would be left out
        (3, "sampled", 32, "full"),
    ],
)
def test_the_layout_is_the_smaller_one(n_classes: int, asked: Any, top_k: int, expected: str) -> None:  # noqa: ANN401 - a literal
    assert layout_for(n_classes, asked, top_k).name == expected


def test_classes_beyond_sixteen_bits_keep_their_number() -> None:
    layout = layout_for(70_000, top_k=2)
    probs = np.zeros((1, 70_000), dtype=np.float32)
    probs[0, [69_999, 3]] = 0.75, 0.25
    classes, kept, tail = encode(probs, np.zeros(1, bool), layout, np.zeros(1))
    assert (classes.to_pylist(), kept.to_pylist(), tail.to_pylist()) == ([[69_999, 3]], [[0.75, 0.25]], [0.0])


def test_each_teacher_is_stored_beside_the_ensemble_if_asked_for() -> None:
    made = predictions(a=[[0.8, 0.2]], b=[[0.4, 0.6]], c=[[0.0, 1.0]])
    table = soft_labels(rows("l0"), made, ("x", "y"), weights={"a": 1, "b": 1, "c": 0}, each_teacher=True)
    assert [name for name in table.column_names if name.startswith("probs")] == ["probs", "probs_a", "probs_b"]
    assert table["probs_a"][0].as_py() == pytest.approx([0.8, 0.2], abs=1e-3)
    assert table["probs"][0].as_py() == pytest.approx([0.6, 0.4], abs=1e-3)


def test_a_row_says_for_which_image_it_was_made() -> None:
    made = predictions(a=[[0.8, 0.2]]).append_column("content_sha256", pa.array(["ff" * 8 + "00" * 24]))
    assert soft_labels(rows("l0", "l1"), made, ("x", "y"))["made_for"].to_pylist() == [2**64 - 1, None]


def draws(probs: Any, n_draws: int, seed: int) -> tuple[Any, Any]:  # noqa: ANN401 - array-likes
    """Return the (n, K) estimate of the probabilities that the sampled layout stores, and its tail mass."""
    n, k = probs.shape
    layout = Layout("sampled", k, 2, n_draws)
    keys = [f"row-{i}" for i in range(n)]
    columns = encode(probs, np.zeros(n, bool), layout, sampling_offsets(keys, seed))
    classes, kept, tail, drawn = (np.asarray(c.to_pylist(), dtype=float) for c in columns)
    estimate = np.zeros((n, k))
    np.put_along_axis(estimate, classes.astype(int), kept, axis=1)
    for row in range(n):
        np.add.at(estimate[row], drawn[row].astype(int), tail[row] / n_draws)
    return estimate, tail


def test_the_sampled_tail_is_unbiased_and_the_top_alone_is_not() -> None:
    one = np.random.default_rng(3).dirichlet(np.full(30, 0.5)).astype(np.float32)
    probs = np.repeat(one[None], 4000, axis=0)
    estimate, _ = draws(probs, 4, seed=0)
    error = estimate.mean(axis=0) - one
    spread = estimate.std(axis=0) / np.sqrt(len(probs))
    assert (np.abs(error) <= 5 * spread + 1e-3 * one + 1e-5).all()  # the rest is the rounding to float16
    assert one[np.argsort(-one)[2:]].sum() > 0.3  # what top-k of two would have cut off


@settings(max_examples=30, deadline=None)
@given(k=st.integers(4, 40), n=st.integers(1, 12), m=st.integers(1, 9), seed=st.integers(0, 99))
def test_draws_are_of_the_tail_and_depend_on_the_id_only(k: int, n: int, m: int, seed: int) -> None:
    generator = np.random.default_rng(seed)
    probs = generator.dirichlet(np.full(k, 0.3), size=n).astype(np.float32)
    probs[0] = 0
    probs[0, 1] = 1  # nothing is left to draw from
    layout = Layout("sampled", k, 2, m)
    keys = [f"row-{i}" for i in range(n)]
    columns = encode(probs, np.zeros(n, bool), layout, sampling_offsets(keys, seed))
    again = encode(probs[::-1], np.zeros(n, bool), layout, sampling_offsets(keys[::-1], seed))
    assert columns[3].to_pylist() == again[3].to_pylist()[::-1]
    for row, (top, tail, drawn) in enumerate(
        zip(columns[0].to_pylist(), columns[2].to_pylist(), columns[3].to_pylist(), strict=True)
    ):
        assert len(drawn) == m
        assert tail == 0 or set(drawn).isdisjoint(top)
        assert tail == 0 or (probs[row, drawn] > 0).all()
