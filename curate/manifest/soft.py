"""Soft labels: what the teachers say together, beside each released row, at a named temperature."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from curate import schema
from curate.errors import InputError
from curate.manifest.soft_layout import Layout, Matrix, encode, layout_for, sampling_offsets

CHUNK_ROWS = 16_384  # bounds memory: CHUNK_ROWS x K float32 a teacher

MADE_FOR = pa.field("made_for", pa.uint64())  # first 8 bytes of the sha256 of the image that was judged


def soft_schema(layout: Layout, teachers: Sequence[str] = ()) -> pa.Schema:
    """Return the schema: ids, the image that was judged, the ensemble's columns, then those of each teacher."""
    fields = [pa.field("sample_id", pa.string(), nullable=False), pa.field("label_id", pa.string()), MADE_FOR]
    for teacher in (None, *teachers):
        fields += layout.fields(teacher)
    return pa.schema(fields)


def key_of(predictions: pa.Table) -> str:
    """Return the column that predictions are keyed by: label_id, or sample_id where each class stands alone."""
    return "label_id" if "label_id" in predictions.column_names else "sample_id"


def soft_labels(
    rows: pa.Table,
    predictions: pa.Table,
    classes: Sequence[str],
    *,
    weights: Mapping[str, float] | None = None,
    temperature: float = 1.0,
    layout: Layout | None = None,
    each_teacher: bool = False,
    seed: int = 0,
) -> pa.Table:
    """Return the soft label of each row, in the same order; null where no teacher has an answer.

    The ensemble is the weighted mean of the probabilities of the teachers that answered, sharpened or softened to
    p ** (1 / temperature) and normalised again, before anything is cut off. Where each class stands alone (predictions
    by sample_id) it is the weighted mean of the teachers that know the class, with its log odds divided by the
    temperature; NaN where none knows it. All rows of an image then have the same.

    Args:
        rows: sample_id and label_id of the released rows (N).
        predictions: label_id, `prob_<teacher>`, fixed_size_list<float>[K] each, and `content_sha256` of the image
            that was judged (without it `made_for` is null); `sample_id` in the place of `label_id` where each class
            stands alone.
        classes: the K class names in the order of the probabilities.
        weights: teacher -> weight >= 0 (one that is not named counts 0); None = all alike.
        temperature: > 0; 1 leaves the probabilities as they are.
        layout: what to store of the K probabilities; None = `layout_for(K)`.
        each_teacher: store the teachers of weight above 0 one by one too.
        seed: of the draws of `sampled`.

    Raises:
        InputError: a width differs from the number of classes, a weight or a probability cannot be used.
    """
    names = [name for name in predictions.column_names if name.startswith(schema.PROB_PREFIX)]
    shares = _shares(names, weights)
    for name in names:
        _refuse_width(predictions[name], name, len(classes))
    key = key_of(predictions)
    pooled = ensemble if key == "label_id" else ensemble_of_each
    layout = layout or layout_for(len(classes))
    alone = [name for name, share in shares.items() if share > 0] if each_teacher else []
    teachers = [name.removeprefix(schema.PROB_PREFIX) for name in alone]
    out = soft_schema(layout, teachers)
    at = pc.index_in(rows[key], value_set=predictions[key].combine_chunks(), skip_nulls=True)
    at = pc.fill_null(at, -1).to_numpy().astype(np.int64)
    judged = _judged_images(predictions)
    tables = [out.empty_table()]
    for start in range(0, rows.num_rows, CHUNK_ROWS):
        part, here = rows.slice(start, CHUNK_ROWS), at[start : start + CHUNK_ROWS]
        offsets = _offsets(part, layout, seed)
        columns: list[pa.Array | pa.ChunkedArray] = [part["sample_id"], part["label_id"]]
        columns.append(judged.take(pa.array(here, mask=here < 0)))
        for pool in (shares, *({name: 1.0} for name in alone)):
            probs, answered = pooled(predictions, here, pool, len(classes), temperature)
            columns += encode(probs, ~answered, layout, offsets)
        tables.append(pa.table(columns, schema=out))
    return pa.concat_tables(tables)  # ids are those of `rows`, not copies of them


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
    total[answered] = sharpened(total[answered], temperature)
    return total, answered


def ensemble_of_each(
    predictions: pa.Table, at: NDArray[np.int64], shares: Mapping[str, float], n_classes: int, temperature: float
) -> tuple[Matrix, NDArray[np.bool_]]:
    """Return (n, K) mean probabilities of each class alone, NaN where no teacher knows it, and which rows have any."""
    total, mass = (np.zeros((at.size, n_classes), dtype=np.float32) for _ in range(2))
    for name, share in shares.items():
        if share == 0.0:
            continue
        taken = predictions[name].take(pa.array(at, mask=at < 0)).combine_chunks()
        probs = np.full((at.size, n_classes), np.nan, dtype=np.float32)
        valid = pc.is_valid(taken).to_numpy(zero_copy_only=False)
        probs[valid] = pc.list_flatten(taken).to_numpy(zero_copy_only=False).reshape(-1, n_classes)
        known = np.isfinite(probs)
        if not ((probs[known] >= 0) & (probs[known] <= 1)).all():
            msg = f"{name} holds a value that is no probability; leave a class without an answer NaN instead."
            raise InputError(msg)
        total[known] += np.float32(share) * probs[known]
        mass[known] += np.float32(share)
    mean = np.divide(total, mass, out=np.full_like(total, np.nan), where=mass > 0)
    if temperature != 1.0:
        power = np.float32(1.0 / temperature)
        mean = mean**power / (mean**power + (1 - mean) ** power)
    return mean, np.asarray((mass > 0).any(axis=1))


def sharpened(probs: Matrix, temperature: float) -> Matrix:
    """Return p ** (1 / temperature), normalised again."""
    if temperature == 1.0:
        return probs
    powered: Matrix = np.power(probs, np.float32(1.0 / temperature))
    powered /= powered.sum(axis=1, keepdims=True)
    return powered


def image_keys(hashes: pa.Array | pa.ChunkedArray) -> pa.Array:
    """Return the first 8 bytes of hex sha256 digests as uint64; null for null."""
    flat = hashes.combine_chunks() if isinstance(hashes, pa.ChunkedArray) else hashes
    texts = pc.fill_null(pc.utf8_slice_codeunits(flat, 0, 16), "0" * 16)
    if len(texts) and not pc.all(pc.equal(pc.binary_length(texts), 16)).as_py():
        raise InputError("A content_sha256 is 64 hexadecimal digits; one of the rows has fewer.")
    _, ends, content = texts.buffers()
    start = np.frombuffer(ends, np.int32)[texts.offset] if len(texts) else 0  # 16 bytes each, one behind the other
    digits = bytes(memoryview(content)[start : start + 16 * len(texts)]) if len(texts) else b""
    keys = np.frombuffer(bytes.fromhex(digits.decode()), dtype=">u8").astype(np.uint64)
    return pa.array(keys, pa.uint64(), mask=pc.is_null(flat).to_numpy(zero_copy_only=False))


def _judged_images(predictions: pa.Table) -> pa.Array:
    if "content_sha256" not in predictions.column_names:
        return pa.nulls(predictions.num_rows, pa.uint64())
    return image_keys(predictions["content_sha256"])


def _offsets(part: pa.Table, layout: Layout, seed: int) -> NDArray[np.float64]:
    if layout.name != "sampled":
        return np.zeros(part.num_rows)
    return sampling_offsets(pc.coalesce(part["label_id"], part["sample_id"]).to_pylist(), seed)


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
