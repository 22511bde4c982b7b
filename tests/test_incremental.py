from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.incremental import reuse_rows, stream_rows

SCHEMA = pa.schema([("value", pa.int64())])


class Squares:
    """Computes the square of each position's key, and remembers what it was asked for."""

    def __init__(self, keys: Sequence[str], stop_after: int | None = None) -> None:
        self.keys, self.asked, self.stop_after = keys, 0, stop_after

    def __call__(self, shards: Sequence[pa.Array]) -> Iterator[pa.Table]:
        for shard in shards:
            if self.stop_after is not None and self.asked >= self.stop_after:
                raise KeyboardInterrupt
            self.asked += len(shard)
            yield pa.table({"value": [int(self.keys[i]) ** 2 for i in shard.to_pylist()]})


def test_only_what_is_new_is_computed_and_order_is_kept(tmp_path: Path) -> None:
    first = [str(i) for i in range(10)]
    rows, n_new = reuse_rows(tmp_path, first, Squares(first), schema=SCHEMA, shard_rows=3)
    assert (rows["value"].to_pylist(), n_new) == ([i * i for i in range(10)], 10)
    more = ["12", "3", "0", "11", "3"]
    work = Squares(more)
    rows, n_new = reuse_rows(tmp_path, more, work, schema=SCHEMA, shard_rows=3)
    assert (rows["value"].to_pylist(), n_new, work.asked) == ([144, 9, 0, 121, 9], 2, 2)


def test_a_run_that_was_stopped_goes_on_where_it_was(tmp_path: Path) -> None:
    keys = [str(i) for i in range(10)]
    with pytest.raises(KeyboardInterrupt):
        reuse_rows(tmp_path, keys, Squares(keys, stop_after=6), schema=SCHEMA, shard_rows=3)
    work = Squares(keys)
    rows, n_new = reuse_rows(tmp_path, keys, work, schema=SCHEMA, shard_rows=3)
    assert (n_new, work.asked) == (4, 4)
    assert rows["value"].to_pylist() == [i * i for i in range(10)]


def test_a_damaged_shard_is_made_again(tmp_path: Path) -> None:
    keys = ["1", "2"]
    reuse_rows(tmp_path, keys, Squares(keys), schema=SCHEMA)
    (shard,) = tmp_path.glob("*.parquet")
    shard.write_bytes(b"half of a")
    rows, n_new = reuse_rows(tmp_path, keys, Squares(keys), schema=SCHEMA)
    assert (rows["value"].to_pylist(), n_new) == ([1, 4], 2)


def test_nothing_in_nothing_out(tmp_path: Path) -> None:
    rows, n_new = reuse_rows(tmp_path, [], Squares([]), schema=SCHEMA)
    assert (rows.num_rows, n_new) == (0, 0)


@settings(max_examples=40, deadline=None)
@given(
    asked=st.lists(st.lists(st.integers(0, 12).map(str), max_size=20), min_size=1, max_size=3),
    shard_rows=st.integers(1, 7),
)
def test_whatever_was_asked_before_each_position_gets_its_row_once_and_no_key_is_computed_twice(
    asked: list[list[str]], shard_rows: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("rows")
    known: set[str] = set()
    for keys in asked:
        work = Squares(keys)
        parts = list(stream_rows(folder, keys, work, schema=SCHEMA, shard_rows=shard_rows))
        assert sorted(at for part in parts for at in part.positions.tolist()) == list(range(len(keys)))
        for part in parts:
            assert part.rows["value"].to_pylist() == [int(keys[at]) ** 2 for at in part.positions]
        assert work.asked == len(set(keys) - known)
        known |= set(keys)
