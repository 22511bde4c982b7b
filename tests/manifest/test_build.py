from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from curate import schema
from curate.check import STATISTICIANS, build_statistics
from curate.errors import InputError
from curate.manifest import publish, rows, verify
from curate.manifest.build import Release, build_release
from curate.manifest.inputs import digest_predictions
from curate.manifest.tables import DATA, EXCLUDED
from curate.policy import Gate, Policy, Rule

Worlds = Callable[..., Any]


def row_of(table: pa.Table, uri_part: str) -> dict[str, Any]:
    rows = [row for row in table.to_pylist() if row["uri"] and uri_part in row["uri"]]
    assert len(rows) == 1
    found: dict[str, Any] = rows[0]
    return found


def test_data_holds_released_rows_only_and_excluded_the_rest_with_reasons(world: Worlds) -> None:
    release = world().release()
    assert release.data.schema.equals(DATA)
    assert release.excluded.schema.equals(EXCLUDED)
    assert set(release.data["action"].to_pylist()) == {"keep", "relabel"}
    assert release.head["counts"]["n_in"] == 14
    assert release.data.num_rows + release.excluded.num_rows == 14
    waiting, broken = row_of(release.excluded, "é 4.PNG"), row_of(release.excluded, "é 11.PNG")
    assert (waiting["action"], waiting["reason_codes"], waiting["weight"]) == ("review", ["teachers_disagree"], 0.0)
    assert (broken["action"], broken["error_code"], broken["reason_codes"]) == ("drop", "truncated", ["truncated"])
    lost = release.excluded.filter(pc.equal(release.excluded["stage"], "ingest")).to_pylist()
    assert [(row["row"], row["reason_codes"], row["sample_id"]) for row in lost] == [
        ("zoo.csv row 99", ["missing_file"], None)
    ]


