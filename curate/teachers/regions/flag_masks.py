"""`curate flag --task segmentation`: folders of masks and of teachers' answers in, a table of every region out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate.errors import InputError, did_you_mean
from curate.reasons import render
from curate.runs import write_table
from curate.teachers.regions.canvas import NONE
from curate.teachers.regions.files import MAPS, PNG, files_by_stem, numbered, read_answer, read_ids, read_map
from curate.teachers.regions.found import RegionFound, issues_of
from curate.teachers.regions.judge import (
    Source,
    image_risk,
    judged,
    measured,
    regions_column,
    usual_noise,
    weigh,
)
from curate.teachers.regions.measure import MaskAnswers, Measured
from curate.teachers.regions.pool import Pool
from curate.teachers.regions.region import ISSUES, Region

IGNORE = (255,)
CHUNK = 64  # masks whose rows are made together
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
        pool: how the teachers were weighed.
        out: the table that was written.
    """

    n_images: int
    n_regions: int
    n_flagged: Mapping[str, int]
    agreement: Mapping[str, float]
    pool: Pool
    out: Path

    def to_json(self) -> dict[str, Any]:
        """Return JSON values, for `--json`."""
        return {
            "n": self.n_regions,
            "n_images": self.n_images,
            "n_flagged": dict(self.n_flagged),
            "agreement": dict(self.agreement),
            "weights": self._weights(),
            "noise_rate": self.pool.noise_rate,
            "guards": {name: guard.why for name, guard in sorted(self.pool.guards.items())},
            "out": str(self.out),
            "warnings": [one.to_json() for one in self.pool.doubts],
        }

    def lines(self) -> list[str]:
        """Return it for people."""
        found = (
            ", ".join(f"{n:,} {issue.replace('_', ' ')}" for issue, n in self.n_flagged.items() if n) or "nothing"
        )
        return [
            f"{self.n_regions:,} regions on {self.n_images:,} masks; flagged: {found}",
            *(
                f"  {name} agrees with {share:.1%} of the labeled pixels; {self._said_of(name)}"
                for name, share in self.agreement.items()
            ),
            *(f"WARNING: {one.message}" for one in self.pool.doubts),
            f"→ {self.out}",
        ]

    def _weights(self) -> dict[str, float]:
        return dict(zip(self.agreement, self.pool.large.tolist(), strict=True))

    def _said_of(self, name: str) -> str:
        guard = self.pool.guards[name]
        return f"weight {self._weights()[name]:.2f}" if guard.kept else f"left out: {guard.why}"


@dataclass(frozen=True, slots=True)
class _Folders:
    labels: Mapping[str, Path]
    teachers: Mapping[str, Mapping[str, Path]]
    names: tuple[str, ...]
    numbers: Mapping[int, int]  # class id -> position; ignored ids are not in it
    ignore: frozenset[int]

    def load(self, stem: str) -> MaskAnswers:
        """Return labels and the answers of the teachers, in the order of their names."""
        label = numbered(read_ids(self.labels[stem]), self.numbers)
        return MaskAnswers(
            label,
            [
                read_answer(self.teachers[name][stem], self.numbers, len(self.names), self.ignore)
                for name in sorted(self.teachers)
            ],
        )


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
    one with the issue "image". Two passes over the files: one to weigh the teachers, one to judge.

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
    source = Source(sorted(folders.labels), sorted(folders.teachers), folders.names, folders.load)
    pool = weigh(source)
    same, columns = np.zeros(len(source.teachers) + 1), []
    for some in _each(measured(source, pool, source.names), CHUNK):
        same += np.sum([one.same for one in some], axis=0)
        columns.append(regions_column(some))
    regions = pa.chunked_array(columns)
    table = _table(source.names, regions, usual_noise(regions))
    write_table(Path(out), table)
    flagged = table.filter(table["flagged"])["issue"].to_pylist()
    return MaskFlagSummary(
        n_images=len(source.names),
        n_regions=table.filter(pc.is_valid(table["component"]))
        .group_by(["image", "component"])
        .aggregate([])
        .num_rows,
        n_flagged={issue: flagged.count(issue) for issue in ISSUES},
        agreement=dict(zip(source.teachers, (same[:-1] / max(same[-1], 1)).tolist(), strict=True)),
        pool=pool,
        out=Path(out),
    )


def _each(masks: Iterator[Measured], n: int) -> Iterator[list[Measured]]:
    while some := list(islice(masks, n)):
        yield some


def _table(stems: Sequence[str], regions: pa.ChunkedArray, noise: float) -> pa.Table:
    """Return `COLUMNS` of all masks, some at a time."""
    parts, first = [COLUMNS.empty_table()], 0
    for chunk in regions.chunks:
        own = stems[first : first + len(chunk)]
        first += len(chunk)
        rows = [row for stem, some in zip(own, chunk, strict=True) for row in _rows(stem, _judged(some, noise))]
        parts.append(pa.Table.from_pylist(rows, schema=COLUMNS))
    return pa.concat_tables(parts)


def _judged(some: pa.ListScalar, noise: float) -> list[Region]:
    return judged([Region.of_row(row) for row in some.as_py()], noise)


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
    return _Folders(given, found, tuple(names), numbers, ignore)


def _n_mapped(teachers: Mapping[str, Mapping[str, Path]]) -> int:
    """Return how many classes the first probability map has: the shorter of its outer axes; 0 without a map."""
    for _, files in sorted(teachers.items()):
        for _, file in sorted(files.items()):
            if file.suffix.lower() in MAPS:
                array = read_map(file)
                return min(array.shape[0], array.shape[2]) if array.ndim == 3 else 0
    return 0


def _rows(stem: str, regions: Sequence[Region]) -> Iterator[dict[str, Any]]:
    found = [(one, list(issues_of(one))) for one in regions]
    for region, issues in found:
        about = {
            "image": stem,
            "component": None if region.component == NONE else region.component,
            "label": region.label,
            "area_px": region.area_px,
            "bbox": list(region.bbox_px),
            "iou": region.iou,
            "boundary_px": region.offset_px if region.component != NONE else None,
        }
        for one in issues:
            yield {**about, **_said(one)}
        if not issues and region.component != NONE:
            yield {**about, "issue": None, "risk": max(region.risk.values()), "flagged": False}
    worst = max((one for _, issues in found for one in issues), key=lambda one: one.risk, default=None)
    n_flagged = sum(any(one.flagged for one in issues) for _, issues in found)
    reason = None
    if worst is not None:
        told = {"n_flagged": n_flagged, "n_regions": len(regions), "worst": render(worst.code, worst.args)}
        reason = render("regions_in_doubt", told)
    yield {"image": stem, "issue": "image", "risk": image_risk(regions), "flagged": n_flagged > 0, "reason": reason}


def _said(one: RegionFound) -> dict[str, Any]:
    return {
        "issue": one.issue,
        "risk": one.risk,
        "flagged": one.flagged,
        "suggested_label": one.suggested,
        "reason": render(one.code, one.args),
    }
