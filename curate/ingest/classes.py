"""Whether a given label is a class: declared, by alias, or any text that can be one."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping

from curate.errors import did_you_mean
from curate.ingest.location import Problem, shown

MAX_LABEL_CHARS = 200
_NO_VALUE = frozenset({"nan", "NaN", "NaT", "<NA>"})  # an empty cell that went through a program as text


class ClassNames:
    """Judges labels; each spelling once, however many rows have it.

    Args:
        classes: the declared ones, None to take any.
        aliases: given label -> class.
    """

    def __init__(self, classes: tuple[str, ...] | None, aliases: Mapping[str, str]) -> None:
        self._classes = classes
        self._aliases = aliases
        self._known: dict[str, str | Problem] = {}

    def judge(self, label: str) -> str | Problem:
        """Return the class that `label` stands for, or why it stands for none."""
        known = self._known.get(label)
        if known is None:
            known = self._known[label] = self._judge(label)
        return known

    def _judge(self, label: str) -> str | Problem:
        name = self._aliases.get(label, label)
        if len(name) > MAX_LABEL_CHARS:
            return Problem("label_too_long", {"n_chars": len(name), "label": shown(name, 40)})
        if any(unicodedata.category(char) in {"Cc", "Cs"} for char in name):
            return Problem("label_unprintable", {"label": shown(ascii(name)[1:-1])})
        if self._classes is None and name in _NO_VALUE:
            return Problem("label_no_value", {"label": name})
        if self._classes is not None and name not in self._classes:
            return Problem("unknown_class", {"label": name, "hint": did_you_mean(name, self._classes)})
        return name
