"""WebDataset: tar shards, the files of an item beside each other."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from curate import schema
from curate.export.packed_boxes import further_arrays
from curate.export.packed_items import about_of, encoded, extra_of, shards_of, soft_of
from curate.export.packed_masks import ignored_id, labels_of, map_of, mask_of
from curate.feed.release import Feed
from curate.scan.header import format_of

_ENDINGS = {"JPEG": "jpg", "PNG": "png", "WEBP": "webp", "GIF": "gif", "BMP": "bmp", "TIFF": "tif", "PPM": "ppm"}


def write_webdataset(feed: Feed, items: Sequence[int], folder: Path, split: str, shard_bytes: int) -> None:
    """Write `SPLIT-000000.tar`, a file for about so many bytes of images."""
    extra = extra_of(feed)
    for number, shard in enumerate(shards_of(feed, items, shard_bytes)):
        with tarfile.open(folder / f"{split}-{number:06d}.tar", "w", format=tarfile.USTAR_FORMAT) as tar:
            for at, uri, data in encoded(feed, shard):
                add = _add_masks if feed.rows.are_masks else _add_item
                add(tar, feed, at, uri, data, extra)


def _add_item(
    tar: tarfile.TarFile, feed: Feed, at: int, uri: str, data: bytes, extra: Mapping[str, Sequence[Any]]
) -> None:
    about = {"uri": uri, **about_of(feed, at, extra)}
    key = about["id"]
    _add(tar, f"{key}.{_ENDINGS.get(format_of(data) or '', 'img')}", data)
    if feed.rows.boxes is None:
        about["class"] = None if about["label"] is None else feed.classes[about["label"]]
    if about.get("label") is not None:  # loaders take -1 for a class
        _add(tar, f"{key}.cls", str(about["label"]).encode())
    _add(tar, f"{key}.json", schema.canonical_json(about).encode())
    for name, array in soft_of(feed, at).items():
        if array is not None and feed.rows.boxes is None:
            _add(tar, f"{key}.{name}.npy", _npy(array))
        elif feed.rows.boxes is not None:
            _add(tar, f"{key}.{name}.npy", _npy(_stacked(feed, name, array)))
    for name, array in further_arrays(feed, at, about).items():
        _add(tar, f"{key}.{name}.npy", _npy(array))


def _add_masks(
    tar: tarfile.TarFile, feed: Feed, at: int, uri: str, data: bytes, extra: Mapping[str, Sequence[Any]]
) -> None:
    png, size = mask_of(feed, at)
    about = {"uri": uri, **labels_of(feed, at, extra), "ignored_id": ignored_id(len(feed.classes))}
    key = about["id"]
    _add(tar, f"{key}.{_ENDINGS.get(format_of(data) or '', 'img')}", data)
    _add(tar, f"{key}.mask.png", png)
    _add(tar, f"{key}.json", schema.canonical_json(about).encode())
    for name, array in map_of(feed, at, size).items():
        if array is not None:
            _add(tar, f"{key}.{name}.npy", _npy(array))


def _stacked(feed: Feed, name: str, values: Sequence[Any]) -> Any:  # noqa: ANN401 - an array
    """Return (n_boxes, …); NaN (or class 0) where a box has no soft label."""
    assert feed.rows.soft is not None  # noqa: S101 - the caller has them from there
    array = feed.rows.soft.arrays[name]
    nothing = np.full(array.shape[1:], np.nan if array.dtype.kind == "f" else 0, array.dtype)
    return np.stack([nothing if value is None else value for value in values]) if values else array[:0]


def _npy(array: Any) -> bytes:  # noqa: ANN401 - an array
    buffer = io.BytesIO()
    np.save(buffer, np.asarray(array), allow_pickle=False)
    return buffer.getvalue()


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size, info.mode = len(data), 0o644
    tar.addfile(info, io.BytesIO(data))
