"""A source root seen as named files, whether it is a folder, a tar or a zip: what annotation formats walk over."""

from __future__ import annotations

import io
import lzma
import tarfile
import weakref
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO

from curate.errors import InputError
from curate.ingest.collect import Collector
from curate.ingest.listing import Entry, is_zip, list_files
from curate.ingest.location import Located, Locator, Problem, base_of, member_uri, shown

SPLIT_NAMES = ("train", "training", "val", "valid", "validation", "test", "testing", "dev", "trainval")
MAX_ANNOTATION_BYTES = 64 * 2**20  # of one XML, text or YAML file; a JSON may be larger


def split_in(name: str) -> str | None:
    """Return the split that a path names ("train" in "train2017/a.jpg"), the last folder first, or None."""
    for part in reversed(name.replace("\\", "/").split("/")):
        words = "".join(char if char.isalpha() else " " for char in part.lower()).split()
        for word in reversed(words):
            if word in SPLIT_NAMES:
                return word
    return None


class Tree:
    """The files under a folder, or the members of one tar or zip, by their `/`-separated names."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.base = base_of(root)
        self.locator = Locator(root)
        self._listed: list[Entry] | None = None
        self._members: dict[str, Entry] | None = None
        if not root.is_dir():
            self._members = {}
            for entry in self.entries():
                self._members.setdefault(entry.path, entry)

    def entries(self) -> list[Entry]:
        """Return every file, sorted by path; hidden ones are left out. Listed once."""
        if self._listed is None:
            self._listed = list_files(self.root)
        return self._listed

    def names(self) -> list[str]:
        """Return every file's name, sorted and once each."""
        return list(dict.fromkeys(entry.path for entry in self.entries()))

    def put_out_damage(self, collector: Collector) -> None:
        """Say that an archive could not be listed to its end."""
        for entry in self.entries() if self._members is not None else ():
            if entry.problem is not None and entry.problem.code == "archive_damaged":
                collector.put_out(entry.path, "image", entry.problem.code, entry.problem.args)

    def has(self, name: str) -> bool:
        """Return whether a usable, non-empty file of that name is there."""
        if self._members is not None:
            return member_uri(name) in self._members
        return isinstance(self.locator.locate(name), Located)

    @contextmanager
    def open(self, name: str) -> Iterator[BinaryIO]:
        """Open a file for reading.

        Raises:
            OSError: it is not there, leaves the root or cannot be read.
        """
        if self._members is None:
            located = self.locator.locate(name)
            if isinstance(located, Problem):
                if located.code != "zero_bytes":  # an empty annotation file says something
                    raise FileNotFoundError(f"{name}: {located.code}")
                yield io.BytesIO()
                return
            with (self.base / located.uri).open("rb") as file:
                yield file
            return
        entry = self._members.get(str(member_uri(name)))
        if entry is None or (entry.problem is not None and entry.problem.code != "zero_bytes"):
            raise FileNotFoundError(f"{name}: not in {self.root.name}")
        try:
            yield io.BytesIO(self._member_bytes(entry))
        except (zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, EOFError) as error:
            raise OSError(f"{name}: {error}") from error

    @cached_property
    def _zip(self) -> tuple[zipfile.ZipFile, dict[str, zipfile.ZipInfo]]:
        archive = zipfile.ZipFile(self.root)
        weakref.finalize(self, archive.close)
        return archive, {str(member_uri(info.filename)): info for info in reversed(archive.infolist())}

    @cached_property
    def _tar(self) -> tarfile.TarFile:
        archive = tarfile.open(self.root)  # noqa: SIM115 - lives as long as the tree
        weakref.finalize(self, archive.close)
        return archive

    def _member_bytes(self, entry: Entry) -> bytes:
        if is_zip(self.root):
            archive, members = self._zip
            return archive.read(members[entry.path])
        stream = self._tar.fileobj
        assert stream is not None  # noqa: S101 - an open tar has one
        stream.seek(entry.container_offset or 0)
        return stream.read(entry.n_bytes)

    def read(self, name: str, *, max_bytes: int = MAX_ANNOTATION_BYTES) -> bytes:
        """Return the bytes of a file.

        Raises:
            OSError: as `open`, or it is larger than `max_bytes`.
        """
        with self.open(name) as file:
            data = file.read(max_bytes + 1)
        if len(data) > max_bytes:
            raise OSError(f"{name}: larger than {max_bytes} bytes")
        return data

    def read_text(self, name: str) -> str:
        """Return a file as text: UTF-8 (with or without a mark), UTF-16 with one.

        Raises:
            OSError: as `read`.
            UnicodeDecodeError: it is neither.
        """
        data = self.read(name)
        if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
            return data.decode("utf-16")
        return data.decode("utf-8-sig")

    def size_px(self, name: str) -> tuple[int, int] | None:
        """Return (width, height) of an image as it is shown (after the EXIF rotation), from its header, or None."""
        import warnings  # noqa: PLC0415 - with PIL, only where a size is asked for

        from PIL import Image, UnidentifiedImageError  # noqa: PLC0415 - heavy; loaded when a header is read

        try:
            with self.open(name) as file, warnings.catch_warnings():
                warnings.simplefilter("ignore")
                with Image.open(file) as image:
                    width, height = image.size
                    orientation = image.getexif().get(0x0112, 1)
        except (OSError, ValueError, SyntaxError, UnidentifiedImageError, Image.DecompressionBombError):
            return None
        return (height, width) if orientation in {5, 6, 7, 8} else (width, height)

    def add_image(self, collector: Collector, row: str, uri: str, **image: Any) -> str | None:  # noqa: ANN401
        """Add the image called `uri` to `collector`, with its place in an archive; `image` as in `add_image`."""
        if self._members is None:
            return collector.add_image(row, uri, **image)
        name = member_uri(uri)
        entry = None if isinstance(name, Problem) else self._members.get(name)
        problem = name if isinstance(name, Problem) else entry.problem if entry else _missing(uri)
        if problem is not None or entry is None:
            problem = problem or _missing(uri)
            collector.put_out(row, "image", problem.code, problem.args)
            return None
        return collector.add_image(row, entry.path, **entry.place, **image)


def _missing(uri: str) -> Problem:
    return Problem("missing_file", {"path": shown(uri)})


def listed(value: Any, *, option: str) -> list[str]:  # noqa: ANN401 - any YAML value
    """Return an option that may be one name or a list of names as a list.

    Raises:
        InputError: it is neither.
    """
    if isinstance(value, str):
        return [value]
    if isinstance(value, list | tuple) and all(isinstance(item, str) for item in value):
        return list(value)
    if isinstance(value, Mapping) and all(isinstance(item, str) for item in value.values()):
        return list(value.values())
    raise InputError(f"source.{option} must be a name or a list of names; it is {value!r}.")
