"""The verbs as a shell sees them: exit codes, JSON, files, and what `init` writes is what `run` reads."""

from __future__ import annotations

import csv
import json
import re
import shutil
from pathlib import Path

import end_to_end as e2e
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from PIL import Image

NAMES = ("cat", "dog", "eel")


# -- what cannot be used --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "line", "told"),
    [
        ("name: x\nsorce: {format: folder, path: data}\n", 2, "Did you mean 'source'?"),
        ("name: x\nsource:\n  format: foldr\n  path: data\n", 3, "folder"),
        ("name: x\nsource:\n  format: folder\n  path: data\n  clas_level: last\n", 5, "class_level"),
        ("name: x\nsource: {format: folder, path: data}\nseed: many\n", 3, "seed"),
        ("name: x\nsource: {format: folder, path: data}\nteachers:\n  - {kind: prob}\n", 4, "probes"),
        ("name: x\nsource: {format: folder, path: data}\nchecks:\n  leakge: false\n", 4, "leakage"),
    ],
)
def test_a_wrong_spec_is_exit_code_2_with_file_line_and_the_nearest_word(
    text: str, line: int, told: str, tmp_path: Path
) -> None:
    spec = tmp_path / "wrong.yaml"
    spec.write_text(text, encoding="utf-8")
    done = e2e.call("run", spec, "--workspace", tmp_path / "ws", "--json")
    assert done.code == 2, done.err
    assert f"{spec}:{line}:" in done.err
    assert told in done.err
    assert done.json["exit_code"] == 2
    assert done.json["error"] in done.err
    assert not (tmp_path / "ws").exists()


@pytest.mark.parametrize(
    "arguments", [["run"], ["run", "no.yaml"], ["fly"], ["verify", "nobody"], ["init", "nowhere"]]
)
def test_wrong_usage_is_exit_code_2(arguments: list[str], tmp_path: Path) -> None:
    done = e2e.call(*arguments, cwd=tmp_path)
    assert done.code == 2, done.err
    assert done.out == ""
    assert "Traceback" not in done.err


def test_where_all_files_are_bad_it_is_exit_code_3(tmp_path: Path) -> None:
    (tmp_path / "data/cat").mkdir(parents=True)
    for at in range(5):
        (tmp_path / f"data/cat/{at}.jpg").write_bytes(b"no image" if at else b"")
    spec = e2e.write_spec(tmp_path / "bad.yaml", "{format: folder, path: data}")
    done = e2e.call("run", spec, "--workspace", tmp_path / "ws", "--no-review", "--json", "--quiet")
    assert done.code == 3, done.err
    assert done.json["exit_code"] == 3
    assert "4 not an image" in done.json["error"]
    assert not list((tmp_path / "ws" / "manifests").rglob("manifest.json"))
    spec = e2e.write_spec(tmp_path / "absent.yaml", "{format: folder, path: nowhere}")
    absent = e2e.call("run", spec, "--workspace", tmp_path / "ws", "--no-review")
    assert absent.code == 3
    assert "nowhere" in absent.err


