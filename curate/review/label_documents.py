"""Labels and teachers' answers as documents of FiftyOne; each carries what findings and verdicts say about it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from curate import schema
from curate.ingest.rle import decode_mask
from curate.review import masks
from curate.review.rows import Said


def classification(row: Mapping[str, Any], said: Said) -> dict[str, Any]:
    """Return a label of the whole image."""
    from bson import ObjectId  # noqa: PLC0415 - comes with pymongo, loaded only where a database is used

    document: dict[str, Any] = {"_id": ObjectId(row["label_id"]), "_cls": "Classification"}
    return document | {"tags": [], "label": row["label"]} | _said_of_label(row, said)


def detection(
    row: Mapping[str, Any], scan: Mapping[str, Any], said: Said, track_index: Mapping[str, int]
) -> dict[str, Any]:
    """Return a box, with its mask inside it; a label about the whole image has a box round all of it.

    Args:
        row: of `schema.LABELS`.
        scan: of the image.
        said: what is said about the label.
        track_index: number of each track.
    """
    from bson import ObjectId  # noqa: PLC0415 - see above

    document: dict[str, Any] = {"_id": ObjectId(row["label_id"]), "_cls": "Detection"}
    document |= {"attributes": {}, "tags": [], "label": row["label"]}
    bbox = [float(v) for v in row["bbox"]] if row["bbox"] is not None else None
    mask = _mask(row, scan)
    if bbox is None and mask is not None:
        bbox = masks.box_of(mask)
    document["bounding_box"] = bbox or [0.0, 0.0, 1.0, 1.0]  # a label about the whole image
    if mask is not None and mask.any():
        document["mask"] = masks.to_bytes(masks.crop_to_box(mask, document["bounding_box"]))
    if row["track_id"] is not None:
        document["index"] = track_index[row["track_id"]]
    return document | _said_of_label(row, said)


def answer(sample_id: str, teacher: str, said: tuple[str, float] | None) -> dict[str, Any] | None:
    """Return what a teacher says of an image; None where it says nothing."""
    from bson import ObjectId  # noqa: PLC0415 - see above

    if said is None:
        return None
    identity = ObjectId(schema.stable_id("answer", teacher, sample_id))
    return {"_id": identity, "_cls": "Classification", "tags": [], "label": said[0], "confidence": said[1]}


def _said_of_label(row: Mapping[str, Any], said: Said) -> dict[str, Any]:
    found = {
        "risk": said.risk,
        "action": said.action,
        "released_label": said.released_label,
        "suggested_label": said.suggested_label,
        "suggested_prob": said.suggested_prob,
        "issues": sorted(said.issues) or None,
        "reasons": said.reasons or None,
        "annotator": row["annotator"],
        "track_id": row["track_id"],
        "suggested_id": said.suggested_id,
    }
    return {name: value for name, value in found.items() if value is not None}


def _mask(row: Mapping[str, Any], scan: Mapping[str, Any]) -> Any:  # noqa: ANN401 - an array or None
    """Return the mask over the whole image, or None; one that cannot be decoded is what the mask check reports."""
    try:
        if row["mask"] is not None and row["mask"]["counts"] is not None:
            return decode_mask(row["mask"])
        if row["polygons"]:
            width, height = scan.get("width_px") or 1, scan.get("height_px") or 1
            return masks.draw_polygons(row["polygons"], width / height)
    except (ValueError, TypeError):
        return None
    return None
