"""The last look: every file of a workspace decoded, and whatever still names an erased sample named in turn."""

from __future__ import annotations

import gzip
import hashlib
import json
import lzma
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import pyarrow as pa
import pyarrow.parquet as pq

from curate.adapters.object_store import StorePath
from curate.governance.journal import Erasure, journal_file
from curate.governance.places import releases_in
from curate.governance.secret import secret_file
from curate.governance.traces import Traces
from curate.manifest.place import Place

_DATABASES = ("mongo", "mongo.rebuilt", "mongo.old")  # decoded as collections, not as files
_CHUNK_BYTES = 1 << 22
_OVERLAP_BYTES = 1 << 12
_TORN = (OSError, EOFError, zlib.error, lzma.LZMAError, zipfile.BadZipFile, NotImplementedError)


def leftovers(root: Path, erasure: Erasure, *, private: bool = True) -> list[tuple[Place, bool]]:
    """Return the files of a workspace, and of its releases elsewhere, that still hold something erased.

    With each stands whether it is part of a release. Objects of a store are fetched one after the other to be decoded.

    Parquet is decoded by value, JSON by value, zip and gzip are unpacked, everything else is read as text; a file
    with erased bytes is known by its hash. What was embedded in other bytes (a thumbnail) is not recognised: that is
    why pages are deleted whole.

    Args:
        root: the workspace.
        erasure: what is looked for.
        private: leave out the journal of the erasure itself, which names what it erases while it lasts.
    """
    traces, hashes, sizes = erasure.traces, set(erasure.content_sha256), set(erasure.n_bytes)
    left_out = {journal_file(root), secret_file(root)} if private else {secret_file(root)}
    found: list[tuple[Place, bool]] = []
    for release, name, place in _files(root, erasure):
        if place in left_out:
            continue
        with _here(place) as file:
            if traces.hits(name) or _is_copy(file, hashes, sizes) or holds(file, _traces_for(file, root, traces)):
                found.append((place, release))
    return found


@contextmanager
def _here(place: Place) -> Iterator[Path]:
    """Yield the file, or a copy of the object that lasts as long."""
    if isinstance(place, Path):
        yield place
        return
    with tempfile.TemporaryDirectory(prefix="curate-sweep-") as folder:
        copy = Path(folder) / place.name
        with copy.open("wb") as file:
            file.writelines(place.chunks())
        yield copy


def _traces_for(file: Path, root: Path, traces: Traces) -> Traces:
    """Return what to look for in a file: in a generated source, also paths relative to its own folder."""
    parts = file.relative_to(root).parts if file.is_relative_to(root) else ()
    return traces.within(parts[2]) if parts[1:2] == ("media",) and len(parts) > 3 else traces


def _files(root: Path, erasure: Erasure) -> Iterator[tuple[bool, str, Place]]:
    """Yield every file of the workspace and of the releases outside it: of a release?, its relative name, where it is."""
    inside = [
        root / "manifests",
        *(one for top in erasure.places for one in releases_in(top) if isinstance(one, Path)),
    ]
    for file in workspace_files(root):
        yield any(map(file.is_relative_to, inside)), file.relative_to(root).as_posix(), file
    for top in erasure.places:
        for release in [] if isinstance(top, Path) and top.is_relative_to(root) else releases_in(top):
            if isinstance(release, StorePath):
                yield from ((True, found.path, release / found.path) for found in release.below())
            else:
                yield from ((True, one.relative_to(release).as_posix(), one) for one in workspace_files(release))


def workspace_files(root: Path) -> Iterator[Path]:
    """Yield every plain file of a workspace but the database's, in order."""
    for top in sorted(root.iterdir()):
        if top.is_file():
            yield top
        elif top.is_dir() and top.name not in _DATABASES:
            yield from sorted(path for path in top.rglob("*") if path.is_file() and not path.is_symlink())


def holds(file: Path, traces: Traces) -> bool:
    """Return whether a file names something erased."""
    with file.open("rb") as stream:
        start = stream.read(4)
    if start == b"PAR1":
        return _parquet_holds(file, traces)
    if start[:2] in {b"PK", b"\x1f\x8b"}:
        try:
            return _packed_holds(file, traces)
        except (*_TORN, RuntimeError):  # torn, locked or packed in a way that nobody here unpacks: read as text
            return _text_holds(file, traces)
    if file.suffix == ".json":
        try:
            return traces.json_hits(json.loads(file.read_bytes()))
        except ValueError:
            pass  # torn, or no JSON: read as text
    return _text_holds(file, traces)


def _packed_holds(file: Path, traces: Traces) -> bool:
    """Return whether what is packed in a zip or gzip names something erased; raises where it cannot be unpacked."""
    if not zipfile.is_zipfile(file):
        with gzip.open(file) as unpacked:
            return _stream_holds(unpacked, traces)
    with zipfile.ZipFile(file) as archive:
        for name in archive.namelist():
            with archive.open(name) as unpacked:
                if traces.hits(name) or _stream_holds(unpacked, traces):
                    return True
    return False


def _parquet_holds(file: Path, traces: Traces) -> bool:
    try:
        with pq.ParquetFile(file) as parquet:
            about = parquet.schema_arrow.metadata or {}
            if any(traces.hits(value.decode("utf-8", "ignore")) for value in about.values()):
                return True
            return any(any(traces.rows(pa.Table.from_batches([batch]))) for batch in parquet.iter_batches())
    except (OSError, pa.ArrowException):
        return _text_holds(file, traces)


def _text_holds(file: Path, traces: Traces) -> bool:
    with file.open("rb") as stream:
        return _stream_holds(stream, traces)


def _stream_holds(stream: IO[bytes] | gzip.GzipFile, traces: Traces) -> bool:
    before = b""
    while chunk := stream.read(_CHUNK_BYTES):
        if traces.hits((before + chunk).decode("utf-8", "ignore")):
            return True
        before = chunk[-_OVERLAP_BYTES:]
    return False


def _is_copy(file: Path, hashes: set[str], sizes: set[int]) -> bool:
    if sizes and file.stat().st_size not in sizes:
        return False
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest() in hashes
