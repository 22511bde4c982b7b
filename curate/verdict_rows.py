"""The rows that get a verdict, and how findings and decisions are spread over them."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from curate.errors import InputError

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]

STRENGTH = ("keep", "soften", "relabel", "review", "drop")  # weakest first; the strongest wins
KEEP, SOFTEN, RELABEL, REVIEW, DROP = range(5)


def row_table(samples: pa.Table, labels: pa.Table) -> pa.Table:
    """Return the rows that get a verdict: their ids, label, task, content_sha256, error_code; sorted by id.

    Raises:
        InputError: a label names a sample that is not in `samples`, or an id stands twice.
    """
    _refuse_repeated(samples["sample_id"], "sample")
    _refuse_repeated(labels["label_id"], "label")
    at = pc.index_in(labels["sample_id"], value_set=samples["sample_id"].combine_chunks())
    if at.null_count:
        lost = labels["label_id"].filter(pc.is_null(at))
        msg = (
            f"{len(lost)} labels name a sample that is not in the samples table (first: label {lost[0].as_py()}). "
            "Pass the samples of every label that is passed."
        )
        raise InputError(msg)
    bare = pc.invert(pc.is_in(samples["sample_id"], value_set=labels["sample_id"].combine_chunks()))
    bare_at = np.flatnonzero(bare.to_numpy(zero_copy_only=False))
    sample_at = np.concatenate([at.to_numpy().astype(np.int64), bare_at])
    label_at = np.concatenate([np.arange(labels.num_rows), np.full(bare_at.size, -1)])
    columns = {
        "sample_id": take_or_null(samples["sample_id"], sample_at),
        "label_id": take_or_null(labels["label_id"], label_at),
        "label": take_or_null(labels["label"], label_at),
        "task": take_or_null(labels["task"], label_at),
        "content_sha256": _optional(samples, "content_sha256", sample_at),
        "error_code": _optional(samples, "error_code", sample_at),
    }
    return pa.table(columns).sort_by([("sample_id", "ascending"), ("label_id", "ascending")]).combine_chunks()


def pairs_of(entries: pa.Table, rows: pa.Table) -> tuple[Ints, Ints]:
    """Expand findings or decisions to (entry, row): one for a label, all rows of the sample without a label id."""
    by_label = pc.is_valid(entries["label_id"]).to_numpy(zero_copy_only=False)
    at = pc.index_in(entries["label_id"], value_set=rows["label_id"].combine_chunks(), skip_nulls=True)
    at = pc.fill_null(at, -1).to_numpy().astype(np.int64)
    hit = np.flatnonzero(by_label & (at >= 0))
    sample_code, distinct = dictionary_codes(rows["sample_id"])
    starts = np.searchsorted(sample_code, np.arange(len(distinct) + 1))  # rows are sorted: codes ascend
    sample = pc.index_in(entries["sample_id"], value_set=pa.array(distinct, pa.string()))
    sample = pc.fill_null(sample, -1).to_numpy().astype(np.int64)
    whole = np.flatnonzero(~by_label & (sample >= 0))
    first, n_rows = starts[sample[whole]], np.diff(starts)[sample[whole]]
    within = np.arange(n_rows.sum()) - np.repeat(np.cumsum(n_rows) - n_rows, n_rows)
    return (
        np.concatenate([hit, np.repeat(whole, n_rows)]),
        np.concatenate([at[hit], np.repeat(first, n_rows) + within]),
    )


def dictionary_codes(column: pa.ChunkedArray) -> tuple[Ints, list[str]]:
    """Return a code for each value of a column without nulls, and the words the codes stand for."""
    encoded = column.combine_chunks().dictionary_encode()
    return encoded.indices.to_numpy(zero_copy_only=False).astype(np.int64), encoded.dictionary.to_pylist()


def rank_of(ids: pa.ChunkedArray) -> Ints:
    """Return the position of each id among the sorted ones."""
    rank = np.empty(len(ids), dtype=np.int64)
    rank[pc.sort_indices(ids).to_numpy()] = np.arange(len(ids))
    return rank


def take_or_null(column: pa.ChunkedArray, at: Ints) -> pa.Array:
    """Return the values at `at`; null where `at` is negative."""
    return column.combine_chunks().take(pa.array(at, mask=at < 0))


def equals_word(column: pa.Array, word: str) -> Mask:
    """Return where a column holds `word`; null does not."""
    same: Mask = pc.fill_null(pc.equal(column, word), False).to_numpy(zero_copy_only=False)  # noqa: FBT003
    return same


def _refuse_repeated(ids: pa.ChunkedArray, kind: str) -> None:
    n_repeated = len(ids) - pc.count_distinct(ids).as_py()
    if n_repeated:
        msg = f"Every {kind} needs an id of its own; {n_repeated} {kind} rows repeat an id that was already given."
        raise InputError(msg)


def _optional(table: pa.Table, name: str, at: Ints) -> pa.Array:
    return take_or_null(table[name], at) if name in table.column_names else pa.nulls(at.size, pa.string())
