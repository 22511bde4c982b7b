"""A release as files: Parquet with fixed settings, canonical JSON, and the manifest that lists them all.

The bytes are a function of the tables and of the locked versions of pyarrow and curate, of nothing else; so is the
ID, which is the sha256 of manifest.json.
"""

from __future__ import annotations

import hashlib
import math
import os
import re
from collections.abc import Mapping
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
from curate.errors import ConfigError
from curate.manifest.build import Release
from curate.manifest.log import fsync_folder

FORMAT = "curate-manifest"
FORMAT_VERSION = 1
MANIFEST = "manifest.json"
PART_ROWS = 1_000_000
ROW_GROUP_ROWS = 65_536


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
        "excluded": release.excluded,
        "findings": release.findings,
        "decisions": release.decisions,
    }
    bounds = part_bounds(release.data)
    entries: list[FileEntry] = []
    for kind, table in tables.items():
        if table is not None:
            cuts = bounds if kind in {"data", "soft"} else list(range(0, table.num_rows, PART_ROWS))
            entries += _write_parts(_described(kind, table, release.head), folder, kind, cuts)
    for evidence, value in sorted(release.evidence.items()):
        entries.append(_write_evidence(folder, evidence, value))
    entries.sort(key=lambda entry: entry.path)
    manifest = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "schema_version": schema.SCHEMA_VERSION,
        "name": name,
        "files": [entry.to_json() for entry in entries],
        "tables": {kind: describe(table) for kind, table in tables.items() if table is not None},
        "versions": {"curate": curate.__version__, "numpy": np.__version__, "pyarrow": version("pyarrow")},
        **release.head,
    }
    content = canonical_manifest(manifest)
    _write(folder / MANIFEST, content)
    for inner in sorted({path.parent for path in folder.rglob("*")} | {folder}):
        fsync_folder(inner)
    return hashlib.sha256(content).hexdigest()


def canonical_manifest(manifest: Mapping[str, Any]) -> bytes:
    """Return the RFC 8785 form; the same as sorted compact JSON, since keys are ASCII and floats are refused."""
    _refuse_floats(manifest, "manifest")
    return schema.canonical_json(manifest).encode("utf-8")


def describe(table: pa.Table) -> dict[str, Any]:
    """Return rows and columns (name, Arrow type, nullable) of a table."""
    columns = [{"name": f.name, "nullable": f.nullable, "type": _type_text(f.type)} for f in table.schema]
    return {"rows": table.num_rows, "columns": columns}


def part_bounds(data: pa.Table, part_rows: int = PART_ROWS) -> list[int]:
    """Return where the parts of `data` (sorted by sample) start; a sample never lies in two parts."""
    ids = data["sample_id"].combine_chunks()
    starts: list[int] = []
    at = 0
    while at < data.num_rows:
        starts.append(at)
        following = min(at + part_rows, data.num_rows)
        while following < data.num_rows and ids[following] == ids[following - 1]:
            following += 1
        at = following
    return starts


def sha256_of(path: Path) -> str:
    """Return the sha256 of a file, streamed."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _type_text(kind: pa.DataType) -> str:
    """Return the type in words that survive Parquet, which renames the inner fields of lists and maps."""
    if pa.types.is_map(kind):
        return f"map<{_type_text(kind.key_type)}, {_type_text(kind.item_type)}>"
    if pa.types.is_fixed_size_list(kind):
        return f"list<{_type_text(kind.value_type)}>[{kind.list_size}]"
    if pa.types.is_list(kind):
        return f"list<{_type_text(kind.value_type)}>"
    return str(kind)


def _described(kind: str, table: pa.Table, head: Mapping[str, Any]) -> pa.Table:
    """Name classes and temperature in the file itself, so that soft labels can be read without the manifest."""
    if kind != "soft":
        return table.replace_schema_metadata(None)
    words = {"classes": schema.canonical_json(head["classes"]), "temperature": head["soft"]["temperature"]}
    return table.replace_schema_metadata(words)


def _write_parts(table: pa.Table, folder: Path, kind: str, starts: list[int]) -> list[FileEntry]:
    (folder / kind).mkdir()
    entries = []
    starts = starts or [0]
    for number, (start, stop) in enumerate(zip(starts, [*starts[1:], table.num_rows], strict=True)):
        relative = f"{kind}/part-{number:05d}.parquet"
        part = table.slice(start, stop - start)
        with (folder / relative).open("wb") as file:
            pq.write_table(
                part,
                file,
                row_group_size=ROW_GROUP_ROWS,
                version="2.6",
                compression="zstd",
                compression_level=3,
                data_page_size=1 << 20,
                write_batch_size=1024,
                write_statistics=True,
                use_dictionary=_repetitive(part.schema),
                use_byte_stream_split=_positions(part.schema) if kind == "soft" else False,
                store_schema=True,
            )
            file.flush()
            os.fsync(file.fileno())
        path = folder / relative
        entries.append(FileEntry(relative, path.stat().st_size, part.num_rows, sha256_of(path)))
    return entries


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
    _write(path, content)
    return FileEntry(f"evidence/{name}.json", len(content), None, hashlib.sha256(content).hexdigest())


def _write(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


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
