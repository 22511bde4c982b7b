"""YOLO: `data.yaml` (names, splits), `images/…`, and `labels/…` with one text file an image.

A line is `class cx cy w h` (a box) or `class x0 y0 x1 y1 x2 y2 …` (a polygon; the box is the smallest round it),
all as fractions of the image. An empty text file says that nothing is there (negative); none says nothing
(unlabeled). The key of a label is its line number, so that mending one line changes no other label's id.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from curate.errors import InputError
from curate.ingest.coco import with_declared_classes
from curate.ingest.collect import Collector
from curate.ingest.listing import is_image_name
from curate.ingest.location import Problem, shown
from curate.ingest.polygons import box_of_rings, rings_of
from curate.ingest.source import Ingested, ReadOptions
from curate.ingest.tree import Tree

_SPLITS = ("train", "val", "test")
_CLASS_LISTS = ("classes.txt", "obj.names", "_darknet.labels")


class Yolo:
    """The format `yolo`. Option `data`: the YAML (default: the first `*.yaml` with `names`), or a list of names."""

    name = "yolo"
    option_names = ("data",)

    def recognises(self, path: Path) -> Mapping[str, Any] | None:
        """Return the options for a folder or archive with a `data.yaml`, or with `images` and `labels`."""
        try:
            tree = Tree(path)
            return {"data": _find_data(tree)}
        except InputError:
            return None

    def read(self, options: ReadOptions) -> Ingested:
        """Read every split; raises InputError for an unknown layout, an unreadable YAML or one without names."""
        tree = Tree(options.root)
        data = str(options.options.get("data") or _find_data(tree))
        description = _load(tree, data)
        names = _names(description, data)
        images = _images_by_split(tree, description, data)
        collector = Collector(options, task="detection", locator=tree.locator)
        tree.put_out_damage(collector)
        texts = {name for name in tree.names() if name.lower().endswith(".txt")}
        used: set[str] = set()
        found = False
        for split, listing, row, uri in images:
            found = True
            if uri is None:
                collector.put_out(row, "image", "split_not_there", {"split": split, "path": shown(listing)})
                continue
            text = next((name for name in _label_names(uri) if name in texts), None)
            state = "unlabeled" if text is None else "negative"
            sample_id = tree.add_image(collector, row, uri, split=split or None, label_state=state)
            if text is not None and text not in used:
                used.add(text)
                _read_lines(tree, collector, text, sample_id, names)
        if not found:
            msg = (
                f"{data} names no images, and there is no folder of images beside it. Expected train: images/train"
            )
            raise InputError(msg)
        _put_out_orphans(collector, texts - used)
        return with_declared_classes(collector.finish(), options, dict.fromkeys(names.values()))


SOURCE = Yolo()


def _find_data(tree: Tree) -> str:
    """Return the YAML (or list of names) that describes the data set."""
    names = sorted(tree.names(), key=lambda name: (name.count("/"), name))
    yamls = [name for name in names if name.lower().endswith((".yaml", ".yml")) and name.count("/") < 4]
    for name in yamls:
        try:
            if "names" in _load(tree, name):
                return name
        except InputError:
            continue
    has_labels = any("labels" in name.split("/")[:-1] and name.endswith(".txt") for name in names)
    for name in names:
        if has_labels and posixpath.basename(name) in _CLASS_LISTS:
            return name
    raise InputError(
        f"The format yolo needs a data.yaml with names (or a classes.txt beside images/ and labels/); "
        f"there is none in {tree.root}. Name it in source.data."
    )


def _load(tree: Tree, name: str) -> dict[str, Any]:
    import yaml  # noqa: PLC0415 - only this format reads YAML from data

    try:
        text = tree.read_text(name)
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{name} cannot be read as text: {error}") from error
    if posixpath.basename(name) in _CLASS_LISTS:
        lines = [line.strip() for line in text.splitlines()]
        return {"names": [line for line in lines if line]}
    try:
        value = yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise InputError(f"{name} is not plain YAML: {shown(str(error))}") from error
    if not isinstance(value, dict):
        raise InputError(f"{name} must be a mapping with names, train and val; it is a {type(value).__name__}.")
    return value


def _names(description: Mapping[str, Any], data: str) -> dict[int, str]:
    """Return class index -> name from a list or a mapping."""
    given = description.get("names")
    pairs = given.items() if isinstance(given, dict) else enumerate(given) if isinstance(given, list) else ()
    names: dict[int, str] = {}
    for key, value in pairs:
        number = int(key) if isinstance(key, int) or (isinstance(key, str) and key.isdecimal()) else None
        if number is None or isinstance(value, dict | list) or value is None:
            raise InputError(
                f"{data}: names must lead from class numbers to names; it holds {shown(str(key), 40)!r}."
            )
        names[number] = value if isinstance(value, str) else str(value)
    if not names:
        raise InputError(f"{data} needs names: a list of class names, or number: name. Given: {shown(str(given))}")
    return names


def _images_by_split(
    tree: Tree, description: Mapping[str, Any], data: str
) -> Iterator[tuple[str, str, str, str | None]]:
    """Yield (split, what the YAML says, row, image or None where that leads nowhere)."""
    images = [name for name in tree.names() if is_image_name(name)]
    here = posixpath.dirname(data)
    base = description.get("path")
    splits = [split for split in _SPLITS if description.get(split)]
    if not splits:
        inside = f"{here}/" if here else ""
        for name in images:
            if name.startswith(inside):
                split = next((part for part in name.split("/") if part in (*_SPLITS, "valid")), "")
                yield split, "", name, name
        return
    for split in splits:
        given = description[split]
        for listing in given if isinstance(given, list) else [given]:
            yield from _images_of(tree, images, (split, str(listing)), (here, str(base or "")), data)


def _images_of(
    tree: Tree, images: list[str], split: tuple[str, str], base: tuple[str, str], data: str
) -> Iterator[tuple[str, str, str, str | None]]:
    name, listing = split
    for candidate in _candidates(listing, *base):
        if candidate.lower().endswith(".txt"):
            try:
                lines = tree.read_text(candidate).split("\n")
            except (OSError, UnicodeDecodeError):
                continue
            folder = posixpath.dirname(candidate)
            for number, line in enumerate(lines, 1):
                uri = line.strip("\r").strip()
                if uri:
                    options = _candidates(uri, folder, ""), _candidates(uri, *base)
                    known = next((c for group in options for c in group if tree.has(c)), None)
                    row = f"{candidate} line {number}"
                    yield name, listing, row, known or posixpath.join(folder, uri)
            return
        prefix = f"{candidate}/" if candidate else ""
        inside = [image for image in images if image.startswith(prefix)]
        if inside:
            for image in inside:
                yield name, listing, image, image
            return
    yield name, listing, f"{data} {name}", None


def _candidates(path: str, here: str, base: str) -> list[str]:
    """Return where inside the root a path of the YAML may lead, the likeliest first.

    Exports keep paths of the machine they were written on (`/home/me/data/images`, `../train/images`): what is
    left after taking off leading parts is tried, always inside the root.
    """
    parts = [part for part in path.replace("\\", "/").split("/") if part not in ("", ".")]
    while parts and parts[0] == "..":
        parts = parts[1:]
    under = [part for part in base.replace("\\", "/").split("/") if part not in ("", ".", "..")]
    tails = [parts[i:] for i in range(max(1, len(parts)))]
    roots = [[here, *under[i:]] for i in range(len(under))] + [[here]]
    joined = ["/".join(part for part in [*root, *tail] if part) for tail in tails[:1] for root in roots]
    joined += ["/".join(part for part in [here, *tail] if part) for tail in tails[1:]]
    normal = (posixpath.normpath(name) if name else "" for name in joined)
    return [name for name in dict.fromkeys(normal) if not name.startswith("..")]


def _label_names(image: str) -> list[str]:
    """Return where an image's text may be: `images` → `labels` (the last such folder), else beside the image."""
    stem = posixpath.splitext(image)[0]
    parts = stem.split("/")
    at = [i for i, part in enumerate(parts[:-1]) if part == "images"]
    swapped = ["/".join([*parts[:i], "labels", *parts[i + 1 :]]) for i in reversed(at)]
    return [
        f"{name}.txt" for name in [*swapped, posixpath.join(posixpath.dirname(stem), "labels", parts[-1]), stem]
    ]


