# ruff: noqa: ANN401 - FiftyOne and the fixtures have no types
from __future__ import annotations

import os
import re
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from curate import schema
from curate.adapters.mongod import ensure_database
from curate.errors import ConfigError
from curate.review import baseline, dataset, views
from curate.review.load import load_dataset
from curate.review.pull import pull
from curate.review.write import Writer

pytestmark = pytest.mark.mongo


def raw(name: str) -> dict[str, dict[str, Any]]:
    """Return the documents of a dataset as MongoDB holds them, by id."""
    return {str(d["_id"]): d for d in baseline.samples_of(dataset.open_dataset(name)).find()}


def without_clocks(documents: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    volatile = {"_dataset_id", "created_at", "last_modified_at"}
    return {i: {k: v for k, v in d.items() if k not in volatile} for i, d in documents.items()}


@pytest.mark.parametrize("kind", ["pets", "street"])
def test_direct_inserts_give_the_documents_that_fiftyone_writes(
    kind: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    toy = request.getfixturevalue(kind)
    name = f"direct-{kind}"
    assert load_dataset(name, **toy.arguments).direct
    direct = without_clocks(raw(name))
    monkeypatch.setattr(dataset, "is_tested_version", lambda: False)
    assert not load_dataset(f"{name}-slow", **toy.arguments).direct
    slow = without_clocks(raw(f"{name}-slow"))
    assert len(direct) == toy.arguments["samples"].num_rows
    assert direct == slow
    schemas = [
        {path: str(f) for path, f in dataset.open_dataset(n).get_field_schema(flat=True).items()}
        for n in (name, f"{name}-slow")
    ]
    assert schemas[0] == schemas[1]
    assert all(
        type(direct[i][key]) is type(slow[i][key]) for i in direct for key in direct[i]
    )  # 1 == 1.0 == True, but not in MongoDB


@pytest.mark.parametrize("kind", ["pets", "street"])
def test_direct_inserts_equal_add_samples_of_the_same_content(kind: str, request: pytest.FixtureRequest) -> None:
    """`add_samples` on samples that are built by FiftyOne's own classes, not from our documents."""
    import fiftyone as fo  # noqa: PLC0415

    toy = request.getfixturevalue(kind)
    name = f"public-{kind}"
    load_dataset(name, **toy.arguments)
    ours = dataset.open_dataset(name)
    copy = fo.Dataset(f"by-hand-{kind}")
    copy.media_type = "image"
    made = []
    for sample in ours.iter_samples():
        fields = {
            f: sample[f]
            for f in ours.get_field_schema()
            if f not in {"id", "created_at", "last_modified_at"} and sample[f] is not None
        }
        made.append(fo.Sample(**fields))
    copy.add_samples(made, dynamic=True)
    theirs = {d["filepath"]: d for d in baseline.samples_of(copy).find()}
    for document in raw(name).values():
        other = theirs[document["filepath"]]
        ignored = {"_id", "_rand", "_dataset_id", "created_at", "last_modified_at"}
        assert {k: v for k, v in document.items() if k not in ignored} == {
            k: v for k, v in other.items() if k not in ignored and v != []
        } | ({"tags": []} if not document["tags"] else {})
        assert document.keys() == other.keys() - {k for k in other.keys() - document.keys() if other[k] == []}
    fo.delete_dataset(copy.name)


def test_what_a_reviewer_sees(pets: Any) -> None:
    report = load_dataset("seen", **pets.arguments)
    assert (report.n_samples, report.n_added) == (12, 12)
    shown = dataset.open_dataset("seen")
    first = shown[pets.sample_ids[0]]
    assert first.ground_truth.label == "cat"
    assert str(first.ground_truth.id) == pets.label_ids[0]
    assert (first.risk, first.action, first.suggested_label, first.suggested_prob) == (0.9, "review", "dog", 0.75)
    assert first.reasons == ["teachers disagree (n_against 4, n_teachers 5)"]
    assert (first.attr_age, first.group_camera, first.split) == ("20-29", "a", "train")
    assert (first.metadata.width, first.metadata.height) == (64, 48)
    assert (first.teacher_knn.label, first.teacher_knn.confidence) == ("dog", 0.75)
    assert first.filepath == os.fspath(pets.arguments["media_paths"][0])
    unreadable = shown[pets.sample_ids[11]]
    assert (unreadable.ground_truth, unreadable.tags) == (None, ["unreadable"])
    assert unreadable.read_error == "truncated (n_bytes 7)"


def test_the_known_truth_and_the_subject_are_never_shown(pets: Any) -> None:
    load_dataset("blind", **pets.arguments)
    text = str(raw("blind")) + str(list(baseline.collection_of(dataset.open_dataset("blind")).find()))
    assert "SECRET" not in text
    assert "somebody" not in text


def test_views_hold_what_their_names_say(pets: Any) -> None:
    report = load_dataset("views", **pets.arguments)
    shown = dataset.open_dataset("views")
    ids = {name: [str(i) for i in shown.load_saved_view(name).values("id")] for name in report.views}
    s = pets.sample_ids
    assert ids[views.SUSPECTS] == [s[0], s[2], s[4]]  # worst first
    assert ids[views.WAITING] == [s[0], s[2]]
    assert sorted(ids[views.CROSS_SPLIT]) == sorted([s[8], s[9]])
    assert ids[views.UNREADABLE] == [s[11]]
    assert ids[views.QUALITY] == [s[6]]
    assert ids[views.EXACT] == ids[views.NEAR] == []
    missing = {"finding_id": "f" * 24, "check": "box_noise", "issue": "missing", "sample_id": s[7], "risk": 0.95}
    missing |= {"flagged": True, "reason_code": "box_missing", "reason_args": "{}"}
    more = pa.concat_tables([pets.arguments["findings"], schema.table_from_rows([missing], schema.FINDINGS)])
    load_dataset("lacking", **{**pets.arguments, "findings": more})
    waiting = dataset.open_dataset("lacking").load_saved_view(views.WAITING)
    assert [str(i) for i in waiting.values("id")] == [s[7], s[0], s[2]], "it is released, and its place waits"
    assert sorted(ids["class dog"]) == sorted(s[i] for i in (1, 3, 5, 7, 9))


def test_every_view_opens_on_tables_with_nothing_in_them(pets: Any) -> None:
    bare = {k: pets.arguments[k] for k in ("workspace", "samples", "labels", "media_paths", "classes")}
    report = load_dataset("bare", **bare)
    shown = dataset.open_dataset("bare")
    assert views.SUSPECTS in report.views
    for name in report.views:
        assert len(shown.load_saved_view(name)) == (
            0 if not name.startswith("class") else 6 - (name == "class dog")
        )


def test_classes_with_awkward_names_do_not_stop_the_views(pets: Any) -> None:
    awkward = ("a b", "a-b", "日本", "<b>", "cat")
    report = load_dataset("awkward", **pets.having(classes=awkward).arguments)
    assert "class cat" in report.views
    assert "class a b" in report.views
    assert "class a-b" not in report.views  # the same address as "a b"; the sidebar still filters it


def test_boxes_tracks_and_masks(street: Any) -> None:
    load_dataset("boxes", **street.arguments)
    first = dataset.open_dataset("boxes")[street.sample_ids[0]]
    by_label = {d.label: d for d in first.ground_truth.detections}
    assert by_label["car"].bounding_box == [0.1, 0.2, 0.3, 0.4]
    assert by_label["car"].index == 0
    assert (by_label["car"].track_id, by_label["car"].risk) == ("t1", 0.7)
    assert by_label["car"].suggested_label == "truck"
    person = by_label["person"]
    assert person.bounding_box == pytest.approx([20 / 64, 10 / 48, 20 / 64, 20 / 48])
    assert person.mask.shape == (20, 20)
    assert person.mask.all()
    sign = by_label["sign"].mask
    assert 0.4 < np.mean(sign) < 0.6  # a triangle fills half of its box
    assert first.suggested_label is None  # it is a box's, not the image's


def test_the_suspects_of_a_picture_with_many_boxes_stand_alone(street: Any) -> None:
    load_dataset("alone", **street.arguments)
    view = dataset.open_dataset("alone").load_saved_view(views.SUSPECTS)
    assert [[d.label for d in sample.ground_truth.detections] for sample in view] == [["car"]]
    sample = view.first()
    sample.ground_truth.detections[0].tags.append("curate:keep")
    sample.save()  # what the view does not show is still there
    assert len(dataset.open_dataset("alone")[sample.id].ground_truth.detections) == 3


def test_a_second_load_touches_nothing(pets: Any) -> None:
    load_dataset("again", **pets.arguments)
    before = raw("again")
    shuffled = pc.take(pets.arguments["labels"], pa.array(range(10, -1, -1)))
    report = load_dataset("again", **pets.having(labels=shuffled).arguments)
    assert (report.n_added, report.n_updated, report.n_unchanged) == (0, 0, 12)
    assert raw("again") == before


def test_only_what_changed_is_rewritten_and_the_users_own_is_kept(pets: Any) -> None:
    import fiftyone as fo  # noqa: PLC0415

    load_dataset("kept", **pets.arguments)
    shown = dataset.open_dataset("kept")
    shown.add_sample_field("mine", fo.StringField)
    sample = shown[pets.sample_ids[0]]
    sample["mine"] = "a note"
    sample.tags.append("look")
    sample.ground_truth.tags.append("label tag")
    sample.save()
    shown.save_view("my view", shown.limit(1))
    before = raw("kept")
    fewer = pets.arguments["findings"].filter(
        pc.not_equal(pets.arguments["findings"]["sample_id"], pets.sample_ids[0])
    )
    report = load_dataset("kept", **pets.having(findings=fewer).arguments)
    assert (report.n_updated, report.n_unchanged) == (1, 11)
    after = raw("kept")
    assert {i for i in after if after[i] != before[i]} == {pets.sample_ids[0]}
    shown.reload()
    sample = shown[pets.sample_ids[0]]
    assert (sample.mine, sample.tags, sample.ground_truth.tags) == ("a note", ["look"], ["label tag"])
    assert (sample.issues, sample.suggested_label, sample.ground_truth.label) == (None, None, "cat")
    assert "suggested_label" not in after[pets.sample_ids[0]]["ground_truth"]
    assert "my view" in shown.list_saved_views()


def test_rows_that_are_gone_from_the_tables_are_gone_from_the_dataset(pets: Any) -> None:
    load_dataset("gone", **pets.arguments)
    fewer = pets.arguments["samples"].slice(0, 5)
    report = load_dataset(
        "gone", **pets.having(samples=fewer, media_paths=pets.arguments["media_paths"][:5]).arguments
    )
    assert (report.n_removed, report.n_unchanged) == (7, 5)
    assert set(raw("gone")) == set(pets.sample_ids[:5])
    assert pull("gone", workspace=pets.arguments["workspace"]).decisions.num_rows == 0


def test_a_change_of_task_rebuilds_the_labels(street: Any) -> None:
    load_dataset("task", **street.arguments)
    one_each = [
        {
            "label_id": schema.label_id_of(s, "classification", "0"),
            "sample_id": s,
            "task": "classification",
            "label": "car",
        }
        for s in street.sample_ids
    ]
    report = load_dataset(
        "task", **street.having(labels=schema.table_from_rows(one_each, schema.LABELS), findings=None).arguments
    )
    assert report.n_updated == 3
    assert dataset.open_dataset("task").values("ground_truth.label") == ["car"] * 3
    assert pull("task", workspace=street.arguments["workspace"]).decisions.num_rows == 0


def test_several_labels_an_image_are_all_kept(pets: Any) -> None:
    labels = pets.arguments["labels"]
    second = schema.table_from_rows(
        [
            {
                "label_id": "f" * 24,
                "sample_id": pets.sample_ids[0],
                "task": "classification",
                "label": "dog",
                "annotator": "B",
            }
        ],
        schema.LABELS,
    )
    load_dataset("several", **pets.having(labels=pa.concat_tables([labels, second])).arguments)
    shown = raw("several")[pets.sample_ids[0]]["ground_truth"]["classifications"]
    assert sorted((c["label"], c.get("annotator")) for c in shown) == [("cat", None), ("dog", "B")]


def test_a_dataset_of_somebody_else_is_refused_and_left_alone(pets: Any) -> None:
    import fiftyone as fo  # noqa: PLC0415

    ensure_database(pets.arguments["workspace"])
    foreign = fo.Dataset("curate-theirs", persistent=True)
    foreign.add_sample(fo.Sample(filepath="/somewhere/a.png"))
    with pytest.raises(ConfigError, match=re.escape("was not made by curate and is left as it is")):
        load_dataset("theirs", **pets.arguments)
    foreign.reload()
    assert len(foreign) == 1
    assert foreign.list_saved_views() == []


def test_an_edit_during_the_rewriting_is_not_lost(pets: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from bson import ObjectId  # noqa: PLC0415

    load_dataset("race", **pets.arguments)
    target = ObjectId(pets.sample_ids[0])
    shown = Writer._shown
    raced = []

    def edited_meanwhile(self: Any, prepared: Any, current: Any, before: Any) -> Any:
        document = shown(self, prepared, current, before)
        if document["_id"] == target and not raced:
            raced.append(target)
            change = {"$set": {"ground_truth.label": "dog"}, "$currentDate": {"last_modified_at": True}}
            self.samples.update_one({"_id": target}, change)
        return document

    monkeypatch.setattr(Writer, "_shown", edited_meanwhile)
    report = load_dataset("race", **pets.having(findings=None).arguments)
    assert raced
    assert report.n_updated > 0
    assert dataset.open_dataset("race")[pets.sample_ids[0]].ground_truth.label == "dog"
    rows = pull("race", workspace=pets.arguments["workspace"]).decisions.to_pylist()
    assert [(r["decision"], r["from_label"], r["to_label"]) for r in rows] == [("relabel", "cat", "dog")]


def test_a_crash_between_the_two_writes_is_no_decision(pets: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    load_dataset("crash", **pets.arguments)
    labels = pets.arguments["labels"]
    relabeled = labels.set_column(
        labels.schema.get_field_index("label"), "label", pa.array(["dog"] * labels.num_rows)
    ).cast(schema.LABELS)

    def crash(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Writer, "_remember", crash)
        with pytest.raises(KeyboardInterrupt):
            load_dataset("crash", **pets.having(labels=relabeled).arguments)
    assert pull("crash", workspace=pets.arguments["workspace"]).decisions.num_rows == 0
    report = load_dataset("crash", **pets.having(labels=relabeled).arguments)
    assert report.n_updated == 6 + 5 - 5  # the cats; a dog that was a dog is not touched
    assert set(dataset.open_dataset("crash").values("ground_truth.label")) == {"dog", None}
    assert pull("crash", workspace=pets.arguments["workspace"]).decisions.num_rows == 0
