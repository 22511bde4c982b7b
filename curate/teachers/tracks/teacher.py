"""A teacher that followed before: tracks in MOT files, one a sequence."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from curate import schema
from curate.errors import InputError, TooFewRowsError, did_you_mean
from curate.spec import MotSpec
from curate.teachers.protocol import ColumnAnswer, Request, TeacherCard
from curate.teachers.tracks.mot_csv import MotFile, mot_files, read_mot

SEQUENCE = "group_video"


@dataclass(frozen=True, slots=True)
class MotTeacher:
    """The MOT files of a spec."""

    spec: MotSpec

    def answer(self, request: Request) -> Sequence[ColumnAnswer]:
        """Return the tracks by frame: all boxes of a frame stand at the label with the smallest id there.

        Raises:
            InputError: files that cannot be read, none for any video, no box in any labeled frame.
            TooFewRowsError where they are of frames that a limit left out.
        """
        path = request.resolve(self.spec.path)
        files = mot_files(path)
        keys = _frames_of(request.labels)
        videos = sorted({video for video, _ in keys if video})
        elsewhere = request.beyond.videos - set(videos)
        if path.is_file() and len(videos) + len(elsewhere) <= 1:
            chosen = {videos[0] if videos else "": path}
        else:
            chosen = {video: files[video] for video in videos if video in files}
        if not chosen and elsewhere & set(files):
            raise TooFewRowsError(
                f"The teacher {self.spec.name} has tracks of videos that --limit leaves out, and of no other."
            )
        if not chosen:
            shown = videos[0] if videos else "none"
            raise InputError(
                f"The teacher {self.spec.name} needs a MOT file named after a video of the dataset (group `video`), "
                f"for example {shown}.txt; it has: {', '.join(files)}. {did_you_mean(shown, files)}".rstrip()
            )
        tracks: list[list[dict[str, object]] | None] = [None] * request.labels.num_rows
        n_boxes = n_unusable = 0
        for video, file in sorted(chosen.items()):
            read = read_mot(file, video)
            n_boxes += _place(read, self.spec, keys, tracks)
            n_unusable += int((~np.isfinite(read.box).all(axis=1)).sum())
        if not n_boxes and request.beyond.samples.num_rows:
            raise TooFewRowsError(
                f"The teacher {self.spec.name} has no box in any frame that --limit leaves in. Raise the limit; if that "
                f"does not help, `first_frame` may be off."
            )
        if not n_boxes:
            raise InputError(
                f"The teacher {self.spec.name} has no box in any labeled frame. Frame 0 of the labels is frame "
                f"{self.spec.first_frame} of its files; correct `first_frame` if that is not so."
            )
        absent = [video for video in videos if video not in chosen]
        told = [f"it has no tracks of {len(absent)} videos: {', '.join(absent[:5])}"] if absent else []
        if n_unusable:
            told.append(f"{n_unusable:,} boxes with coordinates that are no numbers are left out")
        card = self._card(chosen, n_boxes, tuple(told))
        return [ColumnAnswer(card, schema.TRACKS_PREFIX, pa.array(tracks, schema.TRACKS))]

    def _card(self, files: dict[str, Path], n_boxes: int, told: tuple[str, ...]) -> TeacherCard:
        about = self.spec.model_dump(mode="json", exclude={"path"})
        digest = hashlib.sha256(schema.canonical_json(about).encode())
        for video, file in sorted(files.items()):
            digest.update(f"\0{video}\0".encode() + hashlib.sha256(file.read_bytes()).digest())
        return TeacherCard(
            name=self.spec.name,
            kind="mot",
            trained_on=self.spec.trained_on,
            features=None,
            out_of_fold=None,
            calibration=None,
            digest=digest.hexdigest(),
            n_predicted=n_boxes,
            warnings=told,
        )


def _frames_of(labels: pa.Table) -> dict[tuple[str, int], tuple[int, float, float]]:
    """Return (video, frame) -> row of the label with the smallest id there, width and height of the image."""
    videos = labels[SEQUENCE].to_pylist() if SEQUENCE in labels.column_names else [None] * labels.num_rows
    columns = [labels[name].to_pylist() for name in ("label_id", "track_id", "frame", "width_px", "height_px")]
    found: dict[tuple[str, int], tuple[str, int, float, float]] = {}
    for row, (video, key, track, frame, width, height) in enumerate(zip(videos, *columns, strict=True)):
        if track is None or frame is None:
            continue
        place = (video or "", int(frame))
        if place not in found or key < found[place][0]:
            found[place] = (key, row, float(width or 1), float(height or 1))
    return {place: values[1:] for place, values in found.items()}


def _place(
    file: MotFile,
    spec: MotSpec,
    keys: dict[tuple[str, int], tuple[int, float, float]],
    tracks: list[list[dict[str, object]] | None],
) -> int:
    """Put each box of a file to the row of its frame; return how many there were."""
    n_boxes = 0
    for place in np.lexsort([*file.box.T[::-1], file.track, file.frame]).tolist():
        at = keys.get((file.sequence, int(file.frame[place]) - spec.first_frame))
        if at is None or not np.isfinite(file.box[place]).all():
            continue
        row, width, height = at
        box = (file.box[place] / (width, height, width, height)).tolist()
        label = _class_name(int(file.number[place]), spec)
        seen = tracks[row] or []
        seen.append({"track_id": str(int(file.track[place])), "label": label, "bbox": box})
        tracks[row] = seen
        n_boxes += 1
    return n_boxes


def _class_name(number: int, spec: MotSpec) -> str | None:
    if not number:
        return None
    if spec.classes is None:
        return str(number)
    if number > len(spec.classes):
        raise InputError(
            f"The tracks of {spec.name} have the class number {number}, and `classes` has {len(spec.classes)} names; it "
            "names class 1, 2, … in order."
        )
    return spec.classes[number - 1]
