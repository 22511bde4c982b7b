"""`curate run --dry-run`: what would be done, with time and disk, measured on a few of the user's own images."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from curate import runs, schema, views
from curate.check import Check
from curate.ingest import Ingested
from curate.ingest.media import open_media
from curate.pipeline import open_run, refuse_nothing
from curate.scan import scan_batch
from curate.spec import BOX_TEACHERS, MASK_TEACHERS, Spec
from curate.stages import check as checking
from curate.stages import read as reading

PROBE_IMAGES = 64
CACHE_BYTES_PER_IMAGE = 1_000  # stage results and manifest; measured by benchmarks/disk, rounded up
MONGO_BYTES_PER_IMAGE = 500  # FiftyOne document with indexes; measured by benchmarks/disk
MONGO_BYTES = 315_000_000  # of an empty database: journals and logs


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run would do. Seconds are for this machine, from a probe of a few images."""

    name: str
    n_images: int
    n_labels: int
    n_out: int
    n_classes: int
    n_new_images: int
    scan_s: float
    images_per_s: float
    disk_bytes: int
    checks: tuple[str, ...]
    not_applicable: tuple[str, ...]
    with_review: bool
    teachers: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Return it for machines."""
        return asdict(self)

    def lines(self) -> list[str]:
        """Return it for people."""
        return [
            f"{self.name}: {self.n_images:,} images, {self.n_labels:,} labels, {self.n_classes:,} classes; "
            f"{self.n_out:,} input rows are out before a pixel is read",
            f"scan: {self.n_new_images:,} images are new, about {self.scan_s:,.0f} s at {self.images_per_s:,.0f}/s",
            f"checks: {', '.join(self.checks)}",
            *([f"without a subject here: {', '.join(self.not_applicable)}"] if self.not_applicable else []),
            f"teachers: {', '.join(self.teachers) or 'none'}",
            f"disk: about {self.disk_bytes / 1e6:,.0f} MB in the workspace"
            + (f", {MONGO_BYTES / 1e6:,.0f} MB of it an empty MongoDB" if self.with_review else ""),
            "Nothing was published and no database was started.",
        ]


def estimate(
    spec: str | Path, *, workspace: Path | None, limit: int | None, workers: int | None, review: bool = True
) -> Plan:
    """Return what a run would do; reads rows and labels and probes a few images, publishes nothing.

    Args:
        spec: of the dataset.
        workspace: as in a run.
        limit: as in a run.
        workers: as in a run.
        review: whether the run would load the FiftyOne dataset.

    Raises:
        ConfigError: the spec cannot be used.
        InputError: the source cannot be read, or no image of it is there.
    """
    context = open_run(
        spec, workspace=workspace, limit=limit, rehash=False, workers=workers, listener=runs.Silent()
    )
    read = reading.ingest(context)
    refuse_nothing(read.samples, read.outcomes, "could be used")
    media = open_media(context.source_root, context.run.workspace.media)
    probe = read.samples.sort_by("sample_id").slice(0, PROBE_IMAGES)
    began_s = time.monotonic()
    scanned = scan_batch(probe, media, context.spec.max_pixels)
    rate = views.samples_view(probe, scanned).num_rows / max(time.monotonic() - began_s, 1e-6) * context.workers
    n_new = reading.n_unscanned(context, read.samples)
    checks, _ = checking.enabled_checks(context.spec)
    without = without_subject(checks, read, context.spec)
    mongo = (MONGO_BYTES, MONGO_BYTES_PER_IMAGE) if review else (0, 0)
    context.run.finish("dry run")
    return Plan(
        name=context.run.workspace.name,
        n_images=read.samples.num_rows,
        n_labels=read.labels.num_rows,
        n_out=sum(outcome == "out" for outcome in read.outcomes["outcome"].to_pylist()),
        n_classes=len(read.classes),
        n_new_images=n_new,
        scan_s=n_new / rate,
        images_per_s=rate,
        disk_bytes=mongo[0] + read.samples.num_rows * (CACHE_BYTES_PER_IMAGE + mongo[1]),
        checks=tuple(check.name for check in checks if check.name not in without),
        not_applicable=without,
        with_review=review,
        teachers=tuple(teacher.name for teacher in context.spec.teachers),
    )


def without_subject(checks: Sequence[Check], read: Ingested, spec: Spec) -> tuple[str, ...]:
    """Return the checks that these labels, columns and teachers give nothing to look at, as far as rows can tell."""
    labels, tasks = read.labels, set(read.labels["task"].to_pylist())
    has = {name: labels[name].null_count < labels.num_rows for name in ("bbox", "mask", "track_id", "annotator")}
    has["mask"] |= labels["polygons"].null_count < labels.num_rows
    kinds = {teacher.kind for teacher in spec.teachers}
    asked = kinds - {*BOX_TEACHERS, *MASK_TEACHERS, "mot"}  # of classes
    there = {
        "demographic_balance": bool(spec.attributes),
        "attribute_association": bool(spec.attributes),
        "label_consistency": "classification" in tasks,
        "box_sanity": has["bbox"],
        "mask_sanity": has["mask"],
        "track_sanity": has["track_id"],
        "label_noise": bool(asked) and bool(tasks - {"segmentation", schema.MULTI_LABEL}),
        "multi_label_noise": bool(asked) and schema.MULTI_LABEL in tasks,
        "box_noise": bool(kinds & set(BOX_TEACHERS)),
        "annotators": has["annotator"],
        "track_noise": "mot" in kinds,
        "mask_noise": bool(kinds & set(MASK_TEACHERS)),
    }
    return tuple(check.name for check in checks if not there.get(check.name, True))
