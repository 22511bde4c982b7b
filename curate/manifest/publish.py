"""Publish: write a version beside, move it to its place in one step, then say so in the log."""

from __future__ import annotations

import errno
import os
import shutil
import socket
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from curate.errors import StageError
from curate.manifest import log
from curate.manifest.build import Release
from curate.manifest.store import MANIFEST, write_version
from curate.manifest.tombstone import read_tombstone
from curate.manifest.verify import file_promises

_OCCUPIED = {errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR}


@dataclass(frozen=True, slots=True)
class Published:
    """A version in its place.

    Attributes:
        id: sha256 of its manifest.json.
        number: people see v<number>.
        path: its folder.
        is_new: whether this call published it; False where the same content was published before.
        gates: passed | warned | failed.
        repaired: whether a damaged or half-written folder of the same ID was replaced (and kept aside).
    """

    id: str
    number: int
    path: Path
    is_new: bool
    gates: str
    repaired: bool = False


def publish(release: Release, root: str | Path, name: str, *, succeeds: str | None = None) -> Published:
    """Publish a release under `root`/`name` and return where it is.

    The folder `versions/ID` appears in one rename, complete and fsynced, so a killed publisher leaves either a
    version that verifies or none (and a staging folder that the next publisher removes). The log entry follows; if
    the process dies between the two, the next publisher of the same content writes it. A version that is there and
    intact is left as it is; a damaged one is moved to `damaged/` and written again.

    Args:
        release: what to publish.
        root: folder of all releases.
        name: of the release.
        succeeds: ID of a version whose place this one takes, since rows were erased from it; else None.

    Raises:
        ConfigError: a name that cannot be a folder's.
        StageError: the disk is full or cannot be written; nothing is published then.
    """
    base = log.release_folder(root, name)
    try:
        version_id, repaired = _put(release, base, name)
    except OSError as error:
        why = error.strerror or str(error)
        msg = (
            f"Publishing needs a folder that can be written and has room; "
            f"{base} gave: {why}. Nothing was published."
        )
        raise StageError(msg) from error
    target = base / "versions" / version_id
    gates, counts = release.gates.outcome, release.head["counts"]
    if succeeds is not None:
        made = log.append_erasure(root, name, version_id, succeeds=succeeds, gates=gates, counts=counts)
        return Published(version_id, made.number, target, is_new=True, gates=gates, repaired=repaired)
    entry, written = log.append(root, name, version_id, gates=gates, counts=counts)
    if repaired and written is None:
        _log_repair(root, name, version_id, gates)
    return Published(version_id, entry.number, target, written == "publish", gates, repaired)


def _put(release: Release, base: Path, name: str) -> tuple[str, bool]:
    """Write the version and move it to its place; return its ID and whether something damaged was replaced."""
    for folder in ("versions", "staging", "log"):
        (base / folder).mkdir(parents=True, exist_ok=True)
    with _staging(base) as staging:
        staged = staging / "version"
        staged.mkdir()
        version_id = write_version(release, staged, name)
        if read_tombstone(base, version_id) is not None:
            raise StageError(
                f"The version {version_id[:12]} of {name} was erased on request and is not published again. "
                f"Is the list of what was erased ({base.parent.parent / 'erasure'}) still there?"
            )
        return version_id, _place(staged, base / "versions" / version_id, base)


def collect_leftovers(root: str | Path, name: str) -> int:
    """Remove what killed publishers left in `staging/`; returns how many. Running publishers are not touched."""
    base = log.release_folder(root, name)
    with FileLock(base / ".lock"):
        return _collect(base)


@contextmanager
def _staging(base: Path) -> Iterator[Path]:
    """Yield a folder of our own; a lock beside it says that we live, and ends with the process."""
    own = base / "staging" / uuid.uuid4().hex
    alive = FileLock(own.with_suffix(".lock"))
    with FileLock(base / ".lock"):
        _collect(base)
        alive.acquire(timeout=0)
        own.mkdir()
    try:
        yield own
    finally:
        shutil.rmtree(own, ignore_errors=True)
        own.with_suffix(".lock").unlink(missing_ok=True)
        alive.release()


def _collect(base: Path) -> int:
    n_removed = 0
    staging = base / "staging"
    for path in sorted(staging.iterdir()) if staging.is_dir() else []:
        if path.suffix == ".lock":
            lock = FileLock(path)
            try:
                lock.acquire(timeout=0)
            except Timeout:
                continue
            shutil.rmtree(path.with_suffix(""), ignore_errors=True)
            path.unlink(missing_ok=True)
            lock.release()
            n_removed += 1
    return n_removed


def _place(staged: Path, target: Path, base: Path) -> bool:
    """Move the version to its place; returns whether something damaged stood there and was moved aside."""
    if _renamed(staged, target) or _is_intact(target):
        return False
    with FileLock(base / ".lock"):
        if _renamed(staged, target) or _is_intact(target):
            return False
        aside = base / "damaged" / f"{target.name}-{uuid.uuid4().hex[:8]}"
        aside.parent.mkdir(exist_ok=True)
        target.rename(aside)
        staged.rename(target)
        log.fsync_folder(target.parent)
        return True


def _renamed(staged: Path, target: Path) -> bool:
    try:
        os.rename(staged, target)  # noqa: PTH104 - Path.replace says the same with another name on Windows
    except OSError as error:
        if error.errno in _OCCUPIED:
            return False
        raise
    log.fsync_folder(target.parent)
    return True


def _is_intact(target: Path) -> bool:
    return (target / MANIFEST).is_file() and all(promise.ok is not False for promise in file_promises(target))


def _log_repair(root: str | Path, name: str, version_id: str, gates: str) -> None:
    while True:
        entry = log.LogEntry(
            number=log.next_number(root, name),
            kind="repair",
            id=version_id,
            at=log.now(),
            host=socket.gethostname(),
            gates=gates,
        )
        if log.put_entry(root, name, entry):
            return
