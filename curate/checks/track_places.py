"""Where tracks miss a box: a finding without a label for each place, in the frame that lacks it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from curate import schema
from curate.check import build_findings
from curate.teachers.tracks.boxes import Floats, TrackBoxes
from curate.teachers.tracks.found import SECOND, Found

MISSING = "track_missing"  # issue of a place where a track pauses, or where it should begin earlier or end later

Home = tuple[str, str, int]  # of a frame: a sample, a label and its row in the table
Error = tuple[object, ...]  # what the rows about one pause, or one end, have in common


def homes(table: pa.Table, boxes: TrackBoxes) -> dict[tuple[int, int], Home]:
    """Return (sequence, frame) → its sample, and a label there, with which its findings are handed out."""
    found: dict[tuple[int, int], Home] = {}
    samples, labels = table["sample_id"].to_pylist(), table["label_id"].to_pylist()
    for sequence, frame, row in zip(*(v.tolist() for v in (boxes.sequence, boxes.frame, boxes.row)), strict=True):
        one = (samples[row], labels[row], row)
        found[sequence, frame] = min(found.get((sequence, frame), one), one)
    return found


def missing_places(
    name: str,
    boxes: TrackBoxes,
    found: Sequence[Found],
    at: Mapping[tuple[int, int], Home],
    sizes: Floats,
    min_risk: float,
) -> tuple[pa.Table, list[str], dict[Error, list[str]]]:
    """Return the findings about missing boxes, labels to hand them out with, and the samples by error.

    Boxes are cut at the edges of the picture; one that is wholly outside is left out. The whole risk stands at the label
    beside, half of it here. The id of a finding holds the track, so that an image can miss several boxes.

    Args:
        name: of the check.
        boxes: the labels.
        found: everything that was found.
        at: see `homes`.
        sizes: (N, 4) pixels of the image's sides, by row of the table.
        min_risk: findings below are left out.
    """
    rows: list[dict[str, Any]] = []
    ids, beside = [], []
    samples: dict[Error, list[str]] = defaultdict(list)
    for one in found:
        if one.box >= 0 or one.suggested_box is None:
            continue
        sequence = int(boxes.sequence[one.track])
        sample, label, row = at[sequence, one.frame]
        bbox = _inside(one.suggested_box / sizes[row])
        risk = one.risk * SECOND if one.issue == "gap" else one.risk  # an end's places have this already
        if bbox is None or risk < min_risk:
            continue
        track, video = str(boxes.track_name[one.track]), boxes.sequences[sequence]
        ids.append(schema.stable_id("finding", name, MISSING, sample, video, track, str(one.frame)))
        beside.append(label)
        samples[error_of(boxes, one)].append(sample)
        made = {"issue": MISSING, "sample_id": sample, "risk": risk, "flagged": one.flagged}
        made |= {"suggested_label": boxes.labels[boxes.label[one.track]], "suggested_bbox": bbox}
        rows.append(made | {"reason_code": one.code, "reason_args": dict(one.args)})
    table = build_findings(name, rows)
    return table.set_column(0, schema.FINDINGS.field("finding_id"), pa.array(ids, pa.string())), beside, samples


def error_of(boxes: TrackBoxes, one: Found) -> Error:
    """Return what tells the error that a row about missing boxes belongs to from others."""
    home = one.box if one.box >= 0 else one.track
    frames = (one.args.get("frame_before"), one.args.get("frame"))
    return (one.issue, int(boxes.sequence[home]), one.args.get("track"), *frames)


def _inside(box: Floats) -> list[float] | None:
    """Return the part of a relative box that is in the picture, None where there is none."""
    low, high = np.clip(box[:2], 0.0, 1.0), np.clip(box[:2] + box[2:], 0.0, 1.0)
    if not np.isfinite(box).all() or not (high > low).all():
        return None
    return [*low.tolist(), *(high - low).tolist()]
