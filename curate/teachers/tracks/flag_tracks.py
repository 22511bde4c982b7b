"""`curate flag --task tracking`: MOT files of labels and of teachers in, a table of every box and what is odd out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate.errors import InputError, did_you_mean
from curate.reasons import render
from curate.runs import write_table
from curate.teachers.agreement import Doubt
from curate.teachers.tracks.boxes import NONE, Bools, Floats, Ints, TrackBoxes, track_boxes
from curate.teachers.tracks.found import ISSUES, Found
from curate.teachers.tracks.mot_csv import MotFile, columns_of, mot_files, read_mot
from curate.teachers.tracks.partners import match
from curate.teachers.tracks.searches import search

NOT_JUDGED = "kept, not judged, never flagged"
UNUSABLE = "have no area or coordinates that are no numbers"
BOX = pa.list_(pa.float64(), 4)
COLUMNS = pa.schema(
    [
        pa.field("sequence", pa.string(), nullable=False),
        pa.field("frame", pa.int64(), nullable=False),
        pa.field("id", pa.int64(), nullable=False),
        pa.field("line", pa.int64()),  # of the labels' file, from 1; null where a label is missing
        pa.field("label", pa.string()),
        pa.field("bbox", BOX),  # as given, pixels
        pa.field("ignored", pa.bool_(), nullable=False),  # the file says not to consider it: not judged
        pa.field("issue", pa.string()),  # null: nothing found at this box
        pa.field("risk", pa.float64(), nullable=False),
        pa.field("flagged", pa.bool_(), nullable=False),
        pa.field("suggested_id", pa.int64()),
        pa.field("suggested_label", pa.string()),
        pa.field("suggested_bbox", BOX),  # pixels
        pa.field("reason", pa.string()),
    ]
)


@dataclass(frozen=True, slots=True)
class TrackFlagSummary:
    """What `curate flag --task tracking` prints.

    Attributes:
        n_boxes: labeled boxes, all of them in the output.
        n_tracks: ids of all sequences.
        n_sequences: sequences.
        n_ignored: of these, how many the files say not to consider (0 in the seventh column): not judged.
        n_flagged: by issue, boxes (of gaps: the boxes after them).
        n_unusable: how many have coordinates that are no numbers, or no area: not judged.
        n_unusable_of: by teacher, boxes in the labels' frames that say nothing for that reason.
        warnings: teachers that do not seem to be about these sequences.
        matched: by teacher, share of the judged boxes that it sees.
        out: the table that was written.
    """

    n_boxes: int
    n_tracks: int
    n_sequences: int
    n_ignored: int
    n_flagged: Mapping[str, int]
    matched: Mapping[str, float]
    out: Path
    n_unusable: int = 0
    n_unusable_of: Mapping[str, int] = field(default_factory=dict)
    warnings: tuple[Doubt, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return JSON values, for `--json`."""
        return {
            "n": self.n_boxes,
            "n_tracks": self.n_tracks,
            "n_sequences": self.n_sequences,
            "n_ignored": self.n_ignored,
            "n_unusable": self.n_unusable,
            "n_unusable_of": dict(self.n_unusable_of),
            "n_flagged": dict(self.n_flagged),
            "matched": dict(self.matched),
            "out": str(self.out),
            "warnings": [one.to_json() for one in self.warnings],
        }

    def lines(self) -> list[str]:
        """Return it for people."""
        found = (
            ", ".join(f"{n:,} {issue.replace('_', ' ')}" for issue, n in self.n_flagged.items() if n) or "nothing"
        )
        return [
            f"{self.n_boxes:,} boxes of {self.n_tracks:,} ids in {self.n_sequences:,} sequences; flagged: {found}",
            *(
                [f"  {self.n_ignored:,} boxes are marked as not to be considered: {NOT_JUDGED}"]
                if self.n_ignored
                else []
            ),
            *([f"  {self.n_unusable:,} boxes {UNUSABLE}: {NOT_JUDGED}"] if self.n_unusable else []),
            *(f"  {n:,} boxes of {name} {UNUSABLE}: left out" for name, n in self.n_unusable_of.items() if n),
            *(
                f"  {name} sees {share:.1%} of the labeled boxes that are judged"
                for name, share in self.matched.items()
            ),
            *(f"WARNING: {one.message}" for one in self.warnings),
            *([] if self.matched else ["  no teacher: judged by how the ids move alone"]),
            f"→ {self.out}",
        ]


