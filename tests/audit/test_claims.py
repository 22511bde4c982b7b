"""Flags of boxes, regions, tracks and several labels a row are audited as what they claim."""

from __future__ import annotations

import csv
import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import region_scenes
from typer.testing import CliRunner

from curate.audit.claims import claims_of
from curate.audit.draw import draw
from curate.audit.verbs import open_table_audit
from curate.cli import app
from curate.errors import ConfigError, InputError
from curate.teachers.boxes.flag_coco import flag_boxes
from curate.teachers.flag_table import flag_table
from curate.teachers.regions.flag_masks import flag_masks
from curate.teachers.tracks.flag_tracks import flag_tracks

sys.path.insert(0, str(Path(__file__).parents[1] / "teachers" / "boxes"))
from box_world import World, labels_of, make_world, plant, write

Truth = dict[str, set[str]]


def call(*arguments: str | Path) -> Any:  # noqa: ANN401 - typer's own type
    return CliRunner().invoke(app, [str(one) for one in arguments])


def rows_of(sheet: Path) -> list[dict[str, str]]:
    with sheet.open(newline="") as stream:
        return list(csv.DictReader(stream))


def fill(sheet: Path, said: list[str], to: Path | None = None) -> None:
    rows = rows_of(sheet)
    with (to or sheet).open("w", newline="") as stream:
        writer = csv.DictWriter(stream, rows[0])
        writer.writeheader()
        writer.writerows([row | {"answer": answer} for row, answer in zip(rows, said, strict=True)])


@pytest.fixture(scope="module")
def world() -> World:
    return plant(make_world(80))


