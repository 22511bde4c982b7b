"""`curate flag` on files: every row, in order, whatever the types; clear errors; bounded and atomic."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from curate.errors import InputError
from curate.teachers import flag_reader
from curate.teachers import flag_table as module
from curate.teachers.disagreement import fit_flags
from curate.teachers.flag_table import flag_table
from curate.teachers.noise import Floats, Ints

NAMES = ["bird", "cat", "dog", "fish"]
K = len(NAMES)
Made = tuple[Ints, Ints, dict[str, Floats]]


@pytest.fixture(scope="module")
def made() -> Made:
    """Return truth, given labels (15 % wrong) and three teachers' float16 probabilities."""
    random = np.random.default_rng(0)
    truth = random.integers(0, K, 900)
    given = np.where(random.random(900) < 0.15, (truth + random.integers(1, K, 900)) % K, truth)
    probs = {}
    for m in range(3):
        logits = random.normal(size=(900, K)) + 4.0 * np.eye(K)[truth]
        probs[f"t{m}"] = (np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)).astype(np.float16)
    return truth, given, probs


def lists(matrix: Floats, kind: str = "fixed") -> pa.Array:
    values = pa.array(matrix.ravel())
    if kind == "fixed":
        return pa.FixedSizeListArray.from_arrays(values, K)
    offsets = pa.array(np.arange(len(matrix) + 1) * K)
    if kind == "large":
        return pa.LargeListArray.from_arrays(offsets.cast(pa.int64()), values)
    return pa.ListArray.from_arrays(offsets.cast(pa.int32()), values)


def write(
    path: Path,
    labels: pa.Array,
    probs: Mapping[str, Floats],
    *,
    kind: str = "fixed",
    metadata: Mapping[str, str] | None = None,
    **more: pa.Array,
) -> Path:
    table = pa.table({**more, "label": labels, **{f"prob_{n}": lists(p, kind) for n, p in probs.items()}})
    pq.write_table(table.replace_schema_metadata(metadata), path, row_group_size=250)
    return path


def words(given: Ints) -> pa.Array:
    return pa.array([NAMES[i] for i in given])


def test_every_row_in_order_with_a_reason_and_the_wrong_ones_flagged(tmp_path: Path, made: Made) -> None:
    truth, given, probs = made
    source = write(tmp_path / "in.parquet", words(given), probs, true_label=words(truth))
    summary = flag_table(source, tmp_path / "deep" / "flags.parquet")
    out = pq.read_table(tmp_path / "deep" / "flags.parquet")
    expected = ["sample_id", "label", "risk", "rank", "flagged", "suggested_label", "suggested_prob", "reason"]
    assert out.column_names == expected
    assert out["sample_id"].to_pylist() == list(range(900))
    assert out["label"].to_pylist() == [NAMES[i] for i in given]
    flagged = np.array(out["flagged"].to_pylist())
    assert (flagged == (given != truth)).mean() > 0.98
    assert summary.n == 900
    assert summary.n_flagged == flagged.sum()
    assert summary.noise_rate.low <= 0.15 <= summary.noise_rate.high + 0.02
    row = out.slice(int(np.flatnonzero(flagged)[0]), 1).to_pylist()[0]
    assert f"teachers say {row['suggested_label']} (mean probability" in row["reason"]
    assert f"the given label {row['label']} gets" in row["reason"]
    assert sorted(p.name for p in (tmp_path / "deep").iterdir()) == ["flags.parquet"]
    answer = json.loads(json.dumps(summary.to_json()))
    assert set(answer["noise_rate"]) == {"estimate", "low", "high", "method"}
    assert {t["name"] for t in answer["teachers"]} == {"t0", "t1", "t2"}
    assert all({"kept", "why", "weight"} <= set(t) for t in answer["teachers"])


def test_label_and_list_types_make_no_difference(tmp_path: Path, made: Made) -> None:
    _, given, probs = made
    plain = words(given)
    unused = pa.DictionaryArray.from_arrays(
        pa.array([NAMES.index(NAMES[i]) + 1 for i in given], pa.int32()), pa.array(["aaa", *NAMES, "zzz"])
    )
    wide = {name: p.astype(np.float64) for name, p in probs.items()}
    cases = [
        write(tmp_path / "a.parquet", plain, probs),
        write(tmp_path / "b.parquet", unused, probs),
        write(tmp_path / "c.parquet", plain, probs, kind="list"),
        write(tmp_path / "d.parquet", plain, wide, kind="large"),
        write(tmp_path / "e.parquet", plain, probs, metadata={"classes": json.dumps(NAMES)}),
        write(tmp_path / "f.parquet", plain, probs, metadata={"classes": ", ".join(NAMES)}),
    ]
    tables = []
    for place, case in enumerate(cases):
        flag_table(case, tmp_path / f"out{place}.parquet")
        tables.append(pq.read_table(tmp_path / f"out{place}.parquet"))
    for table in tables[1:]:
        assert table.equals(tables[0])
    numbers = write(tmp_path / "g.parquet", pa.array(given), probs)
    flag_table(numbers, tmp_path / "numbers.parquet")
    assert pq.read_table(tmp_path / "numbers.parquet")["risk"].equals(tables[0]["risk"])


