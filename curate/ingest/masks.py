"""PNG masks: a folder of images and a folder of masks with the same stems; a pixel's value is its class id.

Gray masks hold ids, palette masks hold indices (the colours are not read). One `segmentation` label for each class
that is present in a mask, with `mask` at the mask's own size, which has to be the image's (as it is shown). An
image without a mask is unlabeled, a mask with nothing but ignored ids is negative.
"""

from __future__ import annotations

import posixpath
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from curate.errors import ConfigError, InputError
from curate.ingest.coco import with_declared_classes
from curate.ingest.collect import Collector
from curate.ingest.listing import is_image_name
from curate.ingest.location import Problem, shown
from curate.ingest.rle import encode_mask
from curate.ingest.source import Ingested, ReadOptions
from curate.ingest.tree import Tree, listed, split_in

MAX_PIXELS = 400_000_000
DEFAULT_IGNORE = (255,)
_MASK_WORDS = ("mask", "annot", "label", "seg", "gt", "target", "ground")
_SUFFIXES = ("", "_mask", "-mask", "_L", "_gt", "_label", "_labels", "_seg", "_labelIds", "_gtFine_labelIds", "_P")
_MIN_PAIRED = 0.8  # share of the masks that have an image, for two folders to be taken for a pair


class Masks:
    """The format `masks`: `images` and `masks` (folders, parallel lists), `classes` (id -> class), `ignore` (ids).

    `classes` is a mapping, a list, or a text file inside the source: a line a class, or `id name`. Without it the
    classes of the spec are counted from 0, and without those a class is called by its number.
    """

    name = "masks"
    option_names = ("images", "masks", "classes", "ignore", "suffix")
    spec_keys: Mapping[str, Any] = {"task": "segmentation"}

    def recognises(self, path: Path) -> Mapping[str, Any] | None:
        """Return the options for a folder or archive with a folder of images and one of PNGs of the same stems."""
        try:
            pairs = _find_pairs(Tree(path))
        except InputError:
            return None
        if not pairs:
            return None
        images, masks = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
        return {"images": images, "masks": masks} if len(pairs) > 1 else {"images": images[0], "masks": masks[0]}

    def read(self, options: ReadOptions) -> Ingested:
        """Read every mask of every pair of folders; raises InputError if there is no pair."""
        tree = Tree(options.root)
        pairs = _pairs(tree, options.options)
        names = _names(tree, options.options.get("classes", options.classes))
        ignore = _ignored(options.options.get("ignore"))
        collector = Collector(options, task="segmentation", locator=tree.locator)
        tree.put_out_damage(collector)
        for images, masks in pairs:
            _read_pair(tree, collector, (images, masks), names, ignore)
        ingested = collector.finish()
        declared = dict.fromkeys(name for number, name in names.items() if number not in ignore)
        if not names:  # numbers in the order of numbers
            declared = dict.fromkeys(sorted(ingested.classes, key=lambda name: (len(name), name)))
        return with_declared_classes(ingested, options, declared)


SOURCE = Masks()


def _stem(name: str) -> str:
    return posixpath.splitext(posixpath.basename(name))[0]


def _by_folder(names: Iterable[str]) -> dict[str, list[str]]:
    folders: dict[str, list[str]] = {}
    for name in names:
        if is_image_name(name):
            folders.setdefault(posixpath.dirname(name), []).append(name)
    return folders


def _suffix_between(images: set[str], masks: set[str]) -> str | None:
    """Return what is added to an image's stem to get its mask's, if that explains most of the masks."""
    for suffix in _SUFFIXES:
        n_paired = sum(stem.endswith(suffix) and stem[: len(stem) - len(suffix)] in images for stem in masks)
        if masks and n_paired >= _MIN_PAIRED * len(masks):
            return suffix
    return None


def _find_pairs(tree: Tree) -> list[tuple[str, str]]:
    folders = _by_folder(tree.names())
    stems = {folder: {_stem(name) for name in names} for folder, names in folders.items()}
    pairs = []
    for masks, names in sorted(folders.items()):
        is_mask = any(word in posixpath.basename(masks).lower() for word in _MASK_WORDS) or any(
            word in part for part in masks.lower().split("/") for word in ("mask", "annot", "segmentationclass")
        )
        if not is_mask or not all(name.lower().endswith(".png") for name in names):
            continue
        images = [
            folder
            for folder in sorted(folders)
            if folder != masks and _suffix_between(stems[folder], stems[masks]) is not None
        ]
        near = sorted(images, key=lambda folder: (-_n_shared(folder, masks), folder))
        if near:
            pairs.append((near[0], masks))
    masks_found = {pair[1] for pair in pairs}
    return [pair for pair in pairs if pair[0] not in masks_found]


def _n_shared(one: str, other: str) -> int:
    return len(posixpath.commonprefix([one.replace("images", ""), other.replace("masks", "")]))


def _pairs(tree: Tree, options: Mapping[str, Any]) -> list[tuple[str, str]]:
    images, masks = options.get("images"), options.get("masks")
    if images is None or masks is None:
        pairs = _find_pairs(tree)
        if not pairs:
            raise InputError(
                f"The format masks needs a folder of images and a folder of PNG masks with the same names; "
                f"none were found in {tree.root}. Name them in source.images and source.masks."
            )
        return pairs
    one, other = listed(images, option="images"), listed(masks, option="masks")
    if len(one) != len(other):
        raise ConfigError(
            f"source.images and source.masks must name as many folders; they name {len(one)} and {len(other)}."
        )
    return [(a.strip("/"), b.strip("/")) for a, b in zip(one, other, strict=True)]


