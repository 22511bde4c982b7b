"""Given labels that the teachers contradict."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate import schema
from curate.check import Batches, Check, build_findings, build_statistics
from curate.checks.label_noise_rates import RISK_UNITS, LabelNoiseState, Tally, statistics_of
from curate.errors import InputError
from curate.teachers.disagreement import fit_flags, fit_rows
from curate.teachers.flag_model import Scores
from curate.teachers.flag_reasons import CODES, reason_codes
from curate.teachers.label_columns import label_indices, label_strings, prob_matrix
from curate.teachers.neighbours import count_labels
from curate.teachers.noise import Floats, Ints
from curate.teachers.sampling import order_keys, smallest
from curate.teachers.scoring import score_flags, usable_rows

NAME = "label_noise"
ISSUE = "mislabel"
UNJUDGED_ISSUE = "unjudged_label"
MIN_RISK = 0.5
_UNJUDGED = frozenset({"label_outside_classes", "probabilities_invalid", "probabilities_nan"})


@dataclass(frozen=True, slots=True)
class LabelNoiseParams:
    """What the teachers' cards say; part of the cache key.

    Attributes:
        classes: in the order of the probabilities; empty = the sorted distinct labels.
        features: (teacher, name of its features) from the cards; teachers with the same name share errors.
        independent: overrides what the cards say; None = they decide.
        flag_risk: the risk from which on a label is flagged, as an audit places it; None = .5, the fitted cut.
    """

    classes: tuple[str, ...] = ()
    features: tuple[tuple[str, str], ...] = ()
    independent: bool | None = None
    flag_risk: float | None = None


def fit(batches: Batches, params: LabelNoiseParams) -> LabelNoiseState:
    """Fit on a sample chosen by the hash of `label_id`, then count flags over all rows.

    Batches are kept by reference, not copied.
    """
    views = [batch.select(_columns(batch.schema.names)) for batch in batches]
    names = _teachers(views[0].schema.names) if views else ()
    classes = params.classes or _distinct(views)
    given = [_given(view, classes) for view in views]
    probs = [_probs(view, names, len(classes)) for view in views]
    keys = [_keys(view) for view in views]
    all_keys = np.concatenate(keys) if keys else np.zeros(0, dtype=np.uint64)
    usable = [usable_rows(g, p)[0] for g, p in zip(given, probs, strict=True)]
    all_usable = np.concatenate(usable) if usable else np.zeros(0, dtype=bool)
    rows = smallest(all_keys, all_usable, fit_rows(max(len(names), 1), max(len(classes), 1)))
    all_given = np.concatenate(given) if given else np.zeros(0, dtype=np.int64)
    sample = _gather(rows, probs, len(names), len(classes))
    model = fit_flags(
        all_given[rows], names, sample, independent=params.independent, features=dict(params.features) or None
    )
    judged = np.zeros(len(classes), dtype=np.int64)
    flagged = np.zeros(len(classes), dtype=np.int64)
    by_group: dict[str, Tally] = {}
    for view, g, p in zip(views, given, probs, strict=True):
        scores = _cut_at(score_flags(model, g, names, p), params.flag_risk)
        judged += np.bincount(g[scores.judged], minlength=len(classes))
        flagged += np.bincount(g[scores.flagged], minlength=len(classes))
        _tally(by_group, view, scores)
    return LabelNoiseState(model, classes, judged, flagged, len(all_given), by_group)


def _tally(by_group: dict[str, Tally], view: pa.RecordBatch, scores: Scores) -> None:
    """Add the batch's judged rows to their class and to their value of each declared attribute."""
    risk_units = np.rint(np.where(scores.judged, scores.risk, 0.0) * RISK_UNITS).astype(np.int64)
    for name in ("label", *(n for n in view.schema.names if n.startswith(schema.ATTRIBUTE_PREFIX))):
        coded = label_strings(view.column(name)).dictionary_encode()
        code = pc.fill_null(coded.indices, -1).to_numpy(zero_copy_only=False)
        for at, word in enumerate(coded.dictionary.to_pylist()):
            rows = scores.judged & (code == at)
            if rows.any():
                tally = by_group.setdefault(f"{'class' if name == 'label' else name}={word}", Tally())
                tally.n_judged += int(rows.sum())
                tally.n_flagged += int(scores.flagged[rows].sum())
                tally.risk_units += int(risk_units[rows].sum())


