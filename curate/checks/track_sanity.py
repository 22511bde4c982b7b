"""Tracks that cannot be meant, by the labels alone: flips of class, an id twice in a frame, gaps, jumps, switches."""

from __future__ import annotations

from curate.check import Batches, Check
from curate.checks.emit import Fitted, score_by_label, summarize
from curate.checks.tracks import COLUMNS, STATISTICS, TRACK_ISSUES, TrackParams, judge

NAME = "track_sanity"


def fit(batches: Batches, params: TrackParams) -> Fitted:
    """Look at every track as a whole, over all batches."""
    return judge(NAME, batches, params, with_teachers=False)


CHECK = Check(
    name=NAME,
    version=6,
    view="labels",
    needs=COLUMNS,
    scope="sequence",
    issues=TRACK_ISSUES,
    statistics=STATISTICS,
    params=TrackParams(),
    fit=fit,
    score=score_by_label,
    summarize=summarize,
)