def _names(tree: Tree, given: Any) -> dict[int, str]:  # noqa: ANN401 - any YAML value
    if isinstance(given, str):
        try:
            lines = [line.strip() for line in tree.read_text(given).splitlines()]
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"source.classes: {given} cannot be read as text: {error}") from error
        words = [line.split(None, 1) for line in lines if line and not line.startswith("#")]
        if all(len(pair) == 2 and pair[0].rstrip(":,").isdecimal() for pair in words):
            return {int(number.rstrip(":,")): name for number, name in words}
        given = [line for line in lines if line]
    pairs = given.items() if isinstance(given, Mapping) else enumerate(given or ())
    try:
        return {int(number): str(name) for number, name in pairs}
    except (TypeError, ValueError) as error:
        raise ConfigError(f"source.classes must lead from ids to class names; it is {given!r}.") from error


def _ignored(given: Any) -> frozenset[int]:  # noqa: ANN401 - any YAML value
    if given is None:
        return frozenset(DEFAULT_IGNORE)
    ids = given if isinstance(given, list | tuple) else [given]
    if not all(isinstance(number, int) for number in ids):
        raise ConfigError(f"source.ignore must be an id or a list of ids; it is {given!r}.")
    return frozenset(ids)


def _read_pair(
    tree: Tree, collector: Collector, folders: tuple[str, str], names: Mapping[int, str], ignore: frozenset[int]
) -> None:
    images_in, masks_in = (f"{folder}/" if folder else "" for folder in folders)
    everything = [name for name in tree.names() if is_image_name(name)]
    images = [name for name in everything if name.startswith(images_in) and not _under(name, masks_in, images_in)]
    masks = [name for name in everything if name.startswith(masks_in) and not _under(name, images_in, masks_in)]
    suffix = collector.options.options.get("suffix")
    if suffix is None:
        suffix = _suffix_between({_stem(name) for name in images}, {_stem(name) for name in masks}) or ""
    mask_of: dict[str, list[str]] = {}
    for mask in masks:
        stem = posixpath.splitext(mask[len(masks_in) :])[0]
        if stem.endswith(suffix):
            stem = stem[: len(stem) - len(suffix)]
        mask_of.setdefault(stem, []).append(mask)
    for image in images:
        found = mask_of.pop(posixpath.splitext(image[len(images_in) :])[0], [])
        state = "negative" if found else "unlabeled"
        split = split_in(folders[0])
        sample_id = tree.add_image(collector, image, image, split=split, label_state=state)
        if len(found) > 1:
            args = {"file": shown(image), "n_masks": len(found)}
            collector.put_out(found[0], "label", "several_masks", args, sample_id=sample_id)
        elif found:
            _read_mask(tree, collector, (image, found[0]), sample_id, names, ignore)
    for orphans in mask_of.values():
        for mask in orphans:
            collector.put_out(mask, "label", "label_without_image", {"file": shown(mask)})


def _under(name: str, other: str, own: str) -> bool:
    """Return whether `name` is in the other folder, where that lies inside this one."""
    return len(other) > len(own) and name.startswith(other)


def _read_mask(
    tree: Tree,
    collector: Collector,
    pair: tuple[str, str],
    sample_id: str | None,
    names: Mapping[int, str],
    ignore: frozenset[int],
) -> None:
    image, mask = pair
    if sample_id is None:
        collector.add_label(mask, None, None)
        return
    ids = read_ids(tree, mask)
    size = tree.size_px(image)
    if not isinstance(ids, Problem) and size is not None and size != (ids.shape[1], ids.shape[0]):
        args: dict[str, Any] = {"mask": f"{ids.shape[1]}x{ids.shape[0]}", "image": f"{size[0]}x{size[1]}"}
        ids = Problem("mask_size_mismatch", args)
    if isinstance(ids, Problem):
        collector.put_out(mask, "label", ids.code, ids.args, sample_id=sample_id)
        return
    for number in np.unique(ids).tolist():
        if number in ignore:
            continue
        row = f"{mask} id {number}"
        if names and number not in names:
            args = {"number": number, "n_px": int((ids == number).sum()), "n_classes": len(names)}
            collector.put_out(row, "label", "unknown_class_id", args, sample_id=sample_id)
            continue
        label = names.get(number, str(number))
        key = f"id {number}"
        collector.add_label(row, sample_id, label, key=key, source_key=key, mask=encode_mask(ids == number))


def read_ids(tree: Tree, name: str) -> np.ndarray | Problem:
    """Return the class ids of a mask, integers of shape (height, width), or why it holds none."""
    from PIL import Image, UnidentifiedImageError  # noqa: PLC0415 - heavy; only masks are decoded here

    try:
        with tree.open(name) as file, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(file) as image:
                if image.width * image.height > MAX_PIXELS:
                    return Problem("mask_file_unreadable", {"file": shown(name), "why": "it has too many pixels"})
                if image.mode not in {"L", "P", "1", "I", "I;16", "I;16B", "RGB", "RGBA", "LA", "PA"}:
                    return Problem("mask_is_color", {"file": shown(name), "mode": image.mode})
                ids = np.asarray(image)
    except (OSError, ValueError, SyntaxError, UnidentifiedImageError, Image.DecompressionBombError) as error:
        return Problem("mask_file_unreadable", {"file": shown(name), "why": shown(str(error))})
    if ids.ndim == 3:  # gray written as RGB is common; real colours name no class
        colors = ids[..., : 3 if ids.shape[2] >= 3 else 1]
        if (colors != colors[..., :1]).any():
            return Problem("mask_is_color", {"file": shown(name), "mode": "RGB"})
        ids = colors[..., 0]
    return ids.astype(np.int64)
