# ruff: noqa: ANN401 - FiftyOne has no types
"""MOT sequences through the whole pipeline: exchanged ids are seen in the App, accepted there, released put right."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

import curate
from curate.adapters.mongod import stop_database
from curate.export.verbs import export_lines, export_version
from curate.feed.release import open_feed
from curate.manifest.inputs import inputs_changed
from curate.manifest.verbs import verify_version
from curate.summary import summarize

N_FRAMES, SIDE = 24, 160
SPEC = """
name: walkers
source: {format: mot, path: mot}
task: tracking
groups: {video: video}
license: CC0-1.0
teachers:
  - {kind: mot, name: follower, path: tracks, classes: [pedestrian]}
policy:
  rules:
    - {issue: near_duplicate, action: keep}
  soft_labels: false
"""


def _boxes(frame: int) -> dict[int, list[int]]:
    return {1: [4 + 3 * frame, 10, 30, 40], 2: [120 - 3 * frame, 60, 30, 40], 3: [60, 112, 30, 40]}


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two sequences of three walkers.

    In the first, 1 and 2 are exchanged from frame 13 on; in the second, 2 has no label in frames 10 to 12, 3 is ignored.
    """
    root = tmp_path_factory.mktemp("walkers")
    (root / "tracks").mkdir()
    for number, video in enumerate(("north", "south")):
        home = root / "mot" / "train" / video
        (home / "img1").mkdir(parents=True)
        (home / "gt").mkdir()
        lines, truth = [], []
        for frame in range(1, N_FRAMES + 1):
            picture = np.random.default_rng([number, frame]).integers(0, 90, (SIDE, SIDE, 3), dtype=np.uint8)
            for one, (x, y, w, h) in _boxes(frame).items():
                cv2.rectangle(picture, (x, y), (x + w, y + h), (80 * one, 240 - 60 * one, 200), -1)
                wrong = {1: 2, 2: 1}.get(one, one) if video == "north" and frame >= 13 else one
                ignored = video == "south" and one == 3
                if not (video == "south" and one == 2 and 10 <= frame <= 12):
                    lines.append(f"{frame},{wrong},{x},{y},{w},{h},{int(not ignored)},1,1")
                truth.append(f"{frame},{10 * one},{x + 1},{y},{w},{h},1,1,1")
            cv2.imwrite(str(home / "img1" / f"{frame:06}.png"), picture)
        (home / "gt" / "gt.txt").write_text("\n".join(lines) + "\n")
        (root / "tracks" / f"{video}.txt").write_text("\n".join(truth) + "\n")
    (root / "walkers.yaml").write_text(SPEC)
    return root / "walkers.yaml"


@pytest.fixture
def workspace(tmp_path: Path) -> Iterator[Path]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # FiftyOne's own, at import
        import fiftyone  # noqa: F401, PLC0415
    yield tmp_path
    stop_database(tmp_path)


def _exchanged(run: Any) -> dict[str, dict[str, Any]]:
    labels = {row["label_id"]: row for row in run.tables["labels"].to_pylist()}
    found = [
        row for row in run.tables["findings"].to_pylist() if row["issue"] == "track_id_switch" and row["flagged"]
    ]
    return {row["label_id"]: labels[row["label_id"]] for row in found}


