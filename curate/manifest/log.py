"""The log of a release: numbered entries, put if absent, never rewritten. The last entries say what is latest."""

from __future__ import annotations

import re
import socket
import uuid
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, overload

from curate.adapters.object_store import StorePath
from curate.errors import ConfigError, VerificationError, did_you_mean
from curate.manifest.entry import seal, unseal
from curate.manifest.history import (
    HEADS,
    NUMBERED,
    LogEntry,
    latest,
    predecessors,
    publications,
    retractions,
    rolled_back,
    successors,
    tags,
)
from curate.manifest.place import Place, names_in, put_new, read_all
from curate.manifest.tombstone import read_tombstone

__all__ = [
    "HEADS", "NUMBERED", "LogEntry", "add", "append", "append_erasure", "begun_names", "latest", "next_number", "now",
    "predecessors", "publications", "published_names", "put_entry", "read_log", "release_folder", "resolve",
    "retractions", "rolled_back", "successors", "tags", "version_id_of",
]  # fmt: skip

_ENTRY = re.compile(r"(\d{10})\.json")
MIN_PREFIX = 4
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")  # as config.Name
_OWN = {"format", "format_version", "kind", "id", "at", "host", "parents", "gates", "counts", "why", "tag", "call"}
_ALWAYS = ("format", "host", "parents", "gates", "counts")
_NEEDED = {
    **dict.fromkeys(("publish", "republish", "rollback", "retract", "repair", "erase"), _ALWAYS),
    "tag": (*_ALWAYS, "tag"),
}


def read_log(root: str | Place, name: str) -> list[LogEntry]:
    """Return the entries of a release, oldest first; empty where nothing was published.

    An entry without a byte (the machine lost power while it was written) counts as never written; its number is
    not used again.

    Raises:
        VerificationError: an entry is not what curate writes.
        StoreError: the store cannot be read.
    """
    folder = release_folder(root, name) / "log"
    numbered = [found for found in names_in(folder) if _ENTRY.fullmatch(found)]
    return [
        _read_entry(folder / found, int(found[:10]), content)
        for found, content in zip(numbered, read_all(folder, numbered), strict=True)
        if content
    ]


@overload
def resolve(root: str | Path, reference: str) -> Path: ...
@overload
def resolve(root: StorePath, reference: str) -> StorePath: ...
@overload
def resolve(root: Place, reference: str) -> Place: ...
def resolve(root: str | Place, reference: str) -> Place:
    """Return the folder of a version: NAME (the latest), NAME@ID (four characters are enough), NAME@vN, NAME@TAG.

    Raises:
        ConfigError: no such release or version, or several that fit.
        VerificationError: the log names a version whose folder is not there.
    """
    name, _, wanted = reference.partition("@")
    chosen = version_id_of(read_log(root, name), root, name, wanted)
    base = release_folder(root, name)
    path = base / "versions" / chosen
    gone = read_tombstone(base, chosen)
    if gone is not None:
        heir = f"Its successor is {name}@{gone.successor}." if gone.successor else "It has no successor."
        raise ConfigError(f"The version {chosen[:12]} of {name} was erased on {gone.at[:10]}: {gone.why}. {heir}")
    if not (path.is_dir() if isinstance(path, Path) else (path / "manifest.json").is_file()):
        msg = f"The log of {name} names the version {chosen}, but {path} is not there (moved or deleted?)."
        raise VerificationError(msg)
    return path


def version_id_of(entries: Sequence[LogEntry], root: str | Place, name: str, wanted: str) -> str:
    """Return the id of the version that is wanted: "" or "latest", an id or its beginning, v<number> or a tag.

    Raises:
        ConfigError: no such release or version, or several that fit.
    """
    if not publications(entries):
        known = published_names(root)
        hint = did_you_mean(name, known) or (
            f"Releases: {', '.join(known)}." if known else "Publish one: curate run"
        )
        msg = f"No version of {name!r} was published under {root}. {hint}"
        raise ConfigError(msg)
    if wanted not in {"", "latest"}:
        return _match(entries, name, wanted)
    head = latest(entries)
    if head is None:
        raise ConfigError(
            f"Every version of {name} is retracted, so there is no latest one. Name one ({name}@vN), or run again."
        )
    return head.id


def published_names(root: str | Place) -> list[str]:
    """Return the names of the releases under `root`, sorted."""
    place = root if isinstance(root, StorePath) else Path(root)
    return [name for name in names_in(place) if _NAME.fullmatch(name) and names_in(place / name / "log")]


def begun_names(root: str | Place) -> list[str]:
    """Return the names that a publisher began under `root`, sorted, those without a published version too."""
    place = root if isinstance(root, StorePath) else Path(root)
    parts = ("log", "staging", "versions")
    return [
        name
        for name in names_in(place)
        if _NAME.fullmatch(name) and any(names_in(place / name / part) for part in parts)
    ]


@overload
def release_folder(root: str | Path, name: str) -> Path: ...
@overload
def release_folder(root: StorePath, name: str) -> StorePath: ...
@overload
def release_folder(root: str | Place, name: str) -> Place: ...
def release_folder(root: str | Place, name: str) -> Place:
    """Return the folder of a release.

    Raises:
        ConfigError: a name that cannot be a folder's.
    """
    if not _NAME.fullmatch(name):
        msg = f"A release needs a name of letters, digits, '.', '_' and '-', at most 100; given: {name!r}."
        raise ConfigError(msg)
    return (root if isinstance(root, StorePath) else Path(root)) / name


