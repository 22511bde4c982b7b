"""What is known of a version, gathered once from its manifest, tables, evidence and log; every page is made of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from curate.manifest import log
from curate.manifest.place import Place, parquet_file, resolved
from curate.manifest.read import load_evidence, load_manifest, load_table

UNKNOWN = "unknown"
TABLES = ("data", "soft", "soft_boxes", "soft_masks", "ignore", "excluded", "findings", "decisions")
_COLUMNS = ("sample_id", "label_id", "split", "task", "source", "released_label", "action", "license", "annotator")


@dataclass(frozen=True)
class Facts:
    """A version as it stands on disk and in its log.

    Attributes:
        name: of the release.
        id: of the version.
        number: people see v<number>; 0 where no log entry names it.
        at: RFC 3339, when it was published; None without a log entry.
        parents: IDs of the versions before.
        manifest: its manifest.json.
        schemas: table -> Arrow schema, of the tables that it has.
        about: what people said in the spec (`about`), and nothing else.
        statistics: rows of `schema.STATISTICS`, judged.
        gates: rows of the gates.
        teachers: a card each.
        n_images: distinct samples of `data/`.
        tasks, splits, labels, licenses, sources, actions: value -> rows of `data/`; None = nobody said.
        labels_per_image: (least, mean, most).
        n_annotators: distinct ones that are named.
        reasons: reason code -> rows of `excluded/`.
        n_subjects_keyed: rows that carry a keyed hash of their subject.
        attributes: names that the policy released.
    """

    name: str
    id: str
    number: int
    at: str | None
    parents: Sequence[str]
    manifest: Mapping[str, Any]
    schemas: Mapping[str, pa.Schema]
    about: Mapping[str, Any]
    statistics: Sequence[Mapping[str, Any]]
    gates: Sequence[Mapping[str, Any]]
    teachers: Sequence[Mapping[str, Any]]
    n_images: int
    tasks: Mapping[str | None, int]
    splits: Mapping[str | None, int]
    labels: Mapping[str | None, int]
    licenses: Mapping[str | None, int]
    sources: Mapping[str | None, int]
    actions: Mapping[str | None, int]
    labels_per_image: tuple[int, float, int]
    n_annotators: int
    reasons: Mapping[str, int]
    n_subjects_keyed: int
    attributes: Sequence[str]

    @property
    def title(self) -> str:
        """What people call it."""
        return str(self.about.get("title") or self.name)

    @property
    def counts(self) -> Mapping[str, Any]:
        """Rows in, released and excluded."""
        counts: Mapping[str, Any] = self.manifest["counts"]
        return counts

    @property
    def license(self) -> list[str]:
        """SPDX ids or URLs of the released rows, sorted; `unknown` stands for rows that have none."""
        return sorted({one or UNKNOWN for one in self.licenses}) or [UNKNOWN]

    def statistic(self, check: str, name: str) -> Mapping[str, Any] | None:
        """Return a statistic about the whole, or None."""
        fits = (
            one for one in self.statistics if one["check"] == check and one["name"] == name and not one["group"]
        )
        return next(fits, None)

    def values(self, check: str, name: str) -> list[float]:
        """Return what a statistic is by group, sorted, where it is known."""
        fits = (one for one in self.statistics if one["check"] == check and one["name"] == name and one["group"])
        return sorted(float(one["value"]) for one in fits if one["value"] is not None)


def gather(version: Place) -> Facts:
    """Return what is known of the version at this path.

    Raises:
        VerificationError: a file cannot be read.
    """
    manifest, version_id = load_manifest(version)
    data = load_table(version, manifest, "data", _COLUMNS)
    base = resolved(version).parent.parent
    entries = [one for one in log.read_log(base.parent, base.name) if one.id == version_id]
    entry = next((one for one in entries if one.kind in log.NUMBERED), None)
    listed = {one["path"] for one in manifest["files"]}
    has_about = "evidence/about.json" in listed
    per_image = pc.value_counts(data["sample_id"].combine_chunks()).field("counts")
    annotators = pc.unique(data["annotator"].combine_chunks()).drop_null()
    excluded = load_table(version, manifest, "excluded", ["reason_codes"])
    subjects = load_table(version, manifest, "data", ["subject_key"])["subject_key"]
    return Facts(
        name=str(manifest["name"]),
        id=version_id,
        number=entry.number if entry else 0,
        at=entry.at if entry else None,
        parents=entry.parents if entry else (),
        manifest=manifest,
        schemas={kind: _schema(version, manifest, kind) for kind in TABLES if kind in manifest["tables"]},
        about=load_evidence(version, "about") if has_about else {},
        statistics=load_evidence(version, "statistics"),
        gates=load_evidence(version, "gates")["rows"],
        teachers=load_evidence(version, "teachers"),
        n_images=len(per_image),
        tasks=_counted(data["task"]),
        splits=_counted(data["split"]),
        labels=_counted(data["released_label"]),
        licenses=_counted(data["license"]),
        sources=_counted(data["source"]),
        actions=_counted(data["action"]),
        labels_per_image=_spread(data, per_image),
        n_annotators=len(annotators),
        reasons={str(key): n for key, n in _counted(pc.list_flatten(excluded["reason_codes"])).items()},
        n_subjects_keyed=len(subjects) - subjects.null_count,
        attributes=list(load_evidence(version, "policy")["attributes_released"]),
    )


def _schema(version: Place, manifest: Mapping[str, Any], kind: str) -> pa.Schema:
    first = min(one["path"] for one in manifest["files"] if one["path"].startswith(f"{kind}/"))
    return parquet_file(version / first).schema_arrow


def _counted(column: pa.ChunkedArray) -> dict[str | None, int]:
    """Return value -> rows, most rows first, ties by the value."""
    counts = {row["values"]: row["counts"] for row in pc.value_counts(column).to_pylist()}
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0] is None, str(item[0]))))


def _spread(data: pa.Table, per_image: pa.Array) -> tuple[int, float, int]:
    if not data.num_rows:
        return 0, 0.0, 0
    n_labels = len(data["label_id"]) - data["label_id"].null_count
    least = 0 if data["label_id"].null_count else pc.min(per_image).as_py()
    return int(least), n_labels / len(per_image), int(pc.max(per_image).as_py())
