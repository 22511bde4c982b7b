"""Ids of tracks that people gave: beside the given ones in a release, checked by verify, told by diff."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from curate import schema
from curate.manifest.build import Release, build_release
from curate.manifest.diff import diff
from curate.manifest.publish import publish
from curate.manifest.verify import verify
from curate.policy import Policy
from curate.review import ledger
from curate.verdict_boxes import answered, decided_places, drawn_labels, without_places
from curate.verdict_people import standing
from curate.verdicts import decide

BYTES = "a" * 64
POLICY = Policy(soft_labels=False)


def box(name: str, frame: int, track: str) -> dict[str, Any]:
    return {
        "label_id": name, "sample_id": f"f{frame}", "task": "tracking", "label": "person", "bbox": [0.1, 0.1, 0.2, 0.2],
        "track_id": track, "frame": frame,
    }  # fmt: skip


def decision(number: int, frame: int, label_id: str, what: str, **more: Any) -> dict[str, Any]:  # noqa: ANN401
    told = {"decision_id": f"d{number}", "at": "2026-01-01T00:00:00Z", "reviewer": "Ann", "sample_id": f"f{frame}"}
    return {**told, "label_id": label_id, "decision": what, "content_sha256": BYTES, **more}


def samples() -> pa.Table:
    rows = [{"sample_id": f"f{n}", "source": "s", "uri": f"{n}.png", "label_state": "labeled"} for n in range(1, 4)]
    table = schema.table_from_rows(rows, schema.SAMPLES)
    return table.append_column("content_sha256", pa.array([BYTES] * table.num_rows))


def release(labels: list[dict[str, Any]], decisions: list[dict[str, Any]]) -> Release:
    given = schema.table_from_rows(labels, schema.LABELS)
    said = schema.table_from_rows(decisions, schema.DECISIONS)
    scan = [{"sample_id": f"f{n}", "content_sha256": BYTES, "width_px": 10, "height_px": 10} for n in range(1, 4)]
    table, none = drawn_labels(said, given, samples()), schema.empty(schema.FINDINGS)
    return build_release(
        samples=samples().drop_columns(["content_sha256"]), labels=table, findings=none, policy=POLICY,
        scan=schema.table_from_rows(scan, schema.SCAN), verdicts=decide(samples(), table, none, POLICY, said),
        outcomes=schema.empty(schema.INGEST_OUTCOMES), classes=["person"], decisions=said,
    )  # fmt: skip


LABELS = [box("a1", 1, "7"), box("a2", 2, "7"), box("a3", 3, "8"), box("b1", 1, "9")]
TAKES = decision(1, 3, "a3", "accept", to_label="person", to_track_id="7")
ADDS = decision(
    2, 2, "new", "accept", to_label="person", to_bbox=[0.5, 0.5, 0.1, 0.1], to_track_id="9", finding_id="x"
)


def test_a_label_says_what_its_id_was_and_an_added_one_that_nobody_gave_it() -> None:
    rows = {row["label_id"]: row for row in release(LABELS, [TAKES, ADDS]).data.to_pylist()}
    assert {name: (row["track_id"], row["given_track_id"]) for name, row in rows.items()} == {
        "a1": ("7", None), "a2": ("7", None), "a3": ("7", "8"), "b1": ("9", None), "new": ("9", None),
    }  # fmt: skip
    new = rows["new"]
    assert (new["task"], new["frame"], new["annotator"]) == ("tracking", 2, "Ann")
    assert (new["reasons"], new["reason_codes"]) == (["d2"], ["decision_accept"])


def test_an_id_taken_twice_back_to_the_given_one_was_not_changed() -> None:
    back = decision(2, 3, "a3", "accept", to_label="person", to_track_id="8")
    rows = {row["label_id"]: row for row in release(LABELS, [TAKES, back]).data.to_pylist()}
    assert (rows["a3"]["track_id"], rows["a3"]["given_track_id"]) == ("8", None)


@pytest.mark.parametrize(
    ("column", "label", "value"),
    [("given_track_id", "a3", "7"), ("track_id", "a3", "8"), ("given_track_id", "a1", "8"), ("track_id", "new", "7")],
)  # fmt: skip
def test_an_id_that_no_decision_gave_breaks_the_promise(
    tmp_path: Path, column: str, label: str, value: str | None
) -> None:
    made = release(LABELS, [TAKES, ADDS])
    good = publish(made, tmp_path / "good", "walk")
    assert [one for one in verify(good.path) if one.ok is False] == []
    place = made.data.schema.get_field_index(column)
    there = pc.equal(made.data["label_id"], label)
    changed = pc.if_else(there, pa.scalar(value, pa.string()), made.data[column])
    bad = dataclasses.replace(made, data=made.data.set_column(place, made.data.schema.field(column), changed))
    (broken,) = [one for one in verify(publish(bad, tmp_path / "bad", "walk").path) if one.ok is False]
    assert broken.name == "verdicts"
    assert "given the ids that people took" in broken.detail


def test_a_diff_tells_who_changed_an_id(tmp_path: Path) -> None:
    first = publish(release(LABELS, []), tmp_path, "walk")
    by_person = publish(release(LABELS, [TAKES, ADDS]), tmp_path, "walk")
    moved = [row | {"track_id": "5"} if row["label_id"] == "a1" else row for row in LABELS]
    in_source = publish(release(moved, []), tmp_path, "walk")
    told = {row["change"]: row for row in diff(first.path, by_person.path).rows.to_pylist()}
    assert set(told) == {"added", "track changed"}
    row = told["track changed"]
    assert (row["before"], row["after"], row["causes"]) == ("8", "7", ["decision_accept"])
    (row,) = diff(first.path, in_source.path).rows.to_pylist()
    assert (row["change"], row["before"], row["after"]) == ("track changed", "7", "5")
    assert row["causes"] == ["given_track_changed"]


def place(frame: int, track: str, at: float) -> dict[str, Any]:
    return {
        "finding_id": f"{track}-{frame}", "check": "track_noise", "issue": "track_missing", "sample_id": f"f{frame}",
        "risk": 0.9, "suggested_bbox": [at, 0.1, 0.2, 0.2], "suggested_label": "person", "reason_code": "track_gap",
        "reason_args": json.dumps({"track": track}),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("frames", "erased", "settled"),
    [((1,), False, False), ((1, 2), False, True), ((1, 2), True, False)],
    ids=["one of two", "both", "both, of three before one was erased"],
)
def test_crossing_tracks_are_answered_each_for_itself_and_a_gap_with_its_last_place(
    frames: tuple[int, ...], *, erased: bool, settled: bool
) -> None:
    gap = place(3, "7", 0.1) | {"finding_id": "gap", "issue": "track_gap", "label_id": "a3", "suggested_bbox": None}
    gap |= {
        "related_ids": ["f1", "f2"],
        "reason_args": json.dumps({"track": "7", "n_places": 3 if erased else 2}),
    }
    rows = [gap, *(place(frame, track, at) for frame in (1, 2) for track, at in (("7", 0.1), ("9", 0.12)))]
    findings = schema.table_from_rows(rows, schema.FINDINGS)
    said = [
        decision(n, frame, f"new{n}", what, to_label="person", to_bbox=[0.11, 0.1, 0.2, 0.2], to_track_id="7")
        for n, (frame, what) in enumerate(zip(frames, ("reject", "accept"), strict=False))
    ]
    found = answered(findings, standing(schema.table_from_rows(said, schema.DECISIONS)), samples())
    names = {row["finding_id"] for row, yes in zip(rows, found, strict=True) if yes}
    assert names == {*(f"7-{frame}" for frame in frames), *(["gap"] if settled else [])}


@pytest.mark.parametrize("n_answered", [0, 1, 2])
@pytest.mark.parametrize("erased", [{1}, {2}, {1, 2}], ids=str)
def test_an_answer_about_a_gap_outlives_the_frames_that_it_was_given_in(n_answered: int, erased: set[int]) -> None:
    """Erasing frames neither reopens a gap of which all places were answered, nor answers one of which not all were."""
    gap = place(3, "7", 0.1) | {"finding_id": "gap", "issue": "track_gap", "label_id": "a3", "suggested_bbox": None}
    args = {"track": "7", "n_places": 2}
    said = schema.table_from_rows(
        [
            decision(n, n, f"new{n}", "accept", to_label="person", to_bbox=[0.11, 0.1, 0.2, 0.2], to_track_id="7")
            for n in range(1, n_answered + 1)
        ],
        schema.DECISIONS,
    )
    gone = {f"f{frame}" for frame in erased}
    left = said.filter(pc.invert(pc.is_in(said["sample_id"], value_set=pa.array(sorted(gone), pa.string()))))
    args = without_places(args, gone, decided_places(standing(said), samples()))
    related = [f"f{frame}" for frame in (1, 2) if frame not in erased] or None
    gap |= {"related_ids": related, "reason_args": schema.canonical_json(args)}
    (settled,) = answered(schema.table_from_rows([gap], schema.FINDINGS), standing(left), samples())
    assert settled == (n_answered == 2)


def test_a_box_drawn_by_hand_answers_whichever_track_misses_it() -> None:
    findings = schema.table_from_rows([place(1, "7", 0.1), place(1, "9", 0.12)], schema.FINDINGS)
    drawn = decision(1, 1, "new", "note", to_label="person", to_bbox=[0.11, 0.1, 0.2, 0.2])
    said = schema.table_from_rows([drawn], schema.DECISIONS)
    assert answered(findings, standing(said), samples()).all()


def test_a_ledger_that_told_the_id_in_words_still_counts(tmp_path: Path) -> None:
    row = {"sample_id": "f3", "label_id": "a3", "decision": "accept", "why": "takes the track id 7"}
    ledger.append(tmp_path, [row, row | {"why": "it looks right"}, row | {"to_track_id": "4"}], reviewer="Ann")
    assert ledger.read(tmp_path).decisions["to_track_id"].to_pylist() == ["7", None, "4"]
