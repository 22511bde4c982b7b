"""Probability columns of a row group, read without Arrow where their values stand in the file as they are needed.

Uncompressed values go from the file into the batch, compressed ones through one buffer a page. See `parquet_pages`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from io import RawIOBase
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from curate.teachers.noise import Floats
from curate.teachers.parquet_pages import (
    DATA_PAGE,
    DATA_PAGE_V2,
    DICTIONARY_PAGE,
    PLAIN,
    PLAIN_DICTIONARY,
    RLE_DICTIONARY,
    NotPlainError,
    PageHeader,
    all_present,
    lists_of_one_length,
    read_header,
)

_HEAD_BYTES = 32_768  # read at first for a page's header and levels
_LARGEST_PAGE = 64_000_000
_CODECS = {"SNAPPY", "ZSTD", "GZIP"}
Pages = tuple[tuple[int, int], ...]
_DICTIONARY = (PLAIN_DICTIONARY, RLE_DICTIONARY)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a column chunk stands, and what its values are.

    Attributes:
        name: of the column.
        group: number of the row group.
        length: entries of each list, K.
        dtype: of the values.
        start: byte offset in the file.
        n_values: of the chunk.
        codec: None = not compressed.
        max_def: definition level of an entry that is there.
    """

    name: str
    group: int
    length: int
    dtype: np.dtype[Any]
    start: int
    n_values: int
    codec: str | None
    max_def: int


def place_of(file: pq.ParquetFile, group: int, name: str, length: int) -> Place | None:
    """Return where a column of lists stands in a row group; None where its metadata already says: not plain."""
    at = _leaf(file, name)
    kind = file.schema_arrow.field(name).type
    if at is None or length < 2 or not pa.types.is_floating(kind.value_type):
        return None
    leaf, chunk = file.schema.column(at), file.metadata.row_group(group).column(at)
    widths = {"FLOAT": 32, "DOUBLE": 64, "FIXED_LEN_BYTE_ARRAY": 16}
    bits = kind.value_type.bit_width
    compressed = chunk.compression != "UNCOMPRESSED"
    fits = (
        widths.get(chunk.physical_type) == bits
        and (bits != 16 or leaf.length == 2)
        and leaf.max_repetition_level == 1
        and chunk.num_values == file.metadata.row_group(group).num_rows * length
        and "PLAIN" in chunk.encodings
        and (not compressed or chunk.compression in _CODECS)
        and chunk.file_path in {"", None}
    )
    if not fits:
        return None
    start = chunk.data_page_offset
    if chunk.dictionary_page_offset is not None:
        start = min(start, chunk.dictionary_page_offset)
    return Place(
        name, group, length, np.dtype(f"<f{bits // 8}"), start, chunk.num_values,
        chunk.compression.lower() if compressed else None, leaf.max_definition_level,
    )  # fmt: skip


def _leaf(file: pq.ParquetFile, name: str) -> int | None:
    for at in range(len(file.schema)):
        path = file.schema.column(at).path
        if path.startswith(f"{name}.") and path.count(".") == name.count(".") + 2:
            return at
    return None


