"""Boxes that people drew or accepted where nobody had: rows of the release, and an answer to what was missing there."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate import schema
from curate.teachers.boxes.geometry import iou_of
from curate.verdict_people import stale_pairs, standing
from curate.verdict_rows import Floats, Mask, take_or_null

SAME_PLACE = 0.5  # IoU from which on a person's box and a suggested one are about the same place
ADDS = ("accept", "note")
LEFT_OUT = "missing_label"  # issue of an image with several labels that lacks one
PLACES = "n_places"  # argument of a finding at a label: in how many frames (`related_ids`) its track misses a box
TRACKS = "track_"  # what issues begin with that are about the labels of a track


def drawn_labels(decisions: pa.Table, labels: pa.Table, samples: pa.Table) -> pa.Table:
    """Return the labels with a row for each box that a person added: drawn by hand, or a suggestion accepted.

    Such a decision has a label id that no given label has, a class and a box; with `to_track_id`, the row is one of
    that track, in the frame of the other labels of its image. The latest one of an id counts; one that was made for
    other bytes, or for a sample that is not here, does not. What happens to the box later (moved, renamed, dropped) is
    said by further decisions with its id, as for any label.

    Args:
        decisions: `schema.DECISIONS` in ledger order.
        labels: `schema.LABELS`.
        samples: with sample_id and, where known, content_sha256.
    """
    stands = standing(decisions)
    adds = pc.and_(pc.is_in(stands["decision"], value_set=pa.array(ADDS)), pc.is_valid(stands["to_bbox"]))
    adds = pc.and_(adds, pc.and_(pc.is_valid(stands["to_label"]), pc.is_valid(stands["label_id"])))
    known = labels["label_id"].combine_chunks()
    stands = stands.filter(pc.and_(adds, pc.invert(pc.is_in(stands["label_id"], value_set=known))))
    tags = labels.filter(pc.equal(labels["task"], schema.MULTI_LABEL))["sample_id"].combine_chunks()
    stands = stands.filter(pc.invert(pc.is_in(stands["sample_id"], value_set=tags)))  # there a label has no place
    at = pc.index_in(stands["sample_id"], value_set=samples["sample_id"].combine_chunks())
    stands, at = stands.filter(pc.is_valid(at)), at.drop_null()
    if not stands.num_rows:
        return labels
    if "content_sha256" in samples.column_names:
        row = at.to_numpy().astype(np.int64)
        stale = stale_pairs(stands, np.arange(stands.num_rows), samples["content_sha256"], row)
        stands = stands.filter(pa.array(~stale))
    latest = {identity: place for place, identity in enumerate(stands["label_id"].to_pylist())}
    chosen = stands.take(pa.array(sorted(latest.values()), pa.int64())).sort_by("label_id")
    on_track = pc.is_valid(chosen["to_track_id"])
    columns = {
        "label_id": chosen["label_id"],
        "sample_id": chosen["sample_id"],
        "task": pc.if_else(on_track, "tracking", "detection"),
        "label": chosen["to_label"],
        "bbox": chosen["to_bbox"],
        "track_id": chosen["to_track_id"],
        "frame": pc.if_else(on_track, _frames(labels, chosen["sample_id"]), None),
        "annotator": chosen["reviewer"],
    }
    fields = [labels.schema.field(name) for name in labels.column_names]
    added = {field.name: columns.get(field.name, pa.nulls(chosen.num_rows, field.type)) for field in fields}
    return pa.concat_tables([labels, pa.table(added).cast(pa.schema(fields))])


def _frames(labels: pa.Table, sample_ids: pa.ChunkedArray) -> pa.Array:
    """Return the frame that the labels of each sample stand in, null where none says so."""
    known = labels.filter(pc.is_valid(labels["frame"]))
    at = pc.index_in(sample_ids, value_set=known["sample_id"].combine_chunks()).combine_chunks()
    return known["frame"].combine_chunks().take(at)


def labeled_where_drawn(samples: pa.Table, labels: pa.Table) -> pa.Table:
    """Return the samples, those that have a label now called labeled."""
    state = samples["label_state"]
    has = pc.is_in(samples["sample_id"], value_set=labels["sample_id"].combine_chunks())
    place = samples.schema.get_field_index("label_state")
    return samples.set_column(place, samples.schema.field(place), pc.if_else(has, "labeled", state))


def open_places(findings: pa.Table) -> Mask:
    """Return which findings say that a label is missing, and where: a box, or one of the several classes of an image.

    They say nothing against the labels that are there.
    """
    nobodys = pc.is_null(findings["label_id"])
    boxed = pc.is_valid(findings["suggested_bbox"])
    tagged = pc.and_(pc.equal(findings["issue"], LEFT_OUT), pc.is_valid(findings["suggested_label"]))
    found: Mask = pc.and_(nobodys, pc.or_(boxed, tagged)).to_numpy(zero_copy_only=False)
    return found


def answered(findings: pa.Table, decisions: pa.Table, samples: pa.Table) -> Mask:
    """Return which findings about a missing box a person answered: a box was put there, or the suggestion refused.

    They are those without a label that suggest a box. Places are compared, not ids: teachers that are a little better
    the next time suggest a slightly other box for the same thing. Where a track misses the box, a decision about
    another track is no answer: two that cross may both miss one here. A finding at a label of a track that misses boxes
    (`related_ids`) is answered with the last of them.

    Args:
        findings: `schema.FINDINGS`.
        decisions: those that stand, in ledger order.
        samples: sample_id and content_sha256 by row; a row for each sample, or several.
    """
    chosen = _about_places(decisions, samples)
    return _answered_places(findings, chosen) | _answered_tracks(findings, chosen)


def _about_places(decisions: pa.Table, samples: pa.Table) -> pa.Table:
    """Return the decisions that hold a box and were made for the bytes of their sample."""
    chosen = decisions.filter(pc.is_valid(decisions["to_bbox"]))
    at = pc.index_in(chosen["sample_id"], value_set=samples["sample_id"].combine_chunks())
    chosen, row = chosen.filter(pc.is_valid(at)), at.drop_null().to_numpy().astype(np.int64)
    if not chosen.num_rows:
        return chosen
    stale = stale_pairs(chosen, np.arange(chosen.num_rows), samples["content_sha256"], row)
    return chosen.filter(pa.array(~stale))


def decided_places(decisions: pa.Table, samples: pa.Table) -> set[tuple[str, str]]:
    """Return (sample, track) of every place at which a person answered whether the track misses a box there.

    The arguments are those of `answered`.
    """
    chosen = _about_places(decisions, samples)
    rows = chosen.filter(pc.is_valid(chosen["to_track_id"]))
    return set(zip(rows["sample_id"].to_pylist(), rows["to_track_id"].to_pylist(), strict=True))


def without_places(
    arguments: Mapping[str, Any], erased: Collection[str], decided: Collection[tuple[str, str]]
) -> dict[str, Any]:
    """Return the arguments of a finding about a track that misses boxes, after some of these frames were erased.

    A place that had its answer needs none any more; one that had none stays open, since nobody can answer it now.
    """
    if PLACES not in arguments:
        return dict(arguments)
    n_answered = sum((one, arguments.get("track")) in decided for one in erased)
    return {**arguments, PLACES: arguments[PLACES] - n_answered}


def _answered_places(findings: pa.Table, decisions: pa.Table) -> Mask:
    """Return which findings miss a box where a decision is about one."""
    settled = np.zeros(findings.num_rows, dtype=bool)
    boxed = pc.and_(pc.is_null(findings["label_id"]), pc.is_valid(findings["suggested_bbox"]))
    places = np.flatnonzero(boxed.to_numpy(zero_copy_only=False))
    if not len(places):
        return settled
    by_sample: dict[str, list[int]] = {}
    for place, sample in enumerate(decisions["sample_id"].to_pylist()):
        by_sample.setdefault(sample, []).append(place)
    drawn, tracks = _boxes(decisions["to_bbox"]), decisions["to_track_id"].to_pylist()
    asked = findings.select(["sample_id", "issue", "reason_args"]).take(pa.array(places)).to_pylist()
    suggested = _boxes(take_or_null(findings["suggested_bbox"], places))
    for number, (place, row) in enumerate(zip(places.tolist(), asked, strict=True)):
        own = _track_of(row)
        near = [one for one in by_sample.get(row["sample_id"], ()) if own is None or tracks[one] in {None, own}]
        settled[place] = bool(near) and bool((iou_of(suggested[number], drawn[near]) >= SAME_PLACE).any())
    return settled


def _answered_tracks(findings: pa.Table, decisions: pa.Table) -> Mask:
    """Return which findings at a label of a track had all the places answered at which the track misses a box."""
    settled = np.zeros(findings.num_rows, dtype=bool)
    at_label = pc.and_(pc.is_valid(findings["label_id"]), pc.starts_with(findings["issue"], TRACKS))
    at_label = pc.and_(at_label, pc.match_substring(findings["reason_args"], f'"{PLACES}"'))
    about = set(zip(decisions["sample_id"].to_pylist(), decisions["to_track_id"].to_pylist(), strict=True))
    for at in np.flatnonzero(at_label.to_numpy(zero_copy_only=False)).tolist():
        args = json.loads(findings["reason_args"][at].as_py())
        frames = findings["related_ids"][at].as_py() or []
        whole = len(frames) == args[PLACES]  # fewer, where one was erased that had no answer
        settled[at] = whole and all((one, args.get("track")) in about for one in frames)
    return settled


def _track_of(finding: Mapping[str, str]) -> str | None:
    """Return the track that misses the box, None where none is named."""
    track: str | None = json.loads(finding["reason_args"]).get("track")
    return track if finding["issue"].startswith(TRACKS) else None


def _boxes(column: pa.Array | pa.ChunkedArray) -> Floats:
    flat = pc.list_flatten(column).to_numpy(zero_copy_only=False)
    return np.asarray(flat, dtype=np.float64).reshape(-1, 4)
