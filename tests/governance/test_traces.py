"""What a text gives away: found wherever it stands, and nothing else is taken for it."""

from __future__ import annotations

import json
import string

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.governance.traces import GONE, Traces

ID = "0123456789abcdef01234567"
SHA = "fedcba9876543210" * 4
TRACES = Traces(frozenset({ID, SHA}), ("a/b c.png", "x.png"), ("/data/src",), ("anna",))


@pytest.mark.parametrize(
    "text",
    [
        ID,
        f"sample {ID}: broken",
        f"images/fe/{SHA[:24]}/x",
        f"{SHA}.png",
        "a/b c.png",
        "cannot decode a/b c.png: truncated",
        "cannot decode 'a/b c.png'.",
        "/data/src/a/b c.png",
        "see x.png, then stop",
        "x.png.",
    ],
)
def test_it_is_found(text: str) -> None:
    assert TRACES.hits(text)
    assert not TRACES.hits(TRACES.scrubbed(text))


@pytest.mark.parametrize(
    "text",
    [
        "",
        ID[:23],
        "aa/b c.png",
        "xx.png",
        "other/x.png",
        "/elsewhere/x.png",
        "x.png.bak",
        "x.pngx",
        "my-x.png",
        "anna",
    ],
)
def test_what_only_looks_like_it_is_left_alone(text: str) -> None:
    assert not TRACES.hits(text)
    assert TRACES.scrubbed(text) == text


DEEP = pa.struct([("deep", pa.list_(pa.struct([("text", pa.string())])))])
words = st.text(string.ascii_letters + string.digits + " ./-_:'\"é", max_size=12)
anything = st.lists(
    st.one_of(words, st.sampled_from([ID, SHA, "a/b c.png", "x.png", "/data/src/x.png"])), max_size=8
)


@settings(deadline=None)
@given(anything)
def test_nothing_is_left_in_any_text(parts: list[str]) -> None:
    text = " ".join(parts)
    assert not TRACES.hits(TRACES.scrubbed(text))


json_values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), words, st.sampled_from([ID, SHA, "x.png", "anna"])),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(words, inner, max_size=3)),
    max_leaves=10,
)


@settings(deadline=None)
@given(json_values)
def test_a_json_value_keeps_its_shape_and_loses_the_names(value: object) -> None:
    clean = TRACES.scrub_json(value)
    assert not TRACES.json_hits(clean)
    assert '"anna"' not in json.dumps(clean)
    if not TRACES.json_hits(value) and '"anna"' not in json.dumps(value):
        assert clean == value


@settings(deadline=None)
@given(st.lists(anything, max_size=6))
def test_rows_are_found_in_texts_lists_json_and_dictionaries(rows: list[list[str]]) -> None:
    texts = [" ".join(parts) for parts in rows]
    table = pa.table(
        {
            "n": pa.array(range(len(rows)), pa.int64()),
            "text": pa.array(texts, pa.string()),
            "coded": pa.array(texts, pa.string()).dictionary_encode(),
            "list": pa.array(rows, pa.list_(pa.string())),
            "struct": pa.array([{"deep": [{"text": text}]} for text in texts], DEEP),
            "map": pa.array([[("key", text)] for text in texts], pa.map_(pa.string(), pa.string())),
            "bytes": pa.array([text.encode() for text in texts], pa.binary()),
            "json": pa.array([json.dumps({"args": parts}) for parts in rows], pa.string()),
        }
    )
    in_text, in_list = [TRACES.hits(text) for text in texts], [any(map(TRACES.hits, parts)) for parts in rows]
    assert TRACES.rows(table.select(["n"])) == [False] * len(rows)
    assert TRACES.rows(table.select(["text"])) == TRACES.rows(table.select(["coded"])) == in_text
    assert TRACES.rows(table.select(["list"])) == in_list
    for name in ("struct", "map", "bytes"):
        assert TRACES.rows(table.select([name])) == in_text
        assert TRACES.rows(table.select([name]).slice(1)) == in_text[1:]
    assert all(
        found or not there for found, there in zip(TRACES.rows(table.select(["json"])), in_list, strict=True)
    )


def test_a_subject_is_a_whole_value() -> None:
    assert TRACES.scrub_json({"key": "anna", "text": "annalen der physik"}) == {
        "key": GONE,
        "text": "annalen der physik",
    }
