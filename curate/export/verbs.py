"""`curate export`: a version of a workspace, written for trainers that want COCO, YOLO, VOC, MOT or CSV."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, cast

import pyarrow.compute as pc

from curate.errors import ConfigError, did_you_mean
from curate.export import export
from curate.export.record import record_export
from curate.manifest import log
from curate.manifest.life import refuse_failed_gates, refuse_retracted
from curate.manifest.place import Place
from curate.manifest.read import load_manifest, load_release
from curate.manifest.read_ignored import load_ignored
from curate.manifest.verify import file_promises, require
from curate.recorded import last_run
from curate.runs import Workspace

IMAGES = ("link", "copy", "none")
PACKED = ("hf", "webdataset")  # with the images inside
PART_NOT_HELD = "export_part_not_held"
_WORDS = {  # reason codes that say nothing to people by themselves, and parts of labels
    "export_ignored_by_source": "labels that the source wants ignored",
    "export_no_label_held": "images that lose all their labels",
    "export_holds_no_unlabeled": "unlabeled images",
    "export_no_whole_image_class": "classes of whole images",
    "export_mask_empty": "labels whose mask has no pixel left",
    "export_no_masks": "labels that are masks",
    "export_no_track": "labels without a track",
    "export_track_numbered": "track ids with a new number",
    "export_name_not_held": "labels by the name of their class",
    "mask": "masks",
    "track_id": "track ids",
    "weight": "weights",
    "bbox": "boxes beside a polygon",
}


def export_version(
    workspace: Path,
    reference: str,
    *,
    format: str,  # noqa: A002 - what the command line calls it
    out: Path,
    images: str,
    root: Place | None = None,
    retracted: bool = False,
    allow_failed_gates: bool = False,
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
        allow_failed_gates: whether a version whose gates failed is wanted all the same.

    Raises:
        ConfigError: no such version or format, a retracted version, or `out` holds something else.
        InputError: its gates failed.
        VerificationError: the version is not what was published; nothing is written.
    """
    if images not in IMAGES:
        raise ConfigError(
            f"--images must be one of {', '.join(IMAGES)}; given: {images}. {did_you_mean(images, IMAGES)}"
        )
    root = root or workspace / "manifests"
    version = log.resolve(root, reference)
    name = reference.partition("@")[0]
    gone = refuse_retracted(root, reference, version.name, allowed=retracted, way_round="--retracted")
    require(file_promises(version), version)
    manifest, _ = load_manifest(version)
    gates = manifest["gates"]
    way_round = "--allow-failed-gates"
    refuse_failed_gates(name, version.name, gates, allowed=allow_failed_gates, way_round=way_round)
    standing = {"gates": gates, "retracted": {"at": gone.at, "why": gone.why} if gone else None}
    if format in PACKED:
        return _export_packed(
            workspace, root, reference, format=format, out=out, standing=standing, counts=manifest["counts"]
        )
    return _export_plain(workspace, name, version, format=format, out=out, images=images, standing=standing)


def _export_plain(
    workspace: Path,
    name: str,
    version: Place,
    *,
    format: str,  # noqa: A002 - as above
    out: Path,
    images: str,
    standing: Mapping[str, Any],
) -> dict[str, Any]:
    """Write labels in files, images beside them; files, gates and retraction were looked at by the caller."""
    release = load_release(version)
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
        about={"version": release.id, **standing},
    )
    record_export(workspace, name, version=release.id, kind=format, out=out)
    left_out = written.left_out
    parts = left_out.filter(pc.equal(left_out["reason_code"], PART_NOT_HELD))
    return {
        "version": release.id,
        **standing,
        "format": format,
        "out": str(out),
        "n_images": written.n_images,
        "n_labels": written.n_labels,
        "n_left_out": left_out.num_rows,
        "left_out_by_reason": dict(sorted(Counter(left_out["reason_code"].to_pylist()).items())),
        "left_out_parts": dict(sorted(Counter(parts["what"].to_pylist()).items())),
    }


def _export_packed(
    workspace: Path,
    root: Place,
    reference: str,
    *,
    format: str,  # noqa: A002 - as above
    out: Path,
    standing: Mapping[str, Any],
    counts: Mapping[str, int],
) -> dict[str, Any]:
    """Write images, labels and soft labels in one; rows that are out are unlabeled images.

    The files, the gates and whether the version was retracted were looked at by the caller.
    """
    from curate.export.packed import NOT_HELD, export_packed  # noqa: PLC0415 - the feed is read for these formats only
    from curate.feed.release import open_feed  # noqa: PLC0415 - as above

    feed = open_feed(
        reference,
        workspace=workspace,
        manifests=root,
        verify=False,
        allow_failed_gates=True,
        allow_retracted=True,
    )
    written = export_packed(feed, out, format=format, about=standing)
    record_export(workspace, reference.partition("@")[0], version=feed.version_id, kind=format, out=out)
    n_left_out = counts["n_released"] - feed.rows.table.num_rows
    return {
        "version": feed.version_id,
        **standing,
        "format": format,
        "out": str(out),
        "n_images": written.n_images,
        "n_labels": written.n_labels,
        "n_without_label": written.n_without_label,
        "n_left_out": n_left_out,
        "left_out_by_reason": {"unlabeled": n_left_out} if n_left_out else {},
        "not_held": list(NOT_HELD),
    }


def export_lines(result: Mapping[str, Any]) -> list[str]:
    """Return what was written, for people."""
    lines = [f"{result['format']}: {result['n_images']:,} images, {result['n_labels']:,} labels → {result['out']}"]
    if result.get("gates") in {"warned", "failed"}:
        lines.append(f"  the version is marked gates: {result['gates']}, and curate-export.json says so")
    if result.get("retracted"):
        lines.append(f"  the version was RETRACTED {result['retracted']['at']}: {result['retracted']['why']}")
    if result.get("n_without_label"):
        how = {"webdataset": "no .cls, null in the .json", "hf": "null in `label`"}[result["format"]]
        lines.append(f"  {result['n_without_label']:,} images have no label: {how}")
    if result["n_left_out"]:
        told = ", ".join(_left_out_words(result))
        beside = {"csv": " (left_out.csv)", **dict.fromkeys(PACKED, "")}
        where = beside.get(result["format"], " (left_out.csv; curate.csv has every row)")
        lines.append(f"  the format cannot hold: {told}{where}")
    if result.get("not_held"):
        lines.append(f"  stays in the version: {'; '.join(result['not_held'])}")
    return lines


def _left_out_words(result: Mapping[str, Any]) -> Iterator[str]:
    """Yield how many of what a format cannot hold, parts of labels each by its name."""
    for code, n in result["left_out_by_reason"].items():
        counted = result["left_out_parts"] if code == PART_NOT_HELD else {code: n}
        for what, n_of_it in counted.items():
            yield f"{n_of_it:,} {_WORDS.get(what, what.removeprefix('export_').replace('_', ' '))}"
