"""Per-image stages that cost in proportion to what is new: rows are kept in shards and found again by key."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

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

    Each shard is written as soon as it is there, so a run that is killed goes on where it was.

    Args:
        folder: where shards are kept; one Parquet file each, named by the digest of its keys.
        keys: one per row; equal keys promise equal rows.
        compute: (shards of positions into `keys`) -> one table a shard, in the same order, rows in order.
        schema: of the rows.
        shard_rows: rows in a shard.
    """
    wanted = pa.array(list(keys), pa.string())
    known = _known_rows(folder, wanted, schema)
    missing = pc.indices_nonzero(pc.invert(pc.is_in(wanted, value_set=known[KEY].combine_chunks())))
    shards = [missing.slice(start, shard_rows) for start in range(0, len(missing), shard_rows)]
    made = [known]
    for shard, rows in zip(shards, compute(shards), strict=True):
        shard_keys = wanted.take(shard)
        table = rows.select(schema.names).cast(schema).append_column(KEY, shard_keys)
        write_table(folder / f"{digest_json(shard_keys.to_pylist())}.parquet", table)
        made.append(table)
    everything = pa.concat_tables(made)
    at = pc.index_in(wanted, value_set=everything[KEY].combine_chunks())
    return everything.take(at).drop_columns([KEY]), len(missing)


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


def _known_rows(folder: Path, wanted: pa.Array, schema: pa.Schema) -> pa.Table:
    """Return the wanted rows that are in a shard; a shard that cannot be read counts as absent."""
    full = schema.append(pa.field(KEY, pa.string()))
    found = [full.empty_table()]
    for file in sorted(folder.glob("*.parquet")):
        try:
            table = pq.read_table(file, partitioning=None)
        except (OSError, pa.ArrowInvalid):
            file.unlink(missing_ok=True)
            continue
        if set(table.column_names) == set(full.names):
            part = table.select(full.names).filter(pc.is_in(table[KEY], value_set=wanted))
            found.append(part.cast(full))
    known = pa.concat_tables(found)
    first = pc.index_in(pc.unique(known[KEY]), value_set=known[KEY].combine_chunks())
    return known.take(first)
