"""The database's files are written anew: everything is there, nothing deleted is, and killed it goes on."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import end_to_end as e2e
import pymongo
import pytest
from bson import ObjectId

from curate.adapters.mongod import discard, start_embedded
from curate.adapters.mongod_rebuild import rebuild_database

NEEDLE = "a-path-that-must-go-7f3a.png"

KILLED = """
import os, sys
from pathlib import Path
from curate.adapters.mongod_rebuild import rebuild_database
n = 0
def hook(event, arguments):
    global n
    if event == "os.rename" and str(arguments[1]).rsplit("/", 1)[-1] in {"mongo.old", "data"}:
        n += 1
        if n == int(sys.argv[2]):
            os.kill(os.getpid(), 9)
sys.addaudithook(hook)
rebuild_database(Path(sys.argv[1]))
"""


@pytest.fixture
def workspace(tmp_path: Path) -> Iterator[Path]:
    client: Any
    with pymongo.MongoClient(start_embedded(tmp_path / "mongo").uri) as client:
        kept, gone = client["zoo"]["kept"], client["zoo"]["gone"]
        kept.insert_many(
            [
                {"_id": ObjectId(), "n": n, "mixed": {"b": bytes([n % 256]), "l": [1, "two", None]}}
                for n in range(2500)
            ]
        )
        kept.create_index([("n", -1)], unique=True, name="by n")
        gone.insert_many([{"path": NEEDLE, "n": n} for n in range(500)])
        client.admin.command("fsync")
        gone.delete_many({})
    yield tmp_path
    for name in ("mongo", "mongo.rebuilt"):
        discard(tmp_path / name)


def content(workspace: Path) -> tuple[list[dict[str, Any]], dict[str, Any], list[str]]:
    client: Any
    with pymongo.MongoClient(start_embedded(workspace / "mongo").uri) as client:
        rows = list(client["zoo"]["kept"].find({}).sort("n", 1))
        return rows, client["zoo"]["kept"].index_information(), sorted(client["zoo"].list_collection_names())


def traces(workspace: Path) -> list[str]:
    files = (path for path in workspace.rglob("*") if path.is_file())
    return [path.name for path in files if NEEDLE.encode() in path.read_bytes()]


@pytest.mark.mongo
def test_what_was_deleted_is_in_the_files_until_they_are_rebuilt(workspace: Path) -> None:
    before = content(workspace)
    assert traces(workspace), "deleted documents stay in free blocks and journals: that is why"
    rebuild_database(workspace)
    assert not (workspace / "mongo.rebuilt").exists()
    assert not (workspace / "mongo.old").exists()
    after = content(workspace)
    assert after == before
    assert len(after[0]) == 2500
    assert traces(workspace) == []


@pytest.mark.mongo
@pytest.mark.slow
@pytest.mark.parametrize("rename", [1, 2])
def test_killed_between_its_renames_it_goes_on(workspace: Path, rename: int) -> None:
    before = content(workspace)
    command = [sys.executable, "-c", KILLED, str(workspace), str(rename)]
    ended = subprocess.run(command, env=e2e.environment(), capture_output=True, text=True, timeout=120, check=False)
    assert ended.returncode == -9, ended.stderr
    rebuild_database(workspace)
    assert content(workspace) == before
    assert traces(workspace) == []
