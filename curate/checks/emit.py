"""Findings that were made while fitting, handed out batch by batch; statistics handed out at the end."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc


@dataclass(frozen=True, slots=True)
class Fitted:
    """What a check over the whole found: `schema.FINDINGS` and `schema.STATISTICS`.

    Attributes:
        findings: all of them.
        statistics: all of them.
        beside: for each finding the label with which it is handed out, its own where it has one; None = all have one.
    """

    findings: pa.Table
    statistics: pa.Table
    beside: pa.Array | None = None


def score_by_sample(batch: pa.RecordBatch, state: Fitted, params: Any) -> pa.Table:  # noqa: ANN401, ARG001 - the shape of Check.score
    """Return the findings about the samples of a batch of the samples view."""
    return state.findings.filter(pc.is_in(state.findings["sample_id"], value_set=batch["sample_id"]))


def score_by_label(batch: pa.RecordBatch, state: Fitted, params: Any) -> pa.Table:  # noqa: ANN401, ARG001 - the shape of Check.score
    """Return the findings about the labels of a batch of the labels view, or handed out with one of them."""
    label_ids = state.findings["label_id"] if state.beside is None else state.beside
    return state.findings.filter(pc.is_in(label_ids, value_set=batch["label_id"]))


def summarize(state: Fitted, params: Any) -> pa.Table:  # noqa: ANN401, ARG001 - the shape of Check.summarize
    """Return the statistics."""
    return state.statistics
