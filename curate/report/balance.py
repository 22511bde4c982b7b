"""What the report says of balance: classes over splits, and the attributes of what is shown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from curate.report import charts
from curate.report.content import by_group, one
from curate.report.wording import interval, percent

Rows = Sequence[Mapping[str, Any]]
N_CELLS = 12


def class_facts(rows: Rows) -> list[tuple[str, str, str]]:
    """Return name, value and meaning of the numbers about the given labels."""
    told = []
    effective = one(rows, "class_balance", "effective_classes")
    if effective is not None and effective["value"] is not None:
        n = effective["detail"].get("n_classes", 0)
        text = f"{effective['value']:.2f} of {n}"
        told.append(("effective classes", text, "as many equally frequent classes would be as diverse"))
    ratio = one(rows, "class_balance", "imbalance_ratio")
    if ratio is not None and ratio["value"] is not None:
        told.append(
            ("imbalance ratio", f"{ratio['value']:.2f}", "labels of the largest class by those of the smallest")
        )
    elif ratio is not None and ratio["detail"].get("n_empty"):
        told.append(("empty classes", f"{ratio['detail']['n_empty']}", "declared, and without a label"))
    for row in rows:
        if (row["check"], row["name"]) == ("class_balance", "split_divergence") and row["value"] is not None:
            pair = row["group"].removeprefix("splits=").replace("|", " and ")
            chance = row["detail"].get("expected_by_chance")
            meaning = "Jensen-Shannon, 0 = the same classes in the same shares, 1 = no class in common"
            if chance is not None:
                meaning += f"; {chance:.4f} is expected by chance"
            told.append((f"{pair} apart by", f"{row['value']:.4f}", meaning))
    return told


def class_chart(rows: Rows) -> str:
    """Return the share of each class among the given labels, with intervals."""
    shares = by_group(rows, "class_balance", "share", "class=")
    return charts.bars(shares, title="share of given labels by class", unit="%")


def attributes(rows: Rows) -> list[dict[str, Any]]:
    """Return a table for each attribute: its values, how it was obtained, how it goes together with the labels."""
    names = [row["group"] for row in rows if (row["check"], row["name"]) == ("demographic_balance", "share_known")]
    return [_attribute(rows, name) for name in sorted(names)]


def _attribute(rows: Rows, column: str) -> dict[str, Any]:
    mine = {(row["name"], row["group"]): row for row in rows if row["check"] == "demographic_balance"}
    known = mine["share_known", column]
    link = next((r for r in rows if r["check"] == "attribute_association" and r["group"] == column), None)
    values = [
        _value(mine, group)
        for name, group in mine
        if name == "n_samples" and group is not None and group.startswith(f"{column}=")
    ]
    effective = mine.get(("effective_groups", column))
    reference = mine.get(("reference_w", column))
    return {
        "name": _title(column),
        "obtained": known["detail"].get("obtained", "undeclared"),
        "may_gate": known["detail"].get("may_gate", False),
        "known": percent(known["value"]) if known["value"] is not None else "none",
        "n": known["n"],
        "values": sorted(values, key=lambda value: value["order"]),
        "has_ratio": any(value["ratio"] for value in values),
        "effective": effective["value"] if effective else None,
        "reference": reference["detail"].get("reference") if reference else None,
        "not_named": _not_named(reference["detail"]) if reference else "",
        "association": _association(link),
    }


def _not_named(detail: Mapping[str, Any]) -> str:
    """Return which values a reference does not name and how many pictures have one; nothing where it names all."""
    values, ends = detail.get("not_in_reference") or [], detail.get("n_not_in_reference")
    if not values:
        return ""
    shown = ", ".join(values[:N_CELLS]) + (f" and {len(values) - N_CELLS} more" if len(values) > N_CELLS else "")
    if ends is None:  # a version of before this was counted
        return shown
    return (
        f"{shown} ({ends[0]:,} pictures)"
        if ends[0] == ends[1]
        else f"{shown} ({ends[0]:,} to {ends[1]:,} pictures)"
    )


def _value(mine: Mapping[tuple[str, Any], Mapping[str, Any]], group: str) -> dict[str, Any]:
    count, share = mine["n_samples", group], mine.get(("share", group))
    ratio = mine.get(("representation_ratio", group))
    name = group.partition("=")[2]
    has_share = share is not None and share["value"] is not None
    ratio = ratio if ratio and ratio["value"] is not None else None
    return {
        "order": (name == "(unknown)", count["value"] is None, -(count["value"] or 0.0), name),
        "value": "unknown" if name == "(unknown)" else name,
        "n": f"{count['value']:,.0f}"
        if count["value"] is not None
        else str(count["detail"].get("shown", "hidden")),
        "share": percent(share["value"]) if share and has_share else "",
        "width": round(100 * share["value"], 1) if share and has_share else 0.0,
        "interval": interval(share["low"], share["high"]) if share else "",
        "ratio": f"{ratio['value']:.2f} ({interval(ratio['low'], ratio['high'], share=False)})" if ratio else "",
        "remark": f"{ratio['detail'].get('represented')}-represented"
        if ratio and ratio["detail"].get("represented")
        else "",
    }


def _association(row: Mapping[str, Any] | None) -> dict[str, Any] | None:
    if row is None or row["value"] is None:
        return None
    cells = [
        {
            "value": cell["value"],
            "label": cell["label"],
            "way": "more often" if cell.get("more_often", (cell["residual"] or 0) > 0) else "less often",
            "residual": "few" if cell["residual"] is None else f"{cell['residual']:+.1f}",
            "risk": cell.get("relation") or _risk(cell["relative_risk"]),
        }
        for cell in row["detail"].get("cells", ())[:N_CELLS]
    ]
    return {"v": f"{row['value']:.3f}", "cells": cells, "is_total": row["detail"].get("determines_label", False)}


def _risk(ratio: Sequence[float] | None) -> str:
    """Return a relative risk with its interval; None stands for groups that are too small to show."""
    return f"{ratio[0]:.2f} ({interval(ratio[1], ratio[2], share=False)})" if ratio else "too few to say"


def gaps(rows: Rows) -> list[dict[str, str]]:
    """Return the combinations of attributes that chance would have filled and that do not occur, and what is unjudged.

    A pair of attributes without a gap is told where combinations could not be judged: 0 of those judged is not none.
    """
    told = []
    for row in rows:
        if (row["check"], row["name"]) != ("demographic_balance", "n_gaps") or row["value"] is None:
            continue
        n_unjudged, n_cells = row["detail"].get("n_unjudged_cells", 0), row["detail"].get("n_cells", 0)
        if not row["value"] and not n_unjudged:
            continue
        a, _, b = row["group"].partition(";")
        shown = "; ".join(f"{x} and {y}" for x, y in row["detail"].get("gaps", ())[:N_CELLS])
        few = f"{n_unjudged:,} of {n_cells:,}" if n_unjudged else "none"
        told.append(
            {"pair": f"{_title(a)} and {_title(b)}", "n": f"{row['value']:.0f}", "unjudged": few, "gaps": shown}
        )
    return told


def _title(column: str) -> str:
    return column.removeprefix("attr_").replace("_", " ")
