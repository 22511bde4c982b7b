"""The teacher `mot` in a spec: files to columns, and the whole way to a verdict."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

import curate
from curate.check import CheckResult, discover
from curate.errors import InputError
from curate.ingest.street_scene import HEIGHT_PX, WIDTH_PX
from curate.spec import MotSpec, Spec
from curate.stages.check import without_teacher
from curate.teachers import teacher_of
from curate.teachers.protocol import ColumnAnswer, Request

SPEC = Path(__file__).parents[3] / "datasets" / "street.yaml"
LABELS = {
    "label_id": ["d", "c", "b", "a"],
    "track_id": ["x", "y", "x", None],
    "frame": [0, 0, 1, 0],
    "width_px": [200, 200, 200, 200],
    "height_px": [100, 100, 100, 100],
    "group_video": ["v", "v", "v", "v"],
}


def ask(path: Path, **changes: Any) -> ColumnAnswer:  # noqa: ANN401 - fields of MotSpec
    request = Request(
        samples=pa.table({}),
        labels=pa.table(LABELS),
        media=None,  # type: ignore[arg-type] # tracks need no pixel
        classes=("car",),
        families=None,  # type: ignore[arg-type] # as above
        seed=0,
        resolve=Path,
        scratch=path,
    )
    (answer,) = teacher_of(MotSpec(kind="mot", name="m", path=str(path), **changes)).answer(request)
    assert isinstance(answer, ColumnAnswer)
    return answer


def test_a_frames_boxes_stand_at_its_label_with_the_smallest_id_relative_to_the_image(tmp_path: Path) -> None:
    (tmp_path / "v.txt").write_text("1,7,20,10,40,50\n1,3,100,10,40,50\n2,7,22,10,40,50\n9,7,22,10,40,50\n")
    answer = ask(tmp_path)
    by_label = dict(zip(LABELS["label_id"], answer.column.to_pylist(), strict=True))
    assert by_label["a"] is None  # it has no track
    assert by_label["d"] is None
    assert [one["track_id"] for one in by_label["c"]] == ["3", "7"]
    assert by_label["b"] == [{"track_id": "7", "label": None, "bbox": [0.11, 0.1, 0.2, 0.5]}]
    assert answer.card.n_predicted == 3


def test_boxes_with_coordinates_that_are_no_numbers_are_counted_on_the_card(tmp_path: Path) -> None:
    (tmp_path / "v.txt").write_text("1,7,20,10,40,50\n1,3,nan,10,40,50\n2,7,22,10,inf,50\n")
    card = ask(tmp_path).card
    assert (card.n_predicted, card.warnings) == (
        1,
        ("2 boxes with coordinates that are no numbers are left out",),
    )


def test_the_first_frame_can_have_any_number_and_one_file_serves_one_video(tmp_path: Path) -> None:
    (tmp_path / "any.txt").write_text("0,7,20,10,40,50\n")
    assert ask(tmp_path / "any.txt", first_frame=0).card.n_predicted == 1
    with pytest.raises(InputError, match="first_frame"):
        ask(tmp_path / "any.txt")


def test_files_of_no_video_are_named(tmp_path: Path) -> None:
    (tmp_path / "w.txt").write_text("1,7,20,10,40,50\n")
    with pytest.raises(InputError, match=r"for example v\.txt; it has: w"):
        ask(tmp_path)


def test_the_card_changes_with_the_bytes(tmp_path: Path) -> None:
    (tmp_path / "v.txt").write_text("1,7,20,10,40,50\n")
    before = ask(tmp_path).card
    assert ask(tmp_path).card == before
    (tmp_path / "v.txt").write_text("1,7,21,10,40,50\n")
    assert ask(tmp_path).card.digest != before.digest


def said_of(spec: Spec, columns: list[str]) -> tuple[list[str], CheckResult]:
    checks = [one for one in discover().values() if one.after_teachers and one.view == "labels"]
    ready, silent = without_teacher(spec, checks, columns)
    return [one.name for one in ready], silent


def test_a_check_without_its_kind_of_teacher_has_no_subject_and_one_whose_teacher_failed_did_not_run() -> None:
    source = {"format": "street"}
    mot = Spec.model_validate(
        {"name": "s", "source": source, "teachers": [{"kind": "mot", "name": "m", "path": "p"}]}
    )
    ready, silent = said_of(mot, ["label_id", "tracks_m"])
    assert ready == ["track_noise"]
    names = {(row["check"], row["name"], row["outcome"]) for row in silent.statistics.to_pylist()}
    assert ("label_noise", "applies", None) in names
    ready, silent = said_of(mot, ["label_id"])
    names = {(row["check"], row["name"], row["outcome"]) for row in silent.statistics.to_pylist()}
    assert ready == []
    assert ("track_noise", "ran", "insufficient data") in names
    plain = Spec.model_validate({"name": "s", "source": source})
    ready, silent = said_of(plain, ["label_id", "prob_one"])
    assert ready == ["label_noise"]
    assert {row["name"] for row in silent.statistics.to_pylist()} == {"applies"}


@pytest.mark.slow
def test_the_switches_planted_in_the_demo_wait_for_review(tmp_path: Path) -> None:
    text = SPEC.read_text(encoding="utf-8")
    (tmp_path / "plain.yaml").write_text(text)
    curate.run(tmp_path / "plain.yaml", workspace=tmp_path / "ws", until="ingest", review=False)
    (labels,) = (tmp_path / "ws").rglob("labels.jsonl")
    (tmp_path / "tracks").mkdir()
    for video, lines in true_tracks(labels).items():
        (tmp_path / "tracks" / f"{video}.txt").write_text("".join(lines))
    teachers = "teachers:\n  - {kind: mot, name: follower, path: tracks}"
    (tmp_path / "street.yaml").write_text(text.replace("teachers: []", teachers))
    run = curate.run(tmp_path / "street.yaml", workspace=tmp_path / "ws", until="review", review=False)
    hits = [row for row in run.tables["findings"].to_pylist() if row["check"] == "track_noise"]
    switched = {row["label_id"] for row in hits if row["issue"] == "track_id_switch" and row["flagged"]}
    labels_of = {row["label_id"]: row for row in run.tables["labels"].to_pylist()}
    planted = {
        key
        for key, row in labels_of.items()
        if row["track_id"] and not row["source_key"].startswith(f"{row['track_id']}-")
    }
    assert planted
    assert switched == planted
    actions = {row["label_id"]: row["action"] for row in run.tables["verdicts"].to_pylist()}
    assert {actions[key] for key in switched} == {"review"}
    outcomes = {
        row["check"]: row["outcome"] for row in run.tables["statistics"].to_pylist() if row["name"] == "ran"
    }
    assert outcomes["track_noise"] is None


def true_tracks(labels: Path) -> dict[str, list[str]]:
    """Return MOT lines by video: what a tracker without a fault would write, read off the keys of the true boxes."""
    lines: dict[str, list[str]] = defaultdict(list)
    for line in labels.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        x, y, w, h = row["bbox"]
        if row["track"] is not None and w > 0:
            number = row["key"].split("-")[1]
            box = (x * WIDTH_PX, y * HEIGHT_PX, w * WIDTH_PX, h * HEIGHT_PX)
            lines[row["file"].split("/")[1]].append(
                f"{row['frame'] + 1},{number},{','.join(f'{v:.1f}' for v in box)},1\n"
            )
    return lines