def test_batches_leave_no_trace(tmp_path: Path, made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    _, given, probs = made
    ids = pa.array([f"img-{i}" for i in range(900)])
    source = write(tmp_path / "in.parquet", words(given), probs, sample_id=ids)
    flag_table(source, tmp_path / "one.parquet")
    monkeypatch.setattr(flag_reader, "BATCH_CELLS", 1)  # 256 rows, the least
    flag_table(source, tmp_path / "two.parquet")
    one, two = pq.read_table(tmp_path / "one.parquet"), pq.read_table(tmp_path / "two.parquet")
    assert one.equals(two)
    assert one["sample_id"].equals(pa.chunked_array([ids]))


def test_the_fit_sample_depends_on_ids_only(tmp_path: Path, made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    _, given, probs = made
    monkeypatch.setattr(module, "fit_rows", lambda *_: 300)
    monkeypatch.setattr(flag_reader, "BATCH_CELLS", 1)
    ids = np.array([f"img-{i}" for i in range(900)])
    order = np.random.default_rng(1).permutation(900)
    write(tmp_path / "a.parquet", words(given), probs, sample_id=pa.array(ids))
    shuffled = {name: p[order] for name, p in probs.items()}
    write(tmp_path / "b.parquet", words(given[order]), shuffled, sample_id=pa.array(ids[order]))
    for name in "ab":
        flag_table(tmp_path / f"{name}.parquet", tmp_path / f"{name}.out")
    a, b = (pq.read_table(tmp_path / f"{name}.out").sort_by("sample_id") for name in "ab")
    assert a.equals(b)


def test_rows_that_cannot_be_judged_have_no_risk_and_say_why(tmp_path: Path, made: Made) -> None:
    _, given, probs = made
    labels = [NAMES[i] for i in given]
    labels[0], labels[1] = None, "horse"
    spoiled = {name: p.copy() for name, p in probs.items()}
    spoiled["t1"][2, 0] = np.nan
    spoiled["t2"][3] *= 2
    source = write(tmp_path / "in.parquet", pa.array(labels), spoiled)
    summary = flag_table(source, tmp_path / "out.parquet", classes=NAMES)
    rows = pq.read_table(tmp_path / "out.parquet").slice(0, 5).to_pylist()
    assert [row["risk"] is None for row in rows] == [True, True, True, True, False]
    assert not any(row["flagged"] for row in rows[:4])
    assert "no label" in rows[0]["reason"]
    assert "horse is none of the classes" in rows[1]["reason"]
    assert "teacher t1" in rows[2]["reason"]
    assert "teacher t2" in rows[3]["reason"]
    assert summary.n_unjudged == 4


def test_a_null_list_is_no_answer_and_the_others_judge(tmp_path: Path, made: Made) -> None:
    _, given, probs = made
    columns = {f"prob_{n}": lists(p) for n, p in probs.items()}
    with_null = columns["prob_t0"].to_pylist()
    with_null[0] = None
    columns["prob_t0"] = pa.array(with_null, pa.list_(pa.float16(), K))
    pq.write_table(pa.table({"label": words(given), **columns}), tmp_path / "in.parquet")
    flag_table(tmp_path / "in.parquet", tmp_path / "out.parquet")
    row = pq.read_table(tmp_path / "out.parquet").slice(0, 1).to_pylist()[0]
    assert row["risk"] is not None
    assert " of 2 teachers" in row["reason"]


def test_too_few_rows_flag_nothing_and_say_so(tmp_path: Path, made: Made) -> None:
    _, given, probs = made
    few = {name: p[:12] for name, p in probs.items()}
    write(tmp_path / "in.parquet", words(given[:12]), few)
    summary = flag_table(tmp_path / "in.parquet", tmp_path / "out.parquet", classes=NAMES)
    out = pq.read_table(tmp_path / "out.parquet")
    assert out.num_rows == summary.n == summary.n_unjudged == 12
    assert summary.n_flagged == 0
    assert summary.noise_rate.method == "insufficient data"
    assert "12 usable rows" in out["reason"][0].as_py()
    write(tmp_path / "none.parquet", words(given[:0]), {n: p[:0] for n, p in probs.items()})
    assert flag_table(tmp_path / "none.parquet", tmp_path / "out0.parquet", classes=NAMES).n == 0
    assert pq.read_table(tmp_path / "out0.parquet").num_rows == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.drop_columns(["label"]), "needs the column label"),
        (lambda t: t.select(["label"]), "prob_<teacher>"),
        (
            lambda t: t.set_column(0, "label", pa.array(["a"] * 900)),
            "4 entries a row, but the distinct labels are 1",
        ),
        (lambda t: t.append_column("prob_x", pa.array([[0.5, 0.5]] * 900)), "prob_x has 2"),
        (lambda t: t.append_column("prob_x", pa.array([0.5] * 900)), "list of probabilities"),
        (lambda t: t.append_column("prob_x", pa.array([[9.0, -3.0, 2.0, 1.0]] * 900)), "logits or percentages"),
        (lambda t: t.replace_schema_metadata({"classes": "[1,"}), "JSON list"),
        (lambda t: t.replace_schema_metadata({"classes": "w,x,y,z"}), "None of the 900 labels"),
        (lambda t: t.replace_schema_metadata({"classes": "w,w,y,z"}), "a class twice: w"),
    ],
)
def test_tables_that_do_not_fit_are_clear_errors_and_leave_nothing(
    tmp_path: Path, made: Made, change: Callable[[pa.Table], pa.Table], message: str
) -> None:
    _, given, probs = made
    source = write(tmp_path / "in.parquet", words(given), probs)
    pq.write_table(change(pq.read_table(source)), source)
    with pytest.raises(InputError, match=message.replace("[", r"\[")):
        flag_table(source, tmp_path / "out.parquet")
    assert [p.name for p in tmp_path.iterdir()] == ["in.parquet"]


