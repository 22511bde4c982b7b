"""Findings that were made while fitting, handed out batch by batch; statistics handed out at the end."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc


@dataclass(frozen=True, slots=True)
class Fitted:
    """What a check over the whole found: `schema.FINDINGS` and `schema.STATISTICS`."""

    findings: pa.Table
    statistics: pa.Table


def score_by_sample(batch: pa.RecordBatch, state: Fitted, params: Any) -> pa.Table:  # noqa: ANN401, ARG001 - the shape of Check.score
    """Return the findings about the samples of a batch of the samples view."""
    return state.findings.filter(pc.is_in(state.findings["sample_id"], value_set=batch["sample_id"]))


def score_by_label(batch: pa.RecordBatch, state: Fitted, params: Any) -> pa.Table:  # noqa: ANN401, ARG001 - the shape of Check.score
    """Return the findings about the labels of a batch of the labels view."""
    return state.findings.filter(pc.is_in(state.findings["label_id"], value_set=batch["label_id"]))


def summarize(state: Fitted, params: Any) -> pa.Table:  # noqa: ANN401, ARG001 - the shape of Check.summarize
    """Return the statistics."""
    return state.statistics
