"""Great Expectations fails open in six ways: each test shows the trap and that it is closed."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from curate import schema
from curate.errors import ConfigError
from curate.gx import FAILING, Validation, load_suite, suite_folder, validate

ALLOWED = {"classes": ["cat", "dog"], "splits": ["train", "test"]}


def suite(folder: Path, *expectations: dict[str, Any], **more: Any) -> Path:  # noqa: ANN401 - JSON
    folder.mkdir(exist_ok=True)
    (folder / "own.json").write_text(json.dumps({"name": "own", "key": "id", "expectations": expectations} | more))
    return folder


def expect(kind: str, nullable: bool = False, severity: str = "critical", **kwargs: Any) -> dict[str, Any]:  # noqa: ANN401, FBT002 - JSON
    return {"type": f"expect_{kind}", "kwargs": kwargs, "severity": severity, "meta": {"nullable": nullable}}


def outcomes(said: Validation) -> list[str]:
    return [line["outcome"] for line in said.evidence["expectations"]]


def value(said: Validation) -> tuple[float | None, str | None]:
    (row,) = [row for row in said.statistics.to_pylist() if row["group"] is None]
    assert (row["check"], row["name"]) == ("expectations", said.evidence["suite"])
    return row["value"], row["outcome"]


def trap(frame: Any, expectations: list[tuple[str, dict[str, Any]]], **options: Any) -> Any:  # noqa: ANN401 - GX and pandas
    """Return what Great Expectations itself says."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import great_expectations as gx  # noqa: PLC0415 - seconds
        from great_expectations.data_context.types.base import ProgressBarsConfig  # noqa: PLC0415

        context = gx.get_context(mode="ephemeral")
        context.variables.progress_bars = ProgressBarsConfig(globally=False, metric_calculations=False)
        items = [{"type": f"expect_{kind}", "kwargs": kwargs} for kind, kwargs in expectations]
        batch = context.data_sources.pandas_default.read_dataframe(frame)
        return batch.validate(gx.ExpectationSuite(name="trap", expectations=items), **options)


IN_SET = ("column_values_to_be_in_set", {"column": "label", "value_set": ["cat"]})


def test_trap_1_an_unknown_type_is_dropped_and_passes_here_it_is_errored(tmp_path: Path) -> None:
    table = pa.table({"id": ["a"], "label": ["cat"]})
    report = trap(table.to_pandas(), [("nothing_of_the_kind", {"column": "label"}), IN_SET])
    assert report.success
    assert len(report.results) == 1
    folder = suite(tmp_path, expect("nothing_of_the_kind", column="label"), expect(IN_SET[0], **IN_SET[1]))
    said = validate(table, "own", folder=folder)
    assert outcomes(said) == ["errored", "met"]
    assert value(said) == (0.5, "errored")


def test_trap_2_an_empty_table_passes_here_it_does_not(tmp_path: Path) -> None:
    table = pa.table({"id": pa.array([], pa.string()), "label": pa.array([], pa.string())})
    assert trap(table.to_pandas(), [IN_SET]).success
    said = validate(table, "own", folder=suite(tmp_path, expect(IN_SET[0], **IN_SET[1])))
    assert outcomes(said) == ["not met"]
    assert value(said) == (0.0, None)


def test_trap_2_a_column_of_nulls_passes_here_only_where_the_suite_says_so(tmp_path: Path) -> None:
    table = pa.table({"id": ["a", "b"], "label": pa.array([None, None], pa.string())})
    assert trap(table.to_pandas(), [IN_SET]).success
    range_of_nulls = expect("column_value_lengths_to_be_between", nullable=True, column="label", min_value=1)
    folder = suite(tmp_path, expect(IN_SET[0], **IN_SET[1]), range_of_nulls)
    said = validate(table, "own", folder=folder)
    assert outcomes(said) == ["not met", "not applicable"]
    assert value(said) == (0.0, None)
    only = suite(tmp_path, expect(IN_SET[0], nullable=True, **IN_SET[1]))
    assert value(validate(table, "own", folder=only)) == (None, "errored")


def test_trap_3_lists_of_failing_rows_are_cut_here_all_are_named_and_no_value_is(tmp_path: Path) -> None:
    n = 1_000
    table = pa.table({"id": [f"{i:04d}" for i in range(n)], "label": [f"secret{i}" for i in range(n)]})
    cut = trap(table.to_pandas(), [IN_SET], result_format="COMPLETE").results[0].result
    assert len(cut["unexpected_list"]) == 200
    said = validate(table, "own", folder=suite(tmp_path, expect(IN_SET[0], **IN_SET[1])))
    assert said.failing["row_id"].to_pylist() == table["id"].to_pylist()
    assert said.failing.schema == FAILING
    assert "secret" not in json.dumps(said.evidence)


def test_trap_4_a_missing_column_reads_like_a_failure_here_it_is_errored(tmp_path: Path) -> None:
    table = pa.table({"id": ["a"]})
    result = trap(table.to_pandas(), [IN_SET]).results[0]
    assert (result.success, result.result) == (False, {})
    said = validate(table, "own", folder=suite(tmp_path, expect(IN_SET[0], **IN_SET[1])))
    assert outcomes(said) == ["errored"]
    assert "no column label" in said.evidence["expectations"][0]["why"]
    assert value(said) == (0.0, "errored")


