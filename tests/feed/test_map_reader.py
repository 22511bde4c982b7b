"""Class maps are read a row group at a time, by the ids that the footers tell, from a folder and from a store."""

from __future__ import annotations

import pickle
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curate.adapters.object_store import StorePath
from curate.errors import VerificationError
from curate.feed import map_reader
from curate.feed.map_reader import MapReader
from curate.manifest.place import Place
from curate.manifest.soft_layout import Layout
from curate.manifest.soft_masks import GROUP_ROWS, soft_masks_schema

N, K, ROWS, COLUMNS = 100, 3, 4, 6
LAYOUT = Layout("full", K, 0, 0)
IDS = sorted(f"{at * 7919 % 10_007:032x}" for at in range(1, N + 1))


def values(at: int) -> np.ndarray:
    return np.random.default_rng(at).random(K * ROWS * COLUMNS).astype(np.float16)


def table(ids: list[str]) -> pa.Table:
    known = {one: at for at, one in enumerate(IDS)}
    columns = [
        ids,
        [0] * len(ids),
        [ROWS] * len(ids),
        [COLUMNS] * len(ids),
        [values(known[i]) for i in ids],
    ]
    schema = soft_masks_schema(LAYOUT)
    return pa.table([pa.array(one, field.type) for one, field in zip(columns, schema, strict=True)], schema=schema)


def written(folder: Path, *, statistics: bool = True, turned: bool = False) -> list[Place]:
    parts: list[Place] = []
    for number, own in enumerate((IDS[:60], IDS[60:])):
        path = folder / f"part-{number:05d}.parquet"
        given = table(own[::-1] if turned else own)
        pq.write_table(given, path, row_group_size=GROUP_ROWS, write_statistics=statistics)
        parts.append(path)
    return parts


def opened(parts: list[Place]) -> MapReader:
    return MapReader(parts, LAYOUT, 1.0, COLUMNS)


def wrong(reader: MapReader, order: list[int]) -> list[int]:
    """Return which maps are not what was written."""

    def differs(at: int) -> bool:
        found = reader.read(IDS[at])
        return found is None or not np.array_equal(found[0], values(at).reshape(K, ROWS, COLUMNS))

    return [at for at in order if differs(at)]


@pytest.mark.parametrize("statistics", [True, False])
def test_every_map_is_found_in_any_order_and_few_are_held(tmp_path: Path, statistics: bool) -> None:
    reader = opened(written(tmp_path, statistics=statistics))
    assert wrong(reader, np.random.default_rng(0).permutation(N).tolist()) == []
    assert len(reader._firsts) == -(-60 // GROUP_ROWS) + -(-40 // GROUP_ROWS)
    assert len(reader._held) <= map_reader._HELD_GROUPS
    assert 0 < reader.n_groups_read <= N
    between = f"{int(IDS[20], 16) + 1:032x}"
    assert between not in IDS
    assert [reader.read(one) for one in ("", "0" * 32, between, "f" * 32)] == [None] * 4
    assert wrong(pickle.loads(pickle.dumps(reader)), list(range(N))) == []  # noqa: S301 - our own


def test_what_is_held_is_bounded_by_bytes_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(map_reader, "_HELD_BYTES", 1)
    reader = opened(written(tmp_path))
    assert wrong(reader, list(range(N))) == []
    assert len(reader._held) == 1


def test_threads_read_at_once_from_a_store(tmp_path: Path, bucket: StorePath) -> None:
    here = written(tmp_path)
    for path in here:
        assert isinstance(path, Path)
        (bucket / path.name).put(path)
    reader = opened([bucket / str(path.name) for path in here])
    orders = [np.random.default_rng(seed).permutation(N).tolist() for seed in range(4)]
    with ThreadPoolExecutor(max_workers=4) as pool:
        assert list(pool.map(lambda order: wrong(reader, order), orders)) == [[]] * 4


def test_rows_in_another_order_are_refused(tmp_path: Path) -> None:
    with pytest.raises(VerificationError, match=r"part-00000\.parquet do not stand in the order of their ids"):
        opened(written(tmp_path, turned=True))
