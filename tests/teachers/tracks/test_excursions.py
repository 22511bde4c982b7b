"""Ids that leave their course for a moment, several at once or beside a pause: jumps, and no exchange of ids."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from curate.teachers.tracks.flag_tracks import flag_tracks

N_FRAMES, N_IDS = 60, 8
Rows = np.ndarray  # frame, id, x, y, w, h, consider, class, visibility
Edit = Callable[[Rows], Rows]


def walk(seed: int = 0, shake_px: float = 0.5) -> Rows:
    """Return ids that walk side by side, 60 pixels apart, all about as fast; drawn with a shaking hand."""
    random = np.random.default_rng(seed)
    rows = []
    for one in range(1, N_IDS + 1):
        speed = 2 + random.uniform(-0.3, 0.3)
        for frame in range(1, N_FRAMES + 1):
            place = np.array([60 * one + speed * frame, 200 + 3 * one, 45, 100]) + random.normal(size=4) * shake_px
            rows.append((frame, one, *place, 1, 1, 1))
    return np.asarray(rows)


def row_of(rows: Rows, frame: int, one: int) -> int:
    (row,) = np.flatnonzero((rows[:, 0] == frame) & (rows[:, 1] == one))
    return int(row)


def moved(rows: Rows, ids: Sequence[int], frames: Sequence[int], by: Sequence[tuple[float, float]]) -> Rows:
    """Return the rows with boxes that are off: `by` has one vector for all, one an id, or one a box."""
    rows = rows.copy()
    boxes = [row_of(rows, frame, one) for frame in frames for one in ids]
    rows[boxes, 2:4] += np.resize(np.asarray(by, dtype=float), (len(boxes), 2))
    return rows


def paused(rows: Rows, one: int, first: int, last: int) -> Rows:
    return rows[~((rows[:, 1] == one) & (rows[:, 0] >= first) & (rows[:, 0] <= last))]


def exchanged(rows: Rows, one: int, other: int, first: int, last: int) -> Rows:
    rows = rows.copy()
    inside = (rows[:, 0] >= first) & (rows[:, 0] <= last)
    mine, theirs = inside & (rows[:, 1] == one), inside & (rows[:, 1] == other)
    rows[mine, 1], rows[theirs, 1] = other, one
    return rows


def flags(folder: Path, rows: Rows, teachers: Sequence[Rows] = ()) -> list[dict[str, Any]]:
    names = {}
    for name, one in (("gt", rows), *((f"t{number}", one) for number, one in enumerate(teachers))):
        np.savetxt(folder / f"{name}.txt", one, fmt="%d,%d,%.2f,%.2f,%.2f,%.2f,%d,%d,%.2f")
        names[name] = folder / f"{name}.txt"
    flag_tracks(names.pop("gt"), names, folder / "flags.parquet")
    return pq.read_table(folder / "flags.parquet").to_pylist()


def told(rows: list[dict[str, Any]], *but: str) -> set[tuple[str, int, int]]:
    return {(r["issue"], r["frame"], r["id"]) for r in rows if r["flagged"] and r["line"] and r["issue"] not in but}


TWO, THREE = (3, 4), (3, 4, 5)
WAYS = [(80, 0), (-70, 40), (30, -90), (0, 75), (-80, -20), (60, 60), (-60, 3), (90, 9)]
TOGETHER: dict[str, tuple[Edit, set[tuple[int, int]]]] = {
    "two, alike": (lambda r: moved(r, TWO, [20], [(80, 0)]), {(20, 3), (20, 4)}),
    "two, each its own way": (lambda r: moved(r, TWO, [20], [(40, 70), (-90, 10)]), {(20, 3), (20, 4)}),
    "one stands where the other should be": (
        lambda r: moved(r, TWO, [20], [(60, 3), (50, 60)]),
        {(20, 3), (20, 4)},
    ),
    "each where the next should be, as in a picture that shook": (
        lambda r: moved(r, THREE, [20], [(60, 3)]),
        {(20, one) for one in THREE},
    ),
    "two, for three frames": (
        lambda r: moved(r, TWO, [20, 21, 22], [(70, 30)]),
        {(f, i) for f in (20, 21, 22) for i in TWO},
    ),
    "two, for four frames, each box its own way": (
        lambda r: moved(r, TWO, [20, 21, 22, 23], WAYS),
        {(f, i) for f in (20, 21, 22, 23) for i in TWO},
    ),
    "before a pause of one": (lambda r: paused(moved(r, TWO, [20], [(80, 0)]), 3, 21, 28), {(20, 3), (20, 4)}),
    "after a pause of one": (lambda r: paused(moved(r, TWO, [20], [(80, 0)]), 3, 9, 19), {(20, 3), (20, 4)}),
}  # fmt: skip


@pytest.mark.parametrize("n_teachers", [0, 2])
@pytest.mark.parametrize("kind", list(TOGETHER))
def test_ids_that_leave_their_course_together_jump_and_are_not_exchanged(
    kind: str, n_teachers: int, tmp_path: Path
) -> None:
    edit, off = TOGETHER[kind]
    found = flags(tmp_path, edit(walk()), [walk(seed=n) for n in range(n_teachers)])
    assert told(found, "gap") == {("jump", *one) for one in off}
    assert not [r for r in found if r["issue"] == "id_switch" and r["flagged"]]


@pytest.mark.parametrize("seed", range(3))
def test_teachers_that_meet_a_box_where_it_jumped_to_say_nothing_of_whose_it_is(seed: int, tmp_path: Path) -> None:
    """One of two boxes lies where trackers follow the other id; that one is off elsewhere: 82 boxes were in doubt."""
    rows = moved(walk(seed, shake_px=0.2), TWO, [20], [(60, 3), (90, -40)])
    for n_teachers in (0, 1, 2):
        found = flags(tmp_path, rows, [walk(seed=9 + n) for n in range(n_teachers)])
        assert told(found) == {("jump", 20, 3), ("jump", 20, 4)}


@pytest.mark.parametrize("n_frames", [1, 2, 4, 6])
@pytest.mark.parametrize("n_teachers", [0, 2])
def test_ids_exchanged_for_a_few_frames_are_switches_and_no_jumps(
    n_frames: int, n_teachers: int, tmp_path: Path
) -> None:
    rows = exchanged(walk(), 3, 4, 20, 19 + n_frames)
    found = flags(tmp_path, rows, [walk(seed=n) for n in range(n_teachers)])
    assert told(found) == {("id_switch", frame, one) for frame in range(20, 20 + n_frames) for one in TWO}
    assert {r["suggested_id"] for r in found if r["flagged"] and r["id"] == 3} == {4}


def test_an_id_on_the_box_of_one_that_has_none_there_has_changed_hands(tmp_path: Path) -> None:
    """The box of id 4 was given the id 3, whose own is gone: that is no jump of id 3."""
    rows = walk()
    gone = [row_of(rows, frame, 3) for frame in (20, 21)]
    rows[[row_of(rows, frame, 4) for frame in (20, 21)], 1] = 3
    found = flags(tmp_path, np.delete(rows, gone, axis=0))
    assert {one for one in told(found) if one[0] != "gap"} == {("id_switch", 20, 3), ("id_switch", 21, 3)}
    assert {r["suggested_id"] for r in found if r["flagged"] and r["issue"] == "id_switch"} == {4}


def test_one_who_leaves_and_another_who_enters_in_the_next_frame_are_two(tmp_path: Path) -> None:
    rows = walk()
    later = (rows[:, 1] == 4) & (rows[:, 0] > 30)
    rows[later, 1], rows[later, 3] = 70, rows[later, 3] + 60
    assert told(flags(tmp_path, rows)) == set()


vectors = st.tuples(st.floats(-150, 150), st.floats(-150, 150)).filter(lambda v: np.hypot(*v) > 25)


@settings(max_examples=25, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck), database=None)
@given(
    st.sets(st.integers(1, N_IDS), min_size=2, max_size=3),  # where half of all ids go one way, so may the camera
    st.integers(8, 50),
    st.lists(vectors, min_size=3, max_size=3),
)
def test_whichever_ids_leave_in_one_frame_and_wherever_they_go_no_tail_is_put_in_doubt(
    tmp_path_factory: pytest.TempPathFactory, ids: set[int], frame: int, by: list[tuple[float, float]]
) -> None:
    found = flags(tmp_path_factory.mktemp("any"), moved(walk(), sorted(ids), [frame], by))
    assert not {one for one in told(found) if one[1] != frame}
    assert {one for _, _, one in told(found)} == ids


def test_the_first_box_after_a_change_of_hands_tells_how_many_are_in_doubt_with_it(tmp_path: Path) -> None:
    found = flags(tmp_path, exchanged(walk(), 3, 4, 20, 39))
    (first,) = (r for r in found if (r["frame"], r["id"], r["issue"]) == (20, 3, "id_switch"))
    assert first["reason"].endswith("19 more box(es) of the id, up to frame 39, are in doubt with this one.")
    assert sum(r["flagged"] and r["id"] == 3 for r in found) == 20
