"""The files of a folder, a tar or a zip as one flat list: the same layout reads the same from each.

A format walks the list and never asks where the bytes are; `Collector.add_image(**entry.place)` passes it on.
"""

from __future__ import annotations

import lzma
import os
import posixpath
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from curate.errors import InputError
from curate.ingest.location import Locator, Problem, member_uri, not_a_plain_file, shown

IMAGE_ENDINGS = frozenset(
    f".{ending}"
    for ending in (
        *("jpg", "jpeg", "jpe", "jfif", "png", "gif", "webp", "bmp", "dib", "tif", "tiff"),
        *("ppm", "pgm", "pbm", "pnm", "jp2", "j2k", "avif", "heic", "heif"),
    )
)
TAR_ENDINGS = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")
ZIP_ENDINGS = (".zip",)

_SYSTEM_FILES = frozenset({"thumbs.db", "desktop.ini", "icon\r"})
_ARCHIVE_ERRORS = (tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, OSError)


@dataclass(frozen=True, slots=True)
class Entry:
    """A file by its path relative to the folder or inside the archive; `problem` says why it cannot be used."""

    path: str
    n_bytes: int
    mtime_ns: int
    container: str | None = None
    container_offset: int | None = None
    problem: Problem | None = None
    crc: int | None = None  # zip: tells two members of one name apart

    @property
    def place(self) -> dict[str, Any]:
        """Return the arguments of `Collector.add_image` that say where the bytes are."""
        return {
            "container": self.container,
            "container_offset": self.container_offset,
            "n_bytes": self.n_bytes,
            "mtime_ns": self.mtime_ns,
            "token": (self.container, self.container_offset, self.crc),
        }


def is_image_name(path: str) -> bool:
    """Return whether `path` ends like an image, in upper or lower case."""
    return posixpath.splitext(path)[1].lower() in IMAGE_ENDINGS


def is_tar(path: Path | str) -> bool:
    """Return whether `path` is called like a tar, compressed or not."""
    return str(path).lower().endswith(TAR_ENDINGS)


def is_zip(path: Path | str) -> bool:
    """Return whether `path` is called like a zip."""
    return str(path).lower().endswith(ZIP_ENDINGS)


def list_files(root: Path) -> list[Entry]:
    """Return the files under a folder or in a tar or zip, sorted by path.

    Hidden files, `__MACOSX/`, Thumbs.db and desktop.ini belong to a system, not to the data: they are not listed.
    A file that cannot be used (link out of the root, pipe, device, damaged archive) is listed with its problem.

    Raises:
        InputError: `root` is not there, or neither a folder nor an archive.
    """
    if root.is_dir():
        entries = _in_folder(root)
    elif not root.is_file():
        raise InputError(f"There is nothing at {root}. Give a folder, a tar or a zip with images in source.path.")
    elif is_tar(root):
        entries = _in_tar(root)
    elif is_zip(root):
        entries = _in_zip(root)
    else:
        raise InputError(
            f"{root.name} is neither a folder nor an archive ({', '.join((*TAR_ENDINGS, *ZIP_ENDINGS))}). "
            f"Give one of these in source.path, or name another source.format."
        )
    listed = [entry for entry in entries if not _is_of_system(entry.path)]
    listed.sort(key=lambda entry: (entry.path, entry.container_offset or 0))
    return listed


def _is_of_system(path: str) -> bool:
    parts = path.split("/")
    hidden = any(part.startswith(".") and part not in {".", ".."} for part in parts)
    return hidden or parts[0] == "__MACOSX" or parts[-1].lower() in _SYSTEM_FILES


def _in_folder(root: Path) -> Iterator[Entry]:
    """Walk the real folders; a link to a file is judged, one to a folder is followed nowhere.

    What a linked folder holds is listed where it lies if that is inside the root, and is out if not.
    """
    locator = Locator(root)
    pending = [""]
    while pending:
        folder = pending.pop()
        try:
            with os.scandir(root / folder) as found:
                children = list(found)
        except OSError:
            yield Entry(folder, 0, 0, problem=Problem("unreadable_file", {"path": shown(folder)}))
            continue
        for child in children:
            path = f"{folder}/{child.name}" if folder else child.name
            if not _is_folder(child):
                yield _plain(child, path, locator)
            elif child.is_symlink():
                if not locator.is_inside(child.path):
                    yield Entry(path, 0, 0, problem=Problem("path_leaves_root", {"path": shown(path)}))
            else:
                pending.append(path)
                if is_image_name(path):
                    yield Entry(path, 0, 0, problem=Problem("not_a_file", {"path": shown(path)}))


