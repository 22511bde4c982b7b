# ruff: noqa: ANN401 - FiftyOne and the fixtures have no types
from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from curate.adapters.mongod import ensure_database
from curate.check import build_findings
from curate.errors import ConfigError
from curate.review import dataset, ledger, stored
from curate.review.load import load_dataset
from curate.review.pull import pull
from curate.verdict_boxes import drawn_labels

pytestmark = pytest.mark.mongo


def decided(report: Any) -> list[tuple[Any, ...]]:
    return [(r["decision"], r["label_id"], r["from_label"], r["to_label"]) for r in report.decisions.to_pylist()]


def edit(name: str, sample_id: str, change: Any) -> None:
    """Change a sample as the App does, through FiftyOne."""
    sample = dataset.open_dataset(name)[sample_id]
    change(sample)
    sample.save()


def test_tags_and_edits_become_decisions_once(pets: Any, database: Path) -> None:
    load_dataset("pull", **pets.arguments)
    s, lab = pets.sample_ids, pets.label_ids
    edit("pull", s[0], lambda x: x.tags.append("curate:accept"))
    edit("pull", s[2], lambda x: x.ground_truth.tags.append("curate:reject"))
    edit("pull", s[1], lambda x: setattr(x.ground_truth, "label", "cat"))
    edit("pull", s[3], lambda x: x.tags.append("curate:relabel:cat"))
    edit("pull", s[11], lambda x: x.tags.append("curate:drop"))
    dataset.open_dataset("pull").delete_samples([s[4]])
    report = pull("pull", workspace=database, reviewer="Ann")
    assert sorted(decided(report), key=str) == sorted(
        [
            ("accept", lab[0], "cat", "dog"),
            ("reject", lab[2], "cat", "cat"),
            ("relabel", lab[1], "dog", "cat"),
            ("relabel", lab[3], "dog", "cat"),
            ("drop", None, None, None),  # an image without a label
            ("drop", lab[4], "cat", None),
        ],
        key=str,
    )
    rows = {r["label_id"]: r for r in report.decisions.to_pylist()}
    assert {r["reviewer"] for r in rows.values()} == {"Ann"}
    assert rows[lab[0]]["finding_id"] == pets.arguments["findings"]["finding_id"][0].as_py()
    assert rows[lab[0]]["content_sha256"] == pets.arguments["scan"]["content_sha256"][0].as_py()
    assert (report.n_samples, report.problems) == (12, ())
    assert decided(pull("pull", workspace=database)) == []


def test_a_changed_mind_is_recorded_and_only_the_last_word_stands(pets: Any, database: Path) -> None:
    load_dataset("mind", **pets.arguments)
    target = pets.sample_ids[0]
    folder = ledger.ledger_folder(database, "mind")
    edit("mind", target, lambda x: setattr(x.ground_truth, "label", "dog"))
    assert [d[0] for d in decided(pull("mind", workspace=database))] == ["relabel"]
    edit("mind", target, lambda x: setattr(x.ground_truth, "label", "cat"))
    assert [d[0] for d in decided(pull("mind", workspace=database))] == ["note"]
    assert ledger.standing(ledger.read(folder).decisions).num_rows == 0
    edit("mind", target, lambda x: x.tags.append("curate:keep"))
    assert [d[0] for d in decided(pull("mind", workspace=database))] == ["keep"]
    edit("mind", target, lambda x: setattr(x, "tags", ["curate:drop"]))
    assert [d[0] for d in decided(pull("mind", workspace=database))] == ["note", "drop"]
    assert ledger.standing(ledger.read(folder).decisions)["decision"].to_pylist() == ["drop"]
    assert decided(pull("mind", workspace=database)) == []


