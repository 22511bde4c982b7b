"""`curate export`: a version of a workspace, written for trainers that want COCO, YOLO, VOC, MOT or CSV."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, cast

from curate.errors import ConfigError, did_you_mean
from curate.export import export
from curate.export.record import record_export
from curate.manifest import log
from curate.manifest.life import refuse_retracted
from curate.manifest.place import Place
from curate.manifest.read import load_manifest, load_release
from curate.manifest.read_ignored import load_ignored
from curate.manifest.verify import file_promises, require
from curate.recorded import last_run
from curate.runs import Workspace

IMAGES = ("link", "copy", "none")
PACKED = ("hf", "webdataset")  # with the images inside


def export_version(
    workspace: Path,
    reference: str,
    *,
    format: str,  # noqa: A002 - what the command line calls it
    out: Path,
    images: str,
    root: Place | None = None,
    retracted: bool = False,
) -> dict[str, Any]:
    """Write the released rows of a version to `out` and return what was written.

    Args:
        workspace: where the images were found by the last run.
        reference: NAME, NAME@ID, NAME@vN or NAME@TAG.
        format: coco | yolo | voc | mot | csv | hf | webdataset.
        out: folder to write; must not be there yet.
        images: link | copy | none.
        root: where releases are; None = the workspace's own.
        retracted: whether a version that was retracted is wanted all the same.

    Raises:
        ConfigError: no such version or format, a retracted version, or `out` holds something else.
        VerificationError: the version is not what was published; nothing is written.
    """
    if images not in IMAGES:
        raise ConfigError(
            f"--images must be one of {', '.join(IMAGES)}; given: {images}. {did_you_mean(images, IMAGES)}"
        )
    root = root or workspace / "manifests"
    version = log.resolve(root, reference)
    refuse_retracted(root, reference, version.name, allowed=retracted)
    if format in PACKED:
        return _export_packed(workspace, root, reference, format=format, out=out, retracted=retracted)
    require(file_promises(version), version)
    release = load_release(version)
    name = reference.partition("@")[0]
    media = None
    if images != "none":
        _, media = last_run(Workspace(workspace, name), needed_for="An export with images")
    written = export(
        release.data,
        None,
        out,
        format=format,
        images=cast("Literal['link', 'copy', 'none']", images),
        media=media,
        classes=list(release.manifest["classes"]),
        ignored=load_ignored(version, release.manifest),
    )
    record_export(workspace, name, version=release.id, kind=format, out=out)
    reasons: dict[str, int] = {}
    for reason in written.left_out["reason_code"].to_pylist():
        reasons[reason] = reasons.get(reason, 0) + 1
    return {
        "version": release.id,
        "format": format,
        "out": str(out),
        "n_images": written.n_images,
        "n_labels": written.n_labels,
        "n_left_out": written.left_out.num_rows,
        "left_out_by_reason": reasons,
    }


def _export_packed(
    workspace: Path,
    root: Place,
    reference: str,
    *,
    format: str,  # noqa: A002 - as above
    out: Path,
    retracted: bool,
) -> dict[str, Any]:
    """Write images, labels and soft labels in one; rows that are out are unlabeled images."""
    from curate.export.packed import export_packed  # noqa: PLC0415 - the feed is read for these formats only
    from curate.feed.release import open_feed  # noqa: PLC0415 - as above

    feed = open_feed(
        reference, workspace=workspace, manifests=root, allow_failed_gates=True, allow_retracted=retracted
    )
    written = export_packed(feed, out, format=format)
    record_export(workspace, reference.partition("@")[0], version=feed.version_id, kind=format, out=out)
    counts = load_manifest(log.resolve(root, reference))[0]["counts"]
    n_left_out = counts["n_released"] - feed.rows.table.num_rows
    return {
        "version": feed.version_id,
        "format": format,
        "out": str(out),
        "n_images": written.n_images,
        "n_labels": written.n_labels,
        "n_left_out": n_left_out,
        "left_out_by_reason": {"unlabeled": n_left_out} if n_left_out else {},
    }


def export_lines(result: Mapping[str, Any]) -> list[str]:
    """Return what was written, for people."""
    lines = [f"{result['format']}: {result['n_images']:,} images, {result['n_labels']:,} labels → {result['out']}"]
    if result["n_left_out"]:
        told = ", ".join(f"{n:,} {code.replace('_', ' ')}" for code, n in result["left_out_by_reason"].items())
        beside = {"csv": " (left_out.csv)", **dict.fromkeys(PACKED, "")}
        where = beside.get(result["format"], " (left_out.csv; curate.csv has every row)")
        lines.append(f"  the format cannot hold: {told}{where}")
    return lines
