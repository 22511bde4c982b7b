"""Boxes that cannot be meant: outside, tiny, huge, very long, drawn twice, or with two classes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from curate.check import Batches, Check, build_findings, build_statistics
from curate.checks.boxes import overlapping_pairs
from curate.checks.emit import Fitted, score_by_label, summarize
from curate.checks.pictures import gather
from curate.statistics.intervals import wilson

NAME = "box_sanity"
ISSUES = (
    "invalid_box",
    "box_outside",
    "tiny_box",
    "extreme_aspect_box",
    "huge_box",
    "duplicate_box",
    "conflicting_box",
)
_MOST_ASPECT = 1e9  # of a side that is all but zero: a number that JSON can hold
COLUMNS = ("label_id", "sample_id", "task", "label", "bbox", "annotator", "width_px", "height_px")

Floats = npt.NDArray[np.float64]
Rows = list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class BoxSanityParams:
    """From where on a box is worth a finding; how bad it is says the risk, what follows says the policy.

    Attributes:
        outside_tolerance_px: rounding that may stand over the edge of the image.
        tiny_px: a shorter side of fewer pixels.
        huge_share: of the image's area.
        extreme_aspect: longer by shorter side, in pixels.
        same_iou: two boxes with this overlap are drawn around one thing.
    """

    outside_tolerance_px: float = 1.0
    tiny_px: float = 4.0
    huge_share: float = 0.98
    extreme_aspect: float = 15.0
    same_iou: float = 0.9


def fit(batches: Batches, params: BoxSanityParams) -> Fitted:
    """Look at every box, alone and beside the others of its image."""
    table = gather(batches, COLUMNS)
    if table is not None:
        table = table.filter(pc.is_valid(table["bbox"])).sort_by("label_id").combine_chunks()
    if table is None or not table.num_rows:
        row = {"name": "share_with_finding", "n": 0, "outcome": "insufficient data", "detail": {"why": "no box"}}
        return Fitted(build_findings(NAME, []), build_statistics(NAME, [row]))
    boxes = _boxes(table)
    valid = np.asarray(np.isfinite(boxes).all(axis=1) & (np.nan_to_num(boxes[:, 2:]) > 0).all(axis=1), dtype=bool)
    size = np.stack([_pixels(table, "width_px"), _pixels(table, "height_px")], axis=1)
    outside = _outside_share(boxes, valid)
    is_gone = np.asarray(valid & (outside >= 1), dtype=bool)
    rows = _invalid(table, boxes, valid, is_gone)
    usable = valid & ~is_gone
    rows += _shapes(table, boxes, size, usable, outside, params)
    pairs, is_complete = _pairs(table, boxes, usable, params)
    return Fitted(build_findings(NAME, rows + pairs), _statistics(rows + pairs, table.num_rows, is_complete))


def _boxes(table: pa.Table) -> Floats:
    """Return the boxes as shape (N, 4); a null coordinate is NaN."""
    flat = pc.list_flatten(table["bbox"])
    return np.asarray(flat.to_numpy(zero_copy_only=False), dtype=np.float64).reshape(-1, 4)


def _pixels(table: pa.Table, name: str) -> Floats:
    return np.asarray(pc.cast(table[name], pa.float64()).to_numpy(zero_copy_only=False), dtype=np.float64)


def _outside_share(boxes: Floats, valid: npt.NDArray[np.bool_]) -> Floats:
    """Return the share of each box's area that is outside the image; 0 where the box is not valid."""
    safe = np.where(valid[:, None], boxes, [0.0, 0.0, 1.0, 1.0])
    start, end = safe[:, :2], safe[:, :2] + safe[:, 2:]
    with np.errstate(over="ignore", invalid="ignore"):
        inside = np.clip(np.minimum(end, 1.0) - np.maximum(start, 0.0), 0.0, None) / safe[:, 2:]
        share = 1 - np.clip(inside, 0.0, 1.0).prod(axis=1)
    return np.asarray(np.where(valid, np.nan_to_num(share, nan=1.0), 0.0), dtype=np.float64)