def test_what_was_decided_survives_the_loss_of_the_database(pets: Any, database: Path) -> None:
    import fiftyone as fo  # noqa: PLC0415

    load_dataset("lost", **pets.arguments)
    edit("lost", pets.sample_ids[0], lambda x: setattr(x.ground_truth, "label", "dog"))
    edit("lost", pets.sample_ids[2], lambda x: x.tags.append("curate:accept"))
    assert len(decided(pull("lost", workspace=database))) == 2
    fo.delete_dataset("curate-lost")
    report = load_dataset("lost", **pets.arguments)
    assert report.n_added == 12
    assert decided(pull("lost", workspace=database)) == []
    shown = dataset.open_dataset("lost")
    assert shown[pets.sample_ids[0]].ground_truth.tags == ["curate:relabel:dog"]
    assert shown[pets.sample_ids[2]].ground_truth.tags == ["curate:accept"]


def test_a_reload_pulls_before_it_rewrites(pets: Any) -> None:
    load_dataset("first", **pets.arguments)
    edit("first", pets.sample_ids[0], lambda x: setattr(x.ground_truth, "label", "dog"))
    report = load_dataset("first", **pets.having(findings=None, verdicts=None).arguments, reviewer="Bob")
    assert report.pulled is not None
    assert [(r["decision"], r["reviewer"]) for r in report.pulled.decisions.to_pylist()] == [("relabel", "Bob")]
    assert dataset.open_dataset("first")[pets.sample_ids[0]].ground_truth.label == "dog"


def test_a_relabeled_source_keeps_the_decision_visible(pets: Any, database: Path) -> None:
    load_dataset("source", **pets.arguments)
    edit("source", pets.sample_ids[1], lambda x: setattr(x.ground_truth, "label", "cat"))
    labels = pets.arguments["labels"]
    at = labels.schema.get_field_index("label")
    changed = labels.set_column(at, labels.schema.field(at), pa.array(["bird"] * labels.num_rows))
    load_dataset("source", **pets.having(labels=changed, classes=("bird", "cat", "dog")).arguments)
    truth = dataset.open_dataset("source")[pets.sample_ids[1]].ground_truth
    assert (truth.label, truth.tags) == ("bird", ["curate:relabel:cat"])
    assert decided(pull("source", workspace=database)) == []


def test_boxes_edited_moved_deleted_added(street: Any, database: Path) -> None:
    import fiftyone as fo  # noqa: PLC0415

    load_dataset("draw", **street.arguments)

    def change(sample: Any) -> None:
        car, person, sign = sorted(sample.ground_truth.detections, key=lambda d: d.label)
        car.label = "truck"
        person.bounding_box = [0.0, 0.0, 0.5, 0.5]
        new = fo.Detection(label="car", bounding_box=[0.6, 0.1, 0.2, 0.2])
        sample.ground_truth.detections = [car, person, new]
        assert sign is not None

    edit("draw", street.sample_ids[0], change)
    report = pull("draw", workspace=database)
    rows = {r["why"] or r["decision"]: r for r in report.decisions.to_pylist()}
    assert set(rows) == {"relabel", "drop", "box moved by hand", "box added by hand"}
    assert (rows["relabel"]["label_id"], rows["relabel"]["to_label"]) == (street.label_ids[0], "truck")
    assert rows["box moved by hand"]["to_bbox"] == [0.0, 0.0, 0.5, 0.5]
    assert (rows["box added by hand"]["to_label"], rows["box added by hand"]["to_bbox"]) == (
        "car",
        [0.6, 0.1, 0.2, 0.2],
    )
    assert rows["drop"]["label_id"] == street.label_ids[2]
    assert decided(pull("draw", workspace=database)) == []
    before = len(dataset.open_dataset("draw")[street.sample_ids[0]].ground_truth.detections)
    load_dataset("draw", **street.having(findings=None).arguments)  # rewrites: the edits stay
    after = dataset.open_dataset("draw")[street.sample_ids[0]].ground_truth.detections
    assert len(after) == before
    assert decided(pull("draw", workspace=database)) == []
    fo.delete_dataset("curate-draw")
    load_dataset("draw", **street.arguments)  # rebuilt: a drawn box is drawn again, a deleted one is marked
    rebuilt = dataset.open_dataset("draw")[street.sample_ids[0]].ground_truth.detections
    assert sorted(t for d in rebuilt for t in d.tags) == ["curate:drop", "curate:relabel:truck"]
    assert [0.6, 0.1, 0.2, 0.2] in [d.bounding_box for d in rebuilt]
    assert decided(pull("draw", workspace=database)) == []


