"""Regions of masks that teachers contradict, drawn beside the labels, and what a reviewer's tags on them mean. Pure.

The field `regions` of a sample holds a detection with a mask for each finding of `mask_noise`: what the label has
there, or, where a region is missing or its outline is off, what teachers see. A flagged one can be decided on:

| tag | signal | decision, with the pixels in `region` |
| --- | --- | --- |
| `curate:accept` | accept_region CLASS | accept: the pixels are of the suggested class |
| `curate:keep`, `curate:reject` | reject_region | reject: they stay as they are labeled |
| `curate:ignore` | ignore_region | ignore: nobody can tell, they are held back |

Where the region is all of its label, the decision is one about the label (relabel, keep). A mask that is drawn anew
comes from where masks are drawn.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from curate import schema
from curate.review import masks, rows
from curate.review.signals import REGION_SIGNALS, TAG_PREFIX, Signal, Standing, Target, region_id
from curate.teachers.regions.doubt import DOUBT, SHARE
from curate.teachers.regions.shapes import Shape, shape_of
from curate.verdict_regions import CHECK

FIELD = "regions"
# name → type of what each region carries beside FiftyOne's own attributes
FIELDS = {"issue": "string", "risk": "float", "reason": "string", "given": "string", "for_label": "string"}
_SIGNAL_OF = {
    "accept": "accept_region",
    "keep": "reject_region",
    "reject": "reject_region",
    "ignore": "ignore_region",
}
_TAG_OF = {"accept_region": "accept", "reject_region": "keep", "ignore_region": "ignore"}

Document = dict[str, Any]
Held = Mapping[Target, Mapping[Signal, Standing]]


def regions(
    findings: pa.Table | None, labels: Mapping[str, Sequence[Mapping[str, Any]]], render: rows.Render
) -> dict[str, list[Document]]:
    """Return sample id → its regions, worst first, each with what is drawn of it and what a decision is made from.

    Args:
        findings: of these samples.
        labels: sample id → its label rows.
        render: (reason code, arguments) → sentence.
    """
    found: dict[str, list[Document]] = defaultdict(list)
    if findings is None:
        return found
    given = {row["label_id"]: row["label"] for some in labels.values() for row in some}
    own = findings.filter(pc.equal(findings["check"], CHECK))
    for row in own.sort_by([("risk", "descending"), ("finding_id", "ascending")]).to_pylist():
        told = rows.arguments(row["reason_args"])
        shape = shape_of(told.get("seen")) or shape_of(told.get("drawn"))
        if shape is None:
            continue
        one = {name: row[name] for name in ("label_id", "issue", "risk")} | {"id": region_id(row["finding_id"])}
        one |= {"shape": shape, "label": given.get(row["label_id"]), "suggested": row["suggested_label"]}
        one |= {"reason": render(row["reason_code"], told), "finding": row["finding_id"]}
        if told.get(DOUBT):
            one |= {"region": schema.canonical_json(told[DOUBT]), "whole": told.get(SHARE, 1.0) >= 1.0}
        found[row["sample_id"]].append(one)
    return dict(found)


def document_of(some: Sequence[Mapping[str, Any]]) -> Document:
    """Return the field as FiftyOne holds it."""
    return {"_cls": "Detections", "detections": [_detection(one, one["shape"]) for one in some]}


def baseline_of(some: Sequence[Mapping[str, Any]]) -> list[Document]:
    """Return what is needed to tell later what a reviewer decided about the regions that can be decided on."""
    names = ("id", "label_id", "label", "suggested", "finding", "region", "whole")
    return [{name: one[name] for name in names} for one in some if "region" in one]


def shown(document: Mapping[str, Any], baseline: Mapping[str, Any]) -> tuple[dict[Target, set[Signal]], list[str]]:
    """Return the signals that tags on regions are, per target, and the curate tags that mean nothing."""
    known = {one["id"]: one for one in baseline.get(FIELD, ())}
    found: dict[Target, set[Signal]] = defaultdict(set)
    unknown = []
    for drawn in rows.drawn_in(document, FIELD):
        one = known.get(str(drawn["_id"]))
        for tag in drawn.get("tags") or ():
            if not tag.startswith(TAG_PREFIX):
                continue
            said = _signal(tag.removeprefix(TAG_PREFIX), one)
            if said is None or one is None:
                unknown.append(tag)
                continue
            about = one["label_id"] if said[0] not in REGION_SIGNALS else one["id"]
            found[str(document["_id"]), about].add(said)
    return found, unknown


def _signal(word: str, one: Mapping[str, Any] | None) -> Signal | None:
    """Return what a tag means on a region; None where it means nothing, or there is nothing to decide or to take."""
    kind = _SIGNAL_OF.get(word)
    if one is None or kind is None or (kind == "accept_region" and one["suggested"] is None):
        return None
    if not one["whole"]:
        return (kind, one["suggested"] if kind == "accept_region" else "")
    whole = {"accept_region": ("relabel", one["suggested"]), "reject_region": ("keep", "")}
    return whole.get(kind)  # who cannot tell what a whole label is leaves it waiting


def contexts(baseline: Mapping[str, Any]) -> dict[str, Document]:
    """Return by id of a region what a decision about it is made from."""
    return {one["id"]: one | {"sha": baseline.get("sha")} for one in baseline.get(FIELD, ())}


def on_display(
    signals: Mapping[Signal, Standing], target_id: str | None, baseline: Mapping[str, Any]
) -> dict[Signal, Standing]:
    """Return those of a target's signals that the App could show: what teachers doubt no more takes nothing back."""
    offered = target_id in {one["id"] for one in baseline.get(FIELD, ())}
    return {signal: one for signal, one in signals.items() if offered or signal[0] not in REGION_SIGNALS}


