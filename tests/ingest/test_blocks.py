"""Rows that were collected say the same, whether they lie in one block or in many."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.ingest import blocks
from curate.ingest.collect import Collector
from curate.ingest.source import ReadOptions

SCHEMA = pa.schema([("name", pa.string()), ("at", pa.int64()), ("box", pa.list_(pa.float64()))])
TEXT = st.none() | st.text(max_size=3)
ROWS = st.lists(st.tuples(TEXT, st.none() | st.integers(-5, 5), st.none() | st.lists(st.floats(0, 1), max_size=2)))


@settings(deadline=None)
@given(rows=ROWS, block_rows=st.integers(1, 4), data=st.data())
def test_rows_are_those_that_were_put(rows: list[blocks.Row], block_rows: int, data: st.DataObject) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(blocks, "BLOCK_ROWS", block_rows)
        held = blocks.Rows(SCHEMA)
        for row in rows:
            held.append(row)
        expected = list(rows)
        if rows:
            at = data.draw(st.integers(0, len(rows) - 1))
            expected[at] = ("changed", 7, None)
            held.change(at, expected[at])
        assert len(held) == len(rows)
        assert [held[at] for at in range(len(rows))] == expected
        table = held.drain()
    assert table.schema == SCHEMA
    assert list(map(tuple, zip(*(column.to_pylist() for column in table.columns), strict=True))) == expected
    assert len(held) == 0


@settings(deadline=None)
@given(texts=st.lists(TEXT), gaps=st.lists(st.integers(1, 5)), after=st.integers(0, 3))
def test_texts_have_gaps(texts: list[str | None], gaps: list[int], after: int) -> None:
    expected: list[str | None] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(blocks, "BLOCK_ROWS", 3)
        column = blocks.Texts()
        for text, gap in zip(texts, gaps, strict=False):
            expected += [None] * (gap - 1) + [text]
            column.put(len(expected) - 1, text)
        assert column.array(len(expected) + after).to_pylist() == expected + [None] * after


def test_what_is_decided_late_reaches_blocks_that_are_closed(tmp_path: Path) -> None:
    options = ReadOptions(source="s", root=tmp_path, classes=("a", "b"))

    def read() -> tuple[pa.Table, ...]:
        collector = Collector(options)
        for at in range(7):
            collector.add_labeled_image(
                f"row {at}", f"{at}.jpg", "a", n_bytes=1, split="train", groups={"g": f"{at}"} if at % 3 else None
            )
        collector.add_labeled_image("row 7", "1.jpg", "b", n_bytes=1, split="train")  # contradicts the second row
        collector.add_labeled_image("row 8", "2.jpg", "a", n_bytes=1, split="train")  # says it again
        collector.add_labeled_image("row 9", "3.jpg", "a", n_bytes=1, split="val")
        made = collector.finish()
        return made.samples, made.labels, made.outcomes

    whole = read()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(blocks, "BLOCK_ROWS", 2)
        parts = read()
    assert all(one.equals(other) for one, other in zip(whole, parts, strict=True))
    assert whole[2]["outcome"].to_pylist().count("out") == 3
    assert whole[2]["reason_code"].to_pylist()[-1] == "in_two_splits"
    assert "1.jpg" not in whole[0]["uri"].to_pylist()
