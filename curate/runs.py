"""Run folder, stage cache, resume: a stage whose inputs are unchanged is read, not computed."""

from __future__ import annotations

import json
import os
import platform
import secrets
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Protocol, Self

import pyarrow as pa
import pyarrow.parquet as pq

from curate import __version__, schema
from curate.digests import digest_file, digest_json, digest_listing, digest_table
from curate.errors import InputError, writing

__all__ = [  # digests are part of what a stage's key is made of: callers say `runs.digest_table`
    "Listener",
    "Run",
    "Silent",
    "Timing",
    "Workspace",
    "default_workspace",
    "digest_file",
    "digest_json",
    "digest_listing",
    "digest_table",
    "open_workspace",
    "read_table",
    "versions",
    "write_table",
    "write_text",
]

LOCKED = ("pyarrow", "numpy", "scikit-learn", "torch", "opencv-python-headless", "onnxruntime", "fiftyone")


class Listener(Protocol):
    """Who hears how a run goes: the terminal, a notebook, a test."""

    def stage_started(self, stage: str) -> None: ...  # noqa: D102 - named for what it hears

    def progress(self, n_done: int, n_total: int | None) -> None: ...  # noqa: D102 - as above

    def stage_done(self, stage: str, seconds: float, *, cached: bool, note: str) -> None: ...  # noqa: D102 - as above


class Silent:
    """A listener that says nothing."""

    def stage_started(self, stage: str) -> None:
        """Say nothing."""

    def progress(self, n_done: int, n_total: int | None) -> None:
        """Say nothing."""

    def stage_done(self, stage: str, seconds: float, *, cached: bool, note: str) -> None:
        """Say nothing."""


@dataclass(frozen=True, slots=True)
class Workspace:
    """Where a dataset's caches, runs, media, report and manifests are."""

    root: Path
    name: str
    manifests_at: str = ""  # folder or URL; empty = in the workspace

    @property
    def folder(self) -> Path:
        """The dataset's own folder."""
        return self.root / self.name

    @property
    def cache(self) -> Path:
        """Stage results by content."""
        return self.folder / "cache"

    @property
    def media(self) -> Path:
        """Extracted or generated images."""
        return self.folder / "media"

    @property
    def report(self) -> Path:
        """The latest report."""
        return self.folder / "report" / "index.html"

    @property
    def manifests(self) -> Path:
        """Where versions of every dataset are published unless spec or option say otherwise."""
        return self.root / "manifests"

    @property
    def published_at(self) -> str:
        """Where versions are published: the folder above, or another one, or the URL of an object store."""
        return self.manifests_at or str(self.manifests)


def write_text(path: Path, text: str) -> None:
    """Write a file beside its place and rename it, so that a reader never sees half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}.part")
    try:
        with writing(path):
            beside.write_text(text, encoding="utf-8")
            beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def write_table(path: Path, table: pa.Table) -> None:
    """Write a Parquet file beside its place and rename it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}.part")
    try:
        with writing(path):
            # the table that is read from the cache has the very types of the one that was computed
            pq.write_table(table, beside, compression="zstd", compression_level=1, use_compliant_nested_type=False)
            beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def read_table(path: Path) -> pa.Table | None:
    """Return a cached table, or None where there is none or it cannot be read (then it is made again)."""
    try:
        return pq.read_table(path, partitioning=None)
    except FileNotFoundError:
        return None
    except (OSError, pa.ArrowInvalid):
        path.unlink(missing_ok=True)
        return None


