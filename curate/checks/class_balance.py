"""How the labels are spread over the classes and over the splits."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import pyarrow as pa

from curate.check import Batches, Check, build_statistics
from curate.statistics.diversity import effective_number, evenness, js_divergence, js_expected_by_chance
from curate.statistics.intervals import wilson

NAME = "class_balance"
INSUFFICIENT = "insufficient data"

Counts = Counter[tuple[str | None, str]]  # (split, class) -> labels


@dataclass(frozen=True, slots=True)
class ClassBalanceParams:
    """What a class is.

    Attributes:
        classes: the declared classes; None = those that occur.
        min_per_class: a class with fewer labels is "insufficient data".
    """

    classes: tuple[str, ...] | None = None
    min_per_class: int = 10


def fit(batches: Batches, params: ClassBalanceParams) -> Counts:  # noqa: ARG001 - the shape of Check.fit
    """Count the labels of each split and class."""
    counts: Counts = Counter()
    for batch in batches:
        table = pa.Table.from_batches([batch.select(["split", "label"])])
        for row in table.group_by(["split", "label"]).aggregate([([], "count_all")]).to_pylist():
            counts[row["split"], row["label"]] += row["count_all"]
    return counts


def summarize(counts: Counts, params: ClassBalanceParams) -> pa.Table:
    """Return counts and shares per class, diversity as a whole and per split, and how far splits are apart."""
    seen = {label for _, label in counts}
    classes = sorted(set(params.classes or ()) | seen)
    total = dict.fromkeys(classes, 0)
    for (_, label), n in counts.items():
        total[label] += n
    splits = sorted({split for split, _ in counts if split is not None})
    by_split = {split: [counts[split, name] for name in classes] for split in splits}
    rows = _per_class(total, params)
    rows += _diversity(None, list(total.values()), params)
    for split in splits:
        rows += _diversity(f"split={split}", by_split[split], params)
        rows += _split_classes(split, dict(zip(classes, by_split[split], strict=True)))
    rows += [_divergence(f"splits={a}|{b}", by_split[a], by_split[b], params) for a, b in combinations(splits, 2)]
    rows += _declared(params, seen, sum(total.values()))
    return build_statistics(NAME, rows)


def _per_class(total: dict[str, int], params: ClassBalanceParams) -> list[dict[str, Any]]:
    n = sum(total.values())
    rows: list[dict[str, Any]] = []
    for name, count in total.items():
        group = f"class={name}"
        low, high = wilson(count, n)
        too_few = {"outcome": INSUFFICIENT} if count < params.min_per_class else {}
        share = count / n if n else None
        rows.append({"name": "n_labels", "group": group, "value": float(count), "n": count, **too_few})
        rows.append({"name": "share", "group": group, "value": share, "low": low, "high": high, "n": n, **too_few})
    return rows


def _split_classes(split: str, counts: dict[str, int]) -> list[dict[str, Any]]:
    return [
        {"name": "n_labels", "group": f"split={split};class={name}", "value": float(count), "n": count}
        for name, count in counts.items()
    ]


def _diversity(group: str | None, counts: list[int], params: ClassBalanceParams) -> list[dict[str, Any]]:
    """Return effective number, evenness and imbalance ratio of one set of counts.

    The imbalance ratio is largest by smallest class; a class without labels makes it undefined, not large.
    """
    n = sum(counts)
    few = n < params.min_per_class
    smallest = min(counts, default=0)
    values: dict[str, tuple[float | None, dict[str, Any]]] = {
        "effective_classes": (effective_number(counts) if n else None, {"n_classes": len(counts)}),
        "evenness": (evenness(counts) if n else None, {"n_classes": len(counts)}),
        "imbalance_ratio": (
            max(counts) / smallest if smallest else None,
            {"n_empty": sum(count == 0 for count in counts)},
        ),
    }
    return [
        {"name": name, "group": group, "value": value, "n": n, "detail": detail}
        | ({"outcome": INSUFFICIENT} if few or value is None else {})
        for name, (value, detail) in values.items()
    ]


def _divergence(group: str, a: list[int], b: list[int], params: ClassBalanceParams) -> dict[str, Any]:
    value = js_divergence(a, b)
    chance = js_expected_by_chance(a, b)
    few = value is None or sum(a) < params.min_per_class or sum(b) < params.min_per_class
    detail = {"method": "Jensen-Shannon, base 2", "expected_by_chance": chance}
    row = {"name": "split_divergence", "group": group, "value": value, "n": sum(a) + sum(b), "detail": detail}
    return row | ({"outcome": INSUFFICIENT} if few else {})


def _declared(params: ClassBalanceParams, seen: set[str], n: int) -> list[dict[str, Any]]:
    """Return how many declared classes have no label and how many labels are of no declared class."""
    if params.classes is None or n == 0:
        return [
            {
                "name": name,
                "n": n,
                "outcome": INSUFFICIENT,
                "detail": {"why": "no label" if n == 0 else "no class is declared"},
            }
            for name in ("n_absent_classes", "n_undeclared_classes")
        ]
    absent = sorted(set(params.classes) - seen)
    undeclared = sorted(seen - set(params.classes))
    return [
        {"name": "n_absent_classes", "value": float(len(absent)), "n": n, "detail": {"classes": absent}},
        {
            "name": "n_undeclared_classes",
            "value": float(len(undeclared)),
            "n": n,
            "detail": {"classes": undeclared},
        },
    ]


CHECK = Check(
    name=NAME,
    version=1,
    view="labels",
    needs=("split", "label"),
    scope="dataset",
    statistics=(
        "n_labels",
        "share",
        "split_divergence",
        "effective_classes",
        "evenness",
        "imbalance_ratio",
        "n_absent_classes",
        "n_undeclared_classes",
    ),
    params=ClassBalanceParams(),
    fit=fit,
    summarize=summarize,
)
