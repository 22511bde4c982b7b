"""`curate flag --task segmentation`: folders of masks and of teachers' answers in, a table of every region out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from curate.errors import InputError, did_you_mean
from curate.reasons import render
from curate.runs import write_table
from curate.teachers.regions.files import MAPS, PNG, files_by_stem, numbered, one_hot, read_ids, read_probs, resized
from curate.teachers.regions.found import RegionFound, issues_of
from curate.teachers.regions.judge import (
    ISSUES,
    MIN_TAU,
    NONE,
    Floats,
    Ids,
    Region,
    image_of,
    image_risk,
    regions_of,
    usual_offsets,
    with_usual_offset,
)

IGNORE = (255,)
COLUMNS = pa.schema(
    [
        pa.field("image", pa.string(), nullable=False),  # path of the mask in its folder, without its ending
        pa.field(
            "component", pa.int64()
        ),  # number of the region in its image; null: a missing region, or the image
        pa.field("label", pa.string()),  # of the region; of a missing one, what stands there
        pa.field("issue", pa.string()),  # null: nothing found; "image": the risk of the whole
        pa.field("risk", pa.float64(), nullable=False),
        pa.field("flagged", pa.bool_(), nullable=False),
        pa.field("suggested_label", pa.string()),
        pa.field("area_px", pa.int64()),
        pa.field("bbox", pa.list_(pa.int64(), 4)),  # x, y, width, height, pixels
        pa.field("iou", pa.float64()),  # with the teachers' region of the same class nearby
        pa.field("boundary_px", pa.float64()),  # how far outside (+) or inside (-) teachers see it
        pa.field("reason", pa.string()),
    ]
)


@dataclass(frozen=True, slots=True)
class MaskFlagSummary:
    """What `curate flag --task segmentation` prints.

    Attributes:
        n_images: masks, all of them in the output.
        n_regions: connected regions, all of them in the output.
        n_flagged: by issue.
        agreement: by teacher, share of the labeled pixels where its likeliest class is the label.
        out: the table that was written.
    """

    n_images: int
    n_regions: int
    n_flagged: Mapping[str, int]
    agreement: Mapping[str, float]
    out: Path

    def to_json(self) -> dict[str, Any]:
        """Return JSON values, for `--json`."""
        return {
            "n": self.n_regions,
            "n_images": self.n_images,
            "n_flagged": dict(self.n_flagged),
            "agreement": dict(self.agreement),
            "out": str(self.out),
        }

    def lines(self) -> list[str]:
        """Return it for people."""
        found = (
            ", ".join(f"{n:,} {issue.replace('_', ' ')}" for issue, n in self.n_flagged.items() if n) or "nothing"
        )
        return [
            f"{self.n_regions:,} regions on {self.n_images:,} masks; flagged: {found}",
            *(f"  {name} agrees with {share:.1%} of the labeled pixels" for name, share in self.agreement.items()),
            f"→ {self.out}",
        ]


@dataclass(frozen=True, slots=True)
class _Folders:
    labels: Mapping[str, Path]
    teachers: Mapping[str, Mapping[str, Path]]
    names: tuple[str, ...]
    numbers: Mapping[int, int]  # class id -> position; ignored ids are not in it

    def label(self, stem: str) -> Ids:
        return numbered(read_ids(self.labels[stem]), self.numbers)

    def probs(self, stem: str, shape: tuple[int, ...]) -> list[Floats]:
        """Return (K, H, W) of each teacher, in the order of their names."""
        found = []
        for teacher in sorted(self.teachers):
            file = self.teachers[teacher][stem]
            if file.suffix.lower() in PNG:
                probs = one_hot(read_ids(file), self.numbers, len(self.names))
            else:
                probs = read_probs(file, len(self.names))
            found.append(resized(probs, shape))
        return found

    def each(self) -> Iterator[tuple[str, Ids, list[Floats]]]:
        """Yield stem, labels and the teachers' probabilities, in the order of the names."""
        for stem in sorted(self.labels):
            label = self.label(stem)
            yield stem, label, self.probs(stem, label.shape)


def flag_masks(
    labels: str | Path,
    teachers: Mapping[str, str | Path],
    out: str | Path,
    *,
    classes: Sequence[str] | None = None,
    ignore: Sequence[int] = IGNORE,
) -> MaskFlagSummary:
    """Judge every connected region of a folder of masks and write a table with a row for each region and issue.

    A region with nothing found has one row with a null issue; a missing region one with a null component; each image
    one with the issue "image". Two passes over the files: one for what teachers usually give each class, one to
    judge.

    Args:
        labels: folder of PNGs, a pixel's value is its class id.
        teachers: name -> folder with a PNG of class ids, or an npy or npz of probabilities, for each of them.
        out: Parquet file to write.
        classes: names of class 0, 1, …, which also are the order in probability maps; left out: the ids that the
            labels hold, or as many as the maps have.
        ignore: class ids that say nothing.

    Raises:
        InputError: folders or files that cannot be used, no teacher, a mask that a teacher lacks.
    """
    folders = _open(Path(labels), {name: Path(path) for name, path in teachers.items()}, classes, frozenset(ignore))
    tau, agreement = _usual(folders)
    judged: dict[str, list[Region]] = {}
    for stem, label, probs in folders.each():
        judged[stem] = regions_of(image_of(label, probs, tau))
    usual = usual_offsets([one for regions in judged.values() for one in regions])
    judged = {stem: with_usual_offset(regions, usual) for stem, regions in judged.items()}
    rows = [row for stem in judged for row in _rows(stem, judged[stem], folders)]
    write_table(Path(out), pa.Table.from_pylist(rows, schema=COLUMNS))
    flagged = [row["issue"] for row in rows if row["flagged"]]
    return MaskFlagSummary(
        n_images=len(judged),
        n_regions=sum(one.component >= 0 for regions in judged.values() for one in regions),
        n_flagged={issue: flagged.count(issue) for issue in ISSUES},
        agreement=agreement,
        out=Path(out),
    )


