"""Why a row is flagged or not, as codes with arguments and as sentences; vectorised over rows."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import fields

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate.reasons.label_noise import SENTENCES
from curate.teachers.flag_model import MIN_ROWS, FlagModel, Scores
from curate.teachers.noise import Ints

CODES = (
    "teachers_disagree",
    "teachers_doubt",
    "teachers_support",
    "no_label",
    "label_outside_classes",
    "no_teacher_answer",
    "probabilities_invalid",
    "insufficient_data",
    "probabilities_nan",
)
_UNKNOWN = 101  # after 0 … 100 hundredths
_LARGEST_KEY = 2**62
_FIELD = re.compile(r"\{(\w+)\}")


def reason_codes(model: FlagModel, scores: Scores, labels: pa.Array, suggested: pa.Array) -> np.ndarray:
    """Return (N,) positions in CODES.

    Args:
        model: that made the scores.
        scores: N rows.
        labels: (N,) strings, the given labels as they stand.
        suggested: (N,) strings, null where unjudged.
    """
    null = pc.is_null(labels).to_numpy(zero_copy_only=False)
    same = pc.fill_null(pc.equal(labels, suggested), False).to_numpy(zero_copy_only=False)  # noqa: FBT003
    bad, nothing = scores.bad_teacher >= 0, np.full(len(null), model.rule == "none")
    codes = np.select([null, scores.outside, scores.bad_nan, bad, nothing], [3, 4, 8, 6, 7], default=5)
    judged = np.where(scores.flagged, 0, np.where(same, 2, 1))
    return np.where(scores.judged, judged, codes)


def reason_columns(
    model: FlagModel, scores: Scores, labels: pa.Array, suggested: pa.Array, teachers: Sequence[str]
) -> Mapping[str, pa.Array | pa.Scalar]:
    """Return every argument that a sentence may use, as a string column, or one string for all rows."""
    bad = pa.array(scores.bad_teacher, mask=scores.bad_teacher < 0)
    counts = pa.array([str(n) for n in range(len(model.names) + 1)])
    return {
        "n_agree": counts.take(pa.array(scores.n_agree)),
        "n_teachers": counts.take(pa.array(scores.n_teachers)),
        "suggested": suggested,
        "suggested_mean": _two_digits(scores.suggested_mean),
        "given": labels,
        "given_mean": _two_digits(scores.given_mean),
        "teacher": pa.array(list(teachers), pa.string()).take(bad),
        "n_rows": pa.scalar(str(model.n_fitted)),
        "n_classes": pa.scalar(str(model.n_classes)),
        "min_rows": pa.scalar(str(MIN_ROWS)),
    }


def distinct_reasons(
    model: FlagModel,
    scores: Scores,
    labels: tuple[Ints, pa.Array],
    suggested: tuple[Ints, pa.Array],
    teachers: Sequence[str],
) -> tuple[pa.Array, pa.Array]:
    """Return (N,) places in the sentences, and the sentences, none of them twice.

    Args:
        model: that made the scores.
        scores: N rows.
        labels: (N,) places of the given labels in texts, and these; beyond them = null.
        suggested: the same of the suggested classes.
        teachers: all that were given.
    """
    means = [_hundredths(scores.suggested_mean), _hundredths(scores.given_mean)]
    columns = [
        (scores.flagged + 2 * scores.judged + 4 * scores.outside + 8 * scores.bad_nan, 16),
        (labels[0], len(labels[1]) + 1),
        (suggested[0], len(suggested[1]) + 1),
        *((mean, _UNKNOWN + 1) for mean in means),
        *((count, len(model.names) + 1) for count in (scores.n_agree, scores.n_teachers)),
        (scores.bad_teacher + 1, len(teachers) + 1),
    ]
    places, first = _distinct(columns)
    few = Scores(*(getattr(scores, f.name)[first] for f in fields(Scores)))
    texts = [_taken(at[first], known) for at, known in (labels, suggested)]
    return places, _reason_texts(model, few, texts[0], texts[1], teachers)


def _distinct(columns: Sequence[tuple[Ints, int]]) -> tuple[pa.Array, Ints]:
    """Return (N,) which of the distinct rows each row is, and the first row of each.

    Args:
        columns: (N,) values from 0 on, and how many there may be.
    """
    key, n_keys = np.zeros(len(columns[0][0]), dtype=np.int64), 1
    for values, n_values in columns:
        if n_keys * n_values > _LARGEST_KEY:
            places = pa.array(key).dictionary_encode()
            key, n_keys = places.indices.to_numpy().astype(np.int64), len(places.dictionary)
        key, n_keys = key * n_values + values, n_keys * n_values
    found = pa.array(key).dictionary_encode()
    first = np.empty(len(found.dictionary), dtype=np.int64)
    places = found.indices.to_numpy()
    first[places[::-1]] = np.arange(len(key))[::-1]
    return found.indices, first


def _taken(places: Ints, texts: pa.Array) -> pa.Array:
    return texts.take(pa.array(places, mask=places >= len(texts)))


def _reason_texts(
    model: FlagModel, scores: Scores, labels: pa.Array, suggested: pa.Array, teachers: Sequence[str]
) -> pa.Array:
    """Return (N,) sentences."""
    codes = reason_codes(model, scores, labels, suggested)
    columns = reason_columns(model, scores, labels, suggested, teachers)
    order: list[np.ndarray] = []
    texts: list[pa.Array] = []
    for position in np.unique(codes):
        rows = np.flatnonzero(codes == position)
        texts.append(_sentences(SENTENCES[CODES[position]], columns, pa.array(rows)))
        order.append(rows)
    if not order:
        return pa.array([], pa.string())
    back = np.empty(len(codes), dtype=np.int64)
    back[np.concatenate(order)] = np.arange(len(codes))
    return pa.concat_arrays(texts).take(pa.array(back))


def _sentences(sentence: str, columns: Mapping[str, pa.Array | pa.Scalar], rows: pa.Array) -> pa.Array:
    """Return the sentence for each of the rows."""
    parts: list[pa.Array | pa.Scalar] = []
    for place, part in enumerate(_FIELD.split(sentence)):  # text and fields take turns
        found = columns[part] if place % 2 else pa.scalar(part)
        parts.append(found.take(rows) if isinstance(found, pa.Array) else found)
    text = pc.binary_join_element_wise(*parts, "", null_handling="replace", null_replacement="?")
    return text if isinstance(text, pa.Array) else pa.repeat(text, len(rows))


def _two_digits(values: np.ndarray) -> pa.Array:
    """Return probabilities as ".93"; 1 and 0 only where they are exact to two digits."""
    return _taken(_hundredths(values), pa.array([f".{i:02d}" for i in range(100)] + ["1.00"]))


def _hundredths(values: np.ndarray) -> Ints:
    """Return (N,) probabilities in hundredths; _UNKNOWN where there is none."""
    known = np.isfinite(values)
    return np.where(known, np.rint(np.where(known, values, 0.0) * 100).clip(0, 100), _UNKNOWN).astype(np.int64)
