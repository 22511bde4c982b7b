"""Versions in an object store: written here, uploaded file by file, `manifest.json` last and only if absent.

Without the manifest there is no version, so an upload that was cut off is a leftover and nothing more. Publishers of
one ID write the same bytes to the same keys and cannot harm each other. Publisher and collector each say that they are
there (`staging/`) before they look for the other, so that at least one of them sees the other and waits.
"""

from __future__ import annotations

import json
import tempfile
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path

from curate.adapters.object_store import Found, StoreError, StorePath
from curate.manifest.store import MANIFEST

DEAD_AFTER = timedelta(hours=24)
_COLLECTOR_DEAD_AFTER = timedelta(hours=1)
_WAIT_S = 120.0
_AT_ONCE = 8


@contextmanager
def staging(_base: StorePath) -> Iterator[Path]:
    """Yield a folder of this machine to write the version into."""
    with tempfile.TemporaryDirectory(prefix="curate-publish-") as folder:
        yield Path(folder)


def place(staged: Path, version_id: str, base: StorePath) -> bool:
    """Upload the version; returns whether something damaged stood in its place and was written over.

    Raises:
        StoreError: the store refused; without a manifest nothing is published.
    """
    target = base / "versions" / version_id
    sizes = {
        path.relative_to(staged).as_posix(): path.stat().st_size for path in staged.rglob("*") if path.is_file()
    }
    content = (staged / MANIFEST).read_bytes()
    there = {found.path: found.n_bytes for found in target.below()}
    if _is_whole(target, there, sizes, content):
        return False
    was_published = MANIFEST in there
    with _announced(base, "publish", version_id):
        _wait_for_collectors(base)
        _upload(staged, target, [path for path in sizes if path != MANIFEST])
        if not (target / MANIFEST).put_new(content) and (target / MANIFEST).read_bytes() != content:
            was_published = True
            (target / MANIFEST).put(content)
        there = {found.path: found.n_bytes for found in target.below()}
        lost = [path for path, n_bytes in sizes.items() if there.get(path) != n_bytes]
        _upload(staged, target, lost)
    return was_published


def collect(base: StorePath, dead_after: timedelta = DEAD_AFTER) -> list[str]:
    """Remove what publishers left that have not moved for `dead_after`; return what was removed.

    A version with a manifest is committed and never touched, nor is one whose publisher announced itself or wrote
    a file since. Time is the store's own. Parts of a file whose upload was cut off are invisible to a listing:
    give the bucket a lifecycle rule for them.
    """
    _require_deletable(base)
    removed: list[str] = []
    with _announced(base, "collect", "") as announced:
        now = next(found.written for found in announced.parent.below() if found.path == announced.name)
        busy = set()
        for found in (base / "staging").below():
            if found.path in {announced.name, "probe.json"}:
                continue
            if now - found.written > dead_after:
                (base / "staging" / found.path).delete()
                removed.append(f"staging/{found.path}")
            elif found.path.startswith("publish-"):
                busy.add(_announced_id(base / "staging" / found.path))
        for version_id, files in _by_version(base).items():
            young = any(now - found.written <= dead_after for found in files)
            if version_id in busy or young or any(found.path == MANIFEST for found in files):
                continue
            for found in files:
                (base / "versions" / version_id / found.path).delete()
                removed.append(f"versions/{version_id}/{found.path}")
    return removed


def _by_version(base: StorePath) -> dict[str, list[Found]]:
    versions: dict[str, list[Found]] = {}
    for found in (base / "versions").below():
        version_id, _, path = found.path.partition("/")
        versions.setdefault(version_id, []).append(found._replace(path=path))
    return versions


def _is_whole(target: StorePath, there: dict[str, int], sizes: dict[str, int], content: bytes) -> bool:
    return there == sizes and (target / MANIFEST).read_bytes() == content


def _upload(staged: Path, target: StorePath, paths: list[str]) -> None:
    with ThreadPoolExecutor(max_workers=_AT_ONCE) as pool:
        list(pool.map(lambda path: (target / path).put(staged / path), paths))


def require_writable(base: StorePath) -> None:
    """Write and remove a small object, so that a refusal comes before any work and not after it.

    Raises:
        StoreError: the store refuses to be listed or written; removing what was written may be refused.
    """
    probe = _probed(base)
    with suppress(OSError):
        probe.delete()


def _require_deletable(base: StorePath) -> None:
    """Raise where nothing may be removed: a collector that cannot take back its word would hold up publishers."""
    _probed(base).delete()


def _probed(base: StorePath) -> StorePath:
    (base / "log").names()
    probe = base / "staging" / "probe.json"  # one key: where nothing may be removed, no more than one stays
    probe.put(b"{}")
    return probe


@contextmanager
def _announced(base: StorePath, who: str, version_id: str) -> Iterator[StorePath]:
    """Say that a publisher or a collector is at work, for as long as it is."""
    own = base / "staging" / f"{who}-{uuid.uuid4().hex}.json"
    own.put(json.dumps({"id": version_id}).encode())
    try:
        yield own
    finally:
        with suppress(OSError):
            own.delete()


def _announced_id(place: StorePath) -> str:
    try:
        return str(json.loads(place.read_bytes())["id"])
    except FileNotFoundError:
        return ""


def _wait_for_collectors(base: StorePath) -> None:
    began_s = time.monotonic()
    while True:
        listed = list((base / "staging").below())
        now = max(found.written for found in listed)  # our own is there
        if not any(f.path.startswith("collect-") and now - f.written < _COLLECTOR_DEAD_AFTER for f in listed):
            return
        if time.monotonic() - began_s > _WAIT_S:
            raise StoreError(f"curate gc is at work in {base} and does not end. Publish again when it is done.")
        time.sleep(0.5)
