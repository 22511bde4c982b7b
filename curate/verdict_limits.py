"""What keeps teachers from pruning: a cap on what leaves a class or group, and no drops on a rate nobody is sure of.

A class that teachers hardly know, or a group that they see rarely, looks like wrong labels. The policy says which
share of it may leave on the teachers' word; what the cap holds back is a finding of its own, so that it is stored,
shown and recomputed like every other reason.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate import schema
from curate.check import CheckResult, build_findings, build_statistics
from curate.policy import Policy
from curate.verdict_rows import DROP, RELABEL, REVIEW, SOFTEN, Floats, Ints, Mask, dictionary_codes, equals_word

CHECK = "removal_cap"
MISLABEL = ("mislabel", "extra_label")  # what says of a label that it is wrong, on the word of teachers alone
HELD_WEIGHT = 0.5
_UNSURE = '"estimates_agree":false'  # as canonical JSON writes it


def hold_back(labels: pa.Table, samples: pa.Table, findings: pa.Table, action: Ints, policy: Policy) -> CheckResult:
    """Return a finding for each label that its class or a declared group of its image cannot spare.

    Of the `policy.max_share_out` that may leave, the riskiest leave; equal risks are ordered by a hash of the label
    id. One row may always leave. A new label takes a row out of its class, though not out of its group.

    Args:
        labels: `schema.LABELS`.
        samples: the samples view, `attr_*` where groups are declared.
        findings: `schema.FINDINGS`; only mislabel findings about a label count.
        action: (findings,) index into `verdict_rows.STRENGTH` that the rules ask for.
        policy: the cap, and whether rows that wait for review are released.

    Returns:
        Findings of issue "removal_cap"; and by class and group how many rows were asked out and held back.
    """
    at = pc.index_in(findings["label_id"], value_set=labels["label_id"].combine_chunks(), skip_nulls=True)
    at = pc.fill_null(at, -1).to_numpy().astype(np.int64)
    about = (at >= 0) & is_mislabel(findings)
    one_class = np.append(equals_word(labels["task"].combine_chunks(), "classification"), False)[at]
    waits = (action == REVIEW) & (policy.release_review is not True) & ~(one_class & policy.releases_softly)
    leaves = about & ((action == DROP) | waits)
    risk = np.full(labels.num_rows, -1.0)
    np.maximum.at(risk, at[about], findings["risk"].to_numpy()[about])
    ids = labels["label_id"].to_pylist()
    tie = np.array([schema.stable_id("removal_cap", one) for one in ids], dtype=object)
    rank = np.empty(len(ids), dtype=np.int64)
    rank[np.lexsort((tie.astype(str), -risk))] = np.arange(len(ids))
    held: dict[int, str] = {}
    rows: list[dict[str, Any]] = []
    for kind, name, members in _groups(labels, samples):
        asked = np.zeros(len(ids), dtype=bool)
        asked[at[leaves | (about & (action == RELABEL) & (kind == "class"))]] = True
        asked &= members
        n_allowed = max(1, int(policy.max_share_out * members.sum()))
        over = np.flatnonzero(asked)[np.argsort(rank[asked])][n_allowed:]
        held |= {int(row): kind for row in over if int(row) not in held}
        if len(over):
            rows.append(_statistic(name, len(over), int(asked.sum()), int(members.sum()), policy))
    total = {"name": "n_held_back", "value": float(len(held)), "n": labels.num_rows}
    sample_ids = labels["sample_id"].to_pylist()
    found = [
        {
            "issue": CHECK,
            "sample_id": sample_ids[row],
            "label_id": ids[row],
            "risk": 0.0,
            "reason_code": CHECK,
            "reason_args": {"kind": held[row].removeprefix("attr_"), "share": policy.max_share_out},
        }
        for row in sorted(held)
    ]
    return CheckResult(build_findings(CHECK, found), build_statistics(CHECK, [total, *rows]))


def limited(findings: pa.Table, finding: Ints, row: Ints, action: Ints, weight: Floats) -> tuple[Ints, Floats]:
    """Return what (finding, row) pairs may ask for.

    A mislabel finding of a row that the cap holds back softens at most. One that was made while the estimates of
    the noise rate disagreed does not drop: it asks for review.

    Args:
        findings: `schema.FINDINGS`.
        finding: (pairs,) row of `findings`.
        row: (pairs,) row that gets a verdict.
        action: (pairs,) index into `verdict_rows.STRENGTH`.
        weight: (pairs,).
    """
    of_teachers = is_mislabel(findings)[finding]
    unsure = pc.match_substring(findings["reason_args"], _UNSURE).to_numpy().astype(bool)[finding]
    action = np.where(of_teachers & unsure & (action == DROP), REVIEW, action)
    caps = pc.equal(findings["issue"], CHECK).to_numpy().astype(bool)[finding]
    held = of_teachers & np.isin(row, row[caps]) & (action > SOFTEN)
    return np.where(held, SOFTEN, action), np.where(held, np.minimum(weight, HELD_WEIGHT), weight)


def is_mislabel(findings: pa.Table) -> Mask:
    """Return which findings say, on the word of teachers alone, that a label is wrong."""
    mask: Mask = pc.is_in(findings["issue"], value_set=pa.array(MISLABEL)).to_numpy().astype(bool)
    return mask


def _groups(labels: pa.Table, samples: pa.Table) -> Iterator[tuple[str, str, Mask]]:
    """Yield (kind, name, labels in it) of each class and each value of a declared attribute."""
    at = pc.index_in(labels["sample_id"], value_set=samples["sample_id"].combine_chunks())
    columns = [("class", labels["label"])]
    columns += [
        (name, pa.chunked_array([samples[name].combine_chunks().take(at.combine_chunks())]))
        for name in samples.column_names
        if name.startswith(schema.ATTRIBUTE_PREFIX)
    ]
    for kind, column in columns:
        codes, words = dictionary_codes(pc.cast(column, pa.string()).fill_null("\0"))
        for code, word in enumerate(words):
            if word != "\0":  # nobody is a group for having said nothing
                yield kind, f"{kind}={word}", codes == code


def _statistic(name: str, n_held: int, n_asked: int, n_rows: int, policy: Policy) -> dict[str, Any]:
    detail = {"n_asked_out": n_asked, "max_share_out": policy.max_share_out}
    return {"name": "n_held_back", "group": name, "value": float(n_held), "n": n_rows, "detail": detail}
