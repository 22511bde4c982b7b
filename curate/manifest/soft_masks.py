"""Soft labels of masks: what the segmenters say together of each cell of a coarse grid, a row an image, streamed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby, islice
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from curate.manifest.soft import MADE_FOR, image_keys, sharpened
from curate.manifest.soft_layout import Layout, encode, layout_for, sampling_offsets
from curate.manifest.stale import (
    refuse_other_classes,
    refuse_other_images,
    refuse_other_teachers,
    teachers_of,
)
from curate.manifest.stream import RowStream
from curate.policy import Policy
from curate.runs import digest_json
from curate.teachers.regions.class_maps import ClassMaps, MapRow, merged_rows, summed

GROUP_ROWS = 8  # images in a row group: what a reader of one image has to read
PART_ROWS = 8_192
CELL_TOP_K = 8  # classes of a cell that are stored exactly where not all are
IDS = (
    pa.field("sample_id", pa.string(), nullable=False),
    MADE_FOR,
    pa.field("n_rows", pa.int32(), nullable=False),  # of the grid, top to bottom
    pa.field("n_columns", pa.int32(), nullable=False),
)
Maps = NDArray[np.float32]  # (K, n_rows, n_columns)


def soft_masks_schema(layout: Layout, teachers: Sequence[str] = ()) -> pa.Schema:
    """Return the schema: an image a row, and for the ensemble and each teacher the columns of the layout.

    Each is flat: `probs` is (K, n_rows, n_columns), `top_classes` and `top_probs` (k, n_rows, n_columns), `tail_mass`
    (n_rows, n_columns), `tail_classes` (m, n_rows, n_columns). A cell of which no teacher says anything is all 0.
    """
    fields = list(IDS)
    for teacher in (None, *teachers):
        for field in layout.fields(teacher):
            kind = field.type.value_type if pa.types.is_fixed_size_list(field.type) else field.type
            fields.append(pa.field(field.name, pa.list_(kind)))
    return pa.schema(fields)


def cell_layout(n_classes: int, policy: Policy) -> Layout:
    """Return what is stored of a cell: as for a row, but no more than `CELL_TOP_K` classes where not all are."""
    return layout_for(n_classes, policy.soft_layout, min(policy.soft_top_k, CELL_TOP_K))


def make_soft_masks(
    data: pa.Table,
    maps: Sequence[ClassMaps],
    classes: Sequence[str],
    policy: Policy,
    weights: Mapping[str, float] | None,
    cards: Sequence[Mapping[str, Any]],
    seed: int,
    sharpness: float = 1.0,
) -> tuple[RowStream, dict[str, Any]]:
    """Return the class maps of released images, and what the manifest says of them.

    The ensemble of a cell is the weighted mean of the teachers, each with as much of the cell as it says anything of,
    raised to sharpness / temperature and normalised before anything is cut off; a teacher alone to 1 / temperature.

    Args:
        data: `tables.DATA`.
        maps: of the teachers, on one grid.
        classes: of the release, in order.
        policy: temperature and layout.
        weights: teacher -> weight; None = all alike.
        cards: of the teachers.
        seed: of the draws of `sampled`.
        sharpness: exponent of the ensemble, as fitted to the given labels (`teachers.regions.sharpness`).

    Raises:
        InputError: maps were made for other images, classes or teachers than those of the release.
    """
    _refuse_other_teachers(maps, classes, cards)
    shares = {one.teacher: 1.0 if weights is None else weights.get(one.teacher, 0.0) for one in maps}
    used = [one for one in sorted(maps, key=lambda one: one.teacher) if shares[one.teacher] > 0]
    layout = cell_layout(len(classes), policy)
    alone = [one.teacher for one in used] if policy.soft_each_teacher else []
    released = pc.unique(data.filter(pc.equal(data["task"], "segmentation"))["sample_id"])
    wanted = frozenset(released.filter(pc.is_in(released, value_set=_refuse_other_images(data, used))).to_pylist())
    powers = (policy.temperature / sharpness, policy.temperature)
    columns = soft_masks_schema(layout, alone)

    def batches() -> Iterator[pa.Table]:
        encoded = (
            _encoded(sample, list(rows), shares, alone, layout, powers, seed)
            for sample, rows in groupby(merged_rows(used), key=lambda row: row[0])
            if sample in wanted
        )
        while waiting := list(islice(encoded, GROUP_ROWS)):
            yield _table(waiting, columns)

    head = {
        "kind": "class maps",
        "layout": layout.name,
        "top_k": layout.top_k or None,
        "n_draws": layout.n_draws or None,
        "longest_cells": max((one.longest for one in maps), default=0),
        "n_missing": len(released) - len(wanted),
        "sharpness": repr(float(sharpness)),
        "temperature": repr(float(policy.temperature)),
        "weights": {name: repr(float(share)) for name, share in sorted(shares.items())},
        "each_teacher": alone,
        "classes_sha256": digest_json(list(classes)),
        "teachers": teachers_of(cards, list(shares)),
    }
    return RowStream(columns, batches), head


def _refuse_other_teachers(
    maps: Sequence[ClassMaps], classes: Sequence[str], cards: Sequence[Mapping[str, Any]]
) -> None:
    by_name = {str(card["name"]): card for card in cards if "name" in card}
    for one in maps:
        refuse_other_classes(one.classes, classes)
        refuse_other_teachers({one.teacher: {"digest": one.digest}}, by_name)


def _refuse_other_images(data: pa.Table, maps: Sequence[ClassMaps]) -> pa.Array:
    """Refuse maps of other bytes than those that are released; return the samples that have any."""
    known: list[pa.Array] = []
    for one in maps:
        table = pq.read_table(one.path, columns=["sample_id", "content_sha256"])
        at = pc.index_in(data["sample_id"], value_set=table["sample_id"].combine_chunks())
        refuse_other_images(data, table["content_sha256"].take(at), data["content_sha256"])
        known.append(table["sample_id"].combine_chunks())
    return pa.concat_arrays([pa.array([], pa.string()), *known])


def _encoded(
    sample: str,
    rows: Sequence[MapRow],
    shares: Mapping[str, float],
    alone: Sequence[str],
    layout: Layout,
    temperatures: tuple[float, float],
    seed: int,
) -> list[Any]:
    """Return the values of a row of `soft_masks_schema`; temperatures of the ensemble and of a teacher alone."""
    size = rows[0][3].shape[1:]
    offsets = np.zeros(size[0] * size[1])
    if layout.name == "sampled":
        offsets = sampling_offsets([f"{sample} {cell}" for cell in range(offsets.size)], seed)
    values: list[Any] = [sample, rows[0][2], *size]
    for only in (None, *alone):
        own = [row for row in rows if only in (None, row[1])]
        if not own:
            values += [None] * len(layout.fields())
            continue
        values += _columns(summed(own, shares), layout, temperatures[only is not None], offsets)
    return values


def _columns(
    mass: Maps, layout: Layout, temperature: float, offsets: NDArray[np.float64]
) -> Iterator[NDArray[np.generic]]:
    """Yield the columns of the layout, planes first and flat, of mass that need not sum to one."""
    cells = mass.reshape(mass.shape[0], -1).T
    total = cells.sum(axis=1, keepdims=True)
    known = total[:, 0] > 0
    probs = np.divide(cells, total, out=np.zeros_like(cells), where=known[:, None])
    probs[known] = sharpened(probs[known], temperature)
    for column in encode(probs, ~known, layout, offsets):
        if pa.types.is_fixed_size_list(column.type):
            flat = column.values.to_numpy(zero_copy_only=False).reshape(len(cells), -1)
            yield np.ascontiguousarray(flat.T).reshape(-1)
        else:
            yield pc.fill_null(column, np.float16(0)).to_numpy(zero_copy_only=False)


def _table(rows: Sequence[Sequence[Any]], columns: pa.Schema) -> pa.Table:
    made: list[pa.Array] = []
    for field, values in zip(columns, zip(*rows, strict=True), strict=True):
        if field.name == MADE_FOR.name:
            made.append(image_keys(pa.array(values, pa.string())))
        elif pa.types.is_list(field.type):
            made.append(_lists(values, field.type))
        else:
            made.append(pa.array(values, field.type))
    return pa.table(made, schema=columns)


def _lists(values: Sequence[NDArray[np.generic] | None], kind: pa.DataType) -> pa.Array:
    missing = np.asarray([one is None for one in values])
    sizes = [0 if one is None else one.size for one in values]
    offsets = pa.array(np.concatenate([[0], np.cumsum(sizes)]).astype(np.int32))
    known = [one for one in values if one is not None]
    flat = pa.array(np.concatenate(known)) if known else pa.array([], kind.value_type)
    return pa.ListArray.from_arrays(offsets, flat.cast(kind.value_type), mask=pa.array(missing))


def dense_maps(
    row: Mapping[str, Any], layout: Layout, teacher: str | None = None
) -> tuple[NDArray[np.float16], NDArray[np.float16] | None] | None:
    """Return (K, n_rows, n_columns) probabilities of a row, and what its tail has (top_k); None where it has none.

    Of a sampled tail each draw has its part of the tail: an estimate of the whole that is right on average.

    Args:
        row: column -> value, `n_rows` and `n_columns` as numbers, lists as arrays or None.
        layout: of the version.
        teacher: one of those that are stored alone; None = the ensemble.
    """
    size = (int(row["n_rows"]), int(row["n_columns"]))
    columns = [row[field.name] for field in layout.fields(teacher)]
    if columns[0] is None:
        return None
    if layout.name == "full":
        return np.asarray(columns[0], np.float16).reshape(layout.n_classes, *size), None
    top_classes, top_probs = (np.asarray(one).reshape(layout.top_k, -1) for one in columns[:2])
    tail = np.asarray(columns[2], np.float32)
    probs = np.zeros((layout.n_classes, tail.size), dtype=np.float32)
    np.put_along_axis(probs, top_classes.astype(np.int64), top_probs.astype(np.float32), axis=0)
    cells = np.arange(tail.size)
    if layout.name == "sampled":
        for drawn in np.asarray(columns[3]).reshape(layout.n_draws, -1).astype(np.int64):
            probs[drawn, cells] += tail / layout.n_draws
        return probs.astype(np.float16).reshape(-1, *size), None
    return probs.astype(np.float16).reshape(-1, *size), tail.astype(np.float16).reshape(size)
