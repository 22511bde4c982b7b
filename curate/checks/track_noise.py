"""Tracks that teachers contradict: the same issues as by the labels alone, weighed with what trackers follow."""

from __future__ import annotations

from curate.check import Batches, Check
from curate.checks.emit import Fitted, score_by_label, summarize
from curate.checks.tracks import COLUMNS, STATISTICS, TRACK_ISSUES, TrackParams, judge

NAME = "track_noise"


def fit(batches: Batches, params: TrackParams) -> Fitted:
    """Look at every track beside those of the teachers, over all batches."""
    return judge(NAME, batches, params, with_teachers=True)


CHECK = Check(
    name=NAME,
    version=6,
    view="labels",
    needs=(*COLUMNS, "tracks_*"),
    scope="sequence",
    issues=TRACK_ISSUES,
    statistics=STATISTICS,
    params=TrackParams(),
    fit=fit,
    score=score_by_label,
    summarize=summarize,
)
