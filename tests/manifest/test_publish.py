from __future__ import annotations

import hashlib
import json
import os
import pickle
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

import curate
from curate.errors import ConfigError, StageError, VerificationError
from curate.manifest import life, log, publish, read_log, resolve, verbs, verify
from curate.manifest.publish import collect_leftovers
from curate.manifest.store import canonical_manifest, part_bounds

Worlds = Callable[..., Any]


def broken(path: Path) -> list[str]:
    return [promise.name for promise in verify(path) if promise.ok is False]


def run(script: str, *arguments: str) -> str:
    environment = {**os.environ, "PYTHONPATH": str(Path(curate.__file__).parents[1])}
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments], env=environment, check=True, capture_output=True, text=True
    )
    return done.stdout


def test_a_version_is_there_verifies_and_is_named_by_its_manifest(world: Worlds, tmp_path: Path) -> None:
    published = publish(world().release(), tmp_path, "zoo")
    assert (published.number, published.is_new, published.gates) == (1, True, "failed")
    assert published.path == tmp_path / "zoo" / "versions" / published.id == resolve(tmp_path, "zoo")
    assert hashlib.sha256((published.path / "manifest.json").read_bytes()).hexdigest() == published.id
    assert broken(published.path) == []
    assert {path.name for path in published.path.iterdir()} == {
        "data", "soft", "excluded", "findings", "decisions", "evidence", "manifest.json",
    }  # fmt: skip


def test_plain_parquet_readers_see_released_rows_only(world: Worlds, tmp_path: Path) -> None:
    published = publish(world().release(), tmp_path, "zoo")
    table = pq.read_table(published.path / "data")
    assert table.num_rows == 11
    assert "drop" not in table["action"].to_pylist()
    assert pq.read_table(published.path / "soft")["label_id"].equals(table["label_id"])


def test_the_same_content_in_any_row_order_publishes_nothing_new(world: Worlds, tmp_path: Path) -> None:
    first = publish(world().release(), tmp_path, "zoo")
    before = {path: path.stat().st_mtime_ns for path in first.path.rglob("*")}
    for shuffle in (1, 2):
        again = publish(world(shuffle=shuffle).release(), tmp_path, "zoo")
        assert (again.id, again.number, again.is_new) == (first.id, 1, False)
    assert {path: path.stat().st_mtime_ns for path in first.path.rglob("*")} == before
    assert len(read_log(tmp_path, "zoo")) == 1
    assert list((tmp_path / "zoo" / "staging").iterdir()) == []


def test_another_process_another_folder_the_same_bytes(world: Worlds, tmp_path: Path) -> None:
    here = publish(world().release(), tmp_path / "here", "zoo")
    (tmp_path / "release").write_bytes(pickle.dumps(world(shuffle=5).release()))
    script = "import pickle, sys\nfrom curate.manifest import publish\n"
    script += "print(publish(pickle.load(open(sys.argv[1], 'rb')), sys.argv[2], 'zoo').id)"
    assert run(script, str(tmp_path / "release"), str(tmp_path / "a b é")).strip() == here.id


@pytest.mark.parametrize(
    "change",
    [
        {"labels_changed": {5: "cat"}},
        {"moved": {5: "val"}},
        {"seed": 1},
        {"flagged": {}},
        {"boxes": {5: [0.0, 0.0, 1.0, 1.0]}},
    ],
)
def test_other_content_is_another_version(world: Worlds, tmp_path: Path, change: dict[str, Any]) -> None:
    first = publish(world().release(), tmp_path, "zoo")
    second = publish(world(**change).release(), tmp_path, "zoo")
    assert second.id != first.id
    assert (second.number, second.is_new) == (2, True)
    assert read_log(tmp_path, "zoo")[1].parents == (first.id,)
    assert resolve(tmp_path, "zoo") == second.path


def test_nothing_hashed_holds_a_clock_a_host_or_a_path(world: Worlds, tmp_path: Path) -> None:
    published = publish(world().release(), tmp_path, "zoo")
    entry = read_log(tmp_path, "zoo")[0]
    for path in published.path.rglob("*"):
        content = path.read_bytes() if path.is_file() else b""
        assert str(tmp_path).encode() not in content
        assert entry.host.encode() not in content
        assert entry.at[:10].encode() not in content
        assert b"123456789" not in content  # mtime_ns


