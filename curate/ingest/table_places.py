"""Where the image of a table row is: the arguments of `Collector.add_image` that say so, or why it has none."""

from __future__ import annotations

import posixpath
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from curate.ingest.listing import is_image_name
from curate.ingest.location import Problem, member_uri
from curate.ingest.parquet_images import encoded_images
from curate.ingest.table_rows import RowBatch, Text

Place = dict[str, Any]

_SIGNATURES = (
    (b"\xff\xd8\xff", "jpg"),
    (b"\x89PNG", "png"),
    (b"GIF8", "gif"),
    (b"BM", "bmp"),
    (b"II*\0", "tif"),
    (b"MM\0*", "tif"),
)


def path_places(batch: RowBatch, paths: Text, folder: str) -> list[Place | Problem]:
    """Return the places of images that are named by path, under `folder` where it is not empty."""
    places: list[Place | Problem] = []
    for index, path in enumerate(paths):
        if index in batch.problems:
            places.append(batch.problems[index])
        elif path is None:
            places.append(Problem("path_missing"))
        else:
            places.append({"uri": f"{folder}/{path}" if folder and not path.startswith("/") else path})
    return places


def row_places(
    batch: RowBatch, names: Text | None, *, container: str, mtime_ns: int, paths_are_names: bool
) -> list[Place | Problem]:
    """Return the places of images whose bytes stand in the rows.

    The `uri` is the name where there is a column of names, or where the paths in Hugging Face's structs are unique
    (`paths_are_names`); else "file/row/name", since Hugging Face often calls every image alike. A name without an
    ending gets that of its bytes.
    """
    assert batch.images is not None  # noqa: S101 - the caller reads this column
    paths = _struct_paths(batch.images)
    values = encoded_images(batch.images).cast(pa.large_binary())
    lengths = np.asarray(pc.fill_null(pc.binary_length(values), -1).to_numpy(zero_copy_only=False))
    starts = _starts(values)
    places: list[Place | Problem] = []
    for index, n_bytes in enumerate(lengths.tolist()):
        row = batch.first_row + index
        own = names[index] if names else None
        path = paths[index] if paths else None
        if n_bytes < 0:
            places.append({"uri": path} if path else Problem("path_missing"))
            continue
        if n_bytes == 0:
            places.append(Problem("zero_bytes", {"path": own or path or f"{batch.file} row {row + 1}"}))
            continue
        uri = own or (path if paths_are_names else None)
        if uri is None:
            uri = f"{batch.file}/{row}/{posixpath.basename(path)}" if path else f"{batch.file}/{row}"
        place: Place = {
            "uri": uri if is_image_name(uri) else f"{uri}.{_ending(starts[index])}",
            "container": container,
            "container_offset": row,
            "n_bytes": n_bytes,
            "mtime_ns": mtime_ns,
        }
        if own is not None:  # the same name may come again; it is the same image only with the same bytes
            place["token"] = (n_bytes, zlib.crc32(values[index].as_buffer()))
        places.append(place)
    return places


def _struct_paths(images: pa.Array) -> Text | None:
    kind = images.type
    if not pa.types.is_struct(kind) or kind.get_field_index("path") < 0:
        return None
    return [path or None for path in pc.struct_field(images, "path").to_pylist()]


def _starts(values: pa.Array) -> list[bytes | None]:
    starts: list[bytes | None] = pc.binary_slice(values.cast(pa.large_binary()), 0, 16).to_pylist()
    return starts


def _ending(start: bytes | None) -> str:
    start = start or b""
    if start[:4] == b"RIFF" and start[8:12] == b"WEBP":
        return "webp"
    return next((ending for signature, ending in _SIGNATURES if start.startswith(signature)), "bin")


def struct_paths_are_names(files: Sequence[Path], column: str) -> bool:
    """Return whether the paths of Hugging Face's image structs name each image of all files once, and safely."""
    seen: set[str] = set()
    for file in files:
        kind = pq.read_schema(file).field(column).type
        if not pa.types.is_struct(kind) or kind.get_field_index("path") < 0:
            return False
        with pq.ParquetFile(file) as shard:
            for batch in shard.iter_batches(65_536, columns=[f"{column}.path"]):
                for path in _struct_paths(batch[column]) or []:
                    uri = member_uri(path) if path else None
                    if not isinstance(uri, str) or uri in seen:
                        return False
                    seen.add(uri)
    return True
