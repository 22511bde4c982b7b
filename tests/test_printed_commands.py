"""What curate prints to do next runs as it was printed, with other places and names that a shell would split."""

from __future__ import annotations

import csv
import os
import re
import shlex
import shutil
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path

import end_to_end as e2e
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

PRINTED = re.compile(r"curate (?:run|audit|review|verify|erase|sign) .*")
WORDS = re.compile(r" \(checks and teachers anew\)")


def printed(text: str) -> list[list[str]]:
    """The arguments of each command in a text, in its order."""
    found = [PRINTED.search(part) for line in text.splitlines() for part in line.split(" · ")]
    return [shlex.split(WORDS.sub("", one.group()).rstrip(".;"))[1:] for one in found if one]


@dataclass(frozen=True)
class Here:
    """Where a person works: the places have a space in their names, and are not the default ones."""

    folder: Path
    workspace: Path
    manifests: Path

    def call(self, *arguments: str | Path) -> e2e.Done:
        return e2e.call(*arguments, cwd=self.folder)

    def run_printed(self, text: str, verb: str, **places: str) -> e2e.Done:
        """Run the only printed command of a verb; placeholders in capitals are filled in."""
        (wanted,) = [one for one in printed(text) if one[0] == verb]
        done = self.call(*[places.get(word, word) for word in wanted])
        assert done.code == 0, (wanted, done.err)
        return done


@pytest.fixture
def here(tmp_path: Path) -> Here:
    return Here(tmp_path, tmp_path / "my ws", tmp_path / "rel eases")


def run(here: Here, finished: e2e.Finished, *more: str) -> e2e.Done:
    places = ("--workspace", here.workspace, "--manifests", here.manifests)
    done = here.call("run", finished.spec, *places, *more)
    assert done.code == 0, done.err
    return done


def fill(sheet: Path, answer: str) -> None:
    with sheet.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    with sheet.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, rows[0])
        writer.writeheader()
        writer.writerows([row | {"answer": answer} for row in rows])


def test_run_audit_plant_verify_and_erase(here: Here, finished: e2e.Finished) -> None:
    told = run(here, finished, "--no-review")
    assert "Every promise is kept" in here.run_printed(told.out, "verify").out
    places = ("--workspace", here.workspace, "--manifests", here.manifests)
    sheet = here.folder / "the sheet.csv"
    drawn = here.call("audit", "pets", "--csv", sheet, "--budget", "30", *places)
    assert drawn.code == 0, drawn.err
    fill(sheet, "correct")
    assert "30 new answers" in here.run_printed(drawn.out, "audit").out
    again = here.call("audit", "pets", *places)
    assert again.code == 2
    (result,) = [one for one in printed(" ".join(again.err.split())) if one[0] == "audit"]
    assert here.call(*[word.rstrip(".") for word in result[: result.index("--workspace") + 2]]).code == 0
    planted = here.call("plant", finished.spec, "--workspace", here.workspace, "--quiet")
    assert planted.code == 0, planted.err
    assert printed(planted.out) == []  # it publishes nothing, so there is nothing to go on with
    gone = here.call("erase", "pets", "--sample", "train/cat/003.png", "--yes", *places)
    assert gone.code == 0, gone.err
    here.run_printed(gone.out, "run", SPEC=str(finished.spec))
    here.run_printed(gone.out, "verify")


def test_flag_of_several_labels(here: Here) -> None:
    table = here.folder / "the table.parquet"
    labels = pa.array([["a"], ["a", "b"], [], ["b"]] * 30, pa.list_(pa.string()))
    probs = pa.array([[0.9, 0.1], [0.8, 0.7], [0.2, 0.1], [0.3, 0.9]] * 30, pa.list_(pa.float32()))
    pq.write_table(pa.table({"label": labels, "prob_x": probs}), table)
    flagged = here.call("flag", table, "--out", here.folder / "the flags.parquet", "--classes", "a,b")
    assert flagged.code == 0, flagged.err
    drawn = here.run_printed(flagged.out, "audit")
    fill(here.folder / "sheet.csv", "correct")
    assert "138 new answers" in here.run_printed(drawn.out, "audit").out


def test_in_the_default_workspace_nothing_is_added(finished: e2e.Finished, tmp_path: Path) -> None:
    shutil.copytree(finished.workspace, tmp_path / "workspace")
    told = e2e.call("run", finished.spec, "--no-review", cwd=tmp_path)
    assert ["verify", "pets"] in printed(told.out)
    drawn = e2e.call("audit", "pets", "--csv", "sheet.csv", cwd=tmp_path)
    assert printed(drawn.out) == [["audit", "pets", "--answers", "sheet.csv"]]


@pytest.mark.slow  # loads FiftyOne and starts its App twice
def test_review_and_an_audit_in_the_app(here: Here, finished: e2e.Finished) -> None:
    told = run(here, finished)
    wanted = [next(one for one in printed(told.out) if one[0] == "review")]
    wanted.append(["audit", "pets", "--workspace", str(here.workspace), "--manifests", str(here.manifests)])
    for arguments in wanted:
        with e2e.start(*arguments, cwd=here.folder) as process:
            try:
                assert process.stdout is not None
                last = next(line for line in process.stdout if "Ctrl-C ends it" in line)
            finally:
                os.killpg(process.pid, signal.SIGINT)
                try:
                    process.communicate(timeout=60)
                except subprocess.TimeoutExpired:
                    os.killpg(process.pid, signal.SIGKILL)
        here.run_printed(last.partition("then: ")[2], arguments[0])