def test_what_is_no_parquet_file_is_an_input_error(tmp_path: Path) -> None:
    (tmp_path / "x.parquet").write_text("hello")
    with pytest.raises(InputError, match="cannot be read"):
        flag_table(tmp_path / "x.parquet", tmp_path / "out.parquet")
    with pytest.raises(InputError, match="there is no file"):
        flag_table(tmp_path / "y.parquet", tmp_path / "out.parquet")


def test_a_crash_while_writing_keeps_the_old_file(tmp_path: Path, made: Made) -> None:
    _, given, probs = made
    source = write(tmp_path / "in.parquet", words(given), probs)
    (tmp_path / "out.parquet").write_bytes(b"old")

    def stop(_done: int, _total: int | None) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        flag_table(source, tmp_path / "out.parquet", progress=stop)
    assert (tmp_path / "out.parquet").read_bytes() == b"old"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in.parquet", "out.parquet"]


def with_classes(path: Path, column: str, names: list[str], matrix: Floats) -> Path:
    """Replace a probability column by one that names its own classes."""
    table = pq.read_table(path)
    values = pa.FixedSizeListArray.from_arrays(pa.array(matrix.ravel()), len(names))
    field = pa.field(column, values.type, metadata={"classes": json.dumps(names)})
    table = table.set_column(table.column_names.index(column), field, values)
    pq.write_table(table, path)
    return path


def test_a_teacher_with_classes_of_its_own_is_mapped_by_name(tmp_path: Path, made: Made) -> None:
    _, given, probs = made
    plain = write(tmp_path / "plain.parquet", words(given), probs)
    flag_table(plain, tmp_path / "plain.out.parquet")
    turned = write(tmp_path / "turned.parquet", words(given), probs)
    order = [2, 0, 3, 1]
    with_classes(turned, "prob_t1", [NAMES[k] for k in order], probs["t1"][:, order])
    flag_table(turned, tmp_path / "turned.out.parquet")
    assert pq.read_table(tmp_path / "turned.out.parquet").equals(pq.read_table(tmp_path / "plain.out.parquet"))


def test_labels_that_a_teacher_does_not_know_are_judged_by_the_others(tmp_path: Path, made: Made) -> None:
    _, given, probs = made
    path = write(tmp_path / "in.parquet", words(given), probs)
    some = probs["t1"][:, :3].astype(np.float32) + 1e-3
    with_classes(path, "prob_t1", NAMES[:3], some / some.sum(axis=1, keepdims=True))
    flag_table(path, tmp_path / "out.parquet")
    rows = pq.read_table(tmp_path / "out.parquet").to_pylist()
    assert {row["reason"].split(" teachers ")[0].split(" of ")[1] for row in rows if row["label"] == "fish"} == {
        "2"
    }
    assert {row["reason"].split(" teachers ")[0].split(" of ")[1] for row in rows if row["label"] == "cat"} == {"3"}


def test_a_class_that_the_table_does_not_have_is_an_error_with_a_hint(tmp_path: Path, made: Made) -> None:
    _, given, probs = made
    path = write(tmp_path / "in.parquet", words(given), probs)
    with_classes(path, "prob_t1", ["bird", "catt", "dog", "fish"], probs["t1"])
    with pytest.raises(InputError, match=r"prob_t1 has classes that the table does not have: catt.*'cat'"):
        flag_table(path, tmp_path / "out.parquet")


