from __future__ import annotations

import hashlib
import os
import pickle
import threading
import zipfile
from pathlib import Path
from typing import BinaryIO

import awkward
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curate import schema
from curate.ingest.collect import Collector
from curate.ingest.listing import list_files
from curate.ingest.media import FileMedia, _write_beside, open_media, own_name
from curate.ingest.source import ReadOptions

CONTENT = {f"train/großer Hund/{name}": awkward.jpeg(index) for index, name in enumerate(awkward.NAMES)}


def ingest(root: Path) -> pa.Table:
    collector = Collector(ReadOptions("s", root))
    for entry in list_files(root):
        if entry.problem is None:
            collector.add_image(entry.path, entry.path, **entry.place)
        else:
            collector.put_out(entry.path, "image", entry.problem.code, entry.problem.args)
    return collector.finish().samples


def write_folder(root: Path, content: dict[str, bytes]) -> Path:
    for name, data in content.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
    return root


WRITERS = {
    "folder": lambda tmp: write_folder(tmp / "data", CONTENT),
    "tar": lambda tmp: awkward.write_tar(tmp / "data.tar", CONTENT),
    "tar.gz": lambda tmp: awkward.write_tar(tmp / "data.tar.gz", CONTENT, mode="w:gz"),
    "tar.bz2": lambda tmp: awkward.write_tar(tmp / "data.tar.bz2", CONTENT, mode="w:bz2"),
    "tar.xz": lambda tmp: awkward.write_tar(tmp / "data.txz", CONTENT, mode="w:xz"),
    "zip": lambda tmp: awkward.write_zip(tmp / "data.zip", CONTENT),
}


@pytest.mark.parametrize("kind", WRITERS)
def test_the_same_layout_reads_the_same_from_each_container(tmp_path: Path, kind: str) -> None:
    root = WRITERS[kind](tmp_path)
    samples = ingest(root)
    assert {uri: schema.sample_id_of("s", uri) for uri in CONTENT} == dict(
        zip(samples["uri"].to_pylist(), samples["sample_id"].to_pylist(), strict=True)
    )
    media = open_media(root, tmp_path / "scratch")
    assert list(media.read(samples)) == [CONTENT[uri] for uri in samples["uri"].to_pylist()]
    shuffled = samples.take(np.random.default_rng(0).permutation(samples.num_rows))
    assert list(media.read(shuffled)) == [CONTENT[uri] for uri in shuffled["uri"].to_pylist()]
    for uri, path in zip(samples["uri"].to_pylist(), media.paths(samples), strict=True):
        assert path.read_bytes() == CONTENT[uri]
        assert path.name == uri.rsplit("/", 1)[-1]
        assert kind == "folder" or path.is_relative_to(tmp_path / "scratch")


