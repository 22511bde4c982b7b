"""Sample documents as MongoDB holds them for FiftyOne 1.22: what `insert_many` takes. Pure but for bson's ids.

Fields with no value are left out, as FiftyOne itself does. A document here holds only what follows from the
tables, so its digest tells whether anything changed; `_rand`, `_dataset_id` and the clocks are added when it is
written. `subject_id` is not shown to reviewers, and `reference_label` never is: it would bias them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from curate import schema
from curate.review import regions, rows, suggested
from curate.review.fields import GROUND_TRUTH, TEACHER_PREFIX, UNREADABLE_TAG
from curate.review.label_documents import answer, classification, detection
from curate.review.rows import Said, Spoken

_FAMILIES = (
    ("exact_family", rows.EXACT_ISSUES),
    ("near_family", (*rows.NEAR_ISSUES, *rows.EXACT_ISSUES)),
    ("leakage_family", rows.LEAK_ISSUES),
)


@dataclass(frozen=True, slots=True)
class Tables:
    """Everything a dataset is made of; see `curate.review.load.load_dataset`."""

    samples: pa.Table
    labels: pa.Table
    scan: pa.Table | None
    findings: pa.Table | None
    verdicts: pa.Table | None
    predictions: pa.Table | None
    media_paths: Sequence[str]
    classes: tuple[str, ...]
    kind: str  # of ground_truth: Classification, Classifications, Detections
    render: rows.Render


@dataclass(frozen=True, slots=True)
class Prepared:
    """A document, what is needed to tell a reviewer's edits later, and the digest of both."""

    document: dict[str, Any]
    baseline: dict[str, Any]


