"""What people are told where something is broken, of no use or asked for: init, keys, dry runs, one row of a version."""

from __future__ import annotations

import json
import re
from pathlib import Path

import end_to_end as e2e
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from PIL import Image

import curate
from curate import init
from curate.cli.flagging import flag_one_table
from curate.config import load_spec
from curate.dry_run import MONGO_BYTES, estimate
from curate.errors import ConfigError, InputError
from curate.manifest.explain import explain, explain_lines
from curate.manifest.place import place_of
from curate.manifest.signatures import new_keys, sign
from curate.manifest.where import holding, holding_lines, wanted_image
from curate.summary import summarize, summary_lines


def test_init_says_what_is_broken(tmp_path: Path) -> None:
    pq.write_table(pa.table({"image": ["a.png"] * 100, "label": ["cat"] * 100}), tmp_path / "t.parquet")
    whole = (tmp_path / "t.parquet").read_bytes()
    (tmp_path / "half.parquet").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match="called like Parquet and cannot be read as that"):
        init.recognise(tmp_path / "half.parquet")
    (tmp_path / "bad.json").write_text('{"images": [')
    with pytest.raises(InputError, match="called like JSON"):
        init.recognise(tmp_path / "bad.json")
    (tmp_path / "good.json").write_text("{}")
    with pytest.raises(ConfigError, match="No format recognises"):
        init.recognise(tmp_path / "good.json")


@pytest.mark.parametrize(
    ("label", "kind"),
    [
        (0, "FiftyOneImageClassificationDataset"),
        ([0, 1], "FiftyOneImageClassificationDataset"),
        ([{"label": 0, "bounding_box": [0, 0, 1, 1]}], "FiftyOneImageDetectionDataset"),
    ],
)
def test_init_knows_the_image_datasets_of_fiftyone(tmp_path: Path, label: object, kind: str) -> None:
    (tmp_path / "data").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "data" / "a.png")
    (tmp_path / "labels.json").write_text(json.dumps({"classes": ["cat", "dog"], "labels": {"a": label}}))
    assert init.recognise(tmp_path) == ("fiftyone", {"type": f"fiftyone.types.{kind}"})


def test_a_public_key_does_not_sign_and_the_private_one_is_named(tmp_path: Path) -> None:
    private, public, _ = new_keys(tmp_path / "mine.pem")
    with pytest.raises(ConfigError) as caught:
        sign(place_of(tmp_path), {}, [], public)
    assert "it is a public key, which only verifies" in str(caught.value)
    assert str(caught.value).endswith(f"is {private}.")


def small_set(folder: Path) -> Path:
    """Write 12 pictures of two classes, a copy among them, and a spec without teachers."""
    rng = np.random.default_rng(1)
    for number in range(12):
        file = folder / "images" / ("cat", "dog")[number % 2] / f"{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 255, (16, 16, 3), dtype=np.uint8)).save(file)
    (folder / "images" / "cat" / "copy.png").write_bytes((folder / "images" / "cat" / "0.png").read_bytes())
    spec = folder / "set.yaml"
    spec.write_text(
        yaml.safe_dump({"name": "set", "source": {"format": "folder", "path": "images"}, "teachers": []})
    )
    return spec


def test_a_dry_run_counts_what_the_run_would_need_and_do(tmp_path: Path) -> None:
    spec = small_set(tmp_path)
    plans = {
        review: estimate(spec, workspace=tmp_path / "w", limit=None, workers=1, review=review)
        for review in (True, False)
    }
    assert plans[True].disk_bytes - plans[False].disk_bytes > MONGO_BYTES
    assert "MongoDB" not in "".join(plans[False].lines())
    assert {"box_sanity", "annotators", "multi_label_noise", "label_noise"} <= set(plans[True].not_applicable)
    assert {"duplicates", "image_quality", "class_balance"} <= set(plans[True].checks)
    assert not set(plans[True].checks) & set(plans[True].not_applicable)


def test_one_row_of_a_version_is_explained(tmp_path: Path) -> None:
    result = curate.run(small_set(tmp_path), workspace=tmp_path / "w", review=False)
    assert result.published is not None
    root = place_of(tmp_path / "w" / "manifests")
    gone = result.release.excluded.to_pylist()[0] if result.release else {}
    told = explain(root, "set", str(gone["uri"]).rsplit("/", 1)[-1])
    assert told["rows"][0]["action"] == "drop"
    assert "copy, byte for byte, of" in told["rows"][0]["reason"]
    assert explain(root, "set", gone["label_id"])["rows"] == told["rows"]
    assert explain_lines(told)[1].startswith("  cat: drop (risk ")
    kept = explain(root, "set", "1.png")
    assert explain_lines(kept)[-1].strip() == "Nothing was found."
    with pytest.raises(ConfigError, match="has no row"):
        explain(root, "set", "nothing.png")


