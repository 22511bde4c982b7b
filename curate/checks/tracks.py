"""Tracks in the labels view: boxes with an id and a frame, teachers' tracks beside them, findings about both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate import schema
from curate.check import Batches, build_findings, build_statistics
from curate.checks.emit import Fitted
from curate.checks.pictures import gather
from curate.checks.track_places import MISSING, error_of, homes, missing_places
from curate.statistics.intervals import wilson
from curate.teachers.tracks.boxes import Bools, Floats, TrackBoxes, track_boxes
from curate.teachers.tracks.found import ISSUES, Found
from curate.teachers.tracks.partners import Partners, match
from curate.teachers.tracks.searches import search

LABEL_ISSUES = tuple(f"track_{one}" for one in ISSUES)
TRACK_ISSUES = (*LABEL_ISSUES, MISSING)
STATISTICS = ("n_tracks", "n_missing", "share_with_finding", "share_seen")
COLUMNS = ("label_id", "sample_id", "label", "bbox", "track_id", "frame", "width_px", "height_px")
SEQUENCE = "group_video"  # optional: without it, all frames are one sequence
FLAGS = "flags"  # optional: what the source says of a label
IGNORED = "ignored"  # a flag: the source says not to consider the box; it counts as context and is not judged


@dataclass(frozen=True, slots=True)
class TrackParams:
    """From where on something odd about a track is worth a finding.

    Attributes:
        min_risk: findings below are left out.
    """

    min_risk: float = 0.1


def judge(name: str, batches: Batches, params: TrackParams, *, with_teachers: bool) -> Fitted:
    """Look at every sequence as a whole, over all batches; `name` is that of the check."""
    parts = list(batches)
    names = parts[0].schema.names if parts else []
    teachers = sorted(one for one in names if one.startswith(schema.TRACKS_PREFIX)) if with_teachers else []
    table = gather(parts, [*COLUMNS, *(one for one in (SEQUENCE, FLAGS) if one in names), *teachers])
    if table is not None:
        table = table.filter(pc.and_(pc.is_valid(table["track_id"]), pc.is_valid(table["frame"]))).combine_chunks()
    if table is None or not table.num_rows:
        row = {"name": "share_with_finding", "n": 0, "outcome": "insufficient data", "detail": {"why": "no track"}}
        return Fitted(build_findings(name, []), build_statistics(name, [row]))
    boxes = _boxes(table)
    partners = [_partners(table, boxes, column) for column in teachers]
    ignored = _ignored(table)
    judged = ~np.asarray(ignored, dtype=np.bool_)[boxes.row]
    found = [one for one in search(boxes, partners) if one.risk >= params.min_risk]
    found = [one for one in found if not ignored[boxes.row[one.box if one.box >= 0 else one.track]]]
    at = homes(table, boxes)
    missing, handed, samples = missing_places(name, boxes, found, at, _sizes(table), params.min_risk)
    rows = [_row(table, boxes, one, samples.get(error_of(boxes, one), ())) for one in found if one.box >= 0]
    findings = pa.concat_tables([build_findings(name, rows), missing])
    beside = pa.array([*(row["label_id"] for row in rows), *handed], pa.string())
    return Fitted(findings, build_statistics(name, _statistics(findings, boxes, partners, judged)), beside)


def _sequences(table: pa.Table) -> list[str]:
    if SEQUENCE not in table.column_names:
        return [""] * table.num_rows
    return ["" if one is None else f"={one}" for one in table[SEQUENCE].to_pylist()]


def _ignored(table: pa.Table) -> list[bool]:
    if FLAGS not in table.column_names:
        return [False] * table.num_rows
    return [IGNORED in (one or ()) for one in table[FLAGS].to_pylist()]


def _sizes(table: pa.Table) -> Floats:
    """Return (N, 4) pixels of the image's sides, 1 where they are not known."""
    sides = [
        pc.cast(table[name], pa.float64()).to_numpy(zero_copy_only=False) for name in ("width_px", "height_px")
    ]
    sizes = np.nan_to_num(np.stack([*sides, *sides], axis=1).astype(np.float64), nan=1.0)
    return np.where(sizes > 0, sizes, 1.0)


