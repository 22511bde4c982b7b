"""What a run's summary says of its teachers: who failed, what was left out, and who agrees with nothing."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc


def teachers_failed(statistics: pa.Table, outcome: str = "errored") -> list[str]:
    """Return name and reason of every teacher that failed; or, for "insufficient data", that had too little to go on."""
    told = []
    for row in statistics.to_pylist():
        if (row["check"], row["name"], row["outcome"]) == ("teachers", "ran", outcome):
            message = json.loads(row["detail"] or "{}").get("message", "")
            told.append(f"{(row['group'] or '').removeprefix('teacher=')}: {message}")
    return told


def reasons_once(message: str, failed: Sequence[str]) -> str:
    """Return what a gate says without the reasons of teachers that `failed` (`teachers_failed`) tells above it."""
    for _, _, why in (one.partition(": ") for one in failed):
        message = message.replace(why, "its reason stands above") if why else message
    return message


def order_warnings(statistics: pa.Table) -> list[str]:
    """Return what the label-noise check says about teachers whose classes seem to stand in another order."""
    rows = statistics.filter(pc.equal(statistics["name"], "n_classes_in_other_columns"))
    return [json.loads(detail)["message"] for detail in rows["detail"].to_pylist()]


def teachers_warn(cards: Sequence[Mapping[str, Any]], statistics: pa.Table) -> list[str]:
    """Return a line a teacher that answered with something to be known: what its card warns of, and who disagrees.

    Teachers that have the same to say share a line.

    Args:
        cards: of all teachers, as the release's evidence has them.
        statistics: `schema.STATISTICS`; a check that doubts a teacher says so as the `warning` of a detail.
    """
    warnings: dict[str, dict[str, None]] = {}  # teacher -> what it says, in order and once
    for card in cards:
        warnings.setdefault(card["name"], {}).update(dict.fromkeys(card.get("warnings", ())))
    doubted = statistics.filter(pc.match_substring(statistics["detail"], '"warning":'))
    for row in doubted.to_pylist():
        name = (row["group"] or "").removeprefix("teacher=")
        if name in warnings:
            warnings[name][json.loads(row["detail"])["warning"]] = None
    names_by_text: dict[str, list[str]] = {}
    for name, told in warnings.items():
        if told:
            names_by_text.setdefault("; ".join(told), []).append(name)
    return [f"{', '.join(names)}: {text}" for text, names in names_by_text.items()]
