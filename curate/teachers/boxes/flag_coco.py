"""The body of `curate flag --task detection`: COCO labels and detections in, a risk for every box out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate.errors import InputError
from curate.runs import write_table
from curate.teachers.agreement import Doubt
from curate.teachers.boxes import arrange
from curate.teachers.boxes.coco import CROWD, WHY, FoundFile, LabelFile, read_detections, read_labels
from curate.teachers.boxes.flag_summary import BoxFlagSummary
from curate.teachers.boxes.fuse import Detections, Given
from curate.teachers.boxes.geometry import Floats, Ints
from curate.teachers.boxes.judge import ISSUES, MISSING, Judged, Regions, judge
from curate.teachers.boxes.model import BoxModel, fit_boxes
from curate.teachers.boxes.plausible import doubt_detectors
from curate.teachers.boxes.sentences import arguments, codes_of, texts
from curate.teachers.sampling import order_keys

BBOX_PX = pa.list_(pa.float64(), 4)
Progress = Callable[[int, int | None], None]


def flag_boxes(
    labels: str | Path, teachers: Mapping[str, str | Path], out: str | Path, *, progress: Progress | None = None
) -> BoxFlagSummary:
    """Judge every box of a COCO file by the detections of one or several teachers and write a table.

    Rows of the table: for each given box one for each of location, swap, spurious and duplicate; one for each place
    where a box may be missing (`annotation_id` null). A box that cannot be judged has one row, issue location, with
    a null risk. Columns: image_id, annotation_id, issue, risk, flagged, label, suggested_label, suggested_bbox (x, y,
    w, h in pixels), reason, image_risk (the highest risk of the image). The order of anything in the files leaves no
    trace but in the order of rows.

    Args:
        labels: COCO file with images, annotations and categories.
        teachers: name -> COCO results list, or COCO file with scores.
        out: Parquet file to write.
        progress: called with (images done, images).

    Raises:
        InputError: files that cannot be used, see `coco.read_labels` and `coco.read_detections`.
    """
    if not teachers:
        raise InputError("At least one teacher is needed: --teacher NAME=detections.json.")
    file = read_labels(Path(labels))
    names = sorted(teachers)
    files = [read_detections(Path(teachers[name]), name, file) for name in names]
    if not any(len(one.image) for one in files):
        raise InputError(
            f"No teacher has a box for these images ({', '.join(names)}), and nothing can be judged. Give files with "
            f"detections, faint ones too."
        )
    given, row, found, size_px = _arranged(file, files)
    keys = _image_keys(file)
    fit_on = arrange.fit_images(np.bincount(given.image, minlength=len(keys)), keys)
    model = fit_boxes(names, *arrange.of_images(given, found, fit_on), len(fit_on), len(file.classes))
    parts = [_unjudged(file)]
    for start, stop in arrange.runs_of_images(given, found, len(keys), len(file.classes)):
        images = np.arange(start, stop)
        own_given, own_found = arrange.of_run(given, found, start, stop)
        rows = row[arrange.rows_of(given.image, start, stop)]
        judged = judge(model, own_given, own_found, _crowds(file, images, size_px))
        parts += _tables(file, model, judged, own_given, rows, images, size_px)
        if progress:
            progress(int(images[-1]) + 1, len(keys))
    table = _with_image_risk(pa.concat_tables(parts), file)
    write_table(Path(out), table)
    notes = [f"{name}: {note}" for name, one in zip(names, files, strict=True) for note in one.notes]
    doubts = doubt_detectors(names, given, found, file.classes)
    return _summary(file, model, table, (*notes, *_blank(names, files, len(keys))), doubts, Path(out))


def _arranged(file: LabelFile, files: Sequence[FoundFile]) -> tuple[Given, Ints, Detections, Floats]:
    usable = np.flatnonzero(file.state == 0)
    image = np.concatenate([np.zeros(0, dtype=np.int64), *(one.image for one in files)])
    boxes_px = np.concatenate([np.zeros((0, 4)), *(one.boxes_px for one in files)])
    size_px = arrange.sizes_or_extents(
        file.size_px,
        np.concatenate([file.image[usable], image]),
        np.concatenate([file.boxes_px[usable], boxes_px]),
    )
    own = file.annotation_ids.take(pa.array(usable)).to_pylist()
    placed = arrange.arrange_given(
        file.image[usable],
        arrange.relative(file.boxes_px[usable], file.image[usable], size_px),
        file.label[usable],
        _image_keys(file),
        file.classes,
        order_keys(own, len(own)),
    )
    found = arrange.arrange_found(
        image,
        arrange.relative(boxes_px, image, size_px),
        np.concatenate([np.zeros(0, dtype=np.int64), *(one.label for one in files)]),
        np.concatenate([np.zeros(0), *(one.score for one in files)]),
        np.repeat(np.arange(len(files)), [len(one.image) for one in files]),
    )
    return placed.given, usable[placed.row], found, size_px


def _crowds(file: LabelFile, images: Ints, size_px: Floats) -> Regions:
    """Return the crowd regions of a run of images."""
    rows = np.flatnonzero((file.state == CROWD) & (file.image >= images[0]) & (file.image <= images[-1]))
    rows = rows[np.argsort(file.image[rows], kind="stable")]
    boxes = arrange.relative(file.boxes_px[rows], file.image[rows], size_px)
    return Regions(file.image[rows] - images[0], boxes)


def _image_keys(file: LabelFile) -> np.ndarray[Any, np.dtype[np.uint64]]:
    ids = file.image_ids.cast(pa.string()).to_pylist()
    return order_keys(ids, len(ids))


def _tables(
    file: LabelFile, model: BoxModel, judged: Judged, given: Given, rows: Ints, images: Ints, size_px: Floats
) -> list[pa.Table]:
    """Return a table for each issue of the given boxes `rows`, and one of the places for a missing box."""
    names = pa.array(file.classes, pa.string())
    ids = file.annotation_ids.take(pa.array(rows))
    suggested_px = np.round(judged.suggested * np.tile(size_px[images][judged.clusters.image], 2), 2)
    told = [ids.to_pylist(), file.classes, len(model.kept)]
    tables = []
    for place, issue in enumerate(ISSUES):
        cluster = judged.evidence.cluster
        columns = {
            "image_id": file.image_ids.take(pa.array(images[given.image])),
            "annotation_id": ids,
            "issue": pa.repeat(issue, len(rows)),
            "risk": judged.risk[:, place],
            "flagged": judged.flagged[:, place],
            "label": names.take(pa.array(given.label)),
            "suggested_label": pa.nulls(len(rows), pa.string()),
            "suggested_bbox": pa.nulls(len(rows), BBOX_PX),
            "reason": texts(codes_of(judged, issue), arguments(judged, issue, given.label, *told)),
        }
        if issue == "location":
            columns["suggested_label"] = columns["label"]
            columns["suggested_bbox"] = _boxes(suggested_px, cluster)
        if issue == "swap":
            columns["suggested_label"] = names.take(pa.array(judged.evidence.rival))
        tables.append(pa.table(columns))
    found, n = judged.missing, len(judged.missing)
    places = {
        "image_id": file.image_ids.take(pa.array(images[judged.clusters.image[found]])),
        "annotation_id": pa.nulls(n, ids.type),
        "issue": pa.repeat(MISSING, n),
        "risk": judged.missing_risk,
        "flagged": judged.missing_flagged,
        "label": pa.nulls(n, pa.string()),
        "suggested_label": names.take(pa.array(judged.clusters.label[found])),
        "suggested_bbox": _boxes(suggested_px, found),
        "reason": texts(codes_of(judged, MISSING), arguments(judged, MISSING, given.label, *told)),
    }
    return [*tables, pa.table(places)]


def _boxes(boxes: Floats, at: Ints) -> pa.Array:
    """Return the boxes at `at`; null where it is negative."""
    there = at >= 0
    flat = boxes[at[there]].reshape(-1)
    whole = pa.FixedSizeListArray.from_arrays(pa.array(flat), type=BBOX_PX)
    return whole.take(pa.array(np.cumsum(there) - 1, mask=~there))


def _unjudged(file: LabelFile) -> pa.Table:
    """Return a row for each given box that cannot be judged."""
    rows = np.flatnonzero(file.state > 0)
    why = np.asarray(WHY, dtype=object)[file.state[rows]]
    codes = np.full(len(rows), "box_noise_unusable")
    classes = pa.array(file.classes, pa.string())
    return pa.table(
        {
            "image_id": file.given_image_ids.take(pa.array(rows)).cast(file.image_ids.type, safe=False)
            if file.given_image_ids.type == file.image_ids.type
            else file.given_image_ids.take(pa.array(rows)).cast(pa.string()),
            "annotation_id": file.annotation_ids.take(pa.array(rows)),
            "issue": pa.repeat("location", len(rows)),
            "risk": pa.nulls(len(rows), pa.float64()),
            "flagged": np.zeros(len(rows), dtype=bool),
            "label": classes.take(pa.array(file.label[rows], mask=file.label[rows] < 0)),
            "suggested_label": pa.nulls(len(rows), pa.string()),
            "suggested_bbox": pa.nulls(len(rows), BBOX_PX),
            "reason": texts(codes, {"why": why}),
        }
    )


def _with_image_risk(table: pa.Table, file: LabelFile) -> pa.Table:
    """Return the rows worst first, with the highest risk of their image."""
    worst = table.group_by("image_id").aggregate([("risk", "max")])
    at = pc.index_in(table["image_id"], value_set=worst["image_id"].combine_chunks())
    table = table.append_column("image_risk", worst["risk_max"].take(at))
    order = [
        ("image_id", "ascending"),
        ("annotation_id", "ascending"),
        ("issue", "ascending"),
        ("risk", "descending"),
    ]
    return table.sort_by(order).replace_schema_metadata({"classes": ",".join(file.classes)})


def _blank(names: Sequence[str], files: Sequence[FoundFile], n_images: int) -> list[str]:
    """Say for how many images a teacher has no box: nothing was seen, or it was never asked."""
    notes = []
    for name, one in zip(names, files, strict=True):
        n_blank = n_images - len(np.unique(one.image))
        if n_blank:
            notes.append(f"{name}: no box for {n_blank:,} of {n_images:,} images; taken as seeing nothing there")
    return notes


def _summary(
    file: LabelFile, model: BoxModel, table: pa.Table, notes: Sequence[str], doubts: Sequence[Doubt], out: Path
) -> BoxFlagSummary:
    flagged = table.filter(table["flagged"])
    return BoxFlagSummary(
        n_images=len(file.image_ids),
        n_boxes=len(file.annotation_ids),
        n_unjudged=int((file.state > 0).sum()),
        n_flagged=_by_issue(flagged),
        n_rows=_by_issue(table.filter(pc.is_valid(table["risk"]))),
        n_images_flagged=pc.count_distinct(flagged["image_id"]).as_py(),
        rates=model.rates,
        rate_bounds=model.rate_bounds,
        regime=model.regime,
        why=model.why,
        teachers=tuple(one.to_json() for one in model.teachers),
        notes=tuple(notes),
        classes=file.classes,
        out=out,
        warnings=tuple(one.to_json() for one in doubts),
    )


def _by_issue(table: pa.Table) -> dict[str, int]:
    counted = {row["values"]: row["counts"] for row in pc.value_counts(table["issue"]).to_pylist()}
    return {issue: counted.get(issue, 0) for issue in (MISSING, *ISSUES)}
