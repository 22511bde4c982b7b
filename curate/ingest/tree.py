"""A source root seen as named files, whether it is a folder, a tar or a zip: what annotation formats walk over."""

from __future__ import annotations

import io
import os
import tarfile
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from curate.errors import InputError
from curate.ingest.collect import Collector
from curate.ingest.location import Located, Locator, Problem, base_of, member_uri, shown

IMAGE_ENDINGS = frozenset(
    {".jpg", ".jpeg", ".jpe", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm", ".jp2", ".avif"}
)
SPLIT_NAMES = ("train", "training", "val", "valid", "validation", "test", "testing", "dev", "trainval")
MAX_ANNOTATION_BYTES = 64 * 2**20  # of one XML, text or YAML file; a JSON may be larger
MAX_HEADER_PIXELS = 400_000_000


def is_image_name(name: str) -> bool:
    """Return whether `name` ends like an image file, in upper or lower case."""
    return os.path.splitext(name)[1].lower() in IMAGE_ENDINGS  # noqa: PTH122 - names of members are no paths


def split_in(name: str) -> str | None:
    """Return the split that a path names ("train" in "train2017/a.jpg"), the last folder first, or None."""
    for part in reversed(name.replace("\\", "/").split("/")):
        words = "".join(char if char.isalpha() else " " for char in part.lower()).split()
        for word in reversed(words):
            if word in SPLIT_NAMES:
                return word
    return None


class Tree:
    """The files under a folder, or the members of one tar or zip, by their `/`-separated names.

    Only plain files and members count. Links inside archives, devices and names that climb out are not there; a
    link in a folder is followed while it stays inside the root.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.base = base_of(root)
        self.locator = Locator(root)
        self._members: dict[str, dict[str, Any]] | None = None
        self._names: list[str] | None = None
        self._tar: tarfile.TarFile | None = None
        self._zip: zipfile.ZipFile | None = None
        if root.is_file():
            self._open_archive()
        elif not root.is_dir():
            raise InputError(f"There is nothing at {root}. Check source.path in the spec.")

    @property
    def is_archive(self) -> bool:
        """Whether the root is a tar or a zip."""
        return self._members is not None

    def _open_archive(self) -> None:
        members: dict[str, dict[str, Any]] = {}
        try:
            if zipfile.is_zipfile(self.root):
                self._zip = zipfile.ZipFile(self.root)
                for info in self._zip.infolist():
                    uri = member_uri(info.filename)
                    if isinstance(uri, str) and not info.is_dir():
                        members[uri] = {"member": info, "offset": None, "n_bytes": info.file_size}
            elif tarfile.is_tarfile(self.root):
                self._tar, is_plain = _open_tar(self.root)
                for member in self._tar:
                    uri = member_uri(member.name)
                    if isinstance(uri, str) and member.isreg():
                        offset = member.offset_data if is_plain else None
                        members[uri] = {"member": member, "offset": offset, "n_bytes": member.size}
            else:
                return
        except (OSError, zipfile.BadZipFile, tarfile.TarError, EOFError) as error:
            msg = f"{self.root} looks like an archive and cannot be listed ({error}). Is it complete?"
            raise InputError(msg) from error
        self._members = members

    def names(self) -> list[str]:
        """Return every file's name, sorted; hidden files and folders are left out."""
        if self._names is None:
            found = self._members if self._members is not None else self._walk()
            visible = (name for name in found if not any(part.startswith(".") for part in name.split("/")))
            self._names = sorted(name for name in visible if not name.startswith("__MACOSX/"))
        return self._names

    def _walk(self) -> Iterator[str]:
        base = str(self.base)
        for folder, subfolders, files in os.walk(base):
            subfolders[:] = [name for name in subfolders if not name.startswith(".")]
            prefix = os.path.relpath(folder, base).replace(os.sep, "/")
            yield from files if prefix == "." else (f"{prefix}/{name}" for name in files)

    def has(self, name: str) -> bool:
        """Return whether a usable, non-empty file of that name is there."""
        if self._members is not None:
            uri = member_uri(name)
            return isinstance(uri, str) and uri in self._members
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
                raise FileNotFoundError(f"{name}: {located.code}")
            with (self.base / located.uri).open("rb") as file:
                yield file
            return
        uri = member_uri(name)
        entry = self._members.get(uri) if isinstance(uri, str) else None
        if entry is None:
            raise FileNotFoundError(f"{name}: not in {self.root.name}")
        try:
            if self._zip is not None:
                with self._zip.open(entry["member"]) as member:
                    yield io.BytesIO(member.read())
            else:
                assert self._tar is not None  # noqa: S101 - an archive is one of the two
                opened = self._tar.extractfile(entry["member"])
                yield io.BytesIO(opened.read() if opened else b"")
        except (zipfile.BadZipFile, tarfile.TarError, EOFError, RuntimeError, NotImplementedError) as error:
            raise OSError(f"{name}: {error}") from error

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
        if isinstance(name, Problem):
            collector.put_out(row, "image", name.code, name.args)
            return None
        entry = self._members.get(name)
        if entry is None:
            collector.put_out(row, "image", "missing_file", {"path": shown(uri)})
            return None
        return collector.add_image(
            row,
            name,
            container=self.root.name,
            container_offset=entry["offset"],
            n_bytes=entry["n_bytes"],
            mtime_ns=self.root.stat().st_mtime_ns,
            token=(self.root.name, entry["offset"]),
            **image,
        )


def _open_tar(path: Path) -> tuple[tarfile.TarFile, bool]:
    """Open a tar; also say whether it is uncompressed, so that offsets are places in the file."""
    try:
        return tarfile.open(path, "r:"), True
    except tarfile.ReadError:
        return tarfile.open(path, "r:*"), False


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
