"""What a sample shows and holds, and how a new document meets the one that reviewers worked on. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from curate.review import regions, suggested
from curate.review.fields import GROUND_TRUTH, LABEL_FIELDS, UNREADABLE_TAG
from curate.review.signals import (
    ACCEPT_ID,
    TAG_PREFIX,
    WHOLE_IMAGE,
    Signal,
    Standing,
    Target,
    added_signal,
    bbox_value,
    signal_of_tag,
    tag_of_signal,
)

Document = dict[str, Any]
Held = Mapping[Target, Mapping[Signal, Standing]]

LABEL_LISTS = {"Detections": "detections", "Classifications": "classifications"}


def labels_of(document: Mapping[str, Any]) -> list[Document]:
    """Return the labels of a sample document, whatever holds them."""
    truth = document.get(GROUND_TRUTH)
    if not truth:
        return []
    name = LABEL_LISTS.get(truth.get("_cls", ""))
    return [truth] if name is None else list(truth.get(name) or [])


def is_single(document: Mapping[str, Any], baseline: Mapping[str, Any]) -> bool:
    """Whether a tag on the sample is about its one label: exactly one was given and it is a classification."""
    truth = document.get(GROUND_TRUTH) or {"_cls": "Classification"}
    given = baseline["labels"]
    return truth.get("_cls") == "Classification" and len(given) == 1 and "bbox" not in given[0]


def sole_label(document: Mapping[str, Any], baseline: Mapping[str, Any]) -> str | None:
    """Return the label that a mark on the sample is about: its only one, if it is a classification."""
    return str(baseline["labels"][0]["id"]) if is_single(document, baseline) else None


def held_signals(
    sample_id: str, sole: str | None, targets: Iterable[Target], held: Held
) -> dict[Target, dict[Signal, Standing]]:
    """Return what the ledger holds about a sample; what is about the whole counts for a sole label."""
    found: dict[Target, dict[Signal, Standing]] = {}
    for target in sorted(targets, key=str):
        seen_as = (sample_id, sole if target[1] is None else target[1])
        found[seen_as] = {**found.get(seen_as, {}), **held.get(target, {})}
    return found


def shown_signals(
    document: Mapping[str, Any], baseline: Mapping[str, Any]
) -> tuple[dict[Target, set[Signal]], list[str]]:
    """Return the signals that a sample shows, per target, and the curate tags that mean nothing."""
    sample_id = str(document["_id"])
    unknown: list[str] = []
    given = {one["id"]: one for one in baseline["labels"]}
    sole = sole_label(document, baseline)
    shown: dict[Target, set[Signal]] = {(sample_id, sole): set()}
    shown |= {(sample_id, label_id): set() for label_id in given}
    shown[sample_id, sole] |= _with_missing(_of_tags(document.get("tags"), unknown), baseline)
    present = set()
    for label in labels_of(document):
        label_id = str(label["_id"])
        present.add(label_id)
        signals = shown.setdefault((sample_id, label_id), set())
        signals |= _taking(_of_tags(label.get("tags"), unknown), given.get(label_id, {}))
        text, bbox = label.get("label") or "", label.get("bounding_box")
        if label_id not in given:
            box = bbox_value(bbox) if bbox else WHOLE_IMAGE
            signals.add(("added", f"{text} {box}"))
            continue
        if text and text != given[label_id]["label"]:
            signals.add(("relabel", text))
        before = given[label_id].get("bbox")
        if bbox and before and bbox_value(bbox) != bbox_value(before):
            signals.add(("bbox", bbox_value(bbox)))
    for label_id in given.keys() - present:
        shown[sample_id, label_id].add(("drop", ""))
    for beside in (suggested, regions):
        drawn, meaningless = beside.shown(document, baseline)
        unknown += meaningless
        for target, said in drawn.items():
            shown.setdefault(target, set()).update(said)
    return shown, unknown


def _with_missing(signals: set[Signal], baseline: Mapping[str, Any]) -> set[Signal]:
    """Return the signals of a sample; to accept what is found missing is to add it."""
    if ("accept", "") not in signals or not baseline.get("missing"):
        return signals
    return (signals - {("accept", "")}) | {added_signal(name) for name in baseline["missing"]}


def _taking(signals: set[Signal], given: Mapping[str, Any]) -> set[Signal]:
    """Return the signals of a label; to accept that it is wrongly there is to drop it, a suggested id to take that."""
    if ("accept", "") not in signals or not (given.get("extra") or given.get("suggested_id")):
        return signals
    taken = ("drop", "") if given.get("extra") else (ACCEPT_ID, given["suggested_id"])
    return (signals - {("accept", "")}) | {taken}


def _of_tags(tags: Iterable[str] | None, unknown: list[str]) -> set[Signal]:
    found = set()
    for tag in tags or ():
        if tag.startswith(TAG_PREFIX):
            signal = signal_of_tag(tag)
            if signal is None:
                unknown.append(tag)
            else:
                found.add(signal)
    return found


def merge(new: Document, current: Document | None, before: Mapping[str, Any] | None) -> Document:
    """Return the document to show: what the tables say now, with what reviewers did to the current one.

    Args:
        new: the document that follows from the tables.
        current: what is in the dataset, None if nothing.
        before: the baseline that `current` was written with, None if it was not written by curate.
    """
    if current is None:
        return new
    merged = regions.merge(suggested.merge(new, current, before), current)
    merged = dict(merged)
    own = [tag for tag in current.get("tags") or () if tag != UNREADABLE_TAG]
    merged["tags"] = [*new["tags"], *own]
    was = {one["id"]: one for one in (before or {"labels": []})["labels"]}
    kept = {str(label["_id"]): label for label in labels_of(current)}
    labels = []
    for label in labels_of(new):
        label_id = str(label["_id"])
        if label_id in kept:
            labels.append(_merge_label(label, kept[label_id], was.get(label_id)))
        elif label_id not in was:
            labels.append(label)  # given since; one that was there before and is not now was taken out by hand
    fresh = {str(label["_id"]) for label in labels_of(new)}
    labels += [label for label_id, label in kept.items() if label_id not in fresh and label_id not in was]
    return _with_labels(merged, labels, new, current)


def _merge_label(new: Document, current: Document, was: Mapping[str, Any] | None) -> Document:
    merged = {key: value for key, value in current.items() if key not in LABEL_FIELDS} | new
    merged["tags"] = list(current.get("tags") or ())
    if was is None:
        return merged
    if was["label"] == new["label"] and current.get("label"):
        merged["label"] = current["label"]
    moved = current.get("bounding_box")
    if moved and was.get("bbox") and bbox_value(was["bbox"]) == bbox_value(new["bounding_box"]):
        merged["bounding_box"] = moved
        if bbox_value(moved) != bbox_value(was["bbox"]):
            merged.pop("mask", None)
            if "mask" in current:
                merged["mask"] = current["mask"]
    return merged


def _with_labels(merged: Document, labels: list[Document], new: Document, current: Document) -> Document:
    kind = (new.get(GROUND_TRUTH) or current.get(GROUND_TRUTH) or {}).get("_cls")
    if not labels:
        merged.pop(GROUND_TRUTH, None)
        if kind in LABEL_LISTS:
            merged[GROUND_TRUTH] = {"_cls": kind, LABEL_LISTS[kind]: []}
        return merged
    if kind in LABEL_LISTS:
        merged[GROUND_TRUTH] = {"_cls": kind, LABEL_LISTS[kind]: labels}
    else:
        merged[GROUND_TRUTH] = labels[0]
    return merged


def replay(document: Document, baseline: Mapping[str, Any], held: Held) -> Document:
    """Return the document with every standing decision visible: as tags, and boxes where they were put.

    After it, what is shown equals what is held, so that a rebuilt dataset brings back no decision twice.
    An edited label comes back as its tag `curate:relabel:…`.
    """
    sample_id = str(document["_id"])
    labels = {str(label["_id"]): label for label in labels_of(document)}
    targets = [(sample_id, None), *((sample_id, one["id"]) for one in baseline["labels"])]
    shown, _ = shown_signals(document, baseline)
    document = {**document, "tags": list(document["tags"])}
    for target, signals in held_signals(sample_id, sole_label(document, baseline), targets, held).items():
        for signal, standing in signals.items():
            if signal in shown.get(target, ()):
                continue
            label = labels.get(target[1] or "")
            if signal[0] == "bbox" and label is not None:
                label["bounding_box"] = list(standing.to_bbox or label["bounding_box"])
                label.pop("mask", None)
            tag = tag_of_signal(signal)
            if tag is not None:
                (document if label is None else label)["tags"].append(tag)
    return regions.replay(suggested.replay(document, baseline, held), baseline, held)


def added_labels(sample_id: str, held: Held, known: set[str], kind_of_truth: str = "Detections") -> list[Document]:
    """Return what was added by hand and is not among `known`: detections, or classifications."""
    from bson import ObjectId  # noqa: PLC0415 - comes with pymongo, loaded only where a database is used

    found: list[Document] = []
    for (owner, label_id), signals in held.items():
        if owner != sample_id or label_id is None or label_id in known:
            continue
        for (kind, value), standing in signals.items():
            if kind == "added":
                label = standing.to_label or value.rsplit(" [", 1)[0]
                one: Document = {"_id": ObjectId(label_id), "tags": [], "label": label}
                if kind_of_truth == "Classifications":
                    found.append(one | {"_cls": "Classification"})
                else:
                    box = list(standing.to_bbox or [])
                    found.append(one | {"_cls": "Detection", "attributes": {}, "bounding_box": box})
    return found