def test_content_that_comes_back_is_the_latest_again(world: Worlds, tmp_path: Path) -> None:
    first = publish(world().release(), tmp_path, "zoo")
    publish(world(seed=1).release(), tmp_path, "zoo")
    back = publish(world().release(), tmp_path, "zoo")
    assert (back.id, back.number, back.is_new, back.is_latest_again) == (first.id, 1, False, True)
    assert resolve(tmp_path, "zoo") == first.path
    assert [entry.kind for entry in read_log(tmp_path, "zoo")] == ["publish", "publish", "republish"]


def test_what_a_person_went_back_from_stays_aside_when_a_run_yields_it_again(world: Worlds, tmp_path: Path) -> None:
    first = publish(world().release(), tmp_path, "zoo")
    second = publish(world(seed=1).release(), tmp_path, "zoo")
    life.rollback(tmp_path, "zoo@v1", why="v2 dropped the owls")
    again = publish(world(seed=1).release(), tmp_path, "zoo")
    assert (again.id, again.is_new, again.is_latest_again) == (second.id, False, False)
    assert "v2 dropped the owls" in again.rolled_back
    assert resolve(tmp_path, "zoo") == first.path
    assert publish(world().release(), tmp_path, "zoo").rolled_back == ""  # it is the latest
    third = publish(world(seed=2).release(), tmp_path, "zoo")  # nobody went back from new content
    assert resolve(tmp_path, "zoo") == third.path
    assert publish(world(seed=1).release(), tmp_path, "zoo").is_latest_again


def test_references(world: Worlds, tmp_path: Path) -> None:
    first = publish(world().release(), tmp_path, "zoo")
    second = publish(world(seed=1).release(), tmp_path, "zoo")
    assert resolve(tmp_path, "zoo@v1") == resolve(tmp_path, f"zoo@{first.id[:8]}") == first.path
    assert resolve(tmp_path, "zoo@v2") == resolve(tmp_path, f"zoo@{second.id}") == second.path
    with pytest.raises(ConfigError, match=r"no version 'v3' of zoo.*The last versions: v1"):
        resolve(tmp_path, "zoo@v3")
    with pytest.raises(ConfigError, match="no version 'abc' of zoo"):
        resolve(tmp_path, "zoo@abc")
    with pytest.raises(ConfigError, match=r"Did you mean 'zoo'\?"):
        resolve(tmp_path, "zo")
    with pytest.raises(ConfigError, match="A release needs a name"):
        resolve(tmp_path, "../zoo")
    with pytest.raises(ConfigError, match="Publish one: curate run"):
        resolve(tmp_path / "nowhere", "zoo")
    second.path.rename(tmp_path / "away")
    with pytest.raises(VerificationError, match="is not there"):
        resolve(tmp_path, "zoo")


def test_a_leftover_without_a_manifest_is_replaced(world: Worlds, tmp_path: Path) -> None:
    release = world().release()
    there = publish(release, tmp_path / "other", "zoo")
    half = tmp_path / "zoo" / "versions" / there.id
    (half / "data").mkdir(parents=True)
    (half / "data" / "part-00000.parquet").write_bytes(b"PAR1 half")
    published = publish(release, tmp_path, "zoo")
    assert (published.id, published.is_new, published.repaired) == (there.id, True, True)
    assert broken(published.path) == []


def test_a_damaged_version_is_written_again_and_kept_aside(world: Worlds, tmp_path: Path) -> None:
    first = publish(world().release(), tmp_path, "zoo")
    part = first.path / "data" / "part-00000.parquet"
    part.write_bytes(part.read_bytes()[:-100])
    again = publish(world().release(), tmp_path, "zoo")
    assert (again.is_new, again.repaired, again.number) == (False, True, 1)
    assert broken(again.path) == []
    assert len(list((tmp_path / "zoo" / "damaged").iterdir())) == 1
    assert [entry.kind for entry in read_log(tmp_path, "zoo")] == ["publish", "repair"]
    assert resolve(tmp_path, "zoo") == again.path


def test_a_publisher_that_died_before_the_log_is_completed_by_the_next(world: Worlds, tmp_path: Path) -> None:
    first = publish(world().release(), tmp_path, "zoo")
    (tmp_path / "zoo" / "log" / "0000000001.json").unlink()
    again = publish(world().release(), tmp_path, "zoo")
    assert (again.id, again.is_new, again.number) == (first.id, True, 1)


