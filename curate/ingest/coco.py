"""COCO: one JSON of images, categories and annotations (boxes, polygons, run-length masks, crowds).

What is read as what:
- a `detection` label an annotation. Pixels become fractions of the `width` and `height` in the JSON (of the image's
  own header where those are no positive numbers); float64 keeps pixel -> fraction -> pixel within 1e-9 px for sides
  up to a million, so an export rounded to 9 decimals gives the same digits back;
- without `bbox` the box is that of the polygons or the mask; `iscrowd` becomes the flag "crowd";
- an image without annotations is negative; a file without the key `annotations` says nothing about its images, they
  are unlabeled;
- a file none of whose annotations has a box or an outline says what is in an image, not where: `multi_label` labels,
  one for each class of an image. With `task: multi_label` in the spec any file is read so;
- keypoints, captions, `area` and `score` are not read.
"""

from __future__ import annotations

import json
import posixpath
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from curate.box_units import refuse_other_units
from curate.errors import InputError
from curate.ingest.coco_values import geometry_of, id_of, size_of
from curate.ingest.collect import Collector
from curate.ingest.location import Problem, base_of, shown
from curate.ingest.source import Ingested, ReadOptions
from curate.ingest.tags import add_tag
from curate.ingest.tree import Tree, split_in

N_PROBED = 50  # images that are looked for in each folder that could hold them
_KEYS = re.compile(rb'"(images|annotations|categories)"\s*:\s*\[')


@dataclass(slots=True)
class _File:
    """One annotation file while it is read."""

    name: str
    split: str | None
    folder: str
    prefix: str  # goes before annotation ids where several files are read
    categories: dict[str, str] = field(default_factory=dict)
    sample_of: dict[str, str | None] = field(default_factory=dict)  # image id -> sample id, None = out
    uri_of: dict[str, str] = field(default_factory=dict)
    size_of: dict[str, tuple[float, float] | None] = field(default_factory=dict)
    is_tagged: bool = False  # annotations say what is in an image, not where
    boxes: list[list[float]] = field(default_factory=list)  # x, y, w, h as given, by the sizes of their images
    sizes: list[tuple[float, float]] = field(default_factory=list)  # of their images


class Coco:
    """The format `coco`: `annotations` is a file, a list or split -> file; `images` a folder or split -> folder."""

    name = "coco"
    option_names = ("annotations", "images")

    def recognises(self, path: Path) -> Mapping[str, Any] | None:
        """Return the options for a COCO JSON, or for a folder or archive that holds some."""
        if path.is_file() and path.suffix.lower() == ".json":
            with path.open("rb") as file:
                return (
                    {"annotations": path.name} if _looks_like_coco(file.read(2**20), path.stat().st_size) else None
                )
        try:
            tree = Tree(path)
        except InputError:
            return None
        found = list(_find_annotations(tree))
        if not found:
            return None
        splits = {split_in(posixpath.splitext(name)[0]): name for name in found}
        if len(found) > 1 and len(splits) == len(found) and None not in splits:
            return {"annotations": splits}
        return {"annotations": found[0] if len(found) == 1 else found}

    def read(self, options: ReadOptions) -> Ingested:
        """Read every annotation file; raises InputError if there is none, or boxes are corners or relative."""
        tree = Tree(base_of(options.root) if options.root.suffix.lower() == ".json" else options.root)
        files = _annotation_files(tree, options)
        collector = Collector(options, task="detection", locator=tree.locator)
        tree.put_out_damage(collector)
        declared: dict[str, None] = {}
        for split, name in files:
            document = _load(tree, name)
            if isinstance(document, Problem):
                collector.put_out(shown(name), "label", document.code, document.args)
                continue
            file = _File(name, split, "", f"{name}#" if len(files) > 1 else "")
            file.folder = _image_folder(tree, document, file, options.options.get("images"))
            file.categories = _categories(document)
            declared.update(dict.fromkeys(file.categories.values()))
            _read_images(tree, collector, document, file)
            file.is_tagged = options.multi_label or _only_names_classes(document)
            _read_annotations(tree, collector, document, file)
            _refuse_other_units(file)
        return with_declared_classes(collector.finish(), options, declared)


SOURCE = Coco()