class Builder:
    """Prepares documents chunk by chunk; what needs the whole (families, track numbers, answers) is held here."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables
        self._families = [(name, rows.families(tables.findings, issues)) for name, issues in _FAMILIES]
        self._answers = rows.teacher_answers(tables.predictions, tables.classes)
        names = tables.samples.column_names
        self._open = [n for n in names if n.startswith((schema.ATTRIBUTE_PREFIX, schema.GROUP_PREFIX))]
        tracks = sorted(t for t in pc.unique(tables.labels["track_id"]).to_pylist() if t is not None)
        self._track_index = {track: i for i, track in enumerate(tracks)}

    @property
    def extra_fields(self) -> list[str]:
        """Return the names of the attribute and group columns, all strings."""
        return self._open

    @property
    def teachers(self) -> list[str]:
        """Return the names of the teachers whose answers are shown."""
        return sorted(self._answers)

    def prepare(self, start: int, n: int) -> list[Prepared]:
        """Return the documents of `n` samples from row `start` on, in order."""
        t = self._tables
        samples = t.samples.slice(start, n)
        ids = samples["sample_id"].combine_chunks()
        spoken = rows.spoken(_of(t.findings, ids), _of(t.verdicts, ids), t.render)
        labels = rows.labels_by_sample(t.labels, ids)
        findings = _of(t.findings, ids) if t.kind == "Detections" else None
        drawn = suggested.suggestions(findings, labels, t.render, self._track_index)
        doubted = regions.regions(findings, labels, t.render)
        scanned = _of(t.scan, ids)
        scan = {row["sample_id"]: row for row in scanned.to_pylist()} if scanned is not None else {}
        return [
            _with_suggestions(
                self._one(row, path, scan.get(row["sample_id"], {}), labels.get(row["sample_id"], []), spoken),
                drawn.get(row["sample_id"], []),
                doubted.get(row["sample_id"], []),
            )
            for row, path in zip(samples.to_pylist(), t.media_paths[start : start + n], strict=True)
        ]

    def _one(
        self, sample: dict[str, Any], path: str, scan: dict[str, Any], labels: list[dict[str, Any]], spoken: Spoken
    ) -> Prepared:
        from bson import ObjectId  # noqa: PLC0415 - comes with pymongo, loaded only where a database is used

        identity = sample["sample_id"]
        said = spoken.samples.get(identity, Said())
        document: dict[str, Any] = {"_id": ObjectId(identity), "filepath": path, "_media_type": "image"}
        document["tags"] = [UNREADABLE_TAG] if scan.get("error_code") else []
        document["metadata"] = _metadata(scan)
        for name in ("uri", "source", "container", "split", "license", "label_state", *self._open):
            document[name] = sample[name]
        document |= _said_of_sample(said, self._tables.kind)
        document["content_sha256"] = scan.get("content_sha256")
        document["format"] = scan.get("format")
        if scan.get("error_code"):
            document["read_error"] = self._tables.render(scan["error_code"], rows.arguments(scan.get("error_args")))
        for name, family in self._families:
            document[name] = family.get(identity)
        for teacher, answers in self._answers.items():
            document[TEACHER_PREFIX + teacher] = answer(identity, teacher, answers.get(identity))
        built, given = self._labels(labels, scan, spoken)
        document[GROUND_TRUTH] = built
        document = {name: value for name, value in document.items() if value is not None}
        baseline = {
            "_id": document["_id"],
            "sha": scan.get("content_sha256"),
            "finding": said.finding_id,
            "labels": given,
        }
        baseline |= {"missing": said.missing} if said.missing else {}
        return Prepared(document, baseline)

    def _labels(
        self, labels: list[dict[str, Any]], scan: dict[str, Any], spoken: Spoken
    ) -> tuple[dict[str, Any] | None, list[dict[str, Any]]]:
        """Return the ground truth and, for each label, what was given."""
        kind = self._tables.kind
        built, given = [], []
        for row in labels:
            said = spoken.labels.get(row["label_id"], Said())
            boxed = kind == "Detections"
            document = detection(row, scan, said, self._track_index) if boxed else classification(row, said)
            built.append(document)
            one = {"id": row["label_id"], "label": row["label"], "bbox": document.get("bounding_box")}
            one |= {"finding": said.finding_id, "suggested": said.suggested_label}
            one |= {"extra": True} if said.extra else {}
            one |= {"suggested_id": said.suggested_id}
            given.append({name: value for name, value in one.items() if value is not None})
        if kind == "Detections":
            return ({"_cls": "Detections", "detections": built} if built else None), given
        if kind == "Classifications":
            return ({"_cls": "Classifications", "classifications": built} if built else None), given
        return (built[0] if built else None), given


def _with_suggestions(
    prepared: Prepared, drawn: Sequence[Mapping[str, Any]], doubted: Sequence[Mapping[str, Any]]
) -> Prepared:
    """Add what is suggested for a sample, the regions in doubt, and the digest of the whole."""
    document, baseline = prepared.document, prepared.baseline
    if doubted:
        document = {**document, regions.FIELD: regions.document_of(doubted)}
        baseline = {**baseline, regions.FIELD: regions.baseline_of(doubted)}
    if drawn:
        document = {**document, suggested.FIELD: suggested.document_of(drawn)}
        baseline = {**baseline, suggested.FIELD: suggested.baseline_of(drawn)}
    return Prepared(document, baseline | {"digest": digest(document, baseline)})


def digest(document: Mapping[str, Any], baseline: Mapping[str, Any]) -> str:
    """Return what tells two states of the tables apart for this sample."""
    import bson  # noqa: PLC0415 - see above

    return hashlib.sha256(bson.encode({"d": document, "b": baseline})).hexdigest()[:32]


def _of(table: pa.Table | None, sample_ids: pa.Array) -> pa.Table | None:
    return None if table is None else table.filter(pc.is_in(table["sample_id"], value_set=sample_ids))


def _metadata(scan: Mapping[str, Any]) -> dict[str, Any] | None:
    if scan.get("width_px") is None:
        return None
    found = {"_cls": "ImageMetadata", "size_bytes": scan.get("n_bytes")}
    found |= {"mime_type": f"image/{scan['format'].lower()}" if scan.get("format") else None}
    found |= {"width": scan["width_px"], "height": scan["height_px"]}
    return {name: value for name, value in found.items() if value is not None}


def _said_of_sample(said: Said, kind: str) -> dict[str, Any]:
    single = kind == "Classification"
    return {
        "risk": said.risk,
        "label_risk": said.label_risk,
        "action": said.action,
        "actions": sorted(said.actions) or None,
        "suggested_label": said.suggested_label if single else None,
        "suggested_prob": said.suggested_prob if single else None,
        "missing_labels": said.missing or None,
        "issues": sorted(said.issues) or None,
        "reasons": said.reasons or None,
        "quality": sorted(said.issues & set(rows.QUALITY_ISSUES)) or None,
    }
