"""The soft labels of a version as a feed reads them: refused where they are stale, then arrays beside the rows."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from curate.errors import ConfigError, did_you_mean
from curate.feed.map_reader import MapReader
from curate.manifest.place import Place, parquet_file
from curate.manifest.read import load_evidence, load_table
from curate.manifest.soft_layout import Layout
from curate.manifest.stale import refuse_missing_teachers, refuse_other_classes, refuse_other_teachers

OBJECTNESS = "objectness"


@dataclass(frozen=True)
class SoftArrays:
    """The stored soft labels of N rows at one temperature.

    Attributes:
        arrays: name of the column (`probs`, or `top_classes`, `top_probs`, `tail_mass`, `tail_classes`) -> (N, …); with
            detectors `objectness` too, NaN where none looked.
        known: (N,) whether the row has class probabilities.
        temperature: that they are stored at.
    """

    arrays: Mapping[str, NDArray[Any]]
    known: NDArray[np.bool_]
    temperature: float

    def take(self, at: int | slice | NDArray[np.int64]) -> dict[str, NDArray[Any]]:
        """Return the soft labels of rows as a mapping of arrays, `known` and `temperature` with them."""
        taken = {name: np.asarray(array[at]) for name, array in self.arrays.items()}
        known = np.asarray(self.known[at])
        return {**taken, "known": known, "temperature": np.full(known.shape, self.temperature, np.float32)}


def soft_arrays(soft: pa.Table, layout: Layout, temperature: float, teacher: str | None) -> SoftArrays:
    """Return the stored soft labels of the ensemble, or of one teacher, as arrays."""
    arrays: dict[str, NDArray[Any]] = {}
    if OBJECTNESS in soft.column_names:
        chance = pc.fill_null(soft[OBJECTNESS].combine_chunks(), np.float16("nan"))
        arrays[OBJECTNESS] = chance.to_numpy(zero_copy_only=False)
    known = np.ones(soft.num_rows, dtype=np.bool_)
    for field, plain in zip(layout.fields(teacher), layout.fields(), strict=True):
        column = soft[field.name].combine_chunks()
        known &= pc.is_valid(column).to_numpy(zero_copy_only=False)
        if pa.types.is_fixed_size_list(column.type):
            width = column.type.list_size
            flat = column.values.slice(column.offset * width, len(column) * width)
            if flat.null_count:  # what Parquet puts under a null list
                flat = pc.fill_null(
                    flat, pa.scalar(np.float16(0) if plain.type.value_type == pa.float16() else 0, flat.type)
                )
            arrays[plain.name] = flat.to_numpy(zero_copy_only=False).reshape(-1, width)
        else:
            arrays[plain.name] = pc.fill_null(column, np.float16(0)).to_numpy(zero_copy_only=False)
    return SoftArrays(arrays, known, temperature)


ENSEMBLE = "ensemble"


def load_soft(
    path: Place, manifest: Mapping[str, Any], soft: str, teachers: Sequence[Mapping[str, Any]]
) -> SoftArrays | None:
    """Return the soft labels of every row of a version; None where it has none and the ensemble is asked for.

    Args:
        path: of the version.
        manifest: of it.
        soft: "ensemble", or the name of a teacher that is stored too.
        teachers: cards that they have to be of.

    Raises:
        ConfigError: they are not stored.
        InputError: they are of other classes or teachers.
    """
    told = manifest["soft"]
    if told is None:
        if soft == ENSEMBLE:
            return None
        raise ConfigError("The version holds no soft labels. Publish one with `soft_labels: true` in the policy.")
    _refuse_not_stored(soft, told)
    refuse_missing_teachers(told["teachers"], [card["name"] for card in teachers])
    refuse_other_teachers(told["teachers"], {card["name"]: card for card in teachers})
    refuse_other_teachers(told["teachers"], {card["name"]: card for card in load_evidence(path, "teachers")})
    table = load_table(path, manifest, "soft")
    metadata = table.schema.metadata or {}
    refuse_other_classes(json.loads(metadata.get(b"classes", b"[]")), manifest["classes"])
    return soft_arrays(table, *stored_form(manifest), None if soft == ENSEMBLE else soft)


def open_class_maps(
    path: Place, manifest: Mapping[str, Any], soft: str, teachers: Sequence[Mapping[str, Any]]
) -> MapReader:
    """Return a reader of a version's class maps; arguments and errors are those of `load_soft`."""
    told = manifest["soft_masks"]
    _refuse_not_stored(soft, told)
    refuse_missing_teachers(told["teachers"], [card["name"] for card in teachers])
    refuse_other_teachers(told["teachers"], {card["name"]: card for card in teachers})
    refuse_other_teachers(told["teachers"], {card["name"]: card for card in load_evidence(path, "teachers")})
    parts = [path / one["path"] for one in manifest["files"] if one["path"].startswith("soft_masks/")]
    metadata = parquet_file(parts[0]).schema_arrow.metadata or {}
    refuse_other_classes(json.loads(metadata.get(b"classes", b"[]")), manifest["classes"])
    layout, temperature = _layout_of(told, manifest["classes"]), float(told["temperature"])
    return MapReader(parts, layout, temperature, told["longest_cells"], None if soft == ENSEMBLE else soft)


def _refuse_not_stored(soft: str, told: Mapping[str, Any]) -> None:
    stored = [ENSEMBLE, *told["each_teacher"]]
    if soft not in stored:
        raise ConfigError(
            f"There are no soft labels of {soft!r}. Stored: {', '.join(stored)}. {did_you_mean(soft, stored)} "
            f"Those of each teacher are stored with `soft_each_teacher: true` in the policy."
        )


def _layout_of(told: Mapping[str, Any], classes: Sequence[str]) -> Layout:
    return Layout(told["layout"], len(classes), told["top_k"] or 0, told["n_draws"] or 0)


def stored_form(manifest: Mapping[str, Any]) -> tuple[Layout, float]:
    """Return the layout and the temperature of a version's soft labels."""
    told = manifest["soft"]
    return _layout_of(told, manifest["classes"]), float(told["temperature"])


def soft_at(soft: SoftArrays, at: NDArray[np.int64]) -> SoftArrays:
    """Return the soft labels of some of the rows."""
    return SoftArrays({name: array[at] for name, array in soft.arrays.items()}, soft.known[at], soft.temperature)
