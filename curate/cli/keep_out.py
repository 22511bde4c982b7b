"""Packages that a command never needs, though a library that it uses would load them where they are installed."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from types import ModuleType


class _Absent(MetaPathFinder):
    def __init__(self, name: str) -> None:
        self._name = name

    def find_spec(self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None) -> None:
        del path, target
        if fullname == self._name:
            raise ModuleNotFoundError(f"{fullname} is kept out of this command", name=fullname)


def keep_out(name: str) -> None:
    """Let this process go on as if the package were not installed; for processes that end with the command."""
    sys.meta_path.insert(0, _Absent(name))
