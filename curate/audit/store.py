"""Audits on disk: a folder each, its design written once before anyone looks, answers appended file by file."""

from __future__ import annotations

import json
import os
import secrets
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from curate import runs, schema
from curate.audit.answers import Answer, by_item, latest, unanswered, unknown_looks
from curate.audit.design import Design
from curate.errors import ConfigError, InputError, writing

DESIGN = "design.json"
MEMBERSHIP = "bands.parquet"
_LOCK_TIMEOUT_S = 60


@dataclass(frozen=True, slots=True)
class Audit:
    """An audit as it stands.

    Attributes:
        folder: where it is kept.
        design: fixed before anyone looked.
        membership: `label_id`, `band` of every label.
        answers: look → the last answer to it.
    """

    folder: Path
    design: Design
    membership: pa.Table
    answers: Mapping[str, Answer]

    @property
    def short_id(self) -> str:
        """Seven characters of the design's digest."""
        return self.design.digest[:7]

    @property
    def open_looks(self) -> list[str]:
        """Looks that have no answer yet."""
        return unanswered(self.design, self.answers)

    @property
    def said(self) -> dict[int, Answer]:
        """The answer that counts for each item."""
        return by_item(self.design, self.answers)

    @property
    def answers_digest(self) -> str:
        """The sha256 of the answers that count."""
        return runs.digest_json([self.answers[look].to_json() for look in sorted(self.answers)])


def audits_folder(workspace: Path, name: str) -> Path:
    """Return where the audits of dataset `name` are kept."""
    return Path(workspace).expanduser().resolve() / name / "audits"


def folders(place: Path) -> list[Path]:
    """Return the folders of audits, oldest first."""
    found = [path for path in place.glob("*") if path.name.isdigit()] if place.is_dir() else []
    return sorted(found, key=lambda path: int(path.name))


def record(folder: Path, design: Design, membership: pa.Table) -> Audit:
    """Write a new audit; it is there as a whole or not at all, and an old one is never replaced.

    Raises:
        ConfigError: there is an audit already, or the folder cannot be written.
        StageError: the disk is full.
    """
    if folder.exists():
        raise ConfigError(
            f"There is an audit at {folder} already; its sample is fixed. Draw another one elsewhere."
        )
    beside = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}.part")
    try:
        with writing(folder):
            beside.mkdir(parents=True)
            _write(beside / DESIGN, schema.canonical_json({"sha256": design.digest, "design": design.to_json()}))
            pq.write_table(membership, beside / MEMBERSHIP)
            beside.rename(folder)
    except OSError as error:
        raise ConfigError(f"The audit could not be written to {folder} ({error.strerror or error}).") from error
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return Audit(folder, design, membership, {})


def read(folder: Path) -> Audit:
    """Return an audit.

    Raises:
        ConfigError: there is none.
        InputError: a file is torn, or the design or the bands are not those that were recorded.
    """
    if not (folder / DESIGN).is_file():
        raise ConfigError(f"There is no audit at {folder}. Draw one first.")
    held = _json(folder / DESIGN)
    design = Design.from_json(held.get("design", {}))
    if held.get("sha256") != design.digest:
        raise InputError(f"{folder / DESIGN} was changed after it was recorded. Restore it, or draw a new audit.")
    try:
        membership = pq.read_table(folder / MEMBERSHIP)
    except (OSError, pa.ArrowException) as error:
        raise InputError(f"{folder / MEMBERSHIP} cannot be read ({error}). Restore it.") from error
    if runs.digest_table(membership) != design.membership_sha256:
        raise InputError(f"{folder / MEMBERSHIP} was changed after it was recorded. Restore it.")
    said = [answer for file in _answer_files(folder) for answer in _answers(file)]
    answers = latest(said)
    strange = unknown_looks(design, answers)
    if strange:
        raise InputError(f"{folder} holds answers to looks that it never asked for: {', '.join(strange[:3])}.")
    return Audit(folder, design, membership, answers)


def append(audit: Audit, answers: Sequence[Answer]) -> tuple[Audit, list[Answer]]:
    """Append the answers that say something new, whoever says it; return the audit as it is then, and those answers.

    Raises:
        InputError: an answer to a look that was never asked for.
    """
    import filelock  # noqa: PLC0415 - only where something is written

    strange = unknown_looks(audit.design, latest(answers))
    if strange:
        shown = ", ".join(strange[:3])
        raise InputError(
            f"{len(strange)} answers are for looks that the audit {audit.short_id} never asked for ({shown}). "
            "Is the sheet of another audit?"
        )
    with filelock.FileLock(audit.folder / "append.lock", timeout=_LOCK_TIMEOUT_S):
        held = read(audit.folder)
        fresh = [one for one in latest(answers).values() if not one.says_what(held.answers.get(one.look))]
        if not fresh:
            return held, []
        numbers = [int(file.stem.removeprefix("answers-")) for file in _answer_files(audit.folder)]
        file = audit.folder / f"answers-{max(numbers, default=0) + 1:06d}.json"
        with writing(file):
            _write(file, schema.canonical_json([answer.to_json() for answer in fresh]))
    return read(audit.folder), fresh


def _answer_files(folder: Path) -> list[Path]:
    return sorted(folder.glob("answers-*.json"))


def _answers(file: Path) -> list[Answer]:
    try:
        return [Answer(**row) for row in _json(file)]
    except TypeError as error:
        raise InputError(f"{file} holds no answers ({error}). Restore it.") from error


def _json(file: Path) -> Any:  # noqa: ANN401 - any JSON value
    try:
        return json.loads(file.read_bytes())
    except (OSError, ValueError) as error:
        raise InputError(f"{file} cannot be read ({error}). Restore it.") from error


def _write(file: Path, text: str) -> None:
    beside = file.with_name(f".{file.name}.{secrets.token_hex(4)}.part")
    try:
        with beside.open("w", encoding="utf-8") as stream:
            stream.write(text + "\n")
            stream.flush()
            os.fsync(stream.fileno())
        beside.replace(file)
    finally:
        beside.unlink(missing_ok=True)