def test_a_teacher_with_too_few_images_is_named_with_its_reason_once(tmp_path: Path) -> None:
    for number in range(4):
        file = tmp_path / "data" / ("cat", "dog")[number % 2] / f"{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (32, 32), (60 * number, 20, 90)).save(file)
    (tmp_path / "few.yaml").write_text("name: few\nsource: {format: folder, path: data}\n", encoding="utf-8")
    done = curate.run(tmp_path / "few.yaml", workspace=tmp_path / "work", review=False)
    text = "\n".join(summary_lines(summarize(done)))
    assert "teacher SILENT probes: TooFewRowsError: Probes need at least 20" in text
    assert text.count("there are 4 rows in 4 families") == 1
    assert "label_noise.ran (all) is neither passed nor failed" in text


def coco_folder(root: Path, *, n_images: int) -> Path:
    """Two boxes of one class in each of three pictures, of which so many are there."""
    (root / "images").mkdir(parents=True)
    for at in range(n_images):
        e2e.picture(at, at).save(root / "images" / f"{at}.png")
    boxes = [
        {"id": 10 * at + side, "image_id": at, "category_id": 1, "bbox": [2, 3 + 10 * side, 10, 8], "area": 80}
        for at in range(3)
        for side in (0, 1)
    ]
    images = [{"id": at, "file_name": f"{at}.png", "width": 24, "height": 24} for at in range(3)]
    told = {"images": images, "annotations": boxes, "categories": [{"id": 1, "name": "cell"}]}
    (root / "gt.json").write_text(json.dumps(told), encoding="utf-8")
    return root


def test_a_dry_run_without_any_image_says_so_as_a_run_does(tmp_path: Path) -> None:
    written = init.write_spec(coco_folder(tmp_path / "boxes", n_images=0), out=tmp_path / "boxes.yaml")
    with pytest.raises(InputError, match=r"None of the 9 input rows could be used: .*no file '0.png'"):
        estimate(written.file, workspace=tmp_path / "w", limit=None, workers=1, review=False)


def test_boxes_of_an_image_are_told_apart_and_a_reason_stands_once(tmp_path: Path) -> None:
    written = init.write_spec(coco_folder(tmp_path / "boxes", n_images=3), out=tmp_path / "boxes.yaml")
    curate.run(written.file, workspace=tmp_path / "w", review=False)
    root = place_of(tmp_path / "w" / "manifests")
    told = explain(root, "boxes", "1")  # the stem
    assert [row["uri"] for row in told["rows"]] == ["images/1.png"] * 2
    lines = explain_lines(told)
    assert {line.partition("]")[0] for line in lines[1:3]} == {
        "  cell [box 10x8 px at 2, 3",
        "  cell [box 10x8 px at 2, 13",
    }
    assert lines[3:] == ["    all 2: Nothing was found."]
    assert explain(root, "boxes", "images/1")["rows"] == told["rows"]
    with pytest.raises(ConfigError, match="no row 'mages/1'"):
        explain(root, "boxes", "mages/1")

    found = holding(root, wanted_image("2.jpg"))
    assert holding_lines(found) == ["No released version holds it. Did you mean '2.png'?"]
    assert "Did you mean 'images/2.png'?" in holding_lines(holding(root, wanted_image("image/2.png")))[0]
    assert holding(root, wanted_image("2.png"))["hint"] == ""


@pytest.mark.parametrize(
    ("name", "kind", "asked"),
    [("coco", "coco", ["probes"]), ("mot", "mot", ["probes"]), ("masks", "masks", [])],
)
def test_init_writes_the_teacher_that_can_judge_the_labels(
    name: str, kind: str, asked: list[str], tmp_path: Path
) -> None:
    keys = {"masks": {"task": "segmentation"}, "mot": {"task": "tracking"}}.get(name, {})
    task = keys.get("task", "detection")
    text, _ = init.render_spec("set", name, {}, "set", {}, keys, task)
    (tmp_path / "set.yaml").write_text(text, encoding="utf-8")
    assert [one.kind for one in load_spec(tmp_path / "set.yaml").spec.teachers] == asked
    (example,) = [line.lstrip("# -") for line in text.splitlines() if f"kind: {kind}," in line]
    (tmp_path / "theirs.yaml").write_text(
        re.sub(r"^teachers:( \[\])?$", lambda _: f"teachers:\n  - {example}", text, flags=re.MULTILINE),
        encoding="utf-8",
    )
    assert kind in [one.kind for one in load_spec(tmp_path / "theirs.yaml").spec.teachers], "an example that works"
    assert ("# ignore: [255]" in text) == ("# classes: {0:" in text) == (name == "masks")


@pytest.mark.parametrize(
    ("given", "task"), [("gt.json", "detection"), ("gt.txt", "tracking"), ("masks/", "segmentation")]
)
def test_flag_names_the_task_of_what_is_no_table(given: str, task: str, tmp_path: Path) -> None:
    path = tmp_path / given
    if given.endswith("/"):
        path.mkdir()
    else:
        path.write_text("{}")
    with pytest.raises(ConfigError, match=f"curate flag --task {task} --labels"):
        flag_one_table(path, None, None, tmp_path / "out.parquet", None, lambda *_: None)
