"""What went into a version, as digests: of equal inputs the same, whatever their order, chunks and places on disk."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate import schema
from curate.digests import digest_json, digest_table
from curate.manifest.soft import key_of

if TYPE_CHECKING:
    from curate.teachers.regions.class_maps import ClassMaps

UNKNOWN = "not known after erasure"
_BLOCK_ROWS = 65_536
_MADE_ELSEWHERE = {"onnx", "table", "torch"}  # kinds whose digest names the answers: no label here changes them
_BY_ROWS = ("n_predicted", "warnings")  # of a card: what the rows that were asked about make of the teacher
_NEWER_MEANING = ("labels", "predictions", "teachers")  # not comparable with a version that has no digest of labels
_TEXTS = {"labels": "labels of the source"}


def digest_labels(labels: pa.Table) -> str:
    """Return the sha256 of labels as the source says them, by value and in any order of rows.

    Args:
        labels: `schema.LABELS`, before any verdict and without what people added.
    """
    hasher = hashlib.sha256(schema.canonical_json(sorted(labels.column_names)).encode())
    by_id = [("label_id", "ascending"), ("annotator", "ascending"), ("label", "ascending")]
    order = pc.sort_indices(labels, sort_keys=by_id)
    for start in range(0, labels.num_rows, _BLOCK_ROWS):
        part = labels.take(order.slice(start, _BLOCK_ROWS))
        for name in sorted(part.column_names):
            _add(hasher, pa.concat_arrays(part[name].chunks))
    return hasher.hexdigest()


def digest_answered(
    predictions: pa.Table | None,
    places: pa.Table | None,
    class_maps: Sequence[ClassMaps],
    cards: Sequence[Mapping[str, Any]],
) -> dict[str, str]:
    """Return the digests of what teachers said and of who they are; of detectors and segmenters where there are any."""
    told = {"predictions": digest_answers(predictions, cards), "teachers": digest_teachers(cards)}
    if places is not None:
        told["detectors"] = digest_table(places)
    if class_maps:
        told["class_maps"] = digest_json([[one.teacher, one.digest, one.longest] for one in class_maps])
    return told


def digest_answers(predictions: pa.Table | None, cards: Sequence[Mapping[str, Any]]) -> str:
    """Return the sha256 of what classifiers answered, "none" where there is none.

    Those made elsewhere are named by the digest of their card, so that other labels are no other answers; those
    that are fitted to the labels here by their probabilities.

    Args:
        predictions: label_id (or sample_id) and `prob_<teacher>`.
        cards: of the teachers.
    """
    if predictions is None or not schema.teacher_columns(predictions):
        return "none"
    made = {card.get("name"): card.get("digest") for card in cards if card.get("kind") in _MADE_ELSEWHERE}
    named = {
        column: made[name]
        for column in schema.teacher_columns(predictions)
        if made.get(name := column.removeprefix(schema.PROB_PREFIX))
    }
    fitted = predictions.drop_columns(list(named))
    by_value = digest_predictions(fitted) if schema.teacher_columns(fitted) else "none"
    return hashlib.sha256(schema.canonical_json([named, by_value]).encode()).hexdigest()


def digest_predictions(predictions: pa.Table) -> str:
    """Return the sha256 of the predictions by value: row order and what lies under a null leave no trace."""
    key = key_of(predictions)
    order = pc.sort_indices(predictions[key])
    digest = hashlib.sha256()
    names = sorted(schema.teacher_columns(predictions))
    digest.update(schema.canonical_json(names).encode())
    for start in range(0, predictions.num_rows, _BLOCK_ROWS):
        part = predictions.take(order.slice(start, _BLOCK_ROWS))
        digest.update("\0".join(part[key].to_pylist()).encode())
        for name in names:
            column = part[name].combine_chunks()
            digest.update(np.packbits(pc.is_valid(column).to_numpy(zero_copy_only=False)).tobytes())
            digest.update(pc.cast(pc.list_flatten(column), pa.float16()).to_numpy(zero_copy_only=False).tobytes())
    return digest.hexdigest()


def digest_teachers(cards: Sequence[Mapping[str, Any]]) -> str:
    """Return the sha256 of the teachers' cards, without what only tells how many rows they were asked about."""
    told = [{key: value for key, value in card.items() if key not in _BY_ROWS} for card in cards]
    return hashlib.sha256(schema.canonical_json(told).encode()).hexdigest()


def inputs_changed(was: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """Return the names of the inputs that differ, sorted; what one of two versions does not tell is not named."""
    names = {*was, *now}
    if ("labels" in was) != ("labels" in now):
        names -= set(_NEWER_MEANING)
    both = {name: (was.get(name), now.get(name)) for name in names}
    return sorted(name for name, (old, new) in both.items() if old != new and UNKNOWN not in {old, new})


def input_text(name: str) -> str:
    """Return the name of an input in words."""
    return _TEXTS.get(name, name.replace("_", " "))


def _add(hasher: Any, values: pa.Array) -> None:  # noqa: ANN401 - hashlib names no type for its hashes
    """Add an array by value: what is null, how long lists and texts are, then what they hold."""
    hasher.update(f"{len(values)}\0".encode())
    hasher.update(np.packbits(values.is_valid().to_numpy(zero_copy_only=False)).tobytes())
    values = values.drop_null()
    kind = values.type
    if pa.types.is_struct(kind):
        for part in values.flatten():
            _add(hasher, part)
    elif pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        hasher.update(pc.list_value_length(values).cast(pa.int64()).to_numpy(zero_copy_only=False).tobytes())
        _add(hasher, pc.list_flatten(values))
    elif pa.types.is_floating(kind) or pa.types.is_integer(kind):
        hasher.update(values.to_numpy(zero_copy_only=False).tobytes())
    else:
        raw = values.cast(pa.large_binary())
        hasher.update(pc.binary_length(raw).cast(pa.int64()).to_numpy(zero_copy_only=False).tobytes())
        hasher.update(b"".join(raw.to_pylist()))
