"""Whether labels go together with attributes: an effect size per attribute, and the cells that stand out."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate import schema
from curate.check import Batches, Check, build_statistics
from curate.checks.attributes import SMALL, AttributeDeclaration, attribute_columns, declared, suppressed
from curate.statistics.association import adjusted_residuals, cramers_v, discoveries, two_sided_p
from curate.statistics.intervals import relative_risk

NAME = "attribute_association"
Counts = dict[str, Counter[tuple[str, str]]]


@dataclass(frozen=True, slots=True)
class AttributeAssociationParams:
    """`attributes` come from the spec; fewer than `min_known` samples are "insufficient data"."""

    attributes: tuple[AttributeDeclaration, ...] = ()
    min_known: int = 30
    false_discovery_rate: float = 0.05
    max_cells: int = 20


def fit(batches: Batches, params: AttributeAssociationParams) -> Counts:  # noqa: ARG001 - the shape of Check.fit
    """Count samples by attribute value and label; a sample counts once for each of its labels."""
    parts = []
    for batch in batches:
        columns = attribute_columns(batch.schema.names)
        parts.append(batch.select(["sample_id", "label", *columns]))
    if not parts:
        return {}
    table = pa.Table.from_batches(parts)
    counts: Counts = {}
    for column in attribute_columns(table.column_names):
        known = table.select(["sample_id", "label", column]).filter(pc.is_valid(table[column]))
        once = known.group_by(["sample_id", "label", column]).aggregate([])
        cells = once.group_by([column, "label"]).aggregate([([], "count_all")]).to_pylist()
        counts[column] = Counter({(row[column], row["label"]): row["count_all"] for row in cells})
    return counts


def summarize(counts: Counts, params: AttributeAssociationParams) -> pa.Table:
    """Return the bias-corrected Cramér's V of each attribute with the labels."""
    return build_statistics(NAME, [_association(column, cells, params) for column, cells in counts.items()])


def _association(
    column: str, cells: Counter[tuple[str, str]], params: AttributeAssociationParams
) -> dict[str, Any]:
    declaration = declared(column.removeprefix(schema.ATTRIBUTE_PREFIX), params.attributes)
    values, labels = sorted({v for v, _ in cells}), sorted({label for _, label in cells})
    table = np.asarray([[cells[v, label] for label in labels] for v in values], dtype=np.float64)
    table = table.reshape(len(values), len(labels))
    n = int(table.sum())
    strength = cramers_v(_as_published(table, values)) if n else None
    detail = {
        "obtained": declaration.obtained,
        "may_gate": declaration.may_gate,
        "method": "Cramér's V, bias-corrected (Bergsma 2013); values with few pictures as one",
        "determines_label": n >= params.min_known and _determines(table),
        "cells": _standing_out(table, values, labels, params) if n >= params.min_known else [],
    }
    row = {"name": "cramers_v", "group": column, "value": strength, "n": n, "detail": detail}
    return row | ({"outcome": "insufficient data"} if strength is None or n < params.min_known else {})


def _as_published(table: Any, values: list[str]) -> Any:  # noqa: ANN401 - (values, labels) floats
    """Return the table with the values whose counts are hidden as one row: exact, it would give them away."""
    hidden = suppressed({value: int(row.sum()) for value, row in zip(values, table, strict=True)})
    is_hidden = np.asarray([value in hidden for value in values], dtype=np.bool_)
    if not is_hidden.any():
        return table
    return np.concatenate([table[~is_hidden], table[is_hidden].sum(axis=0, keepdims=True)])


def _determines(table: Any) -> bool:  # noqa: ANN401 - (values, labels) floats
    """Return whether each value occurs with one label only, and not all with the same; small values are left out."""
    large = table[table.sum(axis=1) >= SMALL]
    labels = large > 0
    return len(large) > 1 and bool((labels.sum(axis=1) == 1).all()) and int(labels.any(axis=0).sum()) > 1


def _standing_out(
    table: Any,  # noqa: ANN401 - (values, labels) floats
    values: list[str],
    labels: list[str],
    params: AttributeAssociationParams,
) -> list[dict[str, Any]]:
    """Return the cells whose residual is a discovery, strongest first, with the relative risk to the others.

    The relative risk is a heuristic's number (four fifths); a cell or group too small to show has none, and no
    residual. Nor has a label that occurs with this value alone, or never with it, a risk: the ratio is infinite or 0,
    and that is its `relation`.
    """
    residuals = adjusted_residuals(table)
    found = np.argwhere(discoveries(two_sided_p(residuals), params.false_discovery_rate))
    picked = sorted(found.tolist(), key=lambda at: (-abs(residuals[at[0], at[1]]), at))
    cells = []
    for i, j in picked[: params.max_cells]:
        inside, rest = int(table[i].sum()), int(table.sum() - table[i].sum())
        hits, hits_rest = int(table[i, j]), int(table[:, j].sum() - table[i, j])
        is_small = 0 < hits < SMALL or 0 < hits_rest < SMALL or inside < SMALL or rest < SMALL
        relation = None if is_small else _relation(hits, inside, hits_rest)
        ratio = None if is_small or relation else relative_risk(hits, inside, hits_rest, rest)
        shown = [round(v, 4) for v in ratio] if ratio else None
        residual = float(residuals[i, j])
        # beside the counts of values and labels an exact residual would give a small cell away
        told: dict[str, Any] = {"residual": None if is_small else round(residual, 2), "more_often": residual > 0}
        told |= {"relative_risk": shown, "relation": relation}
        cells.append({"value": values[i], "label": labels[j], **told})
    return cells


def _relation(hits: int, inside: int, hits_rest: int) -> str | None:
    """Return what a value and a label are to each other where a ratio of shares would be made of a zero."""
    if not hits_rest:
        return "always, and nowhere else" if hits == inside else "nowhere else"
    return None if hits else "never"


CHECK = Check(
    name=NAME,
    version=3,
    view="labels",
    needs=("sample_id", "label", "attr_*"),
    scope="dataset",
    statistics=("cramers_v",),
    params=AttributeAssociationParams(),
    fit=fit,
    summarize=summarize,
)