def merge(new: Document, current: Mapping[str, Any] | None) -> Document:
    """Return the document with the regions of `new`, tagged as they are in `current`."""
    tags = {str(one["_id"]): list(one.get("tags") or ()) for one in rows.drawn_in(current, FIELD)}
    merged = [{**one, "tags": tags.get(str(one["_id"]), one["tags"])} for one in rows.drawn_in(new, FIELD)]
    return {**new, FIELD: {"_cls": "Detections", "detections": merged}} if merged else new


def replay(document: Document, baseline: Mapping[str, Any], held: Held) -> Document:
    """Return the document with every standing decision about a region visible on it."""
    already, _ = shown(document, baseline)
    wanted = {one["id"]: tag for one in baseline.get(FIELD, ()) for tag in _missing(document, one, held, already)}
    replayed = [
        {**one, "tags": [*one["tags"], wanted[str(one["_id"])]]} if str(one["_id"]) in wanted else one
        for one in rows.drawn_in(document, FIELD)
    ]
    return {**document, FIELD: {"_cls": "Detections", "detections": replayed}} if wanted else document


def _missing(
    document: Document, one: Mapping[str, Any], held: Held, already: Mapping[Target, set[Signal]]
) -> Iterator[str]:
    target = (str(document["_id"]), one["id"])
    for signal in held.get(target, {}):
        if signal[0] in REGION_SIGNALS and signal not in already.get(target, ()):
            yield TAG_PREFIX + _TAG_OF[signal[0]]


def _detection(one: Mapping[str, Any], shape: Shape) -> Document:
    from bson import ObjectId  # noqa: PLC0415 - comes with pymongo, loaded only where a database is used

    made = {"_id": ObjectId(one["id"]), "_cls": "Detection", "attributes": {}, "tags": []}
    made |= {"label": one["suggested"] or one["label"]}
    made |= {"bounding_box": list(shape.bbox), "mask": masks.to_bytes(shape.mask)}
    made |= {"issue": one["issue"], "risk": one["risk"], "reason": one["reason"], "given": one["label"]}
    return made | {"for_label": one["label_id"]}
