"""Versions with images, labels and soft labels in one: Parquet for Hugging Face `datasets`, tar shards for WebDataset."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from curate import schema
from curate.errors import ConfigError
from curate.export.folder import written_beside
from curate.export.packed_boxes import further_arrays, further_columns, further_row, pixels
from curate.export.packed_masks import LABELS, ignored_id, labels_of, map_columns, map_of, map_row, mask_of
from curate.export.record import MARKER
from curate.export.release import safe_folder
from curate.feed.release import Feed
from curate.feed.soft import OBJECTNESS
from curate.scan.header import format_of

SHARD_BYTES = 500_000_000
_GROUP_BYTES = 32_000_000  # of images in a row group: what a reader of one image has to read
# of a version, what these formats do not hold; it stands in the version, by the same ids
NOT_HELD = (
    "findings, decisions and what was taken out",
    "risk, reasons, attributes, groups, licenses and annotators of rows",
    "soft labels of each teacher alone",
    "classes and reasons of places to ignore",
    "given boxes and masks where the released ones differ",
)
_ENDINGS = {"JPEG": "jpg", "PNG": "png", "WEBP": "webp", "GIF": "gif", "BMP": "bmp", "TIFF": "tif", "PPM": "ppm"}


@dataclass(frozen=True, slots=True)
class PackedResult:
    """What was written: images, labels, images that need one class and have none, and the files, sorted."""

    n_images: int
    n_labels: int
    n_without_label: int
    paths: tuple[Path, ...]


def export_packed(
    feed: Feed,
    out: Path,
    *,
    format: str,  # noqa: A002 - what the command line calls it
    shard_bytes: int = SHARD_BYTES,
    about: Mapping[str, Any] | None = None,
) -> PackedResult:
    """Write what a feed hands out to the folder `out`, which appears whole or not at all.

    hf: `data/SPLIT-00000-of-00001.parquet`, read by `datasets.load_dataset(str(out))`: an Image feature with the bytes,
    `label` as ClassLabel, null without one (or `objects` with boxes in COCO pixels), weight, id, given label, action, and
    the soft labels.
    Of masks `mask` is an Image of class ids, 255 (65535 from 256 classes on) where nobody vouches for one, `labels` its
    labels, and the class map `probs`, flat, of `n_rows` x `n_columns` cells. Beside boxes `ignore` has the places that
    nobody vouches for, and `teacher_boxes` the boxes that only detectors see, with their soft labels.
    webdataset: `SPLIT-000000.tar`: for each item its image, `cls` (not for boxes, nor without a label), `json` and an
    `npy` for each array of its soft label; with masks `mask.png`; with detectors `teacher_*.npy`.
    Bytes are a function of the version: no clock, no user.

    Args:
        feed: of the version; every image is held against its hash while it is packed.
        out: the folder to write.
        format: hf or webdataset.
        shard_bytes: of images in a file, about.
        about: what else `curate-export.json` says of the version: the outcome of its gates, …

    Raises:
        ConfigError: another format, several labels an image, or `out` holds something else.
        VerificationError: an image is not there or not the one of the version.
    """
    if format not in PACKED:
        raise ConfigError(f"There is no packed format {format!r}. Formats: {', '.join(PACKED)}.")
    if feed.rows.tags is not None:
        raise ConfigError(
            f"{format} holds one label or boxes an image; {feed.name} has several labels an image. csv holds them: "
            f"curate export {feed.name} --format csv, or train on curate.feed, which hands out all of an image."
        )
    n_labels = int((feed.rows.labels >= 0).sum())
    by_image = feed.rows.boxes is not None or feed.rows.are_masks  # one without boxes or masks is no unlabeled one
    n_without_label = 0 if by_image else len(feed) - n_labels
    with written_beside(out) as beside:
        for split, items in _splits(feed).items():
            PACKED[format](feed, items, beside, safe_folder(split), shard_bytes)
        told = {"format": format, "version": feed.version_id, **(about or {})}
        told |= {"n_images": len(feed), "n_labels": n_labels, "n_without_label": n_without_label}
        told |= {"classes": list(feed.classes), "temperature": feed.temperature, "not_held": list(NOT_HELD)}
        (beside / MARKER).write_text(json.dumps(told, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        paths = sorted(path.relative_to(beside) for path in beside.rglob("*") if path.is_file())
    return PackedResult(len(feed), n_labels, n_without_label, tuple(out / path for path in paths))


def _splits(feed: Feed) -> dict[str, list[int]]:
    splits: dict[str, list[int]] = {}
    named = feed.rows.table["split"].take(pa.array(feed.rows.starts[:-1])).to_pylist()
    for at, split in enumerate(named):
        splits.setdefault(split or "unsplit", []).append(at)
    return dict(sorted(splits.items()))


def _encoded(feed: Feed, items: Sequence[int]) -> Iterator[tuple[int, str, bytes]]:
    """Yield item, uri and encoded bytes, each held against its hash."""
    places = feed.rows.places()
    columns = [places[name].combine_chunks() for name in places.column_names]
    for at in items:
        place = [column[at].as_py() for column in columns]
        yield at, place[0], feed.images.read(*place)


def _shards(feed: Feed, items: Sequence[int], n_bytes: int) -> list[list[int]]:
    """Cut items into runs of about so many bytes."""
    sizes = feed.rows.places()["n_bytes"].to_pylist()
    shards: list[list[int]] = [[]]
    filled = 0
    for at in items:
        if shards[-1] and filled + (sizes[at] or 0) > n_bytes:
            shards.append([])
            filled = 0
        shards[-1].append(at)
        filled += sizes[at] or 0
    return shards


def _about(feed: Feed, at: int, extra: Mapping[str, Sequence[Any]]) -> dict[str, Any]:
    """Return id, label (or boxes) and the further columns of an item."""
    rows = feed.rows
    start, stop = int(rows.starts[at]), int(rows.starts[at + 1])
    if rows.boxes is None:
        return {
            "id": (rows.table["label_id"][start].as_py() or rows.table["sample_id"][start].as_py()),
            "label": int(rows.labels[start]) if rows.labels[start] >= 0 else None,
            "weight": float(rows.weights[start]),
            **{name: values[start] for name, values in extra.items()},
        }
    kept = [row for row in range(start, stop) if rows.labels[row] >= 0]
    width, height = extra["width_px"][start], extra["height_px"][start]
    objects = {
        "id": [rows.table["label_id"][row].as_py() for row in kept],
        "bbox": pixels(rows.boxes[kept], width, height),
        "category": rows.labels[kept].tolist(),
        "weight": rows.weights[kept].tolist(),
        "given_label": [extra["given_label"][row] for row in kept],
        "action": [extra["action"][row] for row in kept],
    }
    if "track_id" in extra:
        objects["track_id"] = [extra["track_id"][row] for row in kept]
    about = {"id": rows.table["sample_id"][start].as_py(), "width": width, "height": height, "objects": objects}
    about |= {"frame": extra["frame"][start]} if "frame" in extra else {}
    return about | {"ignore": pixels(rows.ignore.of(at), width, height) if rows.ignore is not None else []}


def _extra(feed: Feed) -> dict[str, list[Any]]:
    names = ["given_label", "action"] + (["width_px", "height_px"] if feed.rows.boxes is not None else [])
    names += ["track_id", "frame"] if feed.task == "tracking" else []
    return {name: feed.rows.table[name].to_pylist() for name in names}


# -- Hugging Face ---------------------------------------------------------------------------------------------


def _write_hf(feed: Feed, items: Sequence[int], folder: Path, split: str, shard_bytes: int) -> None:
    (folder / "data").mkdir(exist_ok=True)
    columns, features = _hf_columns(feed)
    words = {"huggingface": json.dumps({"info": {"features": features}})}
    table_schema = pa.schema(columns, metadata=words)
    extra = _extra(feed)
    shards = _shards(feed, items, shard_bytes)
    for number, shard in enumerate(shards):
        path = folder / "data" / f"{split}-{number:05d}-of-{len(shards):05d}.parquet"
        with pq.ParquetWriter(path, table_schema, compression="zstd", use_dictionary=False) as writer:
            for group in _shards(feed, shard, _GROUP_BYTES):
                rows = []
                for at, uri, data in _encoded(feed, group):
                    image = {"bytes": data, "path": uri.rsplit("/", 1)[-1]}
                    if feed.rows.are_masks:
                        png, size = mask_of(feed, at)
                        told = {"mask": {"bytes": png, "path": None}, **map_row(feed, at, size)}
                        rows.append({"image": image, **labels_of(feed, at, extra), **told})
                        continue
                    about = _about(feed, at, extra)
                    rows.append({"image": image, **about, **_soft_of(feed, at), **further_row(feed, at, about)})
                writer.write_table(pa.Table.from_pylist(rows, schema=table_schema))


def _hf_columns(feed: Feed) -> tuple[list[pa.Field], dict[str, Any]]:
    """Return the Arrow fields, and the features as `datasets` reads them from a file's metadata."""
    names: dict[str, Any] = {"names": list(feed.classes), "_type": "ClassLabel"}
    features: dict[str, Any]
    image = pa.field("image", pa.struct([("bytes", pa.binary()), ("path", pa.string())]))
    plain: list[pa.Field]
    if feed.rows.are_masks:
        inner = pa.struct([(name, pa.list_(kind)) for name, kind in LABELS.items()])
        plain = [
            image.with_name("mask"),
            pa.field("id", pa.string()),
            pa.field("labels", inner),
            *map_columns(feed),
        ]
        features = {field.name: _feature(field.type) for field in plain}
        features |= {"image": {"_type": "Image"}, "mask": {"_type": "Image"}}
        features["labels"]["category"] = {"feature": names, "_type": "Sequence"}
        return [image, *plain], features
    if feed.rows.boxes is None:
        plain = [pa.field("id", pa.string()), pa.field("label", pa.int64()), pa.field("weight", pa.float32())]
        plain += [pa.field("given_label", pa.string()), pa.field("action", pa.string())]
    else:
        plain = [pa.field("id", pa.string()), pa.field("width", pa.int32()), pa.field("height", pa.int32())]
        inner = [("id", pa.string()), ("bbox", pa.list_(pa.float32(), 4)), ("category", pa.int64())]
        inner += [("weight", pa.float32()), ("given_label", pa.string()), ("action", pa.string())]
        if feed.task == "tracking":
            inner.append(("track_id", pa.string()))
            plain.append(pa.field("frame", pa.int64()))
        plain.append(pa.field("ignore", pa.list_(pa.list_(pa.float32(), 4))))
        plain.append(pa.field("objects", pa.struct([(name, pa.list_(kind)) for name, kind in inner])))
    fields = [image, *plain, *_soft_fields(feed), *further_columns(feed)]
    features = {"image": {"_type": "Image"}}
    features |= {field.name: _feature(field.type) for field in fields[1:]}
    if feed.rows.boxes is None:
        features["label"] = names
    else:
        features["objects"]["category"] = {"feature": names, "_type": "Sequence"}
    return fields, features


