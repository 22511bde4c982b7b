# ruff: noqa: ANN401 - pymongo has no types here
"""A run that is killed goes on, and ends as if nothing had happened."""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import end_to_end as e2e
import psutil
import pymongo
import pytest

from curate.adapters.mongod import database_status
from curate.review import ledger

N_KILLS = 6  # and four more while FiftyOne is loaded


def wait_for_stage(workspace: Path, stage: str, process: object, *, limit_s: float = 120.0) -> None:
    """Wait until a stage stands in the record of a run under way."""
    until_s = time.monotonic() + limit_s
    while time.monotonic() < until_s:
        for record in (workspace / "pets" / "runs").glob("*/run.json"):
            content = json.loads(record.read_text(encoding="utf-8"))
            if content["state"] == "running" and stage in [one["stage"] for one in content["stages"]]:
                return
        time.sleep(0.02)
    pytest.fail(f"no run reached the stage {stage} in {limit_s:.0f} s: {process}")


def gone(group: int) -> bool:
    """Return whether no process of a process group is left (a zombie is none)."""
    for process in psutil.process_iter():
        try:
            if os.getpgid(process.pid) == group and process.status() != psutil.STATUS_ZOMBIE:
                return False
        except (psutil.Error, ProcessLookupError):
            continue
    return True


def killed(process: subprocess.Popen[str], workspace: Path) -> None:
    """End a run and its workers as the kernel would when memory runs out; its database lives on."""
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    for file in (workspace / "pets" / "runs").glob("*/run.json"):  # or the next wait would see this run's stages
        content = json.loads(file.read_text(encoding="utf-8"))
        if content["state"] == "running":
            file.write_text(json.dumps(content | {"state": "killed by the test"}), encoding="utf-8")


@contextlib.contextmanager
def database_of(workspace: Path) -> Iterator[Any]:
    """Open FiftyOne's database of a workspace without FiftyOne, waiting until its mongod is there."""
    until_s = time.monotonic() + 120
    while (uri := database_status(workspace).uri) is None:
        assert time.monotonic() < until_s, "no mongod was started"
        time.sleep(0.02)
    with pymongo.MongoClient(uri) as client:
        yield client["fiftyone"]


def wait_for_view(workspace: Path, reached: Callable[[Any], bool], process: subprocess.Popen[str]) -> None:
    """Wait until the database holds something, or the run is over."""
    with database_of(workspace) as database:
        while not reached(database) and process.poll() is None:
            time.sleep(0.002)


def collections(database: Any) -> tuple[Any, Any]:
    """Return the samples and the baselines of the dataset."""
    found = database["datasets"].find_one({"name": "curate-pets"})
    return database[found["sample_collection_name"]], database[f"curate.baselines.{found['_id']}"]


def is_made(database: Any) -> bool:
    return database["datasets"].find_one({"name": "curate-pets"}) is not None


def is_filled(database: Any) -> bool:
    return is_made(database) and collections(database)[0].find_one({}) is not None


def is_remembered(database: Any) -> bool:
    return is_made(database) and collections(database)[1].find_one({}) is not None


def has_views(database: Any) -> bool:
    return bool((database["datasets"].find_one({"name": "curate-pets"}) or {}).get("saved_views"))


def is_rewritten(database: Any) -> bool:
    return collections(database)[1].find_one({"pending": True}) is not None


WHILE_LOADED = (is_made, is_filled, is_remembered, has_views)


def view_of(workspace: Path) -> dict[str, Any]:
    """Return what the FiftyOne dataset of a workspace holds, without ids and times that are its own."""
    with database_of(workspace) as database:
        names = [found["name"] for found in database["datasets"].find({})]
        views = {view["name"] for view in database["views"].find({})}
        samples, baselines = collections(database)
        shown = {}
        for document in samples.find({}):
            for key in ("_dataset_id", "created_at", "last_modified_at"):
                del document[key]
            shown[str(document.pop("_id"))] = document
        known = {str(document.pop("_id")): document for document in baselines.find({})}
    return {"names": names, "views": views, "samples": shown, "baselines": known}


@pytest.mark.slow
@pytest.mark.mongo
def test_killed_at_ten_moments_it_ends_with_the_same_id_and_the_same_view(
    finished: e2e.Finished, tmp_path: Path
) -> None:
    stages = [one["stage"] for one in json.loads(Path(finished.done.json["run"]).read_text("utf-8"))["stages"]]
    moments = random.Random(20).choices(stages[:-1], k=N_KILLS)  # noqa: S311 - no secret
    workspace, calm = tmp_path / "ws", tmp_path / "calm"
    for seed, stage in enumerate(sorted(moments, key=stages.index)):
        process = e2e.start("run", finished.spec, "--workspace", workspace, "--quiet")
        wait_for_stage(workspace, stage, process)
        time.sleep(random.Random(seed).uniform(0.0, 0.3))  # noqa: S311 - somewhere in what follows
        killed(process, workspace)
    for reached in WHILE_LOADED:
        process = e2e.start("run", finished.spec, "--workspace", workspace, "--quiet")
        wait_for_view(workspace, reached, process)
        killed(process, workspace)
    try:
        for place in (workspace, calm):
            done = e2e.call("run", finished.spec, "--workspace", place, "--json")
            assert done.code == 0, done.err
            assert done.json["id"] == finished.id
        assert e2e.call("verify", "pets", "--workspace", workspace).code == 0
        view = view_of(workspace)
        assert view == view_of(calm)
        assert len(view["samples"]) == done.json["counts"]["n_images"]
    finally:
        for place in (workspace, calm):
            e2e.call("db", "stop", "--workspace", place)
    parts = [path for path in workspace.rglob("*") if path.suffix in {".part", ".tmp"} and path.is_file()]
    assert len(parts) <= N_KILLS + len(WHILE_LOADED), parts  # at most one half-written file a kill


