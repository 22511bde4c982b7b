"""What a reviewer's marks mean: tags and edits as signals, signals as decisions. Pure.

A target is (sample_id, label_id); label_id is None for the sample as a whole. A signal is (kind, value):

| in the App | signal | decision |
| --- | --- | --- |
| tag `curate:accept` | accept | accept: the suggestion is right (to_label = the suggested label) |
| tag `curate:accept` on a label with a suggested id | accept_id ID | accept, with to_track_id |
| tag `curate:reject` | reject | reject: the suggestion is wrong, the given label stands |
| tag `curate:keep` | keep | keep: the given label stands |
| tag `curate:drop`, box or sample deleted | drop | drop |
| tag `curate:relabel:cat`, label edited to cat | relabel cat | relabel, to_label = cat |
| box moved | bbox [x,y,w,h] | note, with to_bbox |
| tag `curate:add:cat` on a sample, label added | added cat [0,0,1,1] | note, with to_label and to_bbox |
| box added | added label [x,y,w,h] | note, with to_label and to_bbox |
| tag `curate:accept` on a suggested box | accept_box label [x,y,w,h] | accept, with to_label and to_bbox |
| tag `curate:reject` on a suggested box | reject_box label [x,y,w,h] | reject, with to_bbox |
| tag on a region of a mask | accept_region, reject_region, ignore_region | see `review.regions` |

A suggested box is about the label that it would move or rename; one that is missing has an id of its own, which becomes
that of the label. One that a track misses says which track: the decision holds it as `to_track_id`. A suggested class is
accepted or refused like the label itself.

Where images have several labels, `curate:accept` on a sample adds every label that was found to be left out, and on a
label that was found to be wrongly there it drops it.

A tag on a sample with exactly one label, in a classification dataset, is about that label. What the ledger says
and what the dataset shows are compared as sets: a signal that is new is appended, one that is gone is withdrawn
(a note that names the decision). So a second pull finds nothing, and changing one's mind is recorded.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from curate import schema
from curate.errors import did_you_mean
from curate.review.ledger import AUDITED
from curate.verdict_people import WITHDRAWS

TAG_PREFIX = "curate:"
WHOLE_IMAGE = "[0.0, 0.0, 1.0, 1.0]"  # stands for the box of a label that has none
PLAIN_TAGS = ("accept", "reject", "keep", "drop")
ADDED = "added"
ACCEPT_ID = "accept_id"
REGION_SIGNALS = {"accept_region": "accept", "reject_region": "reject", "ignore_region": "ignore"}  # -> decision
SUGGESTED = {"accept_box": "accept", "reject_box": "reject"}  # signal about a suggested box -> decision

CONTRADICTIONS = (
    ("accept", "reject"),
    ("accept", "keep"),
    ("accept", "drop"),
    ("keep", "drop"),
    ("accept_box", "reject_box"),
    ("accept_region", "reject_region"),
    ("accept_region", "ignore_region"),
    ("reject_region", "ignore_region"),
    (ACCEPT_ID, "reject"),
    (ACCEPT_ID, "keep"),
    (ACCEPT_ID, "drop"),
)

Target = tuple[str, str | None]
Signal = tuple[str, str]  # kind, value; value is "" where the kind says it all


@dataclass(frozen=True, slots=True)
class Standing:
    """A signal that the ledger holds and that nobody withdrew."""

    decision_id: str
    to_label: str | None
    to_bbox: list[float] | None


def signal_of_tag(tag: str) -> Signal | None:
    """Return the signal of a `curate:` tag, or None if the tag means nothing here."""
    word = tag.removeprefix(TAG_PREFIX)
    if word in PLAIN_TAGS:
        return (word, "")
    if word.startswith("relabel:") and word.removeprefix("relabel:"):
        return ("relabel", word.removeprefix("relabel:"))
    if word.startswith("add:") and word.removeprefix("add:"):
        return added_signal(word.removeprefix("add:"))
    return None


def added_signal(label: str) -> Signal:
    """Return the signal that an image has one more label."""
    return ("added", f"{label} {WHOLE_IMAGE}")


def region_id(finding_id: str) -> str:
    """Return the id of what is drawn of a region in doubt; decisions about it have it for a target."""
    return schema.stable_id("region", finding_id)


def tag_of_signal(signal: Signal) -> str | None:
    """Return the tag that shows a signal, or None for boxes that were moved or added."""
    kind, value = signal
    if kind == ACCEPT_ID:
        return TAG_PREFIX + "accept"
    if kind == "added" and value.endswith(f" {WHOLE_IMAGE}"):
        return f"{TAG_PREFIX}add:{value.removesuffix(f' {WHOLE_IMAGE}')}"
    if kind in PLAIN_TAGS:
        return TAG_PREFIX + kind
    return f"{TAG_PREFIX}relabel:{value}" if kind == "relabel" else None


def bbox_value(bbox: Sequence[float]) -> str:
    """Return a box as text, rounded to a millionth of the image: what the App's own rounding cannot change."""
    return json.dumps([round(float(v), 6) + 0.0 for v in bbox])


