"""MOT Challenge: sequences, frames, ids, boxes beyond the picture, ignored ones, and files from strangers."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import awkward
import pytest

from curate.errors import ConfigError, InputError
from curate.ingest import Ingested, ReadOptions, source_named

MOT = source_named("mot")
INI = "[Sequence]\nname=a\nimDir=img1\nframeRate=30\nseqLength=3\nimWidth=24\nimHeight=16\nimExt=.jpg\n"


def write(
    root: Path, lines: list[str] | None, sequence: str = "train/a", n_frames: int = 3, ini: str = INI
) -> Path:
    home = root / sequence
    (home / "img1").mkdir(parents=True)
    for frame in range(1, n_frames + 1):
        (home / "img1" / f"{frame:06}.jpg").write_bytes(awkward.jpeg(frame))
    if lines is not None:
        (home / "gt").mkdir()
        (home / "gt" / "gt.txt").write_text("\n".join(lines) + "\n")
    if ini:
        (home / "seqinfo.ini").write_text(ini)
    return root


def read(root: Path, **options: object) -> Ingested:
    return MOT.read(ReadOptions(source="s", root=root, groups={"video": "video"}, options=options))


def test_frames_are_samples_and_lines_are_tracks(tmp_path: Path) -> None:
    write(tmp_path, ["1,7,0,0,12,8,1,1,1", "2,7,12,8,12,8,1,3,0.5"])
    found = read(tmp_path)
    samples = {row["uri"]: row for row in found.samples.to_pylist()}
    assert {row["group_video"] for row in samples.values()} == {"a"}
    assert {row["split"] for row in samples.values()} == {"train"}
    assert [samples[f"train/a/img1/{n:06}.jpg"]["label_state"] for n in (1, 2, 3)] == [
        "labeled",
        "labeled",
        "negative",
    ]
    rows = sorted(found.labels.to_pylist(), key=lambda row: row["frame"])
    assert [(row["task"], row["track_id"], row["frame"], row["label"]) for row in rows] == [
        ("tracking", "7", 0, "pedestrian"),
        ("tracking", "7", 1, "car"),
    ]
    assert rows[0]["bbox"] == [0, 0, 0.5, 0.5]
    assert rows[1]["bbox"] == [0.5, 0.5, 0.5, 0.5]
    assert found.classes == ("pedestrian", "car")


def test_a_box_beyond_the_picture_is_cut_and_one_outside_is_out(tmp_path: Path) -> None:
    write(tmp_path, ["1,1,-12,-8,24,16,1,1,1", "2,1,30,0,12,8,1,1,1", "3,1,4,4,0,8,1,1,1"])
    found = read(tmp_path)
    (row,) = found.labels.to_pylist()
    assert (row["bbox"], row["flags"]) == ([0, 0, 0.5, 0.5], ["truncated"])
    out = [code for code in found.outcomes["reason_code"].to_pylist() if code]
    assert sorted(out) == ["box_outside", "box_zero_area"]


@pytest.mark.parametrize(
    ("other", "expected"), [("1", {"1": None, "2": ["ignored"]}), ("0", {"1": None, "2": None})]
)
def test_boxes_that_are_not_to_be_considered_are_marked(
    tmp_path: Path, other: str, expected: dict[str, object]
) -> None:
    write(tmp_path, [f"1,1,0,0,12,8,{other},1,1", "1,2,0,0,12,8,0,8,1"])
    assert {row["track_id"]: row["flags"] for row in read(tmp_path).labels.to_pylist()} == expected


def test_each_line_is_one_outcome_whatever_it_holds(tmp_path: Path) -> None:
    lines = [
        "1,1,0,0,12,8",
        "1,1,2,2,12,8",
        "9,1,0,0,1,1",
        "x,1,0,0,1,1",
        "1,2,0,0",
        "1.5,2,0,0,9,9",
        "1,3,0,0,nan,9",
    ]
    write(tmp_path, lines)
    found = read(tmp_path)
    outcomes = [row for row in found.outcomes.to_pylist() if row["kind"] == "label"]
    assert sorted(row["row"].rsplit(" ", 1)[1] for row in outcomes) == [str(n) for n in range(1, 8)]
    assert sum(row["outcome"] == "added" for row in outcomes) == 2
    assert sorted(row["reason_code"] for row in outcomes if row["outcome"] == "out") == [
        *["annotation_malformed"] * 4,
        "unknown_image",
    ]
    first, second = sorted(found.labels.to_pylist(), key=lambda row: row["bbox"])
    assert first["track_id"] == second["track_id"]  # an id twice in a frame is a finding, no reason to lose a box
    assert first["label_id"] != second["label_id"]


def test_ids_of_labels_do_not_depend_on_the_order_of_lines(tmp_path: Path) -> None:
    lines = ["1,1,0,0,12,8", "1,1,2,2,12,8", "2,1,0,0,12,8"]
    one = read(write(tmp_path / "one", lines)).labels
    other = read(write(tmp_path / "other", lines[::-1])).labels
    assert one.equals(other)


def test_a_sequence_without_labels_is_unlabeled_and_sizes_come_from_the_frames_without_an_ini(
    tmp_path: Path,
) -> None:
    write(tmp_path, ["1,1,0,0,12,8"], sequence="a", ini="")
    write(tmp_path, None, sequence="b")
    found = read(tmp_path)
    states = {row["uri"]: row["label_state"] for row in found.samples.to_pylist()}
    assert {state for uri, state in states.items() if uri.startswith("b/")} == {"unlabeled"}
    assert found.labels["bbox"].to_pylist() == [[0, 0, 0.5, 0.5]]


def test_an_archive_reads_as_its_folder(tmp_path: Path) -> None:
    write(tmp_path / "mot", ["1,1,0,0,12,8"])
    with zipfile.ZipFile(tmp_path / "mot.zip", "w") as archive:
        for path in sorted((tmp_path / "mot").rglob("*")):
            archive.write(path, path.relative_to(tmp_path / "mot"))
    assert MOT.recognises(tmp_path / "mot") == MOT.recognises(tmp_path / "mot.zip") == {}
    assert read(tmp_path / "mot.zip").labels.equals(read(tmp_path / "mot").labels)


def test_what_is_no_mot_is_not_recognised_and_says_what_it_needs(tmp_path: Path) -> None:
    (tmp_path / "cat").mkdir()
    (tmp_path / "cat" / "a.jpg").write_bytes(awkward.jpeg(0))
    assert MOT.recognises(tmp_path) is None
    with pytest.raises(InputError, match=r"gt/gt\.txt"):
        read(tmp_path)
    with pytest.raises(ConfigError, match="class_names"):
        read(write(tmp_path / "m", ["1,1,0,0,12,8"]), class_names="car")
    named = read(write(tmp_path / "n", ["1,1,0,0,12,8,1,2"]), class_names=["bus", "tram"])
    assert named.classes == ("tram",)


def test_a_number_beyond_the_given_names_is_out_and_its_frame_is_not_negative(tmp_path: Path) -> None:
    write(tmp_path, ["1,1,0,0,12,8,1,2", "2,1,0,0,12,8,1,9", "3,1,0,0,12,8,1,1"])
    found = read(tmp_path, class_names=["bus", "tram"])
    assert found.classes == ("bus", "tram")
    (out,) = [row for row in found.outcomes.to_pylist() if row["outcome"] == "out"]
    assert (out["row"], out["reason_code"]) == ("train/a/gt/gt.txt line 2", "class_out_of_range")
    assert json.loads(out["reason_args"]) == {"n_classes": 2, "number": "9"}
    states = {row["uri"][-5]: row["label_state"] for row in found.samples.to_pylist()}
    assert states == {"1": "labeled", "2": "unlabeled", "3": "labeled"}
    assert read(write(tmp_path / "n", ["1,1,0,0,12,8,1,14"])).classes == ("14",)  # nobody gave names