def test_a_suggested_id_is_seen_accepted_in_the_app_and_released(spec: Path, workspace: Path) -> None:
    first = curate.run(spec, workspace=workspace)
    wrong = _exchanged(first)
    assert {(row["track_id"], row["frame"]) for row in wrong.values()} == {
        (one, frame) for one in ("1", "2") for frame in range(12, N_FRAMES)
    }
    assert first.release is not None
    assert not set(wrong) & set(first.release.data["label_id"].to_pylist()), "they wait for a person"
    dataset = _opened()
    view = dataset.load_saved_view("tracks: ids that change hands")
    shown = [(sample.group_video, sample.uri) for sample in view]
    assert shown == sorted(shown)
    assert len(shown) == N_FRAMES - 12
    boxes = [box for sample in view for box in sample.ground_truth.detections]
    assert {(box.track_id, box.suggested_id) for box in boxes} == {("1", "2"), ("2", "1")}
    assert len({(box.track_id, box.index) for box in boxes}) == 2
    accepted = {box.id for box in boxes if box.track_id == "1"}
    dataset.select_labels(ids=sorted(accepted)).tag_labels("curate:accept")

    second = curate.run(spec, workspace=workspace)
    assert second.release is not None
    released = {row["label_id"]: row for row in second.release.data.to_pylist()}
    assert {(released[key]["track_id"], released[key]["given_track_id"]) for key in accepted} == {("2", "1")}
    assert {released[key]["action"] for key in accepted} == {"keep"}
    assert {released[key]["released_label"] for key in accepted} == {"pedestrian"}
    assert not (set(wrong) - accepted) & set(released)
    report = verify_version(workspace / "manifests", "walkers")
    assert [promise for promise in report.promises if promise.ok is False] == []
    _opened().select_labels(ids=sorted(accepted)).untag_labels("curate:accept")
    third = curate.run(spec, workspace=workspace)
    assert third.release is not None
    assert not accepted & set(third.release.data["label_id"].to_pylist()), "a mind that was changed"


def test_missing_boxes_of_a_gap_are_drawn_accepted_and_released_with_their_reason(
    spec: Path, workspace: Path
) -> None:
    first = curate.run(spec, workspace=workspace)
    assert first.release is not None
    assert first.release.ignore is not None
    places = [row for row in first.release.ignore.to_pylist() if row["label_id"] is None]
    assert [(row["task"], row["label"]) for row in places] == [("tracking", "pedestrian")] * 3
    before = {row["label_id"] for row in first.release.data.to_pylist()}
    (after_gap,) = [
        row["label_id"] for row in first.tables["findings"].to_pylist()
        if row["issue"] == "track_gap" and row["check"] == "track_noise" and row["flagged"]
    ]  # fmt: skip
    assert after_gap not in before, "it waits for a person"
    view = _opened().load_saved_view("tracks: missing boxes")
    assert [(sample.group_video, sample.uri[-8:]) for sample in view] == [
        ("south", f"00{frame}.png") for frame in (10, 11, 12)
    ]
    drawn = [box for sample in view for box in sample.suggested.detections]
    assert {(box.track_id, box.label, box.index) for box in drawn} == {("2", "pedestrian", drawn[0].index)}
    assert "follower" in drawn[0].reason
    _opened().select_labels(ids=[box.id for box in drawn[:2]]).tag_labels("curate:accept")
    _opened().select_labels(ids=[drawn[2].id]).tag_labels("curate:reject")

    second = curate.run(spec, workspace=workspace)
    assert second.release is not None
    released = {row["label_id"]: row for row in second.release.data.to_pylist()}
    assert set(released) - before == {drawn[0].id, drawn[1].id, after_gap}
    went_in = [run.release.head["inputs"] for run in (first, second)]
    assert inputs_changed(*went_in) == ["decisions"], "what people draw is not what the source says"
    for box, frame in zip(drawn[:2], (9, 10), strict=True):
        row = released[box.id]
        assert (row["task"], row["track_id"], row["frame"]) == ("tracking", "2", frame)
        assert (row["released_label"], row["given_track_id"]) == ("pedestrian", None)
        assert row["bbox"] == pytest.approx(box.bounding_box)
        assert "decision_accept" in row["reason_codes"]
    asked = {row["finding_id"]: row for row in first.tables["findings"].to_pylist()}
    decided = second.release.decisions.to_pylist()
    assert {(row["to_track_id"], asked[row["finding_id"]]["issue"]) for row in decided} == {("2", "track_missing")}
    left = second.release.ignore
    assert left is None or not [row for row in left.to_pylist() if row["label_id"] is None], (
        "the places are answered"
    )
    report = verify_version(workspace / "manifests", "walkers")
    assert [promise for promise in report.promises if promise.ok is False] == []
    third = curate.run(spec, workspace=workspace)
    assert third.published is not None
    assert not third.published.is_new, "nothing changed, nothing is published"
    _opened().select_labels(ids=[drawn[0].id]).untag_labels("curate:accept")
    fourth = curate.run(spec, workspace=workspace)
    assert fourth.release is not None
    rows = {row["label_id"] for row in fourth.release.data.to_pylist()}
    assert (drawn[0].id in rows, drawn[1].id in rows, after_gap in rows) == (False, True, False), "a changed mind"


