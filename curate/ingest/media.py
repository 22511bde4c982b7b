"""Where the bytes of images come from: plain files, members of a tar or zip, rows of a Parquet file.

How `schema.SAMPLES` says where (`container`, `container_offset`; paths relative to the source's root):

- no container: the file `uri` under the root;
- a tar: `n_bytes` from `container_offset`, uncompressed (a compressed one is unpacked once to scratch);
- a zip: the member called `uri`, without "container/" before it where the root is a folder;
- a Parquet file: row `container_offset` of its image column; `file.parquet#name` says which one, if it has several.
"""

from __future__ import annotations

import bz2
import gzip
import hashlib
import json
import lzma
import os
import threading
import zipfile
import zlib
from collections import OrderedDict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa

from curate.ingest.listing import is_tar, is_zip
from curate.ingest.location import MAX_IMAGE_BYTES, Located, Locator, member_uri
from curate.ingest.parquet_images import ParquetImages, split_container
from curate.schema import stable_id

N_OPEN = 8  # containers held open by a thread
WITHHELD = ".withheld.json"  # beside an unpacked archive: where the bytes lie that were erased on request

_DAMAGE = (EOFError, zlib.error, lzma.LZMAError, OSError)
_READ_ERRORS = (*_DAMAGE, ValueError, KeyError, RuntimeError, NotImplementedError, zipfile.BadZipFile)
_DECODERS: dict[bytes, Callable[..., Any]] = {b"\x1f\x8b": gzip.open, b"BZ": bz2.open, b"\xfd7": lzma.open}


def open_media(root: Path, scratch: Path) -> FileMedia:
    """Return the media of a source that was ingested from `root`; containers are unpacked under `scratch`."""
    return FileMedia(root, scratch)


class FileMedia:
    """Media of one source. Can be pickled: each process and thread opens its own handles."""

    def __init__(self, root: Path, scratch: Path) -> None:
        self.root = root.absolute()
        self.scratch = scratch.absolute()
        self._local = threading.local()

    def __getstate__(self) -> dict[str, Path]:
        return {"root": self.root, "scratch": self.scratch}

    def __setstate__(self, state: dict[str, Path]) -> None:
        self.__init__(state["root"], state["scratch"])  # type: ignore[misc]

    def read(self, samples: pa.Table) -> Iterator[bytes | None]:
        """Yield the encoded bytes of each sample in order; None where they are not there.

        Reads in the order given: fastest where samples of one container stand together, as ingest leaves them.
        """
        columns = ("uri", "container", "container_offset", "n_bytes")
        for batch in samples.select(columns).to_batches(max_chunksize=4096):
            for uri, container, offset, n_bytes in zip(*(c.to_pylist() for c in batch.columns), strict=True):
                yield self._bytes(uri, container, offset, n_bytes)

    def read_one(self, uri: str, container: str | None, offset: int | None, n_bytes: int | None) -> bytes | None:
        """Return the encoded bytes of one image, by the values of its row; None where they are not there."""
        return self._bytes(uri, container, offset, n_bytes)

    def paths(self, samples: pa.Table) -> list[Path]:
        """Return a plain file for each sample.

        An image inside a container is written to `scratch/images/AB/HASH/NAME`: HASH is that of its bytes and NAME
        its own, so a picture has the same path in every run. Where the bytes are gone the path does not exist.
        With a column `content_sha256` (of the scan), what was extracted before is not read again.
        """
        hashes = samples["content_sha256"].to_pylist() if "content_sha256" in samples.column_names else None
        places = samples.select(("uri", "container", "container_offset", "n_bytes"))
        found: list[Path] = []
        for index, (uri, container, offset, n_bytes) in enumerate(
            zip(*(c.to_pylist() for c in places.columns), strict=True)
        ):
            if container is None:
                found.append(self._locator.base / uri)
                continue
            known = hashes[index] if hashes else None
            target = self._target(known, uri) if known else None
            if target is None or not target.is_file():
                data = self._bytes(uri, container, offset, n_bytes)
                target = self._extracted(data, uri, container)
            found.append(target)
        return found

    def withhold(self, samples: pa.Table) -> None:
        """Never show these samples' bytes in what is unpacked from a compressed tar: they were erased on request.

        Where they lie is written beside the unpacked archive, which is blanked there now and whenever it is unpacked.
        """
        ranges: dict[str, list[tuple[int, int]]] = {}
        for container, offset, n_bytes in zip(
            *(samples[name].to_pylist() for name in ("container", "container_offset", "n_bytes")), strict=True
        ):
            if container is not None and is_tar(container) and offset is not None and n_bytes:
                ranges.setdefault(container, []).append((offset, n_bytes))
        for container, places in ranges.items():
            located = self._locator.locate(container)
            if not isinstance(located, Located):
                continue
            _withhold_in(self._unpacked(self._locator.base / located.uri, container), sorted(places))

    # -- reading --------------------------------------------------------------------------------------------

    @property
    def _locator(self) -> Locator:
        locator: Locator | None = getattr(self._local, "locator", None)
        if locator is None:
            locator = self._local.locator = Locator(self.root)
        return locator

    def _bytes(self, uri: str, container: str | None, offset: int | None, n_bytes: int | None) -> bytes | None:
        try:
            if container is None:
                return self._plain_bytes(uri)
            if is_tar(container):
                return self._tar_bytes(container, offset, n_bytes)
            if is_zip(container):
                return self._zip_bytes(container, uri)
            return self._parquet_bytes(container, offset)
        except (*_READ_ERRORS, pa.ArrowException):
            return None  # the caller states the reason: it knows the row

    def _plain_bytes(self, uri: str) -> bytes | None:
        located = self._locator.locate(uri)
        if not isinstance(located, Located) or located.n_bytes > MAX_IMAGE_BYTES:
            return None
        with open(f"{self._locator.base}/{located.uri}", "rb", buffering=0) as file:  # noqa: PTH123 - a third of the time
            return file.read()

    def _tar_bytes(self, container: str, offset: int | None, n_bytes: int | None) -> bytes | None:
        if offset is None or not n_bytes or n_bytes > MAX_IMAGE_BYTES:
            return None
        handle = self._open(container, lambda path: pa.OSFile(str(self._uncompressed(path, container))))
        data: bytes = handle.read_at(n_bytes, offset)
        return data if len(data) == n_bytes else None

    def _zip_bytes(self, container: str, uri: str) -> bytes | None:
        archive, members = self._open(container, _open_zip)
        name = uri if self.root.is_file() else uri.removeprefix(f"{container}/")
        info = members.get(name)
        if info is None or not 0 < info.file_size <= MAX_IMAGE_BYTES:
            return None
        data: bytes = archive.read(info)
        return data

    def _parquet_bytes(self, container: str, row: int | None) -> bytes | None:
        file, column = split_container(container)
        images: ParquetImages = self._open(file, lambda path: ParquetImages(path, column), key=container)
        return None if row is None else images.read(row)

    def _open(self, container: str, opener: Any, *, key: str | None = None) -> Any:  # noqa: ANN401 - handles differ
        """Return the handle of a container, opened at most once a thread and process."""
        if getattr(self._local, "pid", None) != os.getpid():  # a fork shares file positions with its parent
            self._local.pid, self._local.handles = os.getpid(), OrderedDict()
        handles: OrderedDict[str, Any] = self._local.handles
        key = key or container
        if key not in handles:
            located = self._locator.locate(container)
            if not isinstance(located, Located):
                raise FileNotFoundError(container)
            handles[key] = opener(self._locator.base / located.uri)
            while len(handles) > N_OPEN:
                handles.popitem(last=False)
        handles.move_to_end(key)
        return handles[key]

    # -- scratch --------------------------------------------------------------------------------------------

    def _uncompressed(self, path: Path, container: str) -> Path:
        with path.open("rb") as file:
            decoder = _DECODERS.get(file.read(2))
        if decoder is None:
            return path
        target = self._unpacked(path, container)
        if not target.is_file():
            with decoder(path, "rb") as source:
                _write_beside(target, lambda out: _copy_blanked(source, out, target))
        return target

    def _unpacked(self, path: Path, container: str) -> Path:
        status = path.stat()
        key = stable_id(container, str(status.st_size), str(status.st_mtime_ns))
        return self.scratch / "archives" / f"{key}.tar"

    def _target(self, digest: str, uri: str) -> Path:
        return self.scratch / "images" / digest[:2] / digest[:24] / own_name(uri)

    def _extracted(self, data: bytes | None, uri: str, container: str) -> Path:
        if data is None:
            return self.scratch / "missing" / stable_id(container, uri) / own_name(uri)
        target = self._target(hashlib.sha256(data).hexdigest(), uri)
        if not target.is_file():
            _write_beside(target, lambda out: out.write(data))
        return target


