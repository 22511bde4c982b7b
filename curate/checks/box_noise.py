"""Given boxes that detectors contradict, and places where they see a thing that nobody drew."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate import schema
from curate.check import Batches, Check, build_findings, build_statistics
from curate.teachers.boxes import arrange
from curate.teachers.boxes.fuse import Detections, Given
from curate.teachers.boxes.geometry import Floats, Ints
from curate.teachers.boxes.judge import ISSUES, MISSING, Judged, Regions, judge
from curate.teachers.boxes.model import AT_LIMIT, PLAIN, BoxModel, fit_boxes
from curate.teachers.boxes.sentences import arguments, codes_of, row_arguments
from curate.teachers.sampling import order_keys

NAME = "box_noise"
COLUMNS = ("sample_id", "given_boxes")
MIN_RISK = 0.5
INSUFFICIENT = "insufficient data"


@dataclass(frozen=True, slots=True)
class BoxNoiseParams:
    """What the check is told; part of the cache key.

    Attributes:
        classes: of the dataset; those that occur are added.
        min_risk: of what is not flagged, findings below are left out; of a box its likeliest issue alone is told.
    """

    classes: tuple[str, ...] = ()
    min_risk: float = MIN_RISK


@dataclass(frozen=True, slots=True)
class BoxNoiseState:
    """The fitted model, the order of classes and teachers, and what it says about all boxes by issue."""

    model: BoxModel | None
    classes: tuple[str, ...]
    names: tuple[str, ...]
    n_flagged: dict[str, int]
    n_boxes: int
    n_images: int


@dataclass(frozen=True, slots=True)
class BoxesRead:
    """The boxes of some images, images numbered by the order of their ids."""

    sample_ids: list[str]
    given: Given
    label_ids: list[str]
    found: Detections
    crowds: Regions
    keys: np.ndarray[Any, np.dtype[np.uint64]]


def fit(batches: Batches, params: BoxNoiseParams) -> BoxNoiseState:
    """Fit on images chosen by the hash of their ids, then count flags over all images."""
    parts = [batch.select(_columns(batch.schema.names)) for batch in batches]
    table = pa.Table.from_batches(parts) if parts else None
    names = _teachers(table.column_names) if table is not None else ()
    nothing = dict.fromkeys((MISSING, *ISSUES), 0)
    if table is None or not table.num_rows:
        return BoxNoiseState(None, params.classes, names, nothing, 0, 0)
    classes = tuple(sorted({*params.classes, *_labels(table, names)})) or ("",)
    read = read_boxes(table, names, classes)
    chosen = arrange.fit_images(np.bincount(read.given.image, minlength=len(read.keys)), read.keys)
    own = arrange.of_images(read.given, read.found, chosen)
    model = fit_boxes(names, *own, len(chosen), len(classes))
    judged = judge(model, read.given, read.found, read.crowds)
    counts = {MISSING: int(judged.missing_flagged.sum())}
    counts |= dict(zip(ISSUES, judged.flagged.sum(axis=0).tolist(), strict=True))
    return BoxNoiseState(model, classes, names, counts, len(read.given.image), table.num_rows)


def score(batch: pa.RecordBatch, state: BoxNoiseState, params: BoxNoiseParams) -> pa.Table:
    """Return a finding for each box that is flagged or in doubt, and for each place where one is missing."""
    if state.model is None or not batch.num_rows:
        return schema.empty(schema.FINDINGS)
    read = read_boxes(pa.Table.from_batches([batch]), state.names, state.classes)
    judged = judge(state.model, read.given, read.found, read.crowds)
    rows: list[dict[str, Any]] = []
    for issue in ISSUES:
        rows += _of_given(judged, read, state, issue, params.min_risk)
    found = build_findings(NAME, rows)
    return pa.concat_tables([found, _missing(judged, read, state, params.min_risk)])


def _of_given(
    judged: Judged, read: BoxesRead, state: BoxNoiseState, issue: str, min_risk: float
) -> list[dict[str, Any]]:
    place, evidence = ISSUES.index(issue), judged.evidence
    risk, flagged = judged.risk[:, place], judged.flagged[:, place]
    likeliest = judged.risk.argmax(axis=1) == place
    chosen = np.flatnonzero(flagged | (likeliest & (risk >= min_risk)))
    args = arguments(judged, issue, read.given.label, read.label_ids, state.classes, _n_kept(state))
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
            one |= {"suggested_label": state.classes[evidence.rival[row]], "suggested_prob": float(risk[row])}
        if issue == "location" and evidence.cluster[row] >= 0:
            one["suggested_bbox"] = judged.suggested[evidence.cluster[row]].tolist()
        rows.append(one)
    return rows


def _missing(judged: Judged, read: BoxesRead, state: BoxNoiseState, min_risk: float) -> pa.Table:
    """Return findings without a label; their ids hold the place, so that an image can miss several boxes."""
    args = arguments(judged, MISSING, read.given.label, read.label_ids, state.classes, _n_kept(state))
    chosen = np.flatnonzero(judged.missing_flagged | (judged.missing_risk >= min_risk)).tolist()
    code = "box_noise_missing"
    rows = []
    for row in chosen:
        cluster = judged.missing[row]
        label = state.classes[judged.clusters.label[cluster]]
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


def summarize(state: BoxNoiseState, _params: BoxNoiseParams) -> pa.Table:
    """Return flags and estimated rates by issue, and each teacher's weight."""
    model = state.model
    missing = INSUFFICIENT if model is None or model.regime == PLAIN else None
    why = "no labeled image" if model is None else model.why
    rows: list[dict[str, Any]] = [
        {
            "name": "n_flagged",
            "group": f"issue={issue}",
            "value": float(n),
            "n": state.n_boxes,
            "outcome": missing,
            "detail": {"why": why},
        }
        for issue, n in state.n_flagged.items()
    ]
    rates = model.rates if model is not None else {}
    rows += [
        {
            "name": "error_rate",
            "group": f"issue={issue}",
            "value": rates.get(issue),
            "n": state.n_boxes,
            "outcome": INSUFFICIENT if rates.get(issue) is None else None,
            "detail": {"why": AT_LIMIT if issue in rates and rates[issue] is None else why},
        }
        for issue in (MISSING, *ISSUES)
    ]
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
    return build_statistics(NAME, rows)


