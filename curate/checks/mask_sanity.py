"""Masks and polygons that cannot be meant: empty, of another size, apart from their box, or all specks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate.check import Batches, Check, build_findings, build_statistics
from curate.checks.masks import mask_shape
from curate.statistics.intervals import wilson

NAME = "mask_sanity"
COLUMNS = ("label_id", "sample_id", "bbox", "mask", "polygons", "width_px", "height_px")
ISSUES = ("invalid_mask", "mask_box_mismatch", "mask_specks", "huge_mask")
Rows = list[dict[str, Any]]
Bounds = tuple[float, float, float, float]  # x, y, w, h relative to the image


@dataclass(frozen=True, slots=True)
class MaskSanityParams:
    """From where on a mask is worth a finding.

    Attributes:
        min_box_iou: overlap of the given box with the bounds of the mask.
        box_tolerance_px: difference of each edge that is rounding.
        speck_share: a part is a speck below this share of the mask's largest part ...
        speck_px: ... and at or below this many pixels.
        min_specks: fewer are what pencils leave behind.
        huge_share: of the image's area.
    """

    min_box_iou: float = 0.8
    box_tolerance_px: float = 2.0
    speck_share: float = 0.05
    speck_px: int = 16
    min_specks: int = 5
    huge_share: float = 0.98


@dataclass(slots=True)
class _Counts:
    n: int
    n_found: dict[str | None, int]


def fit(batches: Batches, params: MaskSanityParams) -> _Counts:
    """Count the masks and those with each issue."""
    counts = _Counts(0, dict.fromkeys((None, *ISSUES), 0))
    for batch in batches:
        counts.n += int(pc.sum(_has_mask(batch)).as_py() or 0)
        rows = _findings(batch, params)
        counts.n_found[None] += len({row["label_id"] for row in rows})
        for row in rows:
            counts.n_found[row["issue"]] += 1
    return counts


def score(batch: pa.RecordBatch, state: _Counts, params: MaskSanityParams) -> pa.Table:  # noqa: ARG001 - the shape of Check.score
    """Judge each mask by itself."""
    return build_findings(NAME, _findings(batch, params))


def summarize(state: _Counts, params: MaskSanityParams) -> pa.Table:  # noqa: ARG001 - the shape of Check.summarize
    """Return the share of masks with each issue."""
    if not state.n:
        row = {"name": "share_with_finding", "n": 0, "outcome": "insufficient data", "detail": {"why": "no mask"}}
        return build_statistics(NAME, [row])
    rows = []
    for issue, n_found in state.n_found.items():
        low, high = wilson(n_found, state.n)
        group = f"issue={issue}" if issue else None
        value = n_found / state.n
        row = {"name": "share_with_finding", "group": group, "value": value, "low": low, "high": high, "n": state.n}
        rows.append(row)
    return build_statistics(NAME, rows)


def _has_mask(batch: pa.RecordBatch) -> pa.Array:
    return pc.or_(batch["mask"].is_valid(), batch["polygons"].is_valid())


def _findings(batch: pa.RecordBatch, params: MaskSanityParams) -> Rows:
    rows: Rows = []
    for row in pa.Table.from_batches([batch.select(list(COLUMNS))]).filter(_has_mask(batch)).to_pylist():
        found = _of_mask(row, params) if row["mask"] is not None else _of_polygons(row, params)
        about = {"sample_id": row["sample_id"], "label_id": row["label_id"]}
        rows += [about | item for item in found]
    return rows


def _finding(issue: str, risk: float, code: str, **args: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON
    flagged = {"flagged": True} if issue == "invalid_mask" else {}
    return {"issue": issue, "risk": min(1.0, max(0.0, risk)), "reason_code": code, "reason_args": args, **flagged}


def _of_mask(row: dict[str, Any], params: MaskSanityParams) -> Rows:
    mask = row["mask"]
    height, width = mask["height_px"] or 0, mask["width_px"] or 0
    if mask["counts"] is None:
        return [_finding("invalid_mask", 1.0, "mask_unreadable", why="there are no run lengths")]
    try:
        shape = mask_shape(mask["counts"], height, width)
    except ValueError as error:
        return [_finding("invalid_mask", 1.0, "mask_unreadable", why=str(error))]
    if shape.bounds_px is None:
        return [_finding("invalid_mask", 1.0, "mask_empty")]
    if None not in (row["height_px"], row["width_px"]) and (height, width) != (row["height_px"], row["width_px"]):
        args = {"mask_px": [width, height], "image_px": [row["width_px"], row["height_px"]]}
        return [_finding("invalid_mask", 1.0, "mask_of_another_size", **args)]
    rows = []
    parts = shape.part_areas_px
    n_specks = int(((parts <= params.speck_px) & (parts < params.speck_share * parts[0])).sum())
    n_specks = len(parts) if int(parts[0]) <= params.speck_px else n_specks
    if n_specks >= params.min_specks:
        rows.append(
            _finding("mask_specks", n_specks / len(parts), "mask_specks", n_specks=n_specks, n_parts=len(parts))
        )
    x, y, w, h = shape.bounds_px
    bounds = (x / width, y / height, w / width, h / height)
    return (
        rows
        + _beside_box(row["bbox"], bounds, (width, height), params)
        + _huge(shape.area_px / (width * height), params)
    )


def _of_polygons(row: dict[str, Any], params: MaskSanityParams) -> Rows:
    rings = [ring for ring in row["polygons"] if ring]
    if not rings:
        return [_finding("invalid_mask", 1.0, "mask_empty")]
    if any(len(ring) % 2 or len(ring) < 6 for ring in rings):
        return [_finding("invalid_mask", 1.0, "polygon_too_short", n_rings=len(rings))]
    points = [np.asarray(ring, dtype=np.float64).reshape(-1, 2) for ring in rings]
    joined = np.concatenate(points)
    if not np.isfinite(joined).all():
        return [_finding("invalid_mask", 1.0, "polygon_not_finite")]
    area = sum(_ring_area(ring) for ring in points)
    if area <= 0:
        return [_finding("invalid_mask", 1.0, "mask_empty")]
    low, high = joined.min(axis=0), joined.max(axis=0)
    bounds = (float(low[0]), float(low[1]), float(high[0] - low[0]), float(high[1] - low[1]))
    size = (row["width_px"] or 1, row["height_px"] or 1)
    return _beside_box(row["bbox"], bounds, size, params) + _huge(area, params)


def _ring_area(ring: Any) -> float:  # noqa: ANN401 - (N, 2) floats
    x, y = ring[:, 0], ring[:, 1]
    return abs(float(x @ np.roll(y, -1) - y @ np.roll(x, -1))) / 2


def _huge(share: float, params: MaskSanityParams) -> Rows:
    if share < params.huge_share:
        return []
    return [_finding("huge_mask", 0.5, "huge_mask", share_of_image=round(min(1.0, share), 4))]


def _beside_box(box: list[float] | None, bounds: Bounds, size: tuple[int, int], params: MaskSanityParams) -> Rows:
    """Return a finding where the given box is not about the bounds of the mask; odd boxes are box_sanity's."""
    if box is None or any(value is None or not np.isfinite(value) for value in box) or min(box[2:]) <= 0:
        return []
    edges = [(box[0], bounds[0]), (box[1], bounds[1]), (box[0] + box[2], bounds[0] + bounds[2])]
    edges.append((box[1] + box[3], bounds[1] + bounds[3]))
    apart = [abs(a - b) * side for (a, b), side in zip(edges, (*size, *size), strict=True)]
    across = max(0.0, min(edges[2]) - max(edges[0]))
    down = max(0.0, min(edges[3]) - max(edges[1]))
    union = box[2] * box[3] + bounds[2] * bounds[3] - across * down
    iou = min(1.0, across * down / union) if union > 0 else 0.0
    if max(apart) <= params.box_tolerance_px or iou >= params.min_box_iou:
        return []
    return [_finding("mask_box_mismatch", 1 - iou, "mask_box_mismatch", iou=round(iou, 4))]


CHECK = Check(
    name=NAME,
    version=1,
    view="labels",
    needs=COLUMNS,
    scope="row",
    issues=ISSUES,
    statistics=("share_with_finding",),
    params=MaskSanityParams(),
    fit=fit,
    score=score,
    summarize=summarize,
)