def _open(
    labels: Path, teachers: Mapping[str, Path], classes: Sequence[str] | None, ignore: frozenset[int]
) -> _Folders:
    if not teachers:
        raise InputError("Masks are judged by teachers: give at least one, as --teacher NAME=FOLDER.")
    given = files_by_stem(labels, PNG, "The labels")
    found = {name: files_by_stem(path, (*PNG, *MAPS), f"The teacher {name}") for name, path in teachers.items()}
    for name, files in found.items():
        absent = sorted(set(given) - set(files))
        if absent:
            raise InputError(
                f"The teacher {name} needs an answer for each mask; it has none for {len(absent)} of {len(given)}, for "
                f"example {absent[0]}. {did_you_mean(absent[0], files)}".rstrip()
            )
    ids = sorted({one for file in given.values() for one in np.unique(read_ids(file)).tolist()} - ignore)
    if not ids:
        raise InputError(
            f"The masks in {labels} hold nothing but ignored ids ({', '.join(map(str, sorted(ignore)))})."
        )
    if classes is None:
        n_classes = max(ids[-1] + 1, _n_mapped(found))
        names = [str(one) for one in range(n_classes)]
    else:
        names = list(classes)
    if ids[-1] >= len(names) or ids[0] < 0:
        raise InputError(
            f"The masks hold the class id {ids[-1]}, and there are {len(names)} classes (0 to {len(names) - 1}). Name "
            "them all with --classes, or say with --ignore which id says nothing."
        )
    numbers = {one: one for one in range(len(names)) if one not in ignore}
    return _Folders(given, found, tuple(names), numbers)


def _n_mapped(teachers: Mapping[str, Mapping[str, Path]]) -> int:
    """Return how many classes the first probability map has: the shorter of its outer axes; 0 without a map."""
    for _, files in sorted(teachers.items()):
        for _, file in sorted(files.items()):
            if file.suffix.lower() in MAPS:
                loaded = np.load(file, allow_pickle=False)
                array = loaded[min(loaded.files)] if hasattr(loaded, "files") else loaded
                return min(array.shape[0], array.shape[2]) if array.ndim == 3 else 0
    return 0


def _usual(folders: _Folders) -> tuple[Floats, dict[str, float]]:
    """Return (K,) mean probability of each class where it is labeled, and each teacher's agreement."""
    n_classes = len(folders.names)
    total, count = np.zeros(n_classes), np.zeros(n_classes)
    same = np.zeros(len(folders.teachers))
    for _, label, probs in folders.each():
        valid = label >= 0
        pooled = np.mean([one[label[valid], *np.nonzero(valid)] for one in probs], axis=0)
        total += np.bincount(label[valid], weights=pooled, minlength=n_classes)
        count += np.bincount(label[valid], minlength=n_classes)
        same += [float((one.argmax(axis=0)[valid] == label[valid]).sum()) for one in probs]
    mean = np.divide(total, count, out=np.ones(n_classes), where=count > 0)
    tau: Floats = np.clip(mean, MIN_TAU, 1.0).astype(np.float32)
    agreement = {name: float(same[at] / max(count.sum(), 1)) for at, name in enumerate(sorted(folders.teachers))}
    return tau, agreement


def _rows(stem: str, regions: Sequence[Region], folders: _Folders) -> Iterator[dict[str, Any]]:
    found = [(one, list(issues_of(one, folders.names, len(folders.teachers)))) for one in regions]
    for region, issues in found:
        about = {
            "image": stem,
            "component": None if region.component == NONE else region.component,
            "label": folders.names[region.class_id],
            "area_px": region.area_px,
            "bbox": list(region.bbox_px),
            "iou": region.iou,
            "boundary_px": region.offset_px if region.component != NONE else None,
        }
        for one in issues:
            yield {**about, **_said(one, folders.names)}
        if not issues and region.component != NONE:
            yield {**about, "issue": None, "risk": max(region.risk.values()), "flagged": False}
    worst = max((one for _, issues in found for one in issues), key=lambda one: one.risk, default=None)
    n_flagged = sum(any(one.flagged for one in issues) for _, issues in found)
    reason = None
    if worst is not None:
        told = {"n_flagged": n_flagged, "n_regions": len(regions), "worst": render(worst.code, worst.args)}
        reason = render("regions_in_doubt", told)
    yield {"image": stem, "issue": "image", "risk": image_risk(regions), "flagged": n_flagged > 0, "reason": reason}


def _said(one: RegionFound, names: Sequence[str]) -> dict[str, Any]:
    suggested = names[one.suggested] if one.suggested != NONE else None
    reason = render(one.code, one.args)
    return {
        "issue": one.issue,
        "risk": one.risk,
        "flagged": one.flagged,
        "suggested_label": suggested,
        "reason": reason,
    }
