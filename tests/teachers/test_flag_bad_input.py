"""`curate flag` as a command on what people hand it by mistake: a sentence and a code, never a silent number."""

from __future__ import annotations

import resource
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curate.cli import main
from curate.errors import ExitCode

NAMES = np.array(["bird", "cat", "dog", "fish"])
N, K = 240, len(NAMES)
Flag = Callable[..., tuple[int, str]]


def lists(matrix: np.ndarray) -> pa.Array:
    return pa.FixedSizeListArray.from_arrays(pa.array(matrix.ravel()), matrix.shape[1])


@pytest.fixture
def table() -> pa.Table:
    random = np.random.default_rng(0)
    truth = random.integers(0, K, N)
    given = np.where(random.random(N) < 0.1, random.integers(0, K, N), truth)
    columns = {"label": pa.array(NAMES[given])}
    for m in range(3):
        logits = random.normal(size=(N, K)) + 4.0 * np.eye(K)[truth]
        probs = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        columns[f"prob_t{m}"] = lists(probs.astype(np.float32))
    return pa.table(columns)


@pytest.fixture
def flag(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Flag:
    """Return a function that runs the command on a table or a file, and returns its exit code and what it says."""

    def run(given: pa.Table | Path, *options: str, out: Path | None = None) -> tuple[int, str]:
        path = given if isinstance(given, Path) else tmp_path / "in.parquet"
        if path is not given:
            pq.write_table(given, path)
        argv = ["curate", "flag", str(path), "--out", str(out or tmp_path / "out.parquet"), "--quiet", *options]
        monkeypatch.setattr(sys, "argv", argv)
        with pytest.raises(SystemExit) as ended:
            main(own_process=False)
        said = capsys.readouterr()
        return int(ended.value.code or 0), said.err + said.out

    return run


def changed(table: pa.Table, name: str, values: pa.Array) -> pa.Table:
    return table.set_column(table.column_names.index(name), name, values)


def spoiled(table: pa.Table, change: Callable[[np.ndarray], None]) -> pa.Table:
    """Return the table with the probabilities of t1 changed in place."""
    values = np.array(table["prob_t1"].combine_chunks().flatten()).reshape(-1, K)
    change(values)
    return changed(table, "prob_t1", lists(values))


@pytest.mark.parametrize(
    ("change", "n_unjudged", "why"),
    [
        (
            lambda p: p[:5].__imul__(1.5),
            5,
            "the probabilities of teacher t1 are not finite, are negative or do not",
        ),
        (lambda p: p[:2].__setitem__((0, 1), np.nan), 1, "some of the probabilities of teacher t1 are NaN"),
        (lambda p: p[:4].__setitem__(slice(None), np.inf), 4, "the probabilities of teacher t1 are not finite"),
        (lambda p: p[3].__setitem__(slice(None), [1.5, -0.5, 0.0, 0.0]), 1, "t1 are not finite, are negative"),
        (lambda p: p.__setitem__(slice(None), np.nan), 0, ""),  # a teacher that says nothing: the others judge
    ],
    ids=["sum", "nan", "inf", "negative", "silent"],
)
def test_rows_that_are_no_probabilities_are_not_judged(
    table: pa.Table, flag: Flag, tmp_path: Path, change: Callable[[np.ndarray], None], n_unjudged: int, why: str
) -> None:
    code, said = flag(spoiled(table, change))
    assert code == ExitCode.OK
    assert (f"{n_unjudged} rows could not be judged" in said) == bool(n_unjudged)
    out = pq.read_table(tmp_path / "out.parquet")
    unjudged = out.filter(out["risk"].is_null())
    assert unjudged.num_rows == n_unjudged
    assert all(why in text for text in unjudged["reason"].to_pylist())


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda t: spoiled(t, lambda p: p.__imul__(100)), "turn logits or percentages into probabilities"),
        (lambda t: t.drop_columns(["label"]), "needs the column label"),
        (lambda t: t.select(["label"]), "needs the column prob_<teacher>"),
        (lambda t: changed(t, "prob_t0", pa.array([["a"] * K] * N)), "prob_t0 needs a list of probabilities"),
        (lambda t: changed(t, "prob_t0", pa.array([[0.5, 0.5]] * N)), "prob_t0 has 2, prob_t1 has 4"),
        (
            lambda t: changed(t, "prob_t0", pa.array([[0.25] * K] * (N - 1) + [[1.0]])),
            "1 rows have another number, the first 1",
        ),
        (lambda t: changed(t, "label", pa.array([{"a": 1}] * N)), "need to be text or numbers"),
        (lambda t: changed(t, "label", pa.nulls(N)), f"none of the {N} rows has a label"),
        (lambda t: t.append_column("sample_id", pa.array([[1]] * N)), "need to be text or numbers"),
        (lambda t: t.append_column("sample_id", pa.array([b"\xff"] * N)), "need to be text or numbers"),
        (lambda t: t.slice(0, 0), "none of the 0 rows has a label"),
    ],
)
def test_tables_that_cannot_be_judged_are_refused(
    table: pa.Table, flag: Flag, tmp_path: Path, change: Callable[[pa.Table], pa.Table], says: str
) -> None:
    code, said = flag(change(table))
    assert code == ExitCode.INPUT
    assert says in said
    assert [path.name for path in tmp_path.iterdir()] == ["in.parquet"]