def test_an_exception_inside_great_expectations_is_errored(tmp_path: Path) -> None:
    table = pa.table({"id": ["a"], "label": ["cat"]})
    folder = suite(tmp_path, expect("column_values_to_be_between", column="label", min_value=0))
    assert outcomes(validate(table, "own", folder=folder)) == ["errored"]
    folder = suite(tmp_path, expect("column_values_to_be_between", colum="label", min_value=0))
    assert outcomes(validate(table, "own", folder=folder)) == ["errored"]


def test_uniqueness_holds_across_shards_and_shards_change_nothing(tmp_path: Path) -> None:
    table = pa.table({"id": ["a", "b", "c", "a", "d"], "label": ["cat", "cow", "cat", "cat", "cow"]})
    folder = suite(
        tmp_path,
        expect("table_row_count_to_be_between", min_value=1),
        expect("column_values_to_be_unique", column="id"),
        expect("compound_columns_to_be_unique", column_list=["id", "label"], ignore_row_if="never"),
        expect(IN_SET[0], **IN_SET[1]),
    )
    whole = validate(table, "own", folder=folder)
    assert outcomes(whole) == ["met", "not met", "not met", "not met"]
    for shard_rows in (1, 2, 3):
        said = validate(table, "own", folder=folder, shard_rows=shard_rows)
        assert outcomes(said) == outcomes(whole)
        assert said.failing.equals(whole.failing)
        assert said.statistics.equals(whole.statistics)
    moved = validate(table.take(pa.array([4, 2, 0, 3, 1])), "own", folder=folder)
    assert moved.failing.equals(whole.failing)
    assert moved.evidence == whole.evidence


def test_what_is_about_the_whole_table_is_not_judged_shard_by_shard(tmp_path: Path) -> None:
    table = pa.table({"id": ["a", "b"], "x": [1.0, 3.0]})
    folder = suite(tmp_path, expect("column_mean_to_be_between", column="x", min_value=1.9, max_value=2.1))
    assert outcomes(validate(table, "own", folder=folder)) == ["met"]
    assert outcomes(validate(table, "own", folder=folder, shard_rows=1)) == ["errored"]


def test_a_set_that_is_not_given_is_errored_and_mostly_is_refused(tmp_path: Path) -> None:
    table = pa.table({"id": ["a"], "label": ["cat"]})
    placeholder = expect("column_values_to_be_in_set", column="label", value_set={"$allowed": "classes"})
    mostly = expect(IN_SET[0], mostly=0.1, **IN_SET[1])
    folder = suite(tmp_path, placeholder, mostly)
    assert outcomes(validate(table, "own", folder=folder)) == ["errored", "errored"]
    assert outcomes(validate(table, "own", folder=folder, allowed=ALLOWED)) == ["met", "errored"]


def test_a_warning_does_not_count_among_the_critical(tmp_path: Path) -> None:
    table = pa.table({"id": ["a"], "label": ["cow"]})
    folder = suite(
        tmp_path,
        expect("column_values_to_not_be_null", column="id"),
        expect(IN_SET[0], severity="warning", **IN_SET[1]),
    )
    said = validate(table, "own", folder=folder)
    assert value(said) == (1.0, None)
    assert [r["value"] for r in said.statistics.to_pylist()] == [1.0, 0.0]


def test_evidence_has_no_clock_and_no_path_and_is_the_same_twice(tmp_path: Path) -> None:
    table = pa.table({"id": ["a"], "label": ["cow"]})
    folder = suite(tmp_path / "one", expect(IN_SET[0], **IN_SET[1]))
    first = validate(table, "own", folder=folder)
    shutil.copytree(folder, tmp_path / "two")
    assert validate(table, "own", folder=tmp_path / "two").evidence == first.evidence
    text = json.dumps(first.evidence)
    assert str(tmp_path) not in text
    assert "time" not in text


def test_an_unknown_or_broken_suite_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="Did you mean 'samples'"):
        load_suite("sample")
    (tmp_path / "own.json").write_text("{")
    with pytest.raises(ConfigError, match="not JSON"):
        load_suite("own", tmp_path)
    (tmp_path / "own.json").write_text('{"expectations": []}')
    with pytest.raises(ConfigError, match="at least one"):
        load_suite("own", tmp_path)


def _labels(**values: Any) -> pa.Table:  # noqa: ANN401 - cells
    row = {
        "label_id": schema.stable_id("l"),
        "sample_id": schema.stable_id("s"),
        "task": "detection",
        "label": "cat",
        "split": None,
        "frame": None,
    }
    fields = [("label_id", pa.string()), ("sample_id", pa.string()), ("task", pa.string()), ("label", pa.string())]
    return pa.Table.from_pylist(
        [row | values], schema=pa.schema([*fields, ("split", pa.string()), ("frame", pa.int64())])
    )