@pytest.fixture(scope="module")
def boxes(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("boxes")
    labels, teachers = write(folder, labels_of(world), world.detections)
    flag_boxes(labels, teachers, folder / "boxes.parquet")
    return folder / "boxes.parquet"


def truth_of(world: World) -> Truth:
    """Return the annotations that have an error, by issue."""
    return {
        issue: {str(at) for at in np.flatnonzero(world.kind == issue)} for issue in ("location", "swap", "spurious")
    }


def asked_about(row: dict[str, str]) -> str:
    words = {"badly placed": "location", "class of this box": "swap", "could stand for?": "spurious"}
    words |= {"same object": "duplicate", "no given box": "missing"}
    return next(issue for word, issue in words.items() if word in row["question"])


def test_boxes_are_asked_about_by_issue_and_the_answers_speak_of_each(
    world: World, boxes: Path, tmp_path: Path
) -> None:
    sheet, truth = tmp_path / "s.csv", truth_of(world)
    told = call("audit", "--table", boxes, "--csv", sheet, "--budget", "330")
    assert told.exit_code == 0, told.output
    assert "yes, no, can't tell" in told.output
    rows = rows_of(sheet)
    assert {asked_about(row) for row in rows} == {"location", "swap", "spurious", "duplicate", "missing"}
    given = {str(one["id"]): one for one in labels_of(world)["annotations"]}
    for row in rows:
        assert row["place"]
        assert row["image"].endswith(".png")
        missing = asked_about(row) == "missing"
        assert (row["annotation"] == "(none)") is missing
        if not missing:
            assert [float(one) for one in row["place"].split()] == given[row["annotation"]]["bbox"]
            assert row["given_label"]
    said = ["yes" if row["annotation"] in truth.get(asked_about(row), ()) else "no" for row in rows]
    fill(sheet, said)
    done = call("audit", "--table", boxes, "--answers", sheet, "--json")
    assert done.exit_code == 0, done.output
    found = {one["issue"]: one for one in json.loads(done.stdout)["by_issue"]}
    flags = pq.read_table(boxes)
    for issue, wrong in truth.items():
        mine = flags.filter(pc.equal(flags["issue"], issue)).to_pylist()
        hit = [str(row["annotation_id"]) in wrong for row in mine if row["flagged"]]
        assert found[issue]["n_flagged"] == len(hit)
        estimates = found[issue]["estimates"]
        for name, share in (
            ("precision", np.mean(hit)),
            ("recall", sum(hit) / len(wrong)),
            ("noise_rate", len(wrong) / len(mine)),
        ):
            assert estimates[name]["low"] <= share <= estimates[name]["high"], (issue, name)
    missing = found["missing"]["estimates"]
    assert [missing["noise_rate"]["value"], missing["recall"]["value"], missing["recall"]["low"]] == [None] * 3
    assert found["missing"]["not_known"]
    shown = call("audit", "--table", boxes, "--answers", sheet).output
    assert "not known: the table does not list" in shown
    assert "labels" not in shown


def test_a_sheet_of_claims_shows_nothing_that_is_suggested(boxes: Path, tmp_path: Path) -> None:
    open_table_audit(boxes, tmp_path / "s.csv", budget=60)
    call("audit", "--table", boxes, "--csv", tmp_path / "s.csv")
    text = (tmp_path / "s.csv").read_text()
    told = rows_of(tmp_path / "s.csv")
    for row in pq.read_table(boxes).to_pylist():
        assert row["reason"] not in text
        if (
            row["suggested_bbox"] and row["issue"] != "missing"
        ):  # a missing box is claimed at its place, nothing else is
            place = " ".join(f"{one:g}" for one in row["suggested_bbox"])
            assert place not in {one["place"] for one in told if one["annotation"] == str(row["annotation_id"])}
    assert set(rows_of(tmp_path / "s.csv")[0]) == {
        "look", "image", "annotation", "place", "given_label", "question", "answer", "true_label", "note",
    }  # fmt: skip


def test_the_words_of_labels_are_no_answers_to_the_question_of_a_claim(boxes: Path, tmp_path: Path) -> None:
    sheet = tmp_path / "s.csv"
    call("audit", "--table", boxes, "--csv", sheet)
    fill(sheet, ["correct"] * len(rows_of(sheet)))
    refused = call("audit", "--table", boxes, "--answers", sheet)
    assert isinstance(refused.exception, InputError)
    assert "answered by yes, no or can't tell" in str(refused.exception)


def test_the_draw_of_claims_forgets_the_order_of_rows_and_has_bands_of_each_issue(boxes: Path) -> None:
    flags = pq.read_table(boxes)
    shuffled = flags.take(pa.array(np.random.default_rng(0).permutation(flags.num_rows)))
    one, other = (
        draw(found.table, subject={}, budget=200, partial=found.partial)[0]
        for found in (claims_of(flags), claims_of(shuffled))
    )
    assert one.digest == other.digest
    assert one.partial == ("missing",)
    drawn = Counter((item.issue, item.band) for item in one.items)
    for number, band in enumerate(one.bands):
        assert drawn[band.issue, number] == band.n_drawn > 0


def test_a_table_of_flagged_claims_alone_has_no_recall(boxes: Path) -> None:
    flags = pq.read_table(boxes)
    found = claims_of(flags.filter(flags["flagged"]))
    assert set(found.partial) == set(pc.unique(found.table["issue"]).to_pylist())


def test_an_issue_without_its_annotation_is_refused(boxes: Path, tmp_path: Path) -> None:
    flags = pq.read_table(boxes)
    for columns, needed in ((["annotation_id"], "what they are about"), (["bbox"], "bbox")):
        pq.write_table(flags.drop_columns(columns), tmp_path / "t.parquet")
        with pytest.raises(InputError, match=needed):
            open_table_audit(tmp_path / "t.parquet", tmp_path / "s.csv", budget=60)


def test_regions_are_asked_about_with_their_place(tmp_path: Path) -> None:
    region_scenes.write_scenes(tmp_path, "scenes")
    out, sheet = tmp_path / "regions.parquet", tmp_path / "s.csv"
    flag_masks(tmp_path / "masks", {"ids": tmp_path / "ids", "net": tmp_path / "net"}, out)
    flags = pq.read_table(out)
    told = call("audit", "--table", out, "--csv", sheet, "--budget", "30", "--json")
    assert told.exit_code == 0, told.output
    claims = claims_of(flags)
    assert json.loads(told.stdout)["n_labels"] == claims.table.num_rows < flags.num_rows
    assert set(claims.partial) == set(pc.unique(claims.table["issue"]).to_pylist())
    rows = rows_of(sheet)
    assert all(len(row["place"].split()) == 4 for row in rows)
    assert all("region" in row["question"] or "mask" in row["question"] for row in rows)
    fill(sheet, ["yes"] * len(rows))
    found = json.loads(call("audit", "--table", out, "--answers", sheet, "--json").stdout)
    assert found["estimates"] is None
    for one in found["by_issue"]:
        assert one["estimates"]["recall"]["value"] is None
        assert one["n_flagged"] == 0 or one["estimates"]["precision"]["value"] == 1.0


def test_the_frames_of_an_exchange_are_one_claim(tmp_path: Path) -> None:
    frames = [(frame, one) for one in range(1, 7) for frame in range(1, 61)]
    ids = {1: 2, 2: 1}  # these two exchange their ids in frame 30
    rows = [
        (f, ids.get(one, one) if f >= 30 else one, 100 * one + 3 * f, 200 + 20 * one, 40, 100) for f, one in frames
    ]
    truth = [(f, one, 100 * one + 3 * f, 200 + 20 * one, 40, 100) for f, one in frames]
    for name, told in (("gt.txt", rows), ("t.txt", truth)):
        (tmp_path / name).write_text("".join(",".join(map(str, row)) + ",1,1,1\n" for row in told))
    out, sheet = tmp_path / "tracks.parquet", tmp_path / "s.csv"
    flag_tracks(tmp_path / "gt.txt", {"t": tmp_path / "t.txt"}, out)
    flags = pq.read_table(out)
    switched = flags.filter(pc.equal(flags["issue"], "id_switch"))
    assert switched.num_rows > 30
    found = claims_of(flags).table
    claimed = found.filter(pc.equal(found["issue"], "id_switch")).to_pylist()
    assert {row["annotation"] for row in claimed} == {"1", "2"}
    assert len(claimed) == 2
    assert all(row["place"].startswith("frames ") and "box in frame" in row["place"] for row in claimed)
    told = call("audit", "--table", out, "--csv", sheet, "--budget", "30")
    assert told.exit_code == 0, told.output
    assert {row["image"] for row in rows_of(sheet)} == set(flags["sequence"].to_pylist())


def several(path: Path) -> Path:
    random = np.random.default_rng(0)
    classes = ["bird", "cat", "dog"]
    truth = random.random((400, 3)) < 0.4
    given = truth ^ (random.random((400, 3)) < 0.08)
    probs = 1 / (1 + np.exp(-random.normal(size=truth.shape) - np.where(truth, 2.5, -2.5)))
    columns = {
        "sample_id": [f"s{at:03}" for at in range(400)],
        "label": pa.array([[classes[k] for k in np.flatnonzero(row)] for row in given], pa.list_(pa.string())),
        "prob_a": pa.array(probs.tolist(), pa.list_(pa.float32())),
    }
    pq.write_table(pa.table(columns).replace_schema_metadata({"classes": ",".join(classes)}), path / "in.parquet")
    flag_table(path / "in.parquet", path / "out.parquet")
    return path / "out.parquet"


def test_several_labels_a_row_are_audited_as_the_list_that_they_are(tmp_path: Path) -> None:
    table, sheet = several(tmp_path), tmp_path / "s.csv"
    told = call("audit", "--table", table, "--csv", sheet)
    assert told.exit_code == 0, told.output
    rows = rows_of(sheet)
    given = {row["sample_id"]: row["label"] for row in pq.read_table(table).to_pylist()}
    assert all(row["given_label"] == ("; ".join(sorted(given[row["image"]])) or "(none)") for row in rows)
    fill(sheet, ["wrong"] * len(rows))
    done = call("audit", "--table", table, "--answers", sheet, "--json")
    assert json.loads(done.stdout)["estimates"]["noise_rate"]["value"] == 1.0
    assert pq.read_table(table)["label"].type == pa.list_(pa.string())


def test_a_filled_sheet_may_have_another_name(tmp_path: Path) -> None:
    table, sheet = several(tmp_path), tmp_path / "s.csv"
    call("audit", "--table", table, "--csv", sheet)
    (tmp_path / "elsewhere").mkdir()
    other = tmp_path / "elsewhere" / "filled in.csv"
    fill(sheet, ["correct"] * len(rows_of(sheet)), to=other)
    done = call("audit", "--table", table, "--answers", other)
    assert done.exit_code == 0, done.output
    assert "precision      0.0%" in done.output
    (tmp_path / "s.csv.audit").rename(tmp_path / "gone")
    lost = call("audit", "--table", table, "--answers", other)
    assert isinstance(lost.exception, ConfigError)
    assert "s.csv.audit" not in str(lost.exception)
    assert "put that folder beside the sheet" in str(lost.exception)