def test_a_label_that_is_no_class_is_a_problem_not_a_decision(pets: Any, database: Path) -> None:
    load_dataset("typo", **pets.arguments)
    edit("typo", pets.sample_ids[0], lambda x: setattr(x.ground_truth, "label", "dgo"))
    edit("typo", pets.sample_ids[1], lambda x: x.tags.append("curate:aprove"))
    report = pull("typo", workspace=database)
    assert report.decisions.num_rows == 0
    assert any("'dgo' is not a class" in p and "Did you mean 'dog'?" in p for p in report.problems)
    assert any("'curate:aprove' means nothing" in p for p in report.problems)


def test_an_emptied_dataset_or_a_lost_field_drops_nothing(pets: Any, database: Path) -> None:
    load_dataset("emptied", **pets.arguments)
    shown = dataset.open_dataset("emptied")
    shown.delete_sample_field("ground_truth")
    report = pull("emptied", workspace=database)
    assert report.decisions.num_rows == 0
    assert "ground_truth is gone" in report.problems[0]
    assert load_dataset("emptied", **pets.arguments).n_updated == 12
    assert dataset.open_dataset("emptied").values("ground_truth.label").count("cat") == 6
    assert pull("emptied", workspace=database).decisions.num_rows == 0
    dataset.open_dataset("emptied").clear()
    report = pull("emptied", workspace=database)
    assert report.decisions.num_rows == 0
    assert "was emptied" in report.problems[0]
    assert load_dataset("emptied", **pets.arguments).n_added == 12
    assert pull("emptied", workspace=database).decisions.num_rows == 0


def test_a_dataset_that_is_not_there_is_named(database: Path, pets: Any) -> None:
    load_dataset("digits", **pets.arguments)
    with pytest.raises(ConfigError, match="Did you mean 'digits'"):
        pull("digitz", workspace=database)


@pytest.mark.parametrize("kind", ["pets", "street"])
def test_what_is_stored_is_what_fiftyone_opens(kind: str, database: Path, request: pytest.FixtureRequest) -> None:
    load_dataset(f"stored-{kind}", **request.getfixturevalue(kind).arguments)
    opened = stored.of_dataset(dataset.open_dataset(f"stored-{kind}"))
    with stored.open_stored(ensure_database(database).uri, f"stored-{kind}") as found:
        assert found is not None
        assert (found.name, found.classes, found.kind) == (opened.name, opened.classes, opened.kind)
        assert found.samples.full_name == opened.samples.full_name
        assert found.baselines.full_name == opened.baselines.full_name
        assert found.baselines.count_documents({}) == found.samples.count_documents({}) > 0


