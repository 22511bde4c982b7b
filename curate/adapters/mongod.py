"""The embedded MongoDB: one per workspace, started when needed, validated after a crash.

What runs is known from what cannot lie: `mongod.lock` in the data folder holds the pid of the mongod that has
the folder open (empty after a clean stop), and the command line of that process says which folder and which port.
A recycled pid fails the second test. There is no state file of our own that could be stale.

The server listens on 127.0.0.1 only and asks for no password, as FiftyOne's own does: any user of the same machine
could connect. On a shared machine set FIFTYONE_DATABASE_URI to a MongoDB with accounts.
"""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from curate.adapters import fiftyone_session
from curate.adapters.mongod_binary import find_mongod
from curate.errors import ConfigError, StageError

URI = "FIFTYONE_DATABASE_URI"
_PING_TIMEOUT_MS = 3_000
_LOCK_TIMEOUT_S = 180
_STOP_TIMEOUT_S = 60
_START_ATTEMPTS = 5
_CACHE_GB = 1
_LOG_BYTES = 16 * 2**20
_NOT_CLEAN = "validate.pending"


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
        running = _running(folder)
        if running is None:
            return False
        pid, port = running
        fiftyone_session.release(_uri(port))
        _stop(pid, port)
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
    running = _running(folder)
    if running is not None:
        fiftyone_session.release(_uri(running[1]))
        _stop(*running)


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
        version = _ping(given)
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
    running = _running(folder)
    if running is None:
        crashed = _lock_pid(folder) is not None or (folder / _NOT_CLEAN).exists()
        detail = "stopped uncleanly; it is checked at the next start" if crashed else "not running"
        return DatabaseStatus(
            running=False, embedded=True, uri=None, pid=None, version=None, data_dir=folder, detail=detail
        )
    pid, port = running
    version = _ping(_uri(port))
    detail = f"mongod {version or '(does not answer)'} with pid {pid} on 127.0.0.1:{port}"
    return DatabaseStatus(
        running=version is not None,
        embedded=True,
        uri=_uri(port),
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


def _uri(port: int) -> str:
    # journal=true: a write is acknowledged when it is on disk; without it a kill loses the last 100 ms
    return f"mongodb://127.0.0.1:{port}/?journal=true&uuidRepresentation=standard"


def _ensure_embedded(folder: Path) -> Database:
    running = _running(folder)
    if running is not None and not (folder / _NOT_CLEAN).exists() and _ping(_uri(running[1])):
        return Database(_uri(running[1]), running[0], embedded=True)
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
        running = _running(folder)
        if running is None:
            running = _start(folder)
        pid, port = running
        _wait_until_it_answers(folder, pid, port)
        if (folder / _NOT_CLEAN).exists():
            validate_collections(_uri(port))
            (folder / _NOT_CLEAN).unlink()
        return Database(_uri(port), pid, embedded=True)


def _lock(folder: Path) -> Any:  # noqa: ANN401 - filelock is loaded late
    import filelock  # noqa: PLC0415 - only where a database is used

    return filelock.FileLock(folder / "start.lock", timeout=_LOCK_TIMEOUT_S)


def _start(folder: Path) -> tuple[int, int]:
    """Start mongod on a free port and return (pid, port). The caller holds the lock."""
    binary = find_mongod().path
    if _lock_pid(folder) is not None:  # it was not closed cleanly: counts may be wrong until validated
        (folder / _NOT_CLEAN).touch()
    log = folder / "mongod.log"
    if log.exists() and log.stat().st_size > _LOG_BYTES:
        log.unlink()
    for _ in range(_START_ATTEMPTS):  # the free port can be taken between asking and binding
        port = _free_port()
        complaint = _launch(binary, folder, port)
        deadline = time.monotonic() + 10
        while complaint is None and time.monotonic() < deadline:
            running = _running(folder)
            if running is not None:
                return running
            time.sleep(0.05)
        if "address already in use" not in _log_tail(log, 40).lower():
            break
    msg = (
        f"mongod does not start in {folder}. {complaint or ''} The end of {log.name}:\n{_log_tail(log, 8)}\n"
        f"Is the disk full, or the folder open on another machine? `curate doctor` looks at both."
    )
    raise StageError(msg)


def _launch(binary: Path, folder: Path, port: int) -> str | None:
    """Start the program as a daemon; return None, or what it complained about."""
    command: list[str | Path] = [binary, "--dbpath", folder / "data", "--port", str(port), "--bind_ip", "127.0.0.1"]
    command += ["--logpath", folder / "mongod.log", "--logappend", "--quiet"]
    command += ["--pidfilepath", folder / "mongod.pid", "--wiredTigerCacheSizeGB", str(_CACHE_GB)]
    command += ["--setParameter", "diagnosticDataCollectionEnabled=false"]
    if sys.platform == "win32":  # no --fork there; never tried on Windows
        flags = subprocess.DETACHED_PROCESS | subprocess.CREATE_NEW_PROCESS_GROUP
        subprocess.Popen(command, creationflags=flags)  # noqa: S603 - our own command line
        return None
    command += ["--nounixsocket", "--fork"]  # a socket path has a limit of about 100 bytes; a workspace has none
    done = subprocess.run(  # noqa: S603 - our own command line
        command, capture_output=True, text=True, errors="replace", stdin=subprocess.DEVNULL, check=False
    )
    return None if done.returncode == 0 else f"It ended with status {done.returncode}."


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_until_it_answers(folder: Path, pid: int, port: int) -> None:
    deadline = time.monotonic() + 120  # a journal of a crashed server can take a while to be replayed
    while time.monotonic() < deadline:
        if _ping(_uri(port)):
            return
        if _running(folder) is None:
            break
        time.sleep(0.1)
    tail = _log_tail(folder / "mongod.log", 8)
    msg = f"mongod (pid {pid}, port {port}) in {folder} does not answer. The end of its log:\n{tail}"
    raise StageError(msg)


def _lock_pid(folder: Path) -> int | None:
    """Return the pid that mongod left in its lock file, or None after a clean stop."""
    try:
        text = (folder / "data" / "mongod.lock").read_text(encoding="ascii", errors="replace").strip()
    except OSError:
        return None
    return int(text) if text.isdigit() else None


def _running(folder: Path) -> tuple[int, int] | None:
    """Return (pid, port) of the live mongod that has this data folder open, or None."""
    import psutil  # type: ignore[import-untyped]  # noqa: PLC0415 - only where a database is used

    pid = _lock_pid(folder)
    if pid is None:
        return None
    try:
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE:
            return None
        command = process.cmdline()
    except psutil.Error:
        return None
    if "--dbpath" not in command or "--port" not in command:
        return None  # the pid belongs to another program by now
    data = Path(command[command.index("--dbpath") + 1])
    port = command[command.index("--port") + 1]
    return (pid, int(port)) if data.resolve() == (folder / "data").resolve() and port.isdigit() else None


def _stop(pid: int, port: int) -> None:
    import psutil  # noqa: PLC0415 - only where a database is used
    import pymongo  # noqa: PLC0415 - only where a database is used
    from pymongo.errors import PyMongoError  # noqa: PLC0415

    try:
        process = psutil.Process(pid)
        client: Any = pymongo.MongoClient(_uri(port), serverSelectionTimeoutMS=_PING_TIMEOUT_MS)
        try:
            client.admin.command("shutdown", force=True)
        except PyMongoError:
            pass  # the connection breaks when it obeys; the wait below tells whether it did
        finally:
            client.close()
        deadline = time.monotonic() + _STOP_TIMEOUT_S
        while process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
            if time.monotonic() > deadline:
                msg = f"mongod with pid {pid} does not stop within {_STOP_TIMEOUT_S} s. Look at its mongod.log."
                raise StageError(msg)
            time.sleep(0.05)
    except psutil.NoSuchProcess:
        return


def validate_collections(uri: str) -> dict[str, int]:
    """Run `validate` on every collection and return {database.collection: number of records}.

    After a kill the data is there, but counts are wrong until this has run.
    """
    import pymongo  # noqa: PLC0415 - only where a database is used

    counts: dict[str, int] = {}
    with pymongo.MongoClient(uri, serverSelectionTimeoutMS=_PING_TIMEOUT_MS) as client:
        for name in client.list_database_names():
            if name in {"admin", "config", "local"}:
                continue
            for collection in client[name].list_collection_names(filter={"type": "collection"}):
                result = client[name].command("validate", collection)
                counts[f"{name}.{collection}"] = int(result.get("nrecords", 0))
    return counts


def _ping(uri: str) -> str | None:
    """Return the server's version, or None if it does not answer within three seconds."""
    import pymongo  # noqa: PLC0415 - only where a database is used
    from pymongo.errors import PyMongoError  # noqa: PLC0415

    try:
        with pymongo.MongoClient(uri, serverSelectionTimeoutMS=_PING_TIMEOUT_MS) as client:
            return str(client.server_info()["version"])
    except PyMongoError:
        return None


def _ping_given(uri: str) -> None:
    import pymongo  # noqa: PLC0415 - only where a database is used
    from pymongo.errors import PyMongoError  # noqa: PLC0415

    try:
        with pymongo.MongoClient(uri, serverSelectionTimeoutMS=_PING_TIMEOUT_MS) as client:
            client.server_info()
    except PyMongoError as error:
        reason = redacted(str(error).split(", Timeout:")[0])
        msg = (
            f"{URI} must name a MongoDB that answers; {redacted(uri)} does not ({reason}). "
            f"Start it or correct the address, or unset {URI} to use the embedded one."
        )
        raise ConfigError(msg) from error


def _log_tail(log: Path, n_lines: int) -> str:
    try:
        size = log.stat().st_size
        with log.open("rb") as stream:
            stream.seek(max(0, size - 64 * 1024))
            lines = stream.read().decode("utf-8", "replace").splitlines()
    except OSError as error:
        return f"(no log: {error})"
    return "\n".join(line[:400] for line in lines[-n_lines:]) or "(the log is empty)"


__all__ = [
    "Database",
    "DatabaseStatus",
    "database_status",
    "ensure_database",
    "stop_database",
    "validate_collections",
]
