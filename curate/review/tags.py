"""Labels that reviewers gave to images with several labels: they become rows of the release. Pure."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from curate import schema
from curate.verdict_people import standing

_WHOLE = [0.0, 0.0, 1.0, 1.0]
_MISSING = "missing_label"


def added_tags(
    samples: pa.Table, labels: pa.Table, findings: pa.Table, decisions: pa.Table
) -> tuple[pa.Table, pa.Table]:
    """Return the labels that people added, and the findings that are answered by them.

    A label counts where the decision was made for the bytes that are there now, the class is not among the image's
    labels already, and the dataset has several labels an image. Its id is the one that it would have in the source.

    Args:
        samples: the samples view.
        labels: `schema.LABELS`.
        findings: `schema.FINDINGS`.
        decisions: `schema.DECISIONS`, the ledger.
    """
    none = schema.empty(schema.LABELS), schema.empty(schema.FINDINGS)
    tags = labels.filter(pc.equal(labels["task"], schema.MULTI_LABEL))
    if not tags.num_rows or not decisions.num_rows:
        return none
    bytes_now = dict(zip(samples["sample_id"].to_pylist(), samples["content_sha256"].to_pylist(), strict=True))
    there = set(zip(tags["sample_id"].to_pylist(), tags["label"].to_pylist(), strict=True))
    added: dict[tuple[str, str], dict[str, Any]] = {}
    for row in standing(decisions).to_pylist():
        place = (row["sample_id"], row["to_label"])
        if row["decision"] != "note" or row["to_label"] is None or row["to_bbox"] != _WHOLE or place in there:
            continue
        if place[0] not in bytes_now or row["content_sha256"] not in {None, bytes_now[place[0]]}:
            continue
        identity = schema.label_id_of(place[0], schema.MULTI_LABEL, place[1])
        added[place] = {"label_id": identity, "sample_id": place[0], "task": schema.MULTI_LABEL, "label": place[1]}
    if not added:
        return none
    made = schema.table_from_rows(sorted(added.values(), key=lambda one: one["label_id"]), schema.LABELS)
    asked = zip(*(findings[name].to_pylist() for name in ("issue", "sample_id", "suggested_label")), strict=True)
    answered = [issue == _MISSING and (sample, label) in added for issue, sample, label in asked]
    return made, findings.filter(pa.array(answered, pa.bool_()))