def _n_kept(state: BoxNoiseState) -> int:
    return len(state.model.kept) if state.model is not None else 0


def _columns(names: Sequence[str]) -> list[str]:
    return [*COLUMNS, *(name for name in names if name.startswith(schema.BOXES_PREFIX))]


def _teachers(names: Sequence[str]) -> tuple[str, ...]:
    """Return the teachers by name, so that the order of columns leaves no trace."""
    own = [name for name in names if name.startswith(schema.BOXES_PREFIX)]
    return tuple(sorted(name.removeprefix(schema.BOXES_PREFIX) for name in own))


def _labels(table: pa.Table, names: Sequence[str]) -> set[str]:
    columns = ["given_boxes", *(schema.BOXES_PREFIX + name for name in names)]
    return {one for column in columns for one in pc.unique(_flat(table[column])[0]["label"]).to_pylist() if one}


def _flat(column: pa.ChunkedArray) -> tuple[dict[str, pa.Array], Ints]:
    """Return the fields of all boxes, and the row that each belongs to."""
    whole = column.combine_chunks()
    parent = pc.list_parent_indices(whole).to_numpy(zero_copy_only=False).astype(np.int64)
    structs = pc.list_flatten(whole)
    names = [field.name for field in structs.type]
    return {name: pc.struct_field(structs, name) for name in names}, parent


def _boxes(column: pa.Array) -> Floats:
    flat = pc.fill_null(column, [np.nan] * 4) if column.null_count else column
    return np.asarray(pc.list_flatten(flat).to_numpy(zero_copy_only=False), dtype=np.float64).reshape(-1, 4)


def read_boxes(table: pa.Table, names: Sequence[str], classes: Sequence[str]) -> BoxesRead:
    """Return what the boxes view holds as arrays, images by the order of their ids.

    Args:
        table: `views.boxes_view`.
        names: of the teachers, in the order of their numbers.
        classes: names by number; boxes of another class are left out.
    """
    table = table.sort_by("sample_id")
    ids = table["sample_id"].to_pylist()
    keys = order_keys(ids, len(ids))
    fields, image = _flat(table["given_boxes"])
    boxes, label = _boxes(fields["bbox"]), _numbers(fields["label"], classes)
    usable = _usable(boxes, label)
    crowd = pc.fill_null(fields["is_crowd"], False).to_numpy(zero_copy_only=False)  # noqa: FBT003 - pyarrow's fill value
    own = np.flatnonzero(usable & ~crowd)
    label_ids = fields["label_id"].take(pa.array(own)).to_pylist()
    placed = arrange.arrange_given(
        image[own], boxes[own], label[own], keys, classes, order_keys(label_ids, len(label_ids))
    )
    regions = np.flatnonzero(usable & crowd)
    parts = [_found(table, name, number, classes) for number, name in enumerate(names)]
    columns = [np.concatenate(part) for part in zip(*parts, strict=True)]
    return BoxesRead(
        sample_ids=ids,
        given=placed.given,
        label_ids=[label_ids[row] for row in placed.row.tolist()],
        found=arrange.arrange_found(*columns),
        crowds=Regions(image[regions], boxes[regions]),
        keys=keys,
    )


def _found(table: pa.Table, name: str, number: int, classes: Sequence[str]) -> tuple[Any, ...]:
    """Return image, boxes, label, score and teacher of the usable boxes of a teacher."""
    fields, image = _flat(table[schema.BOXES_PREFIX + name])
    boxes, label = _boxes(fields["bbox"]), _numbers(fields["label"], classes)
    score = np.asarray(pc.cast(fields["score"], pa.float64()).to_numpy(zero_copy_only=False), dtype=np.float64)
    good = np.flatnonzero(_usable(boxes, label) & (score >= 0) & (score <= 1))
    return image[good], boxes[good], label[good], score[good], np.full(len(good), number)


def _numbers(column: pa.Array, classes: Sequence[str]) -> Ints:
    at = pc.index_in(column, value_set=pa.array(classes, pa.string()))
    return np.asarray(pc.fill_null(at, -1).to_numpy(zero_copy_only=False), dtype=np.int64)


def _usable(boxes: Floats, label: Ints) -> np.ndarray[Any, np.dtype[np.bool_]]:
    area = (np.nan_to_num(boxes[:, 2:]) > 0).all(axis=1)
    return np.asarray(np.isfinite(boxes).all(axis=1) & area & (label >= 0), dtype=bool)


CHECK = Check(
    name=NAME,
    version=5,
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
    score=score,
    summarize=summarize,
)
