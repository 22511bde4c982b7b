"""The log of a release: numbered entries, put if absent, never rewritten. The highest entry says what is latest."""

from __future__ import annotations

import json
import os
import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from curate import schema
from curate.errors import ConfigError, VerificationError, did_you_mean
from curate.manifest.tombstone import read_tombstone

_ENTRY = re.compile(r"(\d{10})\.json")
MIN_PREFIX = 4
NUMBERED = ("publish", "erase")  # kinds of entries that people see as v<number>
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")  # as config.Name


@dataclass(frozen=True, slots=True)
class LogEntry:
    """What happened to a release.

    Attributes:
        number: of the entry; people see the version that it published as v<number>.
        kind: publish (a new version), republish (an older version came out of a run again and is the latest now),
            repair (the files of a damaged version were written again; the latest version stays) or erase (a new
            version that takes the place of its one parent, from which rows were erased on request).
        id: of the version.
        at: RFC 3339, UTC.
        host: where it was done.
        parents: ids of the versions that were the latest before.
        gates: passed | warned | failed.
        counts: n_in, n_released, n_excluded, …
    """

    number: int
    kind: str
    id: str
    at: str
    host: str
    parents: tuple[str, ...] = ()
    gates: str = ""
    counts: Mapping[str, Any] = field(default_factory=dict)


def read_log(root: str | Path, name: str) -> list[LogEntry]:
    """Return the entries of a release, oldest first; empty where nothing was published.

    An entry without a byte (the machine lost power while it was written) counts as never written; its number is
    not used again.

    Raises:
        VerificationError: an entry is not what curate writes.
    """
    folder = release_folder(root, name) / "log"
    if not folder.is_dir():
        return []
    entries = []
    for path in sorted(folder.iterdir()):
        match = _ENTRY.fullmatch(path.name)
        if match and path.stat().st_size:
            entries.append(_read_entry(path, int(match.group(1))))
    return entries


def latest(entries: list[LogEntry]) -> LogEntry | None:
    """Return the entry that says which version is the latest."""
    head = None
    for entry in entries:
        if entry.kind == "erase":  # the latest only where it takes the place of the latest
            head = entry if head is not None and head.id in entry.parents else head
        elif entry.kind != "repair":
            head = entry
    return head


def resolve(root: str | Path, reference: str) -> Path:
    """Return the folder of a version: NAME (the latest), NAME@ID (four characters or more are enough), NAME@vN.

    Raises:
        ConfigError: no such release or version, or several that fit.
        VerificationError: the log names a version whose folder is not there.
    """
    name, _, wanted = reference.partition("@")
    entries = read_log(root, name)
    head = latest(entries)
    if head is None:
        known = published_names(root)
        hint = did_you_mean(name, known) or (
            f"Releases: {', '.join(known)}." if known else "Publish one: curate run"
        )
        msg = f"No version of {name!r} was published under {root}. {hint}"
        raise ConfigError(msg)
    chosen = head.id if wanted in {"", "latest"} else _match(entries, name, wanted)
    base = release_folder(root, name)
    path = base / "versions" / chosen
    gone = read_tombstone(base, chosen)
    if gone is not None:
        heir = f"Its successor is {name}@{gone.successor}." if gone.successor else "It has no successor."
        raise ConfigError(f"The version {chosen[:12]} of {name} was erased on {gone.at[:10]}: {gone.why}. {heir}")
    if not path.is_dir():
        msg = f"The log of {name} names the version {chosen}, but {path} is not there (moved or deleted?)."
        raise VerificationError(msg)
    return path


def published_names(root: str | Path) -> list[str]:
    """Return the names of the releases under `root`, sorted."""
    folder = Path(root)
    return sorted(path.parent.name for path in folder.glob("*/log")) if folder.is_dir() else []


def release_folder(root: str | Path, name: str) -> Path:
    """Return the folder of a release.

    Raises:
        ConfigError: a name that cannot be a folder's.
    """
    if not _NAME.fullmatch(name):
        msg = f"A release needs a name of letters, digits, '.', '_' and '-', at most 100; given: {name!r}."
        raise ConfigError(msg)
    return Path(root) / name


