from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.errors import InputError
from curate.manifest.soft import TOP_K, soft_labels, soft_schema


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
    assert table.schema.equals(soft_schema(k))
    row = table.to_pylist()[0]
    half = probs[3].astype(np.float16).astype(float)
    order = np.argsort(-half, kind="stable")[:TOP_K]
    np.testing.assert_allclose(row["top_probs"], np.sort(half)[::-1][:TOP_K] / half.sum(), rtol=2e-3)
    assert set(row["top_classes"][:5]) == set(order[:5].tolist())
    assert sum(row["top_probs"]) + row["tail_mass"] == pytest.approx(1.0, abs=5e-3)
    assert table["top_probs"][1].as_py() is None
    assert table["tail_mass"][1].as_py() is None


def test_ties_go_to_the_lower_class() -> None:
    table = soft_labels(rows("l0"), predictions(a=np.full((1, 40), 1 / 40)), [str(i) for i in range(40)])
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
@given(k=st.integers(2, 70), n=st.integers(0, 20), seed=st.integers(0, 99))
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
        listed = row["probs"] if k <= TOP_K else row["top_probs"]
        total = sum(listed) + (0.0 if k <= TOP_K else row["tail_mass"])
        assert total == pytest.approx(1.0, abs=0.02)
        assert min(listed) >= 0
        if k > TOP_K:
            assert listed == sorted(listed, reverse=True)
            assert len(set(row["top_classes"])) == TOP_K
