"""Images in the rows of a Parquet file: a binary column, or Hugging Face's struct of bytes and path."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from curate.errors import InputError

WINDOW_BYTES = 256 << 20  # row groups up to this size are held whole; larger ones are streamed
STREAM_ROWS = 1024


def image_columns(columns: pa.Schema) -> list[str]:
    """Return the columns that can hold encoded images: binary ones and structs with a binary field `bytes`."""
    return [field.name for field in columns if _is_image_type(field.type)]


def _is_image_type(kind: pa.DataType) -> bool:
    if pa.types.is_struct(kind):
        at = kind.get_field_index("bytes")
        return at >= 0 and _is_image_type(kind.field(at).type)
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind))


def split_container(container: str) -> tuple[str, str | None]:
    """Split `file.parquet#column` into both; the column is None where the file has just one of images."""
    lower = container.lower()
    at = max(lower.rfind(".parquet#"), lower.rfind(".pq#"))
    if at < 0:
        return container, None
    at = container.index("#", at)
    return container[:at], container[at + 1 :]


def container_of(file: str, column: str, columns: pa.Schema) -> str:
    """Return how `schema.SAMPLES.container` names an image column of a Parquet file."""
    return file if image_columns(columns) == [column] else f"{file}#{column}"


def encoded_images(column: pa.ChunkedArray | pa.Array) -> pa.ChunkedArray | pa.Array:
    """Return the bytes of an image column as binary values, one a row; null where there are none."""
    return pc.struct_field(column, "bytes") if pa.types.is_struct(column.type) else column


class ParquetImages:
    """Reads images by row number: sequential reads cost one pass, random ones a row group each."""

    def __init__(self, path: Path, column: str | None) -> None:
        self._file = pq.ParquetFile(path)
        candidates = image_columns(self._file.schema_arrow)
        if column is None and len(candidates) == 1:
            column = candidates[0]
        if column not in candidates:
            raise InputError(
                f"{path.name} has no image column {column!r}. "
                f"Columns with bytes: {', '.join(candidates) or 'none'}."
            )
        self._column = column
        kind = self._file.schema_arrow.field(column).type
        self._leaf = f"{column}.bytes" if pa.types.is_struct(kind) else column
        metadata = self._file.metadata
        sizes = [metadata.row_group(index).num_rows for index in range(metadata.num_row_groups)]
        self._starts = np.concatenate([[0], np.cumsum(sizes, dtype=np.int64)])
        self._window: pa.Array | None = None
        self._window_start = 0
        self._stream: tuple[int, object] | None = None

    def read(self, row: int) -> bytes | None:
        """Return the bytes in `row`; None for a null or a row that is not there."""
        if not 0 <= row < int(self._starts[-1]):
            return None
        if self._window is None or not 0 <= row - self._window_start < len(self._window):
            self._move_to(row)
        assert self._window is not None  # noqa: S101 - _move_to sets it
        value: bytes | None = self._window[row - self._window_start].as_py()
        return value

    def _move_to(self, row: int) -> None:
        group = int(np.searchsorted(self._starts, row, side="right")) - 1
        start = int(self._starts[group])
        if self._n_bytes(group) <= WINDOW_BYTES:
            table = self._file.read_row_group(group, columns=[self._leaf])
            self._window, self._window_start = self._values(table[self._column]), start
            return
        follows = self._stream is not None and self._stream[0] == group
        if not follows or row < self._window_start:
            batches = self._file.iter_batches(STREAM_ROWS, row_groups=[group], columns=[self._leaf])
            self._stream, self._window, self._window_start = (group, batches), None, start
        assert self._stream is not None  # noqa: S101 - set above or before
        while self._window is None or row >= self._window_start + len(self._window):
            self._window_start += 0 if self._window is None else len(self._window)
            batch = next(self._stream[1])  # type: ignore[call-overload]
            self._window = self._values(batch[self._column])

    def _n_bytes(self, group: int) -> int:
        columns = self._file.metadata.row_group(group)
        paths = [columns.column(index) for index in range(columns.num_columns)]
        return sum(c.total_uncompressed_size for c in paths if c.path_in_schema in {self._leaf, self._column})

    @staticmethod
    def _values(column: pa.ChunkedArray | pa.Array) -> pa.Array:
        values = encoded_images(column).cast(pa.large_binary())
        return values.combine_chunks() if isinstance(values, pa.ChunkedArray) else values
