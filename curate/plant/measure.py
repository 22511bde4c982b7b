"""What was found of what was planted: one ranked list, as a reviewer goes through it, and recall and AP by kind."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate.plant.choose import number_of
from curate.plant.shapes import iou
from curate.policy import Policy
from curate.statistics.exact import share_interval
from curate.teachers.evaluation import Measured, evaluate
from curate.verdicts import rule_of_each

FOUND_IOU = 0.5  # of a suggested box with a dropped one


@dataclass(frozen=True, slots=True)
class Row:
    """A line of the list: a label, or a place where one is said to be missing."""

    id: str
    score: float  # see `scored`; 0 = nothing was found
    kind: str | None  # what was planted there; None = nothing
    before: bool  # whether it was flagged before anything was planted


@dataclass(frozen=True, slots=True)
class KindResult:
    """How one kind of error fared.

    Attributes:
        kind: of `corrupt.KINDS`.
        n: how many were planted.
        n_in_budget: of these, how many stand among the first `budget` lines.
        recall: n_in_budget / n, with its exact 95 % interval.
        precision: of the first `budget` lines that are such an error or none that was planted, the share that are; a
            lower bound, with its exact 95 % interval.
        precision_without_earlier: the same without the lines that were flagged before anything was planted.
        average_precision: of the ranking of these errors among all labels without a planted one; a lower bound.
        average_precision_without_earlier: the same among those that were not flagged before anything was planted.
    """

    kind: str
    n: int
    n_in_budget: int
    recall: Measured
    precision: Measured
    precision_without_earlier: Measured
    average_precision: Measured
    average_precision_without_earlier: Measured


@dataclass(frozen=True, slots=True)
class PlantMeasures:
    """What a reviewer finds in the first `budget` lines.

    Attributes:
        budget: lines that are looked at.
        n_listed: lines that there are: all labels, and the places where one is said to be missing.
        n_planted_in_budget: of these, planted errors among the first `budget`.
        precision: their share; a lower bound, since labels that were not planted may be wrong as well.
        precision_with_earlier: the same with the rows counted as right that were flagged before anything was planted.
        kinds: by kind of error.
    """

    budget: int
    n_listed: int
    n_planted_in_budget: int
    precision: Measured
    precision_with_earlier: Measured
    kinds: tuple[KindResult, ...]

    def to_json(self) -> dict[str, Any]:
        """Return JSON values."""
        return asdict(self)


def scores_by_label(
    findings: pa.Table,
    policy: Policy,
    further: pa.Table | None = None,
    from_risk: Mapping[str, float] | None = None,
) -> dict[str, float]:
    """Return label id → the highest score of what was found about it, or of `further`.

    Args:
        findings: `schema.FINDINGS`.
        policy: what it acts on comes first: see `scored`.
        further: `label_id`, `risk` of labels whatever was found; it orders those about which nothing was.
        from_risk: see `scored`.
    """
    scores: dict[str, float] = {}
    tables = [scored(findings, policy, from_risk).select(["label_id", "score"])]
    tables += (
        [further.select(["label_id", "risk"]).rename_columns(["label_id", "score"])] if further is not None else []
    )
    for table in tables:
        for label_id, score in zip(table["label_id"].to_pylist(), table["score"].to_pylist(), strict=True):
            if label_id is not None:
                scores[label_id] = max(scores.get(label_id, 0.0), score)
    return scores


def scored(findings: pa.Table, policy: Policy, from_risk: Mapping[str, float] | None = None) -> pa.Table:
    """Return the findings with a `score` that orders them as a reviewer goes through them.

    First what the policy acts on (1 + risk), then what it leaves as it is (risk).

    Args:
        findings: `schema.FINDINGS`.
        policy: of the spec.
        from_risk: check → the risk from which on it tells of what is not flagged; what is told below that is told for
            its order alone, and the policy never sees it.
    """
    acts = _acts(findings, policy)
    for name, least in (from_risk or {}).items():
        low = pc.and_(pc.equal(findings["check"], name), pc.less(findings["risk"], least))
        acts = pc.and_not(acts, pc.and_not(low, pc.fill_null(findings["flagged"], False)))  # noqa: FBT003 - a value
    acts = pc.cast(acts, pa.float64())
    return findings.append_column("score", pc.add(findings["risk"], acts))


def flagged_labels(findings: pa.Table, policy: Policy) -> set[str]:
    """Return the labels about which the policy does something."""
    return set(findings.filter(_acts(findings, policy))["label_id"].drop_null().to_pylist())


def _acts(findings: pa.Table, policy: Policy) -> pa.Array:
    rules = policy.all_rules()
    acts = np.array([rule.action != "keep" for rule in rules] + [False])
    return pa.array(acts[rule_of_each(findings, rules)], pa.bool_())


def rows_of(
    labels: pa.Table, planted: pa.Table, scores: Mapping[str, float], missing: pa.Table, before: set[str]
) -> list[Row]:
    """Return every line: labels, places where one is said to be missing, and dropped boxes that nobody missed.

    A dropped box is found by the first place in its image that overlaps it by at least `FOUND_IOU`; further ones
    on the same box are no line of their own. One of a track is found at the next label of the track as well, where
    a gap shows: the two are one line.

    Args:
        labels: `schema.LABELS` with planted errors.
        planted: `choose.PLANTED`.
        scores: see `scores_by_label`.
        missing: see `missing_places`.
        before: ids of labels that were flagged before anything was planted.
    """
    kinds = dict(zip(planted["label_id"].to_pylist(), planted["kind"].to_pylist(), strict=True))
    beside = set(planted["seen_at"].drop_null().to_pylist())
    ids = [one for one in labels["label_id"].to_pylist() if one not in beside]
    rows = [Row(one, scores.get(one, 0.0), kinds.get(one), one in before) for one in ids]
    dropped = [row for row in planted.to_pylist() if row["kind"] == "drop"]
    places = sorted(missing.to_pylist(), key=lambda row: (-row["score"], row["finding_id"]))
    of_image: dict[str, list[dict[str, Any]]] = {}
    for place in places:
        of_image.setdefault(place["sample_id"], []).append(place)
    used: set[str] = set()
    for box in dropped:
        there = of_image.get(box["sample_id"], [])
        near = [place for place in there if iou(place["suggested_bbox"], box["bbox"]) >= FOUND_IOU]
        used |= {place["finding_id"] for place in near}
        score = max(near[0]["score"] if near else 0.0, scores.get(box["seen_at"], 0.0))
        rows.append(Row(box["label_id"], score, "drop", before=False))
    rows += [
        Row(place["finding_id"], place["score"], None, before=False)
        for place in places
        if place["finding_id"] not in used
    ]
    return rows


def missing_places(findings: pa.Table, policy: Policy, from_risk: Mapping[str, float] | None = None) -> pa.Table:
    """Return the findings that say where a label is missing, with their `score`."""
    places = pc.and_(pc.is_null(findings["label_id"]), pc.is_valid(findings["suggested_bbox"]))
    return scored(findings.filter(places), policy, from_risk)


def measure(
    rows: Sequence[Row], kinds: Sequence[str], *, budget: int | None = None, seed: int = 0
) -> PlantMeasures:
    """Return what is found among the first `budget` lines of the list, riskiest first, ties by a hash of the id.

    Args:
        rows: see `rows_of`.
        kinds: that were planted.
        budget: lines that are looked at; None = as many as errors were planted.
        seed: of the bootstrap.
    """
    n_errors = sum(row.kind is not None for row in rows)
    chosen = budget if budget is not None else max(1, n_errors)
    listed = sorted(rows, key=lambda row: (-row.score, number_of("list", row.id)))
    top = listed[:chosen]
    hits = sum(row.kind is not None for row in top)
    earlier = sum(row.kind is None and row.before for row in top)
    found = tuple(_of_kind(kind, rows, top, seed) for kind in kinds)
    return PlantMeasures(chosen, len(listed), hits, _share(hits, len(top)), _share(hits + earlier, len(top)), found)


def _of_kind(kind: str, rows: Sequence[Row], top: Sequence[Row], seed: int) -> KindResult:
    compared = [row for row in rows if row.kind in {kind, None}]
    n = sum(row.kind == kind for row in compared)
    n_found = sum(row.kind == kind for row in top)
    n_alarms = sum(row.kind is None for row in top)
    n_fresh = sum(row.kind is None and not row.before for row in top)
    fresh = [row for row in compared if row.kind or not row.before]
    ranked = (_average_precision(chosen, kind, seed) for chosen in (compared, fresh))
    precisions = (_share(n_found, n_found + alarms) for alarms in (n_alarms, n_fresh))
    return KindResult(kind, n, n_found, _share(n_found, n), *precisions, *ranked)


def _average_precision(rows: Sequence[Row], kind: str, seed: int) -> Measured:
    wrong = np.array([row.kind == kind for row in rows], dtype=bool)
    risk = np.array([row.score for row in rows], dtype=float)
    return evaluate(risk, np.zeros(len(rows), bool), wrong, seed=seed).average_precision


def _share(n_hits: int, n: int) -> Measured:
    if not n:
        return Measured(None, None, None)
    return Measured(n_hits / n, *share_interval(n_hits, n))
