"""YOLO: layouts, names, lines, and what is out."""

from __future__ import annotations

from pathlib import Path

import awkward
import pytest

from curate.errors import InputError
from curate.ingest import Ingested, ReadOptions, source_named

YOLO = source_named("yolo")
NAMES = "names: [cat, 'no: dog', <b>]\n"


def write(root: Path, files: dict[str, str | int]) -> Path:
    """Write texts, and a JPEG for each number."""
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, int):
            path.write_bytes(awkward.jpeg(content))
        else:
            path.write_text(content, encoding="utf-8")
    return root


def read(root: Path, **options: object) -> Ingested:
    return YOLO.read(ReadOptions(source="s", root=root, options=options))


def reasons(found: Ingested) -> list[str]:
    return [code for code in found.outcomes["reason_code"].to_pylist() if code]


def states(found: Ingested) -> dict[str, str]:
    return dict(zip(found.samples["uri"].to_pylist(), found.samples["label_state"].to_pylist(), strict=True))


def splits(found: Ingested) -> dict[str, str]:
    return dict(zip(found.samples["uri"].to_pylist(), found.samples["split"].to_pylist(), strict=True))


def test_boxes_polygons_negatives_and_unlabeled(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "data.yaml": NAMES + "train: images/train\nval: images/val\n",
            "images/train/a b.jpg": 1,
            "images/train/empty.jpg": 2,
            "images/val/ü.JPG": 3,
            "images/val/free.png": 4,
            "labels/train/a b.txt": "1 0.5 0.5 0.25 0.5\n\n2 0.1 0.1 0.3 0.1 0.3 0.5\n",
            "labels/train/empty.txt": "",
            "labels/val/ü.txt": "0 0.5 0.5 1 1",
        },
    )
    assert YOLO.recognises(tmp_path) == {"data": "data.yaml"}
    found = read(tmp_path)
    assert reasons(found) == []
    assert states(found) == {
        "images/train/a b.jpg": "labeled",
        "images/train/empty.jpg": "negative",
        "images/val/ü.JPG": "labeled",
        "images/val/free.png": "unlabeled",
    }
    assert splits(found)["images/val/ü.JPG"] == "val"
    assert found.classes == ("cat", "no: dog", "<b>")
    rows = {row["label"]: row for row in found.labels.to_pylist()}
    assert rows["no: dog"]["bbox"] == [0.375, 0.25, 0.25, 0.5]
    assert rows["<b>"]["polygons"] == [[0.1, 0.1, 0.3, 0.1, 0.3, 0.5]]
    assert rows["<b>"]["bbox"] == pytest.approx([0.1, 0.1, 0.2, 0.4])
    assert rows["<b>"]["source_key"] == "line 3"


@pytest.mark.parametrize(
    ("yaml", "image", "label"),
    [
        ("path: ../datasets/x\ntrain: images\n", "images/a.jpg", "labels/a.txt"),
        ("train: ../train/images\n", "train/images/a.jpg", "train/labels/a.txt"),
        ("path: /home/me/data\ntrain: /home/me/data/train/images\n", "train/images/a.jpg", "train/labels/a.txt"),
        ("path: coco8\ntrain: images/train\n", "coco8/images/train/a.jpg", "coco8/labels/train/a.txt"),
        ("train: [one/images, two/images]\n", "one/images/a.jpg", "one/labels/a.txt"),
        ("train: obj\n", "obj/a.jpg", "obj/a.txt"),
        ("", "train/images/a.jpg", "train/labels/a.txt"),
    ],
)
def test_layouts_in_the_wild(tmp_path: Path, yaml: str, image: str, label: str) -> None:
    write(tmp_path, {"data.yaml": NAMES + yaml, image: 1, label: "0 .5 .5 .5 .5"})
    if "two/" in yaml:
        write(tmp_path, {"two/images/b.jpg": 2})
    found = read(tmp_path)
    assert reasons(found) == []
    assert states(found)[image] == "labeled"
    assert splits(found)[image] == "train"


