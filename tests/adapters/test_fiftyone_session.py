"""One process, two workspaces: FiftyOne is moved from one database to the other, and nothing of the first is left."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.mongo

MOVES = """
import sys
from pathlib import Path
from curate.adapters.mongod import ensure_database, stop_database

first, second = map(Path, sys.argv[1:])
ensure_database(first)
import fiftyone as fo

fo.Dataset("kept", persistent=True)
fo.delete_dataset(fo.Dataset("gone").name)  # FiftyOne remembers the collections that a deletion asks
for workspace, expected in ((second, []), (first, ["kept"]), (second, ["other"])):
    ensure_database(workspace)
    assert fo.list_datasets() == expected, (workspace, fo.list_datasets())
    if not expected:
        fo.Dataset("other", persistent=True)
    fo.delete_dataset(fo.Dataset("gone").name)
stop_database(second)
ensure_database(second)  # another port
fo.delete_dataset("other")
assert fo.list_datasets() == []
stop_database(second)
stop_database(first)
"""


def test_fiftyone_moves_between_workspaces(tmp_path: Path) -> None:
    command = [sys.executable, "-W", "ignore", "-c", MOVES, tmp_path / "first", tmp_path / "second"]
    root = Path(__file__).parents[2]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