def with_declared_classes(ingested: Ingested, options: ReadOptions, declared: Mapping[str, None]) -> Ingested:
    """Return `ingested` with the classes in the source's own order, unless the spec declares them."""
    if options.classes is not None:
        return ingested
    named = dict.fromkeys(options.aliases.get(name, name) for name in declared)
    named.update(dict.fromkeys(ingested.classes))
    return replace(ingested, classes=tuple(named))


def _looks_like_coco(head: bytes, n_bytes: int) -> bool:
    keys = {match.group(1) for match in _KEYS.finditer(head)}
    enough = 2 if n_bytes <= len(head) else 1  # a large file's other keys may stand after the part that was read
    return head.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"{") and len(keys) >= enough


def _find_annotations(tree: Tree) -> Iterator[str]:
    for name in tree.names():
        if name.lower().endswith(".json"):
            try:
                with tree.open(name) as file:
                    head = file.read(2**20)
                    n_bytes = len(head) + len(file.read(1))
            except OSError:
                continue
            if _looks_like_coco(head, n_bytes):
                yield name


def _annotation_files(tree: Tree, options: ReadOptions) -> list[tuple[str | None, str]]:
    given = options.options.get("annotations")
    if isinstance(given, Mapping):
        return [(str(split), str(name)) for split, name in given.items()]
    if given is not None:
        names = [given] if isinstance(given, str) else list(given)
    elif options.root.suffix.lower() == ".json":
        names = [options.root.name]
    else:
        names = list(_find_annotations(tree))
    if not names:
        raise InputError(
            f"The format coco needs a JSON with images, annotations and categories; there is none in "
            f"{options.root}. Name it in source.annotations."
        )
    return [(split_in(posixpath.splitext(name)[0]) if len(names) > 1 else None, name) for name in names]


def _load(tree: Tree, name: str) -> dict[str, Any] | Problem:
    try:
        with tree.open(name) as file:
            document = json.loads(file.read())
    except OSError as error:
        return Problem("annotation_file_unreadable", {"file": shown(name), "why": shown(str(error))})
    except RecursionError:
        return Problem("annotation_file_malformed", {"file": shown(name), "why": "it is nested too deeply"})
    except ValueError as error:  # not JSON, not UTF-8, a number of thousands of digits
        return Problem("annotation_file_malformed", {"file": shown(name), "why": shown(str(error))})
    if not isinstance(document, dict) or not isinstance(document.get("images"), list):
        why = "a COCO file is an object with a list called images"
        return Problem("annotation_file_malformed", {"file": shown(name), "why": why})
    return document


def _items(document: Mapping[str, Any], key: str) -> list[Any]:
    value = document.get(key)
    return value if isinstance(value, list) else []


def _categories(document: Mapping[str, Any]) -> dict[str, str]:
    """Return id -> name in the file's order; an id with two names is left out: which one is meant is unknown."""
    names: dict[str, set[str]] = {}
    for item in _items(document, "categories"):
        key = id_of(item.get("id")) if isinstance(item, dict) else None
        if key is not None and isinstance(item.get("name"), str) and item["name"]:
            names.setdefault(key, set()).add(item["name"])
    return {key: next(iter(found)) for key, found in names.items() if len(found) == 1}