def flag_tracks(
    labels: str | Path, teachers: Mapping[str, str | Path], out: str | Path, *, classes: Sequence[str] | None = None
) -> TrackFlagSummary:
    """Judge every box of MOT files and write a table with a row for each box and issue.

    A box with nothing found has one row with a null issue and risk 0, and so has one that the labels say not to
    consider (0 in the seventh column, as MOT ground truth has it; a file with nothing else there is taken to have no
    such mark). Those boxes are there for the others: an id that was exchanged with one of them is found. A missing
    label (a gap) has a row of its own with a null `line`. Rows are ordered by sequence, frame, id and line.

    Args:
        labels: a MOT file, or a folder of them (SEQUENCE.txt or SEQUENCE/gt/gt.txt).
        teachers: name -> the same for the tracks of a tracker; one file serves one sequence whatever its name.
        out: Parquet file to write.
        classes: name of class 1, 2, … in the labels' eighth column; its number if left out.

    Raises:
        InputError: files that cannot be read, teachers without a sequence or a frame of the labels.
    """
    files = [read_mot(file, name) for name, file in mot_files(Path(labels)).items()]
    sequence, track, frame, box, number = columns_of(files)
    boxes = track_boxes(sequence, track, frame, box, _class_names(number, classes))
    told = {name: _teacher(name, Path(path), boxes, classes) for name, path in sorted(teachers.items())}
    partners = [match(boxes, one, name) for name, one in told.items()]
    ignored = np.concatenate([file.ignored() for file in files])[boxes.row]
    found = [one for one in search(boxes, partners) if not ignored[one.box if one.box >= 0 else one.track]]
    table = _table(boxes, found, files, ignored)
    write_table(Path(out), table)
    judged = boxes.usable & ~ignored
    seen = {one.name: one.seen(judged) for one in partners}
    primary = [one for one in found if one.flagged and one.box >= 0 and one.risk >= 0.5]
    return TrackFlagSummary(
        n_boxes=boxes.n,
        n_tracks=len(np.unique(boxes.track)),
        n_sequences=len(boxes.sequences),
        n_ignored=int(ignored.sum()),
        n_flagged={issue: sum(one.issue == issue for one in primary) for issue in ISSUES},
        matched={name: n_seen / max(n, 1) for name, (n_seen, n) in seen.items()},
        out=Path(out),
        n_unusable=_n_unusable(boxes),
        n_unusable_of={name: _n_unusable(one) for name, one in told.items()},
        warnings=tuple(doubt for one in partners if (doubt := one.doubt(judged)) is not None),
    )


def _n_unusable(boxes: TrackBoxes) -> int:
    return int(np.isnan(boxes.box).any(axis=1).sum())


def _class_names(number: Ints, classes: Sequence[str] | None, whose: str = "labels") -> list[str]:
    if classes is None:
        return [str(one) if one else "" for one in number.tolist()]
    beyond = sorted({one for one in number.tolist() if one > len(classes)})
    if beyond:
        raise InputError(
            f"The {whose} have the class numbers {', '.join(map(str, beyond))}, and there are {len(classes)} names; "
            "--classes names class 1, 2, … in order."
        )
    return [classes[one - 1] if one else "" for one in number.tolist()]


