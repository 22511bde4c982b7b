"""Who and what is shown: shares of attribute values, gaps, and a named reference where there is one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations, product
from typing import Any

import pyarrow as pa

from curate import schema
from curate.check import Batches, Check, build_statistics
from curate.checks.attributes import (
    SMALL,
    UNKNOWN,
    AttributeDeclaration,
    as_published,
    attribute_columns,
    declared,
    shown_instead,
    suppressed,
    why_hidden,
)
from curate.checks.reference_population import against_reference
from curate.statistics.diversity import effective_number, evenness
from curate.statistics.intervals import wilson

NAME = "demographic_balance"
INSUFFICIENT = "insufficient data"
Rows = list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class DemographicBalanceParams:
    """Declarations come from the spec.

    Attributes:
        attributes: what is declared; a column without a declaration is "undeclared".
        min_known: fewer known values are "insufficient data".
        min_expected: an empty intersection is a gap if this many samples would be there by chance.
    """

    attributes: tuple[AttributeDeclaration, ...] = ()
    min_known: int = 30
    min_expected: float = 5.0


@dataclass(slots=True)
class _State:
    single: dict[str, Counter[str | None]]
    double: dict[tuple[str, str], Counter[tuple[str | None, str | None]]]


def fit(batches: Batches, params: DemographicBalanceParams) -> _State:  # noqa: ARG001 - the shape of Check.fit
    """Count the values of each attribute and of each pair of attributes over samples."""
    state = _State({}, {})
    for batch in batches:
        columns = attribute_columns(batch.schema.names)
        table = pa.Table.from_batches([batch.select(columns)])
        for column in columns:
            counts = state.single.setdefault(column, Counter())
            for row in table.group_by([column]).aggregate([([], "count_all")]).to_pylist():
                counts[row[column]] += row["count_all"]
        for a, b in combinations(columns, 2):
            pairs = state.double.setdefault((a, b), Counter())
            for row in table.group_by([a, b]).aggregate([([], "count_all")]).to_pylist():
                pairs[row[a], row[b]] += row["count_all"]
    return state


def summarize(state: _State, params: DemographicBalanceParams) -> pa.Table:
    """Return shares with intervals, diversity, representation and gaps; nothing against a silent reference."""
    rows: Rows = []
    for column, counts in state.single.items():
        declaration = declared(column.removeprefix(schema.ATTRIBUTE_PREFIX), params.attributes)
        detail = {"obtained": declaration.obtained, "may_gate": declaration.may_gate}
        rows += _attribute(column, counts, declaration, detail, params)
    for (a, b), pairs in state.double.items():
        rows += _gaps(a, b, pairs, params)
    return build_statistics(NAME, rows)


def _attribute(
    column: str,
    counts: Counter[str | None],
    declaration: AttributeDeclaration,
    detail: dict[str, Any],
    params: DemographicBalanceParams,
) -> Rows:
    total = counts.total()
    reference = dict(declaration.reference or ())
    known = {value: counts[value] for value in sorted({v for v in counts if v is not None} | set(reference))}
    n = sum(known.values())
    few = {"outcome": INSUFFICIENT} if n < params.min_known else {}
    low, high = wilson(n, total)
    share = {"value": n / total if total else None, "low": low, "high": high, "n": total}
    rows: Rows = [{"name": "share_known", "group": column, **share, "detail": detail}]
    hidden = suppressed(known)
    rows += _values(column, {**known, UNKNOWN: counts[None]}, n, hidden, {**detail, **_denominator(n)}, few)
    sizes = as_published(known)  # an exact diversity beside the other counts would give the hidden ones away
    for name, value in (("effective_groups", effective_number(sizes)), ("evenness", evenness(sizes))):
        missing = {"outcome": INSUFFICIENT} if value is None or not n else few
        rows.append({"name": name, "group": column, "value": value, "n": n, "detail": detail, **missing})
    if reference:
        detail = {**detail, "reference": declaration.reference_name}
        rows += against_reference(column, known, reference, hidden, detail, params.min_known)
    return rows


def _denominator(n: int) -> dict[str, Any]:
    return {"n_known": n if n >= SMALL or n == 0 else f"<{SMALL}"}


def _values(
    column: str,
    counts: Mapping[str, int],
    n: int,
    hidden: set[str],
    detail: dict[str, Any],
    few: dict[str, str],
) -> Rows:
    """Return count and share of each value; the unknown have a count and are in no denominator.

    A value whose numbers are hidden keeps its rows, so that a gate over all values meets it as "insufficient data".
    """
    rows: Rows = []
    for value, count in counts.items():
        group = f"{column}={value}"
        if value in hidden:
            shown = {"shown": shown_instead(count), "insufficient": why_hidden(count)}
            told = {"group": group, "outcome": INSUFFICIENT, "detail": {**detail, **shown}}
            rows += [{"name": name, **told} for name in ("n_samples", "share")]
            continue
        rows.append({"name": "n_samples", "group": group, "value": float(count), "n": count, "detail": detail})
        if value != UNKNOWN and n:
            low, high = wilson(count, n)
            share = {"value": count / n, "low": low, "high": high, "n": n}
            rows.append({"name": "share", "group": group, **share, "detail": detail, **few})
    return rows


def _gaps(a: str, b: str, pairs: Counter[tuple[str | None, str | None]], params: DemographicBalanceParams) -> Rows:
    """Return how many intersections are empty although chance alone would fill them, and how many are not judged.

    Not judged: fewer than 10 pictures, or none and none to be expected. The number of gaps then runs from those
    seen to those and all that are not judged; a 0 is no pass, it is "insufficient data".
    """
    known = {(x, y): n for (x, y), n in pairs.items() if x is not None and y is not None}
    n = sum(known.values())
    of_a: Counter[str] = Counter()
    of_b: Counter[str] = Counter()
    for (x, y), count in known.items():
        of_a[x] += count
        of_b[y] += count
    empty = [(x, y, of_a[x] * of_b[y] / n) for x, y in product(sorted(of_a), sorted(of_b)) if (x, y) not in known]
    gaps = [(x, y) for x, y, expected in empty if expected >= params.min_expected]
    n_small = sum(0 < count < SMALL for count in known.values())
    n_cells, n_unjudged = len(of_a) * len(of_b), n_small + len(empty) - len(gaps)
    cells = {"n_cells": n_cells, "n_small_cells": n_small, "n_unjudged_cells": n_unjudged}
    group = {"group": f"{a};{b}", "n": n}
    why = ""
    if n_unjudged and not gaps:
        rest = "; no gap among the others" if n_unjudged < n_cells else ""
        why = f"{n_unjudged} of {n_cells} combinations have too few pictures to be judged{rest}"
    if n < params.min_known:
        why = f"both values are known of {'no picture' if not n else f'fewer than {params.min_known} pictures'}"
    few = {"outcome": INSUFFICIENT} if why else {}
    told = {"gaps": gaps[:50], **cells, **({"insufficient": why} if why else {})}
    ends = {"low": float(len(gaps)), "high": float(len(gaps) + n_unjudged)}
    return [
        {"name": "n_gaps", **group, "value": float(len(gaps)), **ends, "detail": told, **few},
        {"name": "n_unjudged_cells", **group, "value": float(n_unjudged), "detail": cells},
    ]


CHECK = Check(
    name=NAME,
    version=3,
    view="samples",
    needs=("attr_*",),
    scope="dataset",
    statistics=(
        "share_known",
        "n_samples",
        "share",
        "effective_groups",
        "evenness",
        "representation_ratio",
        "share_not_in_reference",
        "reference_w",
        "reference_divergence",
        "n_gaps",
        "n_unjudged_cells",
    ),
    params=DemographicBalanceParams(),
    fit=fit,
    summarize=summarize,
)
