"""Versions in a folder: staged beside, moved to their place in one rename; what lives is known by its lock."""

from __future__ import annotations

import errno
import os
import shutil
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from curate.manifest.place import fsync_folder
from curate.manifest.store import MANIFEST
from curate.manifest.verify_files import file_promises

_OCCUPIED = {errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR}
_HALF_ENTRY_S = 3600.0  # a log entry is written within milliseconds


@contextmanager
def staging(base: Path) -> Iterator[Path]:
    """Yield a folder of our own; a lock beside it says that we live, and ends with the process."""
    for folder in ("versions", "staging", "log"):
        (base / folder).mkdir(parents=True, exist_ok=True)
    own = base / "staging" / uuid.uuid4().hex
    alive = FileLock(own.with_suffix(".lock"))
    with FileLock(base / ".lock"):
        _collect_staging(base)
        alive.acquire(timeout=0)
        own.mkdir()
    try:
        yield own
    finally:
        shutil.rmtree(own, ignore_errors=True)
        own.with_suffix(".lock").unlink(missing_ok=True)
        alive.release()


def place(staged: Path, version_id: str, base: Path) -> bool:
    """Move the version to its place; returns whether something damaged stood there and was moved aside."""
    target = base / "versions" / version_id
    if _renamed(staged, target) or _is_intact(target):
        return False
    with FileLock(base / ".lock"):
        if _renamed(staged, target) or _is_intact(target):
            return False
        aside = base / "damaged" / f"{target.name}-{uuid.uuid4().hex[:8]}"
        aside.parent.mkdir(exist_ok=True)
        target.rename(aside)
        staged.rename(target)
        fsync_folder(target.parent)
        return True


def collect(base: Path) -> list[str]:
    """Remove what killed publishers left; return what was removed, relative to `base`.

    Publishers that live hold a lock and are not touched; a version that stands in `versions/` came there whole.
    """
    if not base.is_dir():
        return []
    with FileLock(base / ".lock"):
        removed = _collect_staging(base)
    for half in (base / "log").glob("*.json#*"):
        if time.time() - half.stat().st_mtime > _HALF_ENTRY_S:
            half.unlink(missing_ok=True)
            removed.append(f"log/{half.name}")
    return removed


def _collect_staging(base: Path) -> list[str]:
    removed = []
    folder = base / "staging"
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        if path.suffix != ".lock":
            continue
        lock = FileLock(path)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            continue
        shutil.rmtree(path.with_suffix(""), ignore_errors=True)
        path.unlink(missing_ok=True)
        lock.release()
        removed.append(f"staging/{path.stem}")
    return removed


def _renamed(staged: Path, target: Path) -> bool:
    try:
        os.rename(staged, target)  # noqa: PTH104 - Path.replace says the same with another name on Windows
    except OSError as error:
        if error.errno in _OCCUPIED:
            return False
        raise
    fsync_folder(target.parent)
    return True


def _is_intact(target: Path) -> bool:
    return (target / MANIFEST).is_file() and all(promise.ok is not False for promise in file_promises(target))
