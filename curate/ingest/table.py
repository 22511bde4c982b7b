"""A table with a row per image (or per image and annotator): CSV, TSV, Parquet, or a folder of Parquet shards.

`columns` says which column plays which role:

| role | holds |
| --- | --- |
| `image` | the path of the image (relative to the table's folder and the option `images`), or its encoded bytes |
| `name` | the image's own name, where `image` holds bytes; rows with one name (and the same bytes) are one image |
| `label` | the given label; empty = unlabeled. Several of them: see `tags` |
| `split` | train, val, test or any other name; empty = to be assigned |
| `annotator` | who gave the label |
| `reference_label` | a known truth, for evaluation only |
| `license`, `subject_id` | SPDX id; whom the image shows |

Several annotators: every row of an image is a label. The given one goes to `labels`, chosen by the option `given`
(`majority`, `first`, or an annotator; see `annotators.choose_given`), the others to `Ingested.annotations`. Two
different labels by one annotator for one image are both out.

Text: UTF-8 (with or without byte order mark) or UTF-16 with one; a row in another encoding is out, unless the
option `encoding` names it. The delimiter is found in the first line, unless the option `delimiter` says it. Rows
are counted from 1 after the line with the names.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from curate.errors import ConfigError, InputError, did_you_mean
from curate.ingest.annotators import choose_given
from curate.ingest.collect import Collector
from curate.ingest.location import Problem, base_of, shown
from curate.ingest.parquet_images import container_of, image_columns
from curate.ingest.source import Ingested, ReadOptions
from curate.ingest.splits import split_name
from curate.ingest.table_guess import guess_columns, label_candidates
from curate.ingest.table_places import Place, path_places, row_places, struct_paths_are_names
from curate.ingest.table_rows import (
    Dialect,
    RowBatch,
    Text,
    is_text_table,
    parquet_batches,
    table_files,
    text_batches,
    text_header,
)
from curate.ingest.tags import OPTIONS as TAG_OPTIONS
from curate.ingest.tags import SINGLE, TagFormat, add_tagged_image, is_list_of_labels, translated
from curate.spec import MISSING

ROLES = ("image", "name", "label", "split", "annotator", "reference_label", "license", "subject_id")
_ROW_ROLES = ("label", "split", "annotator", "reference_label", "license", "subject_id")


@dataclass(frozen=True, slots=True)
class Shard:
    """One file of the table: its path, its name relative to the source's folder, the time of its last change."""

    path: Path
    name: str
    mtime_ns: int
    split: str | None = None


class Table:
    """A row per image."""

    name = "table"
    option_names = ("images", "given", "delimiter", "encoding", *TAG_OPTIONS)

    def recognises(self, path: Path) -> Mapping[str, Any] | None:
        """Return the columns that can be told from their names and content, or None if it is no table of images.

        A label is taken only from a column called like one; else it stays `spec.MISSING`, and `comments` lists
        the candidates.
        """
        columns = guess_columns(path)
        return None if columns is None else {"columns": columns}

    def comments(self, path: Path) -> Mapping[str, str]:
        """Return key under `source` (dotted) -> what `curate init` writes beside it."""
        columns = guess_columns(path)
        if columns is None or columns["label"] != MISSING:
            return {}
        candidates = ", ".join(label_candidates(path)) or "none looks like it; remove this line if there is none"
        return {"columns.label": f"WHICH column holds the label? One of: {candidates}"}

    def read(self, options: ReadOptions) -> Ingested:
        """Read every row.

        Raises:
            InputError: no table, no row, or a column that the spec names is missing.
            ConfigError: an unknown role, no `columns.image`, or an annotator that is not there.
        """
        return read_table(options)


