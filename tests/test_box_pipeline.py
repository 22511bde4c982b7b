"""Detectors' boxes through the whole pipeline: a spec with COCO labels and two files of detections."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import sys
import tarfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

import curate
import curate.feed
from curate import schema
from curate.errors import ExitCode
from curate.export.verbs import export_lines, export_version
from curate.gates import gate_result
from curate.manifest.build import Release
from curate.manifest.publish import publish
from curate.manifest.read import load_manifest, load_release
from curate.manifest.read_ignored import load_ignored
from curate.manifest.verbs import diff_versions, verify_version
from curate.manifest.verify import verify
from curate.review import ledger
from curate.summary import summarize, summary_lines

SIDE = 96
CLASSES = ("square", "disc")


def _scene(random: np.random.Generator) -> tuple[np.ndarray[Any, Any], list[tuple[str, list[int]]]]:
    picture = random.integers(0, 60, (SIDE, SIDE, 3), dtype=np.uint8)
    things = []
    for corner in ((4, 4), (52, 4), (4, 52)):
        w, h = (int(v) for v in random.integers(20, 38, 2))
        x, y = (int(v + random.integers(0, 6)) for v in corner)
        kind = CLASSES[int(random.integers(2))]
        colour = tuple(int(v) for v in random.integers(120, 255, 3))
        if kind == "square":
            cv2.rectangle(picture, (x, y), (x + w, y + h), colour, -1)
        else:
            cv2.ellipse(picture, (x + w // 2, y + h // 2), (w // 2, h // 2), 0, 0, 360, colour, -1)
        things.append((kind, [x, y, w, h]))
    return picture, things


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Thirty pictures; in the first the label of one thing is missing, in the second one has the other class."""
    root = tmp_path_factory.mktemp("shapes")
    (root / "images").mkdir()
    random = np.random.default_rng(0)
    labels: dict[str, Any] = {"images": [], "annotations": []}
    labels["categories"] = [{"id": number + 1, "name": name} for number, name in enumerate(CLASSES)]
    found: dict[str, list[dict[str, Any]]] = {"near": [], "far": []}
    for number in range(30):
        picture, things = _scene(random)
        cv2.imwrite(str(root / "images" / f"{number:02}.png"), picture)
        labels["images"].append(
            {"id": 500 + number, "file_name": f"{number:02}.png", "width": SIDE, "height": SIDE}
        )
        for place, (kind, bbox) in enumerate(things):
            one = {"image_id": 500 + number, "category_id": CLASSES.index(kind) + 1, "bbox": bbox}
            for name, boxes in found.items():
                drawn = [round(v + random.normal(0, 1 if name == "near" else 2), 1) for v in bbox]
                boxes.append({**one, "bbox": drawn, "score": round(float(random.uniform(0.6, 0.99)), 3)})
            if (number, place) == (0, 0):
                continue
            wrong = {"category_id": 3 - one["category_id"]} if (number, place) == (1, 0) else {}
            labels["annotations"].append({"id": 10 * number + place, "iscrowd": 0, **one, **wrong})
    for boxes in found.values():
        for _ in range(40):
            x, y = (float(v) for v in random.uniform(0, 60, 2))
            stray = {"image_id": int(500 + random.integers(30)), "category_id": int(1 + random.integers(2))}
            boxes.append({**stray, "bbox": [x, y, 20.0, 20.0], "score": 0.05})
    (root / "labels.json").write_text(json.dumps(labels))
    for name, boxes in found.items():
        (root / f"{name}.json").write_text(json.dumps(boxes))
    file = root / "shapes.yaml"
    file.write_text(
        "name: shapes\nsource: {format: coco, path: ., annotations: labels.json, images: images}\n"
        "teachers:\n"
        "  - {kind: coco, name: near, path: near.json, images: labels.json, trained_on: other shapes}\n"
        "  - {kind: coco, name: far, path: far.json, images: labels.json}\n"
    )
    return file