def append(
    root: str | Place, name: str, version_id: str, *, gates: str, counts: Mapping[str, Any]
) -> tuple[LogEntry, str | None]:
    """Make `version_id` the latest version; return its publish entry and the kind of entry that was written.

    Nothing is written (None) where it is the latest already, where it was retracted, and where a person went back
    from it to an earlier one. Of several callers at once one writes.
    """

    def decide(entries: list[LogEntry]) -> dict[str, Any] | None:
        head, first = latest(entries), publications(entries).get(version_id)
        unwanted = version_id in retractions(entries) or rolled_back(entries, version_id) is not None
        if first and (unwanted or (head is not None and head.id == version_id)):
            return None
        content = {"kind": "republish" if first else "publish", "id": version_id, "gates": gates, "counts": counts}
        return {**content, "parents": (head.id,) if head else ()}

    written, entries = add(root, name, decide)
    first = publications(entries).get(version_id) or written
    if first is None:  # `decide` writes where nothing was published
        raise VerificationError(f"The log of {name} under {root} lost the entry of {version_id}.")
    return first, written.kind if written else None


def add(
    root: str | Place, name: str, decide: Callable[[list[LogEntry]], Mapping[str, Any] | None]
) -> tuple[LogEntry | None, list[LogEntry]]:
    """Write the next entry, decided by the log as it is at that very moment; return it and the log before it.

    Args:
        root: where releases are.
        name: of the release.
        decide: called with the entries so far; returns fields of `LogEntry` (kind, id, …), or None to write
            nothing. Called again where another entry came in between. May raise.
    """
    while True:
        number = next_number(root, name)  # before the log is read: an entry that comes between takes this number
        entries = read_log(root, name)
        content = decide(entries)
        if content is None:
            return None, entries
        entry = LogEntry(number=number, at=now(), host=socket.gethostname(), **content)
        if put_entry(root, name, entry):
            return entry, entries


def append_erasure(
    root: str | Place, name: str, version_id: str, *, succeeds: str, gates: str, counts: Mapping[str, Any]
) -> LogEntry:
    """Say that `version_id` takes the place of `succeeds`; an entry that says so already is returned."""
    said: list[LogEntry] = []

    def decide(entries: list[LogEntry]) -> dict[str, Any] | None:
        wanted = ("erase", version_id, (succeeds,))
        said[:] = [entry for entry in entries if (entry.kind, entry.id, entry.parents) == wanted]
        content = {"kind": "erase", "id": version_id, "parents": (succeeds,), "gates": gates, "counts": counts}
        return None if said else content

    written, _ = add(root, name, decide)
    return written or said[0]


def next_number(root: str | Place, name: str) -> int:
    """Return one more than the highest number that any entry, torn ones included, has."""
    names = names_in(release_folder(root, name) / "log")
    return max((int(match.group(1)) for found in names if (match := _ENTRY.fullmatch(found))), default=0) + 1


def put_entry(root: str | Place, name: str, entry: LogEntry) -> bool:
    """Write an entry unless its number is taken; return whether it was written."""
    content: dict[str, Any] = {
        **entry.more,
        "format": "curate-log",
        "call": uuid.uuid4().hex,  # no two calls write the same bytes, so that what is there says whose it is
        "kind": entry.kind,
        "id": entry.id,
        "at": entry.at,
        "host": entry.host,
        "parents": list(entry.parents),
        "gates": entry.gates,
        "counts": dict(entry.counts),
    }
    content |= {key: value for key, value in (("why", entry.why), ("tag", entry.tag)) if value}
    place = release_folder(root, name) / "log" / f"{entry.number:010d}.json"
    return put_new(place, seal(content))


def now() -> str:
    """Return the time as RFC 3339 in UTC; it stands in the log, never in what is hashed."""
    return datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def _read_entry(path: Place, number: int, written: bytes) -> LogEntry:
    try:
        content = unseal(written, "kind", "id", "at")
        lost = [name for name in _NEEDED.get(content["kind"], ()) if name not in content]
        if lost:
            raise ValueError(f"it lacks {', '.join(lost)}")  # noqa: TRY301 - joins the others below
        return LogEntry(
            number=number,
            kind=str(content["kind"]),
            id=str(content["id"]),
            at=str(content["at"]),
            host=str(content.get("host", "")),
            parents=tuple(map(str, content.get("parents", ()))),
            gates=str(content.get("gates", "")),
            counts=dict(content.get("counts", {})),
            why=str(content.get("why", "")),
            tag=str(content.get("tag", "")),
            more={key: value for key, value in content.items() if key not in _OWN},
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        msg = f"The log entry {path} is not what curate wrote: {error!r}. Restore it from a copy."
        raise VerificationError(msg) from error


def _match(entries: Sequence[LogEntry], name: str, wanted: str) -> str:
    numbered = re.fullmatch(r"v(\d+)", wanted)
    published = {entry.number: entry.id for entry in entries if entry.kind in NUMBERED}
    named = tags(entries)
    if wanted in named:
        return named[wanted]
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
    known = f" Tags: {', '.join(sorted(named))}." if named else ""
    msg = (
        f"There is no version {wanted!r} of {name}. Give v<number>, a tag or at least {MIN_PREFIX} characters of the "
        f"ID. The last versions: {shown}.{known} {did_you_mean(wanted, named)}"
    ).rstrip()
    raise ConfigError(msg)