def _image_folder(tree: Tree, document: Mapping[str, Any], file: _File, option: Any) -> str:  # noqa: ANN401
    """Return the folder that `file_name` is relative to: the spec's, or the one that holds most of a sample."""
    if isinstance(option, Mapping):
        option = option.get(file.split)
    if isinstance(option, str):
        return option
    here = posixpath.dirname(file.name)
    stem = posixpath.splitext(posixpath.basename(file.name))[0].split("_")[-1]
    parents = list(dict.fromkeys([here, posixpath.dirname(here), ""]))
    subfolders = ["", "images", "data", "JPEGImages", stem, f"images/{stem}"]
    if file.split:
        subfolders += [file.split, f"images/{file.split}", f"{file.split}/images"]
    candidates = dict.fromkeys(posixpath.join(parent, sub) for parent in parents for sub in subfolders)
    images = [item.get("file_name") for item in _items(document, "images") if isinstance(item, dict)]
    sample = [name for name in images if isinstance(name, str)][:: max(1, len(images) // N_PROBED)]
    hits = {folder: sum(tree.has(posixpath.join(folder, name)) for name in sample) for folder in candidates}
    return max(hits, key=lambda folder: hits[folder])  # the first of equals


def _read_images(tree: Tree, collector: Collector, document: Mapping[str, Any], file: _File) -> None:
    images = _items(document, "images")
    names: dict[str, set[str]] = {}
    for item in images:
        if isinstance(item, dict) and (key := id_of(item.get("id"))) is not None:
            names.setdefault(key, set()).add(str(item.get("file_name")))
    state = "negative" if isinstance(document.get("annotations"), list) else "unlabeled"
    for index, item in enumerate(images):
        row = f"{file.name} images[{index}]"
        key = id_of(item.get("id")) if isinstance(item, dict) else None
        if key is None:
            collector.put_out(row, "image", "id_missing")
            continue
        file.sample_of.setdefault(key, None)
        if len(names[key]) > 1:
            collector.put_out(row, "image", "duplicate_id", {"id": key})
            continue
        name = item.get("file_name")
        if not isinstance(name, str) or not name:
            collector.put_out(row, "image", "path_missing")
            continue
        uri = posixpath.join(file.folder, name)
        file.uri_of[key] = uri
        file.size_of[key] = size_of(item)
        file.sample_of[key] = tree.add_image(collector, row, uri, split=file.split, label_state=state, license=None)


def _read_annotations(tree: Tree, collector: Collector, document: Mapping[str, Any], file: _File) -> None:
    for index, item in enumerate(_items(document, "annotations")):
        row = f"{file.name} annotations[{index}]"
        if not isinstance(item, dict):
            collector.put_out(row, "label", "annotation_malformed", {"why": "it is not an object"})
            continue
        image = id_of(item.get("image_id"))
        if image is None or image not in file.sample_of:
            collector.put_out(row, "label", "unknown_image", {"image_id": shown(str(item.get("image_id")), 60)})
            continue
        sample_id = file.sample_of[image]
        if sample_id is None:
            collector.add_label(row, None, None)
            continue
        category = file.categories.get(id_of(item.get("category_id")) or "")
        if category is None:
            args = {"category_id": shown(str(item.get("category_id")), 60)}
            collector.put_out(row, "label", "unknown_category", args, sample_id=sample_id)
            continue
        if file.is_tagged:
            add_tag(collector, row, sample_id, category, f"{file.prefix}{id_of(item.get('id')) or f'[{index}]'}")
            continue
        size = file.size_of[image]
        if size is None:
            size = file.size_of[image] = tree.size_px(file.uri_of[image])
        geometry = geometry_of(item, size)
        if isinstance(geometry, Problem):
            collector.put_out(row, "label", geometry.code, geometry.args, sample_id=sample_id)
            continue
        number = id_of(item.get("id"))
        key = f"{file.prefix}{number if number is not None else f'[{index}]'}"
        geometry["source_key"] = key
        geometry["flags"] = ["crowd"] if item.get("iscrowd") in (1, True) else None
        width, height = size or (1, 1)
        if item.get("bbox"):  # not one round an outline
            file.boxes.append(geometry["bbox"])
            file.sizes.append((width, height))
        collector.add_label(row, sample_id, category, key=key, size_px=(int(width), int(height)), **geometry)


def _refuse_other_units(file: _File) -> None:
    """Raise InputError where the boxes of a file are not x, y, width, height in pixels."""
    sizes = np.array(file.sizes, dtype=np.float64).reshape(-1, 2)
    with np.errstate(over="ignore", invalid="ignore"):
        boxes = np.array(file.boxes, dtype=np.float64).reshape(-1, 4) * np.tile(sizes, 2)
    refuse_other_units(boxes, sizes, f"The labels: {shown(file.name)}")


def _only_names_classes(document: Mapping[str, Any]) -> bool:
    """Return whether no annotation so much as has a place for a box or outline: they say what is there, not where."""
    items = [item for item in _items(document, "annotations") if isinstance(item, dict)]
    return bool(items) and not any({"bbox", "segmentation", "keypoints", "caption"} & item.keys() for item in items)
