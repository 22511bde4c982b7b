"""Images with several labels: a label that is wrongly there, and one that was left out.

Each class is a question of its own, judged by the teachers' probability that it is there (`teachers.multi_label`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate import schema
from curate.check import Batches, Check, build_findings, build_statistics
from curate.checks.label_noise_rates import moved_row
from curate.teachers.disagreement import fit_rows
from curate.teachers.label_columns import label_indices, prob_matrix
from curate.teachers.multi_label import CellScores, MultiLabelModel, fit_multi_label, score_cells
from curate.teachers.noise import (
    BOUND_IF_SURE,
    INSUFFICIENT,
    Bools,
    Floats,
    Ints,
    NoiseRate,
    binomial_rate,
    mean_bounds,
)
from curate.teachers.sampling import SmallestRows, order_keys

NAME = "multi_label_noise"
EXTRA = "extra_label"
MISSING = "missing_label"
ISSUES = (EXTRA, MISSING)
RISK_KIND = "rank"


@dataclass(frozen=True, slots=True)
class MultiLabelNoiseParams:
    """What is known of the classes; part of the cache key.

    Attributes:
        classes: in the order of the probabilities.
    """

    classes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class MultiLabelNoiseState:
    """The fitted model, and by class how many answers were judged and flagged.

    Attributes:
        model: of each class.
        classes: K names.
        names: T teachers.
        judged: (K, 2) images without and with the label.
        flagged: (K, 2) likewise.
        n_rows: images.
    """

    model: MultiLabelModel
    classes: tuple[str, ...]
    names: tuple[str, ...]
    judged: Ints
    flagged: Ints
    n_rows: int


def fit(batches: Batches, params: MultiLabelNoiseParams) -> MultiLabelNoiseState:
    """Fit on images chosen by the hash of their ids, then count flags over all images.

    Batches are kept by reference, not copied.
    """
    views = [batch.select(_columns(batch.schema.names)) for batch in batches]
    names = _teachers(views[0].schema.names) if views else ()
    classes = params.classes or _named(views)
    sample = SmallestRows(fit_rows(max(len(names), 1), max(len(classes), 1)))
    for view in views:
        keys, given, probs = (
            order_keys(_ids(view), view.num_rows),
            _given(view, classes),
            _probs(view, names, classes),
        )
        usable = _usable(probs)
        near = np.flatnonzero((keys <= sample.ceiling) & usable)
        sample.add(keys[near], given[near], np.stack([p[near] for p in probs], axis=1))
    held = sample.rows()
    if held is None or not len(held[0]):
        model = MultiLabelModel((None,) * len(classes))
    else:
        model = fit_multi_label(held[0], names, held[1])
    judged, flagged = (np.zeros((len(classes), 2), dtype=np.int64) for _ in range(2))
    for view in views:
        given, scores = _scored(view, model, names, classes)
        for has in (0, 1):
            kind = given == bool(has)
            judged[:, has] += ((scores.risk >= 0) & kind).sum(axis=0)
            flagged[:, has] += (scores.flagged & kind).sum(axis=0)
    return MultiLabelNoiseState(model, classes, names, judged, flagged, sum(view.num_rows for view in views))


def score(batch: pa.RecordBatch, state: MultiLabelNoiseState, _params: MultiLabelNoiseParams) -> pa.Table:
    """Return a finding for each label that is flagged, and for each one that was left out.

    The id of a left-out label's finding holds its class, so that an image can lack several.
    """
    given, scores = _scored(batch, state.model, state.names, state.classes)
    sample_ids, tags = _ids(batch), batch.column("given_tags").to_pylist()
    rows = []
    for row, at in zip(*(places.tolist() for places in np.nonzero(scores.flagged)), strict=True):
        name, has = state.classes[at], bool(given[row, at])
        one: dict[str, Any] = {
            "issue": EXTRA if has else MISSING,
            "sample_id": sample_ids[row],
            "risk": float(scores.risk[row, at]),
            "flagged": True,
            "reason_code": "label_unseen" if has else "label_left_out",
            "reason_args": {
                "name": name,
                "n_agree": int(scores.n_agree[row, at]),
                "n_teachers": int(scores.n_teachers[row, at]),
                "mean": round(float(scores.mean[row, at]), 2),
            },
        }
        if has:
            one["label_id"] = min(tag["label_id"] for tag in tags[row] if tag["label"] == name)
        else:
            one |= {"suggested_label": name, "suggested_prob": float(np.clip(scores.prob[row, at], 0.0, 1.0))}
        rows.append(one)
    table = build_findings(NAME, rows)
    ids = [
        row["finding_id"]
        if row["label_id"]
        else schema.stable_id("finding", NAME, MISSING, row["sample_id"], row["suggested_label"])
        for row in table.select(["finding_id", "label_id", "sample_id", "suggested_label"]).to_pylist()
    ]
    return table.set_column(0, schema.FINDINGS.field("finding_id"), pa.array(ids, pa.string()))


def summarize(state: MultiLabelNoiseState, _params: MultiLabelNoiseParams) -> pa.Table:
    """Return the noise rate over all answers and by class, the shares flagged by class, each teacher's weight."""
    models = [m for m in state.model.models if m is not None]
    n_judged = int(state.judged.sum())
    known = [m.noise_rate.estimate for m in models if m.noise_rate.estimate is not None]
    missing = None if n_judged else INSUFFICIENT
    silent = [name for name, m in zip(state.classes, state.model.models, strict=True) if m is None]
    about = {
        "method": "mean over classes of the share of wrong answers, there or not",
        "regime": "shared",
        "why": "each class is a question of its own; a noise channel by likelihood, its rates drawn to those of all "
        f"classes; {BOUND_IF_SURE}",
        "risk_kind": RISK_KIND,
        "not_judged": silent[:50],
    }
    rate = float(np.mean(known)) if known else None
    low, high = mean_bounds([m.noise_rate for m in models])
    rows: list[dict[str, Any]] = [
        {
            "name": "noise_rate",
            "value": rate,
            "low": low,
            "high": high,
            "n": n_judged,
            "detail": about,
            "outcome": None if known else INSUFFICIENT,
        },
        {"name": "n_flagged", "value": float(state.flagged.sum()), "n": n_judged, "outcome": missing},
        {"name": "n_classes_not_judged", "value": float(len(silent)), "n": len(state.classes), "outcome": missing},
    ]
    for has, issue in enumerate((MISSING, EXTRA)):
        n, hit = int(state.judged[:, has].sum()), int(state.flagged[:, has].sum())
        rows.append(
            {"name": "n_flagged", "group": f"issue={issue}", "value": float(hit), "n": n, "outcome": missing}
        )
    for at, (name, model) in enumerate(zip(state.classes, state.model.models, strict=True)):
        if model is not None:
            rows += _of_class(name, model.noise_rate, state.judged[at], state.flagged[at])
    rows += _weights(models, state.names, missing)
    rows += [moved_row(moved, state.classes) for moved in state.model.moved]
    return build_statistics(NAME, rows)


