"""What the entries of a release's log mean together: which version is the latest, retracted, tagged, erased."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

HEADS = ("publish", "republish", "rollback")  # kinds of entries that make their version the latest
NUMBERED = ("publish", "erase")  # kinds of entries that people see as v<number>


@dataclass(frozen=True, slots=True)
class LogEntry:
    """What happened to a release.

    Attributes:
        number: of the entry; people see the version that it published as v<number>.
        kind: publish (a new version), republish (an older version came out of a run again and is the latest now),
            rollback (an older version was made the latest by hand), retract (a version is never the latest again),
            tag (a version got a name), repair (the files of a damaged version were written again) or erase (a new
            version takes the place of its one parent, from which rows were erased on request). Kinds that this
            curate does not know are kept and shown, and change nothing.
        id: of the version.
        at: RFC 3339, UTC.
        host: where it was done.
        parents: ids of the versions that were the latest before.
        gates: passed | warned | failed.
        counts: n_in, n_released, n_excluded, …
        why: what a person said.
        tag: the name that a version got.
        more: whatever else stands in the entry, for kinds of later versions and of other modules.
    """

    number: int
    kind: str
    id: str
    at: str
    host: str
    parents: tuple[str, ...] = ()
    gates: str = ""
    counts: Mapping[str, Any] = field(default_factory=dict)
    why: str = ""
    tag: str = ""
    more: Mapping[str, Any] = field(default_factory=dict)


def latest(entries: Sequence[LogEntry]) -> LogEntry | None:
    """Return the entry that says which version is the latest; a retracted version never is.

    Where the latest was erased, that is the entry of its successor.
    """
    gone, heirs = retractions(entries), successors(entries)
    head = None
    for entry in entries:
        standing = heirs.get(entry.id, entry)
        if entry.kind in HEADS and standing.id not in gone:
            head = standing
    return head


def successors(entries: Sequence[LogEntry]) -> dict[str, LogEntry]:
    """Return the id of each erased version → the entry of the version that stands in its place now."""
    found: dict[str, LogEntry] = {}
    for entry in reversed(entries):  # later ones first: a successor may have been erased in turn
        if entry.kind == "erase":
            found |= {parent: found.get(entry.id, entry) for parent in entry.parents}
    return found


def predecessors(entries: Sequence[LogEntry], version_id: str) -> list[str]:
    """Return the ids of the erased versions whose place a version took, sorted."""
    found = {version_id}
    for entry in reversed(entries):
        if entry.kind == "erase" and entry.id in found:
            found |= set(entry.parents)
    return sorted(found - {version_id})


def retractions(entries: Sequence[LogEntry]) -> dict[str, LogEntry]:
    """Return version id → the entry that retracted it first, or that retracted the erased version in whose place it is.

    Taking rows out does not mend what a version was retracted for.
    """
    found: dict[str, LogEntry] = {}
    for entry in entries:
        if entry.kind == "retract":
            found.setdefault(entry.id, entry)
    for entry in entries:
        for parent in entry.parents if entry.kind == "erase" else ():
            if parent in found:
                found.setdefault(entry.id, found[parent])
    return found


def tags(entries: Sequence[LogEntry]) -> dict[str, str]:
    """Return tag → version id; the last entry of a tag counts, the earlier ones stay in the log.

    The tag of an erased version means its successor.
    """
    heirs = successors(entries)
    return {entry.tag: heirs.get(entry.id, entry).id for entry in entries if entry.kind == "tag"}


def publications(entries: Sequence[LogEntry]) -> dict[str, LogEntry]:
    """Return version id → the entry that published it, oldest first."""
    found: dict[str, LogEntry] = {}
    for entry in entries:
        if entry.kind in NUMBERED:
            found.setdefault(entry.id, entry)
    return found


def rolled_back(entries: Sequence[LogEntry], version_id: str) -> LogEntry | None:
    """Return the rollback that put a version aside, while it still says which version is the latest; else None.

    A person chose then; the same content coming out of a run again is no new choice.
    """
    head, first = latest(entries), publications(entries).get(version_id)
    if head is None or first is None or head.kind != "rollback" or head.id == version_id:
        return None
    return head if first.number < head.number else None
