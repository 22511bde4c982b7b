"""MOT Challenge: `[SPLIT/]SEQUENCE/img1/000001.jpg`, `gt/gt.txt`, `gt/labels.txt` and `seqinfo.ini`.

A sequence is the group `video` where the release holds it (`attributes_released`), else the folder of its images,
without `img1`; where two are called alike, the path tells them apart. A frame keeps its number, counted from 1: what was
not released leaves a hole. Pixels are rounded to 9 decimals. The eighth column is a class's line in `labels.txt`; what
nobody vouches for has 0 in the seventh, under an id of its own; where there is nothing but 0, `seqinfo.ini` says that it
is meant (`zeroIsIgnored=1`), since files without such marks look the same. Nothing says how visible a thing is or how
fast frames follow each other: the ninth column is 1 everywhere, and `frameRate` is left out. Ids that are no whole
numbers get numbers; `curate.csv` has every id.
"""

from __future__ import annotations

import posixpath
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from curate import schema
from curate.export.release import Image, Label, LeftOut, keep_held, name_files, pixels, safe_folder

_PARTS = ("mask", "polygons")
_FORMAT = "MOT"


def write(folder: Path, images: list[Image], classes: list[str], left_out: LeftOut) -> list[Image]:
    """Write a folder a sequence; see `curate.export.FORMATS`."""
    named = name_files(images, left_out, lambda image: posixpath.normpath(image.uri))
    held = keep_held(named, left_out, _problem, holds_unlabeled=False)
    numbers = {name: at for at, name in enumerate(classes, 1)}
    kept: list[Image] = []
    for home, sequence in sorted(_sequences(held).items()):
        frames = _frames(sequence, left_out)
        if frames:
            _write_sequence(folder / home, home, frames, classes, numbers, left_out)
            kept += frames.values()
    return sorted(kept, key=lambda image: image.sample_id)


def _problem(image: Image, label: Label) -> tuple[str, Mapping[str, Any]] | None:
    if label.track_id is None or label.frame is None:
        return "export_no_track", {"format": _FORMAT}
    if label.bbox is None:
        return "export_no_masks", {"format": _FORMAT}
    if not image.width_px or not image.height_px:
        return "image_size_unknown", {}
    if "\n" in label.name or "\r" in label.name:
        return "export_name_not_held", {"format": _FORMAT, "label": label.name[:200]}
    return None


def _sequences(images: Sequence[Image]) -> dict[str, list[Image]]:
    """Return the folder of each sequence in the export, with its images."""
    found: dict[tuple[str, str], list[Image]] = defaultdict(list)
    for image in images:
        split = safe_folder(image.split) if image.split else ""
        found[split, image.video or _folder_of(image)].append(image)
    homes: dict[str, list[Image]] = {}
    twins = Counter((split, posixpath.basename(name)) for split, name in found)
    for (split, name), some in sorted(found.items()):
        short = posixpath.basename(name)
        home = posixpath.join(split, safe_folder(short if twins[split, short] == 1 else name.replace("/", "-")))
        homes[home if home not in homes else f"{home}-{min(image.sample_id for image in some)}"] = some
    return homes


def _folder_of(image: Image) -> str:
    home = posixpath.dirname(posixpath.normpath(image.uri))
    return (posixpath.dirname(home) if posixpath.basename(home) == "img1" else home) or "sequence"


def _frames(images: Sequence[Image], left_out: LeftOut) -> dict[int, Image]:
    """Return number, counted from 1, → image; what has no number, or that of another image, is left out.

    An image without labels says no frame: its file's number does, if those of all labeled images are as far from theirs.
    """
    own = {image.sample_id: image.labels[0].frame for image in images if image.labels}
    named = {image.sample_id: _number_in(image) for image in images}
    steps = {
        None if (name := named[sample]) is None else name - frame
        for sample, frame in own.items()
        if frame is not None
    }
    step = next(iter(steps)) if len(steps) == 1 else 1 if not steps else None
    found: dict[int, Image] = {}
    for image in sorted(images, key=lambda one: (not one.labels, one.sample_id)):
        frame, name = own.get(image.sample_id), named[image.sample_id]
        if frame is None and name is not None and step is not None:
            frame = name - step
        if frame is None or frame < 0:
            left_out.add(image, None, "image", "export_frame_unknown")
        elif frame + 1 in found:
            left_out.add(image, None, "image", "export_frame_twice", frame=frame)
        else:
            found[frame + 1] = image
    return dict(sorted(found.items()))


