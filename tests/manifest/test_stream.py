from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from curate.manifest import publish, verify
from curate.manifest import store as storing
from curate.manifest import stream as streaming
from curate.manifest.stream import Cutter, RowStream, groups_by_sample, groups_of

Worlds = Callable[..., Any]


def streamed(table: pa.Table, cuts: list[int]) -> RowStream:
    """Return the rows of a table in batches that end at `cuts`."""
    ends = sorted({min(cut, table.num_rows) for cut in cuts} | {table.num_rows})
    starts = [0, *ends[:-1]]
    return RowStream(table.schema, lambda: (table.slice(a, b - a) for a, b in zip(starts, ends, strict=True)))


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cuts=st.lists(st.integers(0, 12), max_size=6), part_rows=st.integers(1, 12), group_rows=st.integers(1, 5))
def test_the_bytes_do_not_depend_on_batches_or_threads(
    world: Worlds, tmp_path_factory: pytest.TempPathFactory, cuts: list[int], part_rows: int, group_rows: int
) -> None:
    release = world().release()
    batches = replace(release, data=streamed(release.data, cuts), soft=streamed(release.soft, cuts[:2]))
    with pytest.MonkeyPatch.context() as patch:
        for module in (storing, streaming):
            patch.setattr(module, "PART_ROWS", part_rows)
            patch.setattr(module, "ROW_GROUP_ROWS", group_rows)
        root, n_cpus = tmp_path_factory.mktemp("stream"), pa.cpu_count()
        whole = publish(release, root / "table", "zoo")
        pa.set_cpu_count(1)
        try:
            in_batches = publish(batches, root / "stream", "zoo")
        finally:
            pa.set_cpu_count(n_cpus)
    assert in_batches.id == whole.id
    assert [promise for promise in verify(in_batches.path) if promise.ok is False] == []
    parts = [pq.read_table(path) for path in sorted((whole.path / "data").iterdir())]
    beside = [pq.read_metadata(path).num_rows for path in sorted((whole.path / "soft").iterdir())]
    assert [part.num_rows for part in parts] == beside
    samples = [set(part["sample_id"].to_pylist()) for part in parts]
    assert sum(map(len, samples)) == len(set.union(*samples))  # no sample lies in two parts
    assert pa.concat_tables(parts).equals(release.data)


@settings(max_examples=60, deadline=None)
@given(
    lengths=st.lists(st.integers(0, 7), max_size=8),
    part_rows=st.integers(1, 9),
    n_samples=st.integers(1, 6),
    seed=st.integers(0, 9),
)
def test_parts_hold_every_row_once_and_end_with_a_sample(
    lengths: list[int], part_rows: int, n_samples: int, seed: int
) -> None:
    n = sum(lengths)
    ids = np.sort(np.random.default_rng(seed).integers(0, n_samples, n)).astype(str)
    table = pa.table({"sample_id": pa.array(ids, pa.string()), "row": pa.array(np.arange(n))})
    rows, parts = Cutter(streamed(table, list(np.cumsum(lengths)))), []
    while not rows.is_done:
        parts.append(pa.concat_tables(list(groups_by_sample(rows, part_rows))))
    assert [row for part in parts for row in part["row"].to_pylist()] == list(range(n))
    for part, following in itertools.pairwise(parts):
        assert part.num_rows >= part_rows
        assert part["sample_id"][-1].as_py() != following["sample_id"][0].as_py()
    again = Cutter(table)
    assert [sum(g.num_rows for g in groups_of(again, part.num_rows)) for part in parts] == [
        p.num_rows for p in parts
    ]


def test_a_stream_of_no_rows_is_a_part_without_rows(world: Worlds, tmp_path: Path) -> None:
    release = world().release()
    empty = RowStream(release.findings.schema, list)
    published = publish(replace(release, findings=empty), tmp_path, "zoo")
    assert pq.read_table(published.path / "findings").num_rows == 0


def test_a_stream_that_breaks_publishes_nothing(world: Worlds, tmp_path: Path) -> None:
    release = world().release()

    def batches() -> Any:  # noqa: ANN401 - a generator
        yield release.data.slice(0, 3)
        raise ValueError("the source went away")

    with pytest.raises(ValueError, match="the source went away"):
        publish(replace(release, data=RowStream(release.data.schema, batches)), tmp_path, "zoo")
    assert list((tmp_path / "zoo" / "versions").iterdir()) == []
    assert list((tmp_path / "zoo" / "staging").iterdir()) == []


def test_the_hash_taken_while_writing_is_that_of_the_file(world: Worlds, tmp_path: Path) -> None:
    path = publish(world().release(), tmp_path, "zoo").path / "data" / "part-00000.parquet"
    assert storing.sha256_of(path) == hashlib.sha256(path.read_bytes()).hexdigest()