def test_a_missing_and_a_swapped_box_go_to_people(spec: Path, tmp_path: Path) -> None:
    result = curate.run(spec, workspace=tmp_path, review=False)
    findings = result.tables["findings"]
    found = findings.filter(pc.and_(pc.equal(findings["check"], "box_noise"), findings["flagged"])).to_pylist()
    uri = dict(zip(*(result.tables["samples"][name].to_pylist() for name in ("sample_id", "uri")), strict=True))
    by_issue = {(uri[row["sample_id"]].rpartition("/")[2], row["issue"]): row for row in found}
    missing = by_issue["00.png", "missing"]
    assert missing["label_id"] is None
    assert missing["suggested_label"] in CLASSES
    assert np.allclose(missing["suggested_bbox"], np.array([4, 4, 30, 30]) / SIDE, atol=0.12)
    swapped = by_issue["01.png", "swap"]
    assert swapped["label_id"] is not None
    verdicts = {row["label_id"]: row["action"] for row in result.tables["verdicts"].to_pylist()}
    assert verdicts[swapped["label_id"]] in {"review", "relabel"}
    rows = [row for row in result.tables["verdicts"].to_pylist() if uri[row["sample_id"]].endswith("00.png")]
    assert {row["action"] for row in rows} == {"keep"}, "nothing is said against the boxes that are there"
    assert result.release is not None
    assert result.release.ignore is not None
    places = {uri[row["sample_id"]].rpartition("/")[2]: row for row in result.release.ignore.to_pylist()}
    told = "\n".join(summary_lines(summarize(result)))
    assert f"{result.release.ignore.num_rows} places in released images" in told
    assert places["00.png"]["label_id"] is None
    assert places["00.png"]["bbox"] == missing["suggested_bbox"]
    assert places["00.png"]["reasons"] == [missing["finding_id"]]
    if verdicts[swapped["label_id"]] == "review":
        assert places["01.png"]["label_id"] == swapped["label_id"]
    assert len(found) <= 6
    cards = {row["group"]: row for row in result.tables["statistics"].to_pylist() if row["check"] == "teachers"}
    assert cards["teacher=near"]["n"] == 30
    noise = [row for row in result.tables["statistics"].to_pylist() if row["check"] == "label_noise"]
    assert [row["name"] for row in noise if row["outcome"] is None] == ["applies"]


def test_a_policy_may_hold_back_a_picture_that_lacks_a_box(spec: Path, tmp_path: Path) -> None:
    file = spec.with_name("holding.yaml")
    file.write_text(spec.read_text() + "policy: {missing_labels: hold_back}\n")
    result = curate.run(file, workspace=tmp_path, review=False)
    assert result.release is not None
    uri = dict(zip(*(result.tables["samples"][name].to_pylist() for name in ("sample_id", "uri")), strict=True))
    rows = [row for row in result.tables["verdicts"].to_pylist() if uri[row["sample_id"]].endswith("00.png")]
    assert {row["action"] for row in rows} == {"review"}
    ignored = result.release.ignore.to_pylist() if result.release.ignore is not None else []
    assert all(row["label_id"] is not None for row in ignored)
    assert not {row["sample_id"] for row in ignored} & {row["sample_id"] for row in rows}, (
        "not of what is held back"
    )