def _opened() -> Any:
    import fiftyone  # noqa: PLC0415

    dataset = fiftyone.load_dataset("curate-walkers")
    dataset.reload()
    return dataset


def test_ignored_boxes_are_kept_and_not_judged(spec: Path, tmp_path: Path) -> None:
    gt = spec.parent / "mot" / "train" / "south" / "gt" / "gt.txt"
    lines = gt.read_text().splitlines()
    jumped = [line.replace(",60,112,", ",4,4,") if line.startswith("9,3,") else line for line in lines]
    for consider, n_found in (("0", 0), ("1", 1)):
        gt.write_text("\n".join(line.replace(",0,1,1", f",{consider},1,1") for line in jumped) + "\n")
        run = curate.run(spec, workspace=tmp_path / consider, until="review", review=False)
        south = {row["label_id"] for row in run.tables["labels"].to_pylist() if row["track_id"] == "3"}
        jumps = [
            row for row in run.tables["findings"].to_pylist() if row["issue"] == "track_jump" and row["flagged"]
        ]
        assert len({row["label_id"] for row in jumps} & south) == n_found
    gt.write_text("\n".join(lines) + "\n")


def test_ignored_boxes_are_no_targets_in_what_leaves(spec: Path, tmp_path: Path) -> None:
    run = curate.run(spec, workspace=tmp_path / "w", review=False)
    assert run.release is not None
    ignored = {row["label_id"] for row in run.release.data.to_pylist() if "ignored" in (row["flags"] or ())}
    assert len(ignored) == N_FRAMES
    told = {
        form: export_version(tmp_path / "w", "walkers", format=form, out=tmp_path / form, images="none")
        for form in ("coco", "yolo", "hf", "webdataset")
    }
    (document,) = (tmp_path / "coco" / "annotations").glob("*.json")
    annotations = json.loads(document.read_text())["annotations"]
    assert {one["label_id"] for one in annotations if one["iscrowd"] and "flags" in one} == ignored
    assert told["yolo"]["left_out_by_reason"]["export_ignored_by_source"] == N_FRAMES
    said = "\n".join(export_lines(told["yolo"]))
    assert f"{N_FRAMES} labels that the source wants ignored" in said
    assert f"{told['yolo']['n_labels']} track ids" in said
    n_targets = sum(row["label_id"] is not None for row in run.release.data.to_pylist()) - N_FRAMES
    assert told["yolo"]["n_labels"] == told["hf"]["n_labels"] == told["webdataset"]["n_labels"] == n_targets
    feed = open_feed("walkers", workspace=tmp_path / "w", allow_failed_gates=True)
    assert feed.rows.ignore is not None
    third = np.float32([60, 112, 90, 152]) / SIDE
    places = feed.rows.ignore.boxes
    assert int(np.isclose(places, third, atol=0.01).all(axis=1).sum()) == N_FRAMES


def test_a_tracker_of_other_videos_is_named_at_the_end_and_in_the_report(spec: Path, tmp_path: Path) -> None:
    (spec.parent / "elsewhere").mkdir()
    for file in sorted((spec.parent / "tracks").glob("*.txt")):
        rows = np.loadtxt(file, delimiter=",")
        rows[:, 2] += 500
        np.savetxt(spec.parent / "elsewhere" / file.name, rows, fmt="%d", delimiter=",")
    other = spec.with_name("elsewhere.yaml")
    other.write_text(spec.read_text().replace("path: tracks", "path: elsewhere"))
    result = curate.run(other, workspace=tmp_path, review=False)
    (told,) = summarize(result)["teachers_warn"]
    assert told.startswith("follower: it sees 0.0% of the ")
    assert "belongs to this sequence" in told
    assert result.report is not None
    assert "belongs to this sequence" in result.report.read_text()
