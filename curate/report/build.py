"""The report of a run, and of a version that was released before."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from curate.ingest import Media
from curate.manifest import log
from curate.manifest.place import Place
from curate.manifest.read import load_release
from curate.recorded import last_run
from curate.report.galleries import FACTS
from curate.report.page import render_page, write_page
from curate.report.pictures import ReadImages
from curate.runs import Workspace

# what a page is made of; the other columns, and soft labels, are as large as all of these
SHOWN: Mapping[str, Sequence[str]] = {
    "data": (*FACTS, "released_label"),
    "soft": (),
    "soft_boxes": (),
    "ignore": (),
}


def build_report(
    workspace: Workspace, version: Place, number: int, samples: pa.Table, media: Media, record: Mapping[str, Any]
) -> Path:
    """Write the page of a version and return where it is.

    Args:
        workspace: of the dataset.
        version: folder of the version.
        number: of the version, as in v3.
        samples: `schema.SAMPLES`, says where the images are.
        media: reads them.
        record: of the run (`run.json`).
    """
    versions = record.get("versions", {})
    provenance = [
        ("run", str(record.get("run_id", ""))),
        ("spec", str(record.get("spec", ""))),
        ("versions", ", ".join(f"{name} {value}" for name, value in sorted(versions.items()))),
    ]
    page = render_page(
        load_release(version, SHOWN),
        image_reader(samples, media),
        name=workspace.name,
        number=number,
        description=str(record.get("description", "")),
        provenance=provenance,
    )
    return write_page(page, workspace.report)


def image_reader(samples: pa.Table, media: Media) -> ReadImages:
    """Return a function from sample ids to the encoded images."""

    def read(sample_ids: Sequence[str]) -> Mapping[str, bytes | None]:
        wanted = samples.filter(pc.is_in(samples["sample_id"], value_set=pa.array(sample_ids, pa.string())))
        return dict(zip(wanted["sample_id"].to_pylist(), media.read(wanted), strict=True))

    return read


def rebuild_report(place: Path, name: str, *, root: Place | None = None) -> Path:
    """Write the page of the latest version again, with the pictures of the run that made it.

    Raises:
        ConfigError: nothing was published under that name, or no run of it is in the workspace.
    """
    workspace = Workspace(place, name)
    root = root or workspace.manifests
    version = log.resolve(root, name)
    published = log.publications(log.read_log(root, name))[version.name]
    record, images = last_run(workspace, needed_for="A report with pictures")
    return build_report(workspace, version, published.number, images.samples, images.media, record)
