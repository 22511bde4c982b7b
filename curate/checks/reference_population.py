"""An attribute's values against a named population: compared among the values that the population names."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from curate.checks.attributes import SMALL, why_hidden
from curate.statistics.association import fit_to_reference
from curate.statistics.diversity import js_divergence
from curate.statistics.intervals import wilson

INSUFFICIENT = "insufficient data"
FAIR = (0.8, 1.25)  # a representation ratio is remarked on when its whole interval is outside
Rows = list[dict[str, Any]]


def against_reference(
    column: str,
    known: Mapping[str, int],
    reference: Mapping[str, float],
    hidden: Collection[str],
    detail: Mapping[str, Any],
    min_known: int,
) -> Rows:
    """Return effect size and divergence from the reference, the ratio of each value, and what it does not name.

    Shares are of the pictures whose value the reference names. A ratio is remarked on only where its whole
    interval is outside [0.8, 1.25].

    Args:
        column: the attribute's column, which is the group of the statistics.
        known: value → count; with the reference's own values, which may be 0.
        reference: value → share; scaled to sum to 1.
        hidden: values whose counts must not be shown, nor be worked out from what is.
        detail: goes into every row.
        min_known: fewer named pictures are "insufficient data".
    """
    n = sum(known.values())
    named = {value: count for value, count in known.items() if value in reference}
    strange = sorted(value for value, count in known.items() if count and value not in reference)
    lowest, highest = n_not_named(known, reference, hidden)
    facts = {**detail, "not_in_reference": strange, "n_not_in_reference": [lowest, highest]}
    why_few = _why_too_few(sum(named.values()), min_known)
    n_named = n - lowest if lowest == highest else None
    rows: Rows = [_share_not_named(column, n, (lowest, highest), facts)]
    rows += _fit(column, named, reference, n_named, facts, why_few)
    total = sum(reference.values())
    sizes = (n - lowest, n - (lowest + highest) // 2, n - highest)
    few = {"outcome": INSUFFICIENT} if why_few else {}
    for value, count in named.items():
        row = {"name": "representation_ratio", "group": f"{column}={value}"}
        why = ""
        if not any(named.values()):
            why = why_few
        elif value in hidden:
            why = why_hidden(count)
        elif reference[value] <= 0:
            why = "the reference has no share to hold it against"
        if why:
            rows.append({**row, "outcome": INSUFFICIENT, "detail": {**facts, "insufficient": why}})
            continue
        expected = reference[value] / total
        low, high = wilson(count, sizes[0])[0] / expected, wilson(count, sizes[2])[1] / expected
        remark = "over" if low > FAIR[1] else "under" if high < FAIR[0] else None
        ratio = {"value": count / sizes[1] / expected, "low": low, "high": high, "n": n_named}
        about = {**facts, "represented": remark, **_told(why_few)}
        rows.append({**row, **ratio, **few, "detail": about})
    return rows


def n_not_named(
    known: Mapping[str, int], reference: Mapping[str, float], hidden: Collection[str]
) -> tuple[int, int]:
    """Return the lowest and the highest number of pictures whose value the reference does not name.

    Both follow from what is shown alone (a hidden value has 1 to 9 pictures, or at least 10 where it is hidden
    with another), so they tell nothing more of a small group; they are equal where nothing is to be hidden.
    """
    shown = sum(count for value, count in known.items() if value not in reference and value not in hidden)
    all_hidden = sum(known[value] for value in hidden)
    outside = [known[value] for value in hidden if value not in reference]
    inside = [known[value] for value in hidden if value in reference]
    lowest = max(_bounds(outside, all_hidden)[0], all_hidden - _bounds(inside, all_hidden)[1])
    highest = min(_bounds(outside, all_hidden)[1], all_hidden - _bounds(inside, all_hidden)[0])
    return shown + lowest, shown + highest


def _bounds(counts: list[int], limit: int) -> tuple[int, int]:
    """Return the least and most that hidden counts can sum to, by how they are shown."""
    n_large = sum(count >= SMALL for count in counts)
    n_small = len(counts) - n_large
    return n_small + SMALL * n_large, limit if n_large else (SMALL - 1) * n_small


def _why_too_few(n_named: int, min_known: int) -> str:
    """Return why nothing can be said of the pictures whose value is named; empty where they are enough."""
    if not n_named:
        return "the reference names no value that occurs"
    return f"fewer than {min_known} pictures have a value that the reference names" if n_named < min_known else ""


def _told(why: str) -> dict[str, str]:
    return {"insufficient": why} if why else {}


def _share_not_named(column: str, n: int, ends: tuple[int, int], facts: Mapping[str, Any]) -> dict[str, Any]:
    row = {"name": "share_not_in_reference", "group": column, "n": n}
    if not n:
        return {**row, "outcome": INSUFFICIENT, "detail": {**facts, "insufficient": "no value is known"}}
    if ends[0] != ends[1]:
        why = f"{ends[0]} to {ends[1]} pictures: to be exact would show a group of fewer than {SMALL}"
        return {**row, "outcome": INSUFFICIENT, "detail": {**facts, "insufficient": why}}
    low, high = wilson(ends[0], n)
    return {**row, "value": ends[0] / n, "low": low, "high": high, "detail": facts}


def _fit(
    column: str,
    named: Mapping[str, int],
    reference: Mapping[str, float],
    n_named: int | None,
    facts: Mapping[str, Any],
    why_few: str,
) -> Rows:
    """Return Cohen's w and the Jensen-Shannon divergence; w is undefined where a value has a share of 0 and occurs."""
    counts, shares = list(named.values()), [reference[value] for value in named]
    fit = fit_to_reference(counts, shares)
    is_defined = fit is not None and fit.w != float("inf")
    w: dict[str, Any] = (
        {"value": fit.w, "detail": {**facts, "p_value": fit.p_value}} if fit and is_defined else {"detail": facts}
    )
    divergence = js_divergence(counts, shares)
    rows: Rows = []
    apart: dict[str, Any] = {"value": divergence, "detail": facts}
    for name, row, known in (
        ("reference_w", w, is_defined),
        ("reference_divergence", apart, divergence is not None),
    ):
        detail = {**row["detail"], **_told(why_few)}
        outcome = {} if known and not why_few else {"outcome": INSUFFICIENT}
        rows.append({"name": name, "group": column, "n": n_named, **row, "detail": detail, **outcome})
    return rows
