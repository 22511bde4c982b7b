"""Tracks that cannot be meant: a class that flips, an id twice in a frame, gaps, jumps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from curate.check import Batches, Check, build_findings, build_statistics
from curate.checks.emit import Fitted, score_by_label, summarize
from curate.checks.families import Ints
from curate.checks.pictures import gather
from curate.statistics.intervals import wilson

NAME = "track_sanity"
COLUMNS = ("label_id", "sample_id", "label", "bbox", "track_id", "frame", "width_px", "height_px")
SEQUENCE = "group_video"  # optional: without it, all frames are one sequence
ISSUES = ("track_class_flip", "track_duplicate_id", "track_gap", "track_jump")
Rows = list[dict[str, Any]]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class TrackSanityParams:
    """From where on a step of a track is worth a finding.

    Attributes:
        max_gap_frames: annotated frames of the sequence that a track may miss in between.
        max_jump_diagonals: how far a centre may move from frame to frame, in diagonals of its larger box.
    """

    max_gap_frames: int = 0
    max_jump_diagonals: float = 1.0


@dataclass(frozen=True, slots=True)
class _Tracks:
    """Labels with a track id and a frame, sorted by track, frame and label id."""

    table: pa.Table
    track: Ints
    frame: Ints  # rank among the annotated frames of its sequence
    box: Floats  # shape (N, 4) in pixels where the image's size is known, NaN without a box


def fit(batches: Batches, params: TrackSanityParams) -> Fitted:
    """Look at every track as a whole, over all batches."""
    parts = list(batches)
    columns = [*COLUMNS, *([SEQUENCE] if parts and SEQUENCE in parts[0].schema.names else [])]
    table = gather(parts, columns)
    tracks = _tracks(table) if table is not None else None
    if tracks is None or not tracks.table.num_rows:
        row = {"name": "share_with_finding", "n": 0, "outcome": "insufficient data", "detail": {"why": "no track"}}
        return Fitted(build_findings(NAME, []), build_statistics(NAME, [row]))
    rows = _flips(tracks) + _twice(tracks) + _steps(tracks, params)
    return Fitted(build_findings(NAME, rows), _statistics(rows, tracks))


def _numbers(keys: list[Any]) -> Ints:
    return np.unique(np.asarray([repr(key) for key in keys]), return_inverse=True)[1].astype(np.int64)


def _tracks(table: pa.Table) -> _Tracks | None:
    table = table.filter(pc.and_(pc.is_valid(table["track_id"]), pc.is_valid(table["frame"])))
    if not table.num_rows:
        return None
    table = table.sort_by("label_id").combine_chunks()
    names = table[SEQUENCE].to_pylist() if SEQUENCE in table.column_names else [None] * table.num_rows
    sequence = _numbers(names)
    track = _numbers(list(zip(names, table["track_id"].to_pylist(), strict=True)))
    number = np.asarray(table["frame"].to_numpy(), dtype=np.int64)
    frame = np.zeros(len(number), dtype=np.int64)
    for one in np.unique(sequence):
        own = sequence == one
        frame[own] = np.unique(number[own], return_inverse=True)[1]
    order = np.lexsort((np.arange(len(track)), frame, track))
    return _Tracks(table.take(pa.array(order)), track[order], frame[order], _pixel_boxes(table)[order])


def _pixel_boxes(table: pa.Table) -> Floats:
    nothing = [float("nan")] * 4
    boxes = np.asarray([box or nothing for box in table["bbox"].to_pylist()], dtype=np.float64).reshape(-1, 4)
    size = [pc.cast(table[name], pa.float64()).to_numpy(zero_copy_only=False) for name in ("width_px", "height_px")]
    scale = np.nan_to_num(np.stack([*size, *size], axis=1), nan=1.0)
    boxes = boxes * scale
    valid = np.isfinite(boxes).all(axis=1) & (boxes[:, 2] > 0) & (boxes[:, 3] > 0)
    return np.where(valid[:, None], boxes, np.nan)


def _row(tracks: _Tracks, row: int, issue: str, risk: float, **args: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON
    return {
        "issue": issue,
        "sample_id": tracks.table["sample_id"][row].as_py(),
        "label_id": tracks.table["label_id"][row].as_py(),
        "risk": min(1.0, max(0.0, float(risk))),
        "reason_code": issue,
        "reason_args": {"track": tracks.table["track_id"][row].as_py(), **args},
    }


def _flips(tracks: _Tracks) -> Rows:
    """Return a finding for each label that differs from what most of its track says; a tie is on all."""
    labels = np.asarray(tracks.table["label"].to_pylist(), dtype=object)
    names, code = np.unique(labels.astype(str), return_inverse=True)
    cells, inverse, counts = np.unique(tracks.track * len(names) + code, return_inverse=True, return_counts=True)
    most = np.zeros(int(tracks.track.max()) + 1, dtype=np.int64)
    np.maximum.at(most, cells // len(names), counts)
    n_winners = np.bincount((cells // len(names))[counts == most[cells // len(names)]], minlength=len(most))
    winner = np.zeros(len(most), dtype=np.int64)
    at_most = counts == most[cells // len(names)]
    winner[(cells // len(names))[at_most]] = (cells % len(names))[at_most]
    size = np.bincount(tracks.track)
    is_tied = n_winners[tracks.track] > 1
    rows = []
    for row in np.flatnonzero((counts[inverse] < most[tracks.track]) | is_tied):
        track = int(tracks.track[row])
        n_own, n_all = int(counts[inverse[row]]), int(size[track])
        found = _row(
            tracks, int(row), "track_class_flip", 1 - n_own / n_all, label=str(labels[row]), n=n_all, n_own=n_own
        )
        if not is_tied[row]:
            found |= {"suggested_label": str(names[winner[track]]), "suggested_prob": int(most[track]) / n_all}
        rows.append(found)
    return rows


def _twice(tracks: _Tracks) -> Rows:
    """Return a finding for each label that shares its track and its frame with another."""
    same = (tracks.track[1:] == tracks.track[:-1]) & (tracks.frame[1:] == tracks.frame[:-1])
    involved = np.concatenate([[False], same]) | np.concatenate([same, [False]])
    frames = tracks.table["frame"].to_pylist()
    return [
        {**_row(tracks, int(row), "track_duplicate_id", 1.0, frame=frames[row]), "flagged": True}
        for row in np.flatnonzero(involved)
    ]


def _steps(tracks: _Tracks, params: TrackSanityParams) -> Rows:
    """Return gaps and jumps, on the label after the step; ids that stand twice in a frame have no steps."""
    before, after = np.arange(len(tracks.track) - 1), np.arange(1, len(tracks.track))
    n_frames = tracks.frame[after] - tracks.frame[before]
    same = (tracks.track[after] == tracks.track[before]) & (n_frames > 0)
    before, after, n_frames = before[same], after[same], n_frames[same]
    rows = []
    for at in np.flatnonzero(n_frames - 1 > params.max_gap_frames):
        n_missing = int(n_frames[at]) - 1
        rows.append(_row(tracks, int(after[at]), "track_gap", 1 - 1 / (1 + n_missing), n_missing=n_missing))
    box = tracks.box
    centre = box[:, :2] + box[:, 2:] / 2
    diagonal = np.hypot(box[:, 2], box[:, 3])
    larger = np.maximum(diagonal[after], diagonal[before])
    moved = np.hypot(*(centre[after] - centre[before]).T) / larger / n_frames
    for at in np.flatnonzero(moved > params.max_jump_diagonals):
        risk, jump = 1 - params.max_jump_diagonals / moved[at] / 2, round(float(moved[at]), 2)
        rows.append(_row(tracks, int(after[at]), "track_jump", risk, diagonals=jump))
    return rows


def _statistics(rows: Rows, tracks: _Tracks) -> pa.Table:
    n = tracks.table.num_rows
    statistics: Rows = [{"name": "n_tracks", "value": float(len(np.unique(tracks.track))), "n": n}]
    for issue in (None, *ISSUES):
        hits = {row["label_id"] for row in rows if issue in (None, row["issue"])}
        low, high = wilson(len(hits), n)
        share = {"value": len(hits) / n, "low": low, "high": high, "n": n}
        statistics.append({"name": "share_with_finding", "group": f"issue={issue}" if issue else None, **share})
    return build_statistics(NAME, statistics)


CHECK = Check(
    name=NAME,
    version=1,
    view="labels",
    needs=COLUMNS,
    scope="sequence",
    params=TrackSanityParams(),
    fit=fit,
    score=score_by_label,
    summarize=summarize,
)