def test_torn_and_foreign_log_entries(world: Worlds, tmp_path: Path) -> None:
    publish(world().release(), tmp_path, "zoo")
    folder = tmp_path / "zoo" / "log"
    (folder / "0000000002.json").touch()
    (folder / "0000000003.json#1").write_text("left by a killed writer")
    assert [entry.number for entry in read_log(tmp_path, "zoo")] == [1]
    assert publish(world(seed=1).release(), tmp_path, "zoo").number == 3
    (folder / "0000000004.json").write_text('{"kind": "publish"}')
    with pytest.raises(VerificationError, match=r"0000000004\.json is not what curate wrote: .*it lacks id, at"):
        read_log(tmp_path, "zoo")


def test_64_publishers_of_one_content_leave_one_version_and_one_entry(world: Worlds, tmp_path: Path) -> None:
    release = world().release()
    with ThreadPoolExecutor(max_workers=64) as pool:
        published = list(pool.map(lambda _: publish(release, tmp_path, "zoo"), range(64)))
    assert Counter(one.is_new for one in published) == {True: 1, False: 63}
    assert len({one.path for one in published}) == 1
    assert not any(one.repaired for one in published)
    assert [entry.kind for entry in read_log(tmp_path, "zoo")] == ["publish"]
    assert broken(published[0].path) == []
    assert list((tmp_path / "zoo" / "staging").iterdir()) == []


def test_publishers_of_different_content_all_get_an_entry(world: Worlds, tmp_path: Path) -> None:
    releases = [world(seed=seed).release() for seed in range(12)]
    with ThreadPoolExecutor(max_workers=12) as pool:
        published = list(pool.map(lambda release: publish(release, tmp_path, "zoo"), releases))
    assert sorted(one.number for one in published) == list(range(1, 13))
    entries = read_log(tmp_path, "zoo")
    assert [entry.parents for entry in entries[1:]] == [(entry.id,) for entry in entries[:-1]]


PROCESSES = """
import os, pickle, sys
from curate.manifest import publish
release = pickle.load(open(sys.argv[1], "rb"))
children = []
for at in range(16):
    child = os.fork()
    if child == 0:
        published = publish(release, sys.argv[2], "zoo")
        os._exit(10 + published.is_new)
    children.append(child)
print(sorted(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_processes_leave_one_winner(world: Worlds, tmp_path: Path) -> None:
    (tmp_path / "release").write_bytes(pickle.dumps(world().release()))
    codes = json.loads(run(PROCESSES, str(tmp_path / "release"), str(tmp_path)))
    assert codes == [10] * 15 + [11]
    assert len(read_log(tmp_path, "zoo")) == 1
    assert broken(resolve(tmp_path, "zoo")) == []


# Each child publishes into a folder of its own and is killed at a moment that wanders over the whole publication.
KILLS = """
import os, pickle, random, signal, sys, time
from pathlib import Path
from curate.manifest import publish
release = pickle.load(open(sys.argv[1], "rb"))
def child(root):
    pid = os.fork()
    if pid == 0:
        publish(release, root, "zoo")
        os._exit(0)
    return pid
start = time.perf_counter()
os.waitpid(child(Path(sys.argv[2]) / "whole"), 0)
whole_s = time.perf_counter() - start
n_kills = int(sys.argv[3])
n_killed = 0
for at in range(n_kills):
    pid = child(Path(sys.argv[2]) / f"root-{at}")
    time.sleep(whole_s * (at + random.random()) / n_kills)
    os.kill(pid, signal.SIGKILL)
    n_killed += os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL
print(n_killed)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_killed_at_any_moment_a_version_is_whole_or_not_there(world: Worlds, tmp_path: Path) -> None:
    release = world().release()
    (tmp_path / "release").write_bytes(pickle.dumps(release))
    n_kills = 20
    assert int(run(KILLS, str(tmp_path / "release"), str(tmp_path), str(n_kills))) > n_kills // 3
    for at in range(n_kills):
        root = tmp_path / f"root-{at}"
        for version in (root / "zoo" / "versions").glob("*"):
            assert broken(version) == []
        for entry in read_log(root, "zoo"):
            assert (root / "zoo" / "versions" / entry.id).is_dir()
        published = publish(release, root, "zoo")
        assert not published.repaired
        assert broken(published.path) == []
        assert len(read_log(root, "zoo")) == 1
        assert list((root / "zoo" / "staging").iterdir()) == []


