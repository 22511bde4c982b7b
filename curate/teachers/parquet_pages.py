"""Pages of a Parquet column chunk, for columns that need no decoding: headers, and levels of lists of one length.

Arrow spends two thirds of the time that a list column takes on rebuilding where each list ends. Where every list has K
entries and none is null, these levels are one pattern over and over: it is enough to see that they are. Whatever is
not that way is left to Arrow.

Format: https://github.com/apache/parquet-format (Thrift compact protocol; RLE / bit-packing hybrid).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

PLAIN, PLAIN_DICTIONARY, RLE, RLE_DICTIONARY = 0, 2, 3, 8
DATA_PAGE, DICTIONARY_PAGE, DATA_PAGE_V2 = 0, 2, 3
_TRUE, _FALSE, _BYTE, _DOUBLE, _BINARY, _STRUCT = 1, 2, 3, 7, 8, 12
_INTEGERS = (4, 5, 6)  # i16, i32, i64: all are zigzag varints
_MOST_RUNS = 20_000  # of a page; a pattern that repeats is seen in a few
_DEEPEST = 4

Levels = NDArray[np.uint8]


class NotPlainError(Exception):
    """A column chunk that has to be left to Arrow; never seen by a user."""


@dataclass(frozen=True, slots=True)
class PageHeader:
    """What a page is.

    Attributes:
        kind: DATA_PAGE, DICTIONARY_PAGE, DATA_PAGE_V2, or another one.
        n_bytes_header: of the header itself.
        n_bytes: of the page as it stands in the file, without its header.
        n_bytes_raw: of the page when it is not compressed.
        n_values: entries of the lists.
        encoding: of the values.
        levels_rle: whether both sorts of levels are of the usual encoding.
        n_bytes_levels: of repetition and definition levels; None = said in the page itself (first version).
        compressed: whether the values of a second version's page are compressed.
    """

    kind: int
    n_bytes_header: int
    n_bytes: int
    n_bytes_raw: int
    n_values: int
    encoding: int
    levels_rle: bool
    n_bytes_levels: tuple[int, int] | None
    compressed: bool


def read_header(data: bytes) -> PageHeader:
    """Return the header at the start of `data`.

    Raises:
        NotPlainError: no page header, or cut off.
    """
    try:
        fields, end = _struct(data, 0, 0)
        kind, raw, size = fields[1], fields[2], fields[3]
        if size < 0:
            raise NotPlainError
        if kind == DATA_PAGE:
            page = fields[5]
            usual = page[3] == RLE and page[4] == RLE
            return PageHeader(kind, end, size, raw, page[1], page[2], usual, None, compressed=True)
        if kind == DATA_PAGE_V2:
            page = fields[8]
            lengths = (page[6], page[5])
            return PageHeader(
                kind, end, size, raw, page[1], page[4], levels_rle=True, n_bytes_levels=lengths,
                compressed=page.get(7, True),
            )  # fmt: skip
    except (IndexError, KeyError, TypeError) as error:
        raise NotPlainError from error
    return PageHeader(kind, end, size, raw, 0, -1, levels_rle=False, n_bytes_levels=None, compressed=True)


def _varint(data: bytes | Levels, at: int) -> tuple[int, int]:
    value = shift = 0
    while shift <= 63:
        byte = int(data[at])
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
    raise NotPlainError


def _struct(data: bytes, at: int, depth: int) -> tuple[dict[int, Any], int]:
    """Return the fields of a Thrift struct by number, and where it ends."""
    found: dict[int, Any] = {}
    number = 0
    if depth > _DEEPEST:
        raise NotPlainError
    while data[at]:
        delta, kind = data[at] >> 4, data[at] & 0x0F
        at += 1
        if delta:
            number += delta
        else:
            zigzag, at = _varint(data, at)
            number = (zigzag >> 1) ^ -(zigzag & 1)
        found[number], at = _value(data, at, kind, depth)
    return found, at + 1


def _value(data: bytes, at: int, kind: int, depth: int) -> tuple[Any, int]:
    if kind in {_TRUE, _FALSE}:
        return kind == _TRUE, at
    if kind in _INTEGERS:
        zigzag, at = _varint(data, at)
        return (zigzag >> 1) ^ -(zigzag & 1), at
    if kind == _BINARY:
        length, at = _varint(data, at)
        return data[at : at + length], at + length
    if kind == _STRUCT:
        return _struct(data, at, depth + 1)
    if kind in {_BYTE, _DOUBLE}:
        return None, at + (1 if kind == _BYTE else 8)
    raise NotPlainError  # lists and maps stand in no page header


def lists_of_one_length(levels: Levels, n_values: int, length: int, first: int) -> bool:
    """Say whether repetition levels begin a list at every `length`-th entry and nowhere else.

    Args:
        levels: encoded, of one bit each.
        n_values: how many there are.
        length: entries of a list, 2 or more.
        first: which entry of its list the first one is.
    """
    return _follows(levels, n_values, (0, *(1,) * (length - 1)), first, 1)


def all_present(levels: Levels, n_values: int, highest: int) -> bool:
    """Say whether definition levels all are the highest: no list and no entry is null."""
    return _follows(levels, n_values, (highest,), 0, highest.bit_length())


def _follows(levels: Levels, n_values: int, pattern: tuple[int, ...], first: int, width: int) -> bool:
    """Say whether encoded levels repeat a pattern, of which the first one is number `first`.

    Runs are looked at one by one until one begins at a place of the pattern where another one began. What lies
    between them is then compared byte by byte with what follows: the same bytes from the same place of the pattern
    are the same levels.
    """
    at = done = 0
    seen: dict[int, tuple[int, int]] = {}
    for _ in range(_MOST_RUNS):
        if done >= n_values:
            return True
        place = (first + done) % len(pattern)
        if place in seen:
            at_before, done_before = seen[place]
            repeats = min(_repeats(levels, at_before, at), (n_values - done) // (done - done_before))
            if repeats:
                at, done = at + repeats * (at - at_before), done + repeats * (done - done_before)
                seen.clear()
                continue
        seen[place] = (at, done)
        try:
            n_in_run, at = _run(levels, at, n_values - done, pattern, place, width)
        except IndexError:
            return False
        if not n_in_run:
            return False
        done += n_in_run
    return False


def _repeats(levels: Levels, start: int, end: int) -> int:
    """Return how often the bytes from start to end stand again right after them."""
    length = end - start
    if not np.array_equal(levels[start:end], levels[end : end + length]):
        return 0
    differs = levels[end:] != levels[start : len(levels) - length]
    same = int(differs.argmax()) if differs.any() else len(differs)
    return same // length


def _run(levels: Levels, at: int, n_left: int, pattern: tuple[int, ...], place: int, width: int) -> tuple[int, int]:
    """Return how many levels a run holds, 0 where they are not those of the pattern, and where it ends."""
    header, at = _varint(levels, at)
    if header & 1:
        n_bytes = (header >> 1) * width
        packed = levels[at : at + n_bytes]
        count = min((header >> 1) * 8, n_left)
        if len(packed) < n_bytes:
            raise IndexError
        bits = np.unpackbits(packed, bitorder="little").reshape(-1, width)[:count]
        found = (bits << np.arange(width, dtype=np.uint8)).sum(axis=1)
        wanted = np.asarray(pattern)[(place + np.arange(count)) % len(pattern)]
        return (count if np.array_equal(found, wanted) else 0), at + n_bytes
    count = min(header >> 1, n_left)
    run = pattern[place : place + count] if len(pattern) > 1 else pattern
    same = all(level == levels[at] for level in set(run))
    fits = len(pattern) == 1 or place + count <= len(pattern)
    return (count if same and fits else 0), at + 1
