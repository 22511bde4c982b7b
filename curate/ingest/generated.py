"""Demo data is written once, whole or not at all, and found again; randomness is a hash, the same for ever."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from curate import schema
from curate.errors import ConfigError
from curate.ingest.source import ReadOptions


def generated_folder(options: ReadOptions, name: str, version: int, write: Callable[[Path], None]) -> Path:
    """Return the folder of generated data, after `write(folder)` filled it if it was not there yet.

    Its name holds a hash of version and options, so that data of other settings is never taken for it. It is
    written beside and renamed: a run that is killed leaves nothing that looks complete, and of two runs at the same
    time one wins and both find the same bytes.

    Raises:
        ConfigError: there is no scratch folder to write to.
    """
    if options.scratch is None:
        msg = f"The format {name} writes its images into the workspace, and no scratch folder was given."
        raise ConfigError(msg)
    key = schema.stable_id(name, str(version), schema.canonical_json(dict(options.options)))[:12]
    folder = options.scratch / f"{name}-{key}"
    if folder.is_dir():
        return folder
    options.scratch.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f".{name}-", dir=options.scratch))
    try:
        write(partial)
        partial.chmod(0o755)
        try:
            partial.replace(folder)
        except OSError:
            if not folder.is_dir():
                raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return folder


def uniform(seed: int, *parts: str | int) -> float:
    """Return a number in [0, 1) that depends on nothing but its arguments, not even on the NumPy version."""
    text = "\0".join(map(str, (seed, *parts)))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:7], "big") / 2**56
