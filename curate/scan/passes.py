"""The single pass over pixels: samples and where their bytes are → `schema.SCAN`, one decode an image."""

from __future__ import annotations

import functools
import hashlib
import multiprocessing
import tempfile
import threading
import warnings
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import pyarrow as pa

from curate import schema
from curate.adapters.execution import Engine, Progress, map_shards, slices
from curate.errors import InputError
from curate.ingest.listing import Entry, is_image_name, list_files
from curate.ingest.location import shown
from curate.ingest.media import open_media
from curate.ingest.source import Media
from curate.scan.decode import Decoded, decode
from curate.scan.header import Damage, format_of
from curate.scan.measures import Measures, measure

MAX_PIXELS = 100_000_000
SHARD_ROWS = (
    64  # half a second or less of photos: small enough to bisect and to show progress, large enough to send
)
_SIGNATURE_BYTES = 32


def scan_batch(samples: pa.Table, media: Media, max_pixels: int = MAX_PIXELS) -> pa.Table:
    """Scan the images of `samples`, in order. Pure but for the reading of `media`.

    Args:
        samples: `schema.SAMPLES`, or at least its `sample_id` and what `media` reads.
        media: where the bytes are.
        max_pixels: a larger image is not decoded, whatever its header says it would become.

    Returns:
        `schema.SCAN`: a row for each sample. Where `error_code` is set the measures are null; content_sha256 and
        n_bytes are there whenever bytes are.
    """
    if multiprocessing.parent_process() is not None:
        _one_opencv_thread()
    with _without_warnings():
        pairs = zip(samples["sample_id"].to_pylist(), samples["uri"].to_pylist(), media.read(samples), strict=True)
        rows = [{"sample_id": sample_id, **scan_bytes(data, uri, max_pixels)} for sample_id, uri, data in pairs]
    return schema.table_from_rows(rows, schema.SCAN)


def scan_bytes(data: bytes | None, uri: str, max_pixels: int = MAX_PIXELS) -> dict[str, Any]:
    """Return the columns of `schema.SCAN`, all but `sample_id`, for one image; absent means null."""
    if data is None:
        return _error(Damage("missing_file"), uri)
    row: dict[str, Any] = {"n_bytes": len(data)}
    if data:
        row["content_sha256"] = hashlib.sha256(data).hexdigest()
    found = decode(data, max_pixels=max_pixels)
    header = found.header
    if header is not None:
        width, height = header.upright_px
        row |= {
            "format": header.format,
            "mode": header.mode,
            "width_px": width,
            "height_px": height,
            "n_frames": header.n_frames,
            "exif_orientation": header.exif_orientation,
            "has_gps": header.has_gps,
        }
    if isinstance(found, Decoded):
        measures = measure(found.pixels)
        return row | {name: getattr(measures, name) for name in Measures.__slots__}
    return {"format": found.format, **row, **_error(found.damage, uri)}


def scan(
    samples: pa.Table,
    media: Media,
    *,
    max_pixels: int = MAX_PIXELS,
    workers: int | None = None,
    engine: Engine = "processes",
    progress: Progress | None = None,
) -> pa.Table:
    """Scan all images; the same table whatever the engine and the number of workers.

    With processes (the default) an image that crashes a decoder becomes a row with `decoder_crashed`, and what
    native decoders print is silenced. Threads and serial run in this process: a crash ends it.

    Args:
        samples: `schema.SAMPLES`.
        media: where the bytes are; must pickle for processes.
        max_pixels: see `scan_batch`.
        workers: default: the CPUs this process may use.
        engine: "processes", "threads" or "serial".
        progress: called with (images done, images in all).

    Returns:
        `schema.SCAN` in the order of `samples`.
    """
    needed = samples.select([name for name in schema.SAMPLES.names if name in samples.column_names])
    fn = functools.partial(scan_batch, media=media, max_pixels=max_pixels)
    parts = map_shards(
        fn,
        slices(needed, SHARD_ROWS),
        workers=workers,
        engine=engine,
        progress=progress,
        quarantine=functools.partial(quarantined, media=media),
    )
    return pa.concat_tables([schema.empty(schema.SCAN), *parts]).combine_chunks()


