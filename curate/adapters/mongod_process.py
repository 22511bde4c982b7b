"""The mongod of one folder as a process: started, found again, stopped.

What runs is known from what cannot lie: `mongod.lock` in the data folder holds the pid of the mongod that has
the folder open (empty after a clean stop), and the command line of that process says which folder and which port.
A recycled pid fails the second test. There is no state file of our own that could be stale.
"""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from curate.adapters.mongod_binary import find_mongod
from curate.errors import StageError

PING_TIMEOUT_MS = 3_000
NOT_CLEAN = "validate.pending"  # in the folder while counts may be wrong
_STOP_TIMEOUT_S = 60
_START_ATTEMPTS = 5
_CACHE_GB = 1
_LOG_BYTES = 16 * 2**20


def uri_of(port: int) -> str:
    """Return what clients connect to."""
    # journal=true: a write is acknowledged when it is on disk; without it a kill loses the last 100 ms
    return f"mongodb://127.0.0.1:{port}/?journal=true&uuidRepresentation=standard"


def start(folder: Path) -> tuple[int, int]:
    """Start mongod on a free port and return (pid, port). The caller holds the lock."""
    binary = find_mongod().path
    if lock_pid(folder) is not None:  # it was not closed cleanly: counts may be wrong until validated
        (folder / NOT_CLEAN).touch()
    log = folder / "mongod.log"
    if log.exists() and log.stat().st_size > _LOG_BYTES:
        log.unlink()
    for _ in range(_START_ATTEMPTS):  # the free port can be taken between asking and binding
        port = _free_port()
        complaint = _launch(binary, folder, port)
        deadline = time.monotonic() + 10
        while complaint is None and time.monotonic() < deadline:
            running = running_in(folder)
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


def wait_until_it_answers(folder: Path, pid: int, port: int) -> None:
    """Wait for a ping to be answered.

    Raises:
        StageError: it ended, or does not answer within two minutes; the message holds the end of its log.
    """
    deadline = time.monotonic() + 120  # a journal of a crashed server can take a while to be replayed
    while time.monotonic() < deadline:
        if ping(uri_of(port)):
            return
        if running_in(folder) is None:
            break
        time.sleep(0.1)
    tail = _log_tail(folder / "mongod.log", 8)
    msg = f"mongod (pid {pid}, port {port}) in {folder} does not answer. The end of its log:\n{tail}"
    raise StageError(msg)


def lock_pid(folder: Path) -> int | None:
    """Return the pid that mongod left in its lock file, or None after a clean stop."""
    try:
        text = (folder / "data" / "mongod.lock").read_text(encoding="ascii", errors="replace").strip()
    except OSError:
        return None
    return int(text) if text.isdigit() else None


def running_in(folder: Path) -> tuple[int, int] | None:
    """Return (pid, port) of the live mongod that has this data folder open, or None."""
    import psutil  # type: ignore[import-untyped]  # noqa: PLC0415 - only where a database is used

    pid = lock_pid(folder)
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


def stop(pid: int, port: int) -> None:
    """Ask it to shut down cleanly and wait until it has.

    Raises:
        StageError: it does not stop in time.
    """
    import psutil  # noqa: PLC0415 - only where a database is used
    import pymongo  # noqa: PLC0415 - only where a database is used
    from pymongo.errors import PyMongoError  # noqa: PLC0415

    try:
        process = psutil.Process(pid)
        client: Any = pymongo.MongoClient(uri_of(port), serverSelectionTimeoutMS=PING_TIMEOUT_MS)
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


def ping(uri: str) -> str | None:
    """Return the server's version, or None if it does not answer within three seconds."""
    import pymongo  # noqa: PLC0415 - only where a database is used
    from pymongo.errors import PyMongoError  # noqa: PLC0415

    try:
        with pymongo.MongoClient(uri, serverSelectionTimeoutMS=PING_TIMEOUT_MS) as client:
            return str(client.server_info()["version"])
    except PyMongoError:
        return None


def _log_tail(log: Path, n_lines: int) -> str:
    try:
        size = log.stat().st_size
        with log.open("rb") as stream:
            stream.seek(max(0, size - 64 * 1024))
            lines = stream.read().decode("utf-8", "replace").splitlines()
    except OSError as error:
        return f"(no log: {error})"
    return "\n".join(line[:400] for line in lines[-n_lines:]) or "(the log is empty)"
