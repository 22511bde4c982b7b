"""In which order rows are to be looked at: `rank` follows risk, and equal risks follow a hash of the id."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curate.teachers.flag_ranks import ranks_of
from curate.teachers.flag_table import flag_table

CLASSES = ("a", "b", "c")
N = 600


def coarse(*, several: bool) -> pa.Table:
    """Rows whose probabilities are multiples of a tenth, so that many have the same risk; one has no label."""
    random = np.random.default_rng(0)
    truth = random.integers(3, size=N)
    given_label = np.where(random.random(N) < 0.1, random.integers(3, size=N), truth)
    peak = random.choice([0.6, 0.8, 0.9], N)
    probs = np.full((N, 3), 0.0) + ((1 - peak) / 2)[:, None]
    probs[np.arange(N), truth] = peak
    words = [CLASSES[k] for k in given_label]
    labels = pa.array([[w] for w in words], pa.list_(pa.string())) if several else pa.array(words)
    labels = pa.concat_arrays([labels[:-1], pa.nulls(1, labels.type)])
    ids = [f"s{at:04}" for at in range(N)]
    columns = {"sample_id": ids, "label": labels, "prob_x": pa.array(probs.tolist(), pa.list_(pa.float32()))}
    return pa.table(columns).replace_schema_metadata({"classes": ",".join(CLASSES)})


def flags(table: pa.Table, folder: Path, name: str) -> pa.Table:
    pq.write_table(table, folder / f"{name}.in", row_group_size=170)
    flag_table(folder / f"{name}.in", folder / f"{name}.parquet")
    return pq.read_table(folder / f"{name}.parquet")


@pytest.mark.parametrize("several", [False, True])
def test_rows_of_equal_risk_have_an_order_that_no_position_shows_in(tmp_path: Path, *, several: bool) -> None:
    table = coarse(several=several)
    order = np.random.default_rng(1).permutation(N)
    one, other = flags(table, tmp_path, "one"), flags(table.take(pa.array(order)), tmp_path, "other")
    assert sorted(one["rank"].to_pylist()) == list(range(1, N + 1))
    told = [dict(zip(t["sample_id"].to_pylist(), t["rank"].to_pylist(), strict=True)) for t in (one, other)]
    assert told[0] == told[1]
    ranked = one.sort_by("rank")
    risk = ranked["risk"].to_pylist()
    assert risk[-1] is None
    assert (np.diff(risk[:-1]) <= 0).all()
    assert len(set(risk)) < N / 5
    ids = ranked["sample_id"].to_pylist()
    for value in set(risk):
        mine = [one for one, its in zip(ids, risk, strict=True) if its == value]
        assert len(mine) < 12 or mine not in (sorted(mine), sorted(mine)[::-1])
    assert one["sample_id"].to_pylist() == table["sample_id"].to_pylist()  # rows stay in their order
    assert {file.name for file in tmp_path.iterdir()} == {"one.in", "one.parquet", "other.in", "other.parquet"}


@given(
    st.lists(
        st.tuples(st.sampled_from([0.1, 0.5, np.nan]), st.integers(0, 2**64 - 1)), unique_by=lambda one: one[1]
    )
)
def test_ranks_are_a_permutation_ordered_by_risk_then_key(rows: list[tuple[float, int]]) -> None:
    risk, keys = np.array([r for r, _ in rows], float), np.array([k for _, k in rows], np.uint64)
    ranks = ranks_of(risk, keys)
    assert sorted(ranks.tolist()) == list(range(1, len(rows) + 1))
    listed = [rows[at] for at in np.argsort(ranks)]
    expected = sorted(rows, key=lambda one: (np.isnan(one[0]), -np.nan_to_num(one[0]), one[1]))
    assert [key for _, key in listed] == [key for _, key in expected]