def _row(table: pa.Table, row: int, issue: str, risk: float, code: str, **args: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON
    return {
        "issue": issue,
        "sample_id": table["sample_id"][row].as_py(),
        "label_id": table["label_id"][row].as_py(),
        "risk": min(1.0, max(0.0, float(risk))),
        "reason_code": code,
        "reason_args": args,
    }


def _invalid(table: pa.Table, boxes: Floats, valid: npt.NDArray[np.bool_], is_gone: npt.NDArray[np.bool_]) -> Rows:
    rows = []
    for row in np.flatnonzero(~valid | is_gone):
        finite = bool(np.isfinite(boxes[row]).all())
        code = "box_outside_image" if is_gone[row] else ("box_without_area" if finite else "box_not_finite")
        shown = [float(v) if np.isfinite(v) else str(v) for v in boxes[row]]
        rows.append({**_row(table, int(row), "invalid_box", 1.0, code, bbox=shown), "flagged": True})
    return rows


def _shapes(
    table: pa.Table,
    boxes: Floats,
    size: Floats,
    usable: npt.NDArray[np.bool_],
    outside: Floats,
    params: BoxSanityParams,
) -> Rows:
    """Return findings on single boxes. Pixel bounds are judged only where the image's size is known."""
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        sides = boxes[:, 2:] * size
        short, long = sides.min(axis=1), sides.max(axis=1)
        aspect = np.minimum(long / short, _MOST_ASPECT)
        area = boxes[:, 2] * boxes[:, 3]
        over = np.maximum(-boxes[:, :2], boxes[:, :2] + boxes[:, 2:] - 1).max(axis=1)
        over_px = np.maximum(-boxes[:, :2], boxes[:, :2] + boxes[:, 2:] - 1) * size
    stands_out = np.where(
        np.isnan(size).any(axis=1), over > 1e-6, over_px.max(axis=1) > params.outside_tolerance_px
    )
    rows = []
    for row in np.flatnonzero(usable & stands_out):
        share = float(outside[row])
        rows.append(
            _row(table, int(row), "box_outside", share, "box_partly_outside", share_outside=round(share, 4))
        )
    for row in np.flatnonzero(usable & (short < params.tiny_px)):
        risk, px = 1 - short[row] / params.tiny_px, round(float(short[row]), 2)
        rows.append(_row(table, int(row), "tiny_box", risk, "tiny_box", short_side_px=px))
    for row in np.flatnonzero(usable & (aspect > params.extreme_aspect)):
        risk, ratio = 1 - params.extreme_aspect / aspect[row], round(float(aspect[row]), 2)
        rows.append(_row(table, int(row), "extreme_aspect_box", risk, "extreme_aspect_box", aspect_ratio=ratio))
    for row in np.flatnonzero(usable & (area >= params.huge_share)):
        share = float(min(1.0, area[row]))
        rows.append(_row(table, int(row), "huge_box", 0.5, "huge_box", share_of_image=round(share, 4)))
    return rows


def _pairs(
    table: pa.Table, boxes: Floats, usable: npt.NDArray[np.bool_], params: BoxSanityParams
) -> tuple[Rows, bool]:
    """Return duplicates (same class) and conflicts (two classes) among the boxes of one annotator and task.

    Of duplicates the box with the smallest id stays, and each of the others repeats one that stays; several annotators
    that agree are no duplicates.
    """
    keep = np.flatnonzero(usable)
    parts = [table[name].take(pa.array(keep)).to_pylist() for name in ("sample_id", "task", "annotator")]
    scene = np.unique(
        np.asarray(["\0".join(map(repr, key)) for key in zip(*parts, strict=True)]), return_inverse=True
    )[1]
    left, right, iou, is_complete = overlapping_pairs(scene.astype(np.int64), boxes[keep], params.same_iou)
    labels, ids = table["label"].to_pylist(), table["label_id"].to_pylist()
    twice: dict[int, tuple[float, int]] = {}
    torn: dict[int, tuple[float, int]] = {}
    a, b = np.sort(np.stack([keep[left], keep[right]]), axis=0)  # rows are sorted by label id
    for at in np.lexsort((a, b)).tolist():
        low, high, overlap = int(a[at]), int(b[at]), float(iou[at])
        best = (overlap, -low)
        if labels[low] != labels[high]:
            torn[high] = max(torn.get(high, best), best)
            torn[low] = max(torn.get(low, (0.0, 0)), (overlap, -high))
        elif low not in twice:  # what leaves itself is no reason for another one to leave
            twice[high] = max(twice.get(high, best), best)
    rows = []
    for row, (overlap, other) in sorted(twice.items()):
        args = {"kept": ids[-other], "iou": round(overlap, 4)}
        rows.append({**_row(table, row, "duplicate_box", overlap, "duplicate_box", **args), "flagged": True})
    for row, (overlap, other) in sorted(torn.items()):
        args = {"label": labels[row], "other_label": labels[-other], "iou": round(overlap, 4)}
        rows.append(_row(table, row, "conflicting_box", overlap / 2 + 0.25, "conflicting_box", **args))
    return rows, is_complete


def _statistics(rows: Rows, n: int, is_complete: bool) -> pa.Table:  # noqa: FBT001 - a fact that is passed on
    statistics = []
    for issue in (None, *ISSUES):
        hits = {row["label_id"] for row in rows if issue in (None, row["issue"])}
        low, high = wilson(len(hits), n)
        group = f"issue={issue}" if issue else None
        name: dict[str, Any] = {"name": "share_with_finding", "group": group}
        statistics.append({**name, "value": len(hits) / n, "low": low, "high": high, "n": n})
    if not is_complete:
        statistics[0] |= {"outcome": "errored", "detail": {"why": "an image with too many boxes to compare"}}
    return build_statistics(NAME, statistics)


CHECK = Check(
    name=NAME,
    version=2,
    view="labels",
    needs=COLUMNS,
    scope="sample",
    issues=ISSUES,
    statistics=("share_with_finding",),
    params=BoxSanityParams(),
    fit=fit,
    score=score_by_label,
    summarize=summarize,
)
