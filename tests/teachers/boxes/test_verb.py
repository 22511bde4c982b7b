"""`curate flag --task detection`, as it is called."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from box_world import labels_of, make_world, write
from typer.testing import CliRunner

from curate.cli import app
from curate.errors import ConfigError, InputError


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    world = make_world(n_images=8, n_detectors=1)
    labels, teachers = write(tmp_path, labels_of(world), world.detections)
    return [
        "--labels",
        str(labels),
        "--teacher",
        f"a={teachers['detector0']}",
        "--out",
        str(tmp_path / "out.parquet"),
    ]


def call(*arguments: str) -> Any:  # noqa: ANN401 - typer's own type
    return CliRunner().invoke(app, ["flag", "--quiet", *arguments])


def test_the_summary_is_one_json_object_and_the_table_is_written(files: list[str], tmp_path: Path) -> None:
    done = call("--task", "detection", "--json", *files)
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    table = pq.read_table(tmp_path / "out.parquet")
    assert sum(told["n_rows"].values()) == table.num_rows
    assert [one["name"] for one in told["teachers"]] == ["a"]
    assert told["n_boxes"] == 40


def test_people_are_told_by_issue(files: list[str]) -> None:
    done = call("--task", "detection", *files)
    assert [word in done.stdout for word in ("missing", "location", "swap", "spurious", "duplicate")] == [True] * 5


def test_wrong_usage_and_wrong_input_are_told_apart(files: list[str], tmp_path: Path) -> None:
    assert isinstance(call("--task", "detecton", *files).exception, ConfigError)
    assert isinstance(call("--task", "detection", "--classes", "a,b", *files).exception, ConfigError)
    (tmp_path / "labels.json").write_text("{}")
    assert isinstance(call("--task", "detection", *files).exception, InputError)
