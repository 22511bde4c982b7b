"""MOT Challenge: a folder a sequence, with frames (`img1/`), boxes with ids (`gt/gt.txt`) and `seqinfo.ini`.

What is read as what:
- an image of `img1/` whose name is a number is a sample; its sequence is the group `video` (the path of its folder
  where two are called alike), a folder above it that is called train, val or test the split. `imDir` in
  `seqinfo.ini` may name another folder;
- a line of `gt/gt.txt` (frame, id, left, top, width, height, consider, class, visibility) is a `tracking` label. Its
  `frame` counts from 0: MOT's frame 1 is frame 0, as the teacher `mot` expects;
- boxes reach beyond the picture where things do: they are cut at its edge and get the flag "truncated"; one that is
  wholly outside is out;
- 0 in the seventh column says not to consider a box: it is kept with the flag "ignored". A file with nothing but 0
  there is taken to have no such mark, unless `seqinfo.ini` says `zeroIsIgnored=1` (our own export does);
- classes are those of MOT16 and MOT17 (1 = pedestrian, …) unless `class_names`, or else a file `gt/labels.txt` with a
  name a line, gives others: class 1, 2, … in order; a line with a number beyond those names is out. Without either, a
  number beyond MOT17's is a class of that name. A file without an eighth column is about class 1;
- `det/` and other files are no labels. A sequence without `gt/gt.txt` is unlabeled; in one that has it, a frame without
  a line is negative.
"""

from __future__ import annotations

import configparser
import math
import posixpath
from bisect import bisect_left
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from curate.errors import ConfigError, InputError
from curate.ingest.coco import with_declared_classes
from curate.ingest.collect import Collector
from curate.ingest.listing import is_image_name
from curate.ingest.location import Problem, shown
from curate.ingest.source import Ingested, ReadOptions
from curate.ingest.tree import Tree, split_in

VIDEO = "video"
CLASS_NAMES = (
    "pedestrian", "person on vehicle", "car", "bicycle", "motorbike", "non motorized vehicle", "static person",
    "distractor", "occluder", "occluder on the ground", "occluder full", "reflection", "crowd",
)  # fmt: skip
MIN_COLUMNS = 6
CONSIDER_COLUMN, CLASS_COLUMN = 6, 7
_LABELS, _NAMES = "gt/gt.txt", "gt/labels.txt"
_MARKS = (f"/{_LABELS}", "/seqinfo.ini")  # a folder with one of them is a sequence


@dataclass(frozen=True, slots=True)
class _Line:
    """A line of a file of labels: numbers as they stand there."""

    number: int
    frame: int
    track: int
    box: tuple[float, float, float, float]
    consider: float
    class_number: int


@dataclass(frozen=True, slots=True)
class _Names:
    """Names of class 1, 2, …, and whether spec or source give them: then a further number is no class."""

    known: Sequence[str]
    is_given: bool

    def name_of(self, number: int) -> str | Problem:
        if number <= len(self.known):
            return self.known[number - 1]
        if self.is_given:
            return Problem("class_out_of_range", {"number": str(number), "n_classes": len(self.known)})
        return str(number)


class Mot:
    """The format `mot`. Option: `class_names` (class 1, 2, … of the eighth column)."""

    name = "mot"
    option_names = ("class_names",)
    spec_keys: Mapping[str, Any] = {"task": "tracking", "groups": {VIDEO: VIDEO}}

    def recognises(self, path: Path) -> Mapping[str, Any] | None:
        """Return no options for a folder or archive with `gt/gt.txt` or `seqinfo.ini` beside a folder of frames."""
        try:
            names = Tree(path).names()
        except InputError:
            return None
        with_frames = {posixpath.dirname(posixpath.dirname(name)) for name in names if is_image_name(name)}
        return {} if with_frames.intersection(_sequences(names)) else None

    def read(self, options: ReadOptions) -> Ingested:
        """Read every sequence; raises InputError if there is none."""
        tree = Tree(options.root)
        given = options.options.get("class_names")
        usual = _Names(_class_names(given), is_given=given is not None)
        columns = (*options.attributes.values(), *options.groups.values())
        unknown = sorted({column for column in columns if column != VIDEO})
        if unknown:
            raise ConfigError(
                f"The format mot has the column {VIDEO} and no other; the spec names {', '.join(unknown)} under "
                f"attributes or groups. Write {VIDEO}, or remove them."
            )
        collector = Collector(options, task="tracking", locator=tree.locator)
        tree.put_out_damage(collector)
        homes = _sequences(tree.names())
        if not homes:
            raise InputError(
                f"The format mot needs folders SEQUENCE/img1 with frames and SEQUENCE/gt/gt.txt with boxes; there is "
                f"none in {options.root}. Check source.path."
            )
        images = sorted(filter(is_image_name, tree.names()))
        twins = Counter(map(posixpath.basename, homes))
        known: dict[str, None] = {}
        for home in homes:
            names = usual if usual.is_given else _own_names(tree, home) or usual
            known |= dict.fromkeys(names.known)
            video = home if twins[posixpath.basename(home)] > 1 else posixpath.basename(home)
            _read_sequence(tree, collector, images, home, video or tree.root.stem, names)
        ingested = collector.finish()
        there = [name for name in known if name in ingested.classes]
        return with_declared_classes(ingested, options, dict.fromkeys(there))


