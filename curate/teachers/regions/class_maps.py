"""Class maps of a teacher's masks, an image a row, written to a file as they are made: they never are in memory whole."""

from __future__ import annotations

import hashlib
import heapq
import json
import os
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from curate import schema
from curate.adapters.execution import map_shards
from curate.teachers.regions.answers import Answer
from curate.teachers.regions.canvas import Floats
from curate.teachers.regions.cells import cell_mass, grid_size
from curate.teachers.regions.given import drawn
from curate.teachers.regions.segmenters import Asked

GROUP_ROWS = 16
MapRow = tuple[str, str, str | None, Floats]  # sample id, teacher, content_sha256, mass
SCHEMA = pa.schema(
    [
        pa.field("sample_id", pa.string(), nullable=False),
        pa.field("content_sha256", pa.string()),  # of the image that the answer is taken to be about
        pa.field("n_rows", pa.int32(), nullable=False),  # of the grid
        pa.field("n_columns", pa.int32(), nullable=False),
        pa.field("mass", pa.list_(pa.float16()), nullable=False),  # (K, n_rows, n_columns), see `cells`
    ]
)


@dataclass(frozen=True, slots=True)
class ClassMaps:
    """Class maps of one teacher on disk.

    Attributes:
        teacher: its name.
        digest: of what they were made from; that of its card where nothing changed since.
        classes: in the order of the maps.
        longest: cells on the longer side of an image.
        path: Parquet of `SCHEMA`, sorted by sample id; `classes` and `digest` stand in its metadata.
    """

    teacher: str
    digest: str
    classes: tuple[str, ...]
    longest: int
    path: Path


@dataclass(frozen=True, slots=True)
class Picture:
    """An image that a teacher answered for; sizes in pixels, upright."""

    sample_id: str
    uri: str
    content_sha256: str | None
    height_px: int
    width_px: int


def write_maps(
    out: Path,
    asked: Asked,
    pictures: Sequence[Picture],
    classes: Sequence[str],
    longest: int,
    *,
    workers: int = 1,
    progress: Callable[[int, int | None], None] | None = None,
) -> ClassMaps:
    """Write the class maps of a teacher beside their place, and rename them.

    What it gives to classes that are not those of the release counts as nothing said.

    Args:
        out: the file.
        asked: files of the teacher.
        pictures: the images; those without a file have no row.
        classes: K names of the release, in order.
        longest: cells on the longer side.
        workers: threads.
        progress: called with (n_done, n_total).

    Raises:
        InputError: a file that cannot be used.
    """
    known = sorted((one for one in pictures if one.uri in asked.files), key=lambda one: one.sample_id)
    place = np.asarray([classes.index(name) if name in classes else -1 for name in asked.names], dtype=np.int64)

    def made(picture: Picture) -> tuple[bytes, Floats]:
        file = asked.files[picture.uri]
        digest = hashlib.sha256(file.read_bytes()).digest()
        mass = cell_mass(asked.read(file), grid_size(picture.height_px, picture.width_px, longest))
        own = np.zeros((len(classes), *mass.shape[1:]), dtype=np.float32)
        own[place[place >= 0]] = mass[place >= 0]
        return digest, own

    out.parent.mkdir(parents=True, exist_ok=True)
    beside = out.with_name(f".{out.name}.{os.getpid()}.{secrets.token_hex(4)}.part")
    hashes: dict[str, bytes] = {}
    waiting: list[tuple[Picture, Floats]] = []
    try:
        with pq.ParquetWriter(
            beside, SCHEMA, compression="zstd", compression_level=1, use_dictionary=False
        ) as writer:
            shards = map_shards(made, known, workers=workers, engine="threads", progress=progress)
            for picture, (digest, mass) in zip(known, shards, strict=True):
                hashes[picture.uri] = digest
                waiting.append((picture, mass))
                if len(waiting) == GROUP_ROWS:
                    writer.write_table(_table(waiting))
                    waiting = []
            if waiting:
                writer.write_table(_table(waiting))
            digest_text = asked.digest(hashes)
            writer.add_key_value_metadata(
                {"classes": schema.canonical_json(list(classes)), "digest": digest_text, "longest": str(longest)}
            )
        beside.replace(out)
    finally:
        beside.unlink(missing_ok=True)
    return ClassMaps(asked.spec.name, digest_text, tuple(classes), longest, out)


def read_maps(path: Path, teacher: str) -> ClassMaps | None:
    """Return class maps that were written before, or None where there are none or they cannot be read."""
    try:
        words = pq.ParquetFile(path).metadata.metadata or {}
        classes = tuple(json.loads(words[b"classes"]))
        return ClassMaps(teacher, words[b"digest"].decode(), classes, int(words[b"longest"]), path)
    except FileNotFoundError:
        return None
    except (OSError, KeyError, ValueError):
        path.unlink(missing_ok=True)
        return None


def merged_rows(maps: Sequence[ClassMaps]) -> Iterator[MapRow]:
    """Yield the rows of all teachers by sample id, then teacher."""
    return heapq.merge(*(_rows(one) for one in maps), key=lambda row: row[:2])


def _rows(one: ClassMaps) -> Iterator[MapRow]:
    for batch in pq.ParquetFile(one.path).iter_batches(batch_size=GROUP_ROWS):
        for at in range(batch.num_rows):
            size = (batch["n_rows"][at].as_py(), batch["n_columns"][at].as_py())
            mass = batch["mass"][at].values.to_numpy(zero_copy_only=False).reshape(len(one.classes), *size)
            hashed = batch["content_sha256"][at].as_py()
            yield batch["sample_id"][at].as_py(), one.teacher, hashed, mass.astype(np.float32)


def pooled_mass(maps: Sequence[ClassMaps], shares: Mapping[str, float]) -> Iterator[tuple[str, Floats]]:
    """Yield sample id and the sum of the teachers' mass, each times its share, of every image that any answers for."""
    for sample, rows in groupby(merged_rows(maps), key=lambda row: row[0]):
        yield sample, summed(list(rows), shares)


def summed(rows: Sequence[MapRow], shares: Mapping[str, float]) -> Floats:
    """Return the (K, n_rows, n_columns) sum of rows of one image, each times the share of its teacher."""
    mass = np.zeros_like(rows[0][3])
    for _, teacher, _, own in rows:
        mass += np.float32(shares[teacher]) * own
    return mass


def given_mass(rows: Sequence[Mapping[str, Any]], classes: Sequence[str], size: tuple[int, ...]) -> Floats:
    """Return the (K, n_rows, n_columns) shares of the cells by the labels of one image.

    Args:
        rows: `label` and `mask` of each; of two on a pixel the first counts.
        classes: K names.
        size: of the grid.
    """
    return cell_mass(Answer(len(classes), codes=drawn(rows, classes)), (size[0], size[1]))


def _table(rows: Sequence[tuple[Picture, Floats]]) -> pa.Table:
    flat = [mass.astype(np.float16).reshape(-1) for _, mass in rows]
    offsets = np.concatenate([[0], np.cumsum([one.size for one in flat])]).astype(np.int32)
    return pa.table(
        {
            "sample_id": [one.sample_id for one, _ in rows],
            "content_sha256": pa.array([one.content_sha256 for one, _ in rows], pa.string()),
            "n_rows": [mass.shape[1] for _, mass in rows],
            "n_columns": [mass.shape[2] for _, mass in rows],
            "mass": pa.ListArray.from_arrays(offsets, pa.array(np.concatenate(flat))),
        },
        schema=SCHEMA,
    )