def _boxes(table: pa.Table) -> TrackBoxes:
    nothing = [float("nan")] * 4
    given = np.asarray([box or nothing for box in table["bbox"].to_pylist()], dtype=np.float64).reshape(-1, 4)
    return track_boxes(
        _sequences(table),
        table["track_id"].to_pylist(),
        table["frame"].to_numpy().astype(np.int64),
        given * _sizes(table),
        table["label"].to_pylist(),
        tie=table["label_id"].to_pylist(),
    )


def _partners(table: pa.Table, boxes: TrackBoxes, column: str) -> Partners:
    """Return a teacher's tracks; a frame's boxes stand at one of its labels, whichever that is."""
    sequences, frames, sizes = _sequences(table), table["frame"].to_numpy().astype(np.int64), _sizes(table)
    rows = [(place, one) for place, seen in enumerate(table[column].to_pylist()) for one in seen or ()]
    at = np.asarray([place for place, _ in rows], dtype=np.int64)
    given = np.asarray([one["bbox"] for _, one in rows], dtype=np.float64).reshape(-1, 4)
    tracks = track_boxes(
        [sequences[place] for place in at],
        [one["track_id"] for _, one in rows],
        frames[at],
        given * sizes[at],
        [one["label"] or "" for _, one in rows],
        like=boxes,
    )
    return match(boxes, tracks, column.removeprefix(schema.TRACKS_PREFIX))


def _row(table: pa.Table, boxes: TrackBoxes, one: Found, missing: Sequence[str]) -> dict[str, Any]:
    """Return the finding at a label; `missing`: samples in which its track misses the box that it is about."""
    row = int(boxes.row[one.box])
    issue = f"track_{one.issue}"
    found: dict[str, Any] = {
        "issue": issue,
        "sample_id": table["sample_id"][row].as_py(),
        "label_id": table["label_id"][row].as_py(),
        "risk": one.risk,
        "flagged": one.flagged,
        "reason_code": one.code,
        "related_ids": sorted(set(missing)),
        "reason_args": {
            **one.args,
            **({"suggested_track": one.suggested_id} if one.suggested_id else {}),
            **({"n_places": len(set(missing))} if missing else {}),
        },
        "suggested_label": one.suggested_label,
    }
    if one.suggested_box is not None:
        sides = [table[name][row].as_py() or 1 for name in ("width_px", "height_px")]
        found["suggested_bbox"] = [float(v / side) for v, side in zip(one.suggested_box, sides * 2, strict=True)]
    return found


def _statistics(
    findings: pa.Table, boxes: TrackBoxes, partners: Sequence[Partners], judged: Bools
) -> list[dict[str, Any]]:
    n = boxes.n
    found: list[dict[str, Any]] = [{"name": "n_tracks", "value": float(len(np.unique(boxes.track))), "n": n}]
    flagged = findings.filter(findings["flagged"])
    about = list(zip(flagged["issue"].to_pylist(), flagged["label_id"].to_pylist(), strict=True))
    found.append({"name": "n_missing", "value": float(sum(what == MISSING for what, _ in about)), "n": n})
    n_judged = int(judged.sum())
    for issue in (None, *LABEL_ISSUES):
        hits = {label_id for what, label_id in about if issue in {None, what}} - {None}
        group = f"issue={issue}" if issue else None
        found.append({"name": "share_with_finding", "group": group, **_share(len(hits), n_judged)})
    for one in partners:
        share = _share(*one.seen(judged & boxes.usable))
        doubt = one.doubt(judged & boxes.usable)
        detail = {"warning": doubt.told} if doubt is not None else {}
        found.append({"name": "share_seen", "group": f"teacher={one.name}", "detail": detail, **share})
    return found


def _share(n_hits: int, n: int) -> dict[str, Any]:
    """Return a share with its 95 % interval (Wilson)."""
    if not n:
        return {"value": None, "n": 0, "outcome": "insufficient data"}
    low, high = wilson(n_hits, n)
    return {"value": n_hits / n, "low": low, "high": high, "n": n, "outcome": None}
