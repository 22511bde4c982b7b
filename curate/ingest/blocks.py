"""Rows that are collected one by one: Arrow as soon as there is a block, for Python objects are five times as large."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

BLOCK_ROWS = 65_536

Row = tuple[Any, ...]


class Rows:
    """Rows in the order of a schema.

    Args:
        wanted: the schema.
    """

    def __init__(self, wanted: pa.Schema) -> None:
        self._wanted = wanted
        self._blocks: list[pa.Table] = []
        self._last: list[Row] = []  # one tuple a row, not a list a column: a third of the time over a million rows
        self._changed: dict[int, Row] = {}

    def __len__(self) -> int:
        return BLOCK_ROWS * len(self._blocks) + len(self._last)

    def __getitem__(self, at: int) -> Row:
        if at in self._changed:
            return self._changed[at]
        block, offset = divmod(at, BLOCK_ROWS)
        if block == len(self._blocks):
            return self._last[offset]
        return tuple(column[offset].as_py() for column in self._blocks[block].columns)

    def append(self, row: Row) -> None:
        """Add a row at the end."""
        self._last.append(row)
        if len(self._last) == BLOCK_ROWS:
            self._blocks.append(self._table(self._last))
            self._last = []

    def change(self, at: int, row: Row) -> None:
        """Put another row in the place of one that was added."""
        self._changed[at] = row

    def drain(self) -> pa.Table:
        """Return all rows as one table, and hold none any more."""
        blocks = [*self._blocks, self._table(self._last)]
        by_block: dict[int, dict[int, Row]] = {}
        for at, row in self._changed.items():
            by_block.setdefault(at // BLOCK_ROWS, {})[at % BLOCK_ROWS] = row
        for block, changed in by_block.items():
            rows = list(zip(*(column.to_pylist() for column in blocks[block].columns), strict=True))
            for offset, row in changed.items():
                rows[offset] = row
            blocks[block] = self._table(rows)
        self._blocks, self._last, self._changed = [], [], {}
        return pa.concat_tables(blocks)

    def _table(self, rows: list[Row]) -> pa.Table:
        if not rows:
            return self._wanted.empty_table()
        columns = zip(*rows, strict=True)
        arrays = [pa.array(column, field.type) for column, field in zip(columns, self._wanted, strict=True)]
        return pa.table(arrays, schema=self._wanted)


class Texts:
    """A column of texts that may have gaps: null where nothing was put."""

    def __init__(self) -> None:
        self._blocks: list[pa.Array] = []
        self._last: list[str | None] = []
        self._n = 0

    def put(self, at: int, text: str | None) -> None:
        """Add a text at a place beyond those that have one."""
        self._last.extend([None] * (at - self._n))
        self._last.append(text)
        self._n = at + 1
        if len(self._last) >= BLOCK_ROWS:
            self._blocks.append(pa.array(self._last, pa.string()))
            self._last = []

    def array(self, n: int) -> pa.ChunkedArray:
        """Return the first `n` places."""
        rest = pa.nulls(n - self._n, pa.string())
        return pa.chunked_array([*self._blocks, pa.array(self._last, pa.string()), rest], pa.string())