@pytest.mark.slow
@pytest.mark.mongo
def test_no_decision_is_lost_where_a_run_is_killed_while_it_rewrites_the_view(tmp_path: Path) -> None:
    e2e.write_classes(tmp_path / "data", n=30)
    spec = e2e.write_spec(tmp_path / "pets.yaml", "{format: folder, path: data}")
    workspace, calm = tmp_path / "ws", tmp_path / "calm"
    try:
        assert e2e.call("run", spec, "--workspace", workspace).code == 0
        with database_of(workspace) as database:
            samples, _ = collections(database)
            (sample,) = samples.find({"uri": "train/cat/003.png"})
            edited = {"ground_truth.label": "dog", "last_modified_at": datetime.now(UTC)}
            samples.update_one({"_id": sample["_id"]}, {"$set": edited})  # as the App does
        e2e.write_classes(tmp_path / "data", n=36)
        for image in (tmp_path / "data" / "train" / "eel").glob("*.png"):  # every eel is a dog now: to be rewritten
            image.rename(tmp_path / "data" / "train" / "dog" / f"was-{image.name}")
        for reached in (is_rewritten, lambda database: collections(database)[0].count_documents({}) > 30):
            process = e2e.start("run", spec, "--workspace", workspace, "--quiet")
            wait_for_view(workspace, reached, process)
            killed(process, workspace)
        done = e2e.call("run", spec, "--workspace", workspace, "--json")
        assert done.code == 0, done.err
        decisions = ledger.read(ledger.ledger_folder(workspace, "pets")).decisions.to_pylist()
        assert [(one["sample_id"], one["to_label"]) for one in decisions] == [(str(sample["_id"]), "dog")]
        view = view_of(workspace)
        assert view["samples"][str(sample["_id"])]["ground_truth"]["label"] == "dog"
        assert view["samples"].keys() == view["baselines"].keys()
        assert not any("pending" in known for known in view["baselines"].values())
    finally:
        e2e.call("db", "stop", "--workspace", workspace)
    kept = ledger.ledger_folder(calm, "pets")
    kept.parent.mkdir(parents=True)
    shutil.copytree(ledger.ledger_folder(workspace, "pets"), kept)
    assert e2e.call("run", spec, "--workspace", calm, "--no-review", "--json").json["id"] == done.json["id"]


SWALLOWING = """
import curate.gx, os, signal, sys
def swallow(*_, wrapped=curate.gx.validate, **__):
    try:
        os.kill(os.getpid(), signal.SIGINT)
        import time; time.sleep(1)
    except BaseException:
        pass
    return wrapped(*_, **__)
curate.gx.validate = swallow
from curate.cli import main
sys.argv = ["curate", *sys.argv[1:]]
main()
"""  # a library that catches everything, as some do while they are imported


@pytest.mark.parametrize("how", ["--json", "--quiet"])
def test_an_interrupt_that_a_library_swallowed_ends_the_run_at_its_next_stage(
    finished: e2e.Finished, tmp_path: Path, how: str
) -> None:
    asked = ["run", str(finished.spec), "--workspace", str(tmp_path / "ws"), "--no-review", how]
    done = subprocess.run(
        [sys.executable, "-c", SWALLOWING, *asked], env=e2e.environment({}), capture_output=True, text=True, timeout=120
    , check=False)  # fmt: skip
    assert done.returncode == 130, done.stderr
    assert "Interrupted" in done.stderr
    assert "Traceback" not in done.stderr
    (record,) = (tmp_path / "ws" / "pets" / "runs").glob("*/run.json")
    assert json.loads(record.read_text(encoding="utf-8"))["state"] == "interrupted"


def test_interrupted_it_says_so_leaves_130_and_goes_on(finished: e2e.Finished, tmp_path: Path) -> None:
    workspace = tmp_path / "ws"
    process = e2e.start("run", finished.spec, "--workspace", workspace, "--no-review", "--json")
    wait_for_stage(workspace, "ingest", process)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: the whole group, workers included
    out, err = process.communicate(timeout=60)
    assert process.returncode in {130, -signal.SIGINT}, (
        err
    )  # Python may end itself by the signal; to a shell both are 130
    assert "Interrupted" in err
    assert "Traceback" not in err
    assert out == ""
    assert gone(process.pid)
    (record,) = (workspace / "pets" / "runs").glob("*/run.json")
    assert json.loads(record.read_text(encoding="utf-8"))["state"] == "interrupted"
    done = e2e.call("run", finished.spec, "--workspace", workspace, "--no-review", "--json")
    assert done.code == 0, done.err
    assert done.json["id"] == finished.id
    stages = json.loads(Path(done.json["run"]).read_text(encoding="utf-8"))["stages"]
    assert next(stage for stage in stages if stage["stage"] == "ingest")["cached"]
