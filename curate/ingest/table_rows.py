"""Rows of CSV, TSV and Parquet files as batches of text; a row that cannot be read is a problem in its place."""

from __future__ import annotations

import codecs
import csv
import io
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from curate.errors import ConfigError, InputError
from curate.ingest.location import Problem, shown
from curate.ingest.tags import lists_as_text

TEXT_ENDINGS = (".csv", ".tsv")
PARQUET_ENDINGS = (".parquet", ".pq")
CSV_ROWS = 16_384
PARQUET_ROWS = 16_384
IMAGE_ROWS = 128  # of a batch that holds encoded images, at least
IMAGE_BATCH_BYTES = 16 * 2**20  # of small images more are taken at once
MAX_CELL_CHARS = 1 << 20

Text = list[str | None]


@dataclass(frozen=True, slots=True)
class RowBatch:
    """Some rows of one file.

    Attributes:
        file: name of the file relative to the source's folder.
        first_row: number of the first row, 0-based.
        n_rows: how many there are.
        columns: text per column, null for an empty cell.
        images: raw column that holds encoded images, as it stands in the file; None if images are named by path.
        problems: row in the batch -> why it could not be read.
        lists: columns whose cells are lists, as JSON texts.
    """

    file: str
    first_row: int
    n_rows: int
    columns: dict[str, Text]
    images: pa.Array | None = None
    problems: dict[int, Problem] = field(default_factory=dict)
    lists: Sequence[str] = ()


def table_files(root: Path) -> list[Path]:
    """Return the table itself, or the Parquet shards below a folder, sorted by path.

    Raises:
        InputError: nothing there that is a table.
    """
    if root.is_dir():
        found = sorted(path for path in root.rglob("*") if _is(path, PARQUET_ENDINGS) and path.is_file())
        shards = [path for path in found if not any(p.startswith(".") for p in path.relative_to(root).parts)]
        if not shards:
            raise InputError(f"The folder {root} holds no Parquet file. Give a table or a folder of shards.")
        return shards
    if not root.is_file():
        raise InputError(f"There is no table at {root}. Give a CSV, TSV or Parquet file in source.path.")
    if not _is(root, (*TEXT_ENDINGS, *PARQUET_ENDINGS)):
        raise InputError(f"{root.name} is no table by its name; it must end in .csv, .tsv or .parquet.")
    return [root]


def is_text_table(path: Path) -> bool:
    """Return whether the file is called like a CSV or TSV."""
    return _is(path, TEXT_ENDINGS)


def is_parquet(path: Path) -> bool:
    """Return whether the file is called like Parquet."""
    return _is(path, PARQUET_ENDINGS)


def _is(path: Path, endings: Sequence[str]) -> bool:
    return path.name.lower().endswith(tuple(endings))


# -- CSV and TSV ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Dialect:
    """How a text table is written; None = found out (UTF-8 unless a byte order mark says UTF-16).

    Raises:
        ConfigError: the delimiter is not one character.
    """

    delimiter: str | None = None
    encoding: str | None = None

    def __post_init__(self) -> None:
        if self.delimiter is not None and (len(str(self.delimiter)) != 1 or str(self.delimiter) in '"\r\n '):
            raise ConfigError(
                f'source.delimiter must be one character such as "," or "\\t"; it is {self.delimiter!r}.'
            )


def _open_text(path: Path, dialect: Dialect) -> io.TextIOWrapper:
    with path.open("rb") as file:
        start = file.read(4)
    is_utf16 = start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    encoding = dialect.encoding or ("utf-16" if is_utf16 else "utf-8-sig")
    try:
        if codecs.lookup(encoding).name == "utf-8":
            encoding = "utf-8-sig"
        # undecodable bytes become lone surrogates, so that only their row is out
        errors = "replace" if is_utf16 else "surrogateescape"
        return path.open(encoding=encoding, errors=errors, newline="")
    except LookupError as error:
        raise ConfigError(f"source.encoding: there is no encoding {encoding!r}; try utf-8 or latin-1.") from error


def _delimiter(path: Path, header: str, dialect: Dialect) -> str:
    if dialect.delimiter:
        return dialect.delimiter
    if path.name.lower().endswith(".tsv"):
        return "\t"
    unquoted = "".join(header.split('"')[::2])
    return max(",;\t|", key=lambda mark: (unquoted.count(mark), -",;\t|".index(mark)))


def _reader(path: Path, file: io.TextIOWrapper, dialect: Dialect) -> Iterator[list[str]]:
    first_line = file.readline(MAX_CELL_CHARS)
    file.seek(0)
    return csv.reader(file, delimiter=_delimiter(path, first_line, dialect))


