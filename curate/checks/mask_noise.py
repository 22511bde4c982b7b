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
from curate.checks.emit import Fitted, score_by_label, summarize
from curate.checks.masks import mask_shape
from curate.checks.pictures import gather
from curate.ingest.rle import decode_mask
from curate.statistics.intervals import wilson
from curate.teachers.regions.answers import Answer
from curate.teachers.regions.canvas import NONE, Bools, Ids
from curate.teachers.regions.doubt import SHARE, doubt_to_json, pixels_in_doubt
from curate.teachers.regions.found import RegionFound, issues_of
from curate.teachers.regions.judge import ISSUES, Judged, Region, Source, judge

NAME = "mask_noise"
COLUMNS = ("label_id", "sample_id", "task", "label", "mask")
MAX_PIXELS = 100_000_000
Rows = list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class MaskNoiseParams:
    """From where on a region is worth a finding.

    Attributes:
        min_risk: findings below are left out.
    """

    min_risk: float = 0.1


@dataclass(frozen=True, slots=True)
class _Picture:
    """The labels of one image and the teachers' masks of it, as rows of the view; sorted by label id."""

    rows: Rows
    teachers: tuple[Rows, ...]  # empty where a teacher has no answer


def fit(batches: Batches, params: MaskNoiseParams) -> Fitted:
    """Judge every image that a teacher has answered for, in two passes: what is usual, then what is not."""
    parts = list(batches)
    columns = sorted(one for one in (parts[0].schema.names if parts else []) if one.startswith(schema.MASKS_PREFIX))
    table = gather(parts, [*COLUMNS, *columns])
    pictures = _pictures(table, columns) if table is not None else {}
    if not pictures:
        row = {"name": "share_with_finding", "n": 0, "outcome": "insufficient data", "detail": {"why": "no mask"}}
        return Fitted(build_findings(NAME, []), build_statistics(NAME, [row]))
    names = _class_names(pictures)
    judged = _judged(pictures, [one.removeprefix(schema.MASKS_PREFIX) for one in columns], names)
    rows: Rows = []
    for key, picture in pictures.items():
        rows += _findings(picture, judged.regions[key], names, params)
    n_masks = sum(len(picture.rows) for picture in pictures.values())
    return Fitted(
        build_findings(NAME, rows),
        build_statistics(NAME, [*_statistics(rows, n_masks), *_teachers(judged, columns)]),
    )


def _pictures(table: pa.Table, columns: Sequence[str]) -> dict[str, _Picture]:
    """Return sample id -> what is known of it, where masks can be read and a teacher has answered."""
    table = table.filter(pc.and_(pc.equal(table["task"], "segmentation"), pc.is_valid(table["mask"])))
    by_sample: dict[str, Rows] = {}
    for row in table.sort_by("label_id").to_pylist():
        by_sample.setdefault(row["sample_id"], []).append(row)
    found = {}
    for sample, rows in sorted(by_sample.items()):
        good = [row for row in rows if _is_readable(row["mask"])]
        answers = [next((row[name] for row in rows if row[name] is not None), None) for name in columns]
        seen = [[one for one in answer or () if _is_readable(one["mask"])] for answer in answers]
        sizes = {(row["mask"]["height_px"], row["mask"]["width_px"]) for row in good}
        if len(sizes) == 1 and any(seen):
            found[sample] = _Picture(good, tuple(seen))
    return found


def _is_readable(mask: dict[str, Any] | None) -> bool:
    """Return whether the runs fill the mask; mask_sanity says so of those that do not."""
    if mask is None or mask["counts"] is None or not mask["height_px"] or not mask["width_px"]:
        return False
    if mask["height_px"] * mask["width_px"] > MAX_PIXELS:
        return False
    try:
        mask_shape(mask["counts"], mask["height_px"], mask["width_px"])
    except ValueError:
        return False
    return True


def _class_names(pictures: Mapping[str, _Picture]) -> tuple[str, ...]:
    given = {row["label"] for picture in pictures.values() for row in picture.rows}
    seen = {one["label"] for picture in pictures.values() for rows in picture.teachers for one in rows}
    return tuple(sorted(given | seen))


def _drawn(rows: Rows, names: Sequence[str]) -> Ids:
    """Return (H, W) class numbers, NONE where no mask is; of two masks on a pixel the class that comes first stays."""
    size = (rows[0]["mask"]["height_px"], rows[0]["mask"]["width_px"])
    ids = np.full(size, NONE, dtype=np.int32)
    for row in sorted(rows, key=lambda one: str(one["label"]), reverse=True):
        mask = row["mask"]
        if (mask["height_px"], mask["width_px"]) == size:
            ids[decode_mask(mask).astype(bool)] = names.index(row["label"])
    return ids


def _judged(pictures: Mapping[str, _Picture], teachers: Sequence[str], names: Sequence[str]) -> Judged:
    def load(key: str) -> tuple[Ids, list[Answer]]:
        label = _drawn(pictures[key].rows, names)
        nothing = np.full(label.shape, NONE, dtype=np.int32)  # a teacher that has no answer prefers no class
        said = [_drawn(rows, names) if rows else nothing for rows in pictures[key].teachers]
        return label, [
            Answer(len(names), codes=codes, source=f"the teacher {name}")
            for name, codes in zip(teachers, said, strict=True)
        ]

    return judge(Source(sorted(pictures), list(teachers), len(names), load))


