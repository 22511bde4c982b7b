"""What must not come back: keyed hashes of erased samples, of their bytes and of subjects, asked at ingest and scan.

The list holds no id, no path and no plain hash. A row it recognises leaves one outcome, out for the reason `erased`,
whose text says nothing of what the row was.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from curate import schema
from curate.errors import ConfigError
from curate.governance.secret import ensure_secret, keyed, read_secret
from curate.ingest.source import Ingested
from curate.runs import write_text

ERASED = "erased"
ROW = "an erased row"
SUBJECT_GROUP = f"{schema.GROUP_PREFIX}subject"
_FORMAT = "curate-suppression"


@dataclass(frozen=True, slots=True)
class Suppression:
    """The list of a workspace; falsy where nothing was ever erased.

    Attributes:
        secret: of the workspace.
        hashes: keyed hashes of sample ids, of content hashes and of subjects (with the source they belong to).
    """

    secret: bytes
    hashes: frozenset[str]

    def __bool__(self) -> bool:
        """Whether anything was erased."""
        return bool(self.hashes)

    @property
    def digest(self) -> str:
        """Return a digest of the list: part of the cache key of what was read under it."""
        return hashlib.sha256("\n".join(sorted(self.hashes)).encode()).hexdigest()

    def has(self, kind: str, value: str | None) -> bool:
        """Whether a value (kind: sample, content or subject) is on the list."""
        return value is not None and keyed(self.secret, kind, value) in self.hashes

    def which(self, kind: str, values: pa.ChunkedArray | pa.Array) -> list[bool]:
        """Return for each value whether it is on the list."""
        unique = [value for value in pc.unique(values).to_pylist() if value is not None]
        known = {value for value in unique if self.has(kind, value)}
        return [value in known for value in values.to_pylist()]


def suppression_file(root: Path) -> Path:
    """Return where the list of a workspace is."""
    return root / "erasure" / "suppressed.json"


def load_suppression(root: Path) -> Suppression:
    """Return the list of a workspace.

    Raises:
        ConfigError: the list or its key cannot be read, or they do not belong together.
    """
    file = suppression_file(root)
    if not file.exists():
        return Suppression(b"", frozenset())
    secret = read_secret(root)
    try:
        content = json.loads(file.read_bytes())
        check, hashes = content["key_check"], frozenset(map(str, content["hashes"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(
            f"{file} says what must not come back and cannot be read ({error!r}). Restore it."
        ) from error
    if check != keyed(secret, "check", _FORMAT):
        raise ConfigError(
            f"{file} was written with another key than the one that is there. Put the right key back."
        )
    return Suppression(secret, hashes)


def add_to_suppression(root: Path, entries: Iterable[tuple[str, str]]) -> Suppression:
    """Put (kind, value) pairs on the list; those that are there stay. Safe to repeat."""
    held = load_suppression(root)
    secret = held.secret or ensure_secret(root)
    hashes = held.hashes | {keyed(secret, kind, value) for kind, value in entries}
    content = {
        "format": _FORMAT,
        "format_version": 1,
        "key_check": keyed(secret, "check", _FORMAT),
        "hashes": sorted(hashes),
    }
    write_text(suppression_file(root), json.dumps(content, indent=1) + "\n")
    return Suppression(secret, hashes)


def subject_value(source: str, subject: str) -> str:
    """Return what is hashed for a subject: the same number in another source is somebody else."""
    return f"{source}\0{subject}"


def suppress(read: Ingested, listed: Suppression, *, source: str) -> Ingested:
    """Return what a source gave without what was erased.

    A row that was erased, or that names an erased image, keeps its place among the outcomes: out, `erased`, and
    nothing of its text. Counts stay whole.
    """
    if not listed:
        return read
    gone = _gone_samples(read.samples, listed, source)
    ids = pa.array(sorted(gone), pa.string())

    def kept(table: pa.Table) -> pa.Table:
        return table.filter(pc.invert(pc.is_in(table["sample_id"], value_set=ids)))

    known = set(read.samples["sample_id"].to_pylist())
    outcomes = [
        _erased(row) if _is_about(row, known, gone, listed, source) else row for row in read.outcomes.to_pylist()
    ]
    return replace(
        read,
        samples=kept(read.samples),
        labels=kept(read.labels),
        outcomes=schema.table_from_rows(outcomes, schema.INGEST_OUTCOMES),
        annotations=None if read.annotations is None else kept(read.annotations),
    )


def suppress_bytes(
    samples: pa.Table, labels: pa.Table, outcomes: pa.Table, scan: pa.Table, listed: Suppression
) -> tuple[pa.Table, pa.Table, pa.Table, pa.Table]:
    """Return the tables without samples whose bytes were erased, under whatever name they came back."""
    which = pa.array(listed.which("content", scan["content_sha256"]), pa.bool_())
    gone = scan["sample_id"].filter(which).combine_chunks()
    if not len(gone):
        return samples, labels, outcomes, scan
    kept = [table.filter(pc.invert(pc.is_in(table["sample_id"], value_set=gone))) for table in (samples, labels)]
    names = set(gone.to_pylist())
    rows = [_erased(row) if row["sample_id"] in names else row for row in outcomes.to_pylist()]
    return (*kept, schema.table_from_rows(rows, schema.INGEST_OUTCOMES), scan.filter(pc.invert(which)))


def _gone_samples(samples: pa.Table, listed: Suppression, source: str) -> set[str]:
    gone = listed.which("sample", samples["sample_id"])
    for name in ("subject_id", SUBJECT_GROUP):
        if name in samples.column_names:
            subjects = pc.binary_join_element_wise(source, samples[name].cast(pa.string()), "\0")
            gone = [one or other for one, other in zip(gone, listed.which("subject", subjects), strict=True)]
    return {sample for sample, out in zip(samples["sample_id"].to_pylist(), gone, strict=True) if out}


def _is_about(row: Mapping[str, Any], known: set[str], gone: set[str], listed: Suppression, source: str) -> bool:
    """Return whether an input row is about something erased: by its sample, or by the path that it names."""
    sample_id = row["sample_id"]
    if sample_id in known:
        return sample_id in gone
    if sample_id is not None:
        return listed.has("sample", sample_id)
    if row["outcome"] != "out":
        return False
    named = [row["row"], *_texts(row["reason_args"])]
    return any(listed.has("sample", schema.sample_id_of(source, text)) for text in named)


def _texts(reason_args: str | None) -> list[str]:
    values = json.loads(reason_args) if reason_args else {}
    return [value for value in values.values() if isinstance(value, str)]


def _erased(row: Mapping[str, Any]) -> dict[str, Any]:
    return {"row": ROW, "kind": row["kind"], "outcome": "out", "reason_code": ERASED, "reason_args": "{}"}
