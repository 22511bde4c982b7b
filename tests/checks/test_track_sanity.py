from __future__ import annotations

from typing import Any

import pytest
from checks_views import found, label, labels_view, sample, statistic

from curate.check import CheckResult, run_check
from curate.checks.track_sanity import CHECK


def _track(
    frames: list[int], track: str = "t", video: str = "v", step: float = 0.01, **more: object
) -> list[dict[str, Any]]:
    rows = []
    for i, frame in enumerate(frames):
        image = sample(1000 + frame, group_video=video, width_px=100, height_px=100)
        number = hash_of(track, video) + i
        values = {"task": "tracking", "track_id": track, "frame": frame, "bbox": [0.1 + step * i, 0.1, 0.1, 0.1]}
        rows.append(label(number, image, **{**values, **more}))
    return rows


def hash_of(track: str, video: str) -> int:
    return sum(ord(c) for c in track) * 1000 + sum(ord(c) for c in video) * 1_000_000


def _run(*tracks: list[dict[str, Any]]) -> CheckResult:
    return run_check(CHECK, labels_view([row for track in tracks for row in track]))


def test_a_smooth_track_has_no_finding_and_the_same_id_in_another_video_is_another_track() -> None:
    result = _run(_track([0, 1, 2]), _track([0, 1, 2], video="w", step=0.0, label="dog"))
    assert result.findings.num_rows == 0
    assert statistic(result.statistics, "n_tracks")["value"] == 2.0


def test_the_class_that_most_of_the_track_has_is_suggested() -> None:
    rows = _track([0, 1, 2, 3])
    rows[2]["label"] = "dog"
    (flip,) = _run(rows).findings.to_pylist()
    assert (flip["issue"], flip["label_id"], flip["suggested_label"]) == (
        "track_class_flip",
        rows[2]["label_id"],
        "cat",
    )
    assert flip["risk"] == pytest.approx((3 + 1) / (1 + 3 + 2))
    assert flip["flagged"]
    rows[3]["label"] = "dog"
    tied = found(_run(rows).findings, "track_class_flip")
    assert len(tied) == 4
    assert {row["suggested_label"] for row in tied} == {None}
    assert not any(row["flagged"] for row in tied)


def test_an_id_twice_in_a_frame() -> None:
    rows = _track([0, 1, 1, 2])
    twice = found(_run(rows).findings, "track_duplicate_id")
    assert {row["label_id"] for row in twice} == {rows[1]["label_id"], rows[2]["label_id"]}


def test_a_gap_is_counted_in_frames_that_are_annotated() -> None:
    every_fifth = [0, 5, 10, 15]
    assert not found(_run(_track(every_fifth)).findings, "track_gap")
    rows = _track([0, 15], track="gap")
    gaps = found(_run(_track(every_fifth), rows).findings, "track_gap")
    gap = max(gaps, key=lambda row: row["risk"])
    assert gap["label_id"] == rows[1]["label_id"]
    assert '"n_missing":2' in gap["reason_args"]
    assert {row["label_id"] for row in gaps} == {row["label_id"] for row in rows}


def test_a_jump_is_measured_in_diagonals_per_frame() -> None:
    rows = _track([0, 1, 2], step=0.0)
    rows[2]["bbox"] = [0.1 + 3 * 0.1 * 2**0.5, 0.1, 0.1, 0.1]
    (jump,) = _run(rows).findings.to_pylist()
    assert (jump["issue"], jump["label_id"]) == ("track_jump", rows[2]["label_id"])
    assert '"diagonals":3.0' in jump["reason_args"]
    assert jump["risk"] == pytest.approx(3 / (3 + 1))  # few links: the cut is one diagonal
    assert jump["flagged"]


def test_labels_without_a_track_are_no_track() -> None:
    result = run_check(CHECK, labels_view([label(0, sample(0))]))
    assert statistic(result.statistics, "share_with_finding")["outcome"] == "insufficient data"
