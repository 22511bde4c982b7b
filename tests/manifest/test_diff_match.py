"""Walking along two versions in step finds what holding both as a whole finds, however their rows are cut."""

from __future__ import annotations

import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.manifest.diff_compare import flat_differs
from curate.manifest.diff_match import Changed, changed_rows, keys_of
from curate.manifest.diff_partners import matched, places, walked
from curate.manifest.row_groups import RowGroup, row_groups
from curate.manifest.tables import DATA

Row = dict[str, Any]

WORDS = st.sampled_from(["cat", "dog", None])
ROW = st.fixed_dictionaries(
    {
        "released_label": WORDS,
        "split": WORDS,
        "weight": st.sampled_from([0.0, 0.5, 1.0]),
        "action": st.sampled_from(["keep", "soften"]),
        "content_sha256": WORDS,
        "track_id": WORDS,
        "bbox": st.sampled_from([None, [0.1, 0.2, 0.3, 0.4], [0.1, 0.2, 0.3, 0.5]]),
        "mask": st.sampled_from([None, {"height_px": 1, "width_px": 2, "counts": b"1"}]),
        "polygons": st.sampled_from([None, [], [[0.1, 0.2]], [[0.1, 0.2], [0.3]]]),
        "attributes": st.sampled_from(
            [[], [("age", "20-29")], [("age", "30-39")], [("age", "20-29"), ("sex", "f")]]
        ),
        "groups": st.sampled_from([[], [("subject", "ann")]]),
        "flags": st.sampled_from([None, [], ["crowd"], ["difficult"]]),
        "license": WORDS,
    }
)
CHANGES = {"relabeled": "released_label", "split moved": "split", "weight changed": "weight"}
CHANGES |= {"track changed": "track_id", "action changed": "action", "image changed": "content_sha256"}
CHANGES |= {"license changed": "license", "flags changed": "flags"}
NESTED = {"reboxed": ("bbox",), "remasked": ("mask", "polygons"), "attributes changed": ("attributes", "groups")}


def table_of(rows: list[Row]) -> pa.Table:
    always = {"source": "s", "uri": "u", "label_state": "labeled", "reasons": [], "reason_codes": [], "risk": 0.0}
    always |= {"attributes": [], "groups": []}
    columns = {
        field.name: pa.array([{**always, **row}.get(field.name) for row in rows], field.type) for field in DATA
    }
    return pa.table(columns, schema=DATA)


def written(folder: Path, table: pa.Table, part_rows: int, group_rows: int) -> list[RowGroup]:
    (folder / "data").mkdir(parents=True)
    files = []
    for number, start in enumerate(range(0, max(1, table.num_rows), part_rows)):
        path = f"data/part-{number:05d}.parquet"
        pq.write_table(table.slice(start, part_rows), folder / path, row_group_size=group_rows)
        files.append({"path": path})
    return row_groups(folder, {"files": files}, "data")


@st.composite
def versions(draw: st.DrawFn) -> tuple[list[Row], list[Row]]:
    """Return rows of two versions: samples with up to three labels or none, some of them in one version only."""
    sides: tuple[list[Row], list[Row]] = ([], [])
    for sample in range(draw(st.integers(0, 14))):
        labels: list[str | None] = [f"label {sample} {at}" for at in range(draw(st.integers(0, 3)))]
        for label in labels or [None]:
            before, after = draw(ROW), draw(ROW)
            after = draw(st.sampled_from([before, after]))
            where = draw(st.sampled_from(["both", "both", "both", "old", "new"]))
            for side, row, name in ((0, before, "old"), (1, after, "new")):
                if where in {"both", name}:
                    sides[side].append({**row, "sample_id": f"s{sample:02}", "label_id": label, "uri": f"{label}"})
    return sides


def by_hand(old: list[Row], new: list[Row]) -> dict[str, set[tuple[str, str]]]:
    def keyed(rows: list[Row]) -> dict[str, Row]:
        return {row["label_id"] or f"sample:{row['sample_id']}": row for row in rows}

    was, now = keyed(old), keyed(new)
    both = sorted(set(was) & set(now))
    found = {
        change: {(key, key) for key in both if was[key][name] != now[key][name]} for change, name in CHANGES.items()
    }
    for change, names in NESTED.items():
        found[change] = {(key, key) for key in both if any(was[key][name] != now[key][name] for name in names)}
    return found | {
        "gone": {(key, key) for key in set(was) - set(now)},
        "came": {(k, k) for k in set(now) - set(was)},
    }


def said(changed: Changed) -> dict[str, set[tuple[str, str]]]:
    found = {}
    for change in changed.pairs:
        was, now = changed.of(change)
        found[change] = set(zip(keys_of(was).to_pylist(), keys_of(now).to_pylist(), strict=True))
        assert was["uri"].to_pylist() == [
            str(label) for label in was["label_id"].to_pylist()
        ]  # told of the same row
        assert now["uri"].to_pylist() == [str(label) for label in now["label_id"].to_pylist()]
    for name, rows in (("gone", changed.removed), ("came", changed.added)):
        found[name] = {(key, key) for key in keys_of(rows).to_pylist()}
    return found


