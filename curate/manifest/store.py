"""A release as files: Parquet with fixed settings, canonical JSON, and the manifest that lists them all.

The bytes are a function of the rows and of the locked versions of pyarrow and curate, of nothing else: not of the
batches in which rows came, nor of threads. The ID is the sha256 of manifest.json.
"""

from __future__ import annotations

import hashlib
import io
import math
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

import curate
from curate import schema
from curate.errors import ConfigError, writing
from curate.manifest.build import Release
from curate.manifest.place import fsync_folder, sha256_of, write_durably
from curate.manifest.soft_masks import GROUP_ROWS as MAPS_GROUP_ROWS
from curate.manifest.soft_masks import PART_ROWS as MAPS_PART_ROWS
from curate.manifest.stream import PART_ROWS, ROW_GROUP_ROWS, Cutter, groups_by_sample, groups_of, part_bounds

__all__ = ["MANIFEST", "canonical_manifest", "describe", "part_bounds", "sha256_of", "write_version"]

FORMAT = "curate-manifest"
FORMAT_VERSION = 1
MANIFEST = "manifest.json"

Groups = Iterator[pa.Table]


@dataclass(frozen=True, slots=True)
class FileEntry:
    """A file of a version: path with `/` relative to it, bytes, rows (None if not a table) and sha256."""

    path: str
    n_bytes: int
    rows: int | None
    sha256: str

    def to_json(self) -> dict[str, Any]:
        """Return the entry as it stands in the manifest."""
        return {"path": self.path, "bytes": self.n_bytes, "rows": self.rows, "sha256": self.sha256}


def write_version(release: Release, folder: Path, name: str) -> str:
    """Write a version into the empty `folder`, manifest.json last, everything fsynced; return its ID."""
    tables = {
        "data": release.data,
        "soft": release.soft,
        "soft_boxes": release.soft_boxes,
        "soft_masks": release.soft_masks,
        "ignore": release.ignore,
        "excluded": release.excluded,
        "findings": release.findings,
        "decisions": release.decisions,
    }
    entries: list[FileEntry] = []
    described: dict[str, Any] = {}
    for kind, rows in tables.items():
        if rows is None:
            continue
        beside = (
            [entry.rows or 0 for entry in entries if entry.path.startswith("data/")] if kind == "soft" else None
        )
        written = _write_parts(Cutter(rows), folder, kind, _words(kind, release.head), beside)
        described[kind] = _description(rows.schema, sum(entry.rows or 0 for entry in written))
        entries += written
    for evidence, value in sorted(release.evidence.items()):
        entries.append(_write_evidence(folder, evidence, value))
    entries.sort(key=lambda entry: entry.path)
    manifest = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "schema_version": schema.SCHEMA_VERSION if release.ignore is not None else 1,
        "name": name,
        "files": [entry.to_json() for entry in entries],
        "tables": described,
        "versions": {"curate": curate.__version__, "numpy": np.__version__, "pyarrow": version("pyarrow")},
        **release.head,
    }
    content = canonical_manifest(manifest)
    write_durably(folder / MANIFEST, content)
    for inner in sorted({path.parent for path in folder.rglob("*")} | {folder}):
        fsync_folder(inner)
    return hashlib.sha256(content).hexdigest()


def canonical_manifest(manifest: Mapping[str, Any]) -> bytes:
    """Return the RFC 8785 form; the same as sorted compact JSON, since keys are ASCII and floats are refused."""
    _refuse_floats(manifest, "manifest")
    return schema.canonical_json(manifest).encode("utf-8")


def describe(table: pa.Table) -> dict[str, Any]:
    """Return rows and columns (name, Arrow type, nullable) of a table."""
    return _description(table.schema, table.num_rows)


def _description(columns: pa.Schema, n_rows: int) -> dict[str, Any]:
    described = [{"name": f.name, "nullable": f.nullable, "type": _type_text(f.type)} for f in columns]
    return {"rows": n_rows, "columns": described}


def _type_text(kind: pa.DataType) -> str:
    """Return the type in words that survive Parquet, which renames the inner fields of lists and maps."""
    if pa.types.is_map(kind):
        return f"map<{_type_text(kind.key_type)}, {_type_text(kind.item_type)}>"
    if pa.types.is_fixed_size_list(kind):
        return f"list<{_type_text(kind.value_type)}>[{kind.list_size}]"
    if pa.types.is_list(kind):
        return f"list<{_type_text(kind.value_type)}>"
    return str(kind)


def _words(kind: str, head: Mapping[str, Any]) -> dict[str, str] | None:
    """Return classes and temperature for the file itself, so that soft labels can be read without the manifest."""
    if kind not in {"soft", "soft_boxes", "soft_masks"}:
        return None
    told = head["soft_masks" if kind == "soft_masks" else "soft"]
    return {"classes": schema.canonical_json(head["classes"]), "temperature": told["temperature"]}


