"""Hugging Face image data as Parquet: a file or a folder of shards whose metadata declares an `Image` feature.

- The image column is the `Image` feature (bytes and path), the label a `ClassLabel` feature called like a label;
  otherwise `columns.image` and `columns.label` say which ones.
- Class numbers become names, in every column that is a `ClassLabel`; -1 is Hugging Face's "no label". The classes
  keep the order of the declaration.
- The split is that of the shard: `data/train-00000-of-00002.parquet`, `test/0000.parquet`; or `columns.split`.
- Every other column can be an attribute, a group or a role, as for the format `table`.

"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from curate.errors import ConfigError, CurateError, InputError
from curate.ingest.source import Ingested, ReadOptions
from curate.ingest.splits import split_of_shard
from curate.ingest.table import read_table, shards_of
from curate.ingest.table_guess import LABEL_NAMES, guess_columns
from curate.ingest.table_rows import is_parquet, table_files
from curate.spec import MISSING

_NOT_A_LABEL = "-1"


@dataclass(frozen=True, slots=True)
class Features:
    """What Hugging Face's metadata declare: image columns, and class names by `ClassLabel` column."""

    images: tuple[str, ...]
    class_names: Mapping[str, tuple[str, ...]]


def features_of(file: Path) -> Features | None:
    """Return the declared features of a Parquet file, None where there is no readable declaration of an image."""
    try:
        metadata = pq.read_schema(file).metadata or {}
        declared = json.loads(metadata.get(b"huggingface", b"null"))
        features = declared["info"]["features"]
        images = tuple(name for name, feature in features.items() if _type_of(feature) == "Image")
        classes = {n: _class_names(f) for n, f in features.items() if _type_of(f) == "ClassLabel"}
    except (pa.ArrowException, OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return Features(images, classes) if images else None


def _type_of(feature: object) -> str | None:
    return feature.get("_type") if isinstance(feature, dict) else None


def _class_names(feature: Mapping[str, Any]) -> tuple[str, ...]:
    names = feature.get("names") or []
    if isinstance(names, dict):  # {"0": "cat", …}
        names = [names[key] for key in sorted(names, key=int)]
    return tuple(str(name) for name in names)


class HuggingFace:
    """Hugging Face image Parquet."""

    name = "huggingface"
    option_names = ("given",)

    def recognises(self, path: Path) -> Mapping[str, Any] | None:
        """Return the columns if the (first) Parquet file declares an image; an unsure label is `spec.MISSING`."""
        features = _first_features(path)
        if features is None:
            return None
        columns = {role: name for role, name in (guess_columns(path) or {}).items() if role != "name"}
        columns["image"] = _image_column(features) or MISSING
        columns["label"] = _label_column(features) or columns.get("label", MISSING)
        return {"columns": columns}

    def comments(self, path: Path) -> Mapping[str, str]:
        """Return key under `source` (dotted) -> what `curate init` writes beside it."""
        features = _first_features(path)
        if features is None or _label_column(features):
            return {}
        names = ", ".join(features.class_names) or "none is declared; remove this line if there is none"
        return {"columns.label": f"WHICH column holds the label? One of: {names}"}

    def read(self, options: ReadOptions) -> Ingested:
        """Read every shard.

        Raises:
            InputError: no Parquet file, or none that declares an image.
            ConfigError: several images or class labels, and the spec does not say which.
        """
        shards = [replace(shard, split=split_of_shard(shard.name)) for shard in shards_of(options.root)]
        declared = [features for shard in shards if (features := features_of(shard.path))]
        if not declared:
            raise InputError(
                f"{options.root} holds no Parquet file with Hugging Face's declaration of an image. "
                f"For other Parquet files take the format table."
            )
        options = replace(options, columns=_columns(options, declared[0]))
        label = options.columns.get("label", "")
        names = declared[0].class_names.get(label, ())
        _refuse_two_meanings(options, declared)
        if names and options.classes is None:
            classes = dict.fromkeys(options.aliases.get(name, name) for name in names)
            options = replace(options, classes=tuple(classes))
        translations = {column: _translation(of) for column, of in declared[0].class_names.items()}
        return read_table(options, translations=translations, shards=shards)


def _refuse_two_meanings(options: ReadOptions, declared: Sequence[Features]) -> None:
    used = {*options.columns.values(), *options.attributes.values(), *options.groups.values()}
    for other in declared[1:]:
        for column in sorted(used & (other.class_names.keys() | declared[0].class_names.keys())):
            if other.class_names.get(column) != declared[0].class_names.get(column):
                raise InputError(
                    f"The shards of {options.root.name} declare different class names for {column}: a number would "
                    f"mean two classes. Read each in a spec of its own, or write them again with one declaration."
                )


def _translation(names: Sequence[str]) -> dict[str, str | None]:
    return {**{str(index): name for index, name in enumerate(names)}, _NOT_A_LABEL: None}


def _first_features(path: Path) -> Features | None:
    if not (path.is_dir() or is_parquet(path)):
        return None
    try:
        return features_of(table_files(path)[0])
    except CurateError:
        return None


def _image_column(features: Features) -> str | None:
    return features.images[0] if len(features.images) == 1 else None


def _label_column(features: Features) -> str | None:
    names = list(features.class_names)
    called = [name for name in LABEL_NAMES if name in names]
    return called[0] if called else None


def _columns(options: ReadOptions, features: Features) -> dict[str, str]:
    """Return the spec's columns, filled up with what the declaration says without doubt."""
    columns = dict(options.columns)
    if "image" not in columns:
        only = _image_column(features)
        if only is None:
            raise ConfigError(
                f"source.columns.image is needed: the data declare several images, {', '.join(features.images)}."
            )
        columns["image"] = only
    if "label" not in columns and features.class_names:
        label = _label_column(features)
        if label is None:
            raise ConfigError(
                f"source.columns.label is needed: none of {', '.join(features.class_names)} is called like a label."
            )
        columns["label"] = label
    return columns


SOURCE = HuggingFace()
