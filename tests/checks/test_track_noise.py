from __future__ import annotations

import json
from typing import Any

import pyarrow as pa
from checks_views import found, label, labels_view, sample, statistic

from curate import check
from curate.check import CheckResult, run_check
from curate.checks.track_noise import CHECK
from curate.reasons import render

N_FRAMES = 20
IDS = ("a", "b", "c")


def place(number: int, frame: int) -> list[float]:
    return [0.1 + 0.25 * number + 0.002 * frame, 0.3, 0.1, 0.2]


def rows(video: str = "v") -> list[dict[str, Any]]:
    """Return three ids side by side; each frame's first label holds what a tracker sees there."""
    made = []
    for frame in range(N_FRAMES):
        image = sample(100 + frame, group_video=video, width_px=200, height_px=100)
        seen = [{"track_id": f"t{n}", "label": None, "bbox": place(n, frame)} for n in range(3)]
        for number, one in enumerate(IDS):
            values = {"task": "tracking", "track_id": one, "frame": frame, "bbox": place(number, frame)}
            carrier = {"tracks_a": seen} if number == 0 else {}
            made.append(label(1000 * number + frame, image, **values, **carrier))
    return made


def judged(labels: list[dict[str, Any]]) -> CheckResult:
    return run_check(CHECK, labels_view(labels))


def test_tracks_that_teachers_follow_have_no_finding() -> None:
    result = judged(rows())
    assert result.findings.num_rows == 0
    assert statistic(result.statistics, "share_seen", "teacher=a")["value"] == 1.0
    unseen = statistic(result.statistics, "share_seen", "teacher=b")
    assert unseen["value"] == 0.0
    assert "belongs to this sequence" in json.loads(unseen["detail"])["warning"]
    assert "warning" not in statistic(result.statistics, "share_seen", "teacher=a")["detail"]


def test_the_share_that_a_teacher_sees_is_of_judged_boxes() -> None:
    labels = rows()
    for row in labels:
        if row["track_id"] == "c":
            row |= {"flags": ["ignored"], "bbox": [0.8, 0.8, 0.1, 0.1]}
    seen = statistic(judged(labels).statistics, "share_seen", "teacher=a")
    assert (seen["value"], seen["n"]) == (1.0, 2 * N_FRAMES)


def test_a_switch_is_told_with_the_teacher_and_every_label_after_it_is_flagged() -> None:
    labels = rows()
    for row in labels:
        if row["frame"] >= 10 and row["track_id"] in "ab":
            row["track_id"] = "b" if row["track_id"] == "a" else "a"
    switches = found(judged(labels).findings, "track_id_switch")
    first = [row for row in switches if row["risk"] >= 0.5]
    assert len(switches) == 20
    assert len(first) == 2
    assert all(row["flagged"] for row in switches)
    text = render(first[0]["reason_code"], first[0]["reason_args"])
    assert text.startswith("Between frames 9 and 10 the id ")
    assert "1 teacher(s) (a)" in text


def test_a_jump_comes_with_where_the_teacher_sees_it_relative_to_the_image() -> None:
    labels = rows()
    (moved,) = (row for row in labels if (row["track_id"], row["frame"]) == ("b", 7))
    moved["bbox"] = [0.35, 0.75, 0.1, 0.2]
    (jump,) = judged(labels).findings.to_pylist()
    assert (jump["issue"], jump["label_id"], jump["flagged"]) == ("track_jump", moved["label_id"], True)
    assert [round(value, 9) for value in jump["suggested_bbox"]] == [round(value, 9) for value in place(1, 7)]


def test_which_label_of_a_frame_holds_the_tracks_leaves_no_trace() -> None:
    labels = [row for row in rows() if not (row["track_id"] == "b" and 5 <= row["frame"] <= 7)]
    moved = [dict(row) for row in labels]
    for row in moved:
        twin = next(one for one in moved if (one["frame"], one["track_id"]) == (row["frame"], "c"))
        if row["track_id"] == "a":
            twin["tracks_a"] = row.pop("tracks_a")
    one, other = judged(labels), judged(moved)
    assert one.findings.to_pylist() == other.findings.to_pylist()
    assert "see it there" in render(*_reason(max(one.findings.to_pylist(), key=lambda row: row["risk"])))


def _reason(row: dict[str, Any]) -> tuple[str, str]:
    return row["reason_code"], row["reason_args"]


def test_the_same_id_in_two_videos_is_two_tracks() -> None:
    both = rows("v") + [row | {"label_id": f"{row['label_id'][:-1]}w", "group_video": "w"} for row in rows("w")]
    assert judged(both).findings.num_rows == 0
    assert statistic(judged(both).statistics, "n_tracks")["value"] == 6.0


def test_small_risks_are_left_out_by_the_parameter() -> None:
    labels = [row for row in rows() if not (row["track_id"] == "b" and row["frame"] == 5)]
    result = judged(labels)
    least = min(result.findings["risk"].to_pylist())
    strict = check.Check(**{f: getattr(CHECK, f) for f in CHECK.__slots__} | {"params": type(CHECK.params)(0.9)})
    assert least < 0.9
    assert all(row["risk"] >= 0.9 for row in run_check(strict, labels_view(labels)).findings.to_pylist())


def test_it_waits_for_teachers_of_tracks() -> None:
    assert CHECK.after_teachers
    assert CHECK.teacher_prefix == "tracks_"
    assert pa.types.is_list(labels_view(rows()).schema.field("tracks_a").type)


def test_the_share_with_a_finding_is_of_judged_boxes() -> None:
    labels = rows()
    for row in labels:
        if row["track_id"] == "c":
            row |= {"flags": ["ignored"]}
        elif row["track_id"] == "a" and row["frame"] == 10:
            row |= {"bbox": [0.9, 0.9, 0.05, 0.05]}  # jumps away and back
    result = judged(labels)
    share = statistic(result.statistics, "share_with_finding")
    hits = set(result.findings.filter(result.findings["flagged"])["label_id"].to_pylist()) - {None}
    assert hits
    assert share["n"] == 2 * N_FRAMES
    assert share["value"] == len(hits) / (2 * N_FRAMES)
    every = judged([row | {"flags": ["ignored"]} for row in labels]).statistics
    assert statistic(every, "share_with_finding")["outcome"] == "insufficient data"
