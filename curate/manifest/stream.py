"""Rows that come in batches, cut again so that what is written does not depend on how they came."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

ROW_GROUP_ROWS = 65_536
PART_ROWS = 1_000_000


@dataclass(frozen=True, slots=True)
class RowStream:
    """A table that is never in memory as a whole.

    Attributes:
        schema: of every batch.
        batches: called once for each time the rows are read; yields record batches or tables of any length.
    """

    schema: pa.Schema
    batches: Callable[[], Iterable[pa.RecordBatch | pa.Table]]


class Cutter:
    """Takes rows off a table or a stream in pieces of the length that is asked for, whatever length they came in."""

    def __init__(self, rows: pa.Table | RowStream) -> None:
        self.schema: pa.Schema = rows.schema
        self._coming: Iterator[pa.RecordBatch | pa.Table] = iter(
            rows.batches() if isinstance(rows, RowStream) else [rows]
        )
        self._held: pa.Table = self.schema.empty_table()

    def take(self, n: int) -> pa.Table:
        """Return the next `n` rows in one chunk, fewer only at the end."""
        self._hold(n)
        piece = self._held.slice(0, n)
        self._held = self._held.slice(piece.num_rows)
        return piece.combine_chunks()

    def take_while(self, column: str, value: str) -> pa.Table:
        """Return the next rows that have `value` in a column."""
        taken = [self.schema.empty_table()]
        while self._hold(1):
            other = pc.index(pc.equal(self._held[column], value), value=False).as_py()
            n = self._held.num_rows if other < 0 else other
            if n:
                taken.append(self.take(n))
            if other >= 0:
                break
        return pa.concat_tables(taken).combine_chunks()

    @property
    def is_done(self) -> bool:
        """Whether no row is left."""
        return not self._hold(1)

    def _hold(self, n: int) -> bool:
        """Read on until `n` rows are held or nothing comes; return whether any is."""
        held, n_held = [self._held], int(self._held.num_rows)
        while n_held < n:
            batch = next(self._coming, None)
            if batch is None:
                break
            held.append(batch if isinstance(batch, pa.Table) else pa.table(batch))
            n_held += batch.num_rows
        if len(held) > 1:
            self._held = pa.concat_tables([part.replace_schema_metadata(None).cast(self.schema) for part in held])
        return n_held > 0


def groups_by_sample(rows: Cutter, part_rows: int) -> Iterator[pa.Table]:
    """Yield the row groups of one part: about `part_rows` rows; a sample never goes on in the next part."""
    left = part_rows
    while left > 0 and not rows.is_done:
        group = rows.take(min(ROW_GROUP_ROWS, left))
        left -= group.num_rows
        if left <= 0 and group.num_rows:
            rest = rows.take_while("sample_id", group["sample_id"][-1].as_py())
            group = pa.concat_tables([group, rest]).combine_chunks() if rest.num_rows else group
        yield group


def groups_of(rows: Cutter, n_rows: int, group_rows: int = ROW_GROUP_ROWS) -> Iterator[pa.Table]:
    """Yield the row groups of one part of exactly `n_rows` rows (fewer at the end)."""
    left = n_rows
    while left > 0 and not rows.is_done:
        group = rows.take(min(group_rows, left))
        left -= group.num_rows
        yield group


def part_bounds(data: pa.Table, part_rows: int = PART_ROWS) -> list[int]:
    """Return where the parts of `data` (sorted by sample) start; a sample never lies in two parts."""
    rows, starts, at = Cutter(data), list[int](), 0
    while not rows.is_done:
        starts.append(at)
        at += sum(group.num_rows for group in groups_by_sample(rows, part_rows))
    return starts