@pytest.mark.parametrize("kind", WRITERS)
def test_media_travel_to_workers_and_threads(tmp_path: Path, kind: str) -> None:
    root = WRITERS[kind](tmp_path)
    samples = ingest(root)
    media = open_media(root, tmp_path / "scratch")
    wanted = list(media.read(samples))
    assert list(pickle.loads(pickle.dumps(media)).read(samples)) == wanted  # noqa: S301 - our own bytes
    results: list[list[bytes | None]] = []
    threads = [threading.Thread(target=lambda: results.append(list(media.read(samples)))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [wanted] * 4


def test_a_forked_child_does_not_disturb_its_parent(tmp_path: Path) -> None:
    root = WRITERS["zip"](tmp_path)
    samples = ingest(root)
    media = open_media(root, tmp_path / "scratch")
    wanted = list(media.read(samples))
    child = os.fork()
    if child == 0:
        os._exit(0 if list(media.read(samples)) == wanted else 1)
    assert list(media.read(samples)) == wanted
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@pytest.mark.parametrize("as_struct", [False, True])
@pytest.mark.parametrize("row_group_size", [1, 7, 1000])
@pytest.mark.parametrize("window_bytes", [0, 256 << 20])
def test_parquet_rows_in_any_order(
    tmp_path: Path, *, as_struct: bool, row_group_size: int, window_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("curate.ingest.parquet_images.WINDOW_BYTES", window_bytes)
    monkeypatch.setattr("curate.ingest.parquet_images.STREAM_ROWS", 3)
    images: list[bytes | None] = [awkward.png(seed) for seed in range(20)]
    images[5] = None
    values: list[object] = [{"bytes": data, "path": "x.png"} for data in images] if as_struct else list(images)
    table = pa.table({"image": values, "mask": [b"m"] * 20})
    pq.write_table(table, tmp_path / "a#b.parquet", row_group_size=row_group_size)
    rows = np.random.default_rng(1).permutation(20).tolist()
    samples = pa.table(
        {
            "uri": [f"a#b.parquet/{row}.png" for row in rows],
            "container": ["a#b.parquet#image"] * 20,
            "container_offset": rows,
            "n_bytes": [10] * 20,
        }
    )
    media = open_media(tmp_path, tmp_path / "scratch")
    assert list(media.read(samples)) == [images[row] for row in rows]
    in_order = samples.sort_by("container_offset")
    assert list(media.read(in_order)) == images
    paths = media.paths(in_order)
    assert [path.is_file() for path in paths] == [data is not None for data in images]
    assert paths[3].read_bytes() == images[3]


def test_extracted_names_follow_the_content_and_survive_a_new_archive(tmp_path: Path) -> None:
    root = awkward.write_zip(tmp_path / "data.zip", CONTENT)
    samples = ingest(root)
    first = open_media(root, tmp_path / "scratch").paths(samples)
    os.utime(root, (1, 1))
    assert open_media(root, tmp_path / "scratch").paths(samples) == first
    digests = [hashlib.sha256(path.read_bytes()).hexdigest() for path in first]
    scanned = samples.append_column("content_sha256", pa.array(digests))
    root.unlink()
    assert open_media(tmp_path, tmp_path / "scratch").paths(scanned) == first


def test_what_is_gone_is_none_and_nothing_is_written(tmp_path: Path) -> None:
    for kind in ("folder", "tar", "zip"):
        root = WRITERS[kind](tmp_path / kind if (tmp_path / kind).mkdir() is None else tmp_path)
        samples = ingest(root)
        if root.is_dir():
            for uri in CONTENT:
                (root / uri).unlink()
        else:
            root.write_bytes(b"")
        media = open_media(root, tmp_path / "scratch")
        assert list(media.read(samples)) == [None] * len(CONTENT)
        assert not any(path.exists() for path in media.paths(samples))
    assert not (tmp_path / "scratch" / "images").exists()


def test_media_read_no_path_that_leaves_the_root(tmp_path: Path) -> None:
    (tmp_path / "secret.jpg").write_bytes(awkward.jpeg())
    root = tmp_path / "data"
    root.mkdir()
    (root / "link.jpg").symlink_to(tmp_path / "secret.jpg")
    os.mkfifo(root / "pipe.jpg")
    uris = ["../secret.jpg", str(tmp_path / "secret.jpg"), "link.jpg", "pipe.jpg", "a\0b.jpg"]
    rows = [{"uri": uri} for uri in uris]
    rows.append({"uri": "x.jpg", "container": "../secret.tar", "container_offset": 0, "n_bytes": 3})
    samples = pa.Table.from_pylist(
        rows,
        schema=pa.schema([schema.SAMPLES.field(n) for n in ("uri", "container", "container_offset", "n_bytes")]),
    )
    assert list(open_media(root, tmp_path / "scratch").read(samples)) == [None] * 6


def test_a_compressed_tar_is_unpacked_once_and_whole(tmp_path: Path) -> None:
    root = WRITERS["tar.gz"](tmp_path)
    samples = ingest(root)
    scratch = tmp_path / "scratch"
    list(FileMedia(root, scratch).read(samples))
    (unpacked,) = (scratch / "archives").iterdir()
    before = unpacked.stat().st_mtime_ns
    list(FileMedia(root, scratch).read(samples))
    assert unpacked.stat().st_mtime_ns == before
    assert [path.suffix for path in (scratch / "archives").iterdir()] == [".tar"]


def test_own_names_fit_file_systems() -> None:
    assert own_name("a/b c#.JPG") == "b c#.JPG"
    long = own_name("é" * 300 + ".jpg")
    assert len(long.encode()) <= 255
    assert long.endswith("é.jpg")


def test_a_write_that_fails_leaves_nothing_under_the_name(tmp_path: Path) -> None:
    target = tmp_path / "images" / "a.jpg"

    def fail(out: BinaryIO) -> None:
        out.write(b"half")
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        _write_beside(target, fail)
    assert list(target.parent.iterdir()) == []
    _write_beside(target, lambda out: out.write(b"old"))
    with pytest.raises(OSError, match="No space left"):
        _write_beside(target, fail)
    assert target.read_bytes() == b"old"


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
@pytest.mark.parametrize("where", [0.2, 0.5, 0.8])
def test_a_damaged_member_of_a_zip_is_an_image_without_bytes(tmp_path: Path, method: int, where: float) -> None:
    root = tmp_path / "data.zip"
    noise = np.random.default_rng(0).integers(0, 16, 20_000, dtype=np.uint8).tobytes()
    with zipfile.ZipFile(root, "w", method) as archive:
        archive.writestr("a.png", noise)
        archive.writestr("b.png", b"whole")
        size = archive.getinfo("a.png").compress_size
    samples = ingest(root)
    data = bytearray(root.read_bytes())
    at = 40 + int(where * (size - 80))
    data[at : at + 40] = b"\xff" * 40
    root.write_bytes(data)
    assert list(open_media(root, tmp_path / "scratch").read(samples)) == [None, b"whole"]
