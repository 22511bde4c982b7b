"""What `curate flag` found, in lines for people."""

from __future__ import annotations

import shlex

from curate.teachers.column_order import shown_order
from curate.teachers.flag_summary import FlagSummary
from curate.teachers.label_columns import POSITIONS, SORTED
from curate.teachers.noise import NoiseRate

_INFERRED = {
    SORTED: "not named, so the columns are taken to stand in the order of the sorted labels",
    POSITIONS: "not named, so labels are taken for the numbers of columns",
}


def flag_lines(summary: FlagSummary) -> list[str]:
    """Return what `curate flag` found, for people."""
    lines = [
        *(f"WARNING: {warning['message']}" for warning in summary.warnings),
        _headline(summary),
        f"  {summary.regime}: {summary.why}",
    ]
    if summary.order_from in _INFERRED:
        lines.append(f"  classes: {_INFERRED[summary.order_from]}: {shown_order(summary.classes)}")
    if summary.n_unjudged:
        lines.append(f"  {summary.n_unjudged:,} rows could not be judged; the reason stands in each")
    for teacher in summary.teachers:
        state = f"weight {teacher.weight:.2f}" if teacher.kept else "LEFT OUT"
        lines.append(f"  {teacher.name}: {state}; {teacher.why}")
    lines += [f"  estimate {name.replace('_', ' ')}: {_rate_words(one)}" for name, one in summary.estimates.items()]
    if not summary.estimates_agree and summary.estimates:
        why = "one method alone, which nothing confirms" if summary.by_class else "these estimates disagree"
        lines.append(f"  {why}: look before you drop; an audit of a sample tells:")
        lines.append(f"  curate audit --table {shlex.quote(str(summary.out))} --csv sheet.csv")
    taken = [f"{c['true']} as {c['given']} {c['prob']:.1%}" for c in summary.transition.get("confusions", [])[:3]]
    if taken:
        lines.append(f"  most often labeled wrongly: {', '.join(taken)}")
    lines.append("  risk is a rank, no probability: .5 is the cut")
    return [*lines, f"→ {summary.out}"]


def _headline(summary: FlagSummary) -> str:
    if summary.answers is None:
        return f"{summary.n_flagged:,} of {summary.n:,} labels are flagged; wrong labels: {_wrong_labels(summary)}"
    n, n_flagged = summary.answers
    return (
        f"{summary.n_flagged:,} of {summary.n:,} rows are flagged, for {n_flagged:,} of {n:,} answers (is this class "
        f"there?); wrong answers: {_wrong_labels(summary)}"
    )


def _wrong_labels(summary: FlagSummary) -> str:
    """Return how many labels are wrong in words: no number where the estimates contradict each other."""
    rate = summary.noise_rate
    known = sorted(one.estimate for one in summary.estimates.values() if one.estimate is not None)
    if len(known) > 1 and not summary.estimates_agree and not summary.by_class:
        return f"not known, the estimates run from {known[0]:.1%} to {known[-1]:.1%}"
    if rate.estimate is None:
        return "insufficient data"
    if rate.low is None or rate.high is None:
        return f"about {rate.estimate:.1%}"
    return f"about {rate.estimate:.1%} (interval {rate.low:.1%} to {rate.high:.1%}; {rate.method})"


def _rate_words(rate: NoiseRate) -> str:
    if rate.estimate is None:
        return "insufficient data"
    if rate.low is None or rate.high is None:
        return f"{rate.estimate:.1%}"
    return f"{rate.estimate:.1%} ({rate.low:.1%} to {rate.high:.1%}; {rate.method})"