def read_table(
    options: ReadOptions,
    *,
    translations: Mapping[str, Mapping[str, str | None]] | None = None,
    shards: list[Shard] | None = None,
) -> Ingested:
    """Read a table; `translations` (column -> cell -> text) turn class numbers into names."""
    _check_roles(options.columns)
    shards = shards_of(options.root) if shards is None else shards
    reader = _Reader(options, translations or {})
    if "name" not in options.columns:
        reader.paths_are_names = _paths_are_names(shards, options.columns["image"])
    for shard in shards:
        reader.read(shard, is_only=len(shards) == 1)
    ingested = reader.collector.finish()
    _refuse_no_label(options, ingested)
    if "annotator" not in options.columns:
        return ingested
    return choose_given(ingested, str(options.options.get("given") or "majority"))


def _refuse_no_label(options: ReadOptions, read: Ingested) -> None:
    """Refuse a table that names a column of labels in which every cell is empty."""
    column, n_images = options.columns.get("label"), read.samples.num_rows
    if column is None or read.labels.num_rows or not n_images or "out" in read.outcomes["outcome"].to_pylist():
        return
    raise InputError(
        f"source.columns.label names the column {column!r}, and none of the {n_images:,} images of {options.root} has a "
        f"label there. Name another column, or leave it out to take the images as unlabeled."
    )


def _paths_are_names(shards: list[Shard], column: str) -> bool:
    try:
        return struct_paths_are_names([s.path for s in shards if not is_text_table(s.path)], column)
    except (pa.ArrowException, OSError, KeyError):
        return False  # the shard is judged when it is read


def shards_of(root: Path) -> list[Shard]:
    """Return the files of the table at `root`, with paths relative to the source's folder."""
    base = base_of(root)
    return [Shard(path, path.relative_to(base).as_posix(), path.stat().st_mtime_ns) for path in table_files(root)]


def _check_roles(columns: Mapping[str, str]) -> None:
    for role in columns:
        if role not in ROLES:
            hint = did_you_mean(role, ROLES)
            raise ConfigError(f"source.columns knows no role {role!r}. Roles: {', '.join(ROLES)}. {hint}".rstrip())
    if "image" not in columns:
        msg = "source.columns.image is needed: the column with the image's path or bytes."
        raise ConfigError(msg)


