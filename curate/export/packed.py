"""Versions with images, labels and soft labels in one: Parquet for Hugging Face `datasets`, tar shards for WebDataset."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from curate.errors import ConfigError
from curate.export.folder import written_beside
from curate.export.packed_hf import write_hf
from curate.export.packed_webdataset import write_webdataset
from curate.export.record import MARKER
from curate.export.release import safe_folder
from curate.feed.release import Feed

SHARD_BYTES = 500_000_000
Writer = Callable[
    [Feed, Sequence[int], Path, str, int], None
]  # items of a split into a folder, shards of so many bytes
PACKED: Mapping[str, Writer] = {"hf": write_hf, "webdataset": write_webdataset}
# of a version, what these formats do not hold; it stands in the version, by the same ids
NOT_HELD = (
    "findings, decisions and what was taken out",
    "risk, reasons, attributes, groups, licenses and annotators of rows",
    "soft labels of each teacher alone",
    "classes and reasons of places to ignore",
    "given boxes and masks where the released ones differ",
)


@dataclass(frozen=True, slots=True)
class PackedResult:
    """What was written: images, labels, images that need one class and have none, and the files, sorted."""

    n_images: int
    n_labels: int
    n_without_label: int
    paths: tuple[Path, ...]


def export_packed(
    feed: Feed,
    out: Path,
    *,
    format: str,  # noqa: A002 - what the command line calls it
    shard_bytes: int = SHARD_BYTES,
    about: Mapping[str, Any] | None = None,
) -> PackedResult:
    """Write what a feed hands out to the folder `out`, which appears whole or not at all.

    hf: `data/SPLIT-00000-of-00001.parquet`, read by `datasets.load_dataset(str(out))`: an Image feature with the bytes,
    `label` as ClassLabel, null without one (or `objects` with boxes in COCO pixels), weight, id, given label, action, and
    the soft labels.
    Of masks `mask` is an Image of class ids, 255 (65535 from 256 classes on) where nobody vouches for one, `labels` its
    labels, and the class map `probs`, flat, of `n_rows` x `n_columns` cells. Beside boxes `ignore` has the places that
    nobody vouches for, and `teacher_boxes` the boxes that only detectors see, with their soft labels.
    webdataset: `SPLIT-000000.tar`: for each item its image, `cls` (not for boxes, nor without a label), `json` and an
    `npy` for each array of its soft label; with masks `mask.png`; with detectors `teacher_*.npy`.
    Bytes are a function of the version: no clock, no user.

    Args:
        feed: of the version; every image is held against its hash while it is packed.
        out: the folder to write.
        format: hf or webdataset.
        shard_bytes: of images in a file, about.
        about: what else `curate-export.json` says of the version: the outcome of its gates, …

    Raises:
        ConfigError: another format, several labels an image, or `out` holds something else.
        VerificationError: an image is not there or not the one of the version.
    """
    if format not in PACKED:
        raise ConfigError(f"There is no packed format {format!r}. Formats: {', '.join(PACKED)}.")
    _refuse_several(feed, format)
    n_labels = int((feed.rows.labels >= 0).sum())
    by_image = feed.rows.boxes is not None or feed.rows.are_masks  # one without boxes or masks is no unlabeled one
    n_without_label = 0 if by_image else len(feed) - n_labels
    with written_beside(out) as beside:
        for split, items in _splits(feed).items():
            PACKED[format](feed, items, beside, safe_folder(split), shard_bytes)
        counts = {"n_images": len(feed), "n_labels": n_labels, "n_without_label": n_without_label}
        told = {"format": format, "version": feed.version_id, **(about or {}), **counts}
        told |= {"classes": list(feed.classes), "temperature": feed.temperature, "not_held": list(NOT_HELD)}
        (beside / MARKER).write_text(json.dumps(told, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        paths = sorted(path.relative_to(beside) for path in beside.rglob("*") if path.is_file())
    return PackedResult(len(feed), n_labels, n_without_label, tuple(out / path for path in paths))


def _refuse_several(feed: Feed, format: str) -> None:  # noqa: A002 - as above
    if feed.rows.tags is not None:
        raise ConfigError(
            f"{format} holds one label or boxes an image; {feed.name} has several labels an image. csv holds them: "
            f"curate export {feed.name} --format csv, or train on curate.feed, which hands out all of an image."
        )


def _splits(feed: Feed) -> dict[str, list[int]]:
    splits: dict[str, list[int]] = {}
    named = feed.rows.table["split"].take(pa.array(feed.rows.starts[:-1])).to_pylist()
    for at, split in enumerate(named):
        splits.setdefault(split or "unsplit", []).append(at)
    return dict(sorted(splits.items()))
