"""Where a path that a source names leads: inside the root or not, there or not. Decided once for all formats."""

from __future__ import annotations

import os
import posixpath
import re
import stat
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

MAX_IMAGE_BYTES = 1 << 30  # more is no image that anybody can decode; a zip may claim it in a few bytes

_URL = re.compile(r"^[A-Za-z][A-Za-z0-9+.-]+://")
_NEEDS_CARE = re.compile(r"^[/.]|\\|//|/\.|/$|^[A-Za-z]:")
_DRIVE = re.compile(r"^[A-Za-z]:[\\/]")


@dataclass(frozen=True, slots=True)
class Problem:
    """Why something is out: a reason code and its arguments."""

    code: str
    args: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Located:
    """A plain file under the root: its path relative to the root (`/` between parts), bytes and time."""

    uri: str
    n_bytes: int
    mtime_ns: int


def base_of(root: Path) -> Path:
    """Return the folder that `uri` and `container` are relative to: the root, or the folder it lies in."""
    return root if root.is_dir() else root.parent


def shown(text: str, n_chars: int = 200) -> str:
    """Return `text` as valid Unicode of at most `n_chars` characters, for rows and reasons."""
    safe = text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return safe if len(safe) <= n_chars else f"{safe[: n_chars - 1]}…"


def unusable_name(path: str) -> Problem | None:
    """Return why `path` cannot be the name of an image, or None."""
    if not path or path.isspace():
        return Problem("path_missing")
    if "\0" in path:
        return Problem("path_unusable", {"path": shown(path.replace("\0", "\\0"))})
    try:
        path.encode("utf-8")
    except UnicodeEncodeError:
        return Problem("name_not_utf8", {"path": shown(path)})
    return None


def member_uri(name: str) -> str | Problem:
    """Return the normal form of a path inside an archive or table, or why it cannot be used.

    Absolute names, drive letters and names that climb out with `..` (in either reading of a backslash) are
    refused: zip-slip. A backslash stays: on Linux it is part of a name.
    """
    problem = unusable_name(name)
    if problem:
        return problem
    if not _NEEDS_CARE.search(name):
        return name
    clean = name.replace("\\", "/")
    if clean.startswith("/") or _DRIVE.match(name) or _climbs(clean):
        return Problem("path_leaves_root", {"path": shown(name)})
    normal = posixpath.normpath(name)
    if normal.startswith("\\"):  # what stands before it went away: now it reads as an absolute name
        return Problem("path_leaves_root", {"path": shown(name)})
    return Problem("path_missing") if normal == "." or normal.isspace() else normal


def _climbs(path: str) -> bool:
    normal = posixpath.normpath(path)
    return normal == ".." or normal.startswith("../")


class Locator:
    """Finds named files under one root; remembers folders, so that a million files cost two calls each."""

    def __init__(self, root: Path) -> None:
        self.base = base_of(root)
        self._real_base = os.path.realpath(self.base)
        self._folders: dict[str, str] = {}

    def locate(self, path: str) -> Located | Problem:
        """Return the file that `path` (relative to the root, or absolute inside it) names, or why it is out.

        A path that is not there as written is tried with backslashes read as `/` and in the other Unicode normal
        forms, because tables travel between systems that write them differently.
        """
        problem = unusable_name(path)
        if problem:
            return problem
        if _URL.match(path):
            return Problem("path_is_url", {"path": shown(path)})
        found = self._locate(path)
        if isinstance(found, Located) or found.code != "missing_file":
            return found
        variants = [path.replace("\\", "/")]
        variants += [unicodedata.normalize(form, variants[0]) for form in ("NFC", "NFD")]
        for variant in dict.fromkeys(variants):
            if variant != path:
                other = self._locate(variant)
                if isinstance(other, Located) or other.code != "missing_file":
                    return other
        return found

    def is_inside(self, path: str) -> bool:
        """Return whether `path`, after every link on the way, lies under the root."""
        return self._is_inside(os.path.realpath(path))

    def _locate(self, path: str) -> Located | Problem:
        leaves = Problem("path_leaves_root", {"path": shown(path)})
        if path.startswith("/") or _DRIVE.match(path):
            relative = self._relative(path)
            if relative is None:
                return leaves
            path = relative
        if _climbs(path):
            return leaves
        uri = posixpath.normpath(path)
        full = f"{self.base}/{uri}"
        try:
            entry = os.lstat(full)
            if not self._stays_inside(full, is_link=stat.S_ISLNK(entry.st_mode)):
                return leaves
            if stat.S_ISLNK(entry.st_mode):
                entry = os.stat(full)  # noqa: PTH116 - a Path object a row would double the cost
        except PermissionError:
            return Problem("unreadable_file", {"path": shown(path)})
        except (OSError, ValueError):  # not there, a loop of links, a part too long for the file system
            return Problem("missing_file", {"path": shown(path)})
        problem = not_a_plain_file(entry, path)
        return problem or Located(uri, entry.st_size, entry.st_mtime_ns)

    def _relative(self, path: str) -> str | None:
        for base in (str(self.base), self._real_base):
            normal = posixpath.normpath(path)
            if normal.startswith(base.rstrip("/") + "/"):
                return normal[len(base.rstrip("/")) + 1 :]
        return None

    def _stays_inside(self, full: str, *, is_link: bool) -> bool:
        if is_link:
            return self._is_inside(os.path.realpath(full))
        folder = posixpath.dirname(full)
        real = self._folders.get(folder)
        if real is None:
            real = self._folders[folder] = os.path.realpath(folder)
        return self._is_inside(real)

    def _is_inside(self, real: str) -> bool:
        return real == self._real_base or real.startswith(self._real_base.rstrip("/") + "/")


def not_a_plain_file(entry: os.stat_result, path: str) -> Problem | None:
    """Return why what was found at `path` holds no image bytes, or None for a plain file with content."""
    if not stat.S_ISREG(entry.st_mode):
        return Problem("not_a_file", {"path": shown(path)})
    if entry.st_size == 0:
        return Problem("zero_bytes", {"path": shown(path)})
    return None
