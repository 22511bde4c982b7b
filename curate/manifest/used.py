"""Which training runs used which version: numbered entries beside the log, put if absent, never rewritten."""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass
from pathlib import Path

from curate import schema
from curate.errors import VerificationError
from curate.manifest.log import fsync_folder, release_folder

_ENTRY = re.compile(r"(\d{10})\.json")


@dataclass(frozen=True, slots=True)
class Use:
    """A training run `by` that used the version `id`; `at` is RFC 3339, UTC."""

    id: str
    by: str
    at: str


def record_use(manifests: str | Path, name: str, version_id: str, by: str, at: str) -> Use:
    """Record that the training run `by` used a version; one that is recorded already is returned as it stands.

    Raises:
        ConfigError: a name that cannot be a folder's.
        VerificationError: an entry is not what curate wrote.
    """
    import obstore  # noqa: PLC0415 - only recording needs it
    from obstore.exceptions import AlreadyExistsError  # noqa: PLC0415 - only recording needs it
    from obstore.store import LocalStore  # noqa: PLC0415 - only recording needs it

    folder = release_folder(manifests, name) / "used"
    folder.mkdir(parents=True, exist_ok=True)
    content = {"format": "curate-used", "format_version": 1, "id": version_id, "by": by, "at": at}
    data = (schema.canonical_json(content) + "\n").encode()
    while True:
        numbers = [int(match.group(1)) for path in folder.iterdir() if (match := _ENTRY.fullmatch(path.name))]
        known = next((use for use in read_uses(manifests, name) if (use.id, use.by) == (version_id, by)), None)
        if known is not None:
            return known
        key = f"{max(numbers, default=0) + 1:010d}.json"
        try:
            obstore.put(LocalStore(folder), key, data, mode="create")
        except AlreadyExistsError:
            continue
        with (folder / key).open("rb") as file:
            os.fsync(file.fileno())
        fsync_folder(folder)
        return Use(version_id, by, at)


def read_uses(manifests: str | Path, name: str) -> list[Use]:
    """Return the recorded uses of a release's versions, oldest first.

    Raises:
        VerificationError: an entry is not what curate wrote.
    """
    folder = release_folder(manifests, name) / "used"
    uses = []
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        if not _ENTRY.fullmatch(path.name) or not path.stat().st_size:
            continue  # a file without a byte was cut off by a power failure: never written
        try:
            entry = json.loads(path.read_bytes())
            uses.append(Use(str(entry["id"]), str(entry["by"]), str(entry["at"])))
        except (ValueError, KeyError, TypeError) as error:
            msg = f"The record of use {path} is not what curate wrote: {error!r}. Restore it from a copy."
            raise VerificationError(msg) from error
    return uses