@pytest.fixture(scope="module")
def waiting(spec: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The workspace of a release by a policy that sends the swapped box to review."""
    file = spec.with_name("waiting.yaml")
    rules = "policy: {rules: [{issue: swap, check: box_noise, flagged: true, action: review}]}\n"
    file.write_text(spec.read_text() + rules)
    workspace = tmp_path_factory.mktemp("waiting")
    curate.run(file, workspace=workspace, review=False)
    return workspace


def _items(workspace: Path, images: Path) -> dict[str, dict[str, Any]]:
    """Return the items of the feed by the file name of the image."""
    feed = curate.feed.open("shapes", workspace=workspace, images=images)
    names = [uri.rpartition("/")[2] for uri in feed.rows.places()["uri"].to_pylist()]
    dataset = feed.dataset(size_px=(32, 32))
    return {name: dataset[at] for at, name in enumerate(names)}


def test_a_feed_says_where_nobody_vouches_for_what_is_there(waiting: Path, spec: Path) -> None:
    items = _items(waiting, spec.parent)
    assert len(items) == 30
    truth = {row["id"]: row for row in json.loads(spec.with_name("labels.json").read_text())["annotations"]}
    x, y, w, h = (v / SIDE for v in truth[10]["bbox"])
    swapped = items["01.png"]
    assert np.allclose(swapped["ignore"], [[x, y, x + w, y + h]]), "the box that waits is no background"
    assert len(swapped["boxes"]) == 2
    assert items["00.png"]["ignore"].shape == (1, 4)
    assert len(items["00.png"]["boxes"]) == 2
    batch = curate.feed.collate(list(items.values()))
    assert [len(places) for places in batch["ignore"]] == [len(item["ignore"]) for item in items.values()]
    (version,) = (waiting / "manifests" / "shapes" / "versions").iterdir()
    promises = {promise.name: promise for promise in verify(version, deep=True)}
    assert all(promise.ok is not False for promise in promises.values())
    n = pq.read_table(version / "ignore").num_rows
    assert f"{n} places to ignore" in promises["verdicts"].detail
    assert json.loads((version / "manifest.json").read_text())["schema_version"] == 2


def test_what_is_to_be_ignored_comes_back_from_a_coco_export(waiting: Path, spec: Path, tmp_path: Path) -> None:
    told = export_version(waiting, "shapes", format="coco", out=tmp_path / "coco", images="copy")
    assert told["n_left_out"] == 0
    (file,) = (tmp_path / "coco" / "annotations").iterdir()
    document = json.loads(file.read_text())
    before = _items(waiting, spec.parent)
    crowds = [row for row in document["annotations"] if row["iscrowd"]]
    assert len(crowds) == sum(len(item["ignore"]) for item in before.values()) > 1
    assert {row["weight"] for row in crowds} == {0.0}
    again = tmp_path / "again.yaml"
    again.write_text("name: shapes\nsource: {format: coco, path: coco}\n")
    curate.run(again, workspace=tmp_path / "workspace", review=False)
    after = _items(tmp_path / "workspace", tmp_path / "coco")
    assert set(after) == set(before)
    for name, item in before.items():
        for key in ("boxes", "ignore"):
            order = [np.lexsort(one[key].numpy().T) for one in (item, after[name])]
            assert np.allclose(item[key][order[0]], after[name][key][order[1]], atol=1e-6), (name, key)
    second = export_version(tmp_path / "workspace", "shapes", format="coco", out=tmp_path / "twice", images="none")
    assert second["n_labels"] == told["n_labels"] + len(crowds), "a crowd of the source is a row of the release"
    twice = json.loads(next((tmp_path / "twice" / "annotations").iterdir()).read_text())
    assert sorted(row["bbox"] for row in twice["annotations"] if row["iscrowd"]) == sorted(
        row["bbox"] for row in crowds
    )


@pytest.mark.parametrize("form", ["yolo", "voc", "csv"])
def test_a_format_without_places_to_ignore_says_so(waiting: Path, tmp_path: Path, form: str) -> None:
    told = export_version(waiting, "shapes", format=form, out=tmp_path / form, images="none")
    (version,) = (waiting / "manifests" / "shapes" / "versions").iterdir()
    n = pq.read_table(version / "ignore").num_rows
    assert told["left_out_by_reason"]["places_to_ignore"] == n
    assert f"{n} places to ignore" in "\n".join(export_lines(told))


def test_a_version_of_before_there_were_places_to_ignore_is_read_and_verified(
    waiting: Path, tmp_path: Path
) -> None:
    (version,) = (waiting / "manifests" / "shapes" / "versions").iterdir()
    loaded = load_release(version)
    fields = {name: getattr(loaded, name) for name in ("soft", "soft_boxes", "findings", "decisions")}
    policy = {key: value for key, value in loaded.evidence["policy"].items() if key != "missing_labels"}
    head = {name: loaded.manifest[name] for name in ("classes", "counts", "gates", "inputs", "soft")}
    statistics = schema.table_from_rows([], schema.STATISTICS)
    old = Release(
        **fields, data=loaded.data.drop_columns(["flags"]), excluded=loaded.excluded.drop_columns(["flags"]),
        evidence={**loaded.evidence, "policy": policy}, head=head, statistics=statistics,
        gates=gate_result(statistics, []),
    )  # fmt: skip
    path = publish(old, tmp_path, "shapes").path
    assert json.loads((path / "manifest.json").read_text())["schema_version"] == 1
    manifest, _ = load_manifest(path)
    held = pq.read_table(path / "excluded")
    waits = [row["label_id"] for row in held.to_pylist() if row["action"] == "review"]
    assert load_ignored(path, manifest)["label_id"].to_pylist() == waits, "a label that waits is found in excluded/"
    broken = [promise.name for promise in verify(path) if promise.ok is False]
    assert broken == ["verdicts"], "then, a picture that lacks a box was held back: this one was not made then"


def test_a_place_that_is_not_what_was_held_back_breaks_a_promise(waiting: Path, tmp_path: Path) -> None:
    loaded = load_release(next((waiting / "manifests" / "shapes" / "versions").iterdir()))
    names = ("data", "soft", "soft_boxes", "excluded", "findings", "decisions", "evidence")
    head = {name: loaded.manifest[name] for name in ("classes", "counts", "gates", "inputs", "soft")}
    statistics = schema.table_from_rows([], schema.STATISTICS)
    made = Release(
        **{name: getattr(loaded, name) for name in names}, ignore=loaded.ignore.slice(1), head=head,
        statistics=statistics, gates=gate_result(statistics, []),
    )  # fmt: skip
    broken = [promise for promise in verify(publish(made, tmp_path, "shapes").path) if promise.ok is False]
    assert [promise.name for promise in broken] == ["verdicts"]
    assert "ignore/" in broken[0].detail


def test_detectors_are_scored_by_the_rules_of_coco(spec: Path, tmp_path: Path) -> None:
    result = curate.run(spec, workspace=tmp_path, review=False, until="teach")
    told = {
        (row["name"], row["group"]): row
        for row in result.tables["statistics"].to_pylist()
        if row["check"] == "teachers"
    }
    near, far = (told["map", f"teacher={name}"]["value"] for name in ("near", "far"))
    assert 0.3 < far < near < 1
    assert ("map", "teacher=near,class=disc") in told
    assert ("map", "teacher=near,size=small") in told
    assert told["mean_iou", "teacher=near"]["value"] > told["mean_iou", "teacher=far"]["value"]


def test_a_plain_list_has_the_ids_of_the_labels_and_what_has_no_ids_is_an_errored_teacher(
    spec: Path, tmp_path: Path
) -> None:
    rows = json.loads(spec.with_name("far.json").read_text())
    strange = [{**row, "image_id": row["image_id"] + 5000} for row in rows]
    spec.with_name("strange.json").write_text(json.dumps(strange))
    file = spec.with_name("unnamed.yaml")
    text = spec.read_text().replace("far.json, images: labels.json", "far.json")
    file.write_text(text + "  - {kind: coco, name: strange, path: strange.json}\n")
    result = curate.run(file, workspace=tmp_path, review=False, until="teach")
    rows = {
        row["group"]: row
        for row in result.tables["statistics"].to_pylist()
        if row["check"] == "teachers" and row["name"] == "ran"
    }
    assert rows["teacher=strange"]["outcome"] == "errored"
    assert "5500" in rows["teacher=strange"]["detail"]
    assert rows["teacher=near"]["value"] == rows["teacher=far"]["value"] == 1


def test_boxes_that_a_person_accepts_are_released_and_those_refused_hold_nothing_back(
    spec: Path, tmp_path: Path
) -> None:
    first = curate.run(spec, workspace=tmp_path, review=False)
    uri = dict(zip(*(first.tables["samples"][name].to_pylist() for name in ("sample_id", "uri")), strict=True))
    found = [row for row in first.tables["findings"].to_pylist() if row["check"] == "box_noise" and row["flagged"]]
    (missing,) = [row for row in found if row["issue"] == "missing" and uri[row["sample_id"]].endswith("00.png")]
    others = [row for row in found if row["issue"] == "missing" and row is not missing]
    sample = missing["sample_id"]
    assert first.release is not None
    assert first.release.ignore is not None
    assert sample in first.release.ignore["sample_id"].to_pylist()
    own = [row for row in first.tables["labels"].to_pylist() if row["sample_id"] == sample]
    drawn, moved = schema.stable_id("suggested", missing["finding_id"]), [0.5, 0.05, 0.4, 0.4]
    answers: list[dict[str, Any]] = [
        {"sample_id": sample, "label_id": drawn, "decision": "accept", "to_label": missing["suggested_label"],
         "to_bbox": missing["suggested_bbox"], "finding_id": missing["finding_id"]},
        {"sample_id": sample, "label_id": own[0]["label_id"], "decision": "accept", "to_label": own[0]["label"],
         "to_bbox": moved},
        *({"sample_id": row["sample_id"], "label_id": schema.stable_id("suggested", row["finding_id"]),
           "decision": "reject", "to_label": row["suggested_label"], "to_bbox": row["suggested_bbox"]} for row in others),
    ]  # fmt: skip
    ledger.append(ledger.ledger_folder(tmp_path, "shapes"), answers, reviewer="Ann")
    second = curate.run(spec, workspace=tmp_path, review=False)
    assert second.release is not None
    rows = {row["label_id"]: row for row in second.release.data.to_pylist() if row["sample_id"] == sample}
    assert set(rows) == {drawn, *(row["label_id"] for row in own)}, "the whole picture is released"
    assert (rows[drawn]["released_label"], rows[drawn]["annotator"]) == (missing["suggested_label"], "Ann")
    assert rows[drawn]["bbox"] == pytest.approx(missing["suggested_bbox"])
    assert rows[drawn]["given_bbox"] is None
    again = rows[own[0]["label_id"]]
    assert (again["bbox"], again["given_bbox"]) == (pytest.approx(moved), own[0]["bbox"])
    assert again["action"] == "keep"
    answered = second.release.ignore
    assert answered is None or sample not in answered["sample_id"].to_pylist(), "the place is answered"
    waiting = {row["sample_id"] for row in second.tables["verdicts"].to_pylist() if row["action"] == "review"}
    assert waiting <= {row["sample_id"] for row in found if row["label_id"] is not None}
    asked = {row["finding_id"] for row in [missing, *others]}
    assert not asked & set(second.tables["findings"]["finding_id"].to_pylist()), (
        "what was answered waits for nobody"
    )
    report = verify_version(tmp_path / "manifests", "shapes")
    assert report.lines()[-1] == "Every promise is kept.", report.lines()
    third = curate.run(spec, workspace=tmp_path, review=False)
    assert third.published is not None
    assert not third.published.is_new, "nothing changed, nothing is published"


@pytest.fixture(scope="module")
def released(spec: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The workspace of a release that holds also what waits for review: the picture that lacks a box is in it."""
    file = spec.with_name("released.yaml")
    file.write_text(
        spec.read_text() + "policy: {release_review: true, temperature: 2.0, use_default_gates: false}\n"
    )
    workspace = tmp_path_factory.mktemp("released")
    curate.run(file, workspace=workspace, review=False)
    return workspace


def test_boxes_have_soft_labels_and_what_only_detectors_see_is_kept(released: Path) -> None:
    (version,) = (released / "manifests" / "shapes" / "versions").iterdir()
    data, soft, alone = (pq.read_table(version / kind) for kind in ("data", "soft", "soft_boxes"))
    uris = [uri.rpartition("/")[2] for uri in data["uri"].to_pylist()]
    chance = np.array(soft["objectness"].to_pylist())
    assert (chance > 0.6).mean() > 0.95, "two detectors see nearly every box, at one place"
    probs = np.array(soft["probs"].to_pylist(), dtype=float)
    assert np.allclose(probs.sum(axis=1), 1, atol=2e-3)
    classes = json.loads((version / "manifest.json").read_text())["classes"]
    given = [classes.index(name) for name in data["given_label"].to_pylist()]
    against = [at for at, row in enumerate(probs) if row[given[at]] < 0.5]
    assert [uris[at] for at in against] == ["01.png"], "the swapped box has the class that the detectors see"
    of_first = {row["sample_id"] for row in data.to_pylist() if row["uri"].endswith("00.png")}
    sure = [row for row in alone.to_pylist() if row["objectness"] > 0.5]
    assert [row["sample_id"] for row in sure] == list(of_first)
    assert np.allclose(sure[0]["bbox"], np.array([4, 4, 30, 30]) / SIDE, atol=0.12)
    assert all(0.05 <= row["objectness"] <= 1 for row in alone.to_pylist())
    told = json.loads((version / "manifest.json").read_text())["soft"]
    assert (told["detectors"], told["n_teacher_only"]) == (["near", "far"], alone.num_rows)
    assert set(told["teachers"]) == {"near", "far"}
    assert all(promise.ok is not False for promise in verify(version, deep=True))


def test_a_diff_tells_soft_boxes_and_what_is_ignored(spec: Path, waiting: Path, tmp_path: Path) -> None:
    shutil.copytree(spec.parent, tmp_path / "shapes")
    shutil.copytree(waiting, tmp_path / "ws")
    root = tmp_path / "shapes"
    far = json.loads((root / "far.json").read_text())
    seen = [box for box in far if (box["image_id"], box["score"] > 0.5) == (503, True)]
    far = [box for box in far if box not in seen[:1]]  # one thing of the fourth image is not seen any more
    far.append({"image_id": 504, "category_id": 1, "bbox": [70, 70, 20, 20], "score": 0.9})
    (root / "far.json").write_text(json.dumps(far))
    (root / "near.json").write_text(json.dumps([*json.loads((root / "near.json").read_text()), far[-1]]))
    text = (root / "waiting.yaml").read_text()
    (root / "waiting.yaml").write_text(text.replace("action: review", "action: keep"))
    curate.run(root / "waiting.yaml", workspace=tmp_path / "ws", review=False)
    shown = diff_versions(tmp_path / "ws" / "manifests", "shapes@v1", "shapes@v2", limit=3)
    rows = shown.to_json()["rows"]
    assert all(row["causes"] for row in rows)

    def of(change: str) -> dict[str, dict[str, Any]]:
        return {row["uri"].rpartition("/")[2]: row for row in rows if row["change"] == change}

    boxes = of("teacher boxes changed")["04.png"]
    assert "objectness 0.9" in boxes["after"]
    assert "teachers_changed" in boxes["causes"]
    soft = [row for row in rows if row["change"] == "soft label changed" and row["uri"].endswith("03.png")]
    assert any(row["before"].startswith("objectness 0.9") for row in soft)
    gone = of("no longer ignored")["01.png"]
    assert gone["before"].split(" at ")[0] in CLASSES
    assert (gone["after"], gone["label_id"] is None) == (None, False)
    assert gone["reason_codes_before"]
    back = diff_versions(tmp_path / "ws" / "manifests", "shapes@v2", "shapes@v1", limit=3)
    came = [row for row in back.to_json()["rows"] if row["change"] == "ignored"]
    by_label = {row["label_id"]: row for row in came}  # the other one is the box that is missing in the first image
    again = by_label[gone["label_id"]]
    assert (again["before"], again["after"]) == (None, gone["before"])
    assert again["reason_codes_after"] == gone["reason_codes_before"]
    assert f"  {gone['uri']}: – → {gone['before']}" in "\n".join(back.lines())  # noqa: RUF001 - a dash


def test_where_only_rules_changed_no_detector_is_blamed(spec: Path, waiting: Path, tmp_path: Path) -> None:
    shutil.copytree(spec.parent, tmp_path / "shapes")
    shutil.copytree(waiting, tmp_path / "ws")
    rules = tmp_path / "shapes" / "waiting.yaml"
    rules.write_text(rules.read_text().replace("action: review", "action: keep"))
    curate.run(rules, workspace=tmp_path / "ws", review=False)
    shown = diff_versions(tmp_path / "ws" / "manifests", "shapes@v1", "shapes@v2", limit=3)
    boxes = [row for row in shown.to_json()["rows"] if row["change"] == "teacher boxes changed"]
    assert boxes
    assert {tuple(row["causes"]) for row in boxes} == {("policy_changed",)}


def test_packed_exports_hold_what_the_version_holds(
    released: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of packages that it brings
        import datasets  # noqa: PLC0415 - it takes seconds
    told = {
        form: export_version(released, "shapes", format=form, out=tmp_path / form, images="none")
        for form in ("hf", "webdataset")
    }
    assert any("soft labels of each teacher alone" in line for line in export_lines(told["hf"]))
    (version,) = (released / "manifests" / "shapes" / "versions").iterdir()
    tables = {name: pq.read_table(version / name).to_pylist() for name in ("data", "soft", "soft_boxes", "ignore")}
    soft = {row["label_id"]: row for row in tables["soft"]}
    (split,) = datasets.load_dataset(str(tmp_path / "hf"), cache_dir=str(tmp_path / "cache")).values()
    with tarfile.open(next((tmp_path / "webdataset").glob("*.tar"))) as tar:
        members = {member.name: tar.extractfile(member).read() for member in tar}  # type: ignore[union-attr]
    assert {row["id"] for row in split} == {row["sample_id"] for row in tables["data"]}
    for row in split:
        data = [one for one in tables["data"] if one["sample_id"] == row["id"] and one["released_label"]]
        alone = [one for one in tables["soft_boxes"] if one["sample_id"] == row["id"]]
        ignored = [one for one in tables["ignore"] if one["sample_id"] == row["id"] and one["bbox"]]
        objects, theirs = row["objects"], row["teacher_boxes"]
        assert objects["id"] == [one["label_id"] for one in data]
        assert [split.features["objects"]["category"].feature.names[at] for at in objects["category"]] == [
            one["released_label"] for one in data
        ]
        assert row["objectness"] == [soft[one["label_id"]]["objectness"] for one in data]
        assert row["probs"] == [soft[one["label_id"]]["probs"] for one in data]
        assert theirs["objectness"] == [one["objectness"] for one in alone]
        assert theirs["probs"] == [one["probs"] for one in alone]
        for boxes, rows in ((objects["bbox"], data), (theirs["bbox"], alone), (row["ignore"], ignored)):
            pixels = np.array([one["bbox"] for one in rows], float).reshape(-1, 4) * SIDE
            np.testing.assert_allclose(np.array(boxes).reshape(-1, 4), pixels, atol=2e-3)
        arrays = {
            name.removeprefix(f"{row['id']}."): np.load(io.BytesIO(content))
            for name, content in members.items()
            if name.startswith(row["id"]) and name.endswith(".npy")
        }
        assert arrays["teacher_objectness.npy"].tolist() == theirs["objectness"]
        assert arrays["teacher_probs.npy"].tolist() == theirs["probs"]
        np.testing.assert_array_equal(
            arrays["teacher_boxes.npy"], np.array(theirs["bbox"], np.float32).reshape(-1, 4)
        )
        about = json.loads(members[f"{row['id']}.json"])
        np.testing.assert_allclose(np.ravel(about["ignore"]), np.ravel(row["ignore"]), atol=1e-3)
    assert sum(len(row["teacher_boxes"]["bbox"]) for row in split) == len(tables["soft_boxes"]) > 0


def test_a_detectors_box_of_an_image_that_is_not_released_breaks_a_promise(released: Path, tmp_path: Path) -> None:
    loaded = load_release(next((released / "manifests" / "shapes" / "versions").iterdir()))
    fields = {
        name: getattr(loaded, name) for name in ("data", "soft", "soft_boxes", "ignore", "excluded", "findings")
    }
    moved = pa.array(["f" * 24] * loaded.soft_boxes.num_rows, pa.string())
    column = loaded.soft_boxes.schema.get_field_index("sample_id")
    fields["soft_boxes"] = loaded.soft_boxes.set_column(column, loaded.soft_boxes.schema.field(column), moved)
    head = {name: loaded.manifest[name] for name in ("classes", "counts", "gates", "inputs", "soft")}
    statistics = schema.table_from_rows([], schema.STATISTICS)
    made = Release(
        **fields, decisions=loaded.decisions, evidence=loaded.evidence, head=head, statistics=statistics,
        gates=gate_result(statistics, []),
    )  # fmt: skip
    broken = [promise for promise in verify(publish(made, tmp_path, "shapes").path) if promise.ok is False]
    assert [promise.name for promise in broken] == ["soft labels"]
    assert "not released" in broken[0].detail


def test_a_feed_hands_out_what_detectors_see(released: Path, spec: Path) -> None:
    feed = curate.feed.open("shapes", workspace=released, images=spec.parent)
    items = {item["id"]: item for item in map(feed.dataset(size_px=(32, 32)).__getitem__, range(len(feed)))}
    version = next((released / "manifests" / "shapes" / "versions").iterdir())
    alone = pq.read_table(version / "soft_boxes").to_pylist()
    for sample_id, item in items.items():
        theirs = [row for row in alone if row["sample_id"] == sample_id]
        seen = item["teacher_boxes"]
        assert seen["objectness"].tolist() == [row["objectness"] for row in theirs]
        assert np.allclose(
            seen["boxes"][:, 2:] - seen["boxes"][:, :2], [row["bbox"][2:] for row in theirs] or np.zeros((0, 2))
        )
        assert seen["probs"].shape == (len(theirs), 2)
        assert item["soft"]["objectness"].shape == item["labels"].shape
    batch = curate.feed.collate(list(items.values()))
    assert [len(one["boxes"]) for one in batch["teacher_boxes"]] == [
        len(one["teacher_boxes"]["boxes"]) for one in items.values()
    ]


def test_erasing_an_image_takes_what_detectors_see_in_it(released: Path, tmp_path: Path) -> None:
    workspace = tmp_path / "workspace"
    shutil.copytree(released, workspace)
    before = next((workspace / "manifests" / "shapes" / "versions").iterdir())
    gone = pq.read_table(before / "soft_boxes")["sample_id"][0].as_py()
    asked = ["erase", "shapes", "--sample", gone, "--yes", "--workspace", str(workspace), "--quiet"]
    assert subprocess.run([sys.executable, "-m", "curate", *asked], check=False).returncode == 0
    (after,) = (workspace / "manifests" / "shapes" / "versions").iterdir()
    assert gone not in pq.read_table(after / "soft_boxes")["sample_id"].to_pylist()
    assert pq.read_table(after / "soft_boxes").num_rows > 0
    assert all(promise.ok is not False for promise in verify(after))


def test_erasing_an_image_takes_its_places_to_ignore_and_leaves_the_others(waiting: Path, tmp_path: Path) -> None:
    workspace = tmp_path / "workspace"
    shutil.copytree(waiting, workspace)
    before = pq.read_table(next((workspace / "manifests" / "shapes" / "versions").iterdir()) / "ignore")
    gone = before["sample_id"][0].as_py()
    asked = ["erase", "shapes", "--sample", gone, "--yes", "--workspace", str(workspace), "--quiet"]
    assert subprocess.run([sys.executable, "-m", "curate", *asked], check=False).returncode == 0
    (after,) = (workspace / "manifests" / "shapes" / "versions").iterdir()
    left = pq.read_table(after / "ignore")
    assert left.equals(before.filter(pc.not_equal(before["sample_id"], gone)))
    assert left.num_rows > 0
    assert all(promise.ok is not False for promise in verify(after))


@pytest.mark.parametrize(
    ("units", "told"),
    [
        (lambda x, y, w, h: [x / SIDE, y / SIDE, w / SIDE, h / SIDE], "relative"),
        (lambda x, y, w, h: [x + 30, y + 30, x + w + 30, y + h + 30], "corners"),
    ],
)
def test_boxes_in_other_units_are_refused_and_the_run_says_so(
    spec: Path, tmp_path: Path, units: Callable[..., list[float]], told: str
) -> None:
    boxes = json.loads(spec.with_name("far.json").read_text())
    odd = spec.with_name(f"{told}.json")
    odd.write_text(json.dumps([{**one, "bbox": units(*one["bbox"])} for one in boxes]))
    file = spec.with_name(f"{told}.yaml")
    file.write_text(spec.read_text().replace("path: far.json", f"path: {odd.name}"))
    summary = summarize(curate.run(file, workspace=tmp_path, review=False))
    (failed,) = summary["teachers_failed"]
    assert failed.startswith("far: ")
    assert told in failed
    assert any("FAILED far" in line for line in summary_lines(summary))


@pytest.mark.parametrize(
    "spoil",
    [
        lambda file: file.unlink(),
        lambda file: file.write_text(file.read_text()[:-40]),
        lambda file: file.write_text(file.read_text().replace('"score": 0.', '"score": NaN, "x": 0.', 1)),
        lambda file: file.write_text(
            json.dumps([{**one, "category_id": "tree"} for one in json.loads(file.read_text())])
        ),
    ],
    ids=["missing", "truncated", "score-nan", "other-classes"],
)
def test_a_detector_that_cannot_be_read_fails_the_gates(
    spec: Path, tmp_path: Path, spoil: Callable[[Path], object]
) -> None:
    for name in ("labels.json", "near.json"):
        shutil.copy(spec.with_name(name), tmp_path)
    shutil.copytree(spec.with_name("images"), tmp_path / "images")
    spoil(tmp_path / "near.json")
    file = tmp_path / "alone.yaml"
    file.write_text(spec.read_text().partition("  - {kind: coco, name: far")[0])
    result = curate.run(file, workspace=tmp_path / "workspace", review=False)
    summary = summarize(result)
    assert (summary["gates"], result.exit_code) == ("failed", ExitCode.GATE_FAILED)
    (gate,) = [one for one in summary["gates_not_passed"] if one["statistic"] == "box_noise.ran"]
    assert gate["outcome"] == "errored"
    assert summary["teachers_failed"][0] in gate["message"].replace("(near: ", "near: ")


def _lines_of_far(spec: Path, workspace: Path, edit: Callable[[dict[str, Any]], dict[str, Any]]) -> tuple[str, str]:
    """Run with the far detector's boxes edited; return what `--json` and the console say of it."""
    odd = spec.with_name(f"{workspace.name}.json")
    odd.write_text(json.dumps([edit(one) for one in json.loads(spec.with_name("far.json").read_text())]))
    file = spec.with_name(f"{workspace.name}.yaml")
    text = spec.read_text().replace("path: far.json", f"path: {odd.name}, trained_on: other shapes")
    file.write_text(text)
    summary = summarize(curate.run(file, workspace=workspace, review=False))
    (told,) = summary["teachers_warn"]
    (line,) = [line for line in summary_lines(summary) if "teacher note" in line]
    return told, line


def test_what_was_left_out_of_a_detectors_file_is_told_at_the_end(spec: Path, tmp_path: Path) -> None:
    told, line = _lines_of_far(
        spec, tmp_path, lambda one: {**one, "category_id": 9} if one["image_id"] == 503 else one
    )
    n = sum(one["image_id"] == 503 for one in json.loads(spec.with_name("far.json").read_text()))
    assert told == f"far: {n} boxes are left out: classes that the labels do not have: 9"
    assert told in line


def test_a_detector_whose_class_ids_are_off_is_asked_about_them(spec: Path, tmp_path: Path) -> None:
    def turned(one: dict[str, Any]) -> dict[str, Any]:
        return {**one, "category_id": one["category_id"] % len(CLASSES) + 1}

    told, line = _lines_of_far(spec, tmp_path, turned)
    assert "category_id counts the classes" in told
    assert told in line


def test_a_detector_that_agrees_with_nothing_is_asked_about(spec: Path, tmp_path: Path) -> None:
    told, line = _lines_of_far(
        spec, tmp_path, lambda one: {**one, "bbox": [one["bbox"][0] / 3, one["bbox"][1] / 3, 3.5, 3.5]}
    )
    assert told.startswith("far: it sees 0.0% of the 89 labeled boxes that are judged")
    assert "boxes are in pixels" in told
    assert told in line
