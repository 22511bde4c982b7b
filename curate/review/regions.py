"""Regions of masks that teachers contradict, drawn beside the ground truth: to look at, nothing is decided on them. Pure.

The field `regions` of a sample holds a detection with a mask for each finding of `mask_noise`: what the label has
there, or, where a region is missing or its outline is off, what teachers see. What is decided is decided on the
label: a region stands in its mask, and a mask that is drawn anew comes from where masks are drawn.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from curate import schema
from curate.review import masks, rows
from curate.teachers.regions.shapes import Shape, shape_of

FIELD = "regions"
CHECK = "mask_noise"
# name → type of what each region carries beside FiftyOne's own attributes
FIELDS = {"issue": "string", "risk": "float", "reason": "string", "given": "string", "for_label": "string"}

Document = dict[str, Any]


def regions(
    findings: pa.Table | None, labels: Mapping[str, Sequence[Mapping[str, Any]]], render: rows.Render
) -> dict[str, Document]:
    """Return sample id → the field, its regions worst first; samples without one are left out.

    Args:
        findings: of these samples.
        labels: sample id → its label rows.
        render: (reason code, arguments) → sentence.
    """
    if findings is None:
        return {}
    found: dict[str, list[Document]] = defaultdict(list)
    given = {row["label_id"]: row["label"] for some in labels.values() for row in some}
    own = findings.filter(pc.equal(findings["check"], CHECK))
    for row in own.sort_by([("risk", "descending"), ("finding_id", "ascending")]).to_pylist():
        told = rows.arguments(row["reason_args"])
        shape = shape_of(told.get("seen")) or shape_of(told.get("drawn"))
        if shape is not None:
            reason = render(row["reason_code"], told)
            found[row["sample_id"]].append(_detection(row, shape, given.get(row["label_id"]), reason))
    return {sample: {"_cls": "Detections", "detections": some} for sample, some in found.items()}


def _detection(row: Mapping[str, Any], shape: Shape, given: str | None, reason: str) -> Document:
    from bson import ObjectId  # noqa: PLC0415 - comes with pymongo, loaded only where a database is used

    made = {"_id": ObjectId(schema.stable_id("region", row["finding_id"])), "_cls": "Detection"}
    made |= {"attributes": {}, "tags": [], "label": row["suggested_label"] or given}
    made |= {"bounding_box": list(shape.bbox), "mask": masks.to_bytes(shape.mask)}
    made |= {"issue": row["issue"], "risk": row["risk"], "reason": reason, "given": given}
    return made | {"for_label": row["label_id"]}
