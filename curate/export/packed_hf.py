"""Hugging Face `datasets`: Parquet with an Image feature, and the features in the file's metadata."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from curate.export.packed_boxes import further_columns, further_row
from curate.export.packed_items import about_of, encoded, extra_of, shards_of, soft_of
from curate.export.packed_masks import LABELS, labels_of, map_columns, map_row, mask_of
from curate.feed.release import Feed

_GROUP_BYTES = 32_000_000  # of images in a row group: what a reader of one image has to read


def write_hf(feed: Feed, items: Sequence[int], folder: Path, split: str, shard_bytes: int) -> None:
    """Write `data/SPLIT-00000-of-00001.parquet`, a file for about so many bytes of images."""
    (folder / "data").mkdir(exist_ok=True)
    columns, features = _columns(feed)
    words = {"huggingface": json.dumps({"info": {"features": features}})}
    table_schema = pa.schema(columns, metadata=words)
    extra = extra_of(feed)
    shards = shards_of(feed, items, shard_bytes)
    for number, shard in enumerate(shards):
        path = folder / "data" / f"{split}-{number:05d}-of-{len(shards):05d}.parquet"
        with pq.ParquetWriter(path, table_schema, compression="zstd", use_dictionary=False) as writer:
            for group in shards_of(feed, shard, _GROUP_BYTES):
                rows = [_row(feed, at, uri, data, extra) for at, uri, data in encoded(feed, group)]
                writer.write_table(pa.Table.from_pylist(rows, schema=table_schema))


def _row(feed: Feed, at: int, uri: str, data: bytes, extra: Mapping[str, Sequence[Any]]) -> dict[str, Any]:
    image = {"bytes": data, "path": uri.rsplit("/", 1)[-1]}
    if feed.rows.are_masks:
        png, size = mask_of(feed, at)
        told = {"mask": {"bytes": png, "path": None}, **map_row(feed, at, size)}
        return {"image": image, **labels_of(feed, at, extra), **told}
    about = about_of(feed, at, extra)
    return {"image": image, **about, **soft_of(feed, at), **further_row(feed, at, about)}


def _columns(feed: Feed) -> tuple[list[pa.Field], dict[str, Any]]:
    """Return the Arrow fields, and the features as `datasets` reads them from a file's metadata."""
    names: dict[str, Any] = {"names": list(feed.classes), "_type": "ClassLabel"}
    image = pa.field("image", pa.struct([("bytes", pa.binary()), ("path", pa.string())]))
    if feed.rows.are_masks:
        plain = _mask_fields(feed, image)
    elif feed.rows.boxes is None:
        plain = [pa.field("id", pa.string()), pa.field("label", pa.int64()), pa.field("weight", pa.float32())]
        plain += [pa.field("given_label", pa.string()), pa.field("action", pa.string())]
    else:
        plain = _box_fields(feed)
    if not feed.rows.are_masks:
        plain += [*_soft_fields(feed), *further_columns(feed)]
    features = {"image": {"_type": "Image"}, **{field.name: _feature(field.type) for field in plain}}
    if feed.rows.are_masks:
        features["mask"] = {"_type": "Image"}
        features["labels"]["category"] = {"feature": names, "_type": "Sequence"}
    elif feed.rows.boxes is None:
        features["label"] = names
    else:
        features["objects"]["category"] = {"feature": names, "_type": "Sequence"}
    return [image, *plain], features


def _mask_fields(feed: Feed, image: pa.Field) -> list[pa.Field]:
    inner = pa.struct([(name, pa.list_(kind)) for name, kind in LABELS.items()])
    return [image.with_name("mask"), pa.field("id", pa.string()), pa.field("labels", inner), *map_columns(feed)]


def _box_fields(feed: Feed) -> list[pa.Field]:
    plain = [pa.field("id", pa.string()), pa.field("width", pa.int32()), pa.field("height", pa.int32())]
    inner = [("id", pa.string()), ("bbox", pa.list_(pa.float32(), 4)), ("category", pa.int64())]
    inner += [("weight", pa.float32()), ("given_label", pa.string()), ("action", pa.string())]
    if feed.task == "tracking":
        inner.append(("track_id", pa.string()))
        plain.append(pa.field("frame", pa.int64()))
    plain.append(pa.field("ignore", pa.list_(pa.list_(pa.float32(), 4))))
    return [*plain, pa.field("objects", pa.struct([(name, pa.list_(kind)) for name, kind in inner]))]


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
