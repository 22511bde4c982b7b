"""Per-image stages that cost in proportion to what is new: rows are kept in shards and found again by key."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from curate.runs import digest_json, write_table

KEY = "row_key"
SHARD_ROWS = 512


def reuse_rows(
    folder: Path,
    keys: Sequence[str],
    compute: Callable[[Sequence[pa.Array]], Iterable[pa.Table]],
    *,
    schema: pa.Schema,
    shard_rows: int = SHARD_ROWS,
) -> tuple[pa.Table, int]:
    """Return one row per key in the order of `keys`, and how many had to be computed.

    The arguments are those of `stream_rows`.
    """
    parts = list(stream_rows(folder, keys, compute, schema=schema, shard_rows=shard_rows))
    if not parts:
        return schema.empty_table(), 0
    order = np.argsort(np.concatenate([part.positions for part in parts]), kind="stable")
    table = pa.concat_tables([part.rows for part in parts]).take(pa.array(order))
    return table, sum(part.rows.num_rows for part in parts if part.is_new)


@dataclass(frozen=True, slots=True)
class Part:
    """Some of the rows that were asked for.

    Attributes:
        positions: shape (N,), where each row stands among the keys.
        rows: N rows.
        is_new: whether they were computed now.
    """

    positions: npt.NDArray[np.int64]
    rows: pa.Table
    is_new: bool


def stream_rows(
    folder: Path,
    keys: Sequence[str],
    compute: Callable[[Sequence[pa.Array]], Iterable[pa.Table]],
    *,
    schema: pa.Schema,
    shard_rows: int = SHARD_ROWS,
) -> Iterator[Part]:
    """Yield the row of every key once, shard by shard: those that are kept first, then those that are computed.

    No more than a shard is held. Each shard is written as soon as it is there, so a run that is killed goes on
    where it was.

    Args:
        folder: where shards are kept; one Parquet file each, named by the digest of its keys.
        keys: one per row; equal keys promise equal rows, and cost one.
        compute: (shards of positions into `keys`) -> one table a shard, in the same order, rows in order.
        schema: of the rows.
        shard_rows: rows in a shard.
    """
    encoded = pa.array(list(keys), pa.string()).dictionary_encode()
    asked = _Asked(encoded.dictionary, encoded.indices.to_numpy())
    for file, codes in _asked_files(folder, asked.keys):
        table = _kept(file, schema)
        if table is None or table.num_rows != len(codes):
            continue
        part = asked.part(codes, table, is_new=False)
        if part.rows.num_rows:
            yield part
    missing = asked.first_positions()
    shards = [pa.array(missing[start : start + shard_rows]) for start in range(0, len(missing), shard_rows)]
    for shard, rows in zip(shards, compute(shards), strict=True):
        shard_keys = encoded.take(shard).dictionary_decode()
        table = rows.select(schema.names).cast(schema)
        name = f"{digest_json(shard_keys.to_pylist())}.parquet"
        write_table(folder / name, table.append_column(KEY, shard_keys))
        yield asked.part(asked.codes[shard.to_numpy()], table, is_new=True)


class _Asked:
    """The distinct keys, where each stands, and which of them have their row already."""

    def __init__(self, keys: pa.Array, codes: npt.NDArray[Any]) -> None:
        self.keys, self.codes = keys, codes
        self._is_done = np.zeros(len(keys), dtype=bool)
        self._by_code = np.argsort(codes, kind="stable")
        self._n_of = np.bincount(codes, minlength=len(keys))
        self._start_of = np.cumsum(self._n_of) - self._n_of

    def part(self, codes: npt.NDArray[Any], rows: pa.Table, *, is_new: bool) -> Part:
        """Return `rows`, whose keys have these codes (-1: not asked for), for every position that waits for them."""
        chosen = np.flatnonzero(codes >= 0)
        chosen = chosen[~self._is_done[codes[chosen]]]
        chosen = chosen[np.sort(np.unique(codes[chosen], return_index=True)[1])]
        mine = codes[chosen]
        self._is_done[mine] = True
        n_of = self._n_of[mine]
        within = np.arange(n_of.sum()) - np.repeat(np.cumsum(n_of) - n_of, n_of)
        positions = self._by_code[np.repeat(self._start_of[mine], n_of) + within]
        return Part(positions, rows.take(pa.array(np.repeat(chosen, n_of))), is_new)

    def first_positions(self) -> npt.NDArray[np.int64]:
        """Return the first position of each key that has no row yet, in the order of the keys."""
        waiting = self._start_of[~self._is_done]
        return np.sort(self._by_code[waiting])


def known_keys(folder: Path) -> set[str]:
    """Return the keys of every row that is kept in `folder`."""
    return {key for file in folder.glob("*.parquet") for key in pq.read_table(file, columns=[KEY])[KEY].to_pylist()}


def forget_rows(folder: Path, column: str, values: Sequence[str], *, keep: bool = False) -> int:
    """Rewrite the shards that hold a row whose `column` is among `values`, without it; return how many rows went.

    With `keep`, rows that are *not* among the values go. A shard gets the name of what is left in it; one that cannot
    be read goes as a whole.
    """
    wanted = pa.array(list(values), pa.string())
    n_gone = 0
    for file in sorted(folder.glob("*.parquet")):
        try:
            table = pq.read_table(file, partitioning=None)
        except (OSError, pa.ArrowInvalid):
            file.unlink(missing_ok=True)
            continue
        named = pc.is_in(table[column], value_set=wanted)
        kept = table.filter(named if keep else pc.invert(named))
        if kept.num_rows == table.num_rows:
            continue
        n_gone += table.num_rows - kept.num_rows
        if kept.num_rows:
            write_table(folder / f"{digest_json(kept[KEY].to_pylist())}.parquet", kept)
        file.unlink()
    return n_gone


def _asked_files(folder: Path, asked: pa.Array) -> Iterator[tuple[Path, npt.NDArray[np.int64]]]:
    """Yield the shards that hold a row that is asked for, each with where its keys stand in `asked` (-1: nowhere).

    Keys of all shards are looked up at once: a look-up has to index everything that is asked for, and one a shard
    would cost the square of the rows.
    """
    files, keys = [], []
    for file in sorted(folder.glob("*.parquet")):
        try:
            found = pq.read_table(file, columns=[KEY], partitioning=None)
        except (OSError, pa.ArrowInvalid):
            file.unlink(missing_ok=True)
            continue
        if found.num_columns:
            files.append(file)
            keys.append(found[KEY].combine_chunks().cast(pa.string()))
    if not files:
        return
    known = pc.index_in(pa.chunked_array(keys), value_set=asked)
    codes = np.asarray(pc.fill_null(known, -1), dtype=np.int64)
    ends = np.cumsum([len(one) for one in keys])
    for file, own in zip(files, np.split(codes, ends[:-1]), strict=True):
        if (own >= 0).any():
            yield file, own


def _kept(file: Path, schema: pa.Schema) -> pa.Table | None:
    """Return the rows of a shard; None where it holds other columns, or cannot be read and so counts as absent."""
    try:
        table = pq.read_table(file, partitioning=None)
    except (OSError, pa.ArrowInvalid):
        file.unlink(missing_ok=True)
        return None
    if set(table.column_names) != {*schema.names, KEY}:
        return None
    return table.select(schema.names).cast(schema)
