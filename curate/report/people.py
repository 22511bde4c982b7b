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


def audited_rate(rows: Sequence[Mapping[str, Any]]) -> dict[str, str] | None:
    """Return the share of wrong labels as an audit says; None where none speaks for these labels."""
    row = one(rows, "audit", "noise_rate")
    if row is None or row["value"] is None:
        return None
    return {"value": percent(row["value"]), "interval": interval(row["low"], row["high"])}


Rows = Sequence[Mapping[str, Any]]
N_ANNOTATORS = 15
N_PAIRS = 10


def annotators(rows: Rows, n_outvoted: int = 0) -> dict[str, Any] | None:
    """Return who errs most, on which classes, and who disagrees with whom; None where no label names its annotator."""
    mine = [row for row in rows if row["check"] == "annotators" and row["value"] is not None]
    known = {row["name"]: row for row in mine if row["group"] is None}
    if not known.get("n_annotators") or not known["n_annotators"]["value"]:
        return None
    people = [row for row in mine if row["name"] == "error_rate" and row["group"]]
    return {
        "n": int(known["n_annotators"]["value"]),
        "n_judged": len(people),
        "unanimous": _share(known, "share_unanimous"),
        "quality": f"{known['consensus_quality']['value']:.2f}" if "consensus_quality" in known else "",
        "kappa": _with_interval(known, "fleiss_kappa"),
        "n_outvoted": n_outvoted,
        "per_image": f"{known['n_answers_per_image']['value']:.2f}",
        "average": percent(known["error_rate"]["value"]) if "error_rate" in known else "",
        "alpha": _with_interval(known, "krippendorff_alpha"),
        "worst": [_person(row) for row in _who_err(people)[:N_ANNOTATORS]],
        "n_without": sum(not row["detail"]["n_contradicted"] for row in people),
        "classes": [
            {
                **_person(row),
                "ratio": f"{row['detail']['ratio']:.1f}",
                "ratio_interval": _times(row),
                "usual": percent(row["detail"]["average"]),
            }
            for row in sorted(mine, key=lambda r: (-(r["low"] or 0.0), r["group"] or ""))
            if row["name"] == "share_contradicted"
        ][:N_ANNOTATORS],
        "pairs": [
            {
                "who": row["group"].removeprefix("annotators=").replace("|", " and "),
                "share": percent(row["value"]),
                "interval": interval(row["low"], row["high"]),
                "n": row["n"],
                "classes": ", ".join(f"{a} / {b} ({n})" for a, b, n in row["detail"]["classes"]),
            }
            for row in sorted(mine, key=lambda r: (-(r["low"] or 0.0), r["group"] or ""))
            if row["name"] == "share_disagreement"
        ][:N_PAIRS],
    }


def _who_err(people: Rows) -> list[Mapping[str, Any]]:
    """Return the annotators of whom an answer is contradicted, by the lower end of the interval, then the rate."""
    err = [row for row in people if row["detail"]["n_contradicted"] and row["value"] > 0]
    return sorted(err, key=lambda row: (-row["low"], -row["value"], row["group"]))


def _person(row: Mapping[str, Any]) -> dict[str, Any]:
    who, _, label = row["group"].removeprefix("annotator=").partition(",class=")
    spread = interval(row["low"], row["high"])
    return {"who": who, "class": label, "share": percent(row["value"]), "interval": spread, "n": row["n"]}


def _with_interval(known: Mapping[str, Mapping[str, Any]], name: str) -> str:
    """Return a statistic with its 95 % interval, where there is one; empty where it is not known."""
    row = known.get(name)
    if row is None:
        return ""
    ends = "" if row["low"] is None else f" ({row['low']:.2f} to {row['high']:.2f})"
    return f"{row['value']:.2f}{ends}"


def _share(known: Mapping[str, Mapping[str, Any]], name: str) -> str:
    return percent(known[name]["value"]) if name in known else ""


def _times(row: Mapping[str, Any]) -> str:
    """Return the interval of how many times the others' share an annotator's is."""
    return interval(row["low"] / row["detail"]["average"], row["high"] / row["detail"]["average"], share=False)