class _Reader:
    """Reads shard after shard into one collector."""

    def __init__(self, options: ReadOptions, translations: Mapping[str, Mapping[str, str | None]]) -> None:
        self.options = options
        self.translations = translations
        self.collector = Collector(options)
        given = {"delimiter": options.options.get("delimiter"), "encoding": options.options.get("encoding")}
        self.dialect = Dialect(**given)
        self.folder = str(options.options.get("images") or "").rstrip("/")
        self.wanted = list(
            dict.fromkeys([*options.columns.values(), *options.attributes.values(), *options.groups.values()])
        )
        self.tags = TagFormat.of(options)
        self.wanted = list(dict.fromkeys([*self.wanted, *self.tags.columns.values()]))
        self.n_shards_read = 0
        self.paths_are_names = False

    def read(self, shard: Shard, *, is_only: bool) -> None:
        """Read one shard; a shard that cannot be read is one row that is out."""
        try:
            for batch, place in self._batches(shard):
                self._collect(shard, batch, place, is_only=is_only)
        except InputError:
            if is_only or not self.n_shards_read:
                raise
            args = {"path": shown(shard.name), "columns": ", ".join(self.wanted)}
            self.collector.put_out(shown(shard.name), "image", "shard_columns", args)
        except (pa.ArrowException, OSError) as error:
            args = {"path": shown(shard.name), "message": shown(str(error))}
            self.collector.put_out(shown(shard.name), "image", "shard_unreadable", args)
        self.n_shards_read += 1

    def _batches(self, shard: Shard) -> Iterator[tuple[RowBatch, str | None]]:
        """Yield batches with the container of their images, None where images are named by path."""
        options, image = self.options, self.options.columns["image"]
        if is_text_table(shard.path):
            self._need(text_header(shard.path, self.dialect), shard)
            for batch in text_batches(shard.path, shard.name, self.wanted, self.dialect):
                yield batch, None
            return
        columns = pq.read_schema(shard.path)
        self._need(columns.names, shard)
        has_bytes = image in image_columns(columns)
        texts = [name for name in self.wanted if not (has_bytes and name == image)]
        if has_bytes and image in {*options.attributes.values(), *options.groups.values()}:
            raise ConfigError(f"The column {image} holds images; it can be no attribute and no group.")
        container = container_of(shard.name, image, columns) if has_bytes else None
        for batch in parquet_batches(
            shard.path, shard.name, texts, image if has_bytes else None, self._lists(columns)
        ):
            yield batch, container

    def _lists(self, columns: pa.Schema) -> list[str]:
        label = self.options.columns.get("label", "")
        is_list = label in columns.names and is_list_of_labels(columns.field(label).type)
        if is_list:
            self.tags.refuse_roles(self.options)
        return [label] if is_list else []

    def _need(self, available: list[str], shard: Shard) -> None:
        missing = [name for name in self.wanted if name not in available]
        if missing:
            raise InputError.from_missing_columns(missing, available, needed_by=f"The spec, for {shard.name},")

    def _translated(self, name: str, cells: Text) -> Text:
        names = self.translations.get(name)
        return [None if cell is None else names.get(cell, cell) for cell in cells] if names else cells

    def _places(self, shard: Shard, batch: RowBatch, container: str | None) -> list[Place | Problem]:
        columns = self.options.columns
        if container is None:
            return path_places(batch, batch.columns[columns["image"]], self.folder)
        names = batch.columns[columns["name"]] if "name" in columns else None
        return row_places(
            batch,
            names,
            container=container,
            mtime_ns=shard.mtime_ns,
            paths_are_names=self.paths_are_names,
        )

    def _collect(self, shard: Shard, batch: RowBatch, container: str | None, *, is_only: bool) -> None:
        options = self.options
        columns = {
            name: cells if name in batch.lists else self._translated(name, cells)
            for name, cells in batch.columns.items()
        }
        tags = self._tags(batch)
        cells = {role: columns[name] for role, name in options.columns.items() if name in columns}
        nothing: Text = [None] * batch.n_rows
        roles = [cells.get(role, nothing) for role in _ROW_ROLES]
        attributes = _rows_of({name: columns[column] for name, column in options.attributes.items()}, nothing)
        groups = _rows_of({name: columns[column] for name, column in options.groups.items()}, nothing)
        shown_name = shown(shard.name)
        key_prefix = "" if is_only else f"{shown_name}:"
        add, number = self.collector.add_labeled_image, batch.first_row
        for place, names, label, split, annotator, reference_label, license_id, subject_id, attribute, group in zip(
            self._places(shard, batch, container), tags, *roles, attributes, groups, strict=True
        ):
            number += 1
            row = f"{shown_name} row {number}"
            if isinstance(place, Problem):
                self.collector.put_out(row, "image", place.code, place.args)
                continue
            about: dict[str, Any] = {"attributes": attribute, "groups": group, "license": license_id, **place}
            about |= {
                "subject_id": subject_id,
                "split": (split_name(split) if split else None) or shard.split,
            }
            key = f"{key_prefix}{number}"
            if names is not SINGLE:
                add_tagged_image(self.collector, row, names, key, about)
                continue
            add(row, label=label, source_key=key, annotator=annotator, reference_label=reference_label, **about)

    def _tags(self, batch: RowBatch) -> Iterable[Any]:
        """Return what names the labels of each row; `SINGLE` for each where a row has one label."""
        column = self.options.columns.get("label", "")
        is_list = column in batch.lists
        if not (is_list or self.tags.is_used):
            return (SINGLE for _ in range(batch.n_rows))
        words = self.translations.get(column)
        nothing: Text = [None] * batch.n_rows
        rows = _rows_of({name: batch.columns[name] for name in self.tags.columns.values()}, nothing)
        return (
            translated(self.tags.names_in(cell, row or {}, is_list=is_list), words)
            for cell, row in zip(batch.columns.get(column, nothing), rows, strict=True)
        )


def _rows_of(columns: Mapping[str, Text], nothing: Text) -> Iterable[Mapping[str, str | None] | None]:
    """Return a mapping for each row; None for each where there is no column."""
    if not columns:
        return (None for _ in nothing)
    return (dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True))


SOURCE = Table()
