"""The ledger of what people decided: append-only Parquet files, one per append, numbered in order.

A file is written beside and renamed, and never touched again. A file that cannot be read is reported, not fatal:
the other decisions still stand.
"""

from __future__ import annotations

import getpass
import os
import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from curate import schema
from curate.errors import ConfigError, writing
from curate.verdict_people import WITHDRAWS

DECISION_KINDS = ("accept", "reject", "relabel", "drop", "keep", "ignore", "note")
TAKES_ID = "takes the track id "  # once an accept said here, and not in `to_track_id`, which id it gives the label
AUDITED = "audit "  # the `why` of a decision that came from an audit's answer and not from a mark in the App
REVIEWER = "CURATE_REVIEWER"
_LOCK_TIMEOUT_S = 60


@dataclass(frozen=True, slots=True)
class Ledger:
    """What a ledger folder holds.

    Attributes:
        decisions: `schema.DECISIONS` in ledger order: the last row about a label is the latest.
        problems: one sentence per file that could not be read.
    """

    decisions: pa.Table
    problems: tuple[str, ...]


def ledger_folder(workspace: Path, name: str) -> Path:
    """Return where the decisions about dataset `name` are kept."""
    return Path(workspace).expanduser().resolve() / name / "ledger"


def reviewer_name(given: str | None = None) -> str:
    """Return who decides: the given name, CURATE_REVIEWER, or the user of the operating system. Self-declared."""
    name = (given or os.environ.get(REVIEWER) or "").strip()
    if name:
        return name
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"


def append(
    folder: Path, rows: Sequence[Mapping[str, Any]], *, reviewer: str, at: datetime | None = None
) -> pa.Table:
    """Append decisions as one new file and return them as `schema.DECISIONS`; no rows, no file.

    A row has `sample_id`, `decision` and what else of `schema.DECISIONS` applies; `decision_id`, `at` and
    `reviewer` are filled in.

    Raises:
        ConfigError: a decision of an unknown kind, or a folder that cannot be written.
        StageError: the disk is full; nothing was recorded.
    """
    if not rows:
        return schema.empty(schema.DECISIONS)
    wrong = sorted({str(row["decision"]) for row in rows} - set(DECISION_KINDS))
    if wrong:
        raise ConfigError(f"A decision is one of {', '.join(DECISION_KINDS)}; given: {', '.join(wrong)}.")
    when = (at or datetime.now(UTC)).astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
    nonce = secrets.token_hex(8)  # two people may decide the same in the same microsecond
    full = [
        {
            **row,
            "decision_id": schema.stable_id("decision", when, nonce, str(i)),
            "at": when,
            "reviewer": reviewer,
        }
        for i, row in enumerate(rows)
    ]
    table = schema.table_from_rows(full, schema.DECISIONS)
    try:
        with writing(folder):
            _put(folder, table, nonce)
    except OSError as error:
        msg = (
            f"The decisions could not be written to {folder} ({error}). Nothing was recorded. Make it "
            "writable, or wait for who else writes there, and run the same again."
        )
        raise ConfigError(msg) from error
    return table


def read(folder: Path) -> Ledger:
    """Return every decision in order; a file that is torn or foreign becomes a problem."""
    tables = [schema.empty(schema.DECISIONS)]
    problems = []
    for file in _files(folder):
        try:
            table = pq.read_table(file, partitioning=None)
            tables.append(_conform(table))
        except (pa.ArrowException, OSError, ValueError) as error:
            problems.append(f"{file.name} in the ledger cannot be read ({type(error).__name__}); restore it.")
    problems += [
        f"{file.name} in the ledger is not one of its files; it is left alone."
        for file in (sorted(folder.glob("*")) if folder.is_dir() else ())
        if file.suffix not in {".parquet", ".lock", ".tmp"} or _is_misnamed(file)
    ]
    return Ledger(pa.concat_tables(tables), tuple(problems))


def standing(decisions: pa.Table) -> pa.Table:
    """Return the decisions that count: without notes and without those that were withdrawn later, in order.

    This is what verdicts take: "the latest per label wins" is right on it.
    """
    whys: Iterable[str | None] = decisions["why"].to_pylist()
    kinds = decisions["decision"].to_pylist()
    gone = {
        why.removeprefix(WITHDRAWS)
        for why, kind in zip(whys, kinds, strict=True)
        if kind == "note" and why and why.startswith(WITHDRAWS)
    }
    ids = decisions["decision_id"].to_pylist()
    keep = [kind != "note" and one not in gone for one, kind in zip(ids, kinds, strict=True)]
    return decisions.filter(pa.array(keep, pa.bool_()))


def _files(folder: Path) -> list[Path]:
    return sorted(p for p in folder.glob("*.parquet") if not _is_misnamed(p)) if folder.is_dir() else []


def _is_misnamed(file: Path) -> bool:
    return file.suffix == ".parquet" and not (file.stem.isdigit() and len(file.stem) == 10)


def _conform(table: pa.Table) -> pa.Table:
    """Return `table` in `schema.DECISIONS`; a column that a former version did not know is null."""
    columns = {
        field.name: table[field.name].cast(field.type)
        if field.name in table.column_names
        else pa.nulls(table.num_rows, field.type)
        for field in schema.DECISIONS
    }
    for required in (field.name for field in schema.DECISIONS if not field.nullable):
        if required not in table.column_names or columns[required].null_count:
            raise ValueError(f"{required} is missing")
    told = pc.if_else(pc.starts_with(columns["why"], TAKES_ID), columns["why"], None)
    columns["to_track_id"] = pc.coalesce(columns["to_track_id"], pc.utf8_slice_codeunits(told, len(TAKES_ID)))
    return pa.table(columns, schema=schema.DECISIONS)


def _put(folder: Path, table: pa.Table, nonce: str) -> None:
    import filelock  # noqa: PLC0415 - only where something is written

    folder.mkdir(parents=True, exist_ok=True)
    beside = folder / f"{nonce}.tmp"
    try:
        with beside.open("wb") as stream:
            pq.write_table(table, stream)
            stream.flush()
            os.fsync(stream.fileno())
        with filelock.FileLock(folder / "append.lock", timeout=_LOCK_TIMEOUT_S):
            numbers = [int(file.stem) for file in _files(folder)]
            beside.replace(folder / f"{max(numbers, default=0) + 1:010d}.parquet")
    finally:
        beside.unlink(missing_ok=True)
    _sync_folder(folder)


def _sync_folder(folder: Path) -> None:
    if os.name != "posix":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
