"""Where releases are: a folder of this disk or a place in an object store, read and written by the same calls."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from curate.adapters.object_store import StoreError, StorePath, open_store
from curate.errors import writing

Place = Path | StorePath


def place_of(root: str | Path | StorePath) -> Place:
    """Return the place of a path or URL.

    Raises:
        ConfigError: a URL that no store has.
    """
    if isinstance(root, str) and "://" in root:
        return Path(root.removeprefix("file://")) if root.startswith("file://") else open_store(root)
    return root if isinstance(root, StorePath) else Path(root)


def names_in(folder: Place) -> list[str]:
    """Return the names directly in a folder, sorted; empty where it is not there."""
    if isinstance(folder, StorePath):
        return folder.names()
    return sorted(entry.name for entry in os.scandir(folder)) if folder.is_dir() else []


def read_all(folder: Place, names: Sequence[str]) -> list[bytes]:
    """Return the content of the files of these names, in order."""
    if isinstance(folder, StorePath):
        return folder.read_all(list(names))
    return [(folder / name).read_bytes() for name in names]


def put_new(place: Place, content: bytes) -> bool:
    """Write a file unless it is there, whole and durable; return whether this call wrote it.

    Of any number of callers at once, with content of their own, one is told True.
    """
    if isinstance(place, StorePath):
        return place.put_new(content)
    import obstore  # noqa: PLC0415 - reading needs none of it
    from obstore.exceptions import AlreadyExistsError, BaseError  # noqa: PLC0415 - as above
    from obstore.store import LocalStore  # noqa: PLC0415 - as above

    place.parent.mkdir(parents=True, exist_ok=True)
    try:
        obstore.put(LocalStore(place.parent), place.name, content, mode="create")
    except AlreadyExistsError:
        return False
    except BaseError as error:
        raise StoreError(f"{place} cannot be written: {str(error).splitlines()[0]}") from error
    with place.open("rb") as file:
        os.fsync(file.fileno())
    fsync_folder(place.parent)
    return True


def remove_file(place: Place) -> None:
    """Remove a file; none there is fine."""
    if isinstance(place, StorePath):
        place.delete()
    else:
        place.unlink(missing_ok=True)


def remove_folder(folder: Place) -> None:
    """Remove a folder and all that is in it; none there is fine."""
    if isinstance(folder, StorePath):
        for found in list(folder.below()):
            (folder / found.path).delete()
    elif folder.exists():
        shutil.rmtree(folder)


def parquet_file(
    place: Place, *, footer: pq.FileMetaData | None = None, coded: Sequence[str] = ()
) -> pq.ParquetFile:
    """Return an open Parquet file; from a store only the ranges that are read are fetched.

    `footer`: the file's, where it was read before. `coded`: text columns to be read as dictionary and codes.
    """
    if isinstance(place, StorePath):
        return pq.ParquetFile(place.open(), metadata=footer, read_dictionary=coded, pre_buffer=True)
    return pq.ParquetFile(place, metadata=footer, read_dictionary=coded)


def sha256_of(place: Place) -> str:
    """Return the sha256 of a file, streamed."""
    if isinstance(place, StorePath):
        digest = hashlib.sha256()
        for chunk in place.chunks():
            digest.update(chunk)
        return digest.hexdigest()
    with place.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fsync_folder(folder: Path) -> None:
    """Make the names in a folder durable, where the system lets folders be opened."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except PermissionError:  # Windows
        return
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_durably(path: Path, content: bytes) -> None:
    """Write a file and wait until it is on the disk."""
    with writing(path), path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def resolved(place: Place) -> Any:  # noqa: ANN401 - the same kind of place
    """Return the place without links on the way."""
    return place.resolve() if isinstance(place, Path) else place
