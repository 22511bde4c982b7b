"""Digests of what goes into a stage or a version: tables, JSON values, files and listings of folders."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from curate import schema


def digest_table(table: pa.Table, *, leave_out: Sequence[str] = ()) -> str:
    """Return the sha256 of a table's content: names, types and values, whatever its chunks.

    Row order counts.
    """
    hasher = hashlib.sha256()
    for name in sorted(set(table.column_names) - set(leave_out)):
        # Parquet may call the inner field of a list "element" where Arrow calls it "item"
        kind = str(table.schema.field(name).type).replace("<element:", "<item:")
        hasher.update(f"{name}\0{kind}\0".encode())
        for start in range(0, table.num_rows, 1 << 20):
            # Parquet's levels are canonical where Arrow's buffers (offsets, validity) are not
            sink = pa.BufferOutputStream()
            piece = pa.table({"x": table[name].slice(start, 1 << 20)})
            pq.write_table(
                piece, sink, compression="none", use_dictionary=False, write_statistics=False, store_schema=False
            )
            hasher.update(sink.getvalue())
    return hasher.hexdigest()


def digest_json(value: Any) -> str:  # noqa: ANN401 - any JSON value
    """Return the sha256 of a JSON value."""
    return hashlib.sha256(schema.canonical_json(value).encode()).hexdigest()


def digest_file(path: Path) -> str:
    """Return the sha256 of a file."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def digest_listing(root: Path) -> str:
    """Return a digest of path, size and time of everything under `root` (or of the one file); reads no content."""
    hasher = hashlib.sha256()
    if root.is_file():
        stat = root.stat()
        return hashlib.sha256(f"{stat.st_size}\0{stat.st_mtime_ns}".encode()).hexdigest()
    pending = [root]
    entries: list[str] = []
    while pending:
        with os.scandir(pending.pop()) as listing:
            for entry in listing:
                if entry.is_dir(follow_symlinks=False):
                    pending.append(Path(entry.path))
                    continue
                stat = entry.stat(follow_symlinks=False)
                relative = os.path.relpath(entry.path, root)
                entries.append(f"{relative}\0{stat.st_size}\0{stat.st_mtime_ns}\n")
    for line in sorted(entries):
        hasher.update(line.encode("utf-8", "surrogateescape"))
    return hasher.hexdigest()
