"""Caches of a dataset: what is shown to belong to somebody else stays, everything else goes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curate import schema
from curate.governance import derived
from curate.governance.derived import clear_features, clear_ingest, clear_scan
from curate.governance.journal import Erasure
from curate.governance.sweep import leftovers
from curate.runs import Workspace, write_table
from curate.teachers.feature_cache import feature_keys

IDS = [schema.sample_id_of("toy", f"{n}.png") for n in range(3)]
SHAS = [f"{n + 1:064x}" for n in range(3)]
BOXES = [[0.1, 0.2, 0.3, 0.4], [0.5, 0.5, 0.25, 0.25]]
ERASURE = Erasure(
    at="2026-01-01T00:00:00Z",
    why="test",
    datasets=["toy"],
    sample_ids=[IDS[1]],
    label_ids=[],
    finding_ids=[],
    content_sha256=[SHAS[1]],
    thumbnail_sha256=[],
    n_bytes=[],
    uris=["1.png"],
    roots=[],
    subject=None,
    sources=[],
    subject_is_a_word=False,
    versions={},
)


def keys_of(rows: list[tuple[list[float] | None, str]], version: str) -> list[str]:
    kind = pa.schema([("bbox", schema.BBOX), ("content_sha256", pa.string())])
    table = pa.Table.from_pylist([{"bbox": box, "content_sha256": sha} for box, sha in rows], schema=kind)
    return feature_keys(table, version)


@pytest.fixture
def place(tmp_path: Path) -> Workspace:
    place = Workspace(tmp_path, "toy")
    labels = schema.table_from_rows(
        [
            {"label_id": f"l{n}{k}", "sample_id": one, "task": "detection", "label": "x", "bbox": box}
            for n, one in enumerate(IDS)
            for k, box in enumerate(BOXES)
        ],
        schema.LABELS,
    )
    write_table(place.cache / "ingest" / "a.labels.parquet", labels)
    rows = [{"sample_id": one, "content_sha256": sha} for one, sha in zip(IDS, SHAS, strict=True)]
    rows.append({"sample_id": IDS[0], "content_sha256": "ee" * 32})  # its file was another one before
    scan = schema.table_from_rows(rows, schema.SCAN).append_column("row_key", pa.array(["a", "b", "c", "d"]))
    write_table(place.cache / "scan" / "s.parquet", scan)
    return place


def test_features_stay_that_can_be_computed_from_what_stays(place: Workspace) -> None:
    survivors = [(box, sha) for sha in (SHAS[0], SHAS[2], "ee" * 32) for box in (None, *BOXES)]
    lost = [(box, SHAS[1]) for box in (None, *BOXES)] + [([0.0, 0.0, 1.0, 1.0], SHAS[0]), (None, "ff" * 32)]
    folder = place.cache / "features" / "pixels-2-abc"
    keys = [*keys_of(survivors, folder.name), *keys_of(lost, folder.name)]
    for number in (0, 1):
        part = pa.table({"features": [[0.5]] * len(keys[number::2]), "row_key": keys[number::2]})
        write_table(folder / f"{number}.parquet", part)
    assert clear_features(place, ERASURE, dry=True) == len(lost)
    assert clear_features(place, ERASURE) == len(lost)
    left = [key for file in folder.glob("*.parquet") for key in pq.read_table(file)["row_key"].to_pylist()]
    assert sorted(left) == sorted(keys[: len(survivors)])
    assert clear_features(place, ERASURE) == 0
    assert not (folder / "0.parquet").exists(), "a shard is named after what is in it"


def test_scan_and_ingest_lose_their_rows_and_a_torn_shard_goes(place: Workspace) -> None:
    (place.cache / "scan" / "torn.parquet").write_bytes(b"PAR1 torn")
    (place.cache / "ingest" / "torn.samples.parquet").write_bytes(b"PAR1 torn")
    assert clear_scan(place, ERASURE, dry=True) == 1
    assert clear_scan(place, ERASURE) == 1
    (shard,) = (place.cache / "scan").glob("*.parquet")
    assert pq.read_table(shard)["row_key"].to_pylist() == ["a", "c", "d"]
    assert clear_ingest(place, ERASURE) == 2
    (left,) = (place.cache / "ingest").glob("*.parquet")
    assert IDS[1] not in pq.read_table(left)["sample_id"].to_pylist()
    everything = replace(ERASURE, sample_ids=IDS, content_sha256=[*SHAS, "ee" * 32])
    assert clear_scan(place, everything) == 3
    assert list((place.cache / "scan").glob("*.parquet")) == []


def test_a_generated_source_loses_the_rows_that_name_it_by_a_path_of_their_own(tmp_path: Path) -> None:
    place = Workspace(tmp_path, "toy")
    folder = place.media / "digits-0123"
    tables = {
        "labels.csv": "file,label\nimages/0610.png,3\nimages/0611.png,4\n",
        "planted.csv": "file,kind\nimages/0610.png,wrong_label\n",
        "labels.jsonl": '{"file":"images/0610.png"}\n{"file":"images/1.png"}\n',
    }
    (folder / "images").mkdir(parents=True)
    for name, text in tables.items():
        (folder / name).write_text(text)
    for name in ("0610", "0611"):
        (folder / "images" / f"{name}.png").write_bytes(name.encode())
    half = place.media / ".digits-half" / "labels.csv"
    half.parent.mkdir()
    half.write_text(tables["labels.csv"])
    erasure = replace(ERASURE, uris=["digits-0123/images/0610.png"])
    assert len(leftovers(tmp_path, erasure)) == 3, "the look finds each of the tables by itself"
    assert derived.clear_media(place, erasure, dry=True) == 5
    assert {name: (folder / name).read_text() for name in tables} == tables
    derived.clear_media(place, erasure)
    assert leftovers(tmp_path, erasure) == []
    assert (folder / "labels.csv").read_text() == "file,label\nimages/0611.png,4\n"
    assert (folder / "planted.csv").read_text() == "file,kind\n"
    assert (folder / "labels.jsonl").read_text() == '{"file":"images/1.png"}\n'
    assert [file.name for file in (folder / "images").iterdir()] == ["0611.png"]
    assert not half.exists()
