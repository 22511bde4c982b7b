"""Masks that teachers contradict: regions of another class, spurious, missing, or with a boundary that is off."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate import schema
from curate.check import Batches, Check, build_findings, build_statistics
from curate.checks.emit import Fitted, score_by_sample, summarize
from curate.checks.pictures import gather
from curate.ingest.rle import decode_mask
from curate.statistics.intervals import wilson
from curate.teachers.regions.canvas import Ids
from curate.teachers.regions.doubt import doubt_to_json, pixels_in_doubt
from curate.teachers.regions.found import RegionFound, issues_of
from curate.teachers.regions.given import drawn, readable
from curate.teachers.regions.judge import judged, usual_noise
from curate.teachers.regions.region import ISSUES, Region

NAME = "mask_noise"
COLUMNS = ("sample_id", "given_masks", schema.REGIONS_COLUMN)
Rows = Sequence[Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class MaskNoiseParams:
    """From where on a region is worth a finding, and what is known of the teachers.

    Attributes:
        min_risk: findings below are left out.
        segmenters: (teacher, weight, why it was left out or "") of each that the regions were measured with.
        region_noise_rate: share of the regions whose label is wrong, as fitted with those weights.
    """

    min_risk: float = 0.1
    segmenters: tuple[tuple[str, float, str], ...] = ()
    region_noise_rate: float | None = None


@dataclass(frozen=True, slots=True)
class _Picture:
    """The masks of one image, those that can be drawn, and their classes as one picture."""

    sample_id: str
    masks: Rows
    names: tuple[str, ...]
    ids: Ids

    @classmethod
    def of(cls, sample_id: str, masks: Rows) -> _Picture | None:
        """Return what can be drawn; None without any."""
        good = readable(masks)
        names = tuple(sorted({one["label"] for one in good}))
        return cls(sample_id, good, names, drawn(good, names)) if good else None


def fit(batches: Batches, params: MaskNoiseParams) -> Fitted:
    """Judge the outline of every region by what is usual of all, and say what is found of each image."""
    table = gather(batches, COLUMNS)
    n_masks = pc.sum(pc.list_value_length(table["given_masks"])).as_py() if table is not None else 0
    if table is None or not n_masks:
        row = {"name": "share_with_finding", "n": 0, "outcome": "insufficient data", "detail": {"why": "no mask"}}
        return Fitted(build_findings(NAME, []), build_statistics(NAME, [row]))
    noise = usual_noise(table[schema.REGIONS_COLUMN])
    found = []
    for at in range(table.num_rows):
        (row,) = table.slice(at, 1).to_pylist()
        regions = judged([Region.of_row(one) for one in row[schema.REGIONS_COLUMN] or ()], noise)
        found.append(_findings(row["sample_id"], row["given_masks"], regions, params))
    findings = pa.concat_tables(found)
    statistics = [*_statistics(findings, n_masks), *_teachers(params)]
    return Fitted(findings, build_statistics(NAME, statistics))


def _findings(sample_id: str, masks: Rows, regions: Sequence[Region], params: MaskNoiseParams) -> pa.Table:
    """Return a finding for each flagged region and, where a label has none of an issue, for the worst one in doubt.

    A missing region stands at the label that covers it. The ids hold the place: a label can have several regions.
    """
    found = [one for region in regions for one in issues_of(region, params.min_risk)]
    picture = _Picture.of(sample_id, masks) if found else None
    chosen = list(_chosen(found, picture)) if picture is not None else []
    rows = [_row(one, own, picture) for one, own in chosen if picture is not None]
    table = build_findings(NAME, rows)
    ids = [
        schema.stable_id("finding", NAME, one.issue, sample_id, own["label_id"], *map(str, one.region.bbox_px))
        for one, own in chosen
    ]
    return table.set_column(0, schema.FINDINGS.field("finding_id"), pa.array(ids, pa.string()))


def _chosen(found: Sequence[RegionFound], picture: _Picture) -> Iterator[tuple[RegionFound, Mapping[str, Any]]]:
    worst: dict[tuple[str, str], tuple[RegionFound, Mapping[str, Any]]] = {}
    order = sorted(found, key=lambda one: (not one.flagged, -one.risk, one.region.bbox_px, one.region.area_px))
    for one in order:
        own = _label_of(picture, one.region)
        if own is None:
            continue
        key = (one.issue, own["label_id"])
        if one.flagged or key not in worst:
            yield one, own
        worst.setdefault(key, (one, own))


def _label_of(picture: _Picture, region: Region) -> Mapping[str, Any] | None:
    """Return the label of a class that a region is of: where there are several, the one that fills its box most."""
    rows = [row for row in picture.masks if row["label"] == region.label]
    if len(rows) < 2:
        return rows[0] if rows else None
    x, y, w, h = region.bbox_px
    filled = [int(decode_mask(row["mask"])[y : y + h, x : x + w].sum()) for row in rows]
    return rows[int(np.argmax(filled))]


def _row(one: RegionFound, own: Mapping[str, Any], picture: _Picture) -> dict[str, Any]:
    height, width = picture.ids.shape
    doubt = {}
    if one.flagged:
        pixels = pixels_in_doubt(picture.ids, one.region, picture.names.index(one.region.label), one.issue)
        doubt = doubt_to_json(pixels, decode_mask(own["mask"]).astype(np.bool_))
    return {
        "issue": f"region_{one.issue}",
        "sample_id": picture.sample_id,
        "label_id": own["label_id"],
        "risk": min(1.0, one.risk),
        "flagged": one.flagged,
        "suggested_label": one.suggested,
        "suggested_bbox": [v / side for v, side in zip(one.region.bbox_px, (width, height) * 2, strict=True)],
        "reason_code": one.code,
        "reason_args": {**one.args, **_shapes(one), **doubt},
    }


def _shapes(one: RegionFound) -> dict[str, Any]:
    """Return where the label has the region and where teachers see it, as far as the issue is about that."""
    seen = one.region.seen if one.issue in {"missing", "boundary"} else None
    return {
        name: shape.to_json() for name, shape in (("drawn", one.region.drawn), ("seen", seen)) if shape is not None
    }


def _statistics(findings: pa.Table, n_masks: int) -> Iterator[dict[str, Any]]:
    flagged = findings.filter(findings["flagged"])
    for issue in (None, *(f"region_{one}" for one in ISSUES)):
        own = flagged if issue is None else flagged.filter(pc.equal(flagged["issue"], issue))
        n_hits = pc.count_distinct(own["label_id"]).as_py()
        low, high = wilson(n_hits, n_masks)
        share = {"value": n_hits / n_masks, "low": low, "high": high, "n": n_masks}
        group = f"issue={issue}" if issue else None
        yield {"name": "share_with_finding", "group": group, **share, "detail": {"n_regions": own.num_rows}}


def _teachers(params: MaskNoiseParams) -> Iterator[dict[str, Any]]:
    """Yield a weight for each teacher, and the noise rate that they were weighed with."""
    for name, weight, why in params.segmenters:
        yield {"name": "teacher_weight", "group": f"teacher={name}", "value": weight, "detail": {"guard": why}}
    if params.region_noise_rate is not None:
        detail = {"of": "regions, as fitted"}
        yield {"name": "noise_rate", "value": params.region_noise_rate, "detail": detail}


CHECK = Check(
    name=NAME,
    version=5,
    view="regions",
    needs=COLUMNS,
    scope="dataset",
    issues=tuple(f"region_{one}" for one in ISSUES),
    statistics=(
        "share_with_finding",
        "teacher_weight",
        "noise_rate",
    ),
    params=MaskNoiseParams(),
    fit=fit,
    score=score_by_sample,
    summarize=summarize,
)