# -- verify ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "damage", ["a byte of a table", "half a manifest", "other json", "an unlisted file", "a file less"]
)
def test_verify_is_exit_code_5_after_any_damage(damage: str, finished: e2e.Finished, tmp_path: Path) -> None:
    workspace = tmp_path / "ws"
    shutil.copytree(finished.workspace / "manifests", workspace / "manifests")
    version = workspace / "manifests" / "pets" / "versions" / finished.id
    head = version / "manifest.json"
    table = min((version / "data").rglob("*.parquet"))
    for path in (version, *version.rglob("*")):
        path.chmod(0o755)
    if damage == "a byte of a table":
        content = bytearray(table.read_bytes())
        content[len(content) // 2] ^= 1
        table.write_bytes(content)
    elif damage == "half a manifest":
        head.write_bytes(head.read_bytes()[:100])
    elif damage == "other json":
        head.write_text(
            json.dumps(json.loads(head.read_text(encoding="utf-8")) | {"name": "cats"}), encoding="utf-8"
        )
    elif damage == "an unlisted file":
        (version / "data" / "more.parquet").write_bytes(table.read_bytes())
    else:
        table.unlink()
    done = e2e.call("verify", "pets", "--workspace", workspace, "--json")
    assert done.code == 5, (done.out, done.err)
    assert done.json["ok"] is False
    assert "Traceback" not in done.err


# -- scan and flag --------------------------------------------------------------------------------------------


def test_scan_measures_a_folder_without_a_spec(finished: e2e.Finished, tmp_path: Path) -> None:
    folder = tmp_path / "data"
    shutil.copytree(finished.folder / "data", folder)
    (folder / "train" / "cat" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nno")
    done = e2e.call("scan", folder, "--out", tmp_path / "scan.parquet", "--json", "--quiet")
    assert done.code == 0, done.err
    assert done.json["n_images"] == 61
    assert done.json["n_unreadable"] == 1
    table = pq.read_table(tmp_path / "scan.parquet")
    assert table.num_rows == 61
    good = table.filter(pa.compute.is_null(table["error_code"]))
    assert set(good["width_px"].to_pylist()) == {24}
    assert all(re.fullmatch(r"[0-9a-f]{64}", value) for value in good["content_sha256"].to_pylist())


def probabilities(path: Path, n: int = 400) -> list[int]:
    """Write a table of three good teachers over labels of which every twentieth is wrong; return the wrong rows."""
    rng = np.random.default_rng(5)
    truth = rng.integers(0, 3, n)
    given = truth.copy()
    wrong = np.arange(0, n, 20)
    given[wrong] = (given[wrong] + 1) % 3
    columns: dict[str, pa.Array] = {"label": pa.array([NAMES[at] for at in given])}
    for name in ("one", "two", "three"):
        logits = rng.normal(0, 1.2, (n, 3))
        logits[np.arange(n), truth] += 5
        probs = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        columns[f"prob_{name}"] = pa.FixedSizeListArray.from_arrays(probs.astype(np.float32).ravel(), 3)
    pq.write_table(pa.table(columns), path)
    return [int(row) for row in wrong]


def test_flag_finds_wrong_labels_in_any_table(tmp_path: Path) -> None:
    wrong = probabilities(tmp_path / "table.parquet")
    out = tmp_path / "flags.parquet"
    done = e2e.call(
        "flag", tmp_path / "table.parquet", "--out", out, "--classes", "cat,dog,eel", "--json", "--quiet"
    )
    assert done.code == 0, done.err
    assert done.json["n"] == 400
    assert {teacher["name"] for teacher in done.json["teachers"]} == {"one", "two", "three"}
    assert done.json["noise_rate"]["low"] <= 0.05 <= done.json["noise_rate"]["high"]
    table = pq.read_table(out)
    assert table.num_rows == 400
    flagged = [row for row, is_flagged in enumerate(table["flagged"].to_pylist()) if is_flagged]
    assert len(set(flagged) & set(wrong)) >= 18
    assert len(set(flagged) - set(wrong)) <= 4
    people = e2e.call("flag", tmp_path / "table.parquet", "--out", out, "--quiet")
    assert people.code == 0, people.err
    assert "of 400 labels" in people.out


def test_flag_refuses_a_width_that_does_not_fit(tmp_path: Path) -> None:
    probabilities(tmp_path / "table.parquet")
    out = tmp_path / "flags.parquet"
    done = e2e.call("flag", tmp_path / "table.parquet", "--out", out, "--classes", "cat,dog", "--json")
    assert done.code == 3, done.err
    assert done.json["kind"] == "input"
    assert not out.exists()


# -- init, then run on what it wrote ---------------------------------------------------------------------------


def write_images(folder: Path, n: int = 12) -> list[str]:
    folder.mkdir(parents=True, exist_ok=True)
    for at in range(n):
        e2e.picture(at, at).save(folder / f"{at:02}.png")
    return [f"{at:02}" for at in range(n)]


def make_coco(root: Path) -> Path:
    stems = write_images(root / "images")
    images = [{"id": at, "file_name": f"{s}.png", "width": 24, "height": 24} for at, s in enumerate(stems)]
    boxes = [
        {"id": at, "image_id": at, "category_id": 1 + at % 3, "bbox": [2, 3, 10, 12], "area": 120, "iscrowd": 0}
        for at in range(len(stems))
    ]
    categories = [{"id": 1 + at, "name": name} for at, name in enumerate(NAMES)]
    content = {"images": images, "annotations": boxes, "categories": categories}
    (root / "instances.json").write_text(json.dumps(content), encoding="utf-8")
    return root


def make_voc(root: Path) -> Path:
    (root / "Annotations").mkdir(parents=True)
    for at, stem in enumerate(write_images(root / "JPEGImages")):
        size = "<size><width>24</width><height>24</height><depth>3</depth></size>"
        box = "<bndbox><xmin>3</xmin><ymin>4</ymin><xmax>12</xmax><ymax>15</ymax></bndbox>"
        thing = f"<object><name>{NAMES[at % 3]}</name>{box}</object>"
        (root / "Annotations" / f"{stem}.xml").write_text(
            f"<annotation><filename>{stem}.png</filename>{size}{thing}</annotation>", encoding="utf-8"
        )
    return root


def make_yolo(root: Path) -> Path:
    (root / "labels" / "train").mkdir(parents=True)
    for at, stem in enumerate(write_images(root / "images" / "train")):
        (root / "labels" / "train" / f"{stem}.txt").write_text(f"{at % 3} 0.5 0.5 0.4 0.4\n", encoding="utf-8")
    (root / "data.yaml").write_text("train: images/train\nnames: [cat, dog, eel]\n", encoding="utf-8")
    return root


def make_masks(root: Path) -> Path:
    (root / "masks").mkdir(parents=True)
    for at, stem in enumerate(write_images(root / "images")):
        mask = np.zeros((24, 24), np.uint8)
        mask[4:16, 4:16] = 1 + at % 3
        Image.fromarray(mask).save(root / "masks" / f"{stem}.png")
    return root


def make_table(root: Path) -> Path:
    stems = write_images(root / "pictures")
    with (root / "labels.csv").open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["path", "label", "split"])
        rows.writerows([f"pictures/{s}.png", NAMES[at % 3], "train"] for at, s in enumerate(stems))
    return root / "labels.csv"


def make_mot(root: Path) -> Path:
    home = root / "train" / "walk"
    stems = write_images(home / "img1")
    (home / "gt").mkdir()
    (home / "gt" / "gt.txt").write_text("".join(f"{int(s)},1,2,3,10,12,1,1,1\n" for s in stems), encoding="utf-8")
    return root


MAKERS = {
    "coco": make_coco,
    "voc": make_voc,
    "mot": make_mot,
    "yolo": make_yolo,
    "masks": make_masks,
    "table": make_table,
}
SAID_BY_FORMAT = {
    "voc": {"task": "detection"},
    "mot": {"task": "tracking", "groups": {"video": "video"}},
    "masks": {"task": "segmentation"},
}


@pytest.mark.parametrize("format_name", MAKERS)
def test_what_init_writes_for_a_format_is_a_spec_that_runs(format_name: str, tmp_path: Path) -> None:
    source = MAKERS[format_name](tmp_path / "Some Data")
    wrote = e2e.call("init", source, "--json", cwd=tmp_path)
    assert wrote.code == 0, wrote.err
    assert wrote.json["format"] == format_name
    assert wrote.json["blanks"] == []
    spec = Path(wrote.json["spec"])
    assert spec.parent == tmp_path
    told = yaml.safe_load(spec.read_text(encoding="utf-8"))
    assert {key: told[key] for key in ("task", "groups") if key in told} == SAID_BY_FORMAT.get(format_name, {})
    done = e2e.call("run", spec, "--no-review", "--json", "--quiet", cwd=tmp_path)
    assert done.code in {0, 1}, done.err  # twelve pictures are too few for some gates, never for the run
    assert done.json["counts"]["n_images"] == 12
    assert done.json["counts"]["n_labels"] == (24 if format_name == "masks" else 12)  # a mask's zeros are a class
    assert Path(done.json["manifest"]).is_relative_to(tmp_path / "workspace")


def test_a_reader_that_has_seen_enough_is_no_failure(finished: e2e.Finished) -> None:
    with e2e.start("log", "pets", "--workspace", finished.workspace) as process:
        assert process.stdout
        process.stdout.close()  # as `| head` does, before the first line
        assert process.stderr
        assert process.stderr.read() == ""
        assert process.wait(60) == 0


def test_init_does_not_overwrite_a_spec_and_leaves_a_blank_that_run_explains(tmp_path: Path) -> None:
    stems = write_images(tmp_path / "pictures")
    text = "file,kind,mood\n" + "".join(f"pictures/{s}.png,{'ab'[int(s) % 2]},{int(s) % 3}\n" for s in stems)
    (tmp_path / "things.csv").write_text(text, encoding="utf-8")
    wrote = e2e.call("init", "things.csv", "--json", cwd=tmp_path)
    assert wrote.code == 0, wrote.err
    assert wrote.json["blanks"] == ["source.columns.label"]
    spec = tmp_path / "things.yaml"
    (blank,) = [line for line in spec.read_text(encoding="utf-8").splitlines() if "???" in line]
    assert blank.endswith(
        "WHICH column holds the label? One of: kind, mood"
    )  # the candidates stand beside the blank
    blank = e2e.call("run", spec, cwd=tmp_path)
    assert blank.code == 2
    line = next(
        n for n, text in enumerate(spec.read_text(encoding="utf-8").splitlines(), 1) if "label: ???" in text
    )
    assert f"things.yaml:{line}: source.columns.label is still blank" in blank.err
    again = e2e.call("init", "things.csv", cwd=tmp_path)
    assert again.code == 2
    assert "--force" in again.err
    spec.write_text(re.sub(r"label: \?\?\?.*", "label: kind", spec.read_text(encoding="utf-8")), encoding="utf-8")
    filled = e2e.call("ingest", spec, "--json", "--quiet", cwd=tmp_path)
    assert filled.code == 0, filled.err
    assert filled.json["counts"]["n_labels"] == 12


# -- trying things ---------------------------------------------------------------------------------------------


def test_limit_tries_a_sample_and_touches_no_real_version(finished: e2e.Finished, tmp_path: Path) -> None:
    workspace = tmp_path / "ws"
    shutil.copytree(finished.workspace, workspace)
    done = e2e.call("run", finished.spec, "--workspace", workspace, "--no-review", "--json", "--limit", "12", "-q")
    assert done.code in {0, 1}, done.err
    assert done.json["name"] == "pets-limit-12"
    assert done.json["counts"]["n_images"] == 12
    assert [path.name for path in (workspace / "manifests/pets/versions").iterdir()] == [finished.id]


def test_dry_run_publishes_nothing(finished: e2e.Finished, tmp_path: Path) -> None:
    done = e2e.call("run", finished.spec, "--workspace", tmp_path / "ws", "--dry-run", "--json", "--quiet")
    assert done.code == 0, done.err
    assert (done.json["n_images"], done.json["n_new_images"], done.json["n_classes"]) == (60, 60, 3)
    assert done.json["disk_bytes"] > 0
    assert not (tmp_path / "ws" / "manifests").exists()
    assert not (tmp_path / "ws" / "mongo").exists()


@pytest.mark.mongo
def test_a_run_with_review_starts_a_database_and_db_stop_stops_it(finished: e2e.Finished, tmp_path: Path) -> None:
    workspace = tmp_path / "ws"
    shutil.copytree(finished.workspace, workspace)
    try:
        done = e2e.call("run", finished.spec, "--workspace", workspace, "--json")
        assert done.code == 0, done.err
        assert done.json["id"] == finished.id  # showing it to people changes nothing of the release
        assert "FiftyOne dataset curate-pets: 60 added" in done.err
        status = e2e.call("db", "status", "--workspace", workspace, "--json")
        assert status.json["running"] is True
    finally:
        stopped = e2e.call("db", "stop", "--workspace", workspace, "--json")
    assert stopped.json == {"stopped": True}
    again = e2e.call("db", "stop", "--workspace", workspace, "--json")
    assert again.code == 0
    assert again.json == {"stopped": False}


def test_flag_finds_wrong_ids_in_mot_files(tmp_path: Path) -> None:
    lines = [(frame, one, 100 * one + 2 * frame) for frame in range(1, 41) for one in (1, 2, 3)]
    swap = {1: 2, 2: 1, 3: 3}
    given = [f"{f},{swap[i] if f >= 20 else i},{x},50,40,90,1,1,1\n" for f, i, x in lines]
    (tmp_path / "gt.txt").write_text("".join(given))
    (tmp_path / "t.txt").write_text("".join(f"{f},{i},{x},50,40,90,1,-1,-1\n" for f, i, x in lines))
    out = tmp_path / "flags.parquet"
    options = ("flag", "--task", "tracking", "--labels", tmp_path / "gt.txt", "--out", out)
    done = e2e.call(*options, "--teacher", f"theirs={tmp_path / 't.txt'}", "--json", "--quiet")
    assert done.code == 0
    assert done.json["n"] == len(lines)
    assert done.json["n_flagged"]["id_switch"] == 2
    table = pq.read_table(out).to_pylist()
    first = {(row["frame"], row["id"], row["suggested_id"]) for row in table if row["risk"] >= 0.5}
    assert first == {(20, 1, 2), (20, 2, 1)}
    people = e2e.call(*options, "--quiet")
    assert "no teacher" in people.out


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--task", "trakcing", "--labels", "x"], "Did you mean 'tracking'?"),
        (["--task", "tracking"], "needs --labels"),
        (["--task", "tracking", "--labels", "x", "--teacher", "y"], "--teacher is NAME=PATH"),
        (["--task", "tracking", "--labels", "x", "--teacher", "y=a", "--teacher", "y=b"], "Two teachers"),
        (["--labels", "x"], "which --task"),
    ],
)
def test_flag_explains_options_that_do_not_fit(options: list[str], says: str, tmp_path: Path) -> None:
    done = e2e.call("flag", *options, "--out", tmp_path / "flags.parquet", "--quiet")
    assert done.code == 2
    assert says in done.err


def test_flag_finds_wrong_regions_in_folders_of_masks(tmp_path: Path) -> None:
    for name in ("labels", "seen"):
        (tmp_path / name).mkdir()
    for number in range(4):
        mask = np.full((60, 80), 11, dtype=np.uint8)
        mask[5:55, 5:75] = 0
        mask[20:40, 20 + number : 50 + number] = 1
        Image.fromarray(mask).save(tmp_path / "seen" / f"{number}.png")
        mask[mask == 1] = 2 if number == 2 else 1
        Image.fromarray(mask).save(tmp_path / "labels" / f"{number}.png")
    options = ["--labels", tmp_path / "labels", "--teacher", f"seg={tmp_path / 'seen'}", "--ignore", "11"]
    out = tmp_path / "flags.parquet"
    done = e2e.call("flag", "--task", "segmentation", *options, "--out", out, "--json", "--quiet")
    assert done.code == 0
    assert done.json["n_flagged"]["wrong_class"] == 1
    (row,) = (row for row in pq.read_table(out).to_pylist() if row["flagged"] and row["issue"] != "image")
    assert (row["image"], row["issue"], row["label"], row["suggested_label"]) == ("2", "wrong_class", "2", "1")