def test_a_dataset_in_a_database_of_another_name_is_left_to_fiftyone(
    pets: Any, database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load_dataset("elsewhere", **pets.arguments)
    edit("elsewhere", pets.sample_ids[1], lambda x: setattr(x.ground_truth, "label", "cat"))
    monkeypatch.setenv("FIFTYONE_DATABASE_NAME", "another")
    with stored.open_stored(ensure_database(database).uri, "elsewhere") as found:
        assert found is None
    assert [kind for kind, *_ in decided(pull("elsewhere", workspace=database))] == ["relabel"]


def with_suggestions(street: Any) -> tuple[Any, dict[str, dict[str, Any]]]:
    """A street where detectors see a car that nobody drew, would move one, and call one a sign."""
    sample, labels = street.sample_ids[0], street.arguments["labels"].to_pylist()
    boxed = [row["label_id"] for row in labels if row["sample_id"] == sample and row["bbox"] is not None]
    common = {"sample_id": sample, "flagged": True, "reason_code": "seen", "reason_args": {}}
    found = {
        "missing": {"suggested_label": "car", "suggested_bbox": [0.5, 0.5, 0.2, 0.2], "risk": 0.9},
        "location": {"label_id": boxed[0], "suggested_bbox": [0.12, 0.2, 0.3, 0.4], "risk": 0.8},
        "swap": {"label_id": boxed[0], "suggested_label": "sign", "risk": 0.7},
    }
    rows = {issue: {**common, "issue": issue, **one} for issue, one in found.items()}
    return street.having(findings=build_findings("box_noise", list(rows.values()))), rows


def suggested_of(name: str, sample_id: str) -> dict[str, Any]:
    return {one.issue: one for one in dataset.open_dataset(name)[sample_id].suggested.detections}


def tag(name: str, sample_id: str, issue: str, *tags: str, **changes: Any) -> None:
    def change(sample: Any) -> None:
        one = next(one for one in sample.suggested.detections if one.issue == issue)
        one.tags = list(tags)
        for key, value in changes.items():
            setattr(one, key, value)

    edit(name, sample_id, change)


def test_suggested_boxes_are_drawn_and_accepted_as_they_are_drawn(street: Any, database: Path) -> None:
    toy, rows = with_suggestions(street)
    sample = toy.sample_ids[0]
    report = load_dataset("suggest", **toy.arguments)
    assert {"missing boxes", "misplaced boxes", "boxes of another class"} <= set(report.views)
    drawn = suggested_of("suggest", sample)
    assert (drawn["missing"].label, drawn["missing"].bounding_box) == ("car", [0.5, 0.5, 0.2, 0.2])
    assert drawn["location"].for_label == rows["location"]["label_id"]
    view = dataset.open_dataset("suggest").load_saved_view("missing boxes")
    assert [one.issue for one in view.first().suggested.detections] == ["missing"]
    assert len(view) == 1
    tag("suggest", sample, "missing", "curate:accept", bounding_box=[0.5, 0.5, 0.25, 0.2])
    tag("suggest", sample, "location", "curate:accept")
    tag("suggest", sample, "swap", "curate:reject")
    made = pulled("suggest", database)
    assert sorted(row["decision"] for row in made) == ["accept", "accept", "reject"]
    accepted = {row["label_id"]: row for row in made if row["decision"] == "accept"}
    label = rows["location"]["label_id"]
    assert accepted[label]["to_bbox"] == [0.12, 0.2, 0.3, 0.4]
    (missing,) = [row for one, row in accepted.items() if one != label]
    assert (missing["to_label"], missing["to_bbox"]) == ("car", [0.5, 0.5, 0.25, 0.2])
    assert missing["finding_id"] in toy.arguments["findings"]["finding_id"].to_pylist()
    (refused,) = [row for row in made if row["decision"] == "reject"]
    assert (refused["label_id"], refused["to_bbox"]) == (label, None)
    assert pulled("suggest", database) == []


def pulled(name: str, database: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = pull(name, workspace=database).decisions.to_pylist()
    return rows


def test_an_answer_about_a_suggestion_is_shown_again_and_can_be_taken_back(street: Any, database: Path) -> None:
    import fiftyone as fo  # noqa: PLC0415

    toy, _ = with_suggestions(street)
    sample = toy.sample_ids[0]
    load_dataset("again", **toy.arguments)
    tag("again", sample, "missing", "curate:reject")
    assert [row["decision"] for row in pulled("again", database)] == ["reject"]
    fo.delete_dataset(dataset.dataset_name("again"))
    load_dataset("again", **toy.arguments)
    assert suggested_of("again", sample)["missing"].tags == ["curate:reject"]
    assert pulled("again", database) == []
    load_dataset("again", **toy.having(classes=("car", "person", "sign")).arguments)
    assert suggested_of("again", sample)["missing"].tags == ["curate:reject"]
    tag("again", sample, "missing")
    assert [row["decision"] for row in pulled("again", database)] == ["note"]
    assert ledger.standing(ledger.read(ledger.ledger_folder(database, "again")).decisions).num_rows == 0


def test_an_accepted_box_is_a_label_afterwards_and_no_pull_takes_it_back(street: Any, database: Path) -> None:
    toy, _ = with_suggestions(street)
    sample = toy.sample_ids[0]
    load_dataset("become", **toy.arguments)
    tag("become", sample, "missing", "curate:accept")
    (row,) = pulled("become", database)
    labels = drawn_labels(
        ledger.read(ledger.ledger_folder(database, "become")).decisions,
        toy.arguments["labels"],
        toy.arguments["samples"],
    )
    assert labels.num_rows == toy.arguments["labels"].num_rows + 1
    without = toy.arguments["findings"].slice(0, 0)
    load_dataset("become", **toy.having(labels=labels, findings=without).arguments)
    shown = dataset.open_dataset("become")[sample]
    assert row["label_id"] in {one.id for one in shown.ground_truth.detections}
    assert not (shown.suggested and shown.suggested.detections)
    assert pulled("become", database) == []
    edit("become", sample, lambda x: x.ground_truth.detections.remove(
        next(one for one in x.ground_truth.detections if one.id == row["label_id"])
    ))  # fmt: skip
    assert [(one["decision"], one["label_id"]) for one in pulled("become", database)] == [("drop", row["label_id"])]


def test_a_mark_that_a_suggestion_cannot_have_is_said(street: Any, database: Path) -> None:
    toy, _ = with_suggestions(street)
    sample = toy.sample_ids[0]
    load_dataset("odd", **toy.having(classes=("car", "person", "sign")).arguments)
    tag("odd", sample, "missing", "curate:accept", label="lorry")
    tag("odd", sample, "location", "curate:drop")
    report = pull("odd", workspace=database)
    assert decided(report) == []
    assert any("'lorry' is not a class" in one for one in report.problems)
    assert any("curate:drop" in one for one in report.problems)


def test_tags_that_contradict_each_other_are_said_and_what_was_decided_stays(street: Any, database: Path) -> None:
    toy, _ = with_suggestions(street)
    sample = toy.sample_ids[0]
    load_dataset("both", **toy.arguments)
    tag("both", sample, "missing", "curate:accept", "curate:reject")
    report = pull("both", workspace=database)
    assert decided(report) == []
    (said,) = report.problems
    assert sample in said
    assert "curate:accept and curate:reject, which contradict" in said
    tag("both", sample, "missing", "curate:reject")
    assert [row["decision"] for row in pulled("both", database)] == ["reject"]
    tag("both", sample, "missing", "curate:accept", "curate:reject")
    report = pull("both", workspace=database)
    assert (decided(report), len(report.problems)) == ([], 1)
    (stays,) = ledger.standing(ledger.read(ledger.ledger_folder(database, "both")).decisions).to_pylist()
    assert stays["decision"] == "reject"
    tag("both", sample, "missing", "curate:accept")
    assert sorted(row["decision"] for row in pulled("both", database)) == ["accept", "note"]


def test_a_given_box_is_not_accepted_where_no_class_is_suggested_for_it(street: Any, database: Path) -> None:
    load_dataset("bare", **street.arguments)
    sample = street.sample_ids[0]

    def accept(shown: Any) -> None:
        shown.ground_truth.detections[0].tags = ["curate:accept"]

    edit("bare", sample, accept)
    report = pull("bare", workspace=database)
    assert decided(report) == []
    (said,) = report.problems
    assert "no other class is suggested for it" in said
    assert "curate:keep" in said
