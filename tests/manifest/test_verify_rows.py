"""The pass over row groups says of counts, soft labels and verdicts what looking at whole tables says."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from curate import schema
from curate.errors import InputError
from curate.manifest import load_release, publish
from curate.manifest.row_groups import id_numbers, read_rows, row_groups
from curate.manifest.soft import image_keys
from curate.manifest.verify_meaning import BY_MEANING, kept
from curate.manifest.verify_rows import Opened, Silence
from curate.policy import Policy, Rule
from curate.verdicts import decide

Worlds = Callable[..., Any]
Tables = dict[str, pa.Table]

KINDS = ("data", "excluded", "findings", "decisions", "soft")
EDITED = {
    "data": ("sample_id", "label_id", "given_label", "released_label", "action", "weight", "risk", "reasons"),
    "excluded": ("sample_id", "label_id", "given_label", "action", "weight", "reason_codes", "error_code", "stage"),
    "findings": ("sample_id", "label_id", "issue", "risk", "suggested_label"),
    "decisions": ("sample_id", "label_id", "decision", "to_label", "content_sha256"),
    "soft": ("sample_id", "label_id"),
}


@pytest.fixture(scope="module")
def tables(world: Worlds, tmp_path_factory: pytest.TempPathFactory) -> tuple[Tables, Mapping[str, Any]]:
    made = world(n=40, flagged={3: "dog", 4: "fox", 20: "cat", 30: "dog"})
    about = {"sample_id": made.sample_id(8), "label_id": made.label_id(8), "at": "2026-01-01T00:00:00Z"}
    made.decisions = [
        {**about, "decision_id": "d1", "reviewer": "Kim", "decision": "relabel", "to_label": "dog"},
        {**about, "decision_id": "d2", "reviewer": "Kim", "decision": "drop", "content_sha256": "0"},
    ]
    loaded = load_release(publish(made.release(), tmp_path_factory.mktemp("releases"), "zoo").path)
    return {kind: getattr(loaded, kind) for kind in KINDS}, loaded.manifest | {"evidence": loaded.evidence}


def written(folder: Path, tables: Tables, manifest: Mapping[str, Any], group_rows: int) -> Opened:
    """Write tables as a version whose hashes nobody asks for, in small row groups."""
    (folder / "evidence").mkdir()
    for name in ("policy", "teachers"):
        (folder / "evidence" / f"{name}.json").write_text(json.dumps(manifest["evidence"][name]))
    words = {"classes": json.dumps(manifest["classes"]), "temperature": manifest["soft"]["temperature"]}
    for kind, table in tables.items():
        (folder / kind).mkdir()
        part = table.replace_schema_metadata(words) if kind == "soft" else table
        rows = group_rows + 1 if kind == "soft" else group_rows  # groups that do not lie beside each other
        pq.write_table(part, folder / kind / "part-00000.parquet", row_group_size=rows)
    return Opened(folder, manifest)


def by_whole_tables(tables: Tables, policy: Policy) -> bool:
    """Return whether all rows are there once and all verdicts are those that follow, by `decide` on everything."""
    excluded = tables["excluded"].filter(pc.equal(tables["excluded"]["stage"], "verdict"))
    data = tables["data"].append_column("error_code", pa.nulls(tables["data"].num_rows, pa.string()))
    names = [*schema.VERDICTS.names, "given_label", "task", "content_sha256", "error_code"]
    rows = pa.concat_tables([table.select(names) for table in (data, excluded)], promote_options="permissive")
    rows = rows.sort_by([("sample_id", "ascending"), ("label_id", "ascending")]).combine_chunks()
    labels = rows.filter(pc.is_valid(rows["label_id"])).rename_columns({"given_label": "label"})
    first = [("content_sha256", "first"), ("error_code", "first")]
    samples = rows.group_by("sample_id", use_threads=False).aggregate(first)
    samples = samples.rename_columns(["sample_id", "content_sha256", "error_code"])
    try:
        again = decide(samples, labels, tables["findings"], policy, tables["decisions"])
    except InputError:
        return False
    same = all(again[name].combine_chunks().equals(rows[name].combine_chunks()) for name in schema.VERDICTS.names)
    keys = pc.coalesce(data["label_id"], data["sample_id"])
    once = pc.count_distinct(keys).as_py() == data.num_rows
    return same and once and not pc.any(pc.equal(data["action"], "drop")).as_py()


def edited(tables: Tables, kind: str, column: str, at: int, value: Any) -> Tables:  # noqa: ANN401 - a cell's
    table = tables[kind]
    field = table.schema.field(column)
    values = table[column].to_pylist()
    values[at % len(values)] = value
    place = table.schema.get_field_index(column)
    return {**tables, kind: table.set_column(place, field, pa.array(values, field.type))}


@st.composite
def edits(draw: st.DrawFn) -> tuple[str, str, int, int]:
    kind = draw(st.sampled_from(KINDS))
    return kind, draw(st.sampled_from(EDITED[kind])), draw(st.integers(0, 50)), draw(st.integers(0, 50))


OTHER = {"released_label": "fox", "given_label": "fox", "action": "soften", "weight": 0.25, "risk": 0.5}
OTHER |= {"reasons": ["x"], "issue": "blurry", "to_label": "fox", "decision": "keep", "suggested_label": "cat"}


@given(
    changes=st.lists(edits(), max_size=2),
    other=st.booleans(),
    group_rows=st.sampled_from([1, 3, 7, 100]),
    swaps=st.booleans(),
)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_pass_finds_what_deciding_everything_again_finds(
    tables: tuple[Tables, Mapping[str, Any]],
    changes: list[tuple[str, str, int, int]],
    other: bool,
    group_rows: int,
    swaps: bool,
) -> None:
    whole, manifest = tables
    for kind, column, at, source in changes:
        values = whole[kind][column].to_pylist()
        value = OTHER[column] if other and column in OTHER else values[source % len(values)]
        whole = edited(whole, kind, column, at, value)
    if swaps:
        order = np.roll(np.arange(whole["data"].num_rows), 5)
        whole = {**whole, "data": whole["data"].take(order), "soft": whole["soft"].take(order)}
    with tempfile.TemporaryDirectory() as folder:
        opened = written(Path(folder), whole, manifest, group_rows)
        found = {name: kept(name, BY_MEANING[name], opened).ok for name in ("counts", "soft labels", "verdicts")}
    ids = ("sample_id", "label_id")
    beside = all(whole["soft"][name].equals(whole["data"][name]) for name in ids)
    assert found["soft labels"] == beside
    assert (found["counts"] and found["verdicts"]) == by_whole_tables(whole, opened.policy)


def test_a_finding_under_the_name_of_another_sample_still_speaks_of_its_label(
    tables: tuple[Tables, Mapping[str, Any]], tmp_path: Path
) -> None:
    whole, manifest = tables
    silent = whole["data"].filter(pc.equal(pc.list_value_length(whole["data"]["reasons"]), 0)).to_pylist()[-1]
    assert silent["label_id"]
    moved = edited(whole, "findings", "label_id", 0, silent["label_id"])
    opened = written(tmp_path, moved, manifest, 3)
    assert silent["label_id"] in opened.rows.spoken["label_id"].to_pylist()
    assert kept("verdicts", BY_MEANING["verdicts"], opened).ok is False


def silent_rows(data: pa.Table) -> list[int]:
    """Return the rows with a label of which nothing speaks."""
    silent = pc.and_(pc.equal(pc.list_value_length(data["reasons"]), 0), pc.is_valid(data["label_id"]))
    return [int(at) for at in np.flatnonzero(silent.to_numpy())]


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("action", "soften"),
        ("released_label", "no class"),
        ("released_label", None),
        ("given_label", "no class"),
        ("weight", 0.5),
        ("weight", float("nan")),
        ("risk", 0.1),
        ("reasons", ["x"]),
        ("reason_codes", ["x"]),
    ],
)
def test_a_row_of_which_nothing_speaks_is_held_against_silence(
    tables: tuple[Tables, Mapping[str, Any]], tmp_path: Path, column: str, value: object
) -> None:
    whole, manifest = tables
    changed = edited(whole, "data", column, silent_rows(whole["data"])[3], value)
    promise = kept("verdicts", BY_MEANING["verdicts"], written(tmp_path, changed, manifest, 7))
    assert promise.ok is False
    assert promise.detail.endswith("released_label" if column == "given_label" else column)


def test_a_row_without_label_beside_another_of_its_sample_is_found(
    tables: tuple[Tables, Mapping[str, Any]], tmp_path: Path
) -> None:
    whole, manifest = tables
    bare = pc.index(pc.is_null(whole["data"]["label_id"]), value=True).as_py()
    silent = whole["data"].slice(silent_rows(whole["data"])[0], 1)
    row = silent.set_column(0, whole["data"].schema.field(0), whole["data"]["sample_id"].slice(bare, 1))
    doubled = pa.concat_tables([whole["data"].slice(0, bare), row, whole["data"].slice(bare)])
    for group_rows in range(1, 5):  # also where a row group ends between the two
        folder = tmp_path / str(group_rows)
        folder.mkdir()
        opened = written(folder, {**whole, "data": doubled}, manifest, group_rows)
        assert kept("verdicts", BY_MEANING["verdicts"], opened).ok is False


def test_a_sample_with_a_row_without_label_and_another_row_is_found(
    tables: tuple[Tables, Mapping[str, Any]], tmp_path: Path
) -> None:
    whole, manifest = tables
    bare = pc.index(pc.is_null(whole["data"]["label_id"]), value=True).as_py()
    silent = silent_rows(whole["data"])[0]
    for group_rows in (1, 100):  # anywhere, so that the rows no longer ascend; and beside it
        twice = edited(whole, "data", "sample_id", silent, whole["data"]["sample_id"][bare].as_py())
        folder = tmp_path / str(group_rows)
        folder.mkdir()
        assert kept("verdicts", BY_MEANING["verdicts"], written(folder, twice, manifest, group_rows)).ok is False


def test_silence_keeps_whatever_the_policy_says_of_findings() -> None:
    for policy in (Policy(), Policy(rules=(Rule(issue="*", action="drop"),)), Policy(release_review=True)):
        assert Silence.of(policy) == Silence("keep", 1.0, 0.0)


@given(ids=st.lists(st.text("0123456789abcdefé", min_size=8, max_size=30), max_size=20), skip=st.integers(0, 3))
def test_equal_ids_have_equal_numbers(ids: list[str], skip: int) -> None:
    array = pa.array(ids, pa.string())[skip:]
    kept_ids = ids[skip:]
    numbers = id_numbers(array)
    if len({len(one.encode()) for one in kept_ids}) > 1:
        assert numbers is None
    else:
        assert numbers is not None
        assert len(set(numbers.tolist())) == len(set(kept_ids))


@given(start=st.integers(0, 12), n_rows=st.integers(0, 12), group_rows=st.integers(1, 5))
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_rows_are_read_across_groups_and_parts(start: int, n_rows: int, group_rows: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        paths = []
        (Path(folder) / "data").mkdir()
        for number, bounds in enumerate(((0, 4), (4, 4), (4, 10))):
            path = f"data/part-{number:05d}.parquet"
            part = pa.table({"a": pa.array(range(*bounds), pa.int64())})
            pq.write_table(part, Path(folder) / path, row_group_size=group_rows)
            paths.append({"path": path})
        groups = row_groups(Path(folder), {"files": paths}, "data")
        assert [group.start for group in groups] == np.cumsum([0, *(g.n_rows for g in groups)])[:-1].tolist()
        found = read_rows(groups, start, n_rows, ["a", "absent"])
    expected = list(range(10))[start : start + n_rows]
    assert (found["a"].to_pylist() if found.num_columns else []) == expected


@given(digests=st.lists(st.none() | st.binary(min_size=32, max_size=32), max_size=9), skip=st.integers(0, 3))
def test_the_key_of_an_image_is_how_its_hash_begins(digests: list[bytes | None], skip: int) -> None:
    texts = pa.array([None if one is None else one.hex() for one in digests], pa.string())[skip:]
    expected = [None if one is None else int.from_bytes(one[:8], "big") for one in digests[skip:]]
    assert image_keys(texts).to_pylist() == expected
