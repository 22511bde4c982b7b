"""What a run's summary says of wrong labels: how many, by which methods and regime, and how sure that is."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from curate.summary_teachers import teachers_left_out


def label_noise_of(statistics: pa.Table) -> dict[str, Any]:
    """Return what the teachers say of the labels, empty where they say nothing; what a risk is, an audit says."""
    wanted = {("label_noise", name) for name in ("noise_rate", "n_flagged")}
    wanted |= {("evaluation", name) for name in ("precision", "recall", "f1", "average_precision", "n_wrong")}
    found: dict[str, Any] = {}
    audited: dict[str, Any] = {}
    for row in statistics.to_pylist():
        if (row["check"], row["name"]) == ("audit", "calibration_error") and row["value"] is not None:
            audited = {"risk_kind": json.loads(row["detail"] or "{}").get("risk_kind", "rank")}
        if (row["check"], row["name"]) in wanted and row["group"] is None:
            found[row["name"]] = row["value"]
            if row["name"] == "noise_rate":
                found |= {"low": row["low"], "high": row["high"], "outcome": row["outcome"]}
                detail = json.loads(row["detail"] or "{}")
                found |= {key: detail.get(key) for key in ("insufficient", "next")}
                found |= {key: detail.get(key) for key in ("regime", "why", "risk_kind", "estimates_agree")}
    if found.get("noise_rate") is None:
        found |= _unknown(statistics)
    return found | audited | {"estimates": _estimates(statistics)} if found else found


def tag_noise_of(statistics: pa.Table) -> dict[str, Any]:
    """Return what the teachers say of images with several labels, answer by answer; empty where they say nothing."""
    found: dict[str, Any] = {}
    for row in statistics.to_pylist():
        if row["check"] != "multi_label_noise" or row["group"] is not None:
            continue
        if row["name"] == "noise_rate" and row["value"] is not None:
            found |= {"noise_rate": row["value"], "low": row["low"], "high": row["high"], "n_answers": row["n"]}
        if row["name"] == "n_flagged":
            found["n_flagged"] = row["value"]
    return found if "noise_rate" in found else {}


def tag_line(tags: Mapping[str, Any]) -> str:
    """Return how many answers are wrong, and how many are flagged of how many."""
    spread = "" if tags["low"] is None else f" (estimate; interval {tags['low']:.1%} to {tags['high']:.1%})"
    return f"about {tags['noise_rate']:.1%}{spread}; {tags['n_flagged']:,.0f} of {tags['n_answers']:,} flagged"


def _estimates(statistics: pa.Table) -> dict[str, dict[str, float | None]]:
    """Return every estimate of the share of wrong labels by method, with its interval."""
    return {
        (row["group"] or "").removeprefix("method="): {key: row[key] for key in ("value", "low", "high")}
        for row in statistics.to_pylist()
        if (row["check"], row["name"]) == ("label_noise", "noise_rate_estimate")
    }


def _unknown(statistics: pa.Table) -> dict[str, Any]:
    """Return why nothing is known of the labels where every teacher had to be left out; else nothing."""
    left_out = teachers_left_out(statistics)
    for row in statistics.to_pylist() if left_out else ():
        if row["name"] == "ran" and row["outcome"] == "insufficient data" and row["check"].endswith("label_noise"):
            n = len(left_out)
            why = f"no teacher is left: {n} {'was' if n == 1 else 'were'} left out"
            return {"noise_rate": None, "outcome": "insufficient data", "insufficient": why}
    return {}


def method_lines(noise: Mapping[str, Any]) -> list[str]:
    """Return what each method estimates, and by which regime the labels are judged, each in a line."""
    told = [
        f"{name.replace('_', ' ')} {_rate(one)}" for name, one in noise.get("estimates", {}).items() if _rate(one)
    ]
    lines = [f"  estimates      {'; '.join(told)}"] if told else []
    if noise.get("regime") and noise.get("why"):
        first, *rest = str(noise["why"]).split("; ")
        why = "; ".join([first, *(clause for clause in rest if clause.startswith("no card says"))])
        lines.append(f"  regime         {noise['regime']}: {why}")
    return lines


def _rate(one: Mapping[str, float | None]) -> str:
    if one["value"] is None:
        return ""
    if one["low"] is None or one["high"] is None:
        return f"{one['value']:.1%}"
    return f"{one['value']:.1%} ({one['low']:.1%} to {one['high']:.1%})"


def noise_line(noise: Mapping[str, Any], audited: Mapping[str, float | None] | None) -> str:
    """Return how many labels are wrong: as an audit says where one stands, else as the teachers estimate."""
    flagged = f"; {noise['n_flagged']:,.0f} flagged" if noise.get("n_flagged") is not None else ""
    if audited is not None:
        told = f"{audited['value']:.1%} (by the audit; interval {audited['low']:.1%} to {audited['high']:.1%})"
        if noise.get("insufficient"):
            return f"{told}{flagged}; drops become reviews (teachers' rate: {noise['insufficient']})"
        return f"{told}{flagged}; the teachers' estimate is {noise['noise_rate']:.1%}"
    if noise.get("insufficient"):
        ask = f"; {noise['next']}" if noise.get("next") else ""
        return f"not known: {noise['insufficient']}{ask}{flagged}; drops become reviews"
    interval = ""
    if noise.get("low") is not None and noise.get("high") is not None:
        interval = f" (estimate; interval {noise['low']:.1%} to {noise['high']:.1%})"
    return f"about {noise['noise_rate']:.1%}{interval}{flagged}"
