"""Reasons for whole columns at once: the sentence of a code with arrays in the place of its arguments."""

from __future__ import annotations

import string
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate.reasons import sentences
from curate.teachers.boxes.evidence import Evidence
from curate.teachers.boxes.geometry import Floats, Ints
from curate.teachers.boxes.judge import ISSUES, MISSING, Judged

Args = dict[str, Any]  # name -> array of a value per row, or one value for all


def location_codes(judged: Judged) -> tuple[Any, str, str]:
    """Return where a box is matched, and the codes of the sentence there and elsewhere."""
    return judged.evidence.cluster >= 0, "box_noise_location", "box_noise_location_unseen"


def duplicate_codes(judged: Judged) -> tuple[Any, str, str]:
    """Return where a box has a better twin, and the codes of the sentence there and elsewhere."""
    return judged.evidence.twin >= 0, "box_noise_duplicate", "box_noise_no_duplicate"


def codes_of(judged: Judged, issue: str) -> np.ndarray[Any, Any]:
    """Return (N,) the reason code of each given box for an issue; of each candidate for `MISSING`."""
    n = len(judged.missing) if issue == MISSING else len(judged.risk)
    if issue in ("location", "duplicate"):
        there, yes, no = (location_codes if issue == "location" else duplicate_codes)(judged)
        return np.where(there, yes, no)
    return np.full(n, f"box_noise_{issue}")


def arguments(
    judged: Judged, issue: str, labels: Ints, ids: Sequence[Any], classes: Sequence[str], n_teachers: int
) -> Args:
    """Return the arguments of the sentences of an issue, an array each.

    Args:
        judged: what was found.
        issue: one of `ISSUES`, or `MISSING`.
        labels: (N,) given classes.
        ids: (N,) of the given boxes.
        classes: their names.
        n_teachers: that had a say.
    """
    names = np.asarray(classes, dtype=object)
    found, clusters, evidence = judged.missing, judged.clusters, judged.evidence
    if issue == MISSING:
        return {
            "n_see": judged.n_see[found],
            "n_teachers": n_teachers,
            "suggested": names[clusters.label[found]],
            "mean_score": short(judged.mean_score[found]),
            "covered": short(judged.places.covered[found]),
        }
    if issue not in ISSUES:
        raise ValueError(f"no issue of boxes: {issue}")
    own = np.asarray([str(one) for one in ids], dtype=object)
    told = {
        "given": names[labels],
        "kept": own[evidence.twin],
        "n_teachers": n_teachers,
    }  # read where there is a twin
    return told | _of_given(judged, evidence, names, labels)


def _of_given(judged: Judged, evidence: Evidence, names: Any, labels: Ints) -> Args:  # noqa: ANN401 - an object array
    matched = evidence.cluster >= 0
    cluster = evidence.cluster[matched]
    n = len(matched)
    n_see, mean_score, seen = np.zeros(n, dtype=np.int64), np.zeros(n), labels.copy()
    n_see[matched], mean_score[matched] = judged.n_see[cluster], judged.mean_score[cluster]
    seen[matched] = judged.clusters.label[cluster]
    return {
        "n_see": n_see,
        "mean_score": short(mean_score),
        "seen": names[seen],
        "iou": short(evidence.iou),
        "nearest": short(evidence.nearest),
        "rival": names[evidence.rival],
        "n_rival": evidence.n_rival,
        "rival_prob": short(evidence.rival_prob),
        "n_own": evidence.n_own,
        "own": short(evidence.own),
        "n_anything": evidence.n_anything,
        "anything": short(evidence.anything),
        "twin_iou": short(evidence.twin_iou),
    }


def short(values: Floats) -> Floats:
    """Return numbers with two decimals, as people read them."""
    return np.asarray(np.round(values, 2), dtype=np.float64)


def row_arguments(code: str, args: Mapping[str, Any], row: int) -> dict[str, Any]:
    """Return the arguments of one row that its sentence names, as JSON values."""
    chosen = {name: args[name] for _, name, _, _ in string.Formatter().parse(sentences()[code]) if name}
    values = {name: value[row] if isinstance(value, np.ndarray) else value for name, value in chosen.items()}
    return {name: value.item() if isinstance(value, np.generic) else value for name, value in values.items()}


def texts(codes: np.ndarray[Any, Any], args: Mapping[str, Any]) -> pa.Array:
    """Return the sentence of each row."""
    n = len(codes)
    whole = pa.array(np.full(n, ""), pa.string())
    for code in np.unique(codes).tolist():
        rows = codes == code
        pieces: list[Any] = []
        for text, name, _, _ in string.Formatter().parse(sentences()[code]):
            if text:
                pieces.append(pa.scalar(text))
            if name:
                value = args[name]
                array = pa.array(value[rows]) if isinstance(value, np.ndarray) else pa.scalar(value)
                pieces.append(array.cast(pa.string()))
        told = pc.binary_join_element_wise(*pieces, pa.scalar(""))
        if isinstance(told, pa.Scalar):
            told = pa.repeat(told, int(rows.sum()))
        whole = pc.replace_with_mask(whole, pa.array(rows), told)
    return whole
