"""An own look at a workspace, with nothing of curate's: every Parquet value, JSON, collection and raw byte."""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Iterator, Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq


def texts_of_files(root: Path) -> Iterator[tuple[str, bytes]]:
    """Yield (path, content) of every file; Parquet as the text of all its values and of its metadata."""
    for file in sorted(path for path in root.rglob("*") if path.is_file()):
        content = file.read_bytes()
        place = file.relative_to(root).as_posix()
        yield place, place.encode()
        yield place, content
        if content[:4] == b"PAR1":
            parquet = pq.ParquetFile(file)
            yield place, repr(parquet.metadata.metadata).encode()
            yield place, repr(parquet.read().to_pylist()).encode()
        if content[:2] == b"PK" and zipfile.is_zipfile(file):
            with zipfile.ZipFile(BytesIO(content)) as archive:
                for name in archive.namelist():
                    yield place, name.encode() + archive.read(name)


def texts_of_database(uri: str) -> Iterator[tuple[str, bytes]]:
    """Yield (collection, document) of every document of every database."""
    import pymongo  # noqa: PLC0415 - only where a database is looked at

    client: Any
    with pymongo.MongoClient(uri) as client:
        for database in client.list_database_names():
            for name in client[database].list_collection_names():
                for document in client[database][name].find({}):
                    yield f"{database}.{name}", repr(document).encode()


def found(texts: Iterator[tuple[str, bytes]], needles: Mapping[str, bytes]) -> dict[str, set[str]]:
    """Return needle -> the places that hold it."""
    places: dict[str, set[str]] = {}
    for place, text in texts:
        for name, needle in needles.items():
            if needle in text:
                places.setdefault(name, set()).add(place)
    return places


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
