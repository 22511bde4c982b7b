"""Who judged the labels, with which weight, and what is to be known of each: the section Teachers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

WEIGHED_BY = (
    "label_noise",
    "multi_label_noise",
    "box_noise",
    "mask_noise",
)  # the first that weighed a teacher counts


def told_of(cards: Sequence[Mapping[str, Any]], rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return what the page says of each teacher; those that failed come last.

    Args:
        cards: of the release's evidence.
        rows: its statistics.
    """
    weights = {
        row["group"]: row
        for check in reversed(WEIGHED_BY)
        for row in rows
        if (row["check"], row["name"]) == (check, "teacher_weight")
    }
    doubts = {row["group"]: doubt for row in rows if (doubt := (row["detail"] or {}).get("warning"))}
    told = []
    for card in cards:
        group = f"teacher={card['name']}"
        row = weights.get(group)
        detail = row["detail"] if row else {}
        why = detail.get("why") or detail.get("guard")
        told.append(
            {
                "name": card["name"],
                "kind": card.get("kind", ""),
                "trained_on": card.get("trained_on"),
                "features": card.get("features"),
                "n_predicted": card.get("n_predicted"),
                "calibration": card.get("calibration"),
                "digest": card.get("digest"),
                "weight": row["value"] if row else None,
                "note": "; ".join(
                    filter(None, [card.get("left_out"), why, *card.get("warnings", ()), doubts.get(group)])
                ),
            }
        )
    return told + [_failed(row) for row in rows if row["check"] == "teachers" and row["outcome"] == "errored"]


def _failed(row: Mapping[str, Any]) -> dict[str, Any]:
    told: dict[str, Any] = {
        "name": (row["group"] or "").removeprefix("teacher="),
        "kind": "errored",
        "trained_on": None,
    }
    told |= {"calibration": "none", "digest": None, "n_predicted": 0}
    return told | {"features": "none", "weight": None, "note": row["detail"].get("message", "")}
