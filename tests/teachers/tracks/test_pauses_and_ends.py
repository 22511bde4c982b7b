"""Names given again, pauses that are meant, ids cut short, classes that trackers contradict, boxes off by little."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from curate.teachers.tracks.flag_tracks import flag_tracks

N_FRAMES, N_IDS = 60, 8
Rows = np.ndarray  # frame, id, x, y, w, h, consider, class, visibility


def walk(seed: int = 0, shake_px: float = 0.5, n_ids: int = N_IDS) -> Rows:
    """Return ids that stand in rows of their own and walk across, drawn with a shaking hand."""
    random = np.random.default_rng(seed)
    rows = []
    for one in range(1, n_ids + 1):
        speed = random.uniform(-4, 4)
        for frame in range(1, N_FRAMES + 1):
            shake = random.normal(size=4) * shake_px
            place = np.array([500 + speed * frame, 130 * one, 40, 100]) + shake
            rows.append((frame, one, *place, 1, 1 + one % 2, 1))
    return np.asarray(rows)


def flags(tmp_path: Path, rows: Rows, teachers: Sequence[Rows] = ()) -> list[dict[str, Any]]:
    names = {}
    for name, one in (("gt", rows), *((f"t{number}", one) for number, one in enumerate(teachers))):
        np.savetxt(tmp_path / f"{name}.txt", one, fmt="%d,%d,%.2f,%.2f,%.2f,%.2f,%d,%d,%.2f")
        names[name] = tmp_path / f"{name}.txt"
    flag_tracks(names.pop("gt"), names, tmp_path / "flags.parquet")
    return pq.read_table(tmp_path / "flags.parquet").to_pylist()


def picked(rows: Rows, one: int, low: int = 1, high: int = N_FRAMES) -> np.ndarray:
    return (rows[:, 1] == one) & (rows[:, 0] >= low) & (rows[:, 0] <= high)


def told(rows: list[dict[str, Any]], issue: str) -> list[tuple[int, int]]:
    return [
        (r["frame"], r["id"])
        for r in rows
        if r["issue"] == issue and r["flagged"] and r["risk"] >= 0.5 and r["line"]
    ]


def test_a_name_that_is_given_again_is_a_switch_and_no_gap(tmp_path: Path) -> None:
    rows = walk()
    rows = rows[~picked(rows, 2, 26) & ~picked(rows, 6, 1, 34)]
    rows[rows[:, 1] == 6, 1] = 2
    found = flags(tmp_path, rows)
    assert told(found, "id_switch") == [(35, 2)]
    assert told(found, "gap") == []
    after = [r for r in found if r["id"] == 2 and r["frame"] > 35]
    assert {r["issue"] for r in after} == {"id_switch"}
    assert {r["suggested_id"] for r in after} == {None}
    (first,) = (r for r in found if r["id"] == 2 and r["frame"] == 35 and r["issue"] == "id_switch")
    assert "too far" in first["reason"]


def test_the_same_thing_back_after_a_pause_is_a_gap_and_no_switch(tmp_path: Path) -> None:
    rows = walk()
    found = flags(tmp_path, rows[~picked(rows, 2, 26, 34)])
    assert told(found, "gap") == [(35, 2)]
    assert told(found, "id_switch") == []


def test_pauses_behind_something_are_usual_and_one_in_the_open_is_not(tmp_path: Path) -> None:
    rows = walk(shake_px=0.2, n_ids=16)
    rows[:, 2] = 500 + np.abs(rows[:, 2] - 500)
    wall = np.array([(frame, 99, 560, 0, 60, 2400, 1, 1, 1) for frame in range(1, N_FRAMES + 1)], dtype=float)
    hidden = (rows[:, 2] > 555) & (rows[:, 2] + 40 < 625)
    open_gap = picked(rows, 1, 8, 12)
    assert hidden.sum() > 20
    assert not (hidden & open_gap).any()
    found = flags(tmp_path, np.vstack([rows[~hidden & ~open_gap], wall]))
    gaps = sorted(
        ((r["risk"], r["frame"], r["id"]) for r in found if r["issue"] == "gap" and r["line"]), reverse=True
    )
    assert len({one for _, _, one in gaps}) > 2
    assert gaps[0][1:] == (13, 1)
    assert gaps[0][0] > 2 * max(risk for risk, _, one in gaps if one != 1)


@pytest.mark.parametrize("side", ["end", "start"])
def test_an_id_that_is_cut_short_is_seen_by_teachers_that_go_on(tmp_path: Path, side: str) -> None:
    rows = walk()
    gone = picked(rows, 5, 41) if side == "end" else picked(rows, 5, 1, 20)
    kept, last = rows[~gone], 40 if side == "end" else 21
    found = flags(tmp_path, kept, [walk(shake_px=1.5), walk(shake_px=1.0)])
    assert told(found, "cut_short") == [(last, 5)]
    missing = [r for r in found if r["issue"] == "cut_short" and r["line"] is None]
    assert {r["frame"] for r in missing} == ({*range(41, 61)} if side == "end" else {*range(1, 21)})
    truth = {int(row[0]): row[2:6] for row in rows[rows[:, 1] == 5]}
    assert all(np.abs(np.subtract(r["suggested_bbox"], truth[r["frame"]])).max() < 8 for r in missing)
    assert not [r for r in flags(tmp_path, kept) if r["issue"] == "cut_short"]
    also_short = walk(shake_px=1.0)
    also_short = also_short[~(picked(also_short, 5, 41) if side == "end" else picked(also_short, 5, 1, 20))]
    assert not [r for r in flags(tmp_path, kept, [also_short]) if r["issue"] == "cut_short"]


def test_a_class_that_is_wrong_on_all_boxes_of_an_id_is_seen_by_a_teacher_with_classes(tmp_path: Path) -> None:
    rows = walk(n_ids=14)
    labels = rows.copy()
    labels[labels[:, 1] == 4, 7] = 2
    found = [r for r in flags(tmp_path, labels, [rows]) if r["issue"] == "class_flip"]
    assert {(r["id"], r["flagged"], r["label"], r["suggested_label"]) for r in found} == {(4, True, "2", "1")}
    assert len(found) == N_FRAMES
    for other in (np.ones(len(rows)), 3 - rows[:, 7], rows[:, 7] + 40, np.full(len(rows), -1)):
        teacher = rows.copy()
        teacher[:, 7] = other  # one class only, the numbers the other way round, other numbers, none
        assert not [r for r in flags(tmp_path, labels, [teacher]) if r["issue"] == "class_flip"]


def test_a_teacher_decides_which_of_two_classes_of_an_id_is_wrong(tmp_path: Path) -> None:
    rows = walk(n_ids=14)
    labels = rows.copy()
    labels[picked(labels, 4, 1, 40), 7] = 2
    alone = {r["frame"] for r in flags(tmp_path, labels) if r["issue"] == "class_flip"}
    assert alone == {*range(41, 61)}
    seen = {r["frame"] for r in flags(tmp_path, labels, [rows]) if r["issue"] == "class_flip"}
    assert seen == {*range(1, 41)}


def test_boxes_that_are_off_together_by_less_than_a_break_stand_first_without_a_flag(tmp_path: Path) -> None:
    rows = walk(shake_px=6.0)
    off = picked(rows, 3, 30, 33)
    rows[off, 2] += 38
    jumps = [r for r in flags(tmp_path, rows) if r["issue"] == "jump"]
    best = max(r["risk"] for r in jumps)
    assert {(r["frame"], r["id"]) for r in jumps if r["risk"] == best} == {(frame, 3) for frame in range(30, 34)}