def _feature(kind: pa.DataType) -> dict[str, Any]:
    if pa.types.is_struct(kind):
        return {kind.field(at).name: _feature(kind.field(at).type) for at in range(kind.num_fields)}
    if pa.types.is_fixed_size_list(kind):
        return {"feature": _feature(kind.value_type), "length": kind.list_size, "_type": "Sequence"}
    if pa.types.is_list(kind):
        return {"feature": _feature(kind.value_type), "_type": "Sequence"}
    words = {"halffloat": "float16", "float": "float32", "double": "float64"}
    return {"dtype": words.get(str(kind), str(kind)), "_type": "Value"}


def _soft_fields(feed: Feed) -> list[pa.Field]:
    soft = feed.rows.soft
    if soft is None:
        return []
    fields = []
    for name, array in soft.arrays.items():
        inner = pa.from_numpy_dtype(array.dtype)
        kind = pa.list_(inner, array.shape[1]) if array.ndim == 2 else inner
        fields.append(pa.field(name, kind if feed.rows.boxes is None else pa.list_(kind)))
    return fields


def _soft_of(feed: Feed, at: int) -> dict[str, Any]:
    """Return the soft label of an item (of each of its boxes), None where there is none."""
    soft, rows = feed.rows.soft, feed.rows
    if soft is None:
        return {}
    start, stop = int(rows.starts[at]), int(rows.starts[at + 1])
    if rows.boxes is None:
        return {name: array[start] if soft.known[start] else None for name, array in soft.arrays.items()}
    kept = [row for row in range(start, stop) if rows.labels[row] >= 0]
    told = {name: soft.known if name != OBJECTNESS else ~np.isnan(array) for name, array in soft.arrays.items()}
    return {name: [a[row] if told[name][row] else None for row in kept] for name, a in soft.arrays.items()}


