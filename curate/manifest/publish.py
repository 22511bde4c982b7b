"""Publish: write a version beside, move it to its place in one step, then say so in the log."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from curate.adapters.object_store import StorePath
from curate.errors import StageError
from curate.manifest import log, publish_folder, publish_store
from curate.manifest.build import Release
from curate.manifest.place import Place, place_of
from curate.manifest.store import write_version
from curate.manifest.tombstone import read_tombstone


@dataclass(frozen=True, slots=True)
class Published:
    """A version in its place.

    Attributes:
        id: sha256 of its manifest.json.
        number: people see v<number>.
        path: its folder, or its place in a store.
        is_new: whether this call published it; False where the same content was published before.
        parents: IDs of the versions that were the latest when it was published first.
        is_latest_again: whether an older version came out and is the latest now, after others or a rollback.
        gates: passed | warned | failed.
        repaired: whether a damaged or half-written folder of the same ID was replaced (and kept aside).
        retracted: why this content may not be the latest, where it was retracted before; else empty.
        rolled_back: since when an earlier version is the latest instead, and why, where a person went back; else empty.
    """

    id: str
    number: int
    path: Path
    is_new: bool
    gates: str
    repaired: bool = False
    retracted: str = ""
    rolled_back: str = ""
    parents: tuple[str, ...] = ()
    is_latest_again: bool = False


def publish(release: Release, root: str | Place, name: str, *, succeeds: str | None = None) -> Published:
    """Publish a release under `root`/`name` and return where it is.

    In a folder `versions/ID` appears in one rename, complete and fsynced; in a store its manifest.json is written
    last and only if absent. So a killed publisher leaves either a version that verifies or none, and leftovers that
    the next publisher or `curate gc` removes. The log entry follows; if the process dies between the two, the next
    publisher of the same content writes it. A version that is there and intact is left as it is; a damaged one is
    written again (in a folder, the damaged one is kept in `damaged/`).

    Args:
        release: what to publish.
        root: folder of all releases, or the URL of a place in an object store.
        name: of the release.
        succeeds: ID of a version whose place this one takes, since rows were erased from it; else None.

    Raises:
        ConfigError: a name that cannot be a folder's, or a URL that no store has.
        StageError: the disk is full or cannot be written, or the store refuses; nothing is published then.
    """
    place = place_of(root)
    base = log.release_folder(place, name)
    gates, counts = release.gates.outcome, release.head["counts"]
    try:
        version_id, repaired = _put(release, base, name)
        if succeeds is not None:
            made = log.append_erasure(place, name, version_id, succeeds=succeeds, gates=gates, counts=counts)
            successor: Any = base / "versions" / version_id
            return Published(version_id, made.number, successor, is_new=True, gates=gates, repaired=repaired)
        entry, written = log.append(place, name, version_id, gates=gates, counts=counts)
        if repaired and written is None:
            log.add(place, name, lambda _: {"kind": "repair", "id": version_id, "gates": gates})
    except StageError as error:  # names the file
        raise StageError(f"{error} Nothing was published.") from error
    except OSError as error:
        why = error.strerror or str(error)
        msg = (
            f"Publishing needs a place that can be written and has room; {base} gave: {why}. Nothing was published."
        )
        raise StageError(msg) from error
    entries = log.read_log(place, name)
    gone, back = log.retractions(entries).get(version_id), log.rolled_back(entries, version_id)
    target: Any = base / "versions" / version_id
    return Published(
        id=version_id,
        number=entry.number,
        path=target,
        is_new=written == "publish",
        gates=gates,
        repaired=repaired,
        retracted=gone.why if gone else "",
        rolled_back=_since(back) if back else "",
        parents=entry.parents,
        is_latest_again=written == "republish",
    )


def _since(back: log.LogEntry) -> str:
    """Return which version a rollback made the latest, when and why, in words."""
    why = f": {back.why}" if back.why else ""
    return f"{back.id[:7]} is the latest since {back.at}, by a rollback{why}"


def require_writable(root: str | Place, name: str) -> None:
    """Refuse a store that would refuse the publication, before the work that leads to it; folders are not asked.

    Raises:
        StoreError: it cannot be reached, listed or written.
    """
    place = place_of(root)
    if isinstance(place, StorePath):
        publish_store.require_writable(log.release_folder(place, name))


def _put(release: Release, base: Place, name: str) -> tuple[str, bool]:
    """Write the version and move it to its place; return its ID and whether something damaged was replaced."""
    if isinstance(base, StorePath):
        with publish_store.staging(base) as staged:
            version_id = write_version(release, staged, name)
            _refuse_erased(base, version_id, name)
            return version_id, publish_store.place(staged, version_id, base)
    with publish_folder.staging(base) as own:
        staged = own / "version"
        staged.mkdir()
        version_id = write_version(release, staged, name)
        _refuse_erased(base, version_id, name)
        return version_id, publish_folder.place(staged, version_id, base)


def _refuse_erased(base: Place, version_id: str, name: str) -> None:
    if read_tombstone(base, version_id) is not None:
        raise StageError(
            f"The version {version_id[:12]} of {name} was erased on request and is not published again. "
            f"Is the list of what was erased ({base.parent.parent / 'erasure'}) still there?"
        )


def collect_leftovers(root: str | Place, name: str, **limits: Any) -> list[str]:  # noqa: ANN401 - of `publish_store.collect`
    """Remove what killed publishers left; returns what. Running publishers and versions are not touched."""
    base = log.release_folder(place_of(root), name)
    return publish_store.collect(base, **limits) if isinstance(base, StorePath) else publish_folder.collect(base)