def append(
    root: str | Path, name: str, version_id: str, *, gates: str, counts: Mapping[str, Any]
) -> tuple[LogEntry, str | None]:
    """Make `version_id` the latest version; return its publish entry and the kind of entry that was written.

    Nothing is written (None) where it is the latest already. Of several callers at once one writes.
    """
    while True:
        number = next_number(root, name)  # before the log is read: an entry that comes between takes this number
        entries = read_log(root, name)
        head = latest(entries)
        first = next((entry for entry in entries if entry.id == version_id and entry.kind == "publish"), None)
        if first is not None and head is not None and head.id == version_id:
            return first, None
        entry = LogEntry(
            number=number,
            kind="publish" if first is None else "republish",
            id=version_id,
            at=now(),
            host=socket.gethostname(),
            parents=(head.id,) if head else (),
            gates=gates,
            counts=counts,
        )
        if put_entry(root, name, entry):
            return first or entry, entry.kind


def append_erasure(
    root: str | Path, name: str, version_id: str, *, succeeds: str, gates: str, counts: Mapping[str, Any]
) -> LogEntry:
    """Say that `version_id` takes the place of `succeeds`; an entry that says so already is returned."""
    while True:
        number = next_number(root, name)
        for entry in read_log(root, name):
            if (entry.kind, entry.id, entry.parents) == ("erase", version_id, (succeeds,)):
                return entry
        entry = LogEntry(
            number=number,
            kind="erase",
            id=version_id,
            at=now(),
            host=socket.gethostname(),
            parents=(succeeds,),
            gates=gates,
            counts=counts,
        )
        if put_entry(root, name, entry):
            return entry


def next_number(root: str | Path, name: str) -> int:
    """Return one more than the highest number that any entry, torn ones included, has."""
    folder = release_folder(root, name) / "log"
    numbers = [int(match.group(1)) for path in folder.glob("*.json") if (match := _ENTRY.fullmatch(path.name))]
    return max(numbers, default=0) + 1


def put_entry(root: str | Path, name: str, entry: LogEntry) -> bool:
    """Write an entry unless its number is taken; return whether it was written."""
    import obstore  # noqa: PLC0415 - only publishing needs it
    from obstore.exceptions import AlreadyExistsError  # noqa: PLC0415 - only publishing needs it
    from obstore.store import LocalStore  # noqa: PLC0415 - only publishing needs it

    folder = release_folder(root, name) / "log"
    folder.mkdir(parents=True, exist_ok=True)
    content = {
        "format": "curate-log",
        "format_version": 1,
        "kind": entry.kind,
        "id": entry.id,
        "at": entry.at,
        "host": entry.host,
        "parents": list(entry.parents),
        "gates": entry.gates,
        "counts": dict(entry.counts),
    }
    key = f"{entry.number:010d}.json"
    try:
        obstore.put(LocalStore(folder), key, (schema.canonical_json(content) + "\n").encode(), mode="create")
    except AlreadyExistsError:
        return False
    with (folder / key).open("rb") as file:
        os.fsync(file.fileno())
    fsync_folder(folder)
    return True


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


def now() -> str:
    """Return the time as RFC 3339 in UTC; it stands in the log, never in what is hashed."""
    return datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def _read_entry(path: Path, number: int) -> LogEntry:
    try:
        content = json.loads(path.read_bytes())
        return LogEntry(
            number=number,
            kind=str(content["kind"]),
            id=str(content["id"]),
            at=str(content["at"]),
            host=str(content["host"]),
            parents=tuple(map(str, content["parents"])),
            gates=str(content["gates"]),
            counts=dict(content["counts"]),
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        msg = f"The log entry {path} is not what curate wrote: {error!r}. Restore it from a copy."
        raise VerificationError(msg) from error


def _match(entries: list[LogEntry], name: str, wanted: str) -> str:
    numbered = re.fullmatch(r"v(\d+)", wanted)
    published = {entry.number: entry.id for entry in entries if entry.kind in NUMBERED}
    if numbered:
        if int(numbered.group(1)) in published:
            return published[int(numbered.group(1))]
    elif len(wanted) >= MIN_PREFIX and re.fullmatch(r"[0-9a-f]{1,64}", wanted):
        fitting = sorted({entry_id for entry_id in published.values() if entry_id.startswith(wanted)})
        if len(fitting) > 1:
            msg = (
                f"{len(fitting)} versions of {name} start with {wanted}: {', '.join(fitting)}. Give more of the ID."
            )
            raise ConfigError(msg)
        if fitting:
            return fitting[0]
    shown = ", ".join(f"v{number} ({version_id[:12]})" for number, version_id in list(published.items())[-10:])
    msg = (
        f"There is no version {wanted!r} of {name}. Give v<number> or at least {MIN_PREFIX} characters of the ID. "
        f"The last versions: {shown}."
    )
    raise ConfigError(msg)
