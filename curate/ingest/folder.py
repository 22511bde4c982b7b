"""A folder per class, as a folder or inside a tar or zip; split folders above are recognised.

| path | split | label |
| --- | --- | --- |
| `cat/a.jpg` | null | cat |
| `train/cat/a.jpg`, `val/dog/b.jpg` | train, val | cat, dog |
| `train/a.jpg`, where all top folders are splits | train | none (unlabeled) |
| `a.jpg` | null | none (unlabeled) |
| `unlabeled/a.jpg` | null | none (unlabeled) |

- Split folders: train, training, val, valid, validation, dev, test, testing, in upper or lower case, taken as
  train, val and test if every top folder has such a name (a class may be called "train" beside "car").
  `split_folders: true|false` decides where that guess is wrong.
- Deeper folders: the class is the first level (`class_level: first`, as torchvision reads it), the last one
  (`last`, as Hugging Face does), or all of them joined with `/` (`path`).
- One folder around everything is no class: an archive's own name, or `data/` if more folders follow in it.
- `negative/` is a class like any other; only `unlabeled/` (`unlabelled/`) is not.
- Each file is one outcome. A file that is not called like an image is out, except documents beside the class
  folders (README, LICENSE, *.txt, *.csv, …) and files of the system (see `listing.list_files`): these are no data.
"""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from curate.errors import ConfigError, did_you_mean
from curate.ingest.collect import Collector
from curate.ingest.listing import Entry, is_image_name, is_tar, is_zip, list_files
from curate.ingest.location import shown
from curate.ingest.source import Ingested, ReadOptions
from curate.ingest.splits import SPLIT_NAMES

UNLABELED_NAMES = frozenset({"unlabeled", "unlabelled"})
CLASS_LEVELS = ("first", "last", "path")
_DOCUMENT_ENDINGS = frozenset(
    f".{ending}"
    for ending in ("txt", "md", "rst", "csv", "tsv", "json", "jsonl", "yaml", "yml", "html", "pdf", "log")
)
_DOCUMENT_NAMES = ("readme", "license", "licence", "copying", "notice", "citation", "checksums")


@dataclass(frozen=True, slots=True)
class Layout:
    """How the folders of a source are to be read."""

    wrapper: tuple[str, ...]
    has_splits: bool
    class_level: str

    def inner(self, path: str) -> list[str]:
        """Return the folders of `path` below the wrapper."""
        folders = path.split("/")[:-1]
        n = len(self.wrapper)
        return folders[n:] if tuple(folders[:n]) == self.wrapper else folders

    def split_and_label(self, path: str) -> tuple[str | None, str | None]:
        """Return the split and the class that the folders of `path` say, None where they say none."""
        folders = self.inner(path)
        split = None
        if self.has_splits and folders and folders[0].lower() in SPLIT_NAMES:
            split = SPLIT_NAMES[folders[0].lower()]
            folders = folders[1:]
        if not folders or folders[0].lower() in UNLABELED_NAMES:
            return split, None
        chosen = {"first": folders[:1], "last": folders[-1:], "path": folders}[self.class_level]
        return split, "/".join(chosen)


def layout_of(
    paths: Sequence[str], *, archive_stem: str | None, has_splits: bool | None = None, class_level: str = "first"
) -> Layout:
    """Return the layout of image `paths`; `archive_stem` is the archive's name without endings, if it is one."""
    folders = [path.split("/")[:-1] for path in paths]
    wrapper = _wrapper(folders, lambda name, _: name == archive_stem)
    wrapper += _wrapper([parts[len(wrapper) :] for parts in folders], lambda _, is_deep: is_deep)
    folders = [parts[len(wrapper) :] for parts in folders]
    top = {parts[0].lower() for parts in folders if parts}
    looks_split = bool(top & SPLIT_NAMES.keys()) and top <= SPLIT_NAMES.keys() | UNLABELED_NAMES
    return Layout(wrapper, looks_split if has_splits is None else has_splits, class_level)


def _wrapper(folders: Sequence[Sequence[str]], accept: Callable[[str, bool], bool]) -> tuple[str, ...]:
    """Return the one folder around everything, if it is no split and `accept(name, a level follows)`."""
    top = {parts[0] if parts else "" for parts in folders}
    name = top.pop() if len(top) == 1 else ""
    if not name or name.lower() in SPLIT_NAMES | dict.fromkeys(UNLABELED_NAMES):
        return ()
    return (name,) if accept(name, all(len(parts) > 1 for parts in folders)) else ()


