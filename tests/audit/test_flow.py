"""`curate audit` from the draw to the gates of the next version, in processes of its own."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import end_to_end as e2e
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from audit_world import world

GATES = "policy: {gates: [{statistic: audit.noise_rate, max: 0.5, bound: interval}]}\n"


def fill(sheet: Path, answer: Callable[[dict[str, str]], tuple[str, str]]) -> None:
    with sheet.open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    for row in rows:
        row["answer"], row["true_label"] = answer(row)
    with sheet.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)


def by_folder(row: dict[str, str]) -> tuple[str, str]:
    """The pictures of `end_to_end` are numbered by their true kind."""
    truth = ("cat", "dog", "eel")[int(Path(row["image"]).stem) % 3]
    return ("correct", "") if truth == row["given_label"] else ("wrong", truth)


@pytest.fixture
def misfiled(finished: e2e.Finished, tmp_path: Path) -> tuple[Path, Path]:
    """The finished workspace and its data, with one picture in the wrong folder, run again."""
    shutil.copytree(finished.workspace, tmp_path / "ws")
    shutil.copytree(finished.folder / "data", tmp_path / "data")
    (tmp_path / "data/train/cat/003.png").rename(tmp_path / "data/train/dog/003.png")
    spec = e2e.write_spec(tmp_path / "pets.yaml", "{format: folder, path: data}", rest=e2e.FAST_TEACHER + GATES)
    done = e2e.call("run", spec, "--workspace", tmp_path / "ws", "--no-review", "--json")
    assert done.code == 1, done.err  # the gate finds no audit, so it does not pass
    return spec, tmp_path / "ws"


def test_an_audit_by_sheet_reaches_ledger_evidence_and_gates(misfiled: tuple[Path, Path], tmp_path: Path) -> None:
    spec, workspace = misfiled
    sheet = tmp_path / "sheet.csv"
    place = ("--workspace", workspace, "--json")
    drawn = e2e.call("audit", "pets", "--budget", "66", "--target-precision", "0.5", "--csv", sheet, *place)
    assert drawn.code == 0, drawn.err
    assert drawn.json["is_new"] is True
    again = e2e.call("audit", "pets", "--csv", tmp_path / "other.csv", *place)
    assert (again.json["audit"], again.json["is_new"]) == (drawn.json["audit"], False)
    early = e2e.call("audit", "pets", "--result", *place)
    assert early.json["estimates"] is None
    assert early.json["n_open"] == 66

    fill(sheet, by_folder)
    taken = e2e.call("audit", "pets", "--answers", sheet, "--reviewer", "ann", *place)
    assert taken.code == 0, taken.err
    assert taken.json["n_new_answers"] == 66
    assert taken.json["n_decisions"] == 60
    assert taken.json["estimates"]["noise_rate"]["value"] == pytest.approx(1 / 60)
    assert taken.json["estimates"]["noise_rate"]["high"] == pytest.approx(1 / 60)  # all were looked at
    for who in ("ann", "bob"):  # the same sheet says nothing new, whoever hands it in
        assert e2e.call("audit", "pets", "--answers", sheet, "--reviewer", who, *place).json["n_new_answers"] == 0

    done = e2e.call("run", spec, "--workspace", workspace, "--no-review", "--json")
    assert done.code == 0, done.err
    assert done.json["audit"]["noise_rate"]["value"] == pytest.approx(1 / 60)
    page = Path(done.json["report"]).read_text(encoding="utf-8")
    assert "By an audit, <b>1.7%</b> of the labels are wrong" in page
    assert "<b>1.7%</b><span>of labels wrong (audit)</span>" in page
    assert "<code>curate audit</code>" not in page
    assert "it is no audit" not in page
    version = Path(done.json["manifest"])
    rows = pq.read_table(next((version / "data").glob("*.parquet"))).to_pylist()
    moved = next(row for row in rows if row["uri"].endswith("dog/003.png"))
    assert (moved["given_label"], moved["released_label"], moved["action"]) == ("dog", "cat", "relabel")
    proof = json.loads((version / "evidence/audit.json").read_text())
    assert proof["audit"] == drawn.json["audit"]
    assert proof["of_these_flags"]["noise_rate"]["value"] == pytest.approx(1 / 60)
    assert str(tmp_path) not in json.dumps(proof)
    assert "ann" not in json.dumps(proof).replace("Mann", "")
    verified = e2e.call("verify", "pets", "--workspace", workspace)
    assert verified.code == 0, verified.out
    full = e2e.call("audit", "pets", "--workspace", workspace)
    assert full.code == 2
    assert "--new" in full.err

    (tmp_path / "data/train/eel/005.png").rename(tmp_path / "data/train/cat/005.png")
    changed = e2e.call("run", spec, "--workspace", workspace, "--no-review", "--json")
    statistics = json.loads((Path(changed.json["manifest"]) / "evidence/statistics.json").read_text())
    rate = next(row for row in statistics if (row["check"], row["name"]) == ("audit", "noise_rate"))
    assert rate["value"] is None
    assert rate["outcome"] == "insufficient data"
    assert "changed since" in rate["detail"]


def test_a_table_is_audited_without_a_workspace(tmp_path: Path) -> None:
    known = world(1_500, sharpness=12)
    flags = tmp_path / "flags.parquet"
    chosen = {"sample_id": "label_id", "label": "given_label", "risk": "risk", "flagged": "flagged"}
    pq.write_table(pa.table({name: known.labels[column] for name, column in chosen.items()}), flags)
    sheet = tmp_path / "sheet.csv"
    drawn = e2e.call("audit", "--table", flags, "--csv", sheet, "--target-precision", "0.8", cwd=tmp_path)
    assert drawn.code == 0, drawn.err
    assert not (tmp_path / "workspace").exists()

    def answer(row: dict[str, str]) -> tuple[str, str]:
        return known.verdict(row["image"]), ""

    fill(sheet, answer)
    taken = e2e.call("audit", "--table", flags, "--answers", sheet, cwd=tmp_path)
    assert taken.code == 0, taken.err
    assert "certified for precision 80.0%" in taken.out
    assert "200 new answers" in taken.out
    told = e2e.call("audit", "--table", flags, "--answers", sheet, "--json", cwd=tmp_path).json
    for measure, truth in known.truth.items():
        assert told["estimates"][measure]["low"] <= truth <= told["estimates"][measure]["high"]

    pq.write_table(pq.read_table(flags).drop_columns(["flagged"]), flags)
    other = e2e.call("audit", "--table", flags, "--csv", tmp_path / "b.csv", cwd=tmp_path)
    assert other.code == 3
    assert "flagged" in other.err
    foreign = e2e.call("audit", "--table", flags, "--csv", sheet, cwd=tmp_path)
    assert foreign.code == 2
    assert "another table" in foreign.err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "curate audit NAME, or --table"),
        (["pets", "--pull", "--result"], "a step of its own"),
        (["nobody", "--result"], "no audit of nobody"),
        (["--table", "nowhere.parquet", "--csv", "x.csv"], "no table at"),
        (["--table", "nowhere.parquet"], "goes by a sheet"),
    ],
)
def test_wrong_usage_says_what_to_do(arguments: list[str], said: str, tmp_path: Path) -> None:
    ended = e2e.call("audit", *arguments, cwd=tmp_path)
    assert ended.code == 2
    assert said in ended.err
