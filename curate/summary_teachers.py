"""What a run's summary says of its teachers: who failed, what was left out, and who agrees with nothing."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

_TOO_FEW = "not checkable: the guard needs"  # as `teachers.memorised` begins where there are fewer than three
_OF_LABELS = ("table", "onnx", "torch")  # kinds that judge given labels, and were made elsewhere


def teachers_failed(statistics: pa.Table, outcome: str = "errored") -> list[str]:
    """Return name and reason of every teacher that failed; or, for "insufficient data", that had too little to go on."""
    return _without_answer(statistics, outcome, left_out=False)


def teachers_left_out(statistics: pa.Table) -> list[str]:
    """Return name and reason of every teacher whose answers must not be used, by its own card."""
    return _without_answer(statistics, "insufficient data", left_out=True)


def _without_answer(statistics: pa.Table, outcome: str, *, left_out: bool) -> list[str]:
    told = []
    for row in statistics.to_pylist():
        if (row["check"], row["name"], row["outcome"]) == ("teachers", "ran", outcome):
            detail = json.loads(row["detail"] or "{}")
            if bool(detail.get("left_out")) is left_out:
                told.append(f"{(row['group'] or '').removeprefix('teacher=')}: {detail.get('message', '')}")
    return list(dict.fromkeys(told))


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
    for names, note in (*_assumed(cards), *_unguarded(cards, statistics)):
        for name in names:
            warnings.setdefault(name, {})[note] = None
    names_by_text: dict[str, list[str]] = {}
    for name, told in warnings.items():
        if told:
            names_by_text.setdefault("; ".join(told), []).append(name)
    return [f"{', '.join(names)}: {text}" for text, names in names_by_text.items()]


def _assumed(cards: Sequence[Mapping[str, Any]]) -> list[tuple[list[str], str]]:
    """Return teachers that learned the same by their cards, which do not say on which features."""
    by_origin: dict[str, list[str]] = {}
    for card in cards:
        asked = str(card.get("kind")) in _OF_LABELS and not card.get("left_out")
        if asked and card.get("trained_on") and not card.get("features"):
            by_origin.setdefault(card["trained_on"], []).append(card["name"])
    return [
        (
            names,
            f"all are trained on {origin}, and taken for independent; if they share features, say so: `features: NAME`",
        )
        for origin, names in by_origin.items()
        if len(set(names)) > 1
    ]


def _unguarded(cards: Sequence[Mapping[str, Any]], statistics: pa.Table) -> list[tuple[list[str], str]]:
    """Return teachers that may have memorised the labels: no card denies it, and too few teachers are there to check."""
    unsaid = {card["name"] for card in cards if card.get("out_of_fold") is None and not card.get("left_out")}
    weighed = statistics.filter(pc.equal(statistics["name"], "teacher_weight"))
    found = []
    for row in weighed.to_pylist():
        detail = json.loads(row["detail"] or "{}")
        name, why = (row["group"] or "").removeprefix("teacher="), str(detail.get("why", ""))
        if name in unsaid and detail.get("kept") and why.startswith(_TOO_FEW):
            found.append(([name], f"whether it memorised the labels is {why}; its spec does not say out_of_fold"))
    return found