def scan_folder(
    path: str | Path,
    *,
    max_pixels: int = MAX_PIXELS,
    workers: int | None = None,
    engine: Engine = "processes",
    progress: Progress | None = None,
    source: str = "scan",
) -> pa.Table:
    """Scan every image in a folder, a tar or a zip; no spec needed.

    A file counts as an image if its name ends like one, or if it begins like one (plain files). One that is called
    an image and is none is a row with its `error_code`.

    Returns:
        `schema.SCAN` with `uri` (relative to `path`) as its second column, sorted by uri.

    Raises:
        InputError: nothing is there, or nothing that is or is called an image.
    """
    root = Path(path)
    entries = [entry for entry in list_files(root) if _is_wanted(entry, root)]
    if not entries:
        raise InputError(f"{root} holds no images. Give a folder, a tar or a zip that does.")
    uris = [shown(entry.path, 4096) for entry in entries]
    ids = [schema.sample_id_of(source, uri) for uri in uris]
    sound = [at for at, entry in enumerate(entries) if entry.problem is None]
    with tempfile.TemporaryDirectory(prefix="curate-scan-") as scratch:  # for what a compressed tar unpacks to
        scanned = scan(
            _samples([entries[at] for at in sound], [ids[at] for at in sound], source),
            open_media(root, Path(scratch)),
            max_pixels=max_pixels,
            workers=workers,
            engine=engine,
            progress=progress,
        )
    damaged = [at for at, entry in enumerate(entries) if entry.problem is not None]
    out = [{"sample_id": ids[at], **_problem(entries[at])} for at in damaged]
    table = pa.concat_tables([scanned, schema.table_from_rows(out, schema.SCAN)])
    names = pa.array([uris[at] for at in (*sound, *damaged)], pa.string())
    return table.add_column(1, "uri", names).sort_by([("uri", "ascending")]).combine_chunks()


def _samples(entries: Sequence[Entry], ids: Sequence[str], source: str) -> pa.Table:
    """Return `schema.SAMPLES` of files that are not in a spec."""
    rows = [
        {
            "sample_id": sample_id,
            "source": source,
            "uri": entry.path,
            "container": entry.container,
            "container_offset": entry.container_offset,
            "n_bytes": entry.n_bytes,
            "label_state": "unlabeled",
        }
        for entry, sample_id in zip(entries, ids, strict=True)
    ]
    return schema.table_from_rows(rows, schema.SAMPLES)


def _problem(entry: Entry) -> dict[str, Any]:
    assert entry.problem is not None  # noqa: S101 - the caller asks about damaged ones
    return _error(Damage(entry.problem.code, entry.problem.args), entry.path)


def _is_wanted(entry: Entry, root: Path) -> bool:
    if is_image_name(entry.path):
        return True
    if entry.problem is not None or entry.container is not None or not root.is_dir():
        return False
    try:
        with (root / entry.path).open("rb") as file:
            return format_of(file.read(_SIGNATURE_BYTES)) is not None
    except OSError:
        return False


def _error(damage: Damage, uri: str) -> dict[str, Any]:
    args = {"path": shown(uri), **damage.args}
    return {"error_code": damage.code, "error_args": schema.canonical_json(args)}


def quarantined(row: pa.Table, media: Media | None = None) -> pa.Table:
    """Return the row of an image whose decoder took its process down: `decoder_crashed`, nothing decoded.

    With `media` its bytes are hashed, so that they can be told from others.
    """
    data = next(iter(media.read(row))) if media is not None else None
    found = {"sample_id": row["sample_id"][0].as_py(), **_error(Damage("decoder_crashed"), row["uri"][0].as_py())}
    if data:
        found |= {
            "n_bytes": len(data),
            "content_sha256": hashlib.sha256(data).hexdigest(),
            "format": format_of(data),
        }
    return schema.table_from_rows([found], schema.SCAN)


@functools.cache
def _one_opencv_thread() -> None:
    """In a worker process: as many OpenCV threads as CPUs in each of as many workers would only be in the way."""
    import cv2  # noqa: PLC0415 - `import curate` must not load it

    cv2.setNumThreads(1)


def _without_warnings() -> AbstractContextManager[Any]:
    """Silence what PIL warns about (odd metadata); filters belong to the process, so only in the main thread."""
    if threading.current_thread() is threading.main_thread():
        return warnings.catch_warnings(action="ignore")
    return nullcontext()
