"""Boxes and classes that are suggested, drawn beside the ground truth, and what a reviewer's tags on them mean. Pure.

The field `suggested` of a sample holds a detection for each finding of `box_noise` with a suggestion: where a box is
missing, where one should be, or which class it should have; and one for each place where a track misses a box, with the
track's id and its `index`. Tagged `curate:accept` it is taken, as it is drawn then
(it may be moved or renamed first); tagged `curate:reject` it is refused. Other tags mean nothing here.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from curate import schema
from curate.review import rows
from curate.review.signals import (
    ADDED,
    SUGGESTED,
    TAG_PREFIX,
    Signal,
    Standing,
    Target,
    bbox_value,
    label_and_box,
)

FIELD = "suggested"
CHECK, WITH_TEACHERS = "box_noise", "track_noise"
SWAP, TRACK_MISSES = "swap", "track_missing"
# name → type of what each suggestion carries beside FiftyOne's own attributes
FIELDS = {"issue": "string", "risk": "float", "reason": "string", "for_label": "string", "track_id": "string"}

Document = dict[str, Any]
Held = Mapping[Target, Mapping[Signal, Standing]]
_PREFIX_OF = {"accept": "accept_box", "reject": "reject_box"}


def suggestions(
    findings: pa.Table | None,
    labels: Mapping[str, Sequence[Mapping[str, Any]]],
    render: rows.Render,
    track_index: Mapping[str, int],
) -> dict[str, list[Document]]:
    """Return sample id → its suggestions, worst first.

    Each has id, label_id, issue, label, bbox, track_id, index, risk, reason, finding. What two checks miss of the same
    track is suggested once, as the one with teachers says.

    Args:
        findings: of these samples.
        labels: sample id → its label rows.
        render: (reason code, arguments) → sentence.
        track_index: track id → the number that stands for it in the App.
    """
    found: dict[str, list[Document]] = defaultdict(list)
    if findings is None:
        return found
    given = {row["label_id"]: row for some in labels.values() for row in some}
    for row in _drawable(findings):
        target, told = given.get(row["label_id"], {}), rows.arguments(row["reason_args"])
        label = row["suggested_label"] or target.get("label")
        bbox = row["suggested_bbox"] or target.get("bbox")
        track = told["track"] if row["issue"] == TRACK_MISSES else None
        suggests = row["suggested_bbox"] is not None or row["suggested_label"] is not None
        if not suggests or label is None or bbox is None:
            continue
        found[row["sample_id"]].append(
            {
                "id": schema.stable_id("suggested", row["finding_id"]),
                "label_id": row["label_id"],
                "issue": row["issue"],
                "label": label,
                "bbox": [float(v) for v in bbox],
                "track_id": track,
                "index": track_index.get(track or ""),
                "risk": row["risk"],
                "reason": render(row["reason_code"], told),
                "finding": row["finding_id"],
            }
        )
    return dict(found)


def _drawable(findings: pa.Table) -> list[Document]:
    """Return the findings that may suggest something, worst first; of two about a box of one track, the teachers'."""
    of_boxes = pc.equal(findings["check"], CHECK)
    own = findings.filter(pc.or_(of_boxes, pc.equal(findings["issue"], TRACK_MISSES)))
    chosen: dict[tuple[str, ...], Document] = {}
    for row in own.sort_by([("risk", "descending"), ("finding_id", "ascending")]).to_pylist():
        key: tuple[str, ...] = (row["finding_id"],)
        if row["issue"] == TRACK_MISSES:
            key = (row["sample_id"], rows.arguments(row["reason_args"])["track"])
        if key not in chosen or row["check"] == WITH_TEACHERS:
            chosen[key] = row
    return list(chosen.values())


def document_of(some: Sequence[Mapping[str, Any]]) -> Document | None:
    """Return the field as FiftyOne holds it; None where nothing is suggested."""
    from bson import ObjectId  # noqa: PLC0415 - comes with pymongo, loaded only where a database is used

    drawn = []
    for one in some:
        made = {"_id": ObjectId(one["id"]), "_cls": "Detection", "attributes": {}, "tags": []}
        made |= {"label": one["label"], "bounding_box": list(one["bbox"])}
        made |= {"issue": one["issue"], "risk": one["risk"], "reason": one["reason"]}
        made |= {"for_label": one["label_id"]} if one["label_id"] else {}
        if one["track_id"] is not None:
            made |= {"track_id": one["track_id"], "index": one["index"]}
        drawn.append(made)
    return {"_cls": "Detections", "detections": drawn} if drawn else None


def baseline_of(some: Sequence[Mapping[str, Any]]) -> list[Document]:
    """Return what is needed to tell later what a reviewer did to the suggestions."""
    names = ("id", "label_id", "issue", "label", "bbox", "track_id", "finding")
    return [{name: one[name] for name in names if one[name] is not None} for one in some]


