from __future__ import annotations

import functools
import os
import pickle
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from curate.adapters.execution import ENGINES, Engine, map_shards, slices
from curate.adapters.processes import packed, unpacked
from curate.errors import ConfigError, StageError

REPOSITORY = Path(__file__).parents[2]


def double(shard: pa.Table) -> pa.Table:
    return pa.table({"x": pc.multiply(shard["x"], 2)})


def die_on(shard: pa.Table, poison: tuple[int, ...]) -> pa.Table:
    if set(shard["x"].to_pylist()) & set(poison):
        os.kill(os.getpid(), signal.SIGKILL)
    return double(shard)


def die_once(shard: pa.Table, marker: str) -> pa.Table:
    if not Path(marker).exists():
        Path(marker).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return double(shard)


def fail_on_seven(shard: pa.Table) -> pa.Table:
    if 7 in shard["x"].to_pylist():
        message = "seven"
        raise ValueError(message)
    return double(shard)


def set_aside(row: pa.Table) -> pa.Table:
    assert row.num_rows == 1
    return pa.table({"x": pa.array([-1], pa.int64())})


def numbers(n: int) -> pa.Table:
    return pa.table({"x": pa.array(range(n), pa.int64())})


def die_whole(shard: int) -> int:
    os.kill(os.getpid(), signal.SIGKILL)
    return shard


def collected(results: Iterator[pa.Table]) -> list[int]:
    return [x for table in results for x in table["x"].to_pylist()]


@pytest.mark.parametrize("engine", ENGINES)
def test_every_engine_gives_the_results_in_order_and_counts_rows(engine: Engine) -> None:
    seen: list[tuple[int, int | None]] = []
    shards = slices(numbers(23), 5)
    results = map_shards(double, shards, workers=2, engine=engine, progress=lambda n, t: seen.append((n, t)))
    assert collected(results) == [2 * x for x in range(23)]
    assert seen == [(5, 23), (10, 23), (15, 23), (20, 23), (23, 23)]


@pytest.mark.parametrize("engine", ENGINES)
def test_no_shards_no_results(engine: Engine) -> None:
    assert list(map_shards(double, [], workers=2, engine=engine)) == []


def test_slices_of_an_empty_table_are_none() -> None:
    assert slices(numbers(0), 4) == []


@pytest.mark.parametrize("engine", ["threads", "processes"])
def test_shards_are_taken_as_needed(engine: Engine) -> None:
    taken: list[int] = []

    def stream() -> Iterator[pa.Table]:
        for index in range(50):
            taken.append(index)
            yield numbers(1)

    totals: list[int | None] = []
    results = map_shards(double, stream(), workers=2, engine=engine, progress=lambda _, t: totals.append(t))
    next(results)
    assert len(taken) <= 5
    results.close()  # type: ignore[attr-defined]
    assert totals == [None]


@pytest.mark.parametrize("poison", [(13,), (0, 39), (5, 6, 7)])
def test_rows_that_kill_the_worker_are_set_aside_and_no_other(poison: tuple[int, ...]) -> None:
    fn = functools.partial(die_on, poison=poison)
    results = map_shards(fn, slices(numbers(40), 8), workers=2, quarantine=set_aside)
    assert collected(results) == [-1 if x in poison else 2 * x for x in range(40)]


def test_a_worker_killed_from_outside_costs_no_row(tmp_path: Path) -> None:
    fn = functools.partial(die_once, marker=str(tmp_path / "died"))
    results = map_shards(fn, slices(numbers(20), 4), workers=2, quarantine=set_aside)
    assert collected(results) == [2 * x for x in range(20)]


def test_without_quarantine_a_killer_is_a_stage_error_that_shows_it() -> None:
    with pytest.raises(StageError, match=r"'x': 3"):
        collected(map_shards(functools.partial(die_on, poison=(3,)), slices(numbers(8), 8), workers=1))


def test_an_indivisible_shard_is_quarantined_whole() -> None:
    assert list(map_shards(die_whole, [4], workers=1, quarantine=lambda shard: -shard)) == [-4]


@pytest.mark.parametrize("engine", ENGINES)
def test_an_exception_arrives_at_its_place(engine: Engine) -> None:
    results = map_shards(fail_on_seven, slices(numbers(12), 3), workers=2, engine=engine)
    assert next(results)["x"].to_pylist() == [0, 2, 4]
    assert next(results)["x"].to_pylist() == [6, 8, 10]
    with pytest.raises(ValueError, match="seven"):
        next(results)


def test_closing_early_leaves_no_worker() -> None:
    before = {p.pid for p in psutil.Process().children(recursive=True)}
    results = map_shards(double, slices(numbers(400), 1), workers=2)
    next(results)
    results.close()  # type: ignore[attr-defined]
    new = [p for p in psutil.Process().children(recursive=True) if p.pid not in before]
    _, alive = psutil.wait_procs([p for p in new if _is_worker(p)], timeout=10)  # killed: the kernel is at it
    assert alive == []


def _is_worker(process: psutil.Process) -> bool:
    """Report whether it is a live child of the fork server (which itself stays for the next pool)."""
    try:
        return process.parent().pid != os.getpid() and process.status() != psutil.STATUS_ZOMBIE
    except (psutil.NoSuchProcess, AttributeError):
        return False


# a test runner that a shell started in the background hands down that Ctrl-C is to be ignored
DRIVER = """
import signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)
sys.path[:0] = [{root!r}, {tests!r}]
import pyarrow as pa
from curate.adapters.execution import map_shards, slices
from slow_worker import slow
for _ in map_shards(slow, slices(pa.table({{"x": list(range(100))}}), 1), workers=2):
    print("ready", flush=True)
"""


@pytest.mark.parametrize("signal_number", [signal.SIGINT, signal.SIGKILL])
def test_an_interrupted_or_killed_driver_leaves_no_orphans(tmp_path: Path, signal_number: int) -> None:
    # the script has no __main__ guard on purpose: workers must not run it again
    (tmp_path / "slow_worker.py").write_text(
        "import time\n\ndef slow(shard):\n"
        "    time.sleep(0.2 if shard['x'][0].as_py() < 2 else 60)\n    return shard\n"
    )
    script = tmp_path / "driver.py"
    script.write_text(textwrap.dedent(DRIVER.format(root=str(REPOSITORY), tests=str(tmp_path))))
    with subprocess.Popen(
        [sys.executable, str(script)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as driver:
        assert driver.stdout is not None
        assert driver.stdout.readline() == b"ready\n"
        family = psutil.Process(driver.pid).children(recursive=True)
        assert len(family) >= 3  # the fork server (or resource tracker) and two workers
        driver.send_signal(signal_number)
        driver.wait(30)
        _, alive = psutil.wait_procs(family, timeout=30)
        assert alive == []


def test_a_slice_travels_alone() -> None:
    table = numbers(100_000)
    sent = packed(table.slice(500, 3))
    assert len(pickle.dumps(sent)) < 2_000
    assert unpacked(sent).equals(table.slice(500, 3))


def test_threads_share_this_process() -> None:
    names = list(map_shards(lambda _: threading.current_thread().name, range(3), workers=2, engine="threads"))
    assert all(name.startswith("curate") for name in names)


def test_workers_run_elsewhere() -> None:
    assert os.getpid() not in list(map_shards(_pid, [1, 2, 3], workers=2))


def _pid(_: int) -> int:
    time.sleep(0.01)
    return os.getpid()


def test_an_unknown_engine_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match="Did you mean 'processes'"):
        map_shards(double, [], engine="process")  # type: ignore[arg-type]
