"""What is packed is read by those whom it is for: `datasets`, `webdataset`, DuckDB, pandas."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import shutil
import tarfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import end_to_end as e2e
import numpy as np
import pyarrow.parquet as pq
import pytest

import curate.feed
from curate import schema
from curate.errors import ConfigError, InputError
from curate.export.packed import export_packed
from curate.export.record import MARKER
from curate.export.verbs import export_lines, export_version
from curate.feed.release import Feed
from curate.manifest import life
from curate.policy import Policy

Publish = Callable[..., Any]


@pytest.fixture
def load(tmp_path: Path) -> Callable[[Path], Any]:
    """Return a function that loads a folder with the `datasets` package, without network or a cache of the user's."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of packages that it brings
        import datasets  # noqa: PLC0415 - it takes seconds

    datasets.disable_progress_bars()
    return lambda folder: datasets.load_dataset(str(folder), cache_dir=str(tmp_path / "hf-cache"))


def pixels(feed: Feed) -> dict[str, tuple[str, int, Any]]:
    """Return id -> hash of the pixels, label and soft label, as the feed gives them."""
    dataset = feed.dataset()
    found = {}
    for at in range(len(dataset)):
        item = dataset[at]
        image = item["image"].permute(1, 2, 0).numpy()
        soft = item["soft"]["probs"].tolist() if item["soft"]["known"] else None
        found[item["id"]] = (hashlib.sha256(image.tobytes()).hexdigest(), int(item["label"]), soft)
    return found


def digest(image: Any) -> str:  # noqa: ANN401 - a picture
    return hashlib.sha256(np.ascontiguousarray(np.asarray(image.convert("RGB"))).tobytes()).hexdigest()


def test_hugging_face_datasets_reads_what_the_feed_gives(
    feed: Feed, tmp_path: Path, load: Callable[[Path], Any]
) -> None:
    written = export_packed(feed, tmp_path / "out", format="hf", shard_bytes=40_000)
    assert (written.n_images, written.n_labels) == (45, 45)
    assert len([path for path in written.paths if path.name.startswith("train")]) > 1
    read = load(tmp_path / "out")
    assert sorted(read) == ["test", "train"]
    features = read["train"].features
    assert type(features["image"]).__name__ == "Image"
    assert features["label"].names == list(feed.classes)
    rows = [row for split in read.values() for row in split]
    assert {row["id"]: (digest(row["image"]), row["label"], row["probs"]) for row in rows} == pixels(feed)
    assert sum(row["probs"] is None for row in rows) == 1