def standing_signals(decisions: pa.Table) -> dict[Target, dict[Signal, Standing]]:
    """Return what the ledger holds per target and was not withdrawn, as far as the App shows it: no audit's answer."""
    found: dict[Target, dict[Signal, Standing]] = defaultdict(dict)
    said: dict[str, tuple[Target, Signal]] = {}
    for row in decisions.to_pylist():
        about = region_id(row["finding_id"] or "") if row["region"] is not None else row["label_id"]
        target = (row["sample_id"], about)
        why = row["why"] or ""
        if row["decision"] == "note" and why.startswith(WITHDRAWS):
            gone = why.removeprefix(WITHDRAWS)
            where, what = said.get(gone, (target, ("", "")))
            if what in found[where] and found[where][what].decision_id == gone:
                del found[where][what]
            continue
        if why.startswith(AUDITED):
            continue  # the App does not show it, so its absence there takes nothing back
        new = _signal_of_row(row)
        if new is not None:
            said[row["decision_id"]] = (target, new)
            found[target].pop(new, None)  # said again: it is the latest now
            found[target][new] = Standing(row["decision_id"], row["to_label"], row["to_bbox"])
    return {target: signals for target, signals in found.items() if signals}


def _signal_of_row(row: Mapping[str, Any]) -> Signal | None:
    kind = row["decision"]
    if row["region"] is not None or kind == "relabel":
        value = row["to_label"] or "" if kind in {"accept", "relabel"} else ""
        return (f"{kind}_region" if row["region"] is not None else kind, value)
    if kind == "accept" and row["to_track_id"] is not None and row["to_bbox"] is None:
        return (ACCEPT_ID, row["to_track_id"])
    if kind in {"accept", "reject"} and row["to_bbox"] is not None:
        return (f"{kind}_box", f"{row['to_label']} {bbox_value(row['to_bbox'])}")
    if kind == "note":
        if row["to_bbox"] is None:
            return None
        box = bbox_value(row["to_bbox"])
        return ("added", f"{row['to_label']} {box}") if row["to_label"] else ("bbox", box)
    return (kind, "")


def row_of_signal(target: Target, signal: Signal, context: Mapping[str, Any]) -> dict[str, Any]:
    """Return the ledger row for a new signal.

    `context` holds `label` (the given one), `suggested`, `finding`, `sha` and, for boxes, `bbox`; of a suggested box
    its finding as `box_finding` and, where a track misses it, the track as `box_track`; of a region of a mask
    its `label_id` and `region`.
    """
    kind, value = signal
    row: dict[str, Any] = {
        "sample_id": target[0],
        "label_id": target[1],
        "decision": kind,
        "from_label": context.get("label"),
        "finding_id": context.get("finding"),
        "content_sha256": context.get("sha"),
    }
    if kind in REGION_SIGNALS:
        row |= {"decision": REGION_SIGNALS[kind], "label_id": context["label_id"], "region": context["region"]}
        return {**row, "to_label": value or context["label"]}
    if kind in {"relabel", "accept", "reject", "keep"}:
        values = {"relabel": value, "accept": context.get("suggested")}
        return {**row, "to_label": values.get(kind, context.get("label"))}
    if kind == ACCEPT_ID:  # and the suggested class with it, where there is one
        label = context.get("suggested") or context.get("label")
        return {**row, "decision": "accept", "to_label": label, "to_track_id": value}
    if kind == "bbox":
        return {**row, "decision": "note", "why": "box moved by hand", "to_bbox": json.loads(value)}
    if kind == ADDED or kind in SUGGESTED:
        label, bbox = label_and_box(value)
        row |= {"decision": SUGGESTED.get(kind, "note"), "to_label": label, "to_bbox": bbox}
        by_hand = "label added by hand" if value.endswith(f" {WHOLE_IMAGE}") else "box added by hand"
        own = {"why": by_hand} if kind == ADDED else {"to_track_id": context.get("box_track")}
        return row | own | {"finding_id": context.get("box_finding", row["finding_id"])}
    return row


