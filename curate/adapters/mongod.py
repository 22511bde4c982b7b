"""The embedded MongoDB: one per workspace, started when needed, validated after a crash.

The server listens on 127.0.0.1 only and asks for no password, as FiftyOne's own does: any user of the same machine
could connect. On a shared machine set FIFTYONE_DATABASE_URI to a MongoDB with accounts.
"""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from curate.adapters import fiftyone_session
from curate.adapters.mongod_process import (
    NOT_CLEAN,
    PING_TIMEOUT_MS,
    lock_pid,
    ping,
    running_in,
    start,
    stop,
    uri_of,
    wait_until_it_answers,
)
from curate.errors import ConfigError

URI = "FIFTYONE_DATABASE_URI"
_LOCK_TIMEOUT_S = 180


@dataclass(frozen=True, slots=True)
class Database:
    """A MongoDB that answers.

    Attributes:
        uri: what clients connect to; may hold a password when it is not embedded.
        pid: process id of the embedded mongod, else None.
        embedded: whether curate started it for this workspace.
    """

    uri: str
    pid: int | None
    embedded: bool


@dataclass(frozen=True, slots=True)
class DatabaseStatus:
    """What `database_status` saw; nothing is started to find out.

    Attributes:
        running: whether it answers a ping.
        embedded: False where FIFTYONE_DATABASE_URI names another one.
        uri: without password; None where none runs.
        pid: of the embedded mongod.
        version: of the server that answered.
        data_dir: where the embedded one keeps its files.
        detail: a sentence for people.
    """

    running: bool
    embedded: bool
    uri: str | None
    pid: int | None
    version: str | None
    data_dir: Path
    detail: str


def ensure_database(workspace: Path) -> Database:
    """Return a MongoDB that answers, starting the workspace's own if FIFTYONE_DATABASE_URI names no other.

    Safe to call from any number of processes at once. Sets the environment that FiftyOne reads
    (FIFTYONE_DATABASE_URI and a few that keep it quiet), and points a FiftyOne that is already loaded there.

    Raises:
        ConfigError: the named MongoDB does not answer, there is no mongod, or the workspace cannot be written.
        StageError: mongod does not start; the message holds the end of its log.
    """
    given = fiftyone_session.given_uri()
    if given:
        _ping_given(given)
        database = Database(given, None, embedded=False)
    else:
        database = _ensure_embedded(_folder(workspace))
    fiftyone_session.use(database.uri, embedded=database.embedded)
    return database


def stop_database(workspace: Path) -> bool:
    """Stop the workspace's embedded mongod; return whether one was running. A database of your own is left alone.

    Raises:
        StageError: it does not stop in time.
    """
    folder = _folder(workspace)
    if not (folder / "data").is_dir():
        return False
    with _lock(folder):
        running = running_in(folder)
        if running is None:
            return False
        pid, port = running
        fiftyone_session.release(uri_of(port))
        stop(pid, port)
    return True


def start_embedded(folder: Path) -> Database:
    """Return the mongod of a folder like `WORKSPACE/mongo`, started where it does not run; tells FiftyOne nothing.

    Raises:
        ConfigError: there is no mongod, or the folder cannot be written.
        StageError: mongod does not start.
    """
    return _ensure_embedded(folder)


def stop_embedded(folder: Path) -> None:
    """Stop the mongod of a folder like `WORKSPACE/mongo`, if one runs.

    Raises:
        StageError: it does not stop in time.
    """
    running = running_in(folder)
    if running is not None:
        fiftyone_session.release(uri_of(running[1]))
        stop(*running)


def discard(folder: Path) -> None:
    """Stop the mongod of a folder and delete the folder.

    Raises:
        StageError: it does not stop in time.
    """
    stop_embedded(folder)
    shutil.rmtree(folder, ignore_errors=True)