def _write_parts(
    rows: Cutter, folder: Path, kind: str, words: dict[str, str] | None, beside: list[int] | None
) -> list[FileEntry]:
    """Write a table in parts, at least one; `beside`: as many rows in each part as another table has there."""
    (folder / kind).mkdir()
    part_rows, group_rows = (
        (MAPS_PART_ROWS, MAPS_GROUP_ROWS) if kind == "soft_masks" else (PART_ROWS, ROW_GROUP_ROWS)
    )
    entries: list[FileEntry] = []
    while not entries or not rows.is_done:
        n_before = len(entries)
        if kind == "data":
            groups = groups_by_sample(rows, PART_ROWS)
        else:
            n_rows = beside[n_before] if beside and n_before < len(beside) else part_rows
            groups = groups_of(rows, n_rows, group_rows)
        entries.append(
            _write_part(groups, rows.schema.with_metadata(words), folder, f"{kind}/part-{n_before:05d}.parquet")
        )
    return entries


def _write_part(groups: Groups, columns: pa.Schema, folder: Path, relative: str) -> FileEntry:
    n_rows = 0
    with writing(folder / relative), (folder / relative).open("wb") as raw:
        file = _Hashed(raw)
        with pq.ParquetWriter(
            file,
            columns,
            version="2.6",
            compression="zstd",
            compression_level=3,
            data_page_size=1 << 20,
            write_batch_size=1024,
            write_statistics=True,
            use_dictionary=_repetitive(columns),
            use_byte_stream_split=_positions(columns) if relative.startswith("soft/") else False,
            store_schema=True,
        ) as writer:
            for group in groups:
                writer.write_table(group.replace_schema_metadata(columns.metadata), row_group_size=ROW_GROUP_ROWS)
                n_rows += group.num_rows
        raw.flush()
        os.fsync(raw.fileno())
    return FileEntry(relative, file.n_bytes, n_rows, file.digest.hexdigest())


class _Hashed(io.RawIOBase):
    """A file that is hashed while it is written; Parquet is written from front to back."""

    def __init__(self, file: io.BufferedWriter) -> None:
        self._file, self.digest, self.n_bytes = file, hashlib.sha256(), 0

    def writable(self) -> bool:
        return True

    def tell(self) -> int:
        return self.n_bytes

    def write(self, content: Any) -> int:  # noqa: ANN401 - bytes or any buffer of them
        self.digest.update(content)
        self._file.write(content)
        self.n_bytes += len(content)
        return len(content)


def _repetitive(table_schema: pa.Schema) -> list[str] | bool:
    """Return the text columns that repeat themselves; a dictionary of ids or hashes only costs time."""
    words = {"action", "annotator", "check", "decision", "error_code", "format", "given_label", "issue", "kind"}
    words |= {"label_state", "license", "reason_code", "released_label", "source", "split", "stage", "task"}
    words |= {"container", "suggested_label", "track_id"}
    return [name for name in table_schema.names if name in words] or False


def _positions(table_schema: pa.Schema) -> list[str] | bool:
    """Return the leaves of class positions: split by byte they take a third less. Not float16: DuckDB reads none."""
    kinds = (pa.uint16(), pa.int32())
    lists = [f.name for f in table_schema if pa.types.is_fixed_size_list(f.type) and f.type.value_type in kinds]
    return [f"{name}.list.element" for name in lists] or False


def _write_evidence(folder: Path, name: str, value: Any) -> FileEntry:  # noqa: ANN401 - any JSON value
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", name):
        msg = f"Evidence needs a name of letters, digits, '.', '_' and '-'; given: {name!r}."
        raise ConfigError(msg)
    path = folder / "evidence" / f"{name}.json"
    path.parent.mkdir(exist_ok=True)
    content = (schema.canonical_json(_finite(value)) + "\n").encode("utf-8")
    write_durably(path, content)
    return FileEntry(f"evidence/{name}.json", len(content), None, hashlib.sha256(content).hexdigest())


def _finite(value: Any) -> Any:  # noqa: ANN401 - any JSON value
    """Return the value with what JSON cannot hold as text, and NumPy numbers as plain ones."""
    if isinstance(value, Mapping):
        return {str(key): _finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    if isinstance(value, np.generic):
        return _finite(value.item())
    if isinstance(value, np.ndarray):
        array: NDArray[Any] = value
        return _finite(array.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value


def _refuse_floats(value: Any, where: str) -> None:  # noqa: ANN401 - any JSON value
    if isinstance(value, float):
        msg = f"{where} is the float {value!r}; what is hashed holds text and integers only."
        raise TypeError(msg)
    if isinstance(value, Mapping):
        for key, inner in value.items():
            if not str(key).isascii():
                msg = f"{where} has the key {key!r}; keys of what is hashed are ASCII."
                raise TypeError(msg)
            _refuse_floats(inner, f"{where}.{key}")
    elif isinstance(value, list | tuple):
        for at, inner in enumerate(value):
            _refuse_floats(inner, f"{where}[{at}]")