@dataclass
class Run:
    """One run of the pipeline over a workspace; `run.json` is rewritten after every stage."""

    workspace: Workspace
    listener: Listener
    run_id: str = field(default_factory=lambda: f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{secrets.token_hex(3)}")
    record: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Begin the record."""
        self.record = {
            "run_id": self.run_id,
            "dataset": self.workspace.name,
            "started_at": datetime.now(UTC).isoformat(timespec="seconds"),
            "state": "running",
            "versions": versions(),
            "stages": [],
            **self.record,
        }
        self.save()

    @property
    def file(self) -> Path:
        """Where this run's record is."""
        return self.workspace.folder / "runs" / self.run_id / "run.json"

    def save(self) -> None:
        """Write `run.json`."""
        write_text(self.file, json.dumps(self.record, indent=1, sort_keys=True, ensure_ascii=False) + "\n")

    def stage(
        self,
        stage: str,
        key_parts: Mapping[str, Any],
        tables: Sequence[str],
        compute: Callable[[], Mapping[str, pa.Table]],
        *,
        keep: Callable[[Mapping[str, pa.Table]], bool] = lambda _: True,
    ) -> dict[str, pa.Table]:
        """Return the tables of a stage: from the cache where its key is there, computed and cached otherwise.

        Args:
            stage: name; also the folder under `cache/`.
            key_parts: everything that the result depends on, as JSON values (digests for tables).
            tables: names of the tables it gives.
            compute: makes them.
            keep: whether what was made is worth remembering; what failed is tried again.
        """
        key = digest_json({"stage": stage, "schema": schema.SCHEMA_VERSION, **key_parts})
        files = {name: self.workspace.cache / stage / f"{key}.{name}.parquet" for name in tables}
        with self.timed(stage, {"key": key}) as timing:
            found = {name: read_table(file) for name, file in files.items()}
            cached = {name: table for name, table in found.items() if table is not None}
            if len(cached) == len(files):
                timing.cached = True
                return cached
            made = compute()
            for name, file in files.items() if keep(made) else ():
                write_table(file, made[name])
            return {name: made[name] for name in tables}

    def timed(self, stage: str, details: Mapping[str, Any] | None = None) -> Timing:
        """Return a context that tells the listener and the record how long a stage took."""
        return Timing(self, stage, dict(details or {}))

    def finish(self, state: str, **facts: Any) -> None:  # noqa: ANN401 - JSON values
        """Write how the run ended."""
        self.record |= {"state": state, "ended_at": datetime.now(UTC).isoformat(timespec="seconds"), **facts}
        self.save()


@dataclass
class Timing:
    """A stage while it runs."""

    run: Run
    stage: str
    details: dict[str, Any]
    cached: bool = False
    note: str = ""
    began_s: float = 0.0

    def __enter__(self) -> Self:
        """Say that the stage has begun."""
        self.began_s = time.monotonic()
        self.run.listener.stage_started(self.stage)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        """Say that it is over, and write it down."""
        seconds = time.monotonic() - self.began_s
        entry = {"stage": self.stage, "seconds": round(seconds, 3), "cached": self.cached, **self.details}
        if error is not None:
            entry["error"] = f"{type(error).__name__}: {error}"
        self.run.record["stages"].append(entry)
        self.run.save()
        if error is None:
            self.run.listener.stage_done(self.stage, seconds, cached=self.cached, note=self.note)


def versions() -> dict[str, str]:
    """Return the versions that a result can depend on."""
    found = {"curate": __version__, "python": platform.python_version()}
    for package in LOCKED:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found


def default_workspace() -> Path:
    """Return `./workspace`, where everything goes unless a spec or an option says otherwise."""
    return Path.cwd() / "workspace"


def open_workspace(root: Path, name: str, manifests_at: str = "") -> Workspace:
    """Return the workspace of a dataset, made if it is not there.

    Raises:
        InputError: the folder cannot be written to.
    """
    workspace = Workspace(root.resolve(), name, manifests_at)
    try:
        workspace.folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=workspace.folder):  # a folder that is there may still be read-only
            pass
    except OSError as error:
        raise InputError(
            f"The workspace {workspace.folder} must be a folder that can be written to; it cannot "
            f"({error.strerror}). Give another one with --workspace DIR."
        ) from error
    return workspace
