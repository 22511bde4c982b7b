"""Rebuild the embedded MongoDB's files: WiredTiger keeps deleted documents in free blocks and journals until then.

`compact` gives blocks back and overwrites nothing, so the documents that are left are copied into a fresh data folder,
which takes the place of the old one. Two renames swap them; killed anywhere, the next call goes on or begins again.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from curate.adapters import mongod

_FRESH, _OLD, _COMPLETE = "mongo.rebuilt", "mongo.old", "copy.complete"
_SYSTEM = {"admin", "config", "local"}
_CHUNK = 1_000


def has_embedded_data(workspace: Path) -> bool:
    """Return whether the workspace has an embedded MongoDB with files of its own, or one that is being rebuilt."""
    root = Path(workspace).expanduser().resolve()
    return any((root / name / "data").is_dir() for name in ("mongo", _FRESH)) or (root / _OLD).exists()


def rebuild_database(workspace: Path) -> None:
    """Copy every collection with its indexes into fresh files and delete the old ones, the server's log included.

    Needs as much free disk again as the data takes. Clients that are connected, an open App, lose their connection.

    Raises:
        StageError: a mongod does not start or stop.
    """
    root = Path(workspace).expanduser().resolve()
    fresh, old, current = root / _FRESH, root / _OLD, root / "mongo"
    if not (fresh / _COMPLETE).exists():
        if not (current / "data").is_dir():
            return
        mongod.discard(fresh)
        source = mongod.start_embedded(current)
        _copy(source.uri, mongod.start_embedded(fresh).uri)
        mongod.stop_embedded(fresh)
        (fresh / _COMPLETE).touch()
    mongod.stop_embedded(current)
    if (fresh / "data").is_dir():
        if (current / "data").is_dir():
            shutil.rmtree(old, ignore_errors=True)
            (current / "data").rename(old)
        (fresh / "data").rename(current / "data")
    for log in current.glob("mongod.log*"):  # a slow write is logged with its document
        log.unlink()
    shutil.rmtree(old, ignore_errors=True)
    shutil.rmtree(fresh, ignore_errors=True)


def _copy(source_uri: str, target_uri: str) -> None:
    import pymongo  # noqa: PLC0415 - only where a database is used
    from bson.raw_bson import RawBSONDocument  # noqa: PLC0415 - as above

    raw = {"document_class": RawBSONDocument}
    with pymongo.MongoClient(source_uri, **raw) as source, pymongo.MongoClient(target_uri, **raw) as target:
        for name in source.list_database_names():
            if name in _SYSTEM:
                continue
            views = []
            for info in list(source[name].list_collections()):
                if info["type"] == "view":
                    views.append(info)
                elif not str(info["name"]).startswith("system."):
                    _copy_collection(source[name], target[name], info)
            for info in views:
                target[name].create_collection(info["name"], **_plain(info["options"]))


def _copy_collection(source: Any, target: Any, info: Any) -> None:  # noqa: ANN401 - pymongo is loaded late
    name = str(info["name"])
    target.create_collection(name, **_plain(info["options"]))
    for chunk in _chunks(source[name].find({})):
        target[name].insert_many(chunk, ordered=True)
    indexes = [_plain(index) for index in source[name].list_indexes() if index["name"] != "_id_"]
    if indexes:
        wanted = [{key: value for key, value in index.items() if key != "ns"} for index in indexes]
        target.command("createIndexes", name, indexes=wanted)


def _plain(document: Any) -> dict[str, Any]:  # noqa: ANN401 - as above
    return dict(document.items())


def _chunks(documents: Any) -> Iterator[list[Any]]:  # noqa: ANN401 - as above
    chunk: list[Any] = []
    for document in documents:
        chunk.append(document)
        if len(chunk) == _CHUNK:
            yield chunk
            chunk = []
    if chunk:
        yield chunk
