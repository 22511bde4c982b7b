# ruff: noqa: ANN401 - FiftyOne and the fixtures have no types
from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from curate.adapters.mongod import ensure_database
from curate.errors import ConfigError
from curate.review import dataset, ledger, stored
from curate.review.load import load_dataset
from curate.review.pull import pull

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
