"""Data sets as they come: a folder, a tar or a zip."""

from __future__ import annotations

import tarfile
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def unpacked(path: Path) -> Iterator[Path]:
    """Give a folder with the files: `path` itself, or one with what the archive holds, gone at the end."""
    if path.is_dir():
        yield path
        return
    with tempfile.TemporaryDirectory() as temporary:
        if tarfile.is_tarfile(path):
            with tarfile.open(path) as archive:
                archive.extractall(temporary, filter="data")
        else:
            with zipfile.ZipFile(path) as archive:
                archive.extractall(temporary)  # noqa: S202 - zipfile keeps every name inside the folder
        yield Path(temporary)