def shown(document: Mapping[str, Any], baseline: Mapping[str, Any]) -> tuple[dict[Target, set[Signal]], list[str]]:
    """Return the signals that tags on suggestions are, per target, and the curate tags that mean nothing."""
    known = {one["id"]: one for one in baseline.get(FIELD, ())}
    found: dict[Target, set[Signal]] = defaultdict(set)
    unknown = []
    for drawn in rows.drawn_in(document, FIELD):
        one = known.get(str(drawn["_id"]))
        for tag in drawn.get("tags") or ():
            word = tag.removeprefix(TAG_PREFIX)
            if one is None or not tag.startswith(TAG_PREFIX):
                continue
            if word not in _PREFIX_OF:
                unknown.append(tag)
                continue
            signal = (word, "") if one["issue"] == SWAP else (_PREFIX_OF[word], _value(drawn, one, word))
            found[_target(document, one)].add(signal)
    return found, unknown


def _value(drawn: Mapping[str, Any], one: Mapping[str, Any], word: str) -> str:
    if word == "reject":  # what was suggested, whatever has been done to it since
        return f"{one['label']} {bbox_value(one['bbox'])}"
    label = (
        drawn.get("label") if "label_id" not in one else None
    )  # a box's own class is changed on the label itself
    return f"{label or one['label']} {bbox_value(drawn.get('bounding_box') or one['bbox'])}"


def _target(document: Mapping[str, Any], one: Mapping[str, Any]) -> Target:
    return (str(document["_id"]), str(one.get("label_id", one["id"])))


def contexts(baseline: Mapping[str, Any]) -> dict[str, Document]:
    """Return by id of a label or of a missing box what a decision about its suggested box is made from."""
    found: dict[str, Document] = {}
    for one in baseline.get(FIELD, ()):
        if one["issue"] != SWAP:
            about = {"box_finding": one["finding"], "box_track": one.get("track_id")}
            found[one.get("label_id", one["id"])] = about | {"sha": baseline.get("sha")}
    return found


def on_display(
    signals: Mapping[Signal, Standing], label_id: str | None, baseline: Mapping[str, Any]
) -> dict[Signal, Standing]:
    """Return those of a target's signals that the App could show.

    A box that was accepted or drawn is a label since, and its suggestion is gone: that neither is there any more takes
    nothing back.
    """
    is_given = any(one["id"] == label_id for one in baseline["labels"])
    offered = label_id in contexts(baseline)
    return {
        signal: one
        for signal, one in signals.items()
        if not (signal[0] == ADDED and is_given) and (signal[0] not in SUGGESTED or offered)
    }


def merge(new: Document, current: Mapping[str, Any] | None, before: Mapping[str, Any] | None) -> Document:
    """Return the document with the suggestions of `new`, tagged, moved and renamed as they are in `current`."""
    was = {one["id"]: one for one in (before or {}).get(FIELD, ())}
    edited = {str(one["_id"]): one for one in rows.drawn_in(current, FIELD)}
    merged = []
    for one in rows.drawn_in(new, FIELD):
        mine, old = edited.get(str(one["_id"])), was.get(str(one["_id"]))
        if mine is None or old is None:
            merged.append(one)
            continue
        own = {"tags": list(mine.get("tags") or ())}
        own |= {"label": mine.get("label") or one["label"]} if old["label"] == one["label"] else {}
        box = mine.get("bounding_box")
        own |= {"bounding_box": box} if box and bbox_value(old["bbox"]) == bbox_value(one["bounding_box"]) else {}
        merged.append({**one, **own})
    return {**new, FIELD: {"_cls": "Detections", "detections": merged}} if merged else new


def replay(document: Document, baseline: Mapping[str, Any], held: Held) -> Document:
    """Return the document with every standing decision about a suggested box visible on it."""
    drawn = {str(one["_id"]): dict(one) for one in rows.drawn_in(document, FIELD)}
    already, _ = shown(document, baseline)
    for one in baseline.get(FIELD, ()):
        mine, target = drawn.get(one["id"]), _target(document, one)
        for signal in held.get(target, {}):
            if (
                mine is None
                or one["issue"] == SWAP
                or signal[0] not in SUGGESTED
                or signal in already.get(target, ())
            ):
                continue
            mine["tags"] = [*mine["tags"], TAG_PREFIX + SUGGESTED[signal[0]]]
            if signal[0] == "accept_box":
                mine["label"], mine["bounding_box"] = label_and_box(signal[1])
    return {**document, FIELD: {"_cls": "Detections", "detections": list(drawn.values())}} if drawn else document