@given(sides=versions(), sizes=st.lists(st.integers(1, 9), min_size=4, max_size=4), shuffled=st.booleans())
@settings(max_examples=40, deadline=None)
def test_in_step_or_not_the_same_rows_differ(
    sides: tuple[list[Row], list[Row]], sizes: list[int], shuffled: bool
) -> None:
    old, new = sides
    if shuffled:  # a version that somebody wrote in another order
        new = [new[at] for at in np.random.default_rng(len(new)).permutation(len(new))]
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(2) as pool:
        groups = [
            written(Path(folder) / name, table_of(rows), part_rows, group_rows)
            for name, rows, part_rows, group_rows in (("old", old, *sizes[:2]), ("new", new, *sizes[2:]))
        ]
        assert said(changed_rows(*groups, pool)) == by_hand(old, new)


def test_a_label_that_went_to_another_sample_is_one_row(tmp_path: Path) -> None:
    rows = [
        {"sample_id": f"s{at:02}", "label_id": f"label {at}", "action": "keep", "weight": 1.0, "uri": f"label {at}"}
        for at in range(20)
    ]
    moved = sorted(
        [*rows[1:], {**rows[0], "sample_id": "s99", "weight": 0.5}], key=lambda row: str(row["sample_id"])
    )
    with ThreadPoolExecutor(2) as pool:
        groups = [written(tmp_path / name, table_of(of), 7, 3) for name, of in (("old", rows), ("new", moved))]
        found = said(changed_rows(*groups, pool))
    assert {change: keys for change, keys in found.items() if keys} == {"weight changed": {("label 0", "label 0")}}


KEYS = st.lists(st.integers(0, 5000), unique=True, max_size=40)


@given(common=KEYS, gone=KEYS, came=KEYS, shuffle=st.none() | st.integers(0, 9), long=st.booleans())
@settings(max_examples=60, deadline=None)
def test_partners_are_the_keys_that_both_have(
    common: list[int], gone: list[int], came: list[int], shuffle: int | None, long: bool
) -> None:
    stride = 100 if long else 1  # runs of keys, or one by one
    old = sorted({key * stride + at for key in (*common, *gone) for at in range(stride)})
    new = sorted({key * stride + at for key in (*common, *set(came) - set(gone)) for at in range(stride)})
    if shuffle is not None:
        new = np.random.default_rng(shuffle).permutation(new).tolist()
    texts = [pa.array([f"{key:024}" for key in keys], pa.string()) for keys in (old, new)]
    at_old, at_new = places(matched(*texts))
    assert texts[0].take(pa.array(at_old)).equals(texts[1].take(pa.array(at_new)))
    assert sorted(set(old) & set(new)) == sorted(np.array([*old, 0])[at_old].tolist())


def test_a_walk_gives_up_on_keys_that_lie_crosswise() -> None:
    assert walked(pa.array(["a", "b", "c"]), pa.array(["b", "c", "a"])) is None
    assert walked(pa.array(["a", "b", "c"]), pa.array(["x", "b", "y", "c"])) == [(1, 1, 1), (2, 3, 1)]


@given(pairs=st.lists(st.tuples(WORDS, WORDS), max_size=12), skip=st.integers(0, 3))
def test_words_differ_whether_they_are_spelled_or_coded(pairs: list[tuple[Any, Any]], skip: int) -> None:
    sides = [pa.array([pair[side] for pair in pairs], pa.string()) for side in (0, 1)]
    expected = [was != now for was, now in pairs][skip:]
    assert flat_differs(*(side[skip:] for side in sides)).tolist() == expected
    assert flat_differs(*(side.dictionary_encode()[skip:] for side in sides)).tolist() == expected


@pytest.mark.parametrize("group_rows", [1, 2, 100])
def test_a_column_of_nulls_is_read_as_it_is(tmp_path: Path, group_rows: int) -> None:
    mask = pa.struct([("height_px", pa.int32()), ("counts", pa.binary())])
    table = pa.table(
        {
            "text": pa.array([None, None, "x"], pa.string()),
            "empty": pa.array([None, [], [None]], pa.list_(pa.string())),
            "box": pa.array([None, None, None], pa.list_(pa.float64(), 4)),
            "null_box": pa.array([None, [None] * 4, None], pa.list_(pa.float64(), 4)),
            "mask": pa.array([None, None, {"height_px": None, "counts": b""}], mask),
            "nothing": pa.nulls(3, pa.float64()),
        }
    )
    (tmp_path / "data").mkdir()
    pq.write_table(table, tmp_path / "data" / "part-00000.parquet", row_group_size=group_rows)
    groups = row_groups(tmp_path, {"files": [{"path": "data/part-00000.parquet"}]}, "data")
    found = pa.concat_tables([group.read(table.column_names) for group in groups])
    assert found.column_names == table.column_names
    for name in table.column_names:
        assert found[name].to_pylist() == table[name].to_pylist(), name
    assert pc.all(pc.is_null(found["nothing"])).as_py()
