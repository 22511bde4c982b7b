from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import awkward
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curate.errors import ConfigError, InputError
from curate.ingest import source_named
from curate.ingest.huggingface import SOURCE
from curate.ingest.media import open_media
from curate.ingest.source import Ingested, ReadOptions
from curate.spec import MISSING

IMAGE = {"_type": "Image"}
LABEL = {"_type": "ClassLabel", "names": ["zebra", "cat", "naïve dog"]}


def write_shard(path: Path, rows: list[dict[str, object]], features: dict[str, Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    image = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    kinds = {"Image": image, "ClassLabel": pa.int64(), "Value": pa.string()}
    fields = [pa.field(name, kinds[feature["_type"]]) for name, feature in features.items()]
    table = pa.Table.from_pylist(rows, schema=pa.schema(fields)).replace_schema_metadata(metadata)
    pq.write_table(table, path, row_group_size=2)
    return path


def row(seed: int, label: int | None, path: str | None = None) -> dict[str, object]:
    return {"image": {"bytes": awkward.png(seed), "path": path}, "label": label}


def read(root: Path, **keywords: Any) -> Ingested:  # noqa: ANN401 - any option
    return SOURCE.read(ReadOptions("s", root, **keywords))


def table_of(ingested: Ingested) -> list[tuple[str, str | None, str | None]]:
    label = dict(zip(*(ingested.labels[n].to_pylist() for n in ("sample_id", "label")), strict=True))
    rows = ingested.samples.to_pylist()
    return [(r["uri"], r["split"], label.get(r["sample_id"])) for r in rows]


def test_a_folder_of_shards_round_trips(tmp_path: Path) -> None:
    features = {"image": IMAGE, "label": LABEL}
    root = tmp_path / "my data"
    write_shard(root / "data/test-00000-of-00001.parquet", [row(5, -1, "e.png")], features)
    write_shard(root / "data/train-00000-of-00002.parquet", [row(1, 0, "a b.png"), row(2, 2, "é.png")], features)
    write_shard(root / "data/train-00001-of-00002.parquet", [row(3, 1, "c#.PNG"), row(4, None, "d.png")], features)
    found = source_named("huggingface").recognises(root)
    assert found == {"columns": {"image": "image", "label": "label"}}
    for columns in ({}, found["columns"]):
        ingested = read(root, columns=columns)
        assert ingested.classes == ("zebra", "cat", "naïve dog")
        assert table_of(ingested) == [
            ("e.png", "test", None),
            ("a b.png", "train", "zebra"),
            ("é.png", "train", "naïve dog"),
            ("c#.PNG", "train", "cat"),
            ("d.png", "train", None),
        ]
        media = open_media(root, tmp_path / "scratch")
        assert list(media.read(ingested.samples)) == [awkward.png(seed) for seed in (5, 1, 2, 3, 4)]


def test_images_that_are_all_called_alike_stay_apart(tmp_path: Path) -> None:
    file = write_shard(
        tmp_path / "train.parquet",
        [row(1, 0, "image.png"), row(2, 1, "image.png"), row(3, 1, "/home/me/x.png")],
        {"image": IMAGE, "label": LABEL},
    )
    assert [uri for uri, *_ in table_of(read(file))] == [
        "train.parquet/0/image.png",
        "train.parquet/1/image.png",
        "train.parquet/2/x.png",
    ]


def test_a_path_without_bytes_is_a_file_beside(tmp_path: Path) -> None:
    (tmp_path / "there.png").write_bytes(awkward.png(8))
    rows = [
        {"image": {"bytes": None, "path": p}, "label": 0} for p in ("there.png", "absent.png", "../x.png", None)
    ]
    ingested = read(write_shard(tmp_path / "t.parquet", rows, {"image": IMAGE, "label": LABEL}))
    assert [uri for uri, *_ in table_of(ingested)] == ["there.png"]
    assert ingested.outcomes["reason_code"].to_pylist() == [
        None,
        "missing_file",
        "path_leaves_root",
        "path_missing",
    ]
    assert list(open_media(tmp_path / "t.parquet", tmp_path / "s").read(ingested.samples)) == [awkward.png(8)]


def test_numbers_out_of_range_aliases_and_class_attributes(tmp_path: Path) -> None:
    features = {
        "image": IMAGE,
        "label": LABEL,
        "light": {"_type": "ClassLabel", "names": {"1": "night", "0": "day"}},
    }
    rows = [{**row(i, label), "light": i % 2} for i, label in enumerate((0, 1, 2, 9))]
    file = write_shard(tmp_path / "t.parquet", rows, features)
    ingested = read(file, aliases={"zebra": "horse"}, attributes={"light": "light"})
    assert ingested.classes == ("horse", "cat", "naïve dog")
    assert [label for *_, label in table_of(ingested)] == ["horse", "cat", "naïve dog"]
    assert ingested.samples["attr_light"].to_pylist() == ["day", "night", "day"]
    assert ingested.outcomes["reason_code"].to_pylist() == [None, None, None, "unknown_class"]


def test_what_is_not_declared_is_asked_for(tmp_path: Path) -> None:
    features = {"image": IMAGE, "fine": LABEL, "coarse": LABEL}
    rows = [{"image": {"bytes": awkward.png(), "path": "a.png"}, "fine": 0, "coarse": 1}]
    file = write_shard(tmp_path / "t.parquet", rows, features)
    assert SOURCE.recognises(file) == {"columns": {"image": "image", "label": MISSING}}
    assert SOURCE.comments(file) == {"columns.label": "WHICH column holds the label? One of: fine, coarse"}
    with pytest.raises(ConfigError, match=r"columns\.label is needed: none of fine, coarse"):
        read(file)
    assert [label for *_, label in table_of(read(file, columns={"label": "coarse"}))] == ["cat"]
    two = {"left": IMAGE, "right": IMAGE}
    both = write_shard(tmp_path / "two.parquet", [dict.fromkeys(two, rows[0]["image"])], two)
    with pytest.raises(ConfigError, match="several images, left, right"):
        read(both)


def test_shards_that_number_their_classes_differently_are_refused(tmp_path: Path) -> None:
    other = {"_type": "ClassLabel", "names": ["cat", "zebra"]}
    write_shard(tmp_path / "d/train-0.parquet", [row(1, 0, "a.png")], {"image": IMAGE, "label": LABEL})
    write_shard(tmp_path / "d/train-1.parquet", [row(2, 0, "b.png")], {"image": IMAGE, "label": other})
    with pytest.raises(InputError, match="different class names for label"):
        read(tmp_path / "d")


def test_other_parquet_is_not_ours(tmp_path: Path) -> None:
    pq.write_table(pa.table({"image": [b"x"]}), tmp_path / "plain.parquet")
    table = pa.table({"image": [b"x"]}).replace_schema_metadata({"huggingface": "not json"})
    pq.write_table(table, tmp_path / "odd.parquet")
    (tmp_path / "bad.parquet").write_bytes(b"PAR1")
    for name in ("plain.parquet", "odd.parquet", "bad.parquet", "absent.parquet"):
        assert SOURCE.recognises(tmp_path / name) is None
    with pytest.raises(InputError, match="take the format table"):
        read(tmp_path / "plain.parquet")