def test_a_list_of_images_a_mapping_of_names_and_a_zip(tmp_path: Path) -> None:
    files: dict[str, str | int] = {
        "set/data.yml": "names: {0: cat, '5': dog}\ntrain: train.txt\n",
        "set/train.txt": "./images/a.jpg\nimages/gone.jpg\n../../../etc/passwd\n",
        "set/images/a.jpg": 1,
        "set/labels/a.txt": "5 .5 .5 .5 .5\n",
    }
    root = write(tmp_path / "x", files)
    members = {name: (root / name).read_bytes() for name in files}
    for path in (root, awkward.write_zip(tmp_path / "s.zip", members)):
        found = read(path, **(YOLO.recognises(path) or {}))
        assert found.labels["label"].to_pylist() == ["dog"]
        assert reasons(found) == ["missing_file", "path_leaves_root"]
        assert found.samples.num_rows == 1


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("3 .5 .5 .1 .1", "class_out_of_range"),
        ("-1 .5 .5 .1 .1", "class_out_of_range"),
        ("0.5 .5 .5 .1 .1", "class_out_of_range"),
        ("nan .5 .5 .1 .1", "class_out_of_range"),
        ("cat .5 .5 .1 .1", "yolo_line_malformed"),
        ("0 .5 .5 .1", "yolo_line_malformed"),
        ("0 .5 .5 .1 .1 .9", "yolo_line_malformed"),
        ("0", "yolo_line_malformed"),
        ("0 nan .5 .1 .1", "box_not_numbers"),
        ("0 inf .5 .1 .1", "box_not_numbers"),
        ("0 .5 .5 -.1 .1", "box_inverted"),
        ("0 .5 .5 0 .1", "box_zero_area"),
        ("0 .9 .5 .5 .1", "box_outside"),
        ("0 320 240 100 90", "box_outside"),
        ("0 1e400 .5 .1 .1", "box_not_numbers"),
        ("0 .1 .1 .2 .2 nan .3", "polygon_malformed"),
    ],
)
def test_a_bad_line_is_out_and_its_image_is_not_negative(tmp_path: Path, line: str, code: str) -> None:
    write(tmp_path, {"data.yaml": NAMES, "images/a.jpg": 1, "labels/a.txt": line + "\n"})
    found = read(tmp_path)
    assert reasons(found) == [code]
    assert states(found) == {"images/a.jpg": "unlabeled"}


def test_orphans_unreadable_texts_and_missing_splits_are_said(tmp_path: Path) -> None:
    write(
        tmp_path, {"data.yaml": NAMES + "train: images\nval: nowhere\n", "images/a.jpg": 1, "labels/b.txt": "0 .5"}
    )
    (tmp_path / "labels" / "a.txt").write_bytes(b"\xff\xfe\x00")
    found = read(tmp_path)
    assert sorted(reasons(found)) == ["annotation_file_unreadable", "label_without_image", "split_not_there"]
    assert states(found) == {"images/a.jpg": "unlabeled"}


@pytest.mark.parametrize(
    "text",
    [
        "names: !!python/object/apply:os.system ['true']",
        "names: 5",
        "names: []",
        "names: [[a]]",
        "names: {a: b}",
        "[1, 2]",
        "a: [",
        "names: [a]\n",
    ],
)
def test_an_unknown_layout_is_an_error_that_names_the_file(tmp_path: Path, text: str) -> None:
    write(tmp_path, {"data.yaml": text})
    with pytest.raises(InputError, match=r"data\.yaml"):
        read(tmp_path, data="data.yaml")


def test_not_recognised(tmp_path: Path) -> None:
    assert YOLO.recognises(write(tmp_path, {"cat/a.jpg": 1})) is None
    write(tmp_path, {"classes.txt": "cat\ndog\n", "images/a.jpg": 1, "labels/a.txt": "1 .5 .5 .5 .5\n"})
    assert YOLO.recognises(tmp_path) == {"data": "classes.txt"}
    found = read(tmp_path)
    assert found.labels["label"].to_pylist() == ["dog"]