def own_name(uri: str) -> str:
    """Return the file's own name: the last part of `uri`, cut to what file systems take (255 bytes)."""
    name = uri.rsplit("/", 1)[-1]
    if len(name.encode()) <= 255:
        return name
    stem, dot, ending = name.rpartition(".")
    tail = (dot + ending)[-16:]
    return (stem or name).encode()[: 255 - len(tail.encode())].decode(errors="ignore") + tail


def _open_zip(path: Path) -> tuple[zipfile.ZipFile, dict[str, zipfile.ZipInfo]]:
    archive = zipfile.ZipFile(path)
    members: dict[str, zipfile.ZipInfo] = {}
    for info in archive.infolist():
        name = member_uri(info.filename)
        if isinstance(name, str):
            members.setdefault(name, info)
    return archive, members


def _withhold_in(target: Path, places: list[tuple[int, int]]) -> None:
    _write_beside(target.with_suffix(WITHHELD), lambda out: out.write(json.dumps(places).encode()))
    if target.is_file():
        with target.open("r+b") as out:
            _blank(out, target)


def _copy_blanked(source: BinaryIO, out: BinaryIO, target: Path) -> None:
    _copy_readable(source, out)
    _blank(out, target)


def _blank(out: BinaryIO, target: Path) -> None:
    """Write zeros over what is withheld from an unpacked archive."""
    listed = target.with_suffix(WITHHELD)
    for offset, n_bytes in json.loads(listed.read_bytes()) if listed.is_file() else []:
        out.seek(offset)
        out.write(bytes(n_bytes))


def _copy_readable(source: BinaryIO, out: BinaryIO) -> None:
    """Copy to the end, or to where a damaged archive cannot be read on: what stands before can be used."""
    while True:
        try:
            block = source.read(1 << 16)
        except _DAMAGE:
            return
        if not block:
            return
        out.write(block)


def _write_beside(target: Path, write: Callable[[BinaryIO], object]) -> None:
    """Write through a temporary name in the same folder, so that a file under its own name is whole."""
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.parent / f".{os.getpid()}-{threading.get_ident()}.part"
    try:
        with temporary.open("wb") as out:
            write(out)
            out.flush()
            os.fsync(out.fileno())
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)
