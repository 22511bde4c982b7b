"""`curate run --dry-run`: what would be done, with time and disk, measured on a few of the user's own images."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from curate import runs, views
from curate.ingest.media import open_media
from curate.pipeline import open_run
from curate.scan import scan_batch
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
            f"teachers: {', '.join(self.teachers) or 'none'}",
            f"disk: about {self.disk_bytes / 1e6:,.0f} MB in the workspace",
            "Nothing was published and no database was started.",
        ]


def estimate(spec: str | Path, *, workspace: Path | None, limit: int | None, workers: int | None) -> Plan:
    """Return what a run would do; reads rows and labels and probes a few images, publishes nothing.

    Raises:
        ConfigError: the spec cannot be used.
        InputError: the source cannot be read.
    """
    context = open_run(
        spec, workspace=workspace, limit=limit, rehash=False, workers=workers, listener=runs.Silent()
    )
    read = reading.ingest(context)
    media = open_media(context.source_root, context.run.workspace.media)
    probe = read.samples.sort_by("sample_id").slice(0, PROBE_IMAGES)
    began_s = time.monotonic()
    scanned = scan_batch(probe, media, context.spec.max_pixels)
    rate = views.samples_view(probe, scanned).num_rows / max(time.monotonic() - began_s, 1e-6) * context.workers
    n_new = reading.n_unscanned(context, read.samples)
    checks, _ = checking.enabled_checks(context.spec)
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
        disk_bytes=MONGO_BYTES + read.samples.num_rows * (CACHE_BYTES_PER_IMAGE + MONGO_BYTES_PER_IMAGE),
        checks=tuple(check.name for check in checks),
        teachers=tuple(teacher.name for teacher in context.spec.teachers),
    )
