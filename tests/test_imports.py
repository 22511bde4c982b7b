"""What a command loads: quick commands stay quick, and reading a release needs no database."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import end_to_end as e2e
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pymongo
import pytest

from curate.adapters.mongod import database_status
from curate.review import ledger

HEAVY = ("fiftyone", "great_expectations", "torch", "ray", "pandas", "cv2")
NO_DATABASE = {"FIFTYONE_DATABASE_URI": "mongodb://127.0.0.1:9/nobody-listens"}

SPY = """
import atexit, json, os, sys
loaded = lambda: sorted({name.partition(".")[0] for name in sys.modules})
atexit.register(lambda: open(os.environ["LOADED"], "w").write(json.dumps(loaded())))
sys.argv[0] = "curate"
from curate.cli import main
main()
"""


def loaded_by(code: str, *arguments: str, env: dict[str, str] | None = None) -> set[str]:
    """Return the top packages that a fresh interpreter has loaded after running `code`."""
    told = subprocess.run(
        [sys.executable, "-c", code + "\nimport sys; print(*sorted(sys.modules))", *arguments],
        env=e2e.environment(env),
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    return {name.partition(".")[0] for name in told.stdout.split()}


def test_importing_curate_loads_nothing_heavy() -> None:
    assert loaded_by("import curate").isdisjoint(HEAVY)


def test_the_command_line_and_the_pipeline_load_nothing_heavy_before_they_need_it() -> None:
    assert loaded_by("import curate.cli, curate.pipeline, curate.summary, curate.init").isdisjoint(HEAVY)


def test_every_public_name_is_there() -> None:
    loaded = loaded_by("import curate\nfor name in curate.__all__: getattr(curate, name)")
    assert "fiftyone" not in loaded


@pytest.fixture(scope="module")
def flag_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    probs = np.random.default_rng(0).dirichlet(np.ones(3), 60).astype(np.float32)
    labels = [("cat", "dog", "eel")[at] for at in probs.argmax(axis=1)]
    table = pa.table({"label": labels, "prob_one": pa.FixedSizeListArray.from_arrays(probs.ravel(), 3)})
    path = tmp_path_factory.mktemp("flag") / "table.parquet"
    pq.write_table(table, path)
    return path


@pytest.mark.parametrize("verb", ["verify", "log", "diff", "flag", "scan"])
def test_these_verbs_load_no_fiftyone_and_need_no_mongod(
    verb: str, finished: e2e.Finished, flag_file: Path, tmp_path: Path
) -> None:
    arguments = {
        "verify": ["pets", "--workspace", str(finished.workspace)],
        "log": ["pets", "--workspace", str(finished.workspace)],
        "diff": ["pets", "pets", "--workspace", str(finished.workspace)],
        "flag": [str(flag_file), "--out", str(tmp_path / "flags.parquet")],
        "scan": [str(finished.folder / "data"), "--out", str(tmp_path / "scan.parquet")],
    }[verb]
    seen = tmp_path / "loaded.json"
    ended = subprocess.run(
        [sys.executable, "-c", SPY, verb, *arguments],
        env=e2e.environment({**NO_DATABASE, "LOADED": str(seen), "PATH": os.defpath}),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    loaded = set(seen.read_text(encoding="utf-8").replace('"', "").strip("[]").split(", "))
    assert "curate" in loaded
    assert loaded.isdisjoint({"fiftyone", "pymongo", "great_expectations", "torch", "ray"})
    assert not (tmp_path / "workspace").exists()


@pytest.mark.mongo
def test_a_run_over_unchanged_input_loads_no_fiftyone_and_still_sees_what_a_reviewer_did(tmp_path: Path) -> None:
    e2e.write_classes(tmp_path / "data", n=12)
    spec = e2e.write_spec(tmp_path / "pets.yaml", "{format: folder, path: data}")
    workspace = tmp_path / "ws"
    seen = tmp_path / "loaded.json"

    def run_again() -> set[str]:
        arguments = ["run", str(spec), "--workspace", str(workspace), "--quiet"]
        subprocess.run(
            [sys.executable, "-c", SPY, *arguments],
            env=e2e.environment({"LOADED": str(seen)}),
            capture_output=True,
            timeout=180,
            check=True,
        )
        return set(json.loads(seen.read_text(encoding="utf-8")))

    try:
        assert {"fiftyone", "great_expectations"} <= run_again()
        heavy = {"fiftyone", "great_expectations", "torch", "sklearn", "cv2"}
        assert run_again().isdisjoint(heavy)
        with pymongo.MongoClient(database_status(workspace).uri) as client:
            database = client["fiftyone"]
            samples = database[database["datasets"].find_one({"name": "curate-pets"})["sample_collection_name"]]
            samples.update_one({"uri": "train/cat/003.png"}, {"$set": {"ground_truth.label": "eel"}})
        run_again()
        decisions = ledger.read(ledger.ledger_folder(workspace, "pets")).decisions
        assert decisions["to_label"].to_pylist() == ["eel"]
    finally:
        e2e.call("db", "stop", "--workspace", workspace)