SOURCE = Mot()


def _class_names(given: Any) -> Sequence[str]:  # noqa: ANN401 - any YAML value
    if given is None:
        return CLASS_NAMES
    if not isinstance(given, list | tuple) or not all(isinstance(name, str) and name for name in given):
        raise ConfigError(f"source.class_names must list the names of class 1, 2, … in order; it is {given!r}.")
    return given


def _own_names(tree: Tree, home: str) -> _Names | None:
    """Return the names in a sequence's own list, None where it has none that can be read."""
    path = posixpath.join(home, _NAMES)
    try:
        lines = tree.read_text(path).split("\n") if tree.has(path) else []
    except (OSError, UnicodeDecodeError):
        return None
    names = [line.removesuffix("\r") for line in lines]
    while names and not names[-1]:
        names.pop()
    return _Names(names, is_given=True) if names and all(names) else None


def _sequences(names: Sequence[str]) -> list[str]:
    """Return the folders that hold a file of labels or a `seqinfo.ini`."""
    rooted = [f"/{name}" for name in names]
    return sorted({name.removesuffix(end)[1:] for name in rooted for end in _MARKS if name.endswith(end)})


def _read_sequence(
    tree: Tree, collector: Collector, images: Sequence[str], home: str, video: str, names: _Names
) -> None:
    """Read one sequence; `images` are the names of all images of the tree, sorted."""
    path = posixpath.join(home, _LABELS)
    labels = tree.has(path)
    frames: dict[int, str | None] = {}
    sizes: dict[int, tuple[int, int] | None] = {}
    ini = _ini(tree, home)
    size = _size_in_ini(ini)
    folder = posixpath.join(home, _frames_folder(ini))
    state = "negative" if labels else "unlabeled"
    for name in images[bisect_left(images, f"{folder}/") : bisect_left(images, f"{folder}0")]:  # 0 follows /
        stem = posixpath.splitext(name[len(folder) + 1 :])[0]
        number = int(stem) if stem.isdecimal() else None
        if number is None or number in frames:
            collector.put_out(name, "image", "frame_number_unclear", {"path": shown(name)})
            continue
        groups = dict.fromkeys((*collector.options.groups, VIDEO), video)
        attributes = dict.fromkeys(collector.options.attributes, video)
        frames[number] = tree.add_image(
            collector, name, name, split=split_in(home), label_state=state, groups=groups, attributes=attributes
        )
        sizes[number] = size or tree.size_px(name)
    if labels:
        _read_labels(tree, collector, path, frames, sizes, names, only_ignored=ini.get("zeroisignored") == "1")


def _ini(tree: Tree, home: str) -> Mapping[str, str]:
    parser = configparser.ConfigParser(interpolation=None)
    try:
        parser.read_string(tree.read_text(posixpath.join(home, "seqinfo.ini")))
    except (OSError, UnicodeDecodeError, configparser.Error):
        return {}
    return dict(parser["Sequence"]) if "Sequence" in parser else {}


def _frames_folder(ini: Mapping[str, str]) -> str:
    given = ini.get("imdir", "").strip("/")
    return given if given and ".." not in given.split("/") else "img1"


def _size_in_ini(ini: Mapping[str, str]) -> tuple[int, int] | None:
    try:
        size = int(ini.get("imwidth", "0")), int(ini.get("imheight", "0"))
    except ValueError:
        return None
    return size if min(size) > 0 and max(size) < 1e6 else None


