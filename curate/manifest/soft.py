"""Soft labels: what the teachers say together, beside each released row, at a named temperature."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from curate import schema
from curate.errors import InputError

TOP_K = 32
CHUNK_ROWS = 16_384  # bounds memory: CHUNK_ROWS x K float32 a teacher

Matrix = NDArray[np.float32]


def soft_schema(n_classes: int, top_k: int = TOP_K) -> pa.Schema:
    """Return the schema: full probabilities up to `top_k` classes, else the top ones and the mass of the rest."""
    ids = [pa.field("sample_id", pa.string(), nullable=False), pa.field("label_id", pa.string())]
    if n_classes <= top_k:
        return pa.schema([*ids, pa.field("probs", pa.list_(pa.float16(), n_classes))])
    return pa.schema(
        [
            *ids,
            pa.field("top_classes", pa.list_(pa.int32(), top_k)),  # most probable first; ties: lower class first
            pa.field("top_probs", pa.list_(pa.float16(), top_k)),
            pa.field("tail_mass", pa.float16()),  # probability of all other classes together
        ]
    )


def soft_labels(
    rows: pa.Table,
    predictions: pa.Table,
    classes: Sequence[str],
    *,
    weights: Mapping[str, float] | None = None,
    temperature: float = 1.0,
    top_k: int = TOP_K,
) -> pa.Table:
    """Return the soft label of each row, in the same order; null where no teacher has an answer.

    The ensemble is the weighted mean of the probabilities of the teachers that answered, sharpened or softened to
    p ** (1 / temperature) and normalised again, before anything is cut off.

    Args:
        rows: sample_id and label_id of the released rows (N).
        predictions: label_id and `prob_<teacher>`, fixed_size_list<float>[K] each.
        classes: the K class names in the order of the probabilities.
        weights: teacher -> weight >= 0 (one that is not named counts 0); None = all alike.
        temperature: > 0; 1 leaves the probabilities as they are.
        top_k: above this many classes only so many are stored.

    Raises:
        InputError: a width differs from the number of classes, a weight or a probability cannot be used.
    """
    names = [name for name in predictions.column_names if name.startswith(schema.PROB_PREFIX)]
    shares = _shares(names, weights)
    for name in names:
        _refuse_width(predictions[name], name, len(classes))
    out = soft_schema(len(classes), top_k)
    at = pc.index_in(rows["label_id"], value_set=predictions["label_id"].combine_chunks(), skip_nulls=True)
    at = pc.fill_null(at, -1).to_numpy().astype(np.int64)
    tables = [out.empty_table()]
    for start in range(0, rows.num_rows, CHUNK_ROWS):
        part = rows.slice(start, CHUNK_ROWS)
        probs, answered = ensemble(predictions, at[start : start + CHUNK_ROWS], shares, len(classes), temperature)
        columns = [part["sample_id"], part["label_id"], *_encode(probs, ~answered, top_k)]
        tables.append(pa.table(columns, schema=out))
    return pa.concat_tables(tables).combine_chunks()


def ensemble(
    predictions: pa.Table, at: NDArray[np.int64], shares: Mapping[str, float], n_classes: int, temperature: float
) -> tuple[Matrix, NDArray[np.bool_]]:
    """Return (n, K) pooled probabilities of the prediction rows `at` (-1: none), and which rows have any."""
    total = np.zeros((at.size, n_classes), dtype=np.float32)
    mass = np.zeros(at.size, dtype=np.float32)
    for name, share in shares.items():
        if share == 0.0:
            continue
        taken = predictions[name].take(pa.array(at, mask=at < 0)).combine_chunks()
        valid = pc.is_valid(taken).to_numpy(zero_copy_only=False)
        values = pc.fill_null(pc.list_flatten(taken), np.float16("nan")).to_numpy(zero_copy_only=False)
        probs = values.reshape(-1, n_classes).astype(np.float32)
        if not (np.isfinite(probs).all() and (probs >= 0).all() and (probs.sum(axis=1) > 0).all()):
            msg = f"{name} holds a row with NaN, a negative or no probability; leave such a row null instead."
            raise InputError(msg)
        total[valid] += np.float32(share) * probs / probs.sum(axis=1, keepdims=True)
        mass[valid] += np.float32(share)
    answered = mass > 0
    total[answered] /= mass[answered, None]
    if temperature != 1.0:
        sharpened = np.power(total[answered], np.float32(1.0 / temperature))
        total[answered] = sharpened / sharpened.sum(axis=1, keepdims=True)
    return total, answered


def _encode(probs: Matrix, missing: NDArray[np.bool_], top_k: int) -> list[pa.Array]:
    n_classes = probs.shape[1]
    mask = pa.array(missing)
    half = probs.astype(np.float16)
    if n_classes <= top_k:
        return [pa.FixedSizeListArray.from_arrays(pa.array(half.ravel()), n_classes, mask=mask)]
    # one unique integer a class: probability bits (monotone, they are not negative), then the lower class first
    keys = (half.view(np.uint16).astype(np.uint64) << np.uint64(32)) | np.arange(
        n_classes - 1, -1, -1, dtype=np.uint64
    )
    top = -np.sort(-np.partition(keys, n_classes - top_k, axis=1)[:, -top_k:].astype(np.int64), axis=1)
    top_classes = (n_classes - 1 - (top & 0xFFFF_FFFF)).astype(np.int32)
    top_probs = (top >> 32).astype(np.uint16).view(np.float16)
    # summed by class order so that the rounding never depends on how the partition came out
    kept = np.zeros_like(probs, dtype=np.bool_)
    np.put_along_axis(kept, top_classes.astype(np.int64), values=True, axis=1)
    tail = np.where(kept, np.float32(0), probs).sum(axis=1, dtype=np.float64)
    return [
        pa.FixedSizeListArray.from_arrays(pa.array(top_classes.ravel()), top_k, mask=mask),
        pa.FixedSizeListArray.from_arrays(pa.array(top_probs.ravel()), top_k, mask=mask),
        pa.array(tail.astype(np.float16), mask=missing),
    ]


def _shares(names: Sequence[str], weights: Mapping[str, float] | None) -> dict[str, float]:
    teachers = [name.removeprefix(schema.PROB_PREFIX) for name in names]
    if weights is None:
        return dict.fromkeys(sorted(names), 1.0)
    unknown = sorted(set(weights) - set(teachers))
    bad = sorted(name for name, weight in weights.items() if not (np.isfinite(weight) and weight >= 0))
    if unknown or bad or not any(weights.values()):
        msg = (
            f"Soft labels need a weight of at least 0, and one above 0, for teachers among: {', '.join(teachers)}. "
            f"Given: {dict(weights)}."
        )
        raise InputError(msg)
    return {f"{schema.PROB_PREFIX}{name}": float(weights[name]) for name in sorted(weights)}


def _refuse_width(column: pa.ChunkedArray, name: str, n_classes: int) -> None:
    width = column.type.list_size if pa.types.is_fixed_size_list(column.type) else None
    if width != n_classes:
        msg = (
            f"{name} needs {n_classes} probabilities a row, one for each class; it is {column.type}. "
            "Were the predictions made for another class list? Make them again."
        )
        raise InputError(msg)