def score(batch: pa.RecordBatch, state: LabelNoiseState, params: LabelNoiseParams) -> pa.Table:
    """Return a finding for each label that is flagged or in doubt, and for each that could not be judged."""
    names = _teachers(batch.schema.names)
    given = _given(batch, state.classes)
    scores = score_flags(state.model, given, names, _probs(batch, names, len(state.classes)))
    scores = _cut_at(scores, params.flag_risk)
    labels = label_strings(batch.column("label"))
    classes = pa.array(state.classes, pa.string())
    suggested = classes.take(pa.array(scores.suggested, mask=scores.suggested < 0))
    codes = np.array(CODES, dtype=object)[reason_codes(state.model, scores, labels, suggested)]
    doubt = scores.judged & (scores.suggested != given) & (np.nan_to_num(scores.risk) >= MIN_RISK)
    invalid = np.isin(codes.astype(str), list(_UNJUDGED))
    picked = np.flatnonzero(scores.flagged | doubt | invalid)
    chosen = batch.select(["sample_id", "label_id"]).take(pa.array(picked)).to_pydict()
    near = _near(batch.take(pa.array(picked)), scores.suggested[picked], given[picked], len(classes))
    rows = []
    for place, row in enumerate(picked):
        ids = {"sample_id": chosen["sample_id"][place], "label_id": chosen["label_id"][place]}
        label, agree = labels[int(row)].as_py(), state.model.estimates_agree
        found = _finding(codes[row], scores, int(row), label, state.classes, names, agree=agree)
        if found["issue"] == ISSUE:
            found["reason_args"] |= near[place]
        rows.append({**ids, **found})
    return build_findings(NAME, rows)


def _near(batch: pa.RecordBatch, suggested: Ints, given: Ints, n_classes: int) -> list[dict[str, int]]:
    """Return what the nearest images of each row are labeled, for its reason; nothing where no probes were asked."""
    names = sorted(name for name in batch.schema.names if name.startswith(schema.NEAREST_PREFIX))
    if not names:
        return [{} for _ in range(batch.num_rows)]
    column = batch.column(names[0])
    as_suggested, n_near = count_labels(column, suggested, n_classes)
    as_given, _ = count_labels(column, given, n_classes)
    n_searched = pc.fill_null(column.field("n_searched"), 0).to_numpy(zero_copy_only=False)
    columns = {
        "n_near": n_near,
        "n_near_suggested": as_suggested,
        "n_near_given": as_given,
        "n_searched": n_searched,
    }
    return [
        {name: int(values[row]) for name, values in columns.items()} if n_near[row] else {}
        for row in range(batch.num_rows)
    ]


def _cut_at(scores: Scores, flag_risk: float | None) -> Scores:
    """Return the scores with the labels flagged whose risk is at least `flag_risk`; None leaves them as they are."""
    if flag_risk is None:
        return scores
    return replace(scores, flagged=scores.judged & (np.nan_to_num(scores.risk) >= flag_risk))


