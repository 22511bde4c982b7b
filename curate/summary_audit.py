"""What a run's summary says of an audit: its figures, and a threshold that it found better than the one in use."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pyarrow as pa

MIN_GAIN = 0.02  # of F1: what an audit of 200 looks places its threshold within, of the best possible
FITTED_CUT = 0.5  # the risk from which on labels are flagged where no `flag_risk` is set


def audited(statistics: pa.Table) -> dict[str, dict[str, float | None]]:
    """Return what an audit's answers say, by name; nothing where there was no audit."""
    return {
        row["name"]: {key: row[key] for key in ("value", "low", "high")}
        for row in statistics.to_pylist()
        if row["check"] == "audit" and row["group"] is None and row["value"] is not None and row["low"] is not None
    }


def audit_line(audit: Mapping[str, Mapping[str, float | None]]) -> str:
    """Return noise rate, precision and recall as one line."""
    shown = [
        f"{name.replace('_', ' ')} {one['value']:.1%} ({one['low']:.1%} to {one['high']:.1%})"
        for name in ("noise_rate", "precision", "recall")
        if (one := audit.get(name)) is not None
    ]
    return ", ".join(shown) or "too few answers; see the report"


def better_threshold(proof: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Return the `flag_risk` that an audit found better than the one in use, and why; None where there is none.

    A certified one is better where it flags more labels, or where the flags in use are not proven as precise as was
    asked. The one placed for F1 is better where its estimate is above that of the flags by more than `MIN_GAIN`.

    Args:
        proof: `evidence/audit.json`; None = no audit.
    """
    if not proof or not proof.get("of_these_flags"):
        return None
    flags, in_use = proof["of_these_flags"], proof.get("flag_risk")
    in_use = FITTED_CUT if in_use is None else in_use
    certified, placed = proof.get("certificate") or {}, proof.get("best_f1")
    risk, proven = certified.get("risk"), flags["precision"]["low"]
    if risk is not None and (risk < in_use or (risk > in_use and (proven or 0.0) < certified["target"])):
        why = f"flags {certified['n_above']:,} labels, certified for precision {certified['target']:.1%}"
        return {"flag_risk": risk, "why": why, "certified": True}
    now = flags["f1"]["value"]
    if placed and now is not None and placed["f1"] > now + MIN_GAIN:
        why = f"flags {placed['n_above']:,} labels, F1 about {placed['f1']:.2f} instead of {now:.2f} (an estimate)"
        return {"flag_risk": placed["risk"], "why": why, "certified": False}
    return None


def threshold_line(better: Mapping[str, Any]) -> str:
    """Return what to write into the spec, and what it would do."""
    return (
        f"the audit's threshold {better['why']}: checks: {{label_noise: {{flag_risk: {better['flag_risk']:.6g}}}}}"
    )
