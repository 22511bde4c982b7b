"""What a complete audit of claims says, issue by issue."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from curate.audit.answers import Answer
from curate.audit.design import Design
from curate.audit.estimate import NOTHING, Estimate, Estimates, cells_of, estimate, estimates
from curate.audit.threshold import Certificate, Placed, certify, place

NOT_LISTED = "the table does not list what nothing was said of, so what was overlooked there cannot be drawn"


@dataclass(frozen=True, slots=True)
class IssueResult:
    """What an audit says of the flags of one issue.

    Attributes:
        issue: of the claims.
        n_claims: that are listed.
        n_flagged: of these.
        partial: whether claims that are not flagged are missing from the table; then recall has an upper limit alone,
            and F1 and rate say nothing.
        estimates: of the flags.
        certificate: for the target precision; None where none was named, or nothing is flagged.
        placed: the threshold with the best estimated F1; None where too little was seen, or `partial`.
    """

    issue: str
    n_claims: int
    n_flagged: int
    partial: bool
    estimates: Estimates
    certificate: Certificate | None
    placed: Placed | None

    def to_json(self) -> dict[str, Any]:
        """Return JSON values."""
        return {
            "issue": self.issue,
            "n_claims": self.n_claims,
            "n_flagged": self.n_flagged,
            "estimates": self.estimates.to_json(),
            "not_known": NOT_LISTED if self.partial else None,
            "certificate": self.certificate.to_json() if self.certificate else None,
            "best_f1": self.placed.to_json() if self.placed else None,
        }


def by_issue(design: Design, answers: Mapping[int, Answer], target: float | None) -> tuple[IssueResult, ...]:
    """Return what the answers say of each issue; each is estimated as if it were an audit of its own.

    Every interval holds with the design's confidence by itself, not all of them at the same time.

    Args:
        design: of an audit of claims.
        answers: item → answer; every item has one. "wrong" says that the claim is right: the annotation is wrong.
        target: precision that a threshold has to reach, for each issue.
    """
    return tuple(_issue(design.of_issue(issue), issue, answers, target) for issue in design.issues)


def _issue(design: Design, issue: str, answers: Mapping[int, Answer], target: float | None) -> IssueResult:
    said = {item.item: answers[item.item] for item in design.items}
    found = estimates(design, said)
    partial = issue in design.partial
    if partial:
        found = replace(found, recall=_at_most(found.recall), f1=NOTHING, noise_rate=NOTHING)
    certificate = certify(design, said, target) if target is not None and design.n_flagged else None
    placed = None if partial else place(design, said)
    return IssueResult(issue, design.n_population, design.n_flagged, partial, found, certificate, placed)


def _at_most(recall: Estimate) -> Estimate:
    """Return the upper limit alone: what is not listed can only lower a recall."""
    return NOTHING if recall.high is None else Estimate(None, None, recall.high, recall.n)


def precision_of_all(design: Design, answers: Mapping[int, Answer]) -> Estimate:
    """Return the share of all flags, of whatever issue, that are right."""
    flagged = {item.label_id: item.flagged for item in design.items}
    sizes = {(number, True): band.n_all for number, band in enumerate(design.bands) if band.flagged}
    return estimate(cells_of(design, answers, flagged, sizes), alpha=design.alpha)["precision"]


def issue_lines(found: tuple[IssueResult, ...], every: Estimate, n_unsure: int) -> list[str]:
    """Return it for people."""
    width = max(len(one.issue) for one in found) + 2
    told = [f"  {'all issues':<{width}} precision {told_of(every, 'of the flags are right')}"]
    for one in found:
        told += _lines(one, width)
    if n_unsure:
        told.append(f'  {n_unsure} claims were answered "can\'t tell"; the intervals hold whatever they are')
    if any(one.partial for one in found):
        told.append(f"  not known: {NOT_LISTED}")
    return told


def _lines(one: IssueResult, width: int) -> list[str]:
    known, blank = one.estimates, " " * (width + 2)
    told = [f"  {one.issue.replace('_', ' '):<{width}} {one.n_flagged:,} of {one.n_claims:,} claims are flagged"]
    if one.n_flagged:
        told.append(f"{blank} precision {told_of(known.precision, 'of these flags are right')}")
    if one.partial:
        high = known.recall.high
        told.append(f"{blank} recall    not known" + ("" if high is None else f", at most {high:.1%}"))
        told.append(f"{blank} rate      not known")
    else:
        told.append(f"{blank} recall    {told_of(known.recall, 'of these errors are flagged')}")
        told.append(f"{blank} rate      {told_of(known.noise_rate, f'of the {one.n_claims:,} have this error')}")
    if one.certificate is not None:
        late = "" if one.certificate.named_before else " (target named after the draw)"
        cut = f"risk {one.certificate.risk:.6g}; " if one.certificate.risk is not None else ""
        told.append(f"{blank} threshold {cut}{one.certificate.why.replace('labels', 'claims')}{late}")
    return told


def told_of(one: Estimate, what: str) -> str:
    """Return an estimate and what it is of, in words; of one that is not known only that."""
    return shown(one) if one.value is None else f"{shown(one)} {what}"


def shown(one: Estimate) -> str:
    """Return an estimate with its interval, in words."""
    if one.value is None or one.low is None or one.high is None:
        return "not known: the looks do not say"
    return f"{one.value:.1%} (interval {one.low:.1%} to {one.high:.1%})"
