"""In which order rows are to be looked at: by falling risk, equal risks by a hash of the id.

A rank is known only when all rows are scored, and rows are too many to be held: what is to be written waits in a
scratch file beside the table, and the 16 bytes a row that the order needs are held.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from curate.teachers.noise import Floats, Ints
from curate.teachers.sampling import order_keys

RANK = pa.field("rank", pa.int64(), nullable=False)  # 1 = the first to look at; unique; without a risk comes last
_SCRATCH = pa.ipc.IpcWriteOptions(compression="lz4")


def without_rank(fields: pa.Schema) -> pa.Schema:
    """Return the fields of rows of which nobody knows the rank yet."""
    return pa.schema([field for field in fields if field.name != RANK.name])


class RankedRows:
    """Rows in the order in which they are read, on their way to a table that says in which order to look at them.

    Args:
        fields: of what is added: the table's without `rank`.
        scratch: file to keep the rows in.
    """

    def __init__(self, fields: pa.Schema, scratch: Path) -> None:
        self._scratch = scratch
        self._risks: list[Floats] = []
        self._keys: list[np.ndarray[Any, np.dtype[np.uint64]]] = []
        self._n_rows = 0
        self._stream = pa.ipc.new_stream(str(scratch), fields, options=_SCRATCH)

    def add(self, ids: Sequence[str] | None, risk: Floats, rows: pa.Table) -> None:
        """Add rows.

        Args:
            ids: of the rows; None = the row number counts as one.
            risk: (n,) NaN = not judged.
            rows: n of them.
        """
        self._keys.append(order_keys(ids, len(risk), first_row=self._n_rows))
        self._risks.append(risk)
        self._n_rows += len(risk)
        self._stream.write_table(rows)

    def write(self, writer: pq.ParquetWriter, fields: pa.Schema) -> None:
        """Write all rows as they were added, each with its rank; `fields` are the table's."""
        self._stream.close()
        nothing = np.zeros(0)
        risks = np.concatenate([nothing, *self._risks])
        ranks = ranks_of(risks, np.concatenate([nothing.astype(np.uint64), *self._keys]))
        first, at = 0, fields.get_field_index(RANK.name)
        with pa.memory_map(str(self._scratch)) as source, pa.ipc.open_stream(source) as stream:
            for batch in stream:
                part = pa.array(ranks[first : first + batch.num_rows])
                columns = [*batch.columns[:at], part, *batch.columns[at:]]
                writer.write_table(pa.Table.from_arrays(columns, schema=fields))
                first += batch.num_rows


def ranks_of(risk: Floats, keys: np.ndarray[Any, np.dtype[np.uint64]]) -> Ints:
    """Return (N,) ranks from 1: falling risk, equal ones by key, rows without a risk (NaN) last."""
    order = np.lexsort((keys, np.where(np.isnan(risk), np.inf, -risk)))
    ranks = np.empty(len(risk), dtype=np.int64)
    ranks[order] = np.arange(1, len(risk) + 1)
    return ranks


@contextmanager
def ranking(out: Path, fields: pa.Schema) -> Iterator[RankedRows]:
    """Give the rows of a table that is written to `out`; the scratch file beside it goes whatever happens.

    Args:
        out: the table.
        fields: of it, with `rank`.
    """
    with tempfile.TemporaryDirectory(prefix=f".{out.name}.", dir=out.parent) as folder:
        yield RankedRows(without_rank(fields), Path(folder) / "rows.arrow")