def _teachers(judged: Judged, columns: Sequence[str]) -> Rows:
    """Return a weight for each teacher, and the noise rate that they were weighed with."""
    found: Rows = []
    for name, weight in zip(columns, judged.pool.large.tolist(), strict=True):
        guard = judged.pool.guards[name.removeprefix(schema.MASKS_PREFIX)]
        group = f"teacher={name.removeprefix(schema.MASKS_PREFIX)}"
        found.append({"name": "teacher_weight", "group": group, "value": weight, "detail": {"guard": guard.why}})
    return [*found, {"name": "noise_rate", "value": judged.pool.noise_rate, "detail": {"of": "regions, as fitted"}}]


def _findings(
    picture: _Picture, regions: Sequence[Region], names: Sequence[str], params: MaskNoiseParams
) -> Iterator[dict[str, Any]]:
    """Yield the worst region of each issue and label; a missing region stands at the label that covers it."""
    home = {row["label_id"]: row for row in picture.rows}
    n_teachers = sum(bool(one) for one in picture.teachers)
    size = (picture.rows[0]["mask"]["height_px"], picture.rows[0]["mask"]["width_px"])
    worst: dict[tuple[str, str], RegionFound] = {}
    ids = _drawn(picture.rows, names)
    doubt: dict[tuple[str, str], Bools] = {}  # issue and label -> pixels of its flagged regions
    for region in regions:
        found = list(issues_of(region, names, n_teachers, float(np.hypot(*size)), params.min_risk))
        own = _label_of(picture, region, names[region.class_id]) if found else ""
        for one in found:
            key = (one.issue, own)
            if one.flagged:
                doubt[key] = doubt.get(key, False) | pixels_in_doubt(ids, region, one.issue)
            if key not in worst or (-one.risk, region.bbox_px) < (-worst[key].risk, worst[key].region.bbox_px):
                worst[key] = one
    for (issue, own), one in sorted(worst.items()):
        row = home[own]
        sides = (row["mask"]["width_px"], row["mask"]["height_px"])
        yield {
            "issue": f"region_{issue}",
            "sample_id": row["sample_id"],
            "label_id": row["label_id"],
            "risk": min(1.0, one.risk),
            "flagged": one.flagged,
            "suggested_label": names[one.suggested] if one.suggested != NONE else None,
            "suggested_bbox": [v / side for v, side in zip(one.region.bbox_px, sides * 2, strict=True)],
            "reason_code": one.code,
            "reason_args": {**one.args, **_shapes(one), **_doubt(doubt, issue, row)},
        }


def _doubt(doubt: Mapping[tuple[str, str], Bools], issue: str, row: dict[str, Any]) -> dict[str, Any]:
    """Return which pixels a finding puts in doubt, and how much of the label all its findings do together."""
    own = {key: pixels for key, pixels in doubt.items() if key[1] == row["label_id"]}
    if (issue, row["label_id"]) not in own:
        return {}
    label = decode_mask(row["mask"]).astype(np.bool_)
    told = doubt_to_json(own[issue, row["label_id"]], label)
    return told | {SHARE: doubt_to_json(np.any(list(own.values()), axis=0), label)[SHARE]}


def _label_of(picture: _Picture, region: Region, name: str) -> str:
    """Return the label of a class that a region is of: where there are several, the one that fills its box most."""
    rows = sorted((row for row in picture.rows if row["label"] == name), key=lambda row: str(row["label_id"]))
    if len(rows) == 1:
        return str(rows[0]["label_id"])
    x, y, w, h = (int(v) for v in region.bbox_px)
    filled = [int(decode_mask(row["mask"])[y : y + h, x : x + w].sum()) for row in rows]
    return str(rows[int(np.argmax(filled))]["label_id"])


def _shapes(one: RegionFound) -> dict[str, Any]:
    """Return where the label has the region and where teachers see it, as far as the issue is about that."""
    seen = one.region.seen if one.issue in {"missing", "boundary"} else None
    return {
        name: shape.to_json() for name, shape in (("drawn", one.region.drawn), ("seen", seen)) if shape is not None
    }


def _statistics(rows: Rows, n_masks: int) -> Rows:
    found: Rows = []
    for issue in (None, *(f"region_{one}" for one in ISSUES)):
        hits = {row["label_id"] for row in rows if row["flagged"] and issue in (None, row["issue"])}
        low, high = wilson(len(hits), n_masks)
        share = {"value": len(hits) / n_masks, "low": low, "high": high, "n": n_masks}
        found.append({"name": "share_with_finding", "group": f"issue={issue}" if issue else None, **share})
    return found


CHECK = Check(
    name=NAME,
    version=4,
    view="labels",
    needs=(*COLUMNS, "masks_*"),
    scope="dataset",
    issues=tuple(f"region_{one}" for one in ISSUES),
    params=MaskNoiseParams(),
    fit=fit,
    score=score_by_label,
    summarize=summarize,
)