def label_and_box(value: str) -> tuple[str, list[float]]:
    """Return what `LABEL [x, y, w, h]` says."""
    label, box = value.rsplit(" [", 1)
    return label, json.loads("[" + box)


def withdrawal(target: Target, standing: Standing, context: Mapping[str, Any]) -> dict[str, Any]:
    """Return the ledger row that takes a decision back."""
    return {
        "sample_id": target[0],
        "label_id": context.get("label_id", target[1]),
        "decision": "note",
        "from_label": standing.to_label,
        "why": WITHDRAWS + standing.decision_id,
        "content_sha256": context.get("sha"),
    }


def compare(
    target: Target,
    shown: Iterable[Signal],
    held: Mapping[Signal, Standing],
    context: Mapping[str, Any],
) -> list[dict[str, Any]]:
    """Return the ledger rows that make what is held equal to what is shown: withdrawals first, drops last."""
    shown = set(shown)
    rows = [withdrawal(target, held[signal], context) for signal in sorted(held) if signal not in shown]
    rank = {
        "bbox": 0,
        "added": 0,
        "keep": 1,
        "accept": 2,
        "accept_box": 2,
        ACCEPT_ID: 2,
        "reject": 3,
        "reject_box": 3,
        **dict.fromkeys(REGION_SIGNALS, 2),
        "relabel": 4,
        "drop": 5,
    }
    fresh = sorted(shown - set(held), key=lambda s: (rank[s[0]], s[1]))
    return rows + [row_of_signal(target, signal, context) for signal in fresh]


def refused(signal: Signal, classes: Sequence[str]) -> str | None:
    """Return why a signal cannot be taken (a label that is no class), or None."""
    kind, value = signal
    label = (
        value
        if kind in {"relabel", "accept_region"}
        else value.rsplit(" [", 1)[0]
        if kind in {"added", "accept_box"}
        else None
    )
    if label is None or not classes or label in classes:
        return None
    hint = did_you_mean(label, classes)
    return f"the label {label!r} is not a class of this dataset and was not taken. {hint}".rstrip()


def without_suggestion(signal: Signal, context: Mapping[str, Any]) -> str | None:
    """Return why an acceptance cannot be taken (nothing is suggested for the box that it is on), or None.

    Args:
        signal: that a target shows.
        context: of the target, see `row_of_signal`.
    """
    if signal != ("accept", "") or "bbox" not in context or context.get("suggested") is not None:
        return None
    return (
        f"{TAG_PREFIX}accept on the given box {context.get('label')!r} was not taken: no other class is suggested for "
        f"it. Accept a place or a missing box on the box drawn in `suggested`; or tag {TAG_PREFIX}keep, {TAG_PREFIX}drop "
        f"or {TAG_PREFIX}relabel:CLASS."
    )


def contradictory(signals: Iterable[Signal]) -> set[Signal]:
    """Return those signals of one target of which only one can be meant."""
    found: set[Signal] = set()
    signals = set(signals)
    for one, other in CONTRADICTIONS:
        mine, theirs = ({s for s in signals if s[0] == kind} for kind in (one, other))
        if mine and theirs:
            found |= mine | theirs
    return found


def say_contradictory(signals: Iterable[Signal]) -> str:
    """Return what to tell about `contradictory` signals."""
    words = SUGGESTED | REGION_SIGNALS | {ACCEPT_ID: "accept", "reject_region": "keep"}
    tags = sorted({TAG_PREFIX + words.get(kind, kind) for kind, _ in signals})
    told = " and ".join(tags)
    return f"it is tagged {told}, which contradict each other; what was decided before stays. Leave one tag."
