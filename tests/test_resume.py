"""A run that is killed goes on, and ends as if nothing had happened."""

from __future__ import annotations

import json
import os
import random
import signal
import time
from pathlib import Path

import end_to_end as e2e
import psutil
import pytest

N_KILLS = 6


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


@pytest.mark.slow
def test_killed_at_random_moments_it_ends_with_the_same_id(finished: e2e.Finished, tmp_path: Path) -> None:
    record = json.loads(Path(finished.done.json["run"]).read_text(encoding="utf-8"))
    lasted_s = sum(stage["seconds"] for stage in record["stages"])
    moments = random.Random(20).choices([stage["stage"] for stage in record["stages"][:-1]], k=N_KILLS)  # noqa: S311
    moments.sort(key=[stage["stage"] for stage in record["stages"]].index)
    workspace = tmp_path / "ws"
    for seed, stage in enumerate(moments):
        process = e2e.start("run", finished.spec, "--workspace", workspace, "--no-review", "--quiet")
        wait_for_stage(workspace, stage, process)
        time.sleep(random.Random(seed).uniform(0.0, lasted_s / 20))  # noqa: S311 - somewhere in what follows
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        for file in (workspace / "pets" / "runs").glob(
            "*/run.json"
        ):  # or the next wait would see this run's stages
            content = json.loads(file.read_text(encoding="utf-8"))
            file.write_text(json.dumps(content | {"state": "killed by the test"}), encoding="utf-8")
    done = e2e.call("run", finished.spec, "--workspace", workspace, "--no-review", "--json")
    assert done.code == 0, done.err
    assert done.json["id"] == finished.id
    assert e2e.call("verify", "pets", "--workspace", workspace).code == 0
    parts = [path for path in workspace.rglob("*") if path.suffix in {".part", ".tmp"} and path.is_file()]
    assert len(parts) <= N_KILLS, parts  # at most one half-written file a kill, and never under a final name


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
