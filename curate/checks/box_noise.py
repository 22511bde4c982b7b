"""Given boxes that detectors contradict, and places where they see a thing that nobody drew."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from curate import schema
from curate.check import Batches, Check, build_findings, build_statistics
from curate.checks.emit import Fitted, score_by_sample, summarize
from curate.teachers.boxes import arrange
from curate.teachers.boxes.from_view import BoxesRead, labels_in, read_boxes
from curate.teachers.boxes.judge import ISSUES, MISSING, Judged, judge
from curate.teachers.boxes.model import AT_LEAST, AT_LIMIT, BIASED, PLAIN, BoxModel, fit_boxes
from curate.teachers.boxes.sentences import Args, arguments, codes_of, row_arguments

NAME = "box_noise"
COLUMNS = ("sample_id", "given_boxes")
MIN_RISK = 0.5
INSUFFICIENT = "insufficient data"


@dataclass(frozen=True, slots=True)
class BoxNoiseParams:
    """What the check is told; part of the cache key.

    Attributes:
        classes: of the dataset; those that occur are added.
    """

    classes: tuple[str, ...] = ()


def fit(batches: Batches, params: BoxNoiseParams) -> Fitted:
    """Fit on images chosen by the hash of their ids, then judge all images, so many at once as memory holds."""
    parts = [batch.select(_columns(batch.schema.names)) for batch in batches]
    table = pa.Table.from_batches(parts) if parts else None
    if table is None or not table.num_rows:
        return Fitted(build_findings(NAME, []), build_statistics(NAME, _statistics(None, {}, 0)))
    names = _teachers(table.column_names)
    classes = tuple(sorted({*params.classes, *labels_in(table, names)})) or ("",)
    read = read_boxes(table, names, classes)
    chosen = arrange.fit_images(np.bincount(read.given.image, minlength=len(read.keys)), read.keys)
    own = arrange.of_images(read.given, read.found, chosen)
    model = fit_boxes(names, *own, len(chosen), len(classes))
    found: list[pa.Table] = []
    counts = np.zeros(1 + len(ISSUES), dtype=np.int64)
    for part in read.in_parts(len(classes)):
        judged = judge(model, part.given, part.found, part.crowds)
        counts += np.array([judged.missing_flagged.sum(), *judged.flagged.sum(axis=0)])
        found += _findings(judged, part, classes, len(model.kept))
    n_flagged = dict(zip((MISSING, *ISSUES), counts.tolist(), strict=True))
    rows = _statistics(model, n_flagged, len(read.given.image))
    return Fitted(pa.concat_tables(found), build_statistics(NAME, rows))


def _findings(judged: Judged, read: BoxesRead, classes: Sequence[str], n_teachers: int) -> list[pa.Table]:
    """Return a finding for each box that is flagged or in doubt, and for each place where one is missing."""
    rows: list[dict[str, Any]] = []
    for issue in ISSUES:
        args = arguments(judged, issue, read.given.label, read.label_ids, classes, n_teachers)
        rows += _of_given(judged, read, classes, issue, args)
    args = arguments(judged, MISSING, read.given.label, read.label_ids, classes, n_teachers)
    return [build_findings(NAME, rows), _missing(judged, read, classes, args)]


def _of_given(
    judged: Judged, read: BoxesRead, classes: Sequence[str], issue: str, args: Args
) -> list[dict[str, Any]]:
    place, evidence = ISSUES.index(issue), judged.evidence
    risk, flagged = judged.risk[:, place], judged.flagged[:, place]
    likeliest = judged.risk.argmax(axis=1) == place
    chosen = np.flatnonzero(flagged | (likeliest & (risk >= MIN_RISK)))
    codes = codes_of(judged, issue)
    rows = []
    for row in chosen.tolist():
        one: dict[str, Any] = {
            "issue": issue,
            "sample_id": read.sample_ids[read.given.image[row]],
            "label_id": read.label_ids[row],
            "risk": float(risk[row]),
            "flagged": bool(flagged[row]),
            "reason_code": str(codes[row]),
            "reason_args": row_arguments(str(codes[row]), args, row),
        }
        if issue == "swap":
            one |= {"suggested_label": classes[evidence.rival[row]], "suggested_prob": float(risk[row])}
        if issue == "location" and evidence.cluster[row] >= 0:
            one["suggested_bbox"] = judged.suggested[evidence.cluster[row]].tolist()
        rows.append(one)
    return rows


def _missing(judged: Judged, read: BoxesRead, classes: Sequence[str], args: Args) -> pa.Table:
    """Return findings without a label; their ids hold the place, so that an image can miss several boxes."""
    chosen = np.flatnonzero(judged.missing_flagged | (judged.missing_risk >= MIN_RISK)).tolist()
    code = "box_noise_missing"
    rows = []
    for row in chosen:
        cluster = judged.missing[row]
        label = classes[judged.clusters.label[cluster]]
        rows.append(
            {
                "issue": MISSING,
                "sample_id": read.sample_ids[judged.clusters.image[cluster]],
                "risk": float(judged.missing_risk[row]),
                "flagged": bool(judged.missing_flagged[row]),
                "suggested_label": label,
                "suggested_bbox": judged.suggested[cluster].tolist(),
                "reason_code": code,
                "reason_args": row_arguments(code, args, row),
            }
        )
    table = build_findings(NAME, rows)
    ids = [
        schema.stable_id("finding", NAME, MISSING, row["sample_id"], *(f"{v:.9f}" for v in row["suggested_bbox"]))
        for row in rows
    ]
    return table.set_column(0, schema.FINDINGS.field("finding_id"), pa.array(ids, pa.string()))


def _statistics(model: BoxModel | None, n_flagged: Mapping[str, int], n_boxes: int) -> list[dict[str, Any]]:
    """Return flags and estimated rates by issue, and each teacher's weight."""
    missing = INSUFFICIENT if model is None or model.regime == PLAIN else None
    why = "no labeled image" if model is None else model.why
    rows: list[dict[str, Any]] = [
        {
            "name": "n_flagged",
            "group": f"issue={issue}",
            "value": float(n_flagged.get(issue, 0)),
            "n": n_boxes,
            "outcome": missing,
            "detail": {"why": why},
        }
        for issue in (MISSING, *ISSUES)
    ]
    rows += [_rate(model, issue, n_boxes, why) for issue in (MISSING, *ISSUES)]
    rows += [
        {
            "name": "teacher_weight",
            "group": f"teacher={one.name}",
            "value": one.weight,
            "n": one.n_boxes,
            "outcome": missing,
            "detail": one.to_json(),
        }
        for one in (model.teachers if model is not None else ())
    ]
    return rows