def _of_class(name: str, rate: NoiseRate, judged: Ints, flagged: Ints) -> list[dict[str, Any]]:
    """Return shares flagged as wrongly there and as left out, of the images judged, and the noise rate, of a class."""
    group = f"class={name}"
    rows: list[dict[str, Any]] = []
    for has, what in ((1, "share_extra"), (0, "share_left_out")):
        n = int(judged[has])
        if n:
            share = binomial_rate(flagged[has] / n, n, "share of judged images")
            rows.append({"name": what, "group": group, **_interval(share), "n": n})
    if rate.estimate is not None:
        about = {"n": int(judged.sum()), "detail": {"method": rate.method}}
        rows.append({"name": "noise_rate", "group": group, **_interval(rate), **about})
    return rows


def _interval(rate: NoiseRate) -> dict[str, Any]:
    return {"value": rate.estimate, "low": rate.low, "high": rate.high}


def _weights(models: Sequence[Any], names: Sequence[str], missing: str | None) -> list[dict[str, Any]]:
    rows = []
    for place, name in enumerate(names):
        own = [m.teachers[place] for m in models]
        n_out = sum(not one.kept for one in own)
        weight = float(np.mean([one.weight for one in own])) if own else 0.0
        rows.append(
            {"name": "teacher_weight", "group": f"teacher={name}", "value": round(weight, 6), "n": len(own)}
            | {"outcome": missing, "detail": {"why": f"mean over classes; left out in {n_out} of {len(own)}"}}
        )
    return rows


def _scored(
    view: pa.RecordBatch, model: MultiLabelModel, names: Sequence[str], classes: Sequence[str]
) -> tuple[Bools, CellScores]:
    given, probs = _given(view, classes), _probs(view, names, classes)
    return given, score_cells(model, given, _usable(probs), names, probs)


def _columns(names: Sequence[str]) -> list[str]:
    return ["sample_id", "given_tags", *(n for n in names if n.startswith(schema.PRESENT_PREFIX))]


def _teachers(names: Sequence[str]) -> tuple[str, ...]:
    """Return the teachers by name, so that the order of columns leaves no trace."""
    return tuple(
        sorted(n.removeprefix(schema.PRESENT_PREFIX) for n in names if n.startswith(schema.PRESENT_PREFIX))
    )


def _ids(view: pa.RecordBatch) -> list[str]:
    ids: list[str] = view.column("sample_id").to_pylist()
    return ids


def _given(view: pa.RecordBatch, classes: Sequence[str]) -> Bools:
    column = view.column("given_tags")
    row = pc.list_parent_indices(column).to_numpy().astype(np.int64)
    at = label_indices(pc.list_flatten(column).field("label"), classes)
    given = np.zeros((view.num_rows, len(classes)), dtype=bool)
    given[row[at >= 0], at[at >= 0]] = True
    return given


def _probs(view: pa.RecordBatch, names: Sequence[str], classes: Sequence[str]) -> list[Floats]:
    columns = [schema.PRESENT_PREFIX + name for name in names]
    return [prob_matrix(view.column(name), len(classes), name).astype(np.float32) for name in columns]


def _usable(probs: Sequence[Floats]) -> Bools:
    """Return which rows have an answer of a teacher."""
    return np.asarray(np.any([~np.isnan(p).all(axis=1) for p in probs], axis=0))


def _named(views: Sequence[pa.RecordBatch]) -> tuple[str, ...]:
    """Return the sorted labels in use."""
    seen: set[str] = set()
    for view in views:
        seen.update(pc.unique(pc.list_flatten(view.column("given_tags")).field("label")).drop_null().to_pylist())
    return tuple(sorted(seen))


CHECK = Check(
    name=NAME,
    version=5,
    view="tags",
    needs=("sample_id", "given_tags", "present_*"),
    scope="dataset",
    issues=ISSUES,
    statistics=(
        "noise_rate",
        "n_flagged",
        "n_classes_not_judged",
        "share_extra",
        "share_left_out",
        "teacher_weight",
    ),
    params=MultiLabelNoiseParams(),
    fit=fit,
    score=score,
    summarize=summarize,
)