def _finding(
    code: str, scores: Scores, row: int, label: str, classes: Sequence[str], names: Sequence[str], *, agree: bool
) -> dict[str, Any]:
    if code in _UNJUDGED:
        bad = int(scores.bad_teacher[row])
        args = {"given": label} if code == "label_outside_classes" else {"teacher": names[bad]}
        return {"issue": UNJUDGED_ISSUE, "risk": 0.0, "reason_code": code, "reason_args": args}
    suggested = classes[int(scores.suggested[row])]
    differs = suggested != label  # a cut below .5 flags labels for which the teachers have no better one
    return {
        "issue": ISSUE,
        "risk": float(scores.risk[row]),
        "flagged": bool(scores.flagged[row]),
        "suggested_label": suggested if differs else None,
        "suggested_prob": float(scores.suggested_prob[row]) if differs else None,
        "reason_code": code,
        "reason_args": {
            "n_agree": int(scores.n_agree[row]),
            "n_teachers": int(scores.n_teachers[row]),
            "suggested": suggested,
            "suggested_mean": round(float(scores.suggested_mean[row]), 2),
            "given": label,
            "given_mean": round(float(scores.given_mean[row]), 2),
            **({} if agree else {"estimates_agree": False}),
        },
    }


def _columns(names: Sequence[str]) -> list[str]:
    kinds = (schema.PROB_PREFIX, schema.ATTRIBUTE_PREFIX, schema.NEAREST_PREFIX)
    return ["sample_id", "label_id", "label", *(n for n in names if n.startswith(kinds))]


def _teachers(names: Sequence[str]) -> tuple[str, ...]:
    """Return the teachers by name, so that the order of columns leaves no trace."""
    return tuple(sorted(n.removeprefix(schema.PROB_PREFIX) for n in names if n.startswith(schema.PROB_PREFIX)))


def _given(batch: pa.RecordBatch, classes: Sequence[str]) -> Ints:
    return label_indices(batch.column("label"), classes)


def _probs(batch: pa.RecordBatch, names: Sequence[str], n_classes: int) -> list[Floats]:
    columns = [schema.PROB_PREFIX + name for name in names]
    return [prob_matrix(batch.column(name), n_classes, name) for name in columns]


def _keys(batch: pa.RecordBatch) -> np.ndarray:
    return order_keys(batch.column("label_id").to_pylist(), batch.num_rows)


def _gather(rows: Ints, probs: Sequence[Sequence[Floats]], n_teachers: int, n_classes: int) -> Floats:
    """Return (len(rows), T, K) from the batches' matrices."""
    sample = np.empty((len(rows), n_teachers, n_classes), dtype=np.float32)
    first = 0
    for matrices in probs:
        n_rows = len(matrices[0]) if matrices else 0
        here = (rows >= first) & (rows < first + n_rows)
        for teacher, matrix in enumerate(matrices):
            sample[here, teacher] = matrix[rows[here] - first]
        first += n_rows
    return sample


def _distinct(views: Sequence[pa.RecordBatch]) -> tuple[str, ...]:
    """Return the sorted distinct labels; they have to fit the width of the probabilities."""
    seen: set[str] = set()
    for view in views:
        seen.update(pc.unique(label_strings(view.column("label"))).drop_null().to_pylist())
    kinds = [f.type for view in views[:1] for f in view.schema if f.name.startswith(schema.PROB_PREFIX)]
    widths = {kind.list_size for kind in kinds if pa.types.is_fixed_size_list(kind)}
    if widths and widths != {len(seen)} and seen:
        raise InputError(
            f"The check {NAME} needs the classes in the order of the probabilities: there are {len(seen)} distinct "
            f"labels, and the probabilities have {sorted(widths)} entries. Declare `classes` in the spec."
        )
    return tuple(sorted(seen))


CHECK = Check(
    name=NAME,
    version=9,
    view="labels",
    needs=("sample_id", "label_id", "label", "prob_*"),
    scope="dataset",
    issues=(ISSUE, UNJUDGED_ISSUE),
    statistics=(
        "noise_rate",
        "noise_rate_estimate",
        "n_flagged",
        "share_flagged",
        "n_unjudged",
        "mean_risk",
        "teacher_weight",
        "n_classes_in_other_columns",
        "noise_transition",
    ),
    params=LabelNoiseParams(),
    fit=fit,
    score=score,
    summarize=lambda state, _: build_statistics(NAME, statistics_of(state)),
)
