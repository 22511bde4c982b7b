"""Names and types of the fields that a dataset of curate has in FiftyOne, and of what each label carries."""

from __future__ import annotations

UNREADABLE_TAG = "unreadable"
GROUND_TRUTH = "ground_truth"
TEACHER_PREFIX = "teacher_"

# name → FiftyOne type of every field that is always there
FIELDS: dict[str, str] = {
    "uri": "string",
    "source": "string",
    "container": "string",
    "split": "string",
    "license": "string",
    "label_state": "string",
    "content_sha256": "string",
    "format": "string",
    "risk": "float",
    "label_risk": "float",
    "action": "string",
    "actions": "strings",
    "suggested_label": "string",
    "suggested_prob": "float",
    "missing_labels": "strings",
    "issues": "strings",
    "reasons": "strings",
    "quality": "strings",
    "read_error": "string",
    "exact_family": "string",
    "near_family": "string",
    "leakage_family": "string",
}
# name → type of what each label carries beside FiftyOne's own attributes
LABEL_FIELDS: dict[str, str] = {
    "risk": "float",
    "action": "string",
    "released_label": "string",
    "suggested_label": "string",
    "suggested_prob": "float",
    "issues": "strings",
    "reasons": "strings",
    "annotator": "string",
    "track_id": "string",
    "suggested_id": "string",
}
