"""Every Arrow schema, column name and schema version. A table that crosses a module boundary stands here."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

SCHEMA_VERSION = 2  # 2: versions may hold `ignore/`; one without it says 1, and earlier curates read it

TASKS = ("classification", "multi_label", "detection", "segmentation", "tracking")
MULTI_LABEL = "multi_label"  # several classes an image, each there or not: a label row for each that is there
LABEL_STATES = ("labeled", "negative", "unlabeled")
ACTIONS = ("keep", "review", "relabel", "soften", "drop")
OUTCOMES = ("added", "already present", "out")
STATISTIC_OUTCOMES = ("pass", "fail", "warn", "insufficient data", "errored")

ATTRIBUTE_PREFIX = "attr_"  # samples.attr_<name>: a declared attribute, string, null = unknown
GROUP_PREFIX = "group_"  # samples.group_<name>: a group key (video, camera, subject), string
PROB_PREFIX = "prob_"  # predictions.prob_<teacher>: fixed_size_list<float16>[K]
PRESENT_PREFIX = "present_"  # tags view: present_<teacher>: fixed_size_list<float16>[K], each class alone
BOXES_PREFIX = "boxes_"  # boxes view: boxes_<teacher>: list of FOUND_BOX
TRACKS_PREFIX = "tracks_"  # predictions.tracks_<teacher>: TRACKS of a whole frame, at one of its labels, else null
REGIONS_COLUMN = "regions"  # regions view: list of REGION, what segmenters together say of the mask of an image
NEAREST_PREFIX = "nearest_"  # predictions.nearest_<probes>: NEAREST of each label
TEACHER_PREFIXES = (PROB_PREFIX, TRACKS_PREFIX, REGIONS_COLUMN, BOXES_PREFIX, PRESENT_PREFIX)

NEAREST = pa.struct(  # labels of the nearest images, as positions in the class list, nearest first
    [pa.field("classes", pa.list_(pa.int32())), pa.field("n_searched", pa.int32())]
)
BBOX = pa.list_(pa.float64(), 4)  # x, y, w, h relative to the upright image, origin top left
MASK_RLE = pa.struct([("height_px", pa.int32()), ("width_px", pa.int32()), ("counts", pa.binary())])
POLYGONS = pa.list_(pa.list_(pa.float64()))  # relative x0, y0, x1, y1, … a ring each
TRACKS = pa.list_(pa.struct([("track_id", pa.string()), ("label", pa.string()), ("bbox", BBOX)]))

GIVEN_TAG = pa.struct([("label_id", pa.string()), ("label", pa.string())])
TO_IGNORE = ("crowd", "ignored")  # flags: the source says that a trainer is to ignore the label (COCO, MOT)
GIVEN_BOX = pa.struct([("label_id", pa.string()), ("label", pa.string()), ("bbox", BBOX), ("is_crowd", pa.bool_())])
FOUND_BOX = pa.struct([("label", pa.string()), ("bbox", BBOX), ("score", pa.float64())])
GIVEN_MASK = pa.struct([("label_id", pa.string()), ("label", pa.string()), ("mask", MASK_RLE)])

SHAPE = pa.struct([("bbox", BBOX), ("mask", MASK_RLE)])  # a small mask that is stretched over a relative box
SIDES = pa.list_(pa.float32(), 4)  # right, below, left, above; in shares of the image's diagonal
REGION = (
    pa.struct(  # a region of a mask, or one that it lacks, measured against segmenters: `teachers.regions.region`
        [
            pa.field("component", pa.int32()),  # number in its image, from 0; null: missing
            pa.field("label", pa.string()),
            pa.field("other", pa.string()),
            pa.field("area_px", pa.int64()),
            pa.field("area_share", pa.float64()),
            pa.field("bbox_px", pa.list_(pa.int32(), 4)),
            pa.field("right_prob", pa.float64()),
            pa.field("wrong_class_risk", pa.float64()),
            pa.field("spurious_risk", pa.float64()),
            pa.field("missing_risk", pa.float64()),
            pa.field("given_prob", pa.float64()),
            pa.field("other_prob", pa.float64()),
            pa.field("n_agree", pa.int16()),
            pa.field("n_teachers", pa.int16()),
            pa.field("iou", pa.float64()),
            pa.field("offset_px", pa.float64()),
            pa.field("moved_px", pa.float64()),
            pa.field("length", SIDES),
            pa.field("shift", SIDES),
            pa.field("spread", SIDES),
            pa.field("drawn", SHAPE),
            pa.field("seen", SHAPE),
        ]
    )
)

SAMPLES = pa.schema(
    [
        pa.field("sample_id", pa.string(), nullable=False),  # 24 hex characters, see `stable_id`
        pa.field("source", pa.string(), nullable=False),
        pa.field("uri", pa.string(), nullable=False),  # relative to the root, ends in the file's own name
        pa.field("container", pa.string()),  # relative path of the tar, zip or Parquet that holds the bytes
        pa.field("container_offset", pa.int64()),  # tar: byte offset; Parquet: row; zip: null, by member name
        pa.field("n_bytes", pa.int64()),  # of the encoded image; null = not known before reading
        pa.field("mtime_ns", pa.int64()),  # of the file or its container; never published
        pa.field("split", pa.string()),  # as given; null = to be assigned by the spec's rule
        pa.field("license", pa.string()),  # SPDX id or null = unknown
        pa.field("subject_id", pa.string()),
        pa.field("label_state", pa.string(), nullable=False),  # LABEL_STATES
    ]
)  # + attr_<name>, group_<name>

LABELS = pa.schema(
    [
        pa.field("label_id", pa.string(), nullable=False),  # 24 hex characters, see `stable_id`
        pa.field("sample_id", pa.string(), nullable=False),
        pa.field("task", pa.string(), nullable=False),  # TASKS
        pa.field("label", pa.string(), nullable=False),  # the given label after aliases
        pa.field("bbox", BBOX),
        pa.field("mask", MASK_RLE),
        pa.field("polygons", POLYGONS),
        pa.field("track_id", pa.string()),
        pa.field("frame", pa.int64()),  # position in the sequence named by the group key "video"
        pa.field("annotator", pa.string()),
        pa.field("source_key", pa.string()),  # the annotation's own id or row number in the source
        pa.field("reference_label", pa.string()),  # a known truth, for evaluation only; never read by a check
        pa.field("flags", pa.list_(pa.string())),  # as the source says: crowd, ignored, difficult, truncated, …
    ]
)

# One per input row of a source: an image, a table row, an annotation.
INGEST_OUTCOMES = pa.schema(
    [
        pa.field("row", pa.string(), nullable=False),  # where it stands: "train.csv row 17", "a/b.jpg"
        pa.field("kind", pa.string(), nullable=False),  # image | label
        pa.field("outcome", pa.string(), nullable=False),  # OUTCOMES
        pa.field("reason_code", pa.string()),  # null unless out
        pa.field("reason_args", pa.string()),  # canonical JSON
        pa.field("sample_id", pa.string()),
        pa.field("label_id", pa.string()),
    ]
)

SCAN = pa.schema(
    [
        pa.field("sample_id", pa.string(), nullable=False),
        pa.field("error_code", pa.string()),  # null = decoded; else a reason code (truncated, not_an_image, …)
        pa.field("error_args", pa.string()),  # canonical JSON
        pa.field("content_sha256", pa.string()),  # of the encoded bytes; null = no bytes
        pa.field("n_bytes", pa.int64()),
        pa.field("format", pa.string()),  # JPEG, PNG, … as the bytes say, not the name
        pa.field("mode", pa.string()),  # L, RGB, RGBA, CMYK, I;16, P, …
        pa.field("width_px", pa.int32()),  # upright: after the EXIF rotation
        pa.field("height_px", pa.int32()),
        pa.field("n_frames", pa.int32()),  # > 1: animated; the first frame is measured
        pa.field("exif_orientation", pa.int8()),  # 1 … 8; 1 where absent
        pa.field("has_gps", pa.bool_()),
        pa.field("phash", pa.uint64()),  # 64-bit DCT perceptual hash of the upright luma
        pa.field("brightness_p05", pa.float32()),  # percentiles of perceived brightness, [0, 1]
        pa.field("brightness_p50", pa.float32()),
        pa.field("brightness_p99", pa.float32()),
        pa.field("blur_laplacian_std", pa.float32()),  # of the luma at a fixed working size, [0, inf)
        pa.field("blur_luma_std", pa.float32()),  # std of the counts of the luma histogram: tells flat from blurred
        pa.field("entropy_bits", pa.float32()),  # of the luma histogram, [0, 8]
        pa.field("colorfulness", pa.float32()),  # 0 = gray
        pa.field("thumbnail_sha256", pa.string()),  # of the decoded upright pixels: same picture, other bytes
    ]
)

FINDINGS = pa.schema(
    [
        pa.field("finding_id", pa.string(), nullable=False),  # see `finding_ids`
        pa.field("check", pa.string(), nullable=False),
        pa.field("issue", pa.string(), nullable=False),
        pa.field("sample_id", pa.string(), nullable=False),
        pa.field("label_id", pa.string()),  # null when about the image, or a label is missing
        pa.field("related_ids", pa.list_(pa.string())),  # sample ids of duplicates or neighbours, sorted
        pa.field("risk", pa.float64(), nullable=False),  # [0, 1], 1 = worst
        pa.field("flagged", pa.bool_()),  # the check's own automatic cut, where it has one; else null
        pa.field("suggested_label", pa.string()),
        pa.field("suggested_prob", pa.float64()),
        pa.field("suggested_bbox", BBOX),
        pa.field("reason_code", pa.string(), nullable=False),
        pa.field("reason_args", pa.string(), nullable=False),  # canonical JSON
    ]
)

STATISTICS = pa.schema(
    [
        pa.field("check", pa.string(), nullable=False),
        pa.field("name", pa.string(), nullable=False),
        pa.field("group", pa.string()),  # null = the whole; else "class=cat", "attr_age=20-29", …
        pa.field("value", pa.float64()),
        pa.field("low", pa.float64()),  # 95 % interval, where there is one
        pa.field("high", pa.float64()),
        pa.field("n", pa.int64()),
        pa.field("threshold", pa.float64()),  # filled by the gates, null before
        pa.field("outcome", pa.string()),  # STATISTIC_OUTCOMES; a check sets only the last two, gates the rest
        pa.field("detail", pa.string()),  # canonical JSON: method, what was missing, …
    ]
)

# What detectors propose: a row per box.
DETECTIONS = pa.schema(
    [
        pa.field("sample_id", pa.string(), nullable=False),
        pa.field("teacher", pa.string(), nullable=False),
        pa.field("label", pa.string(), nullable=False),
        pa.field("bbox", BBOX, nullable=False),
        pa.field("score", pa.float64(), nullable=False),  # [0, 1], as the teacher gave it
    ]
)

VERDICTS = pa.schema(
    [
        pa.field("sample_id", pa.string(), nullable=False),
        pa.field("label_id", pa.string()),  # null: the verdict is about the whole sample
        pa.field("action", pa.string(), nullable=False),  # ACTIONS
        pa.field("released_label", pa.string()),
        pa.field("weight", pa.float64(), nullable=False),  # 0 where the row is not released
        pa.field("risk", pa.float64(), nullable=False),  # the highest of its findings, 0 without one
        pa.field("reasons", pa.list_(pa.string()), nullable=False),  # finding ids, decision ids; all of them
        pa.field("reason_codes", pa.list_(pa.string()), nullable=False),  # parallel to reasons
    ]
)

DECISIONS = pa.schema(
    [
        pa.field("decision_id", pa.string(), nullable=False),
        pa.field("at", pa.string(), nullable=False),  # RFC 3339, UTC
        pa.field("reviewer", pa.string(), nullable=False),  # self-declared
        pa.field("sample_id", pa.string(), nullable=False),
        pa.field("label_id", pa.string()),
        pa.field(
            "decision", pa.string(), nullable=False
        ),  # accept | reject | relabel | drop | keep | ignore | note
        pa.field("from_label", pa.string()),
        pa.field("to_label", pa.string()),
        pa.field("why", pa.string()),
        pa.field("finding_id", pa.string()),
        pa.field("content_sha256", pa.string()),  # the bytes that were judged
        pa.field("to_bbox", BBOX),  # a box that was moved or added by hand
        pa.field("to_track_id", pa.string()),  # the id that the label gets, or that the box refused would have had
        pa.field("region", pa.string()),  # of one region of a mask: its pixels, see `verdict_regions`; else null
    ]
)


def stable_id(*parts: str) -> str:
    """Return 24 hex characters (96 bits of sha256) of the parts; also a valid MongoDB ObjectId."""
    return _hashed("\0".join(parts))


def _hashed(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:24]


def sample_id_of(source: str, uri: str) -> str:
    """Return the id of the image at `uri` (relative to its root) of `source`."""
    return _hashed(f"sample\0{source}\0{uri}")


def label_id_of(sample_id: str, task: str, source_key: str) -> str:
    """Return the id of a given label; `source_key` is its own id, or its ordinal in the sample."""
    return _hashed(f"label\0{sample_id}\0{task}\0{source_key}")


def finding_id_of(
    check: str, issue: str, sample_id: str, label_id: str | None, related_ids: list[str] | None
) -> str:
    """Return the id of a finding: the same finding on the same rows keeps its id from run to run."""
    return stable_id("finding", check, issue, sample_id, label_id or "", *(related_ids or ()))


def canonical_json(value: Any) -> str:  # noqa: ANN401 - any JSON value
    """Return JSON with sorted keys and no spaces: the same value always gives the same text."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def teacher_columns(predictions: pa.Table | None) -> list[str]:
    """Return the `prob_<teacher>` columns of predictions; none where no teacher has answered."""
    names = predictions.column_names if predictions is not None else []
    return [name for name in names if name.startswith(PROB_PREFIX)]


def empty(schema: pa.Schema) -> pa.Table:
    """Return a table of `schema` with no rows."""
    return schema.empty_table()


def table_from_rows(rows: Sequence[Mapping[str, Any]], schema: pa.Schema) -> pa.Table:
    """Return a table of exactly `schema` from row mappings; an absent key is null, an extra one an error."""
    extra = sorted({key for row in rows for key in row} - set(schema.names))
    if extra:
        msg = f"rows hold columns that the schema lacks: {', '.join(extra)}"
        raise ValueError(msg)
    columns = {field.name: [row.get(field.name) for row in rows] for field in schema}
    return pa.table(columns, schema=schema)
