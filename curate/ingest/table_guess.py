"""Which column of an unknown table plays which role, for `curate init`: by name, checked against the content."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from curate.errors import CurateError
from curate.ingest.listing import is_image_name
from curate.ingest.parquet_images import image_columns
from curate.ingest.table_rows import (
    Dialect,
    Text,
    as_text,
    is_parquet,
    is_text_table,
    table_files,
    text_batches,
    text_header,
)
from curate.ingest.tags import is_list_of_labels, lists_as_text
from curate.spec import MISSING

LABEL_NAMES = ("label", "labels", "tags", "class", "category", "target", "y")
_PATH_NAMES = ("image", "image_path", "path", "file", "filename", "file_name", "filepath", "img", "uri", "name")
_ROLE_NAMES = {
    "split": ("split", "subset", "partition"),
    "annotator": ("annotator", "annotator_id", "worker_id", "rater_id"),
    "reference_label": ("clean_label", "true_label", "reference_label"),
    "license": ("license", "licence", "spdx"),
    "subject_id": ("subject_id", "person_id", "identity"),
}
_HEAD_ROWS = 200
_MAX_CANDIDATE_VALUES = 100


def guess_columns(path: Path) -> dict[str, str] | None:
    """Return role -> column for a table of images, None if it is none; an unsure label is `spec.MISSING`."""
    head = _head(path)
    if head is None:
        return None
    texts, encoded = head
    columns: dict[str, str] = {}
    if encoded:
        columns["image"] = _by_name(encoded, _PATH_NAMES) or encoded[0]
        name = _by_name([n for n in texts if _are_names(texts[n])], _PATH_NAMES)
        if name:
            columns["name"] = name
    else:
        paths = [name for name, cells in texts.items() if _are_image_names(cells)]
        if not paths:
            return None
        columns["image"] = _by_name(paths, _PATH_NAMES) or paths[0]
    left = [name for name in texts if name not in columns.values()]
    columns["label"] = _by_name(left, LABEL_NAMES) or MISSING
    for role, names in _ROLE_NAMES.items():
        found = _by_name(left, names)
        if found:
            columns[role] = found
    return columns


def label_candidates(path: Path) -> list[str]:
    """Return the columns that could be the label: few values, each more than once in the first rows."""
    columns, head = guess_columns(path), _head(path)
    if columns is None or head is None:
        return []
    texts, _ = head
    found = []
    for name, cells in texts.items():
        values = [cell for cell in cells if cell is not None]
        is_label = 1 < len(set(values)) <= min(_MAX_CANDIDATE_VALUES, max(2, len(values) // 2))
        if is_label and (name not in columns.values() or name == columns.get("label")):
            found.append(name)
    return found


def _by_name(names: list[str], known: tuple[str, ...]) -> str | None:
    """Return the first of `known` among `names`, in upper or lower case."""
    lower = {name.lower(): name for name in reversed(names)}
    return next((lower[word] for word in known if word in lower), None)


def _are_image_names(cells: Text) -> bool:
    named = [cell for cell in cells if cell]
    return bool(named) and sum(map(is_image_name, named)) * 2 >= len(named)


def _are_names(cells: Text) -> bool:
    return _are_image_names(cells) and len(set(cells)) == len(cells)


def _head(path: Path) -> tuple[dict[str, Text], list[str]] | None:
    """Return the text columns of the first rows and the names of the columns with encoded images."""
    is_shards = path.is_dir() and any(is_parquet(p) for p in islice(path.rglob("*.p*q*"), 100))
    if not (is_shards or (path.is_file() and (is_text_table(path) or is_parquet(path)))):
        return None
    try:
        file = table_files(path)[0]
        if is_text_table(file):
            batch = next(text_batches(file, file.name, text_header(file, Dialect()), Dialect()), None)
            return ({n: cells[:_HEAD_ROWS] for n, cells in batch.columns.items()}, []) if batch else None
        return _parquet_head(file)
    except (CurateError, pa.ArrowException, OSError):
        return None


def _parquet_head(file: Path) -> tuple[dict[str, Text], list[str]] | None:
    encoded = image_columns(pq.read_schema(file))
    with pq.ParquetFile(file) as shard:
        kinds = shard.schema_arrow
        lists = [f.name for f in kinds if f.name not in encoded and is_list_of_labels(f.type)]
        plain = [f.name for f in kinds if f.name not in encoded and not pa.types.is_nested(f.type)] + lists
        batch = next(shard.iter_batches(_HEAD_ROWS, columns=plain), None)
    if batch is None:
        return None
    return {n: lists_as_text(batch[n]) if n in lists else as_text(batch[n], n) for n in plain}, encoded
