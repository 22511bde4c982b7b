"""The tables of a version: what a row of `data/`, `excluded/` and `decisions/` holds."""

from __future__ import annotations

import pyarrow as pa

from curate import schema

_TEXTS = pa.list_(pa.field("item", pa.string()))

# One row per released label, or released sample without labels. Sorted by sample id and label id.
DATA = pa.schema(
    [
        pa.field("sample_id", pa.string(), nullable=False),
        pa.field("label_id", pa.string()),  # null: a sample without labels
        pa.field("source", pa.string(), nullable=False),
        pa.field("uri", pa.string(), nullable=False),
        pa.field("container", pa.string()),
        pa.field("container_offset", pa.int64()),
        pa.field("n_bytes", pa.int64()),  # of the encoded image; what a tar needs to find its end
        pa.field("content_sha256", pa.string()),
        pa.field("split", pa.string()),
        pa.field("task", pa.string()),
        pa.field("label_state", pa.string(), nullable=False),
        pa.field("given_label", pa.string()),
        pa.field("released_label", pa.string()),
        pa.field("action", pa.string(), nullable=False),
        pa.field("reasons", _TEXTS, nullable=False),  # finding and decision ids
        pa.field("reason_codes", _TEXTS, nullable=False),  # parallel to reasons
        pa.field("risk", pa.float64(), nullable=False),
        pa.field("weight", pa.float64(), nullable=False),
        pa.field("attributes", pa.map_(pa.string(), pa.string()), nullable=False),  # those the policy releases
        pa.field("groups", pa.map_(pa.string(), pa.string()), nullable=False),  # those the policy releases
        pa.field("subject_key", pa.string()),  # keyed hash of the subject; null without a salt
        pa.field("bbox", schema.BBOX),  # as released
        pa.field("given_bbox", schema.BBOX),  # where a person moved the box: as it was given; else null
        pa.field("mask", schema.MASK_RLE),  # as released
        pa.field("given_mask", schema.MASK_RLE),  # where regions wait for review: as it was given; else null
        pa.field("polygons", schema.POLYGONS),
        pa.field("track_id", pa.string()),  # as released
        pa.field("given_track_id", pa.string()),  # where a person gave it another id: as it was given; else null
        pa.field("frame", pa.int64()),
        pa.field("annotator", pa.string()),
        pa.field(
            "flags", _TEXTS
        ),  # as the source says: crowd (to be ignored by who trains), difficult, truncated, …
        pa.field("width_px", pa.int32()),
        pa.field("height_px", pa.int32()),
        pa.field("license", pa.string()),
    ]
)

# What was taken out: by a verdict ("verdict"), or an input row that never became one ("ingest").
_ALWAYS = {"action", "reasons", "reason_codes", "weight", "attributes", "groups"}
EXCLUDED = pa.schema(
    [
        pa.field("stage", pa.string(), nullable=False),  # verdict | ingest
        *(field.with_nullable(field.name not in _ALWAYS) for field in DATA),
        pa.field("error_code", pa.string()),  # why the image could not be read
        pa.field("row", pa.string()),  # ingest: where the input row stands
        pa.field("kind", pa.string()),  # ingest: image | label
        pa.field("reason_args", pa.string()),  # of error_code, or of the ingest outcome; canonical JSON
    ]
)

# What nobody vouches for in released images (`ignore.ignored`): a label that is held back, or a place where one may be
# missing. Who trains must not read it as "nothing is there". Sorted by sample and label id; a label has a second row
# where it should be in another place.
IGNORE = pa.schema(
    [
        pa.field("sample_id", pa.string(), nullable=False),
        pa.field("label_id", pa.string()),  # null: nobody gave a label there
        pa.field("task", pa.string(), nullable=False),
        pa.field("label", pa.string()),  # as given, or as suggested
        pa.field("bbox", schema.BBOX),  # null: a mask, or a class of the whole image (multi_label)
        pa.field("mask", schema.MASK_RLE),
        pa.field("polygons", schema.POLYGONS),
        pa.field("reasons", _TEXTS, nullable=False),  # finding and decision ids
        pa.field("reason_codes", _TEXTS, nullable=False),  # parallel to reasons
    ]
)

# What people decided, as far as verdicts need it, in ledger order; who, when and why stay in the ledger.
DECISIONS = pa.schema(
    [
        schema.DECISIONS.field(name)
        for name in (
            "decision_id",
            "sample_id",
            "label_id",
            "decision",
            "from_label",
            "to_label",
            "finding_id",
            "content_sha256",
        )
    ]
    + [schema.DECISIONS.field(name) for name in ("to_bbox", "to_track_id")]
)
