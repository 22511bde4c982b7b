"""Where the disk is full: exit code 4, the name of the file, nothing half-written, nothing lost, and it can go on."""

from __future__ import annotations

import resource
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import end_to_end as e2e
import pytest

Here = Callable[..., e2e.Done]


@contextmanager
def no_file_over(n_bytes: int) -> Iterator[None]:
    """Let no file of this process grow beyond so many bytes: what is written next fails, as on a full disk, root too."""
    before, heard = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, heard)


def content(folder: Path) -> dict[str, bytes]:
    """Return every file but locks, which are empty."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.stat().st_size)
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


@pytest.fixture
def world(finished: e2e.Finished, tmp_path: Path) -> Path:
    return shutil.copytree(finished.folder, tmp_path / "copy")


@pytest.mark.parametrize(
    ("n_bytes", "verb", "named"),
    [
        (500, "report pets", "ws/pets/report/index.html"),
        (500, "diff pets pets --html TOP/d.html", "d.html"),
        (100, "tag pets gold", "ws/manifests/pets/log/0000000002.json"),
        (100, "retract pets@v1 --why wrong", "ws/manifests/pets/log/0000000002.json"),
        (50, "used pets --by me", "ws/manifests/pets/used/"),
        (500, "audit pets --csv TOP/s.csv --budget 33", "ws/pets/audits/0001"),
        (50, "keys new --out TOP/k.pem", "k.pem"),
        (100, "keys new --out TOP/k.pem", "k.pem"),
        (5000, "export pets --format hf --out TOP/o", "o"),
        (5000, "export pets --format webdataset --out TOP/o", "o"),
        (300, "export pets --format csv --images none --out TOP/o", "o"),
        (500, "describe pets --out TOP/o", "o"),
        (50, "erase pets --sample train/cat/003.png --yes", "ws/secret/erasure.key"),
    ],
)
def test_what_cannot_be_written_is_named_and_nothing_else_changed(
    world: Path, here: Here, n_bytes: int, verb: str, named: str
) -> None:
    before = content(world)
    words = [word.replace("TOP", str(world)) for word in verb.split()]
    place = [] if verb.startswith("keys") else ["--workspace", str(world / "ws")]
    with no_file_over(n_bytes):
        done = here(*words, *place, "--json")
    assert (done.code, done.json["exit_code"]) == (4, 4), done
    assert f"{world / named}" in done.json["error"]
    assert "File too large" in done.json["error"]
    assert "crashed" not in done.json["error"]
    assert content(world) == before
    assert not (world / "o").exists()


@pytest.mark.parametrize("n_bytes", [500, 8000])
def test_an_erasure_that_found_no_room_is_finished_later(world: Path, here: Here, n_bytes: int) -> None:
    held = content(world / "ws" / "manifests")
    place = ("--workspace", world / "ws", "--json")
    asked = ("erase", "pets", "--sample", "train/cat/003.png", "--yes", *place)
    with no_file_over(n_bytes):
        done = here(*asked)
    assert (done.code, "cannot be written: File too large" in done.json["error"]) == (4, True), done
    assert content(world / "ws" / "manifests") == held  # the versions are as they were
    again = (
        here("erase", "--resume", *place) if (world / "ws" / "erasure" / "journal.json").exists() else here(*asked)
    )
    assert (again.code, again.json["erased"]) == (0, True), again
    assert here("verify", "pets", *place).code == 0


def test_answers_of_people_are_taken_whole_or_not_at_all(world: Path, here: Here) -> None:
    place = ("--workspace", world / "ws", "--json")
    sheet = world / "s.csv"
    assert here("audit", "pets", "--csv", sheet, "--budget", "33", *place).code == 0
    head, *rows = sheet.read_text().splitlines()
    at = head.split(",").index("answer")
    filled = [",".join([*(cells := row.split(","))[:at], "correct", *cells[at + 1 :]]) for row in rows]
    sheet.write_text("\n".join([head, *filled]) + "\n")
    before = content(world)
    with no_file_over(500):
        done = here("audit", "pets", "--answers", sheet, *place)
    assert (done.code, "cannot be written: File too large" in done.json["error"]) == (4, True), done
    assert content(world) == before
    assert here("audit", "pets", "--answers", sheet, *place).code == 0
    assert here("audit", "pets", "--result", *place).code == 0


def test_decisions_are_recorded_whole_or_not_at_all(tmp_path: Path) -> None:
    from curate.errors import StageError  # noqa: PLC0415 - beside the next
    from curate.review import ledger  # noqa: PLC0415 - only here

    rows = [{"sample_id": "a", "decision": "keep"}]
    ledger.append(tmp_path, rows, reviewer="ada")
    before = content(tmp_path)
    with no_file_over(500), pytest.raises(StageError, match="cannot be written: File too large"):
        ledger.append(tmp_path, rows, reviewer="eve")
    assert content(tmp_path) == before
    assert ledger.read(tmp_path).decisions["reviewer"].to_pylist() == ["ada"]


def test_a_run_that_found_no_room_publishes_nothing(world: Path, here: Here) -> None:
    run = ("run", world / "pets.yaml", "--workspace", world / "new", "--no-review", "--quiet", "--json")
    with no_file_over(3000):
        done = here(*run)
    assert (done.code, "cannot be written: File too large" in done.json["error"]) == (4, True), done
    assert not (world / "new" / "manifests" / "pets" / "log").exists()