def _number_in(image: Image) -> int | None:
    stem = posixpath.splitext(posixpath.basename(image.uri))[0]
    return int(stem) if stem.isascii() and stem.isdecimal() else None


def _write_sequence(
    home: Path,
    name: str,
    frames: Mapping[int, Image],
    classes: Sequence[str],
    numbers: Mapping[str, int],
    left_out: LeftOut,
) -> None:
    tracks = _track_numbers(frames.values())
    free = max(tracks.values(), default=0) + 1
    lines: list[str] = []
    for number, image in frames.items():
        image.file = f"{name}/img1/{number:06d}{posixpath.splitext(image.uri)[1]}"
        rows = [(tracks[label.track_id or ""], not label.is_to_ignore, label) for label in image.labels]
        for label in image.labels:
            _say_what_is_lost(image, label, tracks[label.track_id or ""], left_out)
        for place in image.ignored:
            if place.bbox is None or (place.name and place.name not in numbers):
                left_out.add(image, place, "ignore", "places_to_ignore", format=_FORMAT)
                continue
            rows.append((free, False, place))
            free += 1
        rows.sort(key=lambda row: (row[0], row[2].label_id))
        lines += [_line(number, image, *row, numbers.get(row[2].name, 1)) for row in rows]
    only_ignored = bool(lines) and all(label.is_to_ignore for image in frames.values() for label in image.labels)
    (home / "gt").mkdir(parents=True)
    (home / "gt" / "gt.txt").write_text("".join(lines), encoding="ascii")
    (home / "gt" / "labels.txt").write_text("".join(f"{one}\n" for one in classes), encoding="utf-8")
    (home / "seqinfo.ini").write_text(
        _ini(posixpath.basename(name), frames, only_ignored=only_ignored), encoding="utf-8"
    )


def _track_numbers(images: Any) -> dict[str, int]:  # noqa: ANN401 - the values of a mapping
    """Return id → number: its own where it is a whole number from 1 on, else the next free one, by name."""
    ids = sorted({label.track_id for image in images for label in image.labels if label.track_id is not None})
    own = {
        one: int(one) for one in ids if one.isascii() and one.isdecimal() and str(int(one)) == one and one != "0"
    }
    rest = [one for one in ids if one not in own]
    return own | {one: at for at, one in enumerate(rest, max(own.values(), default=0) + 1)}


def _line(frame: int, image: Image, track: int, considered: bool, label: Label, number: int) -> str:  # noqa: FBT001
    sides = [image.width_px or 1, image.height_px or 1] * 2
    box = [pixels(value * side) for value, side in zip(label.bbox or (), sides, strict=False)]
    return ",".join(map(str, [frame, track, *box, int(considered), number, 1])) + "\n"


def _say_what_is_lost(image: Image, label: Label, number: int, left_out: LeftOut) -> None:
    lost = [part for part in _PARTS if getattr(label, part)]
    lost += ["weight"] * (label.weight != 1) + ["flags"] * bool(set(label.flags) - set(schema.TO_IGNORE))
    for part in lost:
        left_out.add(image, label, part, "export_part_not_held", format=_FORMAT, part=part)
    if label.track_id != str(number):
        left_out.add(image, label, "track_id", "export_track_numbered", track=label.track_id, number=number)


def _ini(name: str, frames: Mapping[int, Image], *, only_ignored: bool) -> str:
    """Return `seqinfo.ini`; size and ending are those of all its frames, or are not said.

    `only_ignored`: whether every line has 0 in the seventh column.
    """
    sizes = {(image.width_px, image.height_px) for image in frames.values()}
    endings = {posixpath.splitext(image.uri)[1] for image in frames.values()}
    lines = ["[Sequence]", f"name={name}", "imDir=img1", f"seqLength={max(frames)}"]
    if len(sizes) == 1:
        ((width, height),) = sizes
        lines += [f"imWidth={width}", f"imHeight={height}"] if width and height else []
    lines += [f"imExt={next(iter(endings))}"] if len(endings) == 1 else []
    lines += ["zeroIsIgnored=1"] if only_ignored else []
    return "\n".join(lines) + "\n"
