"""Why a row is flagged or not, as codes with arguments and as sentences; vectorised over rows."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate.reasons.label_noise import SENTENCES
from curate.teachers.flag_model import MIN_ROWS, FlagModel, Scores

CODES = (
    "teachers_disagree",
    "teachers_doubt",
    "teachers_support",
    "no_label",
    "label_outside_classes",
    "no_teacher_answer",
    "probabilities_invalid",
    "insufficient_data",
)
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
    unjudged = [null, scores.outside, scores.bad_teacher >= 0, np.full(len(null), model.rule == "none")]
    codes = np.select(unjudged, [3, 4, 6, 7], default=5)
    judged = np.where(scores.flagged, 0, np.where(same, 2, 1))
    return np.where(scores.judged, judged, codes)


def reason_columns(
    model: FlagModel, scores: Scores, labels: pa.Array, suggested: pa.Array, teachers: Sequence[str]
) -> Mapping[str, pa.Array]:
    """Return every argument that a sentence may use, as a string column."""
    n_rows = len(labels)
    bad = pa.array(scores.bad_teacher, mask=scores.bad_teacher < 0)
    return {
        "n_agree": pa.array(scores.n_agree).cast(pa.string()),
        "n_teachers": pa.array(scores.n_teachers).cast(pa.string()),
        "suggested": suggested,
        "suggested_mean": _two_digits(scores.suggested_mean),
        "given": labels,
        "given_mean": _two_digits(scores.given_mean),
        "teacher": pa.array(list(teachers), pa.string()).take(bad),
        "n_rows": pa.array([str(model.n_fitted)] * n_rows),
        "n_classes": pa.array([str(model.n_classes)] * n_rows),
        "min_rows": pa.array([str(MIN_ROWS)] * n_rows),
    }


def reason_texts(
    model: FlagModel, scores: Scores, labels: pa.Array, suggested: pa.Array, teachers: Sequence[str]
) -> pa.Array:
    """Return (N,) sentences."""
    codes = reason_codes(model, scores, labels, suggested)
    columns = reason_columns(model, scores, labels, suggested, teachers)
    order: list[np.ndarray] = []
    texts: list[pa.Array] = []
    for position in np.unique(codes):
        rows = np.flatnonzero(codes == position)
        parts = _FIELD.split(SENTENCES[CODES[position]])
        taken = [
            columns[part].take(pa.array(rows)) if is_field else pa.array([part] * len(rows), pa.string())
            for place, part in enumerate(parts)
            for is_field in [place % 2 == 1]
        ]
        texts.append(pc.binary_join_element_wise(*taken, "", null_handling="replace", null_replacement="?"))
        order.append(rows)
    if not order:
        return pa.array([], pa.string())
    back = np.argsort(np.concatenate(order), kind="stable")
    return pa.concat_arrays(texts).take(pa.array(back))


def _two_digits(values: np.ndarray) -> pa.Array:
    """Return probabilities as ".93"; 1 and 0 only where they are exact to two digits."""
    names = pa.array([f".{i:02d}" for i in range(100)] + ["1.00"])
    known = np.isfinite(values)
    places = np.rint(np.where(known, values, 0.0) * 100).astype(np.int64).clip(0, 100)
    return names.take(pa.array(places, mask=~known))
