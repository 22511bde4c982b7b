"""Published versions of real pictures in each kind of container, made in this process: ingest, scan, build, publish."""

from __future__ import annotations

import hashlib
import tarfile
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import end_to_end as e2e
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import curate.feed
from curate import schema, views
from curate.feed.release import Feed
from curate.ingest import ReadOptions, source_named
from curate.ingest.media import open_media
from curate.manifest import Published, publish
from curate.manifest.build import build_release
from curate.policy import Policy
from curate.scan.passes import scan
from curate.teachers.protocol import prob_column
from curate.verdicts import decide

Publish = Callable[..., Published]


def publish_source(
    root: Path,
    workspace: Path,
    *,
    name: str = "pets",
    how: dict[str, Any] | None = None,
    classes: Sequence[str] | None = None,
    policy: Policy | None = None,
    silent: Sequence[int] = (),
) -> Published:
    """Publish what a source holds, judged by two made-up teachers; rows `silent` have no answer.

    `how`: format, columns and options of the source; without it a folder per class.
    """
    given = {"format": "folder", "columns": {}, "options": {}, **(how or {})}
    read = source_named(given["format"]).read(
        ReadOptions(
            source=name,
            root=root,
            classes=tuple(classes) if classes else None,
            columns=given["columns"],
            options=given["options"],
            scratch=workspace / name / "media",
        )
    )
    media = open_media(root, workspace / name / "media")
    scanned = scan(read.samples, media, engine="serial")
    chosen = policy or Policy(use_default_gates=False)
    findings = schema.empty(schema.FINDINGS)
    verdicts = decide(views.samples_view(read.samples, scanned), read.labels, findings, chosen)
    made = build_release(
        samples=read.samples,
        labels=read.labels,
        scan=scanned,
        verdicts=verdicts,
        findings=findings,
        outcomes=read.outcomes,
        policy=chosen,
        classes=read.classes,
        predictions=predictions_of(read.labels, len(read.classes), silent),
        cards=[{"name": n, "digest": hashlib.sha256(n.encode()).hexdigest()} for n in ("one", "two")],
    )
    return publish(made, workspace / "manifests", name)


def predictions_of(labels: pa.Table, n_classes: int, silent: Sequence[int]) -> pa.Table:
    """Return made-up answers of two teachers."""
    columns: dict[str, Any] = {"label_id": labels["label_id"]}
    for number, teacher in enumerate(("one", "two")):
        probs = np.random.default_rng(number).dirichlet(np.full(n_classes, 0.4), labels.num_rows).astype(np.float32)
        probs[list(silent)] = np.nan
        columns[f"prob_{teacher}"] = prob_column(probs)
    return pa.table(columns)


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty-five pictures of three classes in folders, two splits."""
    return e2e.write_classes(tmp_path_factory.mktemp("pictures") / "data", n=45)


@pytest.fixture(scope="session")
def workspace(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace with the version `pets` of these pictures."""
    place = tmp_path_factory.mktemp("workspace")
    publish_source(pictures, place, silent=(7,))
    return place


@pytest.fixture
def feed(workspace: Path, pictures: Path) -> Feed:
    return curate.feed.open("pets", workspace=workspace, images=pictures)


@pytest.fixture
def publish_version() -> Publish:
    return publish_source


@pytest.fixture(scope="session")
def containers(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, dict[str, Any]]]:
    """The same pictures in each kind of container: name -> root, how to read it."""
    folder = tmp_path_factory.mktemp("containers")
    files = sorted(path for path in pictures.rglob("*.png"))
    for ending, mode in (("tar", "w"), ("tar.gz", "w:gz")):
        with tarfile.open(folder / f"pets.{ending}", mode) as archive:
            for path in files:
                archive.add(path, path.relative_to(pictures).as_posix())
    with zipfile.ZipFile(folder / "pets.zip", "w") as zipped:
        for path in files:
            zipped.write(path, path.relative_to(pictures).as_posix())
    labels = [path.parent.name for path in files]
    plain = pa.table({"image": [path.read_bytes() for path in files], "label": labels})
    pq.write_table(plain, folder / "pets.parquet", row_group_size=4)
    nested = [{"bytes": path.read_bytes(), "path": path.name} for path in files]
    pq.write_table(pa.table({"image": nested, "label": labels}), folder / "nested.parquet", row_group_size=7)
    table = {"format": "table", "columns": {"image": "image", "label": "label"}}
    return {
        "files": (pictures, {}),
        "tar": (folder / "pets.tar", {}),
        "tar.gz": (folder / "pets.tar.gz", {}),
        "zip": (folder / "pets.zip", {}),
        "parquet": (folder / "pets.parquet", table),
        "nested": (folder / "nested.parquet", table),
    }
