"""The life of a version after it was published: rolled back to, retracted, tagged. Everything is appended."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from curate.commands import releases_option
from curate.errors import ConfigError, InputError
from curate.manifest import log
from curate.manifest.log import LogEntry
from curate.manifest.place import Place
from curate.manifest.read import load_named_manifest

_TAG = re.compile(r"[A-Za-z][A-Za-z0-9._-]{0,63}")
_TAKEN = re.compile(rf"v\d+|latest|[0-9a-f]{{{log.MIN_PREFIX},64}}")  # already mean a version


def rollback(root: Place, reference: str, *, why: str = "") -> tuple[LogEntry | None, str]:
    """Make an earlier version the latest again, by a new entry; return it (None: it is the latest) and the id.

    Raises:
        ConfigError: no such version, or a retracted one.
        VerificationError: the version is not there, or its manifest is not what was published.
    """
    name, _, wanted = reference.partition("@")
    if not wanted:
        raise ConfigError(f"rollback needs the version to go back to: {name}@vN, {name}@ID or {name}@TAG.")
    path = log.resolve(root, reference)
    load_named_manifest(path)
    version_id = path.name

    def decide(entries: list[LogEntry]) -> Mapping[str, Any] | None:
        gone = log.retractions(entries).get(version_id)
        if gone:
            raise ConfigError(f"{reference} was retracted ({gone.why}), so it is never the latest again.")
        head = log.latest(entries)
        if head is not None and head.id == version_id:
            return None
        was = log.publications(entries)[version_id]
        parents = (head.id,) if head else ()
        return _entry("rollback", version_id, why) | {"parents": parents, "gates": was.gates, "counts": was.counts}

    return log.add(root, name, decide)[0], version_id


def retract(root: Place, reference: str, *, why: str) -> tuple[LogEntry | None, str]:
    """Say that a version must not be used; it stays as it is and is never the latest. None: it was said before.

    Raises:
        ConfigError: no such version, or no reason.
    """
    name, _, wanted = reference.partition("@")
    if not why.strip():
        raise ConfigError(
            f"Whoever meets the retracted version needs the reason: curate retract {reference} --why …"
            f"{releases_option(root)}"
        )
    if not wanted:
        raise ConfigError(f"retract needs the version: {name}@vN, {name}@ID or {name}@TAG.")
    chosen: list[str] = []

    def decide(entries: list[LogEntry]) -> Mapping[str, Any] | None:
        chosen.append(log.version_id_of(entries, root, name, wanted))
        return None if chosen[-1] in log.retractions(entries) else _entry("retract", chosen[-1], why.strip())

    entry, _ = log.add(root, name, decide)
    return entry, chosen[-1]


def tag(
    root: Place, reference: str, word: str, *, move: bool = False, why: str = ""
) -> tuple[LogEntry | None, str]:
    """Give a version a name, so that NAME@TAG means it; None where it has that name already.

    Raises:
        ConfigError: no such version, a word that cannot be a tag, or (without `move`) one that another version has.
        VerificationError: the version is not there, or its manifest is not what was published.
    """
    name, _, wanted = reference.partition("@")
    if not _TAG.fullmatch(word) or _TAKEN.fullmatch(word):
        raise ConfigError(
            "A tag begins with a letter, has letters, digits, '.', '_' and '-', at most 64, and is no v<number>, no "
            f"'latest' and no beginning of an ID; given: {word!r}."
        )
    load_named_manifest(log.resolve(root, reference))
    chosen: list[str] = []

    def decide(entries: list[LogEntry]) -> Mapping[str, Any] | None:
        chosen.append(log.version_id_of(entries, root, name, wanted))
        has = log.tags(entries).get(word)
        if has == chosen[-1]:
            return None
        if has and not move:
            raise ConfigError(
                f"{name}@{word} is {has[:12]} already, and whoever reads that name counts on it. Take another word, "
                "or --move it (the log keeps both)."
            )
        return _entry("tag", chosen[-1], why) | {"tag": word}

    entry, _ = log.add(root, name, decide)
    return entry, chosen[-1]


def refuse_retracted(
    root: Place, reference: str, version_id: str, *, allowed: bool, way_round: str = ""
) -> LogEntry | None:
    """Return the entry that retracted a version, None where none did; raise where nobody wants it all the same.

    Args:
        root: where releases are.
        reference: NAME, or NAME@….
        version_id: of the version.
        allowed: whether it is wanted all the same.
        way_round: how the caller's user says so; empty where there is no way.

    Raises:
        ConfigError: it was retracted.
    """
    name = reference.partition("@")[0]
    gone = log.retractions(log.read_log(root, name)).get(version_id)
    if gone and not allowed:
        all_the_same = f", or say that you want this one all the same: {way_round}" if way_round else ""
        raise ConfigError(
            f"{name}@{version_id[:12]} was retracted {gone.at}: {gone.why}. Take another version{all_the_same}."
        )
    return gone


def refuse_failed_gates(name: str, version_id: str, gates: str, *, allowed: bool, way_round: str) -> None:
    """Raise where the gates of a version failed and nobody said that it is wanted all the same.

    Args:
        name: of the release.
        version_id: of the version.
        gates: its outcome, as in its manifest.
        allowed: whether it is wanted all the same.
        way_round: how the caller's user says so.

    Raises:
        InputError: they failed.
    """
    if gates == "failed" and not allowed:
        raise InputError(
            f"{name}@{version_id[:12]} is marked `gates: failed` (evidence/gates.json says which). Publish one that "
            f"passes, or say {way_round}."
        )


def _entry(kind: str, version_id: str, why: str) -> dict[str, Any]:
    return {"kind": kind, "id": version_id, "why": why}
