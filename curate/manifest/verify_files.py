"""Promises about bytes: every listed file is there as it was written, and nothing else is."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from curate.adapters.object_store import StorePath
from curate.errors import VerificationError
from curate.manifest.place import Place, resolved, sha256_of
from curate.manifest.promise import Promise, promise_of
from curate.manifest.read import load_manifest
from curate.manifest.store import MANIFEST

Progress = Callable[[int, int | None], None]


AT_ONCE = min(
    8, 2 * (os.cpu_count() or 1)
)  # large files are hashed side by side, small ones hide each other's wait


def file_promises(version: Place, *, progress: Progress | None = None) -> list[Promise]:
    """Return the promises that are about bytes: manifest, id, files, nothing unlisted.

    Raises:
        InputError: there is no folder at this path.
    """
    try:
        manifest, version_id = load_manifest(version)
    except VerificationError as error:
        return [Promise("manifest", ok=False, detail=str(error))]
    listed = {entry["path"]: entry for entry in manifest["files"]}
    present, odd = _walk(version)
    unlisted = sorted(odd | (set(present) - set(listed) - {MANIFEST}))
    links = [
        f"{path} is a link"
        for path in listed
        if isinstance(version, Path) and ((version / path).is_symlink() or (version / path).parent.is_symlink())
    ]
    damage = links or _damage(version, listed, present, progress)
    n_bytes = sum(entry["bytes"] for entry in listed.values())
    named = resolved(version).name
    return [
        Promise(
            "manifest", ok=True, detail=f"format {manifest['format_version']}, schema {manifest['schema_version']}"
        ),
        promise_of(
            "id",
            [] if named == version_id else [f"the folder says {named}, {MANIFEST} hashes to {version_id}"],
            f"is the sha256 of {MANIFEST}",
        ),
        promise_of("files", damage, f"{len(listed)} files, {n_bytes} bytes, each with its sha256"),
        promise_of("nothing unlisted", unlisted, "no other file, folder or link"),
    ]


def missing_or_cut(version: Place, manifest: Mapping[str, Any]) -> list[str]:
    """Say which listed files are not there or have another size; nothing is read, so that it costs next to nothing."""
    present, _ = _walk(version)
    found = (_size_damage(entry, present) for entry in manifest["files"])
    return [damage for damage in found if damage]


def _size_damage(entry: Mapping[str, Any], present: Mapping[str, int]) -> str | None:
    n_bytes = present.get(entry["path"])
    if n_bytes is None:
        return f"{entry['path']} is missing"
    return (
        None if n_bytes == entry["bytes"] else f"{entry['path']} has {n_bytes} bytes, listed are {entry['bytes']}"
    )


def _walk(version: Place) -> tuple[dict[str, int], set[str]]:
    """Return the plain files of a version with their bytes, and what should not be there whatever is listed."""
    if isinstance(version, StorePath):
        return {found.path: found.n_bytes for found in version.below()}, set()
    files: dict[str, int] = {}
    odd: set[str] = set()
    folders = [version]
    while folders:
        folder = folders.pop()
        n_inside = 0
        with os.scandir(folder) as entries:
            for entry in entries:
                n_inside += 1
                relative = Path(entry.path).relative_to(version).as_posix()
                if entry.is_symlink():
                    odd.add(f"{relative} (a link)")
                elif entry.is_dir():
                    folders.append(Path(entry.path))
                elif entry.is_file():
                    files[relative] = entry.stat().st_size
                else:
                    odd.add(f"{relative} (no plain file)")
        if not n_inside:
            odd.add(f"{folder.relative_to(version).as_posix()}/ (an empty folder)")
    return files, odd


def _damage(
    version: Place, listed: Mapping[str, Mapping[str, Any]], present: Mapping[str, int], progress: Progress | None
) -> list[str]:
    n_all = sum(entry["bytes"] for entry in listed.values())
    n_done = 0
    found = []
    with ThreadPoolExecutor(max_workers=AT_ONCE) as pool:
        for entry, damage in zip(
            listed.values(),
            pool.map(lambda entry: _file_damage(version, entry, present), listed.values()),
            strict=True,
        ):
            n_done += entry["bytes"]
            found += [damage] if damage else []
            if progress:
                progress(n_done, n_all)
    return found


def _file_damage(version: Place, entry: Mapping[str, Any], present: Mapping[str, int]) -> str | None:
    place = version / entry["path"]
    damage = _size_damage(entry, present)
    if damage:
        return damage
    try:
        if sha256_of(place) != entry["sha256"]:
            return f"{entry['path']} was changed: its sha256 is not the listed one"
    except FileNotFoundError:
        return f"{entry['path']} is missing"
    except OSError as error:
        return f"{entry['path']} cannot be read: {error.strerror or error}"
    return None
