"""A table of a version in pieces: its row groups in order, each read by itself; and numbers that stand for ids."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from curate.manifest.place import Place, parquet_file
from curate.manifest.read import parts_of, unreadable

_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)  # odd, so that multiplying loses nothing
_SHIFT = np.uint64(29)


@dataclass(frozen=True, slots=True)
class RowGroup:
    """A row group of a part: where it lies, and which rows of the table it holds."""

    part: Place
    footer: pq.FileMetaData
    number: int
    start: int
    n_rows: int

    def read(self, columns: Sequence[str], *, coded: Sequence[str] = ()) -> pa.Table:
        """Return columns of its rows in the order asked for, those that are there; opens the part for itself.

        `coded`: text columns to be read as dictionary and codes.

        Raises:
            VerificationError: the part cannot be read.
        """
        try:
            with parquet_file(self.part, footer=self.footer, coded=coded) as file:
                empty = self._empty(file.schema_arrow, columns)
                wanted = [name for name in columns if name not in empty]
                found = file.read_row_group(self.number, columns=wanted, use_threads=False)
        except (OSError, pa.ArrowException) as error:
            raise unreadable(self.part, error) from error
        for column in empty.values():
            found = found.append_column(column, _nothing(self.n_rows, column.type))
        return found.select([name for name in columns if name in found.column_names])

    def _empty(self, held: pa.Schema, columns: Sequence[str]) -> dict[str, pa.Field]:
        """Return the columns that hold nothing, as the footer says: they need not be read."""
        about = self.footer.row_group(self.number)
        leaves: dict[str, list[bool]] = {}
        for at in range(about.num_columns):
            chunk = about.column(at)
            nulls = chunk.statistics.null_count if chunk.is_stats_set else None
            name = chunk.path_in_schema.partition(".")[0]
            leaves.setdefault(name, []).append(chunk.num_values == nulls == self.n_rows)
        wanted = [held.field(name) for name in columns if name in held.names]
        return {field.name: field for field in wanted if all(leaves[field.name]) and _is_known(field)}


def _is_known(field: pa.Field) -> bool:
    """Whether nulls in all leaves say what is there: null, or empty maps where no map may be null."""
    return _is_plain(field.type) or (pa.types.is_map(field.type) and not field.nullable)


def _nothing(n_rows: int, kind: pa.DataType) -> pa.Array:
    """Return nulls, or empty maps."""
    if not pa.types.is_map(kind):
        return pa.nulls(n_rows, kind)
    nothing = pa.array([], pa.string())
    return pa.MapArray.from_arrays(np.zeros(n_rows + 1, np.int32), nothing, nothing).cast(kind)


def _is_plain(kind: pa.DataType) -> bool:
    """Whether nulls in all leaves mean that nothing is there: not so in lists, which may be empty instead."""
    if pa.types.is_struct(kind):
        return all(_is_plain(field.type) for field in kind)
    return pa.types.is_fixed_size_list(kind) or not pa.types.is_nested(kind)


def row_groups(
    version: Place, manifest: Mapping[str, Any], kind: str, *, but: Container[str] = ()
) -> list[RowGroup]:
    """Return the row groups of a table of a version, in the order of its rows.

    `but`: paths of parts that are left out, as if the table had none of their rows.

    Raises:
        VerificationError: a part is missing or cannot be read.
    """
    found: list[RowGroup] = []
    start = 0
    for path in parts_of(version, manifest, kind):
        if path in but:
            continue
        try:
            with parquet_file(version / path) as file:
                footer = file.metadata
        except (OSError, pa.ArrowException) as error:
            raise unreadable(version / path, error) from error
        for number in range(footer.num_row_groups):
            n_rows = footer.row_group(number).num_rows
            found.append(RowGroup(version / path, footer, number, start, n_rows))
            start += n_rows
    return found


def read_rows(groups: Sequence[RowGroup], start: int, n_rows: int, columns: Sequence[str]) -> pa.Table:
    """Return `n_rows` rows from `start` on of the table that these are all groups of; fewer where it ends before."""
    stop = start + n_rows
    touching = [group for group in groups if group.start < stop and group.start + group.n_rows > start]
    if not touching:
        return pa.table({})
    return pa.concat_tables([group.read(columns) for group in touching]).slice(start - touching[0].start, n_rows)


def id_numbers(ids: pa.Array) -> NDArray[np.uint64] | None:
    """Return a number for each id: ids that are equal have equal numbers, others nearly always different ones.

    Args:
        ids: strings without nulls.

    Returns:
        (n,) uint64, or None where the ids are not all of one length, which must be at least 8 bytes.
    """
    n = len(ids)
    if not n:
        return np.zeros(0, np.uint64)
    _, offsets, content = ids.buffers()
    ends = np.frombuffer(offsets, np.int32, n + 1, ids.offset * 4)
    width = int(ends[1] - ends[0])
    if ids.null_count or not pa.types.is_string(ids.type) or width < 8 or (np.diff(ends) != width).any():
        return None
    numbers = np.zeros(n, np.uint64)
    for at in (*range(0, width - 7, 8), width - 8):  # the last word may overlap the one before
        words: NDArray[np.uint64] = np.ndarray((n,), "<u8", content, int(ends[0]) + at, (width,))
        numbers ^= words
        numbers *= _MULTIPLIER
        numbers ^= numbers >> _SHIFT
    return numbers