def _teacher(name: str, path: Path, boxes: TrackBoxes, classes: Sequence[str] | None) -> TrackBoxes:
    found = dict(mot_files(path))
    if path.is_file() and len(boxes.sequences) == 1:
        found = {boxes.sequences[0]: path}
    for one in boxes.sequences:
        if one not in found:
            raise InputError(
                f"The teacher {name} needs a file for each sequence of the labels; it has none for {one}. "
                f"{did_you_mean(one, found)} It has: {', '.join(found)}.".replace("  ", " ")
            )
    files = [read_mot(found[one], one) for one in boxes.sequences]
    first = min(int(file.frame.min()) for file in files)
    if first < 1 <= boxes.frames[0, 1]:
        raise InputError(
            f"The teacher {name} has boxes in frame {first}, and the labels count from 1, as MOT does (their first frame "
            f"is {boxes.frames[0, 1]}). Does it count from 0? Then add 1 to each of its frames."
        )
    sequence, track, frame, box, number = columns_of(files)
    tracks = track_boxes(
        sequence, track, frame, box, _class_names(number, classes, f"tracks of {name}"), like=boxes
    )
    if not tracks.n:
        raise InputError(
            f"The teacher {name} has no box in any frame of the labels (frames {boxes.frames[0, 1]} to "
            f"{boxes.frames[-1, 1]}). Are its frames counted as the labels' are?"
        )
    return tracks


def _table(boxes: TrackBoxes, found: Sequence[Found], files: Sequence[MotFile], ignored: Bools) -> pa.Table:
    """Return `COLUMNS`: a row for each finding, and one for each box without."""
    at = np.asarray([one.box for one in found], dtype=np.int64)
    quiet = np.setdiff1d(np.arange(boxes.n), at)
    row = np.concatenate([at, quiet])
    home = np.where(row >= 0, row, np.asarray([*(one.track for one in found), *quiet], dtype=np.int64))
    ranks = np.asarray([one.frame for one in found] + [NONE] * len(quiet), dtype=np.int64)
    first = np.searchsorted(boxes.frames[:, 0], boxes.sequence[home])
    frame = np.where(row >= 0, boxes.frame_number[home], boxes.frames[first + np.maximum(ranks, 0), 1])
    lines = np.concatenate([file.line for file in files])[boxes.row]
    given = np.concatenate([file.box for file in files])[boxes.row]
    missing = pa.array(row < 0)
    labels = pa.array(boxes.labels, pa.string()).take(pa.array(boxes.label[home]))
    n_quiet = len(quiet)
    columns = [
        pa.array(boxes.sequences, pa.string()).take(pa.array(boxes.sequence[home])),
        pa.array(frame),
        pa.array(boxes.track_name[home].astype(np.int64)),
        pc.if_else(missing, pa.scalar(None, pa.int64()), pa.array(lines[home])),
        labels,
        _boxes_column(given[home], row >= 0),
        pa.array(ignored[home], pa.bool_()),
        pa.array([one.issue for one in found] + [None] * n_quiet, pa.string()),
        pa.array([one.risk for one in found] + [0.0] * n_quiet, pa.float64()),
        pa.array([one.flagged for one in found] + [False] * n_quiet, pa.bool_()),
        pa.array(
            [None if one.suggested_id is None else int(one.suggested_id) for one in found] + [None] * n_quiet,
            pa.int64(),
        ),
        pa.array([one.suggested_label for one in found] + [None] * n_quiet, pa.string()),
        pa.array(
            [None if one.suggested_box is None else one.suggested_box.tolist() for one in found] + [None] * n_quiet,
            BOX,
        ),
        pa.array([render(one.code, one.args) for one in found] + _not_judged(boxes, quiet, ignored), pa.string()),
    ]
    order = [("sequence", "ascending"), ("frame", "ascending"), ("id", "ascending"), ("line", "ascending")]
    return pa.Table.from_arrays(columns, schema=COLUMNS).sort_by([*order, ("issue", "ascending")])


def _boxes_column(values: Floats, there: np.ndarray) -> pa.Array:
    flat = pa.array(values.ravel())
    return pa.FixedSizeListArray.from_arrays(flat, type=BOX, mask=pa.array(~there))


def _not_judged(boxes: TrackBoxes, rows: Ints, ignored: Bools) -> list[str | None]:
    """Return why a box was not judged, or None."""
    unusable = np.asarray(np.isnan(boxes.box[rows]).any(axis=1), dtype=np.bool_)
    told: list[str | None] = [None] * len(rows)
    for place in np.flatnonzero(unusable | ignored[rows]):
        box = int(rows[place])
        args = {"track": str(boxes.track_name[box]), "frame": int(boxes.frame_number[box])}
        told[int(place)] = render("track_box_unusable" if unusable[place] else "track_box_ignored", args)
    return told
