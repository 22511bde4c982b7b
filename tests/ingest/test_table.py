from __future__ import annotations

import csv
import io
from collections import Counter
from pathlib import Path
from typing import Any

import awkward
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.errors import ConfigError, InputError
from curate.ingest import source_named
from curate.ingest.media import open_media
from curate.ingest.source import Ingested, ReadOptions
from curate.ingest.splits import split_name, split_of_shard
from curate.ingest.table import SOURCE
from curate.spec import MISSING

COLUMNS = {"image": "image", "label": "label"}


def read(root: Path, columns: dict[str, str] | None = None, **keywords: Any) -> Ingested:  # noqa: ANN401 - any option
    return SOURCE.read(ReadOptions("s", root, columns=columns or COLUMNS, **keywords))


def write_csv(path: Path, rows: list[list[object]], *, encoding: str = "utf-8", delimiter: str = ",") -> Path:
    text = io.StringIO(newline="")
    csv.writer(text, delimiter=delimiter).writerows(rows)
    path.write_bytes(text.getvalue().encode(encoding))
    return path


def labels_by_uri(ingested: Ingested) -> dict[str, str]:
    uri = dict(zip(*(ingested.samples[n].to_pylist() for n in ("sample_id", "uri")), strict=True))
    return {uri[row["sample_id"]]: row["label"] for row in ingested.labels.to_pylist()}


def out_of(ingested: Ingested) -> dict[str, str]:
    rows = ingested.outcomes.to_pylist()
    return {row["row"]: row["reason_code"] for row in rows if row["outcome"] == "out"}


@pytest.mark.parametrize(
    ("name", "encoding", "delimiter"),
    [
        ("t.csv", "utf-8", ","),
        ("t.csv", "utf-8-sig", ";"),
        ("t.CSV", "utf-16", "|"),
        ("t.tsv", "utf-8", "\t"),
        ("t.csv", "utf-8", "\t"),
    ],
)
def test_awkward_names_and_labels_come_back(tmp_path: Path, name: str, encoding: str, delimiter: str) -> None:
    wanted = {}
    rows: list[list[object]] = [["image", "größe", "label", "split"]]
    for index, own in enumerate(awkward.NAMES):
        label = awkward.LABELS[index % len(awkward.LABELS)]
        (tmp_path / "my images").mkdir(exist_ok=True)
        (tmp_path / "my images" / own).write_bytes(awkward.png(index))
        rows.append([own, "ä,;\n", label, "Validation"])
        wanted[f"my images/{own}"] = label
    table = write_csv(tmp_path / name, rows, encoding=encoding, delimiter=delimiter)
    ingested = read(
        table, {**COLUMNS, "split": "split"}, attributes={"size": "größe"}, options={"images": "my images/"}
    )
    assert out_of(ingested) == {}
    assert labels_by_uri(ingested) == wanted
    assert set(ingested.samples["split"].to_pylist()) == {"val"}
    assert set(ingested.samples["attr_size"].to_pylist()) == {"ä,;\n"}
    media = open_media(table, tmp_path / "scratch")
    assert all(media.read(ingested.samples))
    assert [path.name for path in media.paths(ingested.samples)] == [u.split("/")[-1] for u in sorted(wanted)]


