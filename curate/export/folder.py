"""The folder of an export: it appears whole or not at all, and replaces nothing but an earlier export."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from curate.errors import ConfigError, writing
from curate.export.record import MARKER


@contextmanager
def written_beside(out: Path) -> Iterator[Path]:
    """Yield an empty folder beside `out` that takes its place at the end; an error leaves `out` as it was.

    Raises:
        ConfigError: `out` holds something else than an earlier export.
        StageError: the disk is full.
    """
    refuse_foreign(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    beside = Path(tempfile.mkdtemp(prefix=f".{out.name}.", suffix=".part", dir=out.parent))
    try:
        beside.chmod(0o777 & ~_umask())
        with writing(out):
            yield beside
            _swap(beside, out)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def refuse_foreign(out: Path) -> None:
    """Raise a ConfigError if `out` is there and is no earlier export."""
    if out.is_symlink() or (out.exists() and not out.is_dir()):
        raise ConfigError(f"An export is a folder; {out} is there and is none. Give another path.")
    if out.is_dir() and any(out.iterdir()) and not (out / MARKER).is_file():
        raise ConfigError(
            f"{out} holds files that are no export of curate, so it is left alone. Give another folder."
        )


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current


def _swap(beside: Path, out: Path) -> None:
    """Put the finished folder in its place; an earlier export is moved away first and then removed."""
    if not out.is_dir():
        beside.replace(out)
        return
    old = Path(tempfile.mkdtemp(prefix=f".{out.name}.", suffix=".old", dir=out.parent))
    out.replace(old)
    try:
        beside.replace(out)
    except OSError:
        old.replace(out)
        raise
    shutil.rmtree(old, ignore_errors=True)
