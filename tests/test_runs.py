from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curate import runs


@pytest.fixture
def run(tmp_path: Path) -> runs.Run:
    return runs.Run(runs.open_workspace(tmp_path, "pets"), runs.Silent())


def table(*values: int | None) -> pa.Table:
    return pa.table({"a": pa.array(values, pa.int64())})


def test_a_stage_is_computed_once_and_then_read(run: runs.Run) -> None:
    calls: list[int] = []

    def compute() -> dict[str, pa.Table]:
        calls.append(1)
        return {"t": table(1, 2)}

    first = run.stage("ingest", {"x": 1}, ["t"], compute)
    second = run.stage("ingest", {"x": 1}, ["t"], compute)
    other = run.stage("ingest", {"x": 2}, ["t"], compute)
    assert first["t"].equals(second["t"])
    assert other["t"].num_rows == 2
    assert len(calls) == 2
    assert [stage["cached"] for stage in run.record["stages"]] == [False, True, False]


def test_a_damaged_cache_file_is_made_again(run: runs.Run) -> None:
    run.stage("scan", {}, ["t"], lambda: {"t": table(1)})
    (cached,) = (run.workspace.cache / "scan").glob("*.t.parquet")
    cached.write_bytes(b"PAR1 no more")
    again = run.stage("scan", {}, ["t"], lambda: {"t": table(7)})
    assert again["t"]["a"].to_pylist() == [7]


def test_a_stage_that_crashes_leaves_no_result_and_stands_in_the_record(run: runs.Run) -> None:
    def crash() -> dict[str, pa.Table]:
        raise RuntimeError("disk on fire")

    with pytest.raises(RuntimeError):
        run.stage("scan", {}, ["t"], crash)
    assert not list(run.workspace.cache.rglob("*.parquet"))
    assert run.record["stages"][-1]["error"] == "RuntimeError: disk on fire"


def test_digest_does_not_depend_on_chunks_or_on_a_trip_through_parquet(tmp_path: Path) -> None:
    boxes = pa.array([[0.1, 0.2], None, [0.3, 0.4], [0.5, 0.6]], pa.list_(pa.float64(), 2))
    polygons = pa.array([[[1.0]], [[]], [], None], pa.list_(pa.list_(pa.float64())))
    whole = pa.table(
        {"a": pa.array([1, None, 3, 4]), "s": pa.array(["x", "y", None, "ü"]), "b": boxes, "p": polygons}
    )
    parts = pa.concat_tables([whole.slice(0, 1), whole.slice(1, 3)])
    pq.write_table(parts, tmp_path / "t.parquet")
    assert (
        runs.digest_table(whole)
        == runs.digest_table(parts)
        == runs.digest_table(pq.read_table(tmp_path / "t.parquet"))
    )


def test_a_cached_table_comes_back_with_its_types(run: runs.Run) -> None:
    made = pa.table({"b": pa.array([[0.1, 0.2], None], pa.list_(pa.float64(), 2)), "f": [["x"], []]})
    run.stage("ingest", {}, ["t"], lambda: {"t": made})
    again = run.stage("ingest", {}, ["t"], dict)
    assert again["t"].schema.equals(made.schema)
    assert again["t"].equals(made)


@pytest.mark.parametrize(
    "other",
    [
        pa.table({"a": [1, 2, 4]}),
        pa.table({"a": [1, 3, 2]}),
        pa.table({"b": [1, 2, 3]}),
        pa.table({"a": pa.array([1, 2, 3], pa.int32())}),
        pa.table({"a": [1, 2, None]}),
    ],
)
def test_digest_sees_every_change(other: pa.Table) -> None:
    assert runs.digest_table(pa.table({"a": [1, 2, 3]})) != runs.digest_table(other)


def test_listing_digest_sees_new_changed_and_renamed_files(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x.png").write_bytes(b"1")
    seen = [runs.digest_listing(tmp_path)]
    (tmp_path / "a" / "y.png").write_bytes(b"22")
    seen.append(runs.digest_listing(tmp_path))
    (tmp_path / "a" / "y.png").rename(tmp_path / "a" / "z.png")
    seen.append(runs.digest_listing(tmp_path))
    (tmp_path / "a" / "z.png").write_bytes(b"333")
    seen.append(runs.digest_listing(tmp_path))
    assert len(set(seen)) == 4
    assert runs.digest_listing(tmp_path) == seen[-1]