def test_another_class_list_is_refused(table: pa.Table, flag: Flag) -> None:
    code, said = flag(table, "--classes", "a,b,c,d")
    assert code == ExitCode.INPUT
    assert f"None of the {N} labels is one of the 4 classes (a, b, c, d)" in said


def test_no_rows_and_too_few_are_insufficient_data(table: pa.Table, flag: Flag, tmp_path: Path) -> None:
    for n_rows in (0, 5):
        code, said = flag(table.slice(0, n_rows), "--classes", ",".join(NAMES))
        assert code == ExitCode.OK
        assert "wrong labels: insufficient data" in said
        assert pq.read_table(tmp_path / "out.parquet").num_rows == n_rows


def test_a_file_that_was_cut_off_is_refused(table: pa.Table, flag: Flag, tmp_path: Path) -> None:
    pq.write_table(table, tmp_path / "whole.parquet")
    content = (tmp_path / "whole.parquet").read_bytes()
    (tmp_path / "cut.parquet").write_bytes(content[: len(content) // 2])
    code, said = flag(tmp_path / "cut.parquet")
    assert code == ExitCode.INPUT
    assert "cut.parquet cannot be read as one" in said


def test_a_damaged_middle_is_found_while_reading(table: pa.Table, flag: Flag, tmp_path: Path) -> None:
    pq.write_table(table, tmp_path / "damaged.parquet", compression="zstd", row_group_size=60)
    content = bytearray((tmp_path / "damaged.parquet").read_bytes())
    offset = pq.read_metadata(tmp_path / "damaged.parquet").row_group(2).column(1).data_page_offset
    content[offset : offset + 400] = b"\xff" * 400
    (tmp_path / "damaged.parquet").write_bytes(content)
    code, said = flag(tmp_path / "damaged.parquet")
    assert code == ExitCode.INPUT
    assert "damaged or was cut off" in said
    assert not (tmp_path / "out.parquet").exists()


def test_the_table_itself_is_never_written_over(table: pa.Table, flag: Flag, tmp_path: Path) -> None:
    pq.write_table(table, tmp_path / "in.parquet")
    before = (tmp_path / "in.parquet").read_bytes()
    (tmp_path / "link.parquet").symlink_to(tmp_path / "in.parquet")
    for out in (tmp_path / "in.parquet", tmp_path / "link.parquet"):
        code, said = flag(tmp_path / "in.parquet", out=out)
        assert code == ExitCode.USAGE
        assert "is the table that is read" in said
    assert (tmp_path / "in.parquet").read_bytes() == before


def test_an_output_that_cannot_be_written_is_refused_at_once(table: pa.Table, flag: Flag, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for out, says in (
        (tmp_path / "file" / "out.parquet", "cannot be written"),
        (Path("/proc/out.parquet"), "cannot be written"),  # read-only for root as well
        (tmp_path, "is a folder"),
    ):
        code, said = flag(table, out=out)
        assert code == ExitCode.USAGE
        assert says in said


def test_a_full_disk_leaves_what_was_there(table: pa.Table, flag: Flag, tmp_path: Path) -> None:
    pq.write_table(table, tmp_path / "in.parquet")
    (tmp_path / "out.parquet").write_bytes(b"old")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(
        resource.RLIMIT_FSIZE, (2000, limits[1])
    )  # the kernel refuses to write more, as on a full disk
    try:
        code, said = flag(tmp_path / "in.parquet")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert code == ExitCode.CRASHED
    assert "could not be written" in said
    assert (tmp_path / "out.parquet").read_bytes() == b"old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.parquet", "out.parquet"]