def _rate(model: BoxModel | None, issue: str, n_boxes: int, why: str) -> dict[str, Any]:
    """Return the estimated rate of an issue; an interval from 0 or to 1 says that this end is not known."""
    rates = model.rates if model is not None else {}
    row: dict[str, Any] = {"name": "error_rate", "group": f"issue={issue}", "value": rates.get(issue), "n": n_boxes}
    if model is None or rates.get(issue) is None:
        return {**row, "outcome": INSUFFICIENT, "detail": {"why": AT_LIMIT if issue in rates else why}}
    low, high = model.rate_bounds[issue]
    return {
        **row,
        "low": low,
        "high": high,
        "detail": {"why": why, "interval": AT_LEAST if issue == MISSING else BIASED},
    }


def _columns(names: Sequence[str]) -> list[str]:
    return [*COLUMNS, *(name for name in names if name.startswith(schema.BOXES_PREFIX))]


def _teachers(names: Sequence[str]) -> tuple[str, ...]:
    """Return the teachers by name, so that the order of columns leaves no trace."""
    own = [name for name in names if name.startswith(schema.BOXES_PREFIX)]
    return tuple(sorted(name.removeprefix(schema.BOXES_PREFIX) for name in own))


CHECK = Check(
    name=NAME,
    version=6,
    view="boxes",
    needs=("sample_id", "given_boxes", "boxes_*"),
    scope="dataset",
    issues=(MISSING, *ISSUES),
    statistics=(
        "n_flagged",
        "error_rate",
        "teacher_weight",
    ),
    params=BoxNoiseParams(),
    fit=fit,
    score=score_by_sample,
    summarize=summarize,
)
