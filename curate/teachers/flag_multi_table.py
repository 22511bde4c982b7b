"""`curate flag` where `label` is a list column: several labels a row, a binary probability for each class."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from curate.errors import InputError
from curate.reasons.label_noise import SENTENCES
from curate.teachers.disagreement import fit_rows
from curate.teachers.flag_model import RISK_KIND, TeacherWeight
from curate.teachers.flag_ranks import RANK, ranking, without_rank
from curate.teachers.flag_reader import BATCH_CELLS, IDS, LABEL, read_batches
from curate.teachers.flag_summary import FlagSummary, writing_beside
from curate.teachers.flag_table import Progress, order_warnings
from curate.teachers.label_columns import class_order, label_indices, label_strings, prob_matrix, prob_widths
from curate.teachers.multi_label import (
    MIN_ROWS_OF_A_KIND,
    MultiLabelModel,
    MultiLabelScores,
    fit_multi_label,
    score_multi_label,
)
from curate.teachers.noise import BOUND_IF_SURE, UNKNOWN, Bools, Floats, NoiseRate, mean_bounds
from curate.teachers.sampling import SmallestRows, order_keys

_NAMES = pa.list_(pa.string())
OUT_COLUMNS = (
    pa.field("label", _NAMES),
    pa.field("risk", pa.float64()),  # of the worst class; null = cannot be judged, the reason says why
    RANK,
    pa.field("flagged", pa.bool_(), nullable=False),
    pa.field("suggested_label", _NAMES),  # the labels with every flagged class turned over
    pa.field("suggested_prob", pa.float64()),  # that the label is wrong about `suspect_class`
    pa.field("suspect_class", pa.string()),
    pa.field("reason", pa.string(), nullable=False),
)


@dataclass(frozen=True, slots=True)
class _Batch:
    first_row: int
    ids: list[str] | None
    labels: pa.Array  # list<string>
    given: Bools  # (n, K)
    probs: list[Floats]
    problem: np.ndarray  # (n,) a reason code, "" where the row can be judged


def flag_multi_table(
    file: pq.ParquetFile,
    path: Path,
    out: Path,
    columns: Sequence[str],
    *,
    classes: Sequence[str] | None,
    progress: Progress | None,
) -> FlagSummary:
    """Judge every row of a table whose `label` is a list; see `flag_table` for the rest of the contract.

    Probabilities are independent, in [0, 1] each; they need no sum. An empty list says "none of the classes"; a null
    list is no label. A class with fewer than MIN_ROWS_OF_A_KIND rows with it, or without it, is not judged.

    Raises:
        InputError: no class list that fits, or no row that can be judged.
    """
    width = prob_widths(file, columns, path)
    order, order_from = class_order(file, LABEL, width, classes, path)
    names = tuple(name.removeprefix("prob_") for name in columns)
    model = fit_multi_label(*_sample(file, columns, order, names))
    warnings = order_warnings(model.moved, len(names), order, {})
    counts, answers = _write(file, columns, order, model, out, warnings, progress)
    return _summary(model, names, order, counts, out=out, order_from=order_from, warnings=warnings, answers=answers)


def _sample(
    file: pq.ParquetFile, columns: Sequence[str], classes: Sequence[str], names: Sequence[str]
) -> tuple[Bools, Sequence[str], Floats]:
    """Return (n, K) classes that rows have, the teachers, and (n, T, K) what they say, of the rows to fit on.

    Raises:
        InputError: no row can be judged.
    """
    sample = SmallestRows(fit_rows(len(columns), len(classes)))
    n_rows = 0
    for batch in _batches(file, columns, classes):
        keys = order_keys(batch.ids, len(batch.given), first_row=batch.first_row)
        near = np.flatnonzero((keys <= sample.ceiling) & (batch.problem == ""))
        sample.add(
            keys[near], batch.given[near], np.stack([p[near].astype(np.float32) for p in batch.probs], axis=1)
        )
        n_rows += len(batch.given)
    found = sample.rows()
    given, probs = found or (np.zeros((0, len(classes)), dtype=bool), np.zeros((0, len(columns), len(classes))))
    if n_rows and not len(given):
        raise InputError(
            f"None of the {n_rows} rows can be judged: each needs a list of the classes {', '.join(classes[:10])} "
            "and probabilities between 0 and 1. Give the classes in the order of the probabilities with --classes."
        )
    return given, names, probs


def _summary(
    model: MultiLabelModel,
    names: Sequence[str],
    classes: Sequence[str],
    counts: tuple[int, int, int],
    *,
    out: Path,
    order_from: str,
    warnings: tuple[Mapping[str, Any], ...],
    answers: tuple[int, int],
) -> FlagSummary:
    rates = {name: m.noise_rate for name, m in zip(classes, model.models, strict=True) if m is not None}
    silent = [name for name, m in zip(classes, model.models, strict=True) if m is None]
    left = f"; not judged for lack of rows: {', '.join(silent)}" if silent else ""
    why = (
        "several labels a row: a channel for each class, its rates drawn to those of all classes; "
        f"{BOUND_IF_SURE}{left}"
    )
    return FlagSummary(
        *counts,
        noise_rate=_mean_rate(list(rates.values())),
        estimates=rates,
        estimates_agree=False,  # one method alone: nothing to hold it against
        teachers=_weights(model, names),
        regime="shared" if rates else UNKNOWN.method,
        why=why,
        risk_kind=RISK_KIND,
        transition={},
        classes=tuple(classes),
        out=out,
        order_from=order_from,
        by_class=True,
        answers=answers,
        warnings=warnings,
    )


def _mean_rate(rates: Sequence[NoiseRate]) -> NoiseRate:
    known = [rate.estimate for rate in rates if rate.estimate is not None]
    if not known:
        return UNKNOWN
    return NoiseRate(float(np.mean(known)), *mean_bounds(rates), "mean over classes of the share of wrong answers")


def _weights(model: MultiLabelModel, names: Sequence[str]) -> tuple[TeacherWeight, ...]:
    """Return each teacher with its mean weight over the classes, and in how many it was left out."""
    told = []
    for place, name in enumerate(names):
        rows = [m.teachers[place] for m in model.models if m is not None]
        kept = [row for row in rows if row.kept]
        why = f"mean over classes; left out in {len(rows) - len(kept)} of {len(rows)}"
        weight = float(np.mean([row.weight for row in rows])) if rows else 0.0
        told.append(TeacherWeight(name, bool(kept) or not rows, why, round(weight, 6), None, None))
    return tuple(told)


def _batches(file: pq.ParquetFile, columns: Sequence[str], classes: Sequence[str]) -> Iterator[_Batch]:
    has_ids = IDS in file.schema_arrow.names
    rows = max(256, min(65_536, BATCH_CELLS // (len(columns) * max(len(classes), 1))))
    first = 0
    for batch in read_batches(file, rows, [LABEL, *columns, *([IDS] if has_ids else [])]):
        labels = batch.column(LABEL)
        probs = [prob_matrix(batch.column(name), len(classes), name) for name in columns]
        given, outside = _given(labels, classes)
        problem = np.full(len(given), "", dtype=object)
        silent = np.stack([np.isnan(p).all(axis=1) for p in probs])
        with np.errstate(invalid="ignore"):
            wrong = np.stack([~((p >= 0) & (p <= 1)).all(axis=1) for p in probs]) & ~silent
        problem[silent.all(axis=0)] = "no_teacher_answer"
        problem[wrong.any(axis=0)] = "probabilities_outside"
        problem[(wrong & np.stack([np.isnan(p).any(axis=1) for p in probs])).any(axis=0)] = "probabilities_nan"
        problem[outside] = "label_outside_classes"
        problem[pc.is_null(labels).to_numpy(zero_copy_only=False)] = "no_label"
        ids = label_strings(batch.column(IDS)).to_pylist() if has_ids else None
        yield _Batch(first, ids, labels, given, probs, problem)
        first += batch.num_rows


def _given(labels: pa.Array, classes: Sequence[str]) -> tuple[Bools, Bools]:
    """Return (n, K) which classes a row has, and (n,) whether it names one that is none of them."""
    row = pc.list_parent_indices(labels).to_numpy().astype(np.int64)
    at = label_indices(pc.list_flatten(labels), classes)
    given = np.zeros((len(labels), len(classes)), dtype=bool)
    given[row[at >= 0], at[at >= 0]] = True
    outside = np.zeros(len(labels), dtype=bool)
    outside[row[at < 0]] = True
    return given, outside


def _write(
    file: pq.ParquetFile,
    columns: Sequence[str],
    classes: Sequence[str],
    model: MultiLabelModel,
    out: Path,
    warnings: Sequence[Mapping[str, Any]],
    progress: Progress | None,
) -> tuple[tuple[int, int, int], tuple[int, int]]:
    """Return (n, n_flagged, n_unjudged) rows, and (n, n_flagged) answers: is this class there, of each row and class."""
    names = [name.removeprefix("prob_") for name in columns]
    key = pa.field(IDS, pa.string() if IDS in file.schema_arrow.names else pa.int64())
    fields = pa.schema([key, *OUT_COLUMNS])
    n = n_flagged = n_unjudged = n_wrong = 0
    n_judged_classes = sum(one is not None for one in model.models)
    about = {"risk_kind": RISK_KIND, "classes": list(classes), "warnings": [dict(one) for one in warnings]}
    with writing_beside(out, fields, about) as writer, ranking(out, fields) as ranked:
        for batch in _batches(file, columns, classes):
            scores = score_multi_label(model, batch.given, batch.problem == "", names, batch.probs)
            risk = np.where(scores.worst < 0, np.nan, scores.risk)
            ranked.add(batch.ids, risk, _out_table(batch, scores, classes, names, without_rank(fields)))
            n += len(batch.given)
            n_flagged += int(scores.flagged.sum())
            n_unjudged += int((scores.worst < 0).sum())
            n_wrong += int((scores.suggested != batch.given)[scores.worst >= 0].sum())
            if progress:
                progress(n, file.metadata.num_rows)
        ranked.write(writer, fields)
    return (n, n_flagged, n_unjudged), ((n - n_unjudged) * n_judged_classes, n_wrong)


def _out_table(
    batch: _Batch, scores: MultiLabelScores, classes: Sequence[str], names: Sequence[str], fields: pa.Schema
) -> pa.Table:
    words = np.array(classes, dtype=object)
    unjudged = scores.worst < 0
    ids: Any = batch.ids
    if ids is None:
        ids = np.arange(batch.first_row, batch.first_row + len(batch.given), dtype=np.int64)
    suggested = [None if u else words[row].tolist() for u, row in zip(unjudged, scores.suggested, strict=True)]
    reasons = [_reason(batch, scores, row, classes, names) for row in range(len(batch.given))]
    columns = [
        pa.array(ids, fields.field(IDS).type),
        pa.array([None if one is None else [str(w) for w in one] for one in batch.labels.to_pylist()], _NAMES),
        pa.array(scores.risk, mask=unjudged),
        pa.array(scores.flagged),
        pa.array(suggested, _NAMES),
        pa.array(scores.worst_prob, mask=unjudged),
        pa.array(list(classes), pa.string()).take(pa.array(scores.worst, mask=unjudged)),
        pa.array(reasons, pa.string()),
    ]
    return pa.Table.from_arrays(columns, schema=fields)


def _reason(batch: _Batch, scores: MultiLabelScores, row: int, classes: Sequence[str], names: Sequence[str]) -> str:
    if batch.problem[row]:
        given = batch.labels[row].as_py()
        odd = [str(name) for name in given or [] if str(name) not in classes]
        bad = [n for n, p in zip(names, batch.probs, strict=True) if not ((p[row] >= 0) & (p[row] <= 1)).all()]
        return SENTENCES[batch.problem[row]].format(given=", ".join(odd), teacher=", ".join(bad))
    if scores.worst[row] < 0:
        return SENTENCES["too_few_of_each_class"].format(min_rows=MIN_ROWS_OF_A_KIND)
    name, has = classes[scores.worst[row]], batch.given[row, scores.worst[row]]
    code = "class_invented" if has else "class_left_out"
    if not scores.flagged[row]:
        code = "labels_supported"
    return SENTENCES[code].format(
        name=name, n_agree=scores.n_agree[row], n_teachers=scores.n_teachers[row], mean=f"{scores.mean[row]:.2f}"
    )