def _read_labels(
    tree: Tree,
    collector: Collector,
    path: str,
    frames: Mapping[int, str | None],
    sizes: Mapping[int, tuple[int, int] | None],
    names: _Names,
    *,
    only_ignored: bool,
) -> None:
    try:
        text = tree.read_text(path)
    except (OSError, UnicodeDecodeError) as error:
        collector.put_out(path, "label", "annotation_file_unreadable", {"file": path, "why": shown(str(error))})
        return
    lines: list[_Line] = []
    for number, words in enumerate(text.splitlines(), 1):
        if not words.strip():
            continue
        parsed = _parsed(number, words)
        if isinstance(parsed, Problem):
            collector.put_out(f"{path} line {number}", "label", parsed.code, parsed.args)
        else:
            lines.append(parsed)
    is_marked = only_ignored or any(line.consider != 0 for line in lines)
    times: Counter[tuple[int, int]] = Counter()
    for line in sorted(lines, key=lambda one: (one.frame, one.track, one.box, one.class_number, one.number)):
        row = f"{path} line {line.number}"
        if line.frame not in frames:
            collector.put_out(row, "label", "unknown_image", {"image_id": str(line.frame)})
            continue
        times[line.frame, line.track] += 1
        twin = f" #{times[line.frame, line.track]}" if times[line.frame, line.track] > 1 else ""
        _add(collector, row, line, frames[line.frame], sizes[line.frame], names, twin, is_marked=is_marked)


def _parsed(number: int, line: str) -> _Line | Problem:
    words = [word.strip() for word in line.strip().rstrip(",").split(",")]
    try:
        values = [float(word) for word in words[: CLASS_COLUMN + 1]]
    except ValueError:
        return Problem("annotation_malformed", {"why": "it holds something else than numbers"})
    if len(values) < MIN_COLUMNS or not all(map(math.isfinite, values)):
        return Problem("annotation_malformed", {"why": f"a MOT line has at least {MIN_COLUMNS} finite numbers"})
    if not all(value.is_integer() for value in (*values[:2], *values[CLASS_COLUMN:])):
        return Problem("annotation_malformed", {"why": "frame, id and class must be whole numbers"})
    consider = values[CONSIDER_COLUMN] if len(values) > CONSIDER_COLUMN else 1.0
    class_number = int(values[CLASS_COLUMN]) if len(values) > CLASS_COLUMN else 1
    box = (values[2], values[3], values[4], values[5])
    return _Line(number, int(values[0]), int(values[1]), box, consider, max(class_number, 1))


def _add(
    collector: Collector,
    row: str,
    line: _Line,
    sample_id: str | None,
    size: tuple[int, int] | None,
    names: _Names,
    twin: str,
    *,
    is_marked: bool,
) -> None:
    if sample_id is not None and size is None:
        collector.put_out(row, "label", "image_size_unknown", sample_id=sample_id)
        return
    bbox, is_cut = _relative(line.box, size or (1, 1))
    flags = [*(["truncated"] if is_cut else []), *(["ignored"] if is_marked and line.consider == 0 else [])]
    name = names.name_of(line.class_number)
    if isinstance(name, Problem):
        collector.put_out(row, "label", name.code, name.args, sample_id=sample_id)
        return
    collector.add_label(
        row, sample_id, name,
        key=f"{line.frame} {line.track}{twin}", source_key=f"{line.frame} {line.track}{twin}", size_px=size, bbox=bbox,
        track_id=str(line.track), frame=line.frame - 1, flags=flags or None,
    )  # fmt: skip


def _relative(box: tuple[float, float, float, float], size: tuple[int, int]) -> tuple[list[float], bool]:
    """Return a box in pixels as shares of the image, cut at its edges, and whether it was cut."""
    x, y, w, h = box
    if w <= 0 or h <= 0:
        return [x / size[0], y / size[1], w / size[0], h / size[1]], False
    left, top, right, bottom = max(x, 0.0), max(y, 0.0), min(x + w, float(size[0])), min(y + h, float(size[1]))
    if right <= left or bottom <= top:  # wholly outside: the judgement of all formats says so
        return [x / size[0], y / size[1], w / size[0], h / size[1]], False
    is_cut = (left, top, right, bottom) != (x, y, x + w, y + h)
    return [left / size[0], top / size[1], (right - left) / size[0], (bottom - top) / size[1]], is_cut
