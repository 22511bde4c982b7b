"""Pascal VOC: an XML an image (`Annotations/`), images (`JPEGImages/`), splits (`ImageSets/Main/*.txt`).

Pixels: VOC counts from 1 and includes the last pixel, so `xmin` 1 and `xmax` W is the whole width. Read (and
written by `curate.export`) as x = (xmin - 1) / W, w = (xmax - xmin + 1) / W; this round trips. Many tools write
corners counted from 0 instead: `one_based: false` reads x = xmin / W, w = (xmax - xmin) / W. `curate init` looks
for zeros and says so.

The image of `a/b.xml` is the file `a/b.*` among the images; only where there is none, the one in `<filename>`
(copied XMLs often keep the first one's). An XML without objects is a negative image, one without XML unlabeled.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from curate.errors import InputError
from curate.ingest.collect import Collector
from curate.ingest.listing import is_image_name
from curate.ingest.location import Problem, member_uri, shown
from curate.ingest.source import Ingested, ReadOptions
from curate.ingest.tree import Tree
from curate.ingest.xml_nodes import Node, parse_xml

FLAGS = ("difficult", "truncated", "occluded")
_ZERO_CORNER = re.compile(rb"<[xy]min>\s*0+(\.0*)?\s*<")
_N_LOOKED_AT = 500  # XMLs that `recognises` reads
_IMAGE_FOLDERS = ("JPEGImages", "images", "Images", "imgs", "")


class Voc:
    """The format `voc`. Options: `annotations` and `images` (folders), `one_based` (default true)."""

    name = "voc"
    option_names = ("annotations", "images", "one_based")
    spec_keys: Mapping[str, Any] = {"task": "detection"}

    def recognises(self, path: Path) -> Mapping[str, Any] | None:
        """Return the options for a folder or archive with VOC XMLs; looks for corners counted from 0."""
        try:
            tree = Tree(path)
        except InputError:
            return None
        names = [name for name in tree.names() if name.lower().endswith(".xml")]
        contents = [data for name in names[:_N_LOOKED_AT] if (data := _read(tree, name)) is not None]
        if not any(b"<annotation" in data and (b"<object" in data or b"<filename" in data) for data in contents):
            return None
        return {"one_based": False} if any(_ZERO_CORNER.search(data) for data in contents) else {}

    def read(self, options: ReadOptions) -> Ingested:
        """Read every XML and every image; raises InputError if there is no XML."""
        tree = Tree(options.root)
        folder = options.options.get("annotations")
        names = [name for name in tree.names() if name.lower().endswith(".xml")]
        if folder is not None:
            names = [name for name in names if name.startswith(f"{str(folder).strip('/')}/")]
        if not names:
            msg = (
                f"The format voc needs XML annotations (a folder Annotations); there are none in {options.root}"
                f"{f' under {folder}' if folder else ''}. Check source.path and source.annotations."
            )
            raise InputError(msg)
        collector = Collector(options, task="detection", locator=tree.locator)
        tree.put_out_damage(collector)
        images = _Images(tree, options.options.get("images"))
        splits = _Splits(tree)
        taken: set[str] = set()
        for name in names:
            taken.update(_read_annotation(tree, collector, images, splits, name))
        for uri in images.all_of(names):
            if uri not in taken:
                splits.add_image(tree, collector, uri, uri, state="unlabeled")
        splits.put_out_unused(collector)
        return collector.finish()


SOURCE = Voc()


def _read(tree: Tree, name: str) -> bytes | None:
    try:
        return tree.read(name)
    except OSError:
        return None


def _parents(name: str) -> tuple[str, str]:
    """Return (the data set's folder, path below `Annotations` without ending) of an XML."""
    parts = name.split("/")
    stem = posixpath.splitext(name)[0].split("/")
    at = next((i for i in range(len(parts) - 2, -1, -1) if parts[i].lower() in {"annotations", "xml"}), None)
    if at is None:
        return "/".join(parts[:-1]), stem[-1]
    return "/".join(parts[:at]), "/".join(stem[at + 1 :])


class _Images:
    """Finds the image of an XML among the images."""

    def __init__(self, tree: Tree, folder: str | None) -> None:
        self.folder = folder.strip("/") if folder else None
        self.names = [name for name in tree.names() if is_image_name(name)]
        self._known = set(self.names)
        self._by_stem: dict[str, list[str]] = {}
        for name in self.names:
            self._by_stem.setdefault(posixpath.splitext(name)[0], []).append(name)

    def folders(self, base: str) -> list[str]:
        if self.folder is not None:
            return [self.folder]
        return [posixpath.join(base, sub) for sub in _IMAGE_FOLDERS]

    def find(self, xml: str, filename: str) -> str | Problem:
        """Return the name of the image of `xml`, or why there is none."""
        checked = member_uri(filename) if filename else None
        if isinstance(checked, Problem):
            return checked
        base, below = _parents(xml)
        for folder in self.folders(base):
            same_stem = self._by_stem.get(posixpath.join(folder, below), [])
            named = posixpath.join(folder, posixpath.dirname(below), checked or "")
            if len(same_stem) == 1 or named in same_stem:
                return named if named in same_stem else same_stem[0]
            if same_stem:
                return Problem("ambiguous_image", {"file": shown(xml), "n_images": len(same_stem)})
        for folder in self.folders(base):
            for named in (posixpath.join(folder, posixpath.dirname(below), checked or ""), f"{folder}/{checked}"):
                if checked and named.lstrip("/") in self._known:
                    return named.lstrip("/")
        return Problem("missing_file", {"path": shown(filename or below)})

    def all_of(self, xmls: list[str]) -> list[str]:
        """Return every image in the image folders that belong to `xmls`."""
        bases = {_parents(xml)[0] for xml in xmls}
        prefixes = tuple(f"{folder}/" if folder else "" for base in sorted(bases) for folder in self.folders(base))
        return [name for name in self.names if name.startswith(prefixes)]


class _Splits:
    """The lists in `ImageSets/Main`: which image id is in which split."""

    def __init__(self, tree: Tree) -> None:
        self._of: dict[str, dict[str, str]] = {}  # data set folder/id -> split -> where it is listed
        self._used: set[str] = set()
        names = [n for n in tree.names() if re.search(r"(^|/)ImageSets/Main/(train|val|test|trainval)\.txt$", n)]
        for name in sorted(names, key=lambda n: n.endswith("trainval.txt")):
            split = posixpath.splitext(posixpath.basename(name))[0]
            base = posixpath.dirname(posixpath.dirname(posixpath.dirname(name)))
            try:
                lines = tree.read_text(name).split("\n")
            except (OSError, UnicodeDecodeError):
                continue
            for number, line in enumerate(lines, 1):
                key = posixpath.join(base, line.strip("\r"))
                if line.strip() and not (split == "trainval" and key in self._of):
                    self._of.setdefault(key, {}).setdefault(split, f"{name} line {number}")

    def add_image(self, tree: Tree, collector: Collector, row: str, uri: str, *, state: str) -> str | None:
        """Add an image with the split that lists it; one that two splits list is out."""
        stem = posixpath.splitext(uri)[0]
        parts = stem.split("/")
        keys = ["/".join([*parts[:i], *parts[j:]]) for i in range(len(parts)) for j in (i, i + 1)]
        key = next((key for key in keys if key in self._of), None)
        listed = self._of.get(key or "", {})
        if key is not None:
            self._used.add(key)
        if len(listed) > 1:
            first, second = sorted(listed)[:2]
            collector.put_out(row, "image", "in_two_splits", {"path": shown(uri), "first": first, "second": second})
            return None
        return tree.add_image(collector, row, uri, split=next(iter(listed), None), label_state=state)

    def put_out_unused(self, collector: Collector) -> None:
        """Say which listed ids have no image."""
        for key, listed in self._of.items():
            if key not in self._used:
                for where in listed.values():
                    collector.put_out(where, "image", "missing_file", {"path": shown(posixpath.basename(key))})


def _read_annotation(tree: Tree, collector: Collector, images: _Images, splits: _Splits, name: str) -> list[str]:
    """Add an XML's image and objects; return the names of the images that it speaks for."""
    data = _read(tree, name)
    root = parse_xml(data) if data is not None else Problem("xml_refused", {"why": "it cannot be read"})
    if not isinstance(root, Problem) and root.tag != "annotation":
        root = Problem("xml_refused", {"why": f"its root is <{shown(root.tag, 40)}>, not <annotation>"})
    filename = "" if isinstance(root, Problem) else root.value("filename") or ""
    uri = images.find(name, filename)
    if isinstance(root, Problem):  # the image itself stays: it is added as an unlabeled one
        collector.put_out(name, "label", root.code, root.args)
        return []
    objects = [node for node in root.children if node.tag == "object"]
    sample_id = None
    if isinstance(uri, Problem):
        collector.put_out(name, "image", uri.code, uri.args)
    else:
        sample_id = splits.add_image(tree, collector, name, uri, state="negative")
    size = _size(root)
    if size is None and not isinstance(uri, Problem):
        size = tree.size_px(uri)
    one_based = collector.options.options.get("one_based", True)
    for index, node in enumerate(objects):
        row = f"{name} object[{index}]"
        if sample_id is None:
            collector.add_label(row, None, None)
            continue
        box = Problem("image_size_unknown") if size is None else _box(node, size, one_based=one_based)
        if isinstance(box, Problem):
            collector.put_out(row, "label", box.code, box.args, sample_id=sample_id)
            continue
        flags = [flag for flag in FLAGS if node.value(flag) == "1"] or None
        label = node.value("name")
        source_key = f"object[{index}]"
        collector.add_label(
            row, sample_id, label, key=str(index), source_key=source_key, size_px=size, bbox=box, flags=flags
        )
    return [] if isinstance(uri, Problem) else [uri]


def _size(root: Node) -> tuple[int, int] | None:
    try:
        size = int(float(root.value("size", "width") or 0)), int(float(root.value("size", "height") or 0))
    except (ValueError, OverflowError):
        return None
    return size if min(size) > 0 and max(size) < 1e6 else None


def _box(node: Node, size: tuple[int, int], *, one_based: bool) -> list[float] | Problem:
    texts = [node.value("bndbox", corner) for corner in ("xmin", "ymin", "xmax", "ymax")]
    if any(text is None for text in texts):
        return Problem("box_missing")
    try:
        left, top, right, bottom = (float(text or "") for text in texts)
    except ValueError:
        return Problem("box_not_numbers", {"box": shown(str(texts), 100)})
    if one_based:
        left, top = left - 1, top - 1
    width, height = size
    return [left / width, top / height, (right - left) / width, (bottom - top) / height]
