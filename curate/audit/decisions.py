"""Answers as decisions of the ledger: what an audit saw is decided, and the next run releases accordingly."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from curate.audit.answers import Answer
from curate.audit.store import Audit
from curate.review.ledger import AUDITED
from curate.verdict_people import WITHDRAWS


def decision_rows(audit: Audit, fresh: Sequence[Answer], held: pa.Table) -> list[dict[str, Any]]:
    """Return the ledger rows for new answers: keep, relabel, or nothing where nobody could tell.

    An answer to a second look decides nothing. A changed answer comes after the one before, and the latest counts;
    where it says nothing any more, the former decision is withdrawn.

    Args:
        audit: the audit.
        fresh: answers that were just appended.
        held: `schema.DECISIONS`, the ledger.
    """
    items = {item.item: item for item in audit.design.items}
    of_look = {look.look: items[look.item] for look in audit.design.looks if not look.repeat}
    before = _before(held)
    rows = []
    for answer in fresh:
        item = of_look.get(answer.look)
        if item is None:
            continue
        why = f"{AUDITED}{audit.short_id} look {answer.look}"
        common = {
            "sample_id": item.sample_id,
            "label_id": item.label_id,
            "from_label": item.given_label,
            "content_sha256": item.content_sha256,
            "reviewer": answer.reviewer,
        }
        if answer.verdict == "can't tell":
            if why in before:
                rows.append({**common, "decision": "note", "why": WITHDRAWS + before[why]})
            continue
        kind, to_label = (
            ("keep", item.given_label) if answer.verdict == "correct" else ("relabel", answer.true_label)
        )
        rows.append({**common, "decision": kind, "to_label": to_label, "why": why, "finding_id": item.finding_id})
    return rows


def _before(held: pa.Table) -> Mapping[str, str]:
    """Return the last decision of each look by its `why`."""
    whys, ids = held["why"].to_pylist(), held["decision_id"].to_pylist()
    return {why: one for why, one in zip(whys, ids, strict=True) if why and why.startswith(AUDITED)}