def test_a_disk_that_refuses_leaves_nothing(world: Worlds, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, calls = os.fsync, []

    def full(handle: int) -> None:
        calls.append(handle)
        if len(calls) == 4:
            raise OSError(28, "No space left on device")
        real(handle)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StageError, match=r"part-00000\.parquet .*: No space left .* Nothing was published\."):
        publish(world().release(), tmp_path, "zoo")
    assert list((tmp_path / "zoo" / "versions").iterdir()) == []
    assert list((tmp_path / "zoo" / "staging").iterdir()) == []
    assert read_log(tmp_path, "zoo") == []
    assert publish(world().release(), tmp_path, "zoo").is_new


def test_a_folder_that_is_a_file(world: Worlds, tmp_path: Path) -> None:
    (tmp_path / "zoo").write_text("x")
    with pytest.raises(StageError, match="Nothing was published"):
        publish(world().release(), tmp_path, "zoo")


def test_leftovers_are_collected_and_running_publishers_are_not(tmp_path: Path) -> None:
    from filelock import FileLock  # noqa: PLC0415 - only here

    staging = tmp_path / "zoo" / "staging"
    for name in ("dead", "alive"):
        (staging / name).mkdir(parents=True)
        (staging / name / "file").write_text("x")
        (staging / f"{name}.lock").touch()
    with FileLock(staging / "alive.lock"):
        assert collect_leftovers(tmp_path, "zoo") == ["staging/dead"]
        assert sorted(path.name for path in staging.iterdir()) == ["alive", "alive.lock"]


def test_what_a_first_publication_left_is_collected_and_a_version_in_no_log_is_told(
    world: Worlds, tmp_path: Path
) -> None:
    dead = tmp_path / "owls" / "staging" / "dead"
    dead.mkdir(parents=True)
    dead.with_suffix(".lock").touch()
    assert verbs.collect(tmp_path, None) == {"owls": ["staging/dead"]}
    assert not dead.exists()
    whole = publish(world().release(), tmp_path, "zoo")
    assert verbs.unlisted(tmp_path, None) == {}
    (entry,) = (tmp_path / "zoo" / "log").iterdir()
    entry.unlink()  # killed between the rename and the entry
    assert verbs.collect(tmp_path, "zoo") == {"zoo": []}
    assert verbs.unlisted(tmp_path, "zoo") == {"zoo": [whole.id]}
    assert publish(world().release(), tmp_path, "zoo").id == whole.id
    assert verbs.unlisted(tmp_path, "zoo") == {}


def test_parts_never_split_a_sample(world: Worlds) -> None:
    data = world().release().data
    starts = part_bounds(data, part_rows=1)
    ids = data["sample_id"].to_pylist()
    assert starts == [at for at, name in enumerate(ids) if at == 0 or name != ids[at - 1]]
    assert part_bounds(data) == [0]
    assert part_bounds(data.slice(0, 0)) == []


def test_what_is_hashed_holds_no_floats_and_is_canonical() -> None:
    assert canonical_manifest({"b": ["é\n", 1], "a": None}) == '{"a":null,"b":["é\\n",1]}'.encode()
    with pytest.raises(TypeError, match=r"manifest\.a\[1\] is the float 0.5"):
        canonical_manifest({"a": [1, 0.5]})
    with pytest.raises(TypeError, match="keys of what is hashed are ASCII"):
        canonical_manifest({"é": 1})


def test_entries_are_put_once(tmp_path: Path) -> None:
    entry = log.LogEntry(number=1, kind="publish", id="a", at=log.now(), host="h", counts={"n_in": 1})
    assert log.put_entry(tmp_path, "zoo", entry)
    assert not log.put_entry(tmp_path, "zoo", entry)
    assert read_log(tmp_path, "zoo") == [entry]


@pytest.mark.parametrize("competitor", ["a", "b"])
def test_an_entry_that_comes_between_reading_and_writing_is_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, competitor: str
) -> None:
    real, reads = log.read_log, []

    def read_then_lose_the_race(root: Path, name: str) -> list[log.LogEntry]:
        entries = real(root, name)
        if not reads:
            first = log.LogEntry(number=1, kind="publish", id=competitor, at=log.now(), host="other")
            assert log.put_entry(root, name, first)
        reads.append(len(entries))
        return entries

    monkeypatch.setattr(log, "read_log", read_then_lose_the_race)
    entry, kind = log.append(tmp_path, "zoo", "a", gates="passed", counts={})
    if competitor == "a":
        assert (entry.host, kind, [e.id for e in real(tmp_path, "zoo")]) == ("other", None, ["a"])
    else:
        assert (entry.number, entry.parents, kind) == (2, ("b",), "publish")
