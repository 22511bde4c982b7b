"""What is wrong with a version, a key or a disk: the exit code, the name of the file, and nothing published or lost."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import end_to_end as e2e
import pytest

from curate.errors import StageError, writing
from curate.manifest.publish import publish
from curate.manifest.store import canonical_manifest

Worlds = Callable[..., Any]


@pytest.fixture
def workspace(world: Worlds, tmp_path: Path) -> tuple[Path, Path]:
    """Return a workspace and the folder of its only version."""
    return tmp_path, publish(world().release(), tmp_path / "manifests", "zoo").path  # type: ignore[return-value]


def call(verb: str, workspace: Path) -> e2e.Done:
    more = {"diff": ("zoo",), "export": ("--format", "csv", "--images", "none", "--out", workspace / "out")}
    return e2e.call(verb, "zoo", *more.get(verb, ()), "--workspace", workspace)


@pytest.mark.parametrize(
    ("fault", "verb"),
    [
        ("edited", "show"),
        *(("missing", verb) for verb in ("show", "diff")),
        *(("cut", verb) for verb in ("verify", "diff", "export")),
        *(("newer", verb) for verb in ("verify", "show", "diff")),
    ],
)
def test_a_damaged_version_ends_with_5_and_the_name_of_the_file(
    workspace: tuple[Path, Path], verb: str, fault: str
) -> None:
    root, version = workspace
    part, manifest = version / "data" / "part-00000.parquet", version / "manifest.json"
    if fault == "edited":
        manifest.write_bytes(manifest.read_bytes().replace(b'"n_in":', b'"n_in": '))
    elif fault == "newer":
        manifest.write_bytes(canonical_manifest({**json.loads(manifest.read_bytes()), "schema_version": 99}))
    elif fault == "missing":
        part.unlink()
    else:
        part.write_bytes(part.read_bytes()[:-20])
    done = call(verb, root)
    told = done.out + done.err
    assert done.code == 5, told
    assert ("manifest.json" if fault in {"edited", "newer"} else "data/part-00000.parquet") in told
    assert not (root / "out").exists()
    if fault == "newer":
        assert "was written by a newer curate" in told
        assert "Restore" not in told


FULL = """
import resource, signal, sys
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (500, 500))
sys.argv = ["curate", *sys.argv[1:]]
from curate.cli import main
main()
"""


def when_full(*arguments: str | Path) -> tuple[int, str]:
    """Run the command line where no file may grow beyond 500 bytes, as on a disk that fills up."""
    command = [sys.executable, "-c", FULL, *map(str, arguments)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize("verb", ["export", "describe"])
def test_where_the_disk_is_full_an_export_is_not_there(workspace: tuple[Path, Path], verb: str) -> None:
    root, version = workspace
    out = root / "out"
    more = ("--format", "csv", "--images", "none", "--allow-failed-gates") if verb == "export" else ()
    code, told = when_full(verb, "zoo", *more, "--out", out, "--workspace", root)
    assert code == 4, told
    assert f"{out} cannot be written: File too large" in told
    assert [path.name for path in root.iterdir()] == ["manifests"]
    assert e2e.call("verify", "zoo", "--workspace", root).code == 0
    assert version.is_dir()


PUBLISH = """
import resource, signal, sys
sys.path[:0] = [sys.argv[1]]
from conftest import World
from curate.errors import StageError
from curate.manifest.publish import publish
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (2_000, 2_000))
try:
    publish(World(labels_changed={5: "cat"}).release(), sys.argv[2], "zoo")
except StageError as error:
    print(error)
"""


def test_where_the_disk_is_full_nothing_is_published_and_nothing_lost(workspace: tuple[Path, Path]) -> None:
    root, version = workspace
    before = {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}
    done = subprocess.run(
        [sys.executable, "-c", PUBLISH, str(Path(__file__).parent), str(root / "manifests")],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "data/part-00000.parquet cannot be written: File too large" in done.stdout, done.stdout + done.stderr
    after = {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}
    assert after == before
    assert version.is_dir()


def test_other_errors_of_the_system_stay_what_they_are(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), writing(tmp_path):
        (tmp_path / "none").read_bytes()
    with pytest.raises(StageError, match="cannot be written: No space left"), writing(tmp_path / "x"):
        raise OSError(28, "any words")