def _header(path: Path, reader: Iterator[list[str]]) -> list[str]:
    try:
        names = next(reader, [])
    except csv.Error as error:
        raise InputError(f"The first line of {path.name} holds no column names: {error}.") from error
    if not any(name.strip() for name in names):
        raise InputError(f"{path.name} is empty; a table needs a first line with the names of its columns.")
    if any(_is_undecodable(name) for name in names):
        raise InputError(f"The first line of {path.name} is not UTF-8. Say source.encoding, for example latin-1.")
    return [name.strip() for name in names]


def text_header(path: Path, dialect: Dialect) -> list[str]:
    """Return the column names of a CSV or TSV.

    Raises:
        InputError: the file is empty, or its first line is not text in the encoding.
    """
    with _open_text(path, dialect) as file:
        return _header(path, _reader(path, file, dialect))


def text_batches(path: Path, file_name: str, wanted: Sequence[str], dialect: Dialect) -> Iterator[RowBatch]:
    """Yield the rows of a CSV or TSV; blank lines are no rows."""
    previous_limit = csv.field_size_limit(MAX_CELL_CHARS)
    try:
        with _open_text(path, dialect) as file:
            reader = _reader(path, file, dialect)
            names = _header(path, reader)
            at = {name: names.index(name) for name in wanted}
            rows = _rows(reader, len(names))
            first_row = 0
            while chunk := list(itertools.islice(rows, CSV_ROWS)):
                problems = {i: row for i, row in enumerate(chunk) if isinstance(row, Problem)}
                columns = {
                    name: [None if isinstance(row, Problem) else row[index] or None for row in chunk]
                    for name, index in at.items()
                }
                yield RowBatch(file_name, first_row, len(chunk), columns, problems=problems)
                first_row += len(chunk)
    finally:
        csv.field_size_limit(previous_limit)


def _rows(reader: Iterator[list[str]], n_columns: int) -> Iterator[list[str] | Problem]:
    while True:
        try:
            row = next(reader, None)
        except csv.Error as error:
            yield Problem("row_unreadable", {"message": shown(str(error))})
            continue
        if row is None:
            return
        if not row:
            continue
        if len(row) > n_columns and not any(row[n_columns:]):
            row = row[:n_columns]
        if len(row) != n_columns:
            yield Problem("row_width", {"n_cells": len(row), "n_columns": n_columns})
        elif any(not cell.isascii() and _is_undecodable(cell) for cell in row):
            yield Problem("row_not_utf8")
        else:
            yield row


def _is_undecodable(cell: str) -> bool:
    return any("\ud800" <= char <= "\udfff" or char == "�" for char in cell)


# -- Parquet ----------------------------------------------------------------------------------------------------


def parquet_batches(
    path: Path, file_name: str, wanted: Sequence[str], image: str | None, lists: Sequence[str] = ()
) -> Iterator[RowBatch]:
    """Yield the rows of a Parquet file; `image` is the column with encoded images, read as it stands.

    Cells of the columns in `lists` become JSON texts.
    """
    with pq.ParquetFile(path) as file:
        names = [*wanted, image] if image else list(wanted)
        first_row = 0
        for batch in file.iter_batches(_image_rows(file) if image else PARQUET_ROWS, columns=names):
            columns = {n: lists_as_text(batch[n]) if n in lists else as_text(batch[n], n) for n in wanted}
            images = batch[image] if image else None
            yield RowBatch(file_name, first_row, batch.num_rows, columns, images, lists=lists)
            first_row += batch.num_rows


def _image_rows(file: pq.ParquetFile) -> int:
    groups = [file.metadata.row_group(at) for at in range(file.metadata.num_row_groups)]
    largest = max((group.total_byte_size / max(1, group.num_rows) for group in groups), default=0.0)
    return int(min(max(IMAGE_BATCH_BYTES / max(largest, 1.0), IMAGE_ROWS), PARQUET_ROWS))


def as_text(column: pa.Array, name: str) -> Text:
    """Return any scalar column as text: 3 and 3.0 are "3", true is "true"; null, NaN and "" are None.

    Raises:
        InputError: the column holds lists, structs or bytes.
    """
    kind = column.type
    if pa.types.is_dictionary(kind):
        column, kind = column.dictionary_decode(), kind.value_type
    if pa.types.is_floating(kind):
        return [_number_text(value) for value in column.to_pylist()]
    if pa.types.is_nested(kind) or pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        raise InputError(f"The column {name} holds {kind}; text, numbers, dates or true/false are needed there.")
    return [value or None for value in pc.cast(column, pa.string()).to_pylist()]


def _number_text(value: float | None) -> str | None:
    if value is None or value != value:  # noqa: PLR0124 - NaN
        return None
    return str(int(value)) if float(value).is_integer() else repr(float(value))