@dataclass(slots=True)
class PlainList:
    """A column chunk, row by row.

    Attributes:
        file: Arrow's view of the file, for values in a dictionary.
        raw: the file itself.
        place: of the chunk.
        pages: offset and number of the values of each page, where an earlier look found all of them to stand in the
            file as they are needed; None = not looked at.
    """

    file: pq.ParquetFile
    raw: RawIOBase
    place: Place
    pages: Pages | None = None
    _seen: list[tuple[int, int] | None] = field(init=False, default_factory=list)
    _next_page: int = field(init=False)
    _n_read: int = field(init=False, default=0)  # values handed out or at hand
    _at_hand: Floats | None = field(init=False, default=None)  # values of the page, where they are in memory
    _in_file: tuple[int, int] = field(init=False, default=(0, 0))  # offset and number of values that are not

    def __post_init__(self) -> None:
        """Begin at the first page."""
        self._next_page = self.place.start
        if self.pages is None:
            self._begin()

    def pages_for_next_time(self) -> Pages | None:
        """Return `pages` for another look at the chunk, after all of it was read; None where they have to be unpacked."""
        if self.pages is not None:
            return self.pages
        seen = tuple(page for page in self._seen if page is not None)
        return seen if sum(n for _, n in seen) == self.place.n_values else None

    def read_into(self, rows: Floats) -> None:
        """Fill (n, K) contiguous rows with the next ones of the chunk.

        Raises:
            NotPlainError: they are not what the metadata promised; none of them may be used.
        """
        flat = rows.reshape(-1)
        while len(flat):
            flat = flat[self._some(flat) :]

    def _some(self, flat: Floats) -> int:
        if self._at_hand is not None and len(self._at_hand):
            n = min(len(flat), len(self._at_hand))
            flat[:n] = self._at_hand[:n]
            self._at_hand = self._at_hand[n:]
            return n
        offset, n_left = self._in_file
        n = min(len(flat), n_left)
        if not n:
            self._turn()
            return 0
        n_bytes = n * self.place.dtype.itemsize
        self.raw.seek(offset)
        if _read_all(self.raw, flat[:n].view(np.uint8).data) != n_bytes:
            raise NotPlainError
        self._in_file = (offset + n_bytes, n_left - n)
        return n

    def _begin(self) -> None:
        """Let Arrow decode what a dictionary holds; writers use one until it is too large, never again later."""
        n_values = 0
        while n_values < self.place.n_values:
            page, head = self._header()
            if page.kind == DICTIONARY_PAGE:
                self._next_page += page.n_bytes_header + page.n_bytes
                continue
            if page.encoding not in _DICTIONARY:
                break
            self._values(page, head, n_values)
            n_values += page.n_values
            self._next_page += page.n_bytes_header + page.n_bytes
        if n_values >= self.place.n_values:
            raise NotPlainError  # all of it: nothing is gained
        if n_values:
            n_rows = -(-n_values // self.place.length)
            batches = self.file.iter_batches(n_rows, row_groups=[self.place.group], columns=[self.place.name])
            values = next(batches).column(0).flatten().to_numpy(zero_copy_only=False)
            if len(values) < n_values:
                raise NotPlainError
            self._at_hand, self._n_read = values[:n_values], n_values

    def _header(self) -> tuple[PageHeader, bytes]:
        if self._n_read >= self.place.n_values:
            raise NotPlainError
        head = self._bytes(self._next_page, _HEAD_BYTES)
        return read_header(head), head

    def _turn(self) -> None:
        """Go on to the next page."""
        if self.pages is not None:
            self._in_file = self.pages[len(self._seen)]
            self._seen.append(None)
            return
        page, head = self._header()
        if page.encoding != PLAIN or not page.n_values:
            raise NotPlainError
        values = self._values(page, head, self._n_read)
        self._at_hand, self._in_file = (None, values) if isinstance(values, tuple) else (values, (0, 0))
        self._seen.append(values if isinstance(values, tuple) else None)
        self._n_read += page.n_values
        self._next_page += page.n_bytes_header + page.n_bytes

    def _values(self, page: PageHeader, head: bytes, n_before: int) -> Floats | tuple[int, int]:
        """Check a data page's levels; return its values, or offset and number where they can be read as they stand."""
        if page.kind not in {DATA_PAGE, DATA_PAGE_V2} or not page.levels_rle:
            raise NotPlainError
        if not 0 <= page.n_bytes <= _LARGEST_PAGE or not 0 <= page.n_bytes_raw <= _LARGEST_PAGE:
            raise NotPlainError
        place, start = self.place, self._next_page + page.n_bytes_header
        whole = place.codec is not None and page.kind == DATA_PAGE  # levels are compressed with the values
        body = self._unpacked(self._bytes(start, page.n_bytes), page.n_bytes_raw) if whole else None
        if body is None:
            body = head[page.n_bytes_header :][: page.n_bytes]
        (rep, definition, first), body = self._levels(page, body, start)
        n_bytes = page.n_values * place.dtype.itemsize
        regular = lists_of_one_length(rep, page.n_values, place.length, n_before % place.length)
        if not regular or not all_present(definition, page.n_values, place.max_def):
            raise NotPlainError
        if page.encoding != PLAIN:
            return np.empty(0, place.dtype)
        if place.codec is None or (page.kind == DATA_PAGE_V2 and not page.compressed):
            if first + n_bytes != page.n_bytes:
                raise NotPlainError
            return start + first, page.n_values
        if not whole:
            body = self._unpacked(self._bytes(start + first, page.n_bytes - first), page.n_bytes_raw - first)
            first = 0
        if first + n_bytes != len(body):
            raise NotPlainError
        return np.frombuffer(body, place.dtype, page.n_values, first)

    def _levels(self, page: PageHeader, body: bytes, start: int) -> tuple[tuple[Any, Any, int], bytes]:
        """Return repetition and definition levels and where the values begin; reads on where `body` is too short."""
        for _ in range(3):
            spans = _spans(page, body)
            if spans[-1][1] <= len(body):
                break
            body = self._bytes(start, min(spans[-1][1] + 4, page.n_bytes))
        else:
            raise NotPlainError
        rep, definition = (np.frombuffer(body, np.uint8, end - begin, begin) for begin, end in spans)
        return (rep, definition, spans[-1][1]), body

    def _unpacked(self, data: bytes, n_bytes: int) -> Any:  # noqa: ANN401 - a pyarrow.Buffer, which has no types
        try:
            return pa.Codec(self.place.codec).decompress(data, decompressed_size=n_bytes)
        except (OSError, ValueError) as error:
            raise NotPlainError from error

    def _bytes(self, offset: int, n_bytes: int) -> bytes:
        data = bytearray(n_bytes)
        self.raw.seek(offset)
        return bytes(memoryview(data)[: _read_all(self.raw, memoryview(data))])


def _spans(page: PageHeader, body: bytes) -> Sequence[tuple[int, int]]:
    """Return from where to where both sorts of levels stand; a span may end beyond what is at hand."""
    if page.n_bytes_levels is not None:
        rep, definition = page.n_bytes_levels
        return (0, rep), (rep, rep + definition)
    end_rep = 4 + int.from_bytes(body[:4], "little")
    end = end_rep + 4
    if end <= len(body):
        end += int.from_bytes(body[end_rep:end], "little")
    return (4, end_rep), (end_rep + 4, end)


def _read_all(raw: RawIOBase, into: memoryview) -> int:
    """Fill the memory from the file; return how many bytes there were."""
    done = 0
    while done < len(into):
        n = raw.readinto(into[done:])
        if not n:
            break
        done += n
    return done
