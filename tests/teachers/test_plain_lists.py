"""Probability columns that are read without Arrow: the same values, or left to Arrow; never something else."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from curate.teachers import flag_reader
from curate.teachers.flag_reader import Reader
from curate.teachers.flag_table import flag_table
from curate.teachers.parquet_pages import NotPlainError, all_present, lists_of_one_length, read_header
from curate.teachers.plain_lists import PlainList, place_of

FILES = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def matrix(n_rows: int, width: int, dtype: str, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random((n_rows, width)).astype(dtype)


def written(path: Path, values: np.ndarray, kind: str, **options: Any) -> Path:  # noqa: ANN401 - Arrow's own
    n_rows, width = values.shape
    flat = pa.array(values.ravel())
    if kind == "fixed":
        column = pa.FixedSizeListArray.from_arrays(flat, width)
    else:
        column = pa.ListArray.from_arrays(pa.array(np.arange(n_rows + 1, dtype=np.int32) * width), flat)
    other = pa.array([{"a": 1, "b": "x"}] * n_rows)  # leaves that stand before the column
    pq.write_table(pa.table({"other": other, "prob_t": column}), path, **options)
    return path


def read_all(path: Path, width: int, batch_rows: int) -> list[np.ndarray]:
    """Return every row group, read twice: the second time by what the first one found."""
    file = pq.ParquetFile(path)
    found = []
    for group in range(file.num_row_groups):
        place = place_of(file, group, "prob_t", width)
        assert place is not None
        twice, pages = [], None
        for _ in range(2):
            rows = np.empty((file.metadata.row_group(group).num_rows, width), place.dtype)
            with path.open("rb", buffering=0) as raw:
                column = PlainList(file, raw, place, pages)
                for start in range(0, len(rows), batch_rows):
                    column.read_into(rows[start : start + batch_rows])
                pages = column.pages_for_next_time()
            twice.append(rows)
        assert np.array_equal(*twice)
        found.append(twice[0])
    return found


@given(
    n_rows=st.integers(1, 400),
    width=st.integers(2, 60),
    dtype=st.sampled_from(["f2", "f4", "f8"]),
    kind=st.sampled_from(["fixed", "list"]),
    page_bytes=st.sampled_from([64, 1000, 2**20]),
    version=st.sampled_from(["1.0", "2.0"]),
    codec=st.sampled_from(["none", "snappy", "zstd", "gzip"]),
    group_rows=st.sampled_from([50, 1000]),
    batch_rows=st.integers(1, 90),
)
@FILES
def test_plain_lists_are_read_as_arrow_reads_them(  # noqa: PLR0913, PLR0917 - one for each way to write
    tmp_path: Path, n_rows: int, width: int, dtype: str, kind: str, page_bytes: int, version: str, codec: str,
    group_rows: int, batch_rows: int,
) -> None:  # fmt: skip
    values = matrix(n_rows, width, dtype)
    path = written(
        tmp_path / "in.parquet", values, kind, use_dictionary=False, data_page_size=page_bytes, compression=codec,
        data_page_version=version, row_group_size=group_rows, write_batch_size=16,
    )  # fmt: skip
    assert np.array_equal(np.concatenate(read_all(path, width, batch_rows)), values)


@pytest.mark.parametrize("version", ["1.0", "2.0"])
@pytest.mark.parametrize("codec", ["none", "snappy"])
def test_what_a_dictionary_held_until_it_was_full_is_read_too(tmp_path: Path, version: str, codec: str) -> None:
    values = matrix(900, 7, "f4")
    path = written(
        tmp_path / "in.parquet", values, "fixed", dictionary_pagesize_limit=2000, data_page_size=1000,
        data_page_version=version, compression=codec, write_batch_size=16,
    )  # fmt: skip
    encodings = pq.ParquetFile(path).metadata.row_group(0).column(2).encodings
    assert {"PLAIN", "RLE_DICTIONARY"} <= set(encodings)
    assert np.array_equal(np.concatenate(read_all(path, 7, 64)), values)


def test_what_is_all_in_a_dictionary_is_left_to_arrow(tmp_path: Path) -> None:
    path = written(tmp_path / "in.parquet", np.tile(matrix(1, 7, "f4"), (900, 1)), "fixed")
    with pytest.raises(NotPlainError):
        read_all(path, 7, 64)


@pytest.mark.parametrize("odd", [None, [0.5] * 6, [0.5] * 8, [*[0.5] * 6, None], []])
def test_a_list_unlike_the_others_is_noticed(tmp_path: Path, odd: list[float | None] | None) -> None:
    rows: list[Any] = matrix(900, 7, "f4").tolist()
    rows[700] = odd
    if odd is not None and len(odd) != 7:
        rows[701] = [0.5] * (14 - len(odd))  # as many values as there should be
    table = pa.table({"prob_t": pa.array(rows, pa.list_(pa.float32()))})
    path = tmp_path / "in.parquet"
    pq.write_table(table, path, use_dictionary=False, data_page_size=1000, write_batch_size=16)
    with pytest.raises((NotPlainError, AssertionError)):  # the assertion: metadata alone told
        read_all(path, 7, 64)


def table_of(n_rows: int, odd: int | None) -> pa.Table:
    random = np.random.default_rng(3)
    truth = random.integers(0, 5, n_rows)
    label = np.where(random.random(n_rows) < 0.1, (truth + 1) % 5, truth)
    columns: dict[str, pa.Array] = {"label": pa.array([f"c{k}" for k in label])}
    for m in range(3):
        logits = random.normal(size=(n_rows, 5)) + 4 * np.eye(5)[truth]
        probs: list[Any] = (np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)).tolist()
        if odd is not None and m == 1:
            probs[odd] = [*[None] * 4, 1.0]
        columns[f"prob_t{m}"] = pa.array(probs, pa.list_(pa.float32()))
    return pa.table(columns)


@pytest.mark.parametrize("odd", [None, 0, 2000, 2997])
def test_where_reading_changes_over_in_the_midst_of_a_row_group_nothing_is_lost(
    tmp_path: Path, odd: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = table_of(3000, odd)
    monkeypatch.setattr(flag_reader, "BATCH_CELLS", 1)
    one, other = tmp_path / "one.parquet", tmp_path / "other.parquet"
    pq.write_table(table, one, use_dictionary=["label"], data_page_size=2000, write_batch_size=64)
    pq.write_table(table, other, row_group_size=500)  # too few rows to look at their pages
    for path in (one, other):
        flag_table(path, path.with_suffix(".out"))
    assert pq.read_table(one.with_suffix(".out")).equals(pq.read_table(other.with_suffix(".out")))
    names = [f"prob_t{m}" for m in range(3)]
    reader = Reader(pq.ParquetFile(one), one, tuple(names), tuple(f"c{k}" for k in range(5)), {}, has_ids=False)
    assert sum(len(batch.rows.given) for batch in reader.batches()) == 3000
    assert bool(reader._not_plain) == (odd is not None)


@given(st.data())
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_damaged_file_is_left_to_arrow_and_ends_no_other_way(tmp_path: Path, data: st.DataObject) -> None:
    values = matrix(300, 7, "f4")
    path = written(
        tmp_path / "in.parquet", values, "fixed", use_dictionary=False, data_page_size=2000, write_batch_size=16
    )
    file = pq.ParquetFile(path)
    place = place_of(file, 0, "prob_t", 7)
    assert place is not None
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[place.start + data.draw(st.integers(0, 120))] = data.draw(st.integers(0, 255))
    damaged = tmp_path / "damaged.parquet"
    damaged.write_bytes(content[: place.start + data.draw(st.integers(0, len(content)))])
    rows = np.zeros((300, 7), place.dtype)
    with damaged.open("rb", buffering=0) as raw:
        try:
            PlainList(file, raw, place).read_into(rows)
        except NotPlainError:
            return


def encoded(levels: Sequence[int], width: int, cuts: Sequence[int]) -> bytes:
    """Return levels in the hybrid encoding; each piece is one run where it may be, else packed."""
    out = bytearray()
    start = 0
    for cut in [*cuts, len(levels)]:
        piece = list(levels[start:cut])
        if piece and len(set(piece)) == 1:
            out += varint(len(piece) << 1) + bytes([piece[0]])
        elif piece:
            end = cut if cut == len(levels) else start + len(piece) // 8 * 8
            if end == start:
                continue
            piece = list(levels[start:end])
            padded = piece + [0] * (-len(piece) % 8)
            bits = [(level >> bit) & 1 for level in padded for bit in range(width)]
            out += varint(len(padded) // 8 << 1 | 1) + np.packbits(bits, bitorder="little").tobytes()
            cut = end  # noqa: PLW2901 - the rest goes with the next piece
        start = cut
    return bytes(out)


def varint(value: int) -> bytes:
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


@given(
    length=st.integers(2, 20),
    n_lists=st.integers(1, 40),
    first=st.integers(0, 19),
    cuts=st.lists(st.integers(0, 800), max_size=12),
    wrong=st.none() | st.integers(0, 799),
)
@settings(max_examples=300, deadline=None)
def test_levels_are_those_of_lists_of_one_length_or_not(
    length: int, n_lists: int, first: int, cuts: list[int], wrong: int | None
) -> None:
    levels = [int((first + at) % length != 0) for at in range(length * n_lists)]
    if wrong is not None and wrong < len(levels):
        levels[wrong] = 1 - levels[wrong]
    else:
        wrong = None
    stream = np.frombuffer(encoded(levels, 1, sorted(c for c in cuts if c < len(levels))), np.uint8)
    assert lists_of_one_length(stream, len(levels), length, first % length) == (wrong is None)
    if not (wrong is None and length * n_lists < 8):  # a cut-off stream is never taken for whole
        assert not lists_of_one_length(stream[:-1], len(levels), length, first % length)


@given(
    n=st.integers(1, 500), highest=st.integers(1, 3), wrong=st.none() | st.integers(0, 499), packed=st.booleans()
)
@settings(max_examples=100, deadline=None)
def test_levels_are_all_the_highest_or_not(n: int, highest: int, wrong: int | None, packed: bool) -> None:
    levels = [highest] * n
    if wrong is not None and wrong < n:
        levels[wrong] = highest - 1
    else:
        wrong = None
    width = highest.bit_length()
    cuts = [8] if packed and n > 8 else []
    assert all_present(np.frombuffer(encoded(levels, width, cuts), np.uint8), n, highest) == (wrong is None)


@given(st.binary(max_size=80))
@settings(max_examples=300, deadline=None)
def test_what_is_no_page_header_is_said_to_be_none(data: bytes) -> None:
    try:
        header = read_header(data)
    except NotPlainError:
        return
    assert header.n_bytes >= 0
