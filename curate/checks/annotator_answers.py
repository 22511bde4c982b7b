"""Annotators' answers and the teachers' beside them, as arrays."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate import schema
from curate.teachers.label_columns import prob_matrix
from curate.teachers.noise import Floats, Ints

COLUMNS = ("label_id", "sample_id", "task", "label", "annotator")
BLOCK_ROWS = 65_536  # of teachers' answers that are read at once


@dataclass(frozen=True, slots=True)
class Answers:
    """All answers, sorted by label id; `image` and `annotator` are indices into `samples` and `names`."""

    label_ids: list[str]
    sample_ids: list[str]
    samples: pa.Array
    image: Ints
    annotator: Ints
    label: Ints
    names: list[str]
    classes: tuple[str, ...]
    counts: Ints  # (images, classes)


def columns_of(names: list[str]) -> list[str]:
    """Return the columns of the annotations view that are read."""
    return [*COLUMNS, *(name for name in names if name.startswith(schema.PROB_PREFIX))]


def answers_of(table: pa.Table, classes: tuple[str, ...]) -> Answers | None:
    """Return the answers that name their annotator; None where they cannot be held against each other.

    Args:
        table: the annotations view.
        classes: in the order of the probabilities; empty = the sorted distinct labels.
    """
    usable = pc.and_(pc.is_valid(table["annotator"]), pc.equal(table["task"], "classification"))
    chosen = table.filter(usable).select(COLUMNS).sort_by("label_id")
    known = classes or tuple(sorted(set(chosen["label"].to_pylist())))
    chosen = chosen.filter(pc.is_in(chosen["label"], value_set=pa.array(known, pa.string())))
    if not chosen.num_rows or len(known) < 2:
        return None
    samples, image = _coded(chosen["sample_id"])
    names, annotator = _coded(chosen["annotator"])
    label = pc.index_in(chosen["label"], value_set=pa.array(known, pa.string())).to_numpy().astype(np.int64)
    pairs = image * len(names) + annotator
    if len(np.unique(pairs)) < len(pairs):
        return None  # several classes an image: who gave one more or less has not erred by that
    counts = np.zeros((len(samples), len(known)), dtype=np.int32)
    np.add.at(counts, (image, label), 1)
    ids, owners = chosen["label_id"].to_pylist(), chosen["sample_id"].to_pylist()
    return Answers(ids, owners, samples, image, annotator, label, names.to_pylist(), known, counts)


def _coded(column: pa.ChunkedArray) -> tuple[pa.Array, Ints]:
    """Return the distinct texts in order, and where each row's stands among them."""
    words = pc.unique(column)
    words = words.take(pc.sort_indices(words))
    return words, pc.index_in(column, value_set=words).to_numpy().astype(np.int64)


def teachers_mean(table: pa.Table, answers: Answers) -> Floats | None:
    """Return (images, classes), the mean of the teachers for each image; rows of NaN where none has an answer."""
    columns = [name for name in table.column_names if name.startswith(schema.PROB_PREFIX)]
    if not columns:
        return None
    total = np.zeros((len(answers.counts), len(answers.classes)))
    n = np.zeros(len(answers.counts))
    image_of = pc.index_in(table["sample_id"], value_set=answers.samples)
    image_of = pc.fill_null(image_of, -1).to_numpy().astype(np.int64)
    for name in columns:
        for start in range(0, table.num_rows, BLOCK_ROWS):
            image = image_of[start : start + BLOCK_ROWS]
            column = table[name].slice(start, BLOCK_ROWS).combine_chunks()
            probs = prob_matrix(column, len(answers.classes), name).astype(np.float64)
            known = (image >= 0) & np.isfinite(probs).all(axis=1)
            np.add.at(total, image[known], probs[known])
            np.add.at(n, image[known], 1.0)
    total /= np.maximum(n, 1.0)[:, None]
    total[n == 0] = np.nan
    return total
