"""Views for tests: Arrow tables with the columns and types that the pipeline hands to checks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from curate import schema

CLASSES = ("bird", "cat", "dog")
EXTRA = [pa.field(name, pa.string()) for name in ("attr_age", "attr_light", "group_video", "group_subject")]
TEACHERS = [pa.field(f"prob_{name}", pa.list_(pa.float16(), len(CLASSES))) for name in ("one", "two", "three")]
FOLLOWED = [pa.field(f"tracks_{name}", schema.TRACKS) for name in ("a", "b")]

_of_scan = [field for field in schema.SCAN if field.name != "sample_id"]
_of_samples = [field for field in schema.SAMPLES if field.name != "n_bytes"]
SAMPLES_VIEW = pa.schema([*_of_samples, *_of_scan, *EXTRA])
_own = {field.name for field in schema.LABELS}
LABELS_VIEW = pa.schema([*schema.LABELS, *(f for f in SAMPLES_VIEW if f.name not in _own), *TEACHERS, *FOLLOWED])

BOXES = [pa.field("given_boxes", pa.list_(schema.GIVEN_BOX))]
BOXES += [pa.field(f"boxes_{name}", pa.list_(schema.FOUND_BOX)) for name in ("one", "two", "three")]
BOXES_VIEW = pa.schema([*SAMPLES_VIEW, *BOXES])
PRESENT = [pa.field(f"present_{name}", pa.list_(pa.float16(), len(CLASSES))) for name in ("a", "b", "c")]
TAGS_VIEW = pa.schema([*SAMPLES_VIEW, pa.field("given_tags", pa.list_(schema.GIVEN_TAG)), *PRESENT])
GIVEN_MASKS = pa.field("given_masks", pa.list_(schema.GIVEN_MASK))
REGIONS_VIEW = pa.schema([*SAMPLES_VIEW, GIVEN_MASKS, pa.field(schema.REGIONS_COLUMN, pa.list_(schema.REGION))])
VIEWS = {"samples": SAMPLES_VIEW, "labels": LABELS_VIEW, "annotations": LABELS_VIEW, "boxes": BOXES_VIEW}
VIEWS |= {"tags": TAGS_VIEW, "regions": REGIONS_VIEW}

READABLE: dict[str, Any] = {
    "source": "s",
    "uri": "a/b.png",
    "label_state": "labeled",
    "split": "train",
    "n_bytes": 1000,
    "format": "PNG",
    "mode": "RGB",
    "width_px": 64,
    "height_px": 48,
    "n_frames": 1,
    "exif_orientation": 1,
    "has_gps": False,
    "brightness_p05": 0.1,
    "brightness_p50": 0.5,
    "brightness_p99": 0.9,
    "blur_laplacian_std": 20.0,
    "blur_luma_std": 40.0,
    "entropy_bits": 6.5,
    "colorfulness": 0.3,
}


def sample(number: int, **values: object) -> dict[str, Any]:
    """Return a row of the samples view: a readable picture of its own, unless `values` say otherwise."""
    own = {
        "sample_id": schema.stable_id("sample", str(number)),
        "content_sha256": f"content {number}",
        "thumbnail_sha256": f"pixels {number}",
        "phash": int.from_bytes(schema.stable_id("phash", str(number)).encode()[:8], "big"),
    }
    return READABLE | own | values


def label(number: int, of: Mapping[str, Any], **values: object) -> dict[str, Any]:
    """Return a row of the labels view: a label of the sample `of`."""
    own = {"label_id": schema.stable_id("label", str(number)), "task": "classification", "label": "cat"}
    probs = {field.name: np.full(len(CLASSES), 1 / len(CLASSES), dtype=np.float16) for field in TEACHERS}
    return dict(of) | own | probs | values


def samples_view(rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    return schema.table_from_rows(rows, SAMPLES_VIEW)


def labels_view(rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    return schema.table_from_rows(rows, LABELS_VIEW)


def tags_view(rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    return schema.table_from_rows(rows, TAGS_VIEW)


def boxes_view(rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    return schema.table_from_rows(rows, BOXES_VIEW)


def regions_view(rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    return schema.table_from_rows(rows, REGIONS_VIEW)


def found(table: pa.Table, issue: str) -> list[dict[str, Any]]:
    return [row for row in table.to_pylist() if row["issue"] == issue]


def statistic(table: pa.Table, name: str, group: str | None = None) -> dict[str, Any]:
    rows = [row for row in table.to_pylist() if row["name"] == name and row["group"] == group]
    assert len(rows) == 1, f"{name} of {group}: {[(r['name'], r['group']) for r in table.to_pylist()]}"
    return rows[0]