def database_status(workspace: Path) -> DatabaseStatus:
    """Say whether a database runs for this workspace, without starting one."""
    folder = _folder(workspace)
    given = fiftyone_session.given_uri()
    if given:
        version = ping(given)
        state = "answers" if version else "does not answer"
        shown = redacted(given)
        return DatabaseStatus(
            running=version is not None,
            embedded=False,
            uri=shown,
            pid=None,
            version=version,
            data_dir=folder,
            detail=f"{URI} = {shown} {state}",
        )
    running = running_in(folder)
    if running is None:
        crashed = lock_pid(folder) is not None or (folder / NOT_CLEAN).exists()
        detail = "stopped uncleanly; it is checked at the next start" if crashed else "not running"
        return DatabaseStatus(
            running=False, embedded=True, uri=None, pid=None, version=None, data_dir=folder, detail=detail
        )
    pid, port = running
    version = ping(uri_of(port))
    detail = f"mongod {version or '(does not answer)'} with pid {pid} on 127.0.0.1:{port}"
    return DatabaseStatus(
        running=version is not None,
        embedded=True,
        uri=uri_of(port),
        pid=pid,
        version=version,
        data_dir=folder,
        detail=detail,
    )


def redacted(uri: str) -> str:
    """Return `uri` without its user and password."""
    return re.sub(r"//[^/@]*@", "//…@", uri)


def _folder(workspace: Path) -> Path:
    return Path(workspace).expanduser().resolve() / "mongo"


def _ensure_embedded(folder: Path) -> Database:
    running = running_in(folder)
    if running is not None and not (folder / NOT_CLEAN).exists() and ping(uri_of(running[1])):
        return Database(uri_of(running[1]), running[0], embedded=True)
    try:
        (folder / "data").mkdir(parents=True, exist_ok=True)
        lock = _lock(folder)
        lock.acquire()
    except OSError as error:
        msg = (
            f"The workspace must be a folder that can be written: {folder} cannot be made or locked ({error}). "
            f"Name another with --workspace DIR."
        )
        raise ConfigError(msg) from error
    with lock:
        lock.release()  # `with` takes it once more; the level falls back to one
        running = running_in(folder)
        if running is None:
            running = start(folder)
        pid, port = running
        wait_until_it_answers(folder, pid, port)
        if (folder / NOT_CLEAN).exists():
            validate_collections(uri_of(port))
            (folder / NOT_CLEAN).unlink()
        return Database(uri_of(port), pid, embedded=True)


def _lock(folder: Path) -> Any:  # noqa: ANN401 - filelock is loaded late
    import filelock  # noqa: PLC0415 - only where a database is used

    return filelock.FileLock(folder / "start.lock", timeout=_LOCK_TIMEOUT_S)


def validate_collections(uri: str) -> dict[str, int]:
    """Run `validate` on every collection and return {database.collection: number of records}.

    After a kill the data is there, but counts are wrong until this has run.
    """
    import pymongo  # noqa: PLC0415 - only where a database is used

    counts: dict[str, int] = {}
    with pymongo.MongoClient(uri, serverSelectionTimeoutMS=PING_TIMEOUT_MS) as client:
        for name in client.list_database_names():
            if name in {"admin", "config", "local"}:
                continue
            for collection in client[name].list_collection_names(filter={"type": "collection"}):
                result = client[name].command("validate", collection)
                counts[f"{name}.{collection}"] = int(result.get("nrecords", 0))
    return counts


def _ping_given(uri: str) -> None:
    import pymongo  # noqa: PLC0415 - only where a database is used
    from pymongo.errors import PyMongoError  # noqa: PLC0415

    try:
        with pymongo.MongoClient(uri, serverSelectionTimeoutMS=PING_TIMEOUT_MS) as client:
            client.server_info()
    except PyMongoError as error:
        reason = redacted(str(error).split(", Timeout:")[0])
        msg = (
            f"{URI} must name a MongoDB that answers; {redacted(uri)} does not ({reason}). "
            f"Start it or correct the address, or unset {URI} to use the embedded one."
        )
        raise ConfigError(msg) from error


__all__ = [
    "Database",
    "DatabaseStatus",
    "database_status",
    "ensure_database",
    "stop_database",
    "validate_collections",
]