def _is_folder(child: os.DirEntry[str]) -> bool:
    try:
        return child.is_dir()
    except OSError:  # a loop of links
        return False


def _plain(child: os.DirEntry[str], path: str, locator: Locator) -> Entry:
    if child.is_symlink():
        located = locator.locate(path)
        if isinstance(located, Problem):
            return Entry(path, 0, 0, problem=located)
        return Entry(path, located.n_bytes, located.mtime_ns)
    try:
        status = child.stat(follow_symlinks=False)
    except OSError:
        return Entry(path, 0, 0, problem=Problem("missing_file", {"path": shown(path)}))
    problem = member_uri(path) if _odd(path) else None
    bad = problem if isinstance(problem, Problem) else not_a_plain_file(status, path)
    return Entry(path, status.st_size, status.st_mtime_ns, problem=bad)


def _odd(path: str) -> bool:
    return not path.isprintable() or "\\" in path


def _in_tar(file: Path) -> Iterator[Entry]:
    """List a tar by its headers alone; offsets are those of the uncompressed stream."""
    mtime_ns = file.stat().st_mtime_ns
    regular: dict[str, tuple[int, int]] = {}
    try:
        with tarfile.open(file, "r:*") as archive:
            for member in archive:
                if member.isdir():
                    continue
                place = _tar_place(member, regular)
                if isinstance(place, Problem):
                    yield Entry(shown(member.name, 4096), 0, mtime_ns, file.name, member.offset, problem=place)
                else:
                    path, offset, n_bytes = place
                    bad = None if n_bytes else Problem("zero_bytes", {"path": shown(path)})
                    yield Entry(path, n_bytes, mtime_ns, file.name, offset, bad)
    except _ARCHIVE_ERRORS as error:
        yield _damaged(file, error)


def _tar_place(member: tarfile.TarInfo, regular: dict[str, tuple[int, int]]) -> tuple[str, int, int] | Problem:
    """Return (path, offset, bytes) of a member; a hard link to an earlier member is that member's bytes."""
    uri = member_uri(member.name)
    if isinstance(uri, Problem):
        return uri
    if member.isreg() and member.sparse is None:
        regular[uri] = (member.offset_data, member.size)
        return (uri, *regular[uri])
    if member.islnk():
        target = member_uri(member.linkname)
        if isinstance(target, Problem):
            return target
        if target in regular:
            return (uri, *regular[target])
    return Problem("not_a_file", {"path": shown(member.name)})


def _in_zip(file: Path) -> Iterator[Entry]:
    mtime_ns = file.stat().st_mtime_ns
    try:
        with zipfile.ZipFile(file) as archive:
            for info in archive.infolist():
                if info.is_dir():
                    continue
                uri = member_uri(info.filename)
                problem = uri if isinstance(uri, Problem) else _zip_problem(info)
                path = uri if isinstance(uri, str) else shown(info.filename, 4096)
                yield Entry(path, info.file_size, mtime_ns, file.name, None, problem, info.CRC)
    except _ARCHIVE_ERRORS as error:
        yield _damaged(file, error)


def _zip_problem(info: zipfile.ZipInfo) -> Problem | None:
    mode = info.external_attr >> 16
    if mode and stat.S_IFMT(mode) not in {0, stat.S_IFREG}:
        return Problem("not_a_file", {"path": shown(info.filename)})
    if info.flag_bits & 1:
        return Problem("encrypted", {"path": shown(info.filename)})
    return None if info.file_size else Problem("zero_bytes", {"path": shown(info.filename)})


def _damaged(file: Path, error: BaseException) -> Entry:
    args = {"path": shown(file.name), "message": shown(str(error))}
    return Entry(file.name, 0, 0, file.name, None, Problem("archive_damaged", args))
