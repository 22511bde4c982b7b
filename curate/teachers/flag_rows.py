"""Scores of rows as columns to write; what few values repeat is written as a dictionary and never built row by row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate.teachers.flag_model import FlagModel, Scores
from curate.teachers.flag_reader import LabeledRows
from curate.teachers.flag_reasons import distinct_reasons
from curate.teachers.noise import Ints

TEXT = pa.dictionary(pa.int32(), pa.string())  # in the file it is a string like any other


def joined(parts: Sequence[tuple[LabeledRows, Scores]]) -> tuple[LabeledRows, Scores]:
    """Return rows that follow one another, and their scores, as one."""
    if len(parts) == 1:
        return parts[0]
    columns = (np.concatenate([getattr(scores, f.name) for _, scores in parts]) for f in fields(Scores))
    rows = [part for part, _ in parts]
    ids = None if rows[0].ids is None else pa.concat_arrays([part.ids for part in rows])
    others, given = pa.concat_arrays([part.others for part in rows]), np.concatenate([part.given for part in rows])
    return LabeledRows(rows[0].first_row, ids, others, given), Scores(*columns)


def flag_columns(
    rows: LabeledRows, scores: Scores, model: FlagModel, classes: Sequence[str], teachers: Sequence[str]
) -> list[pa.Array]:
    """Return id, label, risk, flagged, suggested_label, suggested_prob and reason of n rows."""
    names = pa.array(classes, pa.string())
    ids = rows.ids
    if ids is None:
        ids = pa.array(np.arange(rows.first_row, rows.first_row + len(rows.given), dtype=np.int64))
    unjudged = ~scores.judged
    suggested = np.where(scores.suggested < 0, len(classes), scores.suggested)
    label_at, told = _labels(rows, names)
    reasons = distinct_reasons(model, scores, (label_at, told), (suggested, names), teachers)
    return [
        ids,
        _dictionary(label_at, told),
        pa.array(scores.risk, mask=unjudged),
        pa.array(scores.flagged),
        _dictionary(suggested, names),
        pa.array(scores.suggested_prob, mask=unjudged),
        pa.DictionaryArray.from_arrays(*reasons),
    ]


def _labels(rows: LabeledRows, names: pa.Array) -> tuple[Ints, pa.Array]:
    """Return (n,) places of the labels as they stand, and the texts: the classes, then others; null is beyond these."""
    other = rows.given < 0
    if not other.any():
        return rows.given, names
    texts = pc.unique(rows.others.drop_null())
    place = pc.fill_null(pc.index_in(rows.others, value_set=texts), len(texts)).to_numpy(zero_copy_only=False)
    null = pc.is_null(rows.others).to_numpy(zero_copy_only=False)
    places = rows.given.copy()
    places[other] = np.where(null, len(texts), place) + len(names)
    return places, pa.concat_arrays([names, texts])


def _dictionary(places: Ints, texts: pa.Array) -> pa.Array:
    missing = places >= len(texts)
    indices = pa.array(places.astype(np.int32), mask=missing if missing.any() else None)
    return pa.DictionaryArray.from_arrays(indices, texts)
