"""Flags against a reference label that the source happens to hold: evaluation only, no check ever reads it."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate import schema
from curate.check import build_statistics

MIN_WRONG = 5  # fewer wrong labels say nothing about recall


def against_truth(labels: pa.Table, findings: pa.Table) -> pa.Table:
    """Return precision, recall, F1 and average precision of the mislabel flags, with bootstrap intervals.

    Args:
        labels: `schema.LABELS`; rows with a `reference_label` are evaluated.
        findings: `schema.FINDINGS`; a label without a mislabel finding has risk 0.

    Returns:
        `schema.STATISTICS` of the check "evaluation"; empty where no reference is known.
    """
    from curate.teachers.evaluation import evaluate  # noqa: PLC0415 - needed only where a truth is known

    known = labels.filter(pc.is_valid(labels["reference_label"]))
    if not known.num_rows:
        return schema.empty(schema.STATISTICS)
    found = findings.filter(pc.equal(findings["issue"], "mislabel"))
    at = pc.index_in(known["label_id"], value_set=found["label_id"].combine_chunks())
    risk = pc.fill_null(found["risk"].take(at), 0.0).to_numpy().astype(np.float64)
    flagged = pc.fill_null(found["flagged"].take(at), False).to_numpy()  # noqa: FBT003 - pyarrow's fill value
    wrong = pc.not_equal(known["label"], known["reference_label"]).to_numpy()
    measured = evaluate(risk, np.asarray(flagged, bool), np.asarray(wrong, bool))
    outcome = "insufficient data" if measured.n_wrong < MIN_WRONG else None
    rows = [
        {
            "name": name,
            "value": value.value,
            "low": value.low,
            "high": value.high,
            "n": measured.n,
            "outcome": outcome,
        }
        for name, value in (
            ("precision", measured.precision),
            ("recall", measured.recall),
            ("f1", measured.f1),
            ("average_precision", measured.average_precision),
        )
    ]
    rows.append({"name": "n_wrong", "value": float(measured.n_wrong), "n": measured.n})
    return build_statistics("evaluation", rows)