def test_webdataset_reads_what_the_feed_gives(feed: Feed, tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import webdataset  # noqa: PLC0415 - beside the code that needs it

        export_packed(feed, tmp_path / "out", format="webdataset", shard_bytes=40_000)
        shards = sorted(str(path) for path in (tmp_path / "out").glob("*.tar"))
        read = list(webdataset.WebDataset(shards, shardshuffle=False).decode("pil"))
    found = {
        sample["__key__"]: (
            digest(sample["png"]),
            sample["cls"],
            sample["probs.npy"].tolist() if "probs.npy" in sample else None,
        )
        for sample in read
    }
    assert found == pixels(feed)
    first = read[0]["json"]
    assert first["class"] == feed.classes[first["label"]]
    assert Path(first["uri"]).parent.name == first["given_label"] == first["class"]


@pytest.fixture
def one_unlabeled(feed: Feed) -> tuple[Feed, str]:
    """A feed in which one image has no label, as one that people looked at and put into no class; and its id."""
    labels = feed.rows.labels.copy()
    labels[3] = -1
    return dataclasses.replace(feed, rows=dataclasses.replace(feed.rows, labels=labels)), feed.rows.ids()[3]


def test_an_image_without_a_label_has_none_in_hugging_face(
    one_unlabeled: tuple[Feed, str], tmp_path: Path, load: Callable[[Path], Any]
) -> None:
    feed, absent = one_unlabeled
    written = export_packed(feed, tmp_path / "out", format="hf")
    assert (written.n_images, written.n_labels, written.n_without_label) == (45, 44, 1)
    rows = [row for split in load(tmp_path / "out").values() for row in split]
    assert [row["id"] for row in rows if row["label"] is None] == [absent]
    assert {row["label"] for row in rows} == {None, 0, 1, 2}


def test_an_image_without_a_label_has_no_class_file(one_unlabeled: tuple[Feed, str], tmp_path: Path) -> None:
    feed, absent = one_unlabeled
    export_packed(feed, tmp_path / "out", format="webdataset")
    assert json.loads((tmp_path / "out" / MARKER).read_text())["n_without_label"] == 1
    held: dict[str, bytes] = {}
    for shard in (tmp_path / "out").glob("*.tar"):
        with tarfile.open(shard) as tar:
            held |= {member.name: tar.extractfile(member).read() for member in tar}  # type: ignore[union-attr]
    told = json.loads(held[f"{absent}.json"])
    assert (told["label"], told["class"]) == (None, None)
    assert f"{absent}.cls" not in held
    classes = [data for name, data in held.items() if name.endswith(".cls")]
    assert (len(classes), set(classes)) == (44, {b"0", b"1", b"2"})


@pytest.mark.parametrize("form", ["hf", "webdataset", "csv"])
def test_what_should_not_be_trained_on_is_not_exported_unless_told(
    form: str, publish_version: Publish, pictures: Path, tmp_path: Path
) -> None:
    published = publish_version(pictures, tmp_path, policy=Policy())  # suites that never ran: gates failed
    record = {"source_root": str(pictures), "state": "done", "stages": [{"stage": "ingest", "key": "k"}]}
    for folder in ("runs/1", "cache/ingest"):
        (tmp_path / "pets" / folder).mkdir(parents=True)
    (tmp_path / "pets" / "runs" / "1" / "run.json").write_text(json.dumps(record))
    pq.write_table(schema.empty(schema.SAMPLES), tmp_path / "pets" / "cache" / "ingest" / "k.samples.parquet")

    def exported(**allowed: bool) -> dict[str, Any]:
        told = export_version(
            tmp_path, f"pets@{published.id}", format=form, out=tmp_path / "out", images="none", **allowed
        )
        marker = json.loads((tmp_path / "out" / MARKER).read_text())
        assert {key: marker[key] for key in ("version", "gates", "retracted")} == {
            "version": published.id,
            "gates": told["gates"],
            "retracted": told["retracted"],
        }
        return {"told": "\n".join(export_lines(told)), **told}

    with pytest.raises(InputError, match=r"marked `gates: failed`.*--allow-failed-gates"):
        exported()
    assert not (tmp_path / "out").exists()
    told = exported(allow_failed_gates=True)
    assert (told["gates"], told["retracted"]) == ("failed", None)
    assert "gates: failed" in told["told"]
    life.retract(tmp_path / "manifests", f"pets@{published.id}", why="wrong license")
    with pytest.raises(ConfigError, match=r"wrong license.*--retracted"):
        exported(allow_failed_gates=True)
    told = exported(allow_failed_gates=True, retracted=True)
    assert told["retracted"]["why"] == "wrong license"
    assert "RETRACTED" in told["told"]


def test_packed_bytes_follow_from_the_version_alone(feed: Feed, tmp_path: Path) -> None:
    for name in ("hf", "webdataset"):
        for at in "ab":
            export_packed(feed, tmp_path / at, format=name)
        files = {
            at: {path.name: path.read_bytes() for path in (tmp_path / at).rglob("*") if path.is_file()}
            for at in "ab"
        }
        assert files["a"] == files["b"]
    with tarfile.open(tmp_path / "a" / "train-000000.tar") as tar:
        assert {(member.mtime, member.uid, member.uname) for member in tar} == {(0, 0, "")}


def test_boxes_with_cut_off_soft_labels_are_packed(
    publish_version: Publish, tmp_path: Path, load: Callable[[Path], Any]
) -> None:
    root = tmp_path / "data"
    root.mkdir()
    for at in range(3):
        e2e.picture(at, at, 40).save(root / f"{at}.png")
    boxes = [(0, 1, [4, 8, 10, 20]), (0, 2, [0, 0, 40, 40]), (2, 3, [20, 10, 20, 30])]
    content = {
        "images": [{"id": at, "file_name": f"{at}.png", "width": 40, "height": 40} for at in range(3)],
        "annotations": [
            {"id": at, "image_id": image, "category_id": category, "bbox": box}
            for at, (image, category, box) in enumerate(boxes)
        ],
        "categories": [{"id": at, "name": f"c{at}"} for at in (1, 2, 3, 4)],
    }
    (root / "boxes.json").write_text(json.dumps(content), encoding="utf-8")
    policy = Policy(use_default_gates=False, soft_layout="top_k", soft_top_k=2)
    how = {"format": "coco", "options": {"annotations": "boxes.json"}}
    publish_version(root, tmp_path / "ws", how=how, policy=policy, silent=(0,))
    feed = curate.feed.open("pets", workspace=tmp_path / "ws", images=root)
    export_packed(feed, tmp_path / "hf", format="hf")
    (split,) = load(tmp_path / "hf").values()
    rows = {row["image"].size and len(row["objects"]["bbox"]): row for row in split}
    assert sorted(rows) == [0, 1, 2]
    assert rows[1]["objects"]["bbox"] == [[20.0, 10.0, 20.0, 30.0]]
    assert {len(one) for row in rows.values() for one in row["top_classes"] if one is not None} == {2}
    assert split.features["objects"]["category"].feature.names == list(feed.classes)
    assert sum(one is None for row in rows.values() for one in row["top_probs"]) == 1
    export_packed(feed, tmp_path / "wds", format="webdataset")
    with tarfile.open(next((tmp_path / "wds").glob("*.tar"))) as tar:
        arrays = [
            np.load(io.BytesIO(tar.extractfile(member).read()))  # type: ignore[union-attr]
            for member in tar
            if member.name.endswith("top_probs.npy")
        ]
    assert sorted(array.shape for array in arrays) == [(0, 2), (1, 2), (2, 2)]
    assert sum(int(np.isnan(array).any(axis=1).sum()) for array in arrays) == 1


def test_boxes_of_tracks_are_packed_with_id_and_frame(
    publish_version: Publish, tmp_path: Path, load: Callable[[Path], Any]
) -> None:
    frames, lines = tmp_path / "data" / "walk" / "img1", []
    frames.mkdir(parents=True)
    for number in (1, 2, 3):
        e2e.picture(number % 3, number, 40).save(frames / f"{number:06}.png")
        lines += [f"{number},{track},{4 * track},8,10,20,1,1,1" for track in (7, 2)[: 3 - number]]
    (frames.parent / "gt").mkdir()
    (frames.parent / "gt" / "gt.txt").write_text("\n".join(lines) + "\n", encoding="ascii")
    policy = Policy(use_default_gates=False)
    publish_version(tmp_path / "data", tmp_path / "ws", how={"format": "mot"}, policy=policy)
    feed = curate.feed.open("pets", workspace=tmp_path / "ws", images=tmp_path / "data")
    assert feed.task == "tracking"
    export_packed(feed, tmp_path / "hf", format="hf")
    (split,) = load(tmp_path / "hf").values()
    wanted = [(0, {"7": 28.0, "2": 8.0}), (1, {"7": 28.0})]
    told = [(row["frame"], row["objects"]) for row in split]
    assert sorted((frame, by_track(objects)) for frame, objects in told if objects["bbox"]) == wanted
    export_packed(feed, tmp_path / "wds", format="webdataset")
    with tarfile.open(next((tmp_path / "wds").glob("*.tar"))) as tar:
        texts = [tar.extractfile(one).read() for one in tar if one.name.endswith(".json")]  # type: ignore[union-attr]
    rows = [json.loads(text) for text in texts]
    told = [(row["frame"], row["objects"]) for row in rows]
    assert sorted((frame, by_track(objects)) for frame, objects in told if objects["bbox"]) == wanted
    assert len(split) == len(rows) == 3


def by_track(objects: dict[str, Any]) -> dict[str, float]:
    """Return track id -> left edge in pixels."""
    return {track: box[0] for track, box in zip(objects["track_id"], objects["bbox"], strict=True)}


def test_a_foreign_folder_is_left_alone(feed: Feed, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("x")
    with pytest.raises(ConfigError, match="no export of curate"):
        export_packed(feed, tmp_path, format="hf")
    with pytest.raises(ConfigError, match="Formats: hf, webdataset"):
        export_packed(feed, tmp_path / "out", format="tfrecord")
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


@pytest.mark.parametrize("name", ["hf", "webdataset"])
def test_the_command_line_packs(name: str, finished: e2e.Finished, tmp_path: Path) -> None:
    copied = shutil.copytree(finished.workspace / "manifests", tmp_path / "moved")  # releases may lie anywhere
    told = ("--workspace", finished.workspace, "--manifests", copied, "--json")
    done = e2e.call("export", "pets", "--format", name, "--out", tmp_path / "out", *told)
    assert done.code == 0, done.err
    assert done.json["n_images"] == done.json["n_labels"] > 0
    assert done.json["n_left_out"] == 0
    assert (tmp_path / "out" / "curate-export.json").is_file()


def test_duckdb_and_pandas_read_a_version_without_curate(workspace: Path, feed: Feed) -> None:
    import duckdb  # noqa: PLC0415 - beside the code that needs it
    import pandas as pd  # noqa: PLC0415 - as above

    version = next((workspace / "manifests" / "pets" / "versions").iterdir())
    counts = duckdb.sql(
        f"select d.released_label, count(*), avg(list_max(s.probs::float[])) "  # noqa: S608 - a path of ours
        f"from '{version}/data/*.parquet' d positional join '{version}/soft/*.parquet' s "
        f"where d.label_id = s.label_id group by all order by 1"
    ).fetchall()
    assert [(name, n) for name, n, _ in counts] == [(name, 15) for name in feed.classes]
    assert all(1 / 3 < mean <= 1 for _, _, mean in counts)
    frame = pd.read_parquet(version / "data").join(pd.read_parquet(version / "soft")[["probs"]])
    assert frame["probs"].map(lambda p: p is None or len(p) == 3).all()


def test_duckdb_reads_what_is_cut_off(publish_version: Publish, pictures: Path, tmp_path: Path) -> None:
    import duckdb  # noqa: PLC0415 - beside the code that needs it

    policy = Policy(use_default_gates=False, soft_layout="sampled", soft_top_k=2)
    version = publish_version(pictures, tmp_path, policy=policy).path
    (row,) = duckdb.sql(
        f"select count(*), min(list_max(top_classes)), max(list_max(tail_classes)), "  # noqa: S608 - a path of ours
        f"max(list_sum(top_probs::float[]) + tail_mass) from '{version}/soft/*.parquet'"
    ).fetchall()
    assert row[0] == 45
    assert 0 < row[1] <= row[2] == 2
    assert row[3] == pytest.approx(1, abs=2e-3)
