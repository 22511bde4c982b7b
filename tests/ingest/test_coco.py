"""COCO: what is read, what is out and why, and that nothing hostile does more than that."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from random import Random
from typing import Any

import awkward
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curate import schema
from curate.errors import InputError
from curate.ingest import Ingested, ReadOptions, source_named
from curate.ingest.location import Problem
from curate.ingest.rle import area_of_mask, box_of_mask, decode_mask, encode_mask, mask_of_coco, runs_of

COCO = source_named("coco")


def document(**changes: object) -> dict[str, Any]:
    images = [
        {"id": 7, "file_name": "a/one.jpg", "width": 24, "height": 16},
        {"id": 9, "file_name": "two words.jpg", "width": 24, "height": 16},
        {"id": 11, "file_name": "empty.jpg", "width": 24, "height": 16},
    ]
    annotations = [
        {"id": 1, "image_id": 7, "category_id": 90, "bbox": [1.5, 2.25, 10.1, 5], "iscrowd": 0},
        {
            "id": 2,
            "image_id": 9,
            "category_id": -3,
            "bbox": [0, 0, 24, 16],
            "segmentation": [[0, 0, 24, 0, 24, 16]],
        },
    ]
    categories = [{"id": 90, "name": "zebra <b>"}, {"id": -3, "name": "ant"}]
    return {"images": images, "annotations": annotations, "categories": categories, **changes}


def write(root: Path, content: object, name: str = "labels.json") -> Path:
    (root / "images" / "a").mkdir(parents=True, exist_ok=True)
    for index, image in enumerate(("a/one.jpg", "two words.jpg", "empty.jpg")):
        (root / "images" / image).write_bytes(awkward.jpeg(index))
    (root / name).write_text(content if isinstance(content, str) else json.dumps(content))
    return root


def read(root: Path, **options: object) -> Ingested:
    found = COCO.read(ReadOptions(source="s", root=root, options=options))
    n = Counter(found.outcomes["outcome"].to_pylist())
    assert found.outcomes.num_rows == n["added"] + n["already present"] + n["out"]
    assert found.samples.schema.equals(schema.SAMPLES)
    assert found.labels.schema.equals(schema.LABELS)
    return found


def reasons(found: Ingested) -> list[str]:
    return [code for code in found.outcomes["reason_code"].to_pylist() if code]


def annotated(tmp_path: Path, **changes: object) -> Ingested:
    base = document()["annotations"][0]
    return read(write(tmp_path, document(annotations=[{**base, **changes}])))


def test_boxes_negatives_sub_folders_and_the_order_of_classes(tmp_path: Path) -> None:
    found = read(write(tmp_path, document()))
    states = dict(zip(found.samples["uri"].to_pylist(), found.samples["label_state"].to_pylist(), strict=True))
    assert states == {
        "images/a/one.jpg": "labeled",
        "images/two words.jpg": "labeled",
        "images/empty.jpg": "negative",
    }
    assert found.classes == ("zebra <b>", "ant")
    assert reasons(found) == []
    row = next(row for row in found.labels.to_pylist() if row["source_key"] == "1")
    assert row["task"] == "detection"
    assert row["bbox"] == [1.5 / 24, 2.25 / 16, 10.1 / 24, 5 / 16]


def test_recognises_a_json_a_folder_a_tar_and_a_zip(tmp_path: Path) -> None:
    root = write(tmp_path / "set", document())
    members = {f"set/{p.relative_to(root).as_posix()}": p.read_bytes() for p in root.rglob("*") if p.is_file()}
    tar, gz = (
        awkward.write_tar(tmp_path / "s.tar", members),
        awkward.write_tar(tmp_path / "s.tgz", members, mode="w:gz"),
    )
    archive = awkward.write_zip(tmp_path / "s.zip", members)
    for path in (root / "labels.json", root, tar, gz, archive):
        options = COCO.recognises(path)
        assert options is not None, path
        found = read(path, **options)
        assert (found.samples.num_rows, found.labels.num_rows, reasons(found)) == (3, 2, [])
    (tmp_path / "other.json").write_text('{"shapes": [], "images": "x"}')
    assert COCO.recognises(tmp_path / "other.json") is None


def test_splits_by_file_name_get_recognised(tmp_path: Path) -> None:
    for split in ("train2017", "val2017"):
        (tmp_path / split).mkdir()
        (tmp_path / split / "x.jpg").write_bytes(awkward.jpeg())
        (tmp_path / "annotations").mkdir(exist_ok=True)
        content = {
            "images": [{"id": 1, "file_name": "x.jpg", "width": 24, "height": 16}],
            "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 1, 2, 2]}],
            "categories": [{"id": 1, "name": "cat"}],
        }
        (tmp_path / "annotations" / f"instances_{split}.json").write_text(json.dumps(content))
    options = COCO.recognises(tmp_path)
    assert options is not None
    found = read(tmp_path, **options)
    assert dict(zip(found.samples["uri"].to_pylist(), found.samples["split"].to_pylist(), strict=True)) == {
        "train2017/x.jpg": "train",
        "val2017/x.jpg": "val",
    }
    assert found.labels.num_rows == 2


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"bbox": [float("nan"), 0, 1, 1]}, "box_not_numbers"),
        ({"bbox": [float("inf"), 0, 1, 1]}, "box_not_numbers"),
        ({"bbox": [10**400, 0, 1, 1]}, "box_not_numbers"),
        ({"bbox": ["1", "2", "3", "4"]}, "box_not_numbers"),
        ({"bbox": [1, 2, 3]}, "box_not_numbers"),
        ({"bbox": {"x": 1}}, "box_not_numbers"),
        ({"bbox": [True, 0, 5, 5]}, "box_not_numbers"),
        ({"bbox": [5, 5, -2, 3]}, "box_inverted"),
        ({"bbox": [5, 5, 0, 3]}, "box_zero_area"),
        ({"bbox": [20, 5, 10, 3]}, "box_outside"),
        ({"bbox": [1e300, 5, 10, 3]}, "box_outside"),
        ({"bbox": None}, "box_missing"),
        ({"category_id": 4}, "unknown_category"),
        ({"category_id": [90]}, "unknown_category"),
        ({"image_id": 8}, "unknown_image"),
        ({"image_id": {"a": 1}}, "unknown_image"),
        ({"segmentation": [[1, 2, 3, 4]]}, "polygon_malformed"),
        ({"segmentation": [[1, 2, 3, 4, 5, "6"]]}, "polygon_malformed"),
        ({"segmentation": [[1, 2, 3, 4, 5, float("nan")]]}, "polygon_malformed"),
        ({"segmentation": "none"}, "polygon_malformed"),
        ({"segmentation": {"size": [16, 24], "counts": [1, 2]}}, "mask_malformed"),
        ({"segmentation": {"size": [16, 24], "counts": [-1, 385]}}, "mask_malformed"),
        ({"segmentation": {"size": [16, 24], "counts": "garbage\u00e9"}}, "mask_malformed"),
        ({"segmentation": {"size": [16, 24], "counts": ""}}, "mask_malformed"),
        ({"segmentation": {"size": [10**9, 10**9], "counts": [10**18]}}, "mask_size_mismatch"),
        ({"segmentation": {"size": "big", "counts": [384]}}, "mask_malformed"),
    ],
)
def test_an_unusable_annotation_is_out_and_its_image_is_not_negative(
    tmp_path: Path, changes: dict[str, Any], code: str
) -> None:
    found = annotated(tmp_path, **changes)
    assert reasons(found) == [code]
    assert found.labels.num_rows == 0
    states = dict(zip(found.samples["uri"].to_pylist(), found.samples["label_state"].to_pylist(), strict=True))
    assert states["images/a/one.jpg"] == ("negative" if code == "unknown_image" else "unlabeled")


@pytest.mark.parametrize(
    ("image", "code"),
    [
        ({"id": 5, "file_name": "../../outside.jpg"}, "path_leaves_root"),
        ({"id": 5, "file_name": "/etc/passwd"}, "path_leaves_root"),
        ({"id": 5, "file_name": "gone.jpg"}, "missing_file"),
        ({"id": 5, "file_name": 17}, "path_missing"),
        ({"id": 5, "file_name": "a\0b.jpg"}, "path_unusable"),
        ({"file_name": "a/one.jpg"}, "id_missing"),
        ("text", "id_missing"),
    ],
)
def test_an_unusable_image_is_out_and_takes_its_annotations_along(tmp_path: Path, image: object, code: str) -> None:
    (tmp_path / "outside.jpg").write_bytes(awkward.jpeg())
    content = document()
    content["images"].append(image)
    content["annotations"].append({"id": 3, "image_id": 5, "category_id": 90, "bbox": [1, 1, 2, 2]})
    found = read(write(tmp_path / "set", content), images="images")
    assert reasons(found) == [code, "unknown_image" if code == "id_missing" else "image_not_there"]
    assert found.samples.num_rows == 3


def test_an_id_with_two_files_is_out_and_one_with_the_same_is_there_already(tmp_path: Path) -> None:
    content = document()
    content["images"] += [{**content["images"][0]}, {**content["images"][1], "file_name": "empty.jpg"}]
    found = read(write(tmp_path, content))
    assert Counter(reasons(found)) == {"duplicate_id": 2, "image_not_there": 1}
    assert "already present" in found.outcomes["outcome"].to_pylist()


def test_an_annotation_id_with_two_contents_is_out_and_a_repeated_one_is_there_already(tmp_path: Path) -> None:
    content = document()
    first, second = content["annotations"]
    content["annotations"] = [first, dict(first), second, {**second, "bbox": [1, 1, 3, 3]}]
    found = read(write(tmp_path, content))
    assert found.labels["source_key"].to_pylist() == ["1"]
    assert reasons(found) == ["duplicate_id", "duplicate_id"]


@pytest.mark.parametrize(
    "text",
    [
        '{"images": [',
        "[" * 100_000,
        '{"images": {"a": 1}}',
        "[]",
        "",
        '{"images": [{"id": ' + "9" * 5000 + "}]}",
        "\udce9",
    ],
)
def test_a_file_that_is_no_coco_is_one_outcome(tmp_path: Path, text: str) -> None:
    (tmp_path / "labels.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    found = read(tmp_path / "labels.json")
    assert reasons(found) == ["annotation_file_malformed"]
    assert found.samples.num_rows == 0


def test_a_folder_without_any_says_so(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"source\.annotations"):
        read(tmp_path)


def test_a_missing_size_is_taken_from_the_upright_image(tmp_path: Path) -> None:
    write(tmp_path, document())
    (tmp_path / "images" / "a" / "one.jpg").write_bytes(awkward.variants()["exif_rotated.jpg"])
    content = document()
    content["images"][0] = {"id": 7, "file_name": "a/one.jpg", "width": "24", "height": 0}
    (tmp_path / "labels.json").write_text(json.dumps(content))
    row = next(row for row in read(tmp_path).labels.to_pylist() if row["source_key"] == "1")
    assert row["bbox"] == [1.5 / 16, 2.25 / 24, 10.1 / 16, 5 / 24]


def test_crowds_masks_and_boxes_round_them(tmp_path: Path) -> None:
    area = np.zeros((16, 24), bool)
    area[3:7, 5:9] = True
    runs = runs_of(encode_mask(area)["counts"])
    assert runs is not None
    for counts in (encode_mask(area)["counts"].decode(), runs.tolist()):
        segmentation = {"size": [16, 24], "counts": counts}
        found = annotated(tmp_path, bbox=None, iscrowd=1, segmentation=segmentation)
        row = found.labels.to_pylist()[0]
        assert row["flags"] == ["crowd"]
        assert row["bbox"] == [5 / 24, 3 / 16, 4 / 24, 4 / 16]
        assert (decode_mask(row["mask"]) == area).all()


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 12), st.integers(1, 12), st.randoms(use_true_random=False))
def test_masks_round_trip_and_measure_what_numpy_measures(height: int, width: int, random: Random) -> None:
    area = np.array([[random.random() < 0.5 for _ in range(width)] for _ in range(height)])
    mask = encode_mask(area)
    again = mask_of_coco({"size": [height, width], "counts": mask["counts"].decode()}, width, height)
    assert again == mask
    assert (decode_mask(mask) == area).all()
    assert area_of_mask(mask) == area.sum()
    box = box_of_mask(mask)
    if not area.any():
        assert box is None
        return
    rows, columns = np.flatnonzero(area.any(axis=1)), np.flatnonzero(area.any(axis=0))
    expected = [columns[0] / width, rows[0] / height]
    expected += [(columns[-1] - columns[0] + 1) / width, (rows[-1] - rows[0] + 1) / height]
    assert box == expected


@settings(max_examples=200, deadline=None)
@given(st.one_of(st.text(max_size=30), st.lists(st.integers(-5, 2**40), max_size=6), st.none(), st.floats()))
def test_no_counts_crash_the_reader(counts: object) -> None:
    result = mask_of_coco({"size": [4, 5], "counts": counts}, 5, 4)
    assert isinstance(result, Problem) or decode_mask(result).shape == (4, 5)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=8,
)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(JSON, max_size=3), st.lists(st.dictionaries(st.sampled_from(["id", "image_id", "bbox"]), JSON)), JSON
)
def test_every_item_of_any_file_ends_in_one_outcome(
    tmp_path_factory: pytest.TempPathFactory, images: list[Any], annotations: list[Any], categories: object
) -> None:
    content = {"images": images, "annotations": annotations, "categories": categories}
    path = tmp_path_factory.mktemp("any") / "labels.json"
    path.write_text(json.dumps(content))
    if not images and not annotations:
        return
    found = COCO.read(ReadOptions(source="s", root=path))
    assert found.outcomes.num_rows == len(images) + len(annotations)
    assert pa.compute.all(pa.compute.is_valid(found.outcomes["reason_code"])).as_py()


def corner_set(n: int, *, overhang: float = 0.0) -> dict[str, Any]:
    """Return n boxes of 8 x 6 px in images of 24 x 16, as corners; or as sizes that overhang a little."""
    starts = [(at % 5 * 4, at % 4 * 3) for at in range(n)]
    boxes = [[x, y, 8 + overhang, 6 + overhang] if overhang else [x, y, x + 8, y + 6] for x, y in starts]
    return document(
        annotations=[{"id": at, "image_id": 7, "category_id": 90, "bbox": box} for at, box in enumerate(boxes)]
    )


def test_corners_are_refused_but_not_of_few_boxes_nor_boxes_that_overhang(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="corners"):
        read(write(tmp_path / "corners", corner_set(40)))
    assert read(write(tmp_path / "few", corner_set(10))).labels.num_rows > 0
    assert read(write(tmp_path / "over", corner_set(40, overhang=2.0))).labels.num_rows > 0
