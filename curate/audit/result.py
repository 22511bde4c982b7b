"""What a complete audit says: for people, for machines, for gates."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from curate.audit.answers import Agreement, agreement
from curate.audit.by_issue import IssueResult, by_issue, issue_lines, precision_of_all, shown, told_of
from curate.audit.estimate import METHOD, Estimate, Estimates, estimates
from curate.audit.store import Audit
from curate.audit.threshold import Certificate, Placed, certify, place
from curate.check import build_statistics
from curate.errors import ConfigError

CHECK = "audit"
INSUFFICIENT = "insufficient data"
NAMES = ("precision", "recall", "f1", "noise_rate", "calibration_error")


@dataclass(frozen=True, slots=True)
class AuditResult:
    """What an audit says.

    Attributes:
        audit: where it comes from.
        estimates: of the flags; None while looks have no answer, and of claims.
        certificate: for the target precision; None where none was named, or looks have no answer.
        placed: the threshold with the best estimated F1; None where too little was seen.
        agreement: of second looks with first ones.
        by_issue: of claims, instead of the others; empty while looks have no answer.
        precision: of claims, the share of all flags that are right.
    """

    audit: Audit
    estimates: Estimates | None
    certificate: Certificate | None
    placed: Placed | None
    agreement: Agreement
    by_issue: tuple[IssueResult, ...] = ()
    precision: Estimate | None = None

    def to_json(self) -> dict[str, Any]:
        """Return JSON values without clock, path or person."""
        design = self.audit.design
        told = self._of_claims() if design.issues else {}
        return {
            "audit": design.digest,
            "answers": self.audit.answers_digest,
            "subject": dict(design.subject),
            "seed": design.seed,
            "budget": design.budget,
            "alpha": design.alpha,
            "n_labels": design.n_population,
            "n_drawn": len(design.items),
            "n_open": len(self.audit.open_looks),
            "bands": [{"band": band.name, "n_all": band.n_all, "n_drawn": band.n_drawn} for band in design.bands],
            "agreement": {
                "n_pairs": self.agreement.n_pairs,
                "n_same": self.agreement.n_same,
                "low": self.agreement.low,
                "high": self.agreement.high,
            },
            "estimates": self.estimates.to_json() if self.estimates else None,
            "certificate": self.certificate.to_json() if self.certificate else None,
            "best_f1": self.placed.to_json() if self.placed else None,
            **told,
        }

    def _of_claims(self) -> dict[str, Any]:
        bands = self.audit.design.bands
        return {
            "bands": [{"issue": b.issue, "band": b.name, "n_all": b.n_all, "n_drawn": b.n_drawn} for b in bands],
            "precision": self.precision.to_json() if self.precision else None,
            "by_issue": [one.to_json() for one in self.by_issue],
        }


def result_of(audit: Audit, *, target_precision: float | None = None) -> AuditResult:
    """Return what an audit says so far; without every answer there are no estimates.

    Args:
        audit: the audit.
        target_precision: named now; None = the one of the design.

    Raises:
        ConfigError: a target that is no share.
    """
    target = audit.design.target_precision if target_precision is None else target_precision
    if target is not None and not 0.0 < target < 1.0:
        raise ConfigError(f"A target precision lies between 0 and 1; given: {target}.")
    twice = agreement(audit.design, audit.answers)
    if audit.open_looks:
        return AuditResult(audit, None, None, None, twice)
    said = audit.said
    if audit.design.issues:
        found, every = by_issue(audit.design, said, target), precision_of_all(audit.design, said)
        return AuditResult(audit, None, None, None, twice, found, every)
    return AuditResult(
        audit,
        estimates(audit.design, said),
        certify(audit.design, said, target) if target is not None else None,
        place(audit.design, said),
        twice,
    )


def statistics(found: Estimates | None, twice: Agreement | None, *, why: Mapping[str, str]) -> pa.Table:
    """Return the statistics of an audit for the gates.

    Args:
        found: what it says; None = nothing.
        twice: agreement of second looks.
        why: name of a statistic (`*` = any) → why it says nothing; such a one is "insufficient data".
    """
    rows: list[dict[str, Any]] = []
    for name in NAMES:
        one: Estimate | None = getattr(found, name) if found else None
        reason = why.get(name, why.get("*", "" if one and one.value is not None else "the looks do not say"))
        detail: dict[str, Any] = {"method": METHOD}
        if name == "calibration_error" and found and not reason:
            detail = {"risk_kind": found.risk_kind}
        if one is None or reason:
            rows.append({"name": name, "outcome": INSUFFICIENT, "detail": {"why": reason}})
            continue
        rows.append(
            {"name": name, "value": one.value, "low": one.low, "high": one.high, "n": one.n, "detail": detail}
        )
    if twice is not None and twice.n_pairs:
        share = {"value": twice.n_same / twice.n_pairs, "low": twice.low, "high": twice.high, "n": twice.n_pairs}
        rows.append({"name": "share_same_answer", **share, "detail": {"method": "Clopper-Pearson"}})
    return build_statistics(CHECK, rows)


def lines(result: AuditResult) -> list[str]:
    """Return it for people."""
    design, audit = result.audit.design, result.audit
    things = "claims" if design.issues else "labels"
    told = [
        f"audit {audit.short_id} of {_subject(design.subject)}: {len(design.looks)} looks at {len(design.items)} of "
        f"{design.n_population:,} {things}, {design.n_flagged:,} of them flagged"
    ]
    if result.by_issue and result.precision is not None:
        n_unsure = sum(answer.verdict == "can't tell" for answer in audit.said.values())
        return [*told, *issue_lines(result.by_issue, result.precision, n_unsure), *_twice_lines(result.agreement)]
    if result.estimates is None:
        n_open = len(audit.open_looks)
        return [*told, f"  {n_open} looks have no answer yet; an audit speaks when it is complete"]
    found = result.estimates
    told += [
        f"  precision      {told_of(found.precision, 'of the flagged labels are wrong')}",
        f"  recall         {told_of(found.recall, 'of the wrong labels are flagged')}",
        f"  F1             {shown(found.f1)}",
        f"  wrong labels   {told_of(found.noise_rate, 'of all labels')}",
    ]
    if found.unsure:
        told.append(f"  can't tell     {found.unsure} labels; the intervals hold whatever they are")
    told += _twice_lines(result.agreement)
    high = found.calibration_error.high
    if high is not None:
        sure = "a probability" if found.risk_kind == "probability" else "a rank, not a probability"
        told.append(f"  risk           {sure}: off by up to {high:.2f} in the mean")
    return [*told, *_threshold_lines(result)]


def _twice_lines(twice: Agreement) -> list[str]:
    if not twice.n_pairs:
        return []
    said = f"{twice.n_same} of {twice.n_pairs} say the same (interval {twice.low:.0%} to {twice.high:.0%})"
    return [f"  second looks   {said}"]


def _threshold_lines(result: AuditResult) -> list[str]:
    told = []
    certificate = result.certificate
    if certificate is not None:
        late = "" if certificate.named_before else " (target named after the draw)"
        if certificate.risk is None:
            told.append(f"  threshold      {certificate.why}{late}")
        else:
            told.append(
                f"  threshold      certified for precision {certificate.target:.1%}{late}: "
                f"flag_risk {certificate.risk:.6g}; {certificate.why}"
            )
    if result.placed is not None:
        told.append(
            f"  best F1        flag_risk {result.placed.risk:.6g} would flag {result.placed.n_above:,} labels, "
            f"F1 about {result.placed.f1:.2f} (an estimate, not a certificate)"
        )
    if told and result.audit.design.subject.get("version"):
        told.append(
            "  to use one     checks: {label_noise: {flag_risk: …}} in the spec; it flags from that risk on"
        )
    return told


def _subject(subject: Mapping[str, Any]) -> str:
    version = str(subject.get("version", ""))[:7]
    return f"{subject.get('name', 'a table')}{f' ({version})' if version else ''}"
