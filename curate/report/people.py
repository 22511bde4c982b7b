"""What people contributed to what the report shows: audits of the flags, and who labeled what."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from curate.manifest.read import LoadedRelease
from curate.report.content import one
from curate.report.wording import interval, percent

_MEASURES = (
    ("precision", "precision", "of the flagged labels, how many are wrong"),
    ("recall", "recall", "of the wrong labels, how many are flagged"),
    ("f1", "F1", "the harmonic mean of both"),
    ("noise_rate", "wrong labels", "of all labels, how many are wrong"),
)


def audit(release: LoadedRelease, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """Return what an audit says of the flags, or why it says nothing; None without an audit."""
    proof = release.evidence.get("audit")
    if not proof:
        return None
    told = []
    for name, label, meaning in _MEASURES:
        row = one(rows, "audit", name)
        if row is not None and row["value"] is not None:
            spread = interval(row["low"], row["high"])
            told.append({"name": label, "value": percent(row["value"]), "interval": spread, "meaning": meaning})
    estimates = proof.get("of_these_flags") or {}
    certificate = proof.get("certificate") or {}
    twice = proof["agreement"]
    return {
        "rows": told,
        "why_not": "" if proof["says"] == "complete" else proof["says"],
        "n_looks": proof["budget"],
        "n_drawn": proof["n_drawn"],
        "n_labels": proof["n_labels"],
        "digest": proof["audit"][:16],
        "method": estimates.get("method", ""),
        "n_unsure": estimates.get("unsure", 0),
        "risk_kind": estimates.get("risk_kind", "rank"),
        "target": percent(certificate["target"]) if certificate else "",
        "certificate": certificate.get("why", ""),
        "certified_risk": certificate.get("risk"),
        "twice": f"{twice['n_same']} of {twice['n_pairs']}" if twice["n_pairs"] else "",
    }