def test_a_class_with_a_single_sample_is_judged_and_ruins_nothing(tmp_path: Path, made: Made) -> None:
    truth, given, probs = made
    alone = np.where(given == 3, 0, given)
    alone[5] = 3
    source = write(tmp_path / "in.parquet", words(alone), probs, metadata={"classes": ",".join(NAMES)})
    flag_table(source, tmp_path / "out.parquet")
    rows = pq.read_table(tmp_path / "out.parquet").to_pylist()
    assert all(row["risk"] is not None for row in rows)
    others = truth < 3
    wrong = (alone != truth)[others]
    flagged = np.array([row["flagged"] for row in rows])[others]
    assert (flagged == wrong).mean() > 0.95


def test_the_summary_and_the_table_say_what_is_taken_for_what(tmp_path: Path, made: Made) -> None:
    truth, _, probs = made
    random = np.random.default_rng(2)
    swapped = np.where((truth == 1) & (random.random(900) < 0.5), 2, truth)  # half of the cats are called dogs
    summary = flag_table(write(tmp_path / "in.parquet", words(swapped), probs), tmp_path / "out.parquet")
    first = summary.to_json()["transition"]["confusions"][0]
    assert (first["true"], first["given"]) == ("cat", "dog")
    assert abs(first["prob"] - 0.5) < 0.1
    about = json.loads(pq.read_schema(tmp_path / "out.parquet").metadata[b"curate"])
    assert about["transition"] == summary.to_json()["transition"]
    assert about["risk_kind"] == "rank"


@given(
    group_rows=st.integers(7, 900),
    batch_cells=st.sampled_from([1, 10_000, 10**7]),
    kept=st.sampled_from([0, 10**9]),
)
@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_row_groups_batches_and_what_is_kept_leave_no_trace(
    tmp_path: Path, made: Made, group_rows: int, batch_cells: int, kept: int
) -> None:
    _, labels, probs = made
    source = write(tmp_path / "in.parquet", words(labels), probs)
    flag_table(source, tmp_path / "one.parquet")
    pq.write_table(pq.read_table(source), tmp_path / "other.parquet", row_group_size=group_rows)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(flag_reader, "BATCH_CELLS", batch_cells)
        patch.setattr(flag_reader, "KEPT_BYTES", kept)
        flag_table(tmp_path / "other.parquet", tmp_path / "two.parquet")
    assert pq.read_table(tmp_path / "one.parquet").equals(pq.read_table(tmp_path / "two.parquet"))


def test_workers_leave_no_trace(tmp_path: Path, made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    _, labels, probs = made
    source = write(tmp_path / "in.parquet", words(labels), probs)
    monkeypatch.setattr("curate.teachers.scoring.CHUNK_CELLS", 50 * K)
    tables = []
    for n_workers in (1, 7):
        monkeypatch.setattr(module.os, "cpu_count", lambda n=n_workers: n)
        flag_table(source, tmp_path / "out.parquet")
        tables.append(pq.read_table(tmp_path / "out.parquet"))
    assert tables[0].equals(tables[1])


def test_the_width_of_the_numbers_changes_rounding_only(tmp_path: Path, made: Made) -> None:
    _, labels, probs = made
    found = []
    for kind in (np.float16, np.float32, np.float64):
        exact = {
            name: p.astype(np.float64) / p.astype(np.float64).sum(axis=1, keepdims=True)
            for name, p in probs.items()
        }
        source = write(tmp_path / "in.parquet", words(labels), {name: p.astype(kind) for name, p in exact.items()})
        flag_table(source, tmp_path / "out.parquet")
        found.append(pq.read_table(tmp_path / "out.parquet"))
    half, single, double = (table["risk"].to_numpy() for table in found)
    np.testing.assert_allclose(single, double, atol=1e-5)
    np.testing.assert_allclose(half, double, atol=1e-2)
    assert found[1]["flagged"].equals(found[2]["flagged"])


def test_a_sample_with_unusable_rows_is_filled_up_with_the_next_ones(
    tmp_path: Path, made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, labels, probs = made
    spoiled = {name: p.copy() for name, p in probs.items()}
    spoiled["t0"][np.random.default_rng(3).random(900) < 0.4] = 2.0
    monkeypatch.setattr(module, "fit_rows", lambda *_: 200)
    seen = []
    monkeypatch.setattr(
        module, "fit_flags", lambda given, *a, **k: seen.append(len(given)) or fit_flags(given, *a, **k)
    )
    flag_table(write(tmp_path / "in.parquet", words(labels), spoiled), tmp_path / "out.parquet")
    assert seen == [200]
