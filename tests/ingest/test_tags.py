"""Several labels an image: every way to write them gives the same labels, and what cannot be read is said."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import awkward
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curate import init
from curate.errors import ConfigError
from curate.ingest import Ingested, ReadOptions, source_named
from curate.schema import MULTI_LABEL

IMAGES = ("a.jpg", "b.jpg", "c.jpg", "d.jpg")
TAGS = (["cat", "dog"], ["dog"], [], None)  # the last one: nobody looked
COLUMNS = {"image": "image", "label": "tags"}


def read(root: Path, format_name: str = "table", **more: Any) -> Ingested:  # noqa: ANN401 - of ReadOptions
    return source_named(format_name).read(ReadOptions(source="s", root=root, **more))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for index, name in enumerate(IMAGES):
        (tmp_path / name).write_bytes(awkward.jpeg(index))
    return tmp_path


def said(found: Ingested) -> dict[str, Any]:
    """Return what is said of each image: its labels, or its state without one."""
    uri = dict(zip(found.samples["sample_id"].to_pylist(), found.samples["uri"].to_pylist(), strict=True))
    told: dict[str, Any] = {
        row["uri"]: row["label_state"] if row["label_state"] != "labeled" else []
        for row in found.samples.to_pylist()
    }
    for row in found.labels.sort_by("label").to_pylist():
        assert row["task"] == MULTI_LABEL
        told[uri[row["sample_id"]]].append(row["label"])
    return told


EXPECTED = {"a.jpg": ["cat", "dog"], "b.jpg": ["dog"], "c.jpg": "negative", "d.jpg": "unlabeled"}


def test_a_list_column_a_separator_columns_and_rows_say_the_same(folder: Path) -> None:
    lists = pa.table({"image": list(IMAGES), "tags": pa.array(TAGS, pa.list_(pa.string()))})
    pq.write_table(lists, folder / "lists.parquet")
    by_list = read(folder / "lists.parquet", columns=COLUMNS)
    assert said(by_list) == EXPECTED

    marks = [[None if tags is None else str(int(name in tags)) for tags in TAGS] for name in ("cat", "dog")]
    pq.write_table(
        pa.table({"image": list(IMAGES), "is_cat": marks[0], "dog": marks[1]}), folder / "columns.parquet"
    )
    options = {"label_columns": {"cat": "is_cat", "dog": "dog"}}
    by_column = read(folder / "columns.parquet", columns={"image": "image"}, options=options)
    assert said(by_column) == EXPECTED

    (folder / "text.csv").write_text("image,tags\na.jpg,cat | dog\nb.jpg,dog\nc.jpg,\n")
    by_text = read(folder / "text.csv", columns=COLUMNS, options={"label_separator": "|"})
    assert said(by_text) == {name: EXPECTED[name] for name in IMAGES[:3]}

    (folder / "rows.csv").write_text("image,tags\na.jpg,dog\na.jpg,cat\nb.jpg,dog\na.jpg,dog\n")
    by_row = read(folder / "rows.csv", columns=COLUMNS, multi_label=True)
    assert said(by_row) == {name: EXPECTED[name] for name in IMAGES[:2]}
    ids = {
        name: set(found.labels["label_id"].to_pylist())
        for name, found in (("l", by_list), ("c", by_column), ("r", by_row))
    }
    assert ids["l"] == ids["c"] == ids["r"]  # a label has one id, however it is written
    for found in (by_list, by_column, by_text, by_row):
        kinds = found.outcomes["outcome"].to_pylist()
        assert kinds.count("added") == found.samples.num_rows + found.labels.num_rows


def test_coco_annotations_without_a_place_are_labels_of_the_image(folder: Path) -> None:
    images = [{"id": at, "file_name": name, "width": 24, "height": 16} for at, name in enumerate(IMAGES[:3])]
    categories = [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}]
    pairs = [(0, 1), (0, 2), (1, 2)]
    annotations = [{"id": at, "image_id": i, "category_id": c} for at, (i, c) in enumerate(pairs)]
    document = {"images": images, "categories": categories, "annotations": annotations}
    (folder / "tags.json").write_text(json.dumps(document))
    assert said(read(folder, "coco", options={"annotations": "tags.json"})) == {
        name: EXPECTED[name] for name in IMAGES[:3]
    }
    for one in annotations:
        one["bbox"] = [1, 1, 5, 5]
    (folder / "boxes.json").write_text(json.dumps(document))
    boxes = read(folder, "coco", options={"annotations": "boxes.json"})
    assert set(boxes.labels["task"].to_pylist()) == {"detection"}
    asked = read(folder, "coco", options={"annotations": "boxes.json"}, multi_label=True)
    assert said(asked) == {name: EXPECTED[name] for name in IMAGES[:3]}


def test_aliases_and_classes_hold_for_each_label(folder: Path) -> None:
    names = [["kitty", "cat"], ["wolf"], [], []]
    pq.write_table(
        pa.table({"image": list(IMAGES), "tags": pa.array(names, pa.list_(pa.string()))}), folder / "t.parquet"
    )
    found = read(folder / "t.parquet", columns=COLUMNS, classes=("cat", "dog"), aliases={"kitty": "cat"})
    assert said(found)["a.jpg"] == ["cat"]
    out = [row for row in found.outcomes.to_pylist() if row["outcome"] == "out"]
    assert [(row["kind"], row["reason_code"]) for row in out] == [("label", "unknown_class")]
    assert said(found)["b.jpg"] == "unlabeled"  # somebody saw something there


def test_a_cell_that_is_neither_yes_nor_no_puts_its_row_out(folder: Path) -> None:
    (folder / "t.csv").write_text("image,cat,dog\na.jpg,1,maybe\nb.jpg,0,1\n")
    found = read(folder / "t.csv", columns={"image": "image"}, options={"label_columns": ["cat", "dog"]})
    assert said(found) == {"b.jpg": ["dog"]}
    assert found.outcomes["reason_code"].to_pylist()[0] == "tag_unclear"


def test_what_cannot_be_meant_is_an_error(folder: Path) -> None:
    pq.write_table(
        pa.table({"image": list(IMAGES), "tags": pa.array(TAGS, pa.list_(pa.string())), "who": ["x"] * 4}),
        folder / "t.parquet",
    )
    with pytest.raises(ConfigError, match="annotator"):
        read(folder / "t.parquet", columns={**COLUMNS, "annotator": "who"})
    with pytest.raises(ConfigError, match="Keep one"):
        read(folder / "t.parquet", columns=COLUMNS, options={"label_columns": ["cat"]})
    with pytest.raises(ConfigError, match=r"needs source\.columns\.label"):
        read(folder / "t.parquet", columns={"image": "image"}, options={"label_separator": ";"})


def test_init_takes_a_list_column_that_is_called_like_labels(folder: Path) -> None:
    pq.write_table(
        pa.table({"image": list(IMAGES), "tags": pa.array(TAGS, pa.list_(pa.string()))}), folder / "t.parquet"
    )
    name, keys = init.recognise(folder / "t.parquet")
    assert name == "table"
    assert keys["columns"] == {"image": "image", "label": "tags"}