def _is_document(path: str, layout: Layout) -> bool:
    folders = layout.inner(path)
    if len(folders) > 1 or (folders and folders[0].lower() not in SPLIT_NAMES):
        return False
    name = posixpath.basename(path).lower()
    return posixpath.splitext(name)[1] in _DOCUMENT_ENDINGS or name.startswith(_DOCUMENT_NAMES)


def refuse_columns(options: ReadOptions, name: str) -> None:
    """Raise a ConfigError if the spec names columns for a format that has none."""
    asked = {"columns": options.columns, "attributes": options.attributes, "groups": options.groups}
    for key, value in asked.items():
        if value:
            raise ConfigError(
                f"The format {name} has no columns, but the spec names some under {key}: "
                f"{', '.join(sorted(value))}. Remove them, or list the images in a table and use the format table."
            )


class Folder:
    """Images in a folder per class."""

    name = "folder"
    option_names = ("class_level", "split_folders")

    def recognises(self, path: Path) -> Mapping[str, Any] | None:
        """Return {} for a folder, tar or zip in which at least one file is called like an image."""
        if not (path.is_dir() or (path.is_file() and (is_tar(path) or is_zip(path)))):
            return None
        return {} if any(is_image_name(entry.path) for entry in list_files(path)) else None

    def remarks(self, path: Path) -> Sequence[str]:
        """Return what `curate init` says of the folder: how many images and classes, and what looks odd."""
        found = self.read(ReadOptions(source="init", root=path))
        n_classes = len(found.classes)
        classes = "1 class" if n_classes == 1 else f"{n_classes:,} classes"
        told = [f"{found.samples.num_rows:,} images, {found.labels.num_rows:,} labels, {classes}"]
        if not found.labels.num_rows:
            told.append("No folder names a class: the images are unlabeled.")
        elif n_classes == 1:
            told.append(
                f"The only folder, {found.classes[0]!r}, is taken for the class of every image. Is it one? If labels "
                f"stand in a file beside it, give the file, or its format: table, coco, or fiftyone with a type."
            )
        return told

    def read(self, options: ReadOptions) -> Ingested:
        """Read the files in the order of their paths.

        Raises:
            InputError: nothing there, or no file at all.
            ConfigError: an unknown `class_level`, or columns in the spec.
        """
        refuse_columns(options, self.name)
        class_level = str(options.options.get("class_level", "first"))
        if class_level not in CLASS_LEVELS:
            hint = did_you_mean(class_level, CLASS_LEVELS)
            raise ConfigError(
                f"source.class_level must be one of {', '.join(CLASS_LEVELS)}; "
                f"it is {class_level!r}. {hint}".rstrip()
            )
        has_splits = options.options.get("split_folders")
        if not isinstance(has_splits, bool | None):
            raise ConfigError(f"source.split_folders must be true or false; it is {has_splits!r}.")
        entries = list_files(options.root)
        images = [entry.path for entry in entries if is_image_name(entry.path)]
        layout = layout_of(
            images,
            archive_stem=None if options.root.is_dir() else archive_stem(options.root),
            has_splits=has_splits,
            class_level=class_level,
        )
        collector = Collector(options)
        for entry in entries:
            _collect(collector, entry, layout)
        return collector.finish()


def archive_stem(path: Path) -> str:
    """Return the name of an archive without its endings: `photos` for `photos.tar.gz`."""
    stem, ending = posixpath.splitext(path.name)
    return stem.removesuffix(".tar") if ending.lower() in {".gz", ".bz2", ".xz"} else stem


def _collect(collector: Collector, entry: Entry, layout: Layout) -> None:
    row = shown(entry.path, 4096)
    if not is_image_name(entry.path) and (entry.problem is None or entry.problem.code == "zero_bytes"):
        if not _is_document(entry.path, layout):
            collector.put_out(row, "image", "not_an_image_name", {"path": shown(entry.path)})
        return
    if entry.problem is not None:
        collector.put_out(row, "image", entry.problem.code, entry.problem.args)
        return
    split, label = layout.split_and_label(entry.path)
    collector.add_labeled_image(row, entry.path, label, split=split, **entry.place)


SOURCE = Folder()