# -- WebDataset -----------------------------------------------------------------------------------------------


def _write_webdataset(feed: Feed, items: Sequence[int], folder: Path, split: str, shard_bytes: int) -> None:
    extra = _extra(feed)
    for number, shard in enumerate(_shards(feed, items, shard_bytes)):
        with tarfile.open(folder / f"{split}-{number:06d}.tar", "w", format=tarfile.USTAR_FORMAT) as tar:
            for at, uri, data in _encoded(feed, shard):
                if feed.rows.are_masks:
                    _add_masks(tar, feed, at, uri, data, extra)
                    continue
                about = {"uri": uri, **_about(feed, at, extra)}
                key = about["id"]
                _add(tar, f"{key}.{_ENDINGS.get(format_of(data) or '', 'img')}", data)
                if feed.rows.boxes is None:
                    about["class"] = None if about["label"] is None else feed.classes[about["label"]]
                if about.get("label") is not None:  # loaders take -1 for a class
                    _add(tar, f"{key}.cls", str(about["label"]).encode())
                _add(tar, f"{key}.json", schema.canonical_json(about).encode())
                for name, array in _soft_of(feed, at).items():
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


Writer = Callable[[Feed, Sequence[int], Path, str, int], None]
PACKED: Mapping[str, Writer] = {"hf": _write_hf, "webdataset": _write_webdataset}