def _read_lines(
    tree: Tree, collector: Collector, text: str, sample_id: str | None, names: Mapping[int, str]
) -> None:
    try:
        lines = tree.read_text(text).splitlines()
    except (OSError, UnicodeDecodeError) as error:
        args = {"file": shown(text), "why": shown(str(error))}
        collector.put_out(text, "label", "annotation_file_unreadable", args, sample_id=sample_id)
        return
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        row = f"{text} line {number}"
        if sample_id is None:
            collector.add_label(row, None, None)
            continue
        columns = _columns(line.split(), names)
        if isinstance(columns, Problem):
            collector.put_out(row, "label", columns.code, columns.args, sample_id=sample_id)
            continue
        label = columns.pop("label")
        collector.add_label(row, sample_id, label, key=f"line {number}", source_key=f"line {number}", **columns)


def _columns(words: list[str], names: Mapping[int, str]) -> dict[str, Any] | Problem:
    """Return label, bbox and polygons of a line, or why it is out."""
    try:
        number, *values = (float(word) for word in words)
    except ValueError:
        return Problem("yolo_line_malformed", {"why": "it holds a word that is no number", "n_words": len(words)})
    if len(values) != 4 and (len(values) < 6 or len(values) % 2):
        why = "it needs a class and 4 numbers (box) or 3 and more corners (polygon)"
        return Problem("yolo_line_malformed", {"why": why, "n_words": len(words)})
    if number not in names:  # nan and 0.5 are in no mapping either
        return Problem("class_out_of_range", {"number": shown(words[0], 40), "n_classes": len(names)})
    label = names[int(number)]
    if len(values) == 4:
        cx, cy, w, h = values
        return {"label": label, "bbox": [cx - w / 2, cy - h / 2, w, h]}
    rings = rings_of([values])
    if isinstance(rings, Problem):
        return rings
    return {"label": label, "bbox": box_of_rings(rings), "polygons": rings}


def _put_out_orphans(collector: Collector, texts: set[str]) -> None:
    """Say which label files belong to no image; other texts (lists, a readme) are no rows."""
    for text in sorted(texts):
        if "labels" in text.split("/")[:-1] and posixpath.basename(text) not in _CLASS_LISTS:
            collector.put_out(text, "label", "label_without_image", {"file": shown(text)})