def test_csv_rows_that_are_out_cost_a_line_each(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(awkward.jpeg())
    (tmp_path / "b.jpg").write_bytes(awkward.jpeg(2))
    (tmp_path / "empty.jpg").write_bytes(b"")
    lines = [
        b"image,label",
        b"a.jpg,cat",
        b"b.jpg",
        b"b.jpg,cat,extra",
        b"",
        b"b.jpg,caf\xe9",
        b",cat",
        b"absent.jpg,cat",
        b"../a.jpg,cat",
        b"empty.jpg,cat",
        b'"' + b"x" * (1 << 21) + b'.jpg",cat',
        b"b.jpg,dog,,",
        b"a.jpg,cat",
    ]
    (tmp_path / "t.csv").write_bytes(b"\r\n".join(lines))
    ingested = read(tmp_path / "t.csv")
    assert out_of(ingested) == {
        "t.csv row 2": "row_width",
        "t.csv row 3": "row_width",
        "t.csv row 4": "row_not_utf8",
        "t.csv row 5": "path_missing",
        "t.csv row 6": "missing_file",
        "t.csv row 7": "path_leaves_root",
        "t.csv row 8": "zero_bytes",
        "t.csv row 9": "row_unreadable",
    }
    assert labels_by_uri(ingested) == {"a.jpg": "cat", "b.jpg": "dog"}
    assert Counter(ingested.outcomes["outcome"].to_pylist()) == {"added": 2, "already present": 1, "out": 8}


def test_another_encoding_is_named_never_guessed(tmp_path: Path) -> None:
    (tmp_path / "é.jpg").write_bytes(b"x")
    table = write_csv(tmp_path / "t.csv", [["image", "label"], ["é.jpg", "café"]], encoding="latin-1")
    assert list(out_of(read(table)).values()) == ["row_not_utf8"]
    assert labels_by_uri(read(table, options={"encoding": "latin-1"})) == {"é.jpg": "café"}
    with pytest.raises(ConfigError, match="no encoding 'latn'"):
        read(table, options={"encoding": "latn"})


def test_tables_that_cannot_be_used_say_why(tmp_path: Path) -> None:
    table = write_csv(tmp_path / "t.csv", [["image", "lable"], ["a.jpg", "x"]])
    with pytest.raises(InputError, match=r"needs the column label.*image, lable.*Did you mean 'lable'"):
        read(table)
    with pytest.raises(ConfigError, match=r"no role 'lable'.*Did you mean 'label'"):
        read(table, {"image": "image", "lable": "lable"})
    with pytest.raises(ConfigError, match=r"columns\.image is needed"):
        read(table, {"label": "lable"})
    for delimiter in (",,", "", '"', 7777):
        with pytest.raises(ConfigError, match=r"source\.delimiter must be one character"):
            read(table, options={"delimiter": delimiter})
    with pytest.raises(InputError, match="is empty"):
        read(write_csv(tmp_path / "empty.csv", []))
    with pytest.raises(InputError, match="no image and no label"):
        read(write_csv(tmp_path / "header.csv", [["image", "label"]]))
    with pytest.raises(InputError, match="no table at"):
        read(tmp_path / "absent.csv")
    (tmp_path / "nothing").mkdir()
    with pytest.raises(InputError, match="no Parquet file"):
        read(tmp_path / "nothing")


def parquet(path: Path, **columns: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path, row_group_size=3)
    return path


def test_parquet_with_bytes_round_trips(tmp_path: Path) -> None:
    contents = {name: awkward.png(i) for i, name in enumerate(awkward.NAMES)} | awkward.variants()
    table = parquet(
        tmp_path / "t.parquet",
        file=list(contents),
        image=list(contents.values()),
        label=[awkward.LABELS[i % len(awkward.LABELS)] for i in range(len(contents))],
        age=pa.array([i if i % 3 else None for i in range(len(contents))], pa.float64()),
    )
    ingested = read(table, {**COLUMNS, "name": "file"}, attributes={"age": "age"})
    assert out_of(ingested) == {}
    data = open_media(table, tmp_path / "scratch").read(ingested.samples)
    assert dict(zip(ingested.samples["uri"].to_pylist(), data, strict=True)) == contents
    assert ingested.samples["attr_age"].to_pylist()[:5] == [None, "1", "2", None, "4"]
    assert ingested.samples["n_bytes"].to_pylist() == [
        len(contents[u]) for u in ingested.samples["uri"].to_pylist()
    ]


def test_rows_without_a_name_are_named_by_place_and_bytes(tmp_path: Path) -> None:
    images = [awkward.jpeg(), awkward.png(), b"", None, awkward.variants()["still.webp"], b"????"]
    table = parquet(tmp_path / "t.parquet", image=pa.array(images, pa.binary()), label=[3, 4, 5, 6, 7, None])
    ingested = read(table)
    assert ingested.samples["uri"].to_pylist() == [
        f"t.parquet/{name}" for name in ("0.jpg", "1.png", "4.webp", "5.bin")
    ]
    assert out_of(ingested) == {"t.parquet row 3": "zero_bytes", "t.parquet row 4": "path_missing"}
    assert ingested.classes == ("3", "4", "7")
    assert ingested.samples["label_state"].to_pylist() == ["labeled", "labeled", "labeled", "unlabeled"]


def test_one_name_for_two_pictures_is_out(tmp_path: Path) -> None:
    table = parquet(
        tmp_path / "t.parquet",
        file=["a.jpg", "a.jpg", "a.jpg", "../a.jpg"],
        image=[awkward.jpeg(1), awkward.jpeg(2), awkward.jpeg(1), awkward.jpeg(3)],
        label=["cat"] * 4,
    )
    ingested = read(table, {**COLUMNS, "name": "file"})
    assert out_of(ingested) == {"t.parquet row 2": "duplicate_id", "t.parquet row 4": "path_leaves_root"}
    assert ingested.outcomes["outcome"].to_pylist()[2] == "already present"


def test_shards_in_a_folder_and_a_bad_one(tmp_path: Path) -> None:
    for shard in range(3):
        parquet(tmp_path / f"d/s{shard}.parquet", image=[awkward.jpeg(shard)] * 2, label=["cat", "dog"])
    (tmp_path / "d/s3.parquet").write_bytes(b"PAR1 broken")
    parquet(tmp_path / "d/s4.parquet", image=[awkward.jpeg(4)], other=["cat"])
    ingested = read(tmp_path / "d")
    assert out_of(ingested) == {"s3.parquet": "shard_unreadable", "s4.parquet": "shard_columns"}
    assert ingested.samples.num_rows == 6
    assert ingested.labels["source_key"].to_pylist().count("s1.parquet:2") == 1
    read_back = list(open_media(tmp_path / "d", tmp_path / "scratch").read(ingested.samples))
    assert read_back == [awkward.jpeg(shard) for shard in (0, 0, 1, 1, 2, 2)]


def test_several_image_columns_and_paths_in_parquet(tmp_path: Path) -> None:
    (tmp_path / "x y.jpg").write_bytes(awkward.jpeg(9))
    table = parquet(
        tmp_path / "t.parquet", left=[awkward.jpeg(1)], right=[awkward.jpeg(2)], file=["x y.jpg"], label=["a"]
    )
    for column, seed in (("left", 1), ("right", 2), ("file", 9)):
        ingested = read(table, {"image": column, "label": "label"})
        assert list(open_media(table, tmp_path / "s").read(ingested.samples)) == [awkward.jpeg(seed)]
    with pytest.raises(ConfigError, match="no attribute"):
        read(table, {"image": "left"}, attributes={"x": "left"})


VOTES = [
    ("a.jpg", "anna", "cat"),
    ("a.jpg", "ben", "dog"),
    ("a.jpg", "carl", "dog"),
    ("b.jpg", "ben", "cat"),
    ("c.jpg", "ben", "cat"),
    ("c.jpg", "anna", "dog"),
    ("d.jpg", "anna", "cat"),
    ("d.jpg", "anna", "dog"),
    ("d.jpg", "carl", "owl"),
]


def write_votes(path: Path, votes: list[tuple[str, str, str]]) -> Path:
    for name in "abcd":
        (path.parent / f"{name}.jpg").write_bytes(b"x")
    return write_csv(path, [["image", "annotator", "label"], *map(list, votes)])


def test_several_annotators(tmp_path: Path) -> None:
    columns = {**COLUMNS, "annotator": "annotator"}
    table = write_votes(tmp_path / "t.csv", VOTES)
    majority = read(table, columns)
    given = labels_by_uri(majority)
    assert {**given, "c.jpg": ""} == {"a.jpg": "dog", "b.jpg": "cat", "c.jpg": "", "d.jpg": "owl"}
    assert given["c.jpg"] in {"cat", "dog"}
    assert list(out_of(majority).values()) == ["conflicting_labels"] * 2
    assert majority.annotations is not None
    assert majority.annotations.num_rows + majority.labels.num_rows == len(VOTES) - 2
    first = read(table, columns, options={"given": "first"})
    assert labels_by_uri(first) == {"a.jpg": "cat", "b.jpg": "cat", "c.jpg": "cat", "d.jpg": "owl"}
    anna = read(table, columns, options={"given": "anna"})
    assert labels_by_uri(anna) == {"a.jpg": "cat", "c.jpg": "dog"}
    states = dict(zip(*(anna.samples[n].to_pylist() for n in ("uri", "label_state")), strict=True))
    assert states == {"a.jpg": "labeled", "b.jpg": "unlabeled", "c.jpg": "labeled", "d.jpg": "unlabeled"}
    with pytest.raises(ConfigError, match=r"'ana', who labeled nothing. Did you mean 'anna'"):
        read(table, columns, options={"given": "ana"})


@settings(max_examples=30, deadline=None)
@given(order=st.permutations(VOTES))
def test_the_majority_does_not_depend_on_the_order(
    tmp_path_factory: pytest.TempPathFactory, order: list[tuple[str, str, str]]
) -> None:
    columns = {**COLUMNS, "annotator": "annotator"}
    one, two = (
        read(write_votes(tmp_path_factory.mktemp("votes") / "t.csv", votes), columns) for votes in (VOTES, order)
    )
    keep = [name for name in one.labels.column_names if name != "source_key"]
    assert one.labels.select(keep) == two.labels.select(keep)
    assert one.annotations is not None
    assert two.annotations is not None
    assert one.annotations.select(keep) == two.annotations.select(keep)


def test_text_for_an_empty_cell_is_a_class_only_where_it_is_declared(tmp_path: Path) -> None:
    names = [f"{at}.png" for at in range(3)]
    for at, name in enumerate(names):
        (tmp_path / name).write_bytes(awkward.png(at))
    rows: list[list[object]] = [["image", "label"], *map(list, zip(names, ("cat", "NaN", "nan"), strict=True))]
    root = write_csv(tmp_path / "t.csv", rows)
    assert labels_by_uri(read(root)) == {"0.png": "cat"}
    assert set(out_of(read(root)).values()) == {"label_no_value"}
    declared = read(root, classes=("cat", "nan"))
    assert labels_by_uri(declared) == {"0.png": "cat", "2.png": "nan"}


def test_a_column_of_labels_without_any_is_refused(tmp_path: Path) -> None:
    names = [f"{at}.png" for at in range(3)]
    for at, name in enumerate(names):
        (tmp_path / name).write_bytes(awkward.png(at))
    root = write_csv(tmp_path / "t.csv", [["image", "label"], *([name, ""] for name in names)])
    with pytest.raises(InputError, match=r"the column 'label', and none of the 3 images .* has a label there"):
        read(root)
    assert read(root, {"image": "image"}).samples.num_rows == 3  # unlabeled on purpose


def test_init_takes_a_label_only_if_it_is_called_one(tmp_path: Path) -> None:
    n = 12
    images = [awkward.jpeg(i) for i in range(n)]
    files = [f"{i}.jpg" for i in range(n)]
    faces = parquet(
        tmp_path / "f.parquet", file=files, image=images, age=["20-29", "30-39"] * 6, race=["x", "y"] * 6
    )
    table = source_named("table")
    assert table.recognises(faces) == {"columns": {"image": "image", "name": "file", "label": MISSING}}
    assert SOURCE.comments(faces) == {"columns.label": "WHICH column holds the label? One of: age, race"}
    named = parquet(
        tmp_path / "n.parquet",
        file=files,
        image=images,
        Class=[1, 2] * 6,
        clean_label=[1, 2] * 6,
        annotator=[7] * n,
    )
    assert table.recognises(named) == {
        "columns": {
            "image": "image",
            "name": "file",
            "label": "Class",
            "reference_label": "clean_label",
            "annotator": "annotator",
        }
    }
    assert SOURCE.comments(named) == {}
    paths = write_csv(tmp_path / "p.csv", [["id", "File Name", "target", "Split"], ["1", "a.JPG", "cat", "train"]])
    assert table.recognises(paths) == {"columns": {"image": "File Name", "label": "target", "split": "Split"}}
    for name, data in {"no.csv": b"a,b\n1,2\n", "bad.parquet": b"PAR1", "void.csv": b"", "x.txt": b"a.jpg"}.items():
        (tmp_path / name).write_bytes(data)
        assert table.recognises(tmp_path / name) is None
        assert SOURCE.comments(tmp_path / name) == {}


def test_splits_have_one_name() -> None:
    assert [split_name(x) for x in ("Training", " valid ", "dev", "test-dev", "", None)] == [
        *("train", "val", "val", "test-dev", None, None)
    ]
    names = ["data/train-00000-of-00002.parquet", "x/test/0000.parquet", "validation.parquet", "images.parquet"]
    names += ["extra-00000-of-00001.parquet", "part-3.parquet"]
    assert [split_of_shard(name) for name in names] == ["train", "test", "val", None, "extra", None]
