"""Errors on tracks: each kind is found where it is, others are not, and what does not matter leaves no trace."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from curate.errors import InputError
from curate.teachers.tracks.flag_tracks import flag_tracks

N_FRAMES, N_IDS = 60, 8
Rows = np.ndarray  # frame, id, x, y, w, h, consider, class, visibility
Edit = Callable[[Rows], Rows]


def walk(seed: int = 0, shake_px: float = 0.0) -> Rows:
    """Return ids that walk across at a speed of their own, one row each, in whole pixels."""
    random = np.random.default_rng(seed)
    off = np.round(random.normal(size=(N_FRAMES + 1, 2)) * shake_px)
    rows = []
    for one in range(1, N_IDS + 1):
        speed = random.uniform(-4, 4)
        for frame in range(1, N_FRAMES + 1):
            x = 100 * one + speed * frame + random.integers(0, 2) + off[frame, 0]
            rows.append((frame, one, x, 200 + 5 * one + off[frame, 1], 40, 100, 1, 1, 1))
    return np.round(np.asarray(rows, dtype=float))


def at(rows: Rows, frame: int, one: int) -> int:
    (row,) = np.flatnonzero((rows[:, 0] == frame) & (rows[:, 1] == one))
    return int(row)


def flags(
    tmp_path: Path, rows: Rows, teachers: Sequence[Rows] = (), order: np.ndarray | None = None
) -> list[dict[str, Any]]:
    save(tmp_path / "gt.txt", rows if order is None else rows[order])
    names = {}
    for number, one in enumerate(teachers):
        names[f"t{number}"] = tmp_path / f"t{number}.txt"
        save(names[f"t{number}"], one)
    flag_tracks(tmp_path / "gt.txt", names, tmp_path / "flags.parquet")
    return pq.read_table(tmp_path / "flags.parquet").to_pylist()


def save(path: Path, rows: Rows) -> None:
    np.savetxt(path, rows, fmt="%d,%d,%.1f,%.1f,%.1f,%.1f,%d,%d,%.2f")


def told(rows: list[dict[str, Any]]) -> set[tuple[str, int, int]]:
    """Return (issue, frame, id) of the flagged rows to look at first."""
    return {(r["issue"], r["frame"], r["id"]) for r in rows if r["flagged"] and r["risk"] >= 0.5 and r["line"]}


def swapped(rows: Rows, one: int, other: int, first: int, last: int = N_FRAMES) -> Rows:
    rows = rows.copy()
    inside = (rows[:, 0] >= first) & (rows[:, 0] <= last)
    mine, theirs = inside & (rows[:, 1] == one), inside & (rows[:, 1] == other)
    rows[mine, 1], rows[theirs, 1] = other, one
    return rows


def jumped(rows: Rows) -> Rows:
    rows = rows.copy()
    rows[[at(rows, 30, 2), at(rows, 31, 2)], 3] += 150
    return rows


def repeated(rows: Rows) -> Rows:
    rows = rows.copy()
    rows[at(rows, 25, 4), 1] = 5
    return rows


def flipped(rows: Rows) -> Rows:
    rows = rows.copy()
    rows[[at(rows, frame, 3) for frame in (10, 11, 12)], 7] = 2
    return rows


def paused(rows: Rows) -> Rows:
    return rows[~((rows[:, 1] == 6) & (rows[:, 0] > 20) & (rows[:, 0] < 25))]


KINDS: list[tuple[Edit, set[tuple[str, int, int]]]] = [
    (lambda rows: swapped(rows, 1, 2, 40), {("id_switch", 40, 1), ("id_switch", 40, 2)}),
    (lambda rows: swapped(rows, 1, 2, 20, 44), {("id_switch", 20, 1), ("id_switch", 20, 2)}),
    (jumped, {("jump", 30, 2), ("jump", 31, 2)}),
    (repeated, {("duplicate_id", 25, 5)}),
    (flipped, {("class_flip", frame, 3) for frame in (10, 11, 12)}),
    (paused, {("gap", 25, 6)}),
]


def test_clean_tracks_have_one_quiet_row_a_box(tmp_path: Path) -> None:
    rows = flags(tmp_path, walk(), [walk(), walk()])
    assert len(rows) == N_FRAMES * N_IDS
    assert {(row["issue"], row["risk"], row["flagged"]) for row in rows} == {(None, 0.0, False)}


@pytest.mark.parametrize("n_teachers", [0, 1, 2])
@pytest.mark.parametrize(("edit", "expected"), KINDS)
def test_each_kind_is_found_where_it_is_and_nothing_else(
    edit: Edit, expected: set[tuple[str, int, int]], n_teachers: int, tmp_path: Path
) -> None:
    rows = edit(walk())
    found = flags(tmp_path, rows, [walk()] * n_teachers)
    assert told(found) == expected
    assert {(r["frame"], r["id"], r["line"]) for r in found if r["line"]} == {
        (int(r[0]), int(r[1]), line) for line, r in enumerate(rows, start=1)
    }


def test_a_camera_that_shakes_is_no_jump(tmp_path: Path) -> None:
    assert told(flags(tmp_path, walk(shake_px=40.0))) == set()
    found = told(flags(tmp_path, swapped(walk(shake_px=40.0), 1, 2, 40)))
    assert found == {("id_switch", 40, 1), ("id_switch", 40, 2)}


def test_boxes_after_a_switch_are_named_with_the_id_they_should_have(tmp_path: Path) -> None:
    found = flags(tmp_path, swapped(walk(), 1, 2, 20, 44))
    wrong = {(r["frame"], r["id"]): r["suggested_id"] for r in found if r["issue"] == "id_switch" and r["flagged"]}
    assert wrong == {(f, i): 3 - i for f in range(20, 45) for i in (1, 2)}


def test_the_box_that_does_not_fit_its_id_is_the_wrong_one_and_its_owner_is_named(tmp_path: Path) -> None:
    twins = [r for r in flags(tmp_path, repeated(walk())) if r["issue"] == "duplicate_id"]
    wrong = max(twins, key=lambda r: r["risk"])
    assert (wrong["bbox"][0], wrong["suggested_id"]) == (walk()[at(walk(), 25, 4), 2], 4)
    assert sorted(r["flagged"] for r in twins) == [False, True]
    assert "4" in wrong["reason"]


def test_missing_labels_have_rows_of_their_own_where_teachers_see_them(tmp_path: Path) -> None:
    teacher = walk()
    teacher[:, 2] += 2
    missing = [r for r in flags(tmp_path, paused(walk()), [teacher]) if r["line"] is None]
    assert [(r["frame"], r["id"], r["issue"]) for r in missing] == [(f, 6, "gap") for f in range(21, 25)]
    for row in missing:
        assert row["suggested_bbox"] == teacher[at(teacher, row["frame"], 6), 2:6].tolist()
    alone = [r for r in flags(tmp_path, paused(walk())) if r["line"] is None]
    assert all(abs(r["suggested_bbox"][0] - walk()[at(walk(), r["frame"], 6), 2]) < 4 for r in alone)


def test_a_teacher_that_moves_along_speaks_for_a_jump_that_is_real(tmp_path: Path) -> None:
    moved = jumped(walk())
    alone = [r["risk"] for r in flags(tmp_path, moved) if r["issue"] == "jump"]
    with_it = [r["risk"] for r in flags(tmp_path, moved, [moved]) if r["issue"] == "jump"]
    against = [r for r in flags(tmp_path, moved, [walk()]) if r["issue"] == "jump"]
    assert max(with_it) < min(alone) < min(r["risk"] for r in against)
    assert "see it elsewhere" in against[0]["reason"]


def crossing() -> tuple[Rows, Rows]:
    """Return ids of which 1 and 2 walk as one for ten frames, and the same with their ids exchanged from there on."""
    rows = walk()
    rows = rows[~np.isin(rows[:, 1], (1, 2))]
    extra = []
    for frame in range(1, N_FRAMES + 1):
        apart = max(abs(frame - 30) - 5, 0)
        extra += [
            (frame, one, 500 + 3 * frame, 600 + sign * apart, 40, 100, 1, 1, 1) for one, sign in ((1, 1), (2, -1))
        ]
    rows = np.concatenate([np.asarray(extra, dtype=float), rows])
    return rows, swapped(rows, 1, 2, 30)


def test_ids_too_close_to_break_are_told_apart_by_two_teachers_and_not_by_one(tmp_path: Path) -> None:
    right, wrong = crossing()
    assert told(flags(tmp_path, wrong)) == set()
    one = [r for r in flags(tmp_path, wrong, [right]) if r["issue"] == "id_switch"]
    assert one
    assert not any(r["flagged"] for r in one)
    two = told(flags(tmp_path, wrong, [right, right]))
    assert {(issue, one) for issue, _, one in two} <= {("id_switch", 1), ("id_switch", 2)}
    assert two


def test_a_teacher_that_begins_new_tracks_accuses_nobody(tmp_path: Path) -> None:
    broken = walk()
    late = broken[:, 0] >= 30
    broken[late, 1] += 100
    assert told(flags(tmp_path, walk(), [broken, broken])) == set()


def test_one_thing_under_two_ids_is_named(tmp_path: Path) -> None:
    rows = walk()
    rows[(rows[:, 1] == 3) & (rows[:, 0] >= 30), 1] = 77
    found = [r for r in flags(tmp_path, rows, [walk()]) if r["risk"] >= 0.5]
    assert [(r["issue"], r["frame"], r["id"], r["suggested_id"]) for r in found] == [("id_switch", 30, 77, 3)]


@settings(max_examples=15, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck), database=None)
@given(st.integers(0, 10_000), st.sampled_from(KINDS))
def test_the_order_of_lines_and_the_numbers_of_ids_leave_no_trace(
    tmp_path_factory: pytest.TempPathFactory, seed: int, kind: tuple[Edit, set[tuple[str, int, int]]]
) -> None:
    folder = tmp_path_factory.mktemp("order")
    rows = kind[0](walk())
    random = np.random.default_rng(seed)
    order, names = random.permutation(len(rows)), random.permutation(N_IDS) + 1
    renamed = rows.copy()
    renamed[:, 1] = names[rows[:, 1].astype(int) - 1]
    plain, other = flags(folder, rows, [walk()]), flags(folder, renamed, [walk()], order)
    back = {int(new): old for old, new in enumerate(names, start=1)}
    keys = [{(r["frame"], r["id"], r["issue"], round(r["risk"], 9)) for r in plain}]
    keys.append({(r["frame"], back[r["id"]], r["issue"], round(r["risk"], 9)) for r in other})
    assert keys[0] == keys[1]


@settings(max_examples=40, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck), database=None)
@given(
    st.lists(
        st.tuples(st.integers(1, 6), st.integers(1, 3), *[st.sampled_from([-5.0, 0.0, 10.0, 1e6])] * 4),
        min_size=1,
        max_size=25,
    )
)
def test_whatever_stands_there_every_line_has_a_row_and_risks_are_risks(
    tmp_path_factory: pytest.TempPathFactory, lines: list[tuple[float, ...]]
) -> None:
    rows = np.asarray([(*line, 1, 1, 1) for line in lines], dtype=float)
    found = flags(tmp_path_factory.mktemp("any"), rows, [rows, rows[:1]])
    assert {r["line"] for r in found if r["line"]} == set(range(1, len(lines) + 1))
    assert all(0.0 <= r["risk"] <= 1.0 for r in found)
    assert all((r["issue"] is None) <= (r["risk"] == 0.0 and not r["flagged"]) for r in found)
    for row, line in ((r, lines[r["line"] - 1]) for r in found if r["line"]):
        assert (row["frame"], row["id"], row["bbox"]) == (*line[:2], list(line[2:]))


def test_sequences_are_apart_and_teachers_are_found_by_name(tmp_path: Path) -> None:
    for folder, edit in (("gt", swapped(walk(), 1, 2, 40)), ("t", walk())):
        (tmp_path / folder).mkdir()
        save(tmp_path / folder / "a.txt", edit)
        save(tmp_path / folder / "b.txt", walk(seed=1))
    summary = flag_tracks(tmp_path / "gt", {"t": tmp_path / "t"}, tmp_path / "out.parquet", classes=["walker"])
    assert (summary.n_sequences, summary.n_boxes) == (2, 2 * N_FRAMES * N_IDS)
    assert summary.n_flagged["id_switch"] == 2
    rows = pq.read_table(tmp_path / "out.parquet").to_pylist()
    assert {row["sequence"] for row in rows if row["issue"]} == {"a"}
    assert {row["label"] for row in rows} == {"walker"}
    (tmp_path / "t" / "b.txt").unlink()
    with pytest.raises(InputError, match="none for b"):
        flag_tracks(tmp_path / "gt", {"t": tmp_path / "t"}, tmp_path / "out.parquet")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "is empty"),
        ("1,2,3\n", "at least 6 values"),
        ("1,2,a,4,5,6\n", "line 1 holds 'a', which is no number"),
        ("frame,id,x,y,w,h\n1,2,3,4,5,6\n1,2,3,4,5,six\n", "line 3 holds 'six', which is no number"),
        ("1,2,3,4,5,6\n1,2,3,4,5\n", "line 2 has 5 values, the first line has 6"),
        ('[{"frame": 1, "id": 2, "bbox": [3, 4, 5, 6], "score": 1}]', "is JSON"),
        ('{\n "frame": 1}', "is JSON"),
        ("1.5,2,3,4,5,6\n", "line 1: the frame must be a whole number"),
        ("1,nan,3,4,5,6\n", "line 1: the id must be a whole number"),
        ("frame,id,x,y,w,h\n", "holds none"),
    ],
)
def test_a_file_that_is_no_mot_file_is_named(text: str, says: str, tmp_path: Path) -> None:
    (tmp_path / "gt.txt").write_text(text)
    with pytest.raises(InputError, match=says):
        flag_tracks(tmp_path / "gt.txt", {}, tmp_path / "out.parquet")
    assert not (tmp_path / "out.parquet").exists()


def test_boxes_that_are_no_boxes_are_counted_and_kept(tmp_path: Path) -> None:
    (tmp_path / "gt.txt").write_text(
        "1,7,10,20,30,40\n2,7,nan,20,30,40\n2,8,1,2,0,4\n2,9,1,2,8e-162,4\n1,9,1,2,1e300,4\n"
    )
    (tmp_path / "t.txt").write_text("1,7,10,20,30,40\n2,7,11,nan,30,40\n9,7,nan,20,30,40\n")
    summary = flag_tracks(tmp_path / "gt.txt", {"t": tmp_path / "t.txt"}, tmp_path / "out.parquet")
    assert (summary.to_json()["n_unusable"], summary.to_json()["n_unusable_of"]) == (4, {"t": 1})
    told = "\n".join(summary.lines())
    assert "4 boxes have no area or coordinates that are no numbers: kept, not judged" in told
    assert "1 boxes of t have no area or coordinates that are no numbers: left out" in told
    assert sum(row["line"] is not None for row in pq.read_table(tmp_path / "out.parquet").to_pylist()) == 5


def test_a_header_six_columns_and_decimal_ids_are_read(tmp_path: Path) -> None:
    (tmp_path / "gt.txt").write_text("frame,id,x,y,w,h\n1,7.0,10,20,30,40\n2,7.0,11,20,30,40\n")
    flag_tracks(tmp_path / "gt.txt", {}, tmp_path / "out.parquet")
    rows = pq.read_table(tmp_path / "out.parquet").to_pylist()
    assert [(r["frame"], r["id"], r["line"], r["label"]) for r in rows] == [(1, 7, 2, ""), (2, 7, 3, "")]


def test_a_teacher_of_other_frames_is_an_error(tmp_path: Path) -> None:
    late = walk()
    late[:, 0] += 1000
    with pytest.raises(InputError, match="no box in any frame of the labels"):
        flags(tmp_path, walk(), [late])


def test_a_teacher_that_counts_frames_from_0_is_an_error(tmp_path: Path) -> None:
    early = walk()
    early[:, 0] -= 1
    with pytest.raises(InputError, match="has boxes in frame 0, and the labels count from 1"):
        flags(tmp_path, walk(), [early])


def test_boxes_that_are_not_to_be_considered_are_kept_and_not_judged(tmp_path: Path) -> None:
    rows = swapped(walk(), 1, 2, 30)
    rows[rows[:, 1] == 2, 6] = 0
    rows[(rows[:, 1] == 2) & (rows[:, 0] == 20), 7] = 5  # a flip of class that nobody asked about
    found = flags(tmp_path, rows)
    assert len({r["line"] for r in found} - {None}) == len(rows)
    of_two = [r for r in found if r["id"] == 2]
    assert all(r["ignored"] and r["issue"] is None and not r["flagged"] and r["risk"] == 0 for r in of_two)
    assert all("not to consider" in r["reason"] for r in of_two)
    assert ("id_switch", 30, 1) in told(found), "an exchange with such a box shows at the other one"
    rows[:, 6] = 0
    assert not any(r["ignored"] for r in flags(tmp_path, rows)), "a column of zeros marks nothing"


def shaken(rows: Rows, share: float, seed: int) -> Rows:
    """Return boxes whose edges are off by noise of a share of the diagonal, as drawn by hand."""
    moved = rows.copy()
    noise = np.random.default_rng(seed).normal(size=(len(rows), 4)) * share
    moved[:, 2:6] += noise * np.hypot(rows[:, 4], rows[:, 5])[:, None]
    return moved


@pytest.mark.parametrize("share", [0.0, 0.01, 0.03])
def test_neighbours_that_exchange_ids_are_found_however_unsteadily_boxes_are_drawn(
    tmp_path: Path, share: float
) -> None:
    rows = [  # walking side by side, less than a third of a diagonal apart
        (frame, one + 1, 100 + 2 * frame + 32 * one, 200 + 7 * (one % 2), 45, 100, 1, 1, 1)
        for one in range(8)
        for frame in range(1, 61)
    ]
    right = np.asarray(rows, dtype=float)
    drawn = shaken(right, share, 3)
    assert not any(r["flagged"] for r in flags(tmp_path, drawn))
    there_and_back = swapped(swapped(drawn, 3, 4, 25), 3, 4, 40)
    marked = told(flags(tmp_path, there_and_back))
    assert {("id_switch", 25, 3), ("id_switch", 25, 4)} <= marked
    assert {frame for _, frame, _ in marked} <= set(range(24, 41))


def test_a_tracker_of_another_sequence_is_named_and_shares_are_of_judged_boxes(tmp_path: Path) -> None:
    rows = walk()
    rows[rows[:, 1] <= 2, 6] = 0  # not to be considered
    seen, other = walk(), walk(seed=5)
    seen = seen[(seen[:, 1] > 2) & (seen[:, 1] != 3)]
    other[:, 3] += 400
    save(tmp_path / "gt.txt", rows)
    for name, one in (("own", seen), ("other", other)):
        save(tmp_path / f"{name}.txt", one)
    teachers = {name: tmp_path / f"{name}.txt" for name in ("own", "other")}
    summary = flag_tracks(tmp_path / "gt.txt", teachers, tmp_path / "out.parquet")
    n_ids = len(np.unique(rows[:, 1])) - 2
    assert summary.matched == {"other": 0.0, "own": pytest.approx((n_ids - 1) / n_ids)}
    (warning,) = summary.to_json()["warnings"]
    assert warning["teacher"] == "other"
    assert "belongs to this sequence" in warning["message"]
    assert f"WARNING: {warning['message']}" in summary.lines()