@pytest.mark.parametrize(
    "values",
    [
        {"label": "cow"},
        {"label": ""},
        {"label": None},
        {"task": "guess"},
        {"split": "x"},
        {"frame": -1},
        {"label_id": "../x"},
    ],
)
def test_the_labels_suite_catches(values: dict[str, Any]) -> None:
    assert value(validate(_labels(), "labels", allowed=ALLOWED)) == (1.0, None)
    share, outcome = value(validate(_labels(**values), "labels", allowed=ALLOWED))
    assert share is not None
    assert share < 1
    assert outcome is None


def _sample(**values: Any) -> dict[str, Any]:  # noqa: ANN401 - cells
    row = {
        "sample_id": schema.stable_id("s"),
        "source": "s",
        "uri": "a b/ü.png",
        "label_state": "labeled",
        "split": "train",
    }
    scan = {"content_sha256": "0" * 64, "n_bytes": 9, "format": "PNG", "width_px": 3, "height_px": 4}
    measures = {"exif_orientation": 1, "brightness_p50": 0.5, "entropy_bits": 3.0, "error_code": None}
    return row | scan | measures | values


SAMPLES = pa.schema(
    [*(f for f in schema.SAMPLES if f.name != "n_bytes"), *(f for f in schema.SCAN if f.name != "sample_id")]
)


@pytest.mark.parametrize(
    "values",
    [
        {"uri": "/etc/passwd"},
        {"uri": "a/../b.png"},
        {"uri": "C:\\x.png"},
        {"width_px": 0},
        {"content_sha256": None},
        {"entropy_bits": 9.0},
    ],
)
def test_the_samples_suite_catches(values: dict[str, Any]) -> None:
    good = _sample(uri="a..b/c.png", sample_id=schema.stable_id("good"))
    unreadable = _sample(sample_id=schema.stable_id("u"), error_code="truncated", width_px=None)
    fine = schema.table_from_rows([good, unreadable], SAMPLES)
    assert value(validate(fine, "samples", allowed=ALLOWED)) == (1.0, None)
    bad = schema.table_from_rows([good, _sample(**values)], SAMPLES)
    said = validate(bad, "samples", allowed=ALLOWED)
    assert (value(said)[0] or 0) < 1
    assert set(said.failing["row_id"].to_pylist()) == {schema.stable_id("s")}


def test_only_unreadable_images_do_not_pass() -> None:
    table = schema.table_from_rows([_sample(error_code="truncated")], SAMPLES)
    assert value(validate(table, "samples", allowed=ALLOWED)) == (0.0, None)


MANIFEST = pa.schema(
    [
        (n, pa.string())
        for n in (
            "sample_id",
            "label_id",
            "uri",
            "content_sha256",
            "split",
            "task",
            "given_label",
            "released_label",
            "action",
        )
    ]
    + [("reasons", pa.list_(pa.string())), ("risk", pa.float64()), ("weight", pa.float64())]
)


@pytest.mark.parametrize(
    "values",
    [
        {"action": "drop"},
        {"released_label": "cow"},
        {"weight": 1.5},
        {"risk": None},
        {"reasons": None},
        {"content_sha256": "x"},
    ],
)
def test_the_manifest_suite_catches(values: dict[str, Any]) -> None:
    ids = {
        "sample_id": schema.stable_id("s"),
        "label_id": schema.stable_id("l"),
        "uri": "a.png",
        "content_sha256": "0" * 64,
    }
    names = {
        "split": "train",
        "task": "classification",
        "given_label": "cat",
        "released_label": "dog",
        "action": "relabel",
    }
    row = ids | names | {"reasons": [], "risk": 0.2, "weight": 1.0}
    fine = pa.Table.from_pylist([row, row | {"label_id": schema.stable_id("m")}], schema=MANIFEST)
    assert value(validate(fine, "manifest", allowed=ALLOWED)) == (1.0, None)
    share, _ = value(validate(pa.Table.from_pylist([row | values], schema=MANIFEST), "manifest", allowed=ALLOWED))
    assert (share or 0) < 1


def test_every_committed_suite_asks_for_rows_and_for_values() -> None:
    paths = sorted(suite_folder().glob("*.json"))
    assert [path.stem for path in paths] == ["labels", "manifest", "samples"]
    for path in paths:
        items = load_suite(path.stem)["expectations"]
        assert items[0]["type"] == "expect_table_row_count_to_be_between"
        not_null = {i["kwargs"]["column"] for i in items if i["type"] == "expect_column_values_to_not_be_null"}
        for item in items:
            column = item["kwargs"].get("column")
            assert column is None or column in not_null or item["meta"].get("nullable"), item


def test_suites_are_found_as_package_data_too(tmp_path: Path) -> None:
    source = Path(schema.__file__).parent
    shutil.copytree(source, tmp_path / "curate", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(suite_folder(), tmp_path / "curate" / "expectations")
    load = "from curate.gx import suite_folder, load_suite; load_suite('labels'); print(suite_folder())"
    code = f"import sys; {load}; assert not {{'great_expectations', 'pandas'}} & set(sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert Path(done.stdout.strip()) == tmp_path / "curate" / "expectations"