def test_blocks_of_rows_leave_no_trace(world: Worlds, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = world().release()
    monkeypatch.setattr(rows, "BLOCK_ROWS", 2)
    monkeypatch.setattr(rows, "_N_NULLS", 3)
    rows._block_of_nulls.cache_clear()
    parts = world().release()
    rows._block_of_nulls.cache_clear()
    assert parts.data.column(0).num_chunks > 3
    assert all(one.equals(other) for one, other in zip(tables(whole), tables(parts), strict=True))


def tables(release: Release) -> tuple[pa.Table, ...]:
    return release.data, release.soft, release.excluded, release.findings, release.decisions


def test_a_row_says_given_and_released_label_and_where_it_is_from(world: Worlds) -> None:
    row = row_of(world().release().data, "é 3.PNG")
    assert (row["given_label"], row["released_label"], row["action"]) == ("cat", "dog", "relabel")
    assert (row["source"], row["license"], row["split"]) == ("zoo", "CC0-1.0", "test")
    assert (row["width_px"], row["height_px"], row["content_sha256"]) == (32, 24, f"{3:064x}")


def test_unlabeled_samples_are_rows_without_a_label(world: Worlds) -> None:
    row = row_of(world().release().data, "é 0.PNG")
    assert (row["label_id"], row["given_label"], row["released_label"]) == (None, None, None)
    assert (row["label_state"], row["action"], row["weight"]) == ("unlabeled", "keep", 1.0)


def test_only_released_attributes_and_groups_leave_and_no_subject(world: Worlds) -> None:
    data = world().release().data
    assert row_of(data, "é 3.PNG")["attributes"] == [("light", "lux-1")]
    assert row_of(data, "é 5.PNG")["attributes"] == [("light", None)]
    assert row_of(data, "é 3.PNG")["groups"] == []
    everything = world(policy=Policy(attributes_released=("*",))).release()
    assert row_of(everything.data, "é 3.PNG")["attributes"] == [("age", "age-3"), ("light", "lux-1")]
    assert row_of(everything.data, "é 3.PNG")["groups"] == [("video", "video-0")]
    text = str([everything.data.to_pylist(), everything.excluded.to_pylist(), everything.evidence])
    assert "person-" not in text
    assert everything.data["subject_key"].null_count == everything.data.num_rows


def test_a_salt_gives_subjects_a_key_that_depends_on_it(world: Worlds) -> None:
    keys = [
        {row["uri"]: row["subject_key"] for row in world(salt=salt).release().data.to_pylist()}
        for salt in (b"one", b"two")
    ]
    assert keys[0]["pictures/é 1.PNG"] == keys[0]["pictures/é 5.PNG"] != keys[0]["pictures/é 2.PNG"]
    assert keys[0]["pictures/é 1.PNG"] != keys[1]["pictures/é 1.PNG"]


def test_soft_labels_lie_beside_the_rows_and_are_never_made_up(world: Worlds) -> None:
    release = world().release()
    assert release.soft is not None
    for name in ("sample_id", "label_id"):
        assert release.soft[name].equals(release.data[name])
    answered = {row["label_id"]: row["probs"] for row in release.soft.to_pylist()}
    made = world()
    assert answered[made.label_id(6)] is None
    assert answered[None] is None
    assert sum(answered[made.label_id(5)]) == pytest.approx(1.0, abs=2e-3)
    assert release.head["soft"]["temperature"] == "1.0"
    assert world(policy=Policy(soft_labels=False)).release().soft is None


def test_rows_waiting_for_review_are_released_where_the_policy_says_so(world: Worlds) -> None:
    row = row_of(world(policy=Policy(release_review=True)).release().data, "é 4.PNG")
    assert (row["action"], row["released_label"], row["given_label"]) == ("review", "dog", "dog")


def test_a_label_that_only_teachers_doubt_leaves_without_it_and_with_its_soft_label(world: Worlds) -> None:
    made = world(policy=Policy())
    release = made.release()
    row = row_of(release.data, "é 4.PNG")
    assert (row["action"], row["released_label"], row["given_label"], row["weight"]) == ("review", None, "dog", 1.0)
    assert release.soft is not None
    soft = {one["label_id"]: one["probs"] for one in release.soft.to_pylist()}
    assert sum(soft[made.label_id(4)]) == pytest.approx(1.0, abs=2e-3)
    waiting = [row for row in release.statistics.to_pylist() if row["name"] == "share_waiting_for_review"]
    assert [row["value"] for row in waiting] == [1 / 14]


def test_a_sample_that_was_not_scanned_is_not_released(world: Worlds) -> None:
    made = world()
    scan = made.scan()
    release = made_release(made, scan=scan.filter(pc.not_equal(scan["sample_id"], made.sample_id(5))))
    assert row_of(release.excluded, "é 5.PNG")["error_code"] == "not_scanned"


def made_release(made: Any, **other: Any) -> Any:  # noqa: ANN401 - tables by name
    given: dict[str, Any] = {
        "samples": made.samples(),
        "labels": made.labels(),
        "scan": made.scan(),
        "verdicts": made.verdicts(),
        "findings": made.findings(),
        "outcomes": made.outcomes(),
        "policy": made.policy,
        "classes": ("cat", "dog", "fox"),
    }
    return build_release(**{**given, **other})


def test_a_row_without_a_verdict_is_an_error_that_counts_them(world: Worlds) -> None:
    made = world()
    with pytest.raises(InputError, match="there are 12 verdicts and 1 rows without one"):
        made_release(made, verdicts=made.verdicts().slice(1))


def test_verdicts_cannot_release_what_could_not_be_read(world: Worlds) -> None:
    made = world()
    release = made_release(made, verdicts=made.verdicts())
    kept = pa.array(["keep"] * made.verdicts().num_rows)
    forged = made.verdicts().set_column(2, schema.VERDICTS.field("action"), kept)
    again = made_release(made, verdicts=forged)
    assert row_of(again.excluded, "é 11.PNG")["action"] == "drop"
    assert again.data.num_rows == release.data.num_rows + 1  # only the row that waited for review


def test_own_statistics_and_gates_stand_in_the_evidence(world: Worlds) -> None:
    release = world().release()
    values = {f"{row['check']}.{row['name']}": row["value"] for row in release.statistics.to_pylist()}
    assert values["release.share_excluded"] == pytest.approx(3 / 14)
    assert values["ingest.share_out"] == pytest.approx(1 / 13)
    assert values["release.share_relabeled"] == pytest.approx(1 / 11)
    own = {name.removeprefix("release.") for name in values if name.startswith("release.")}
    assert own == set(STATISTICIANS["release"])  # what gates may name
    assert release.gates.outcome == release.head["gates"] == release.evidence["gates"]["outcome"] == "failed"
    lenient = Policy(gates=(Gate(statistic="release.share_excluded", max=0.5),), use_default_gates=False)
    assert world(policy=lenient).release().gates.outcome == "passed"


def test_what_validate_finds_in_the_data_is_judged_and_stored(world: Worlds) -> None:
    made = world(policy=Policy(gates=(Gate(statistic="expectations.manifest", min=1.0),), use_default_gates=False))
    seen: list[int] = []

    def validate(data: pa.Table) -> tuple[pa.Table, dict[str, Any]]:
        seen.append(data.num_rows)
        return build_statistics("expectations", [{"name": "manifest", "value": 0.5}]), {
            "gx_manifest": {"ok": False}
        }

    release = made_release(made, validate=validate)
    assert seen == [release.data.num_rows]
    assert release.gates.outcome == "failed"
    assert release.evidence["gx_manifest"] == {"ok": False}


def test_predictions_are_digested_by_value(world: Worlds) -> None:
    plain, mixed, other = world().predictions(), world(shuffle=1).predictions(), world(seed=1).predictions()
    assert digest_predictions(plain) == digest_predictions(mixed) != digest_predictions(other)


def test_boxes_polygons_and_all_annotations_travel(world: Worlds) -> None:
    data = world(boxes={5: [0.1, 0.2, 0.3, 0.4]}).release().data
    assert row_of(data, "é 5.PNG")["bbox"] == [0.1, 0.2, 0.3, 0.4]
    assert row_of(data, "é 7.PNG")["polygons"] == [[0.1, 0.1, 0.2, 0.1, 0.2, 0.2]]
    assert len([row for row in data.to_pylist() if "é 2.PNG" in row["uri"]]) == 2


def test_a_box_that_a_person_moved_is_released_where_they_put_it(world: Worlds, tmp_path: Path) -> None:
    made = world(boxes={5: [0.1, 0.2, 0.3, 0.4], 8: [0.0, 0.0, 0.5, 0.5]})
    about = {"at": "2026-01-01T00:00:00Z", "reviewer": "r", "decision": "note"}
    notes = [
        {**about, "decision_id": f"d{n}", "sample_id": made.sample_id(at), "label_id": made.label_id(at)}
        | {"content_sha256": sha}
        for n, at, sha in ((1, 5, None), (2, 5, f"{5:064x}"), (3, 5, "other"), (4, 8, "other"))
    ]
    made.decisions = notes
    plain = made.decision_table()
    kept = [name for name in plain.column_names if name != "to_bbox"]
    boxes = pa.array([[n / 10, 0.0, 0.1, 0.1] for n in range(4)], schema.BBOX)
    ledger = plain.select(kept).append_column("to_bbox", boxes)
    made.decision_table = lambda: ledger
    release = made.release()
    moved, stale = row_of(release.data, "é 5.PNG"), row_of(release.data, "é 8.PNG")
    assert (moved["bbox"], moved["given_bbox"]) == ([0.1, 0.0, 0.1, 0.1], [0.1, 0.2, 0.3, 0.4])
    assert moved["reason_codes"] == ["decision_box_moved", "decision_box_moved", "decision_stale"]
    assert (stale["bbox"], stale["given_bbox"]) == ([0.0, 0.0, 0.5, 0.5], None)
    published = publish(release, tmp_path, "zoo")
    assert [promise for promise in verify(published.path) if promise.ok is False] == []


def test_everything_dropped_is_still_a_release(world: Worlds) -> None:
    made = world(
        policy=Policy(rules=(Rule(issue="mislabel", action="drop"),)), flagged=dict.fromkeys(range(1, 12), "x")
    )
    release = made.release()
    assert set(release.excluded["action"].to_pylist()) == {"drop"}
    assert release.data.num_rows == 2  # the unlabeled one, and the second label of image 2
