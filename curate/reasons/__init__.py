"""Reason codes to sentences: findings carry a code and its arguments; whoever shows them makes the text."""

from __future__ import annotations

import json
import pkgutil
import string
from collections.abc import Mapping
from functools import cache
from importlib import import_module
from typing import Any


@cache
def sentences() -> Mapping[str, str]:
    """Return every reason code with its sentence, from the `SENTENCES` of each module of this package."""
    found: dict[str, str] = {}
    for module in pkgutil.iter_modules(__path__):
        for code, sentence in import_module(f"{__name__}.{module.name}").SENTENCES.items():
            if found.setdefault(code, sentence) != sentence:
                raise ValueError(f"the reason code {code!r} has two sentences; one is in {module.name}.py")
    return found


@cache
def further() -> Mapping[str, tuple[str, frozenset[str]]]:
    """Return what is added to the sentence of a code where all its arguments are there, with their names."""
    found: dict[str, tuple[str, frozenset[str]]] = {}
    for module in pkgutil.iter_modules(__path__):
        for code, added in getattr(import_module(f"{__name__}.{module.name}"), "FURTHER", {}).items():
            names = frozenset(name for _, name, _, _ in string.Formatter().parse(added) if name)
            found[code] = (added, names)
    return found


class _Forgiving(string.Formatter):
    """A formatter to which an absent argument is "?": a reason from a newer version is still readable."""

    def get_value(self, key: int | str, args: Any, kwargs: Any) -> Any:  # noqa: ANN401 - string.Formatter's own types
        return kwargs.get(key, "?") if isinstance(key, str) else super().get_value(key, args, kwargs)

    def format_field(self, value: Any, format_spec: str) -> Any:  # noqa: ANN401 - string.Formatter's own types
        try:
            return super().format_field(value, format_spec)
        except (TypeError, ValueError):
            return str(value)


_FORMATTER = _Forgiving()


def render(code: str, args: str | Mapping[str, Any] | None = None) -> str:
    """Return the sentence of a reason.

    Args:
        code: a reason code; an unknown one is shown as it is, with its arguments.
        args: its arguments, as a mapping or as the canonical JSON that findings hold.
    """
    values: Mapping[str, Any] = json.loads(args) if isinstance(args, str) and args else args or {}
    template = sentences().get(code)
    if template is None:
        shown = ", ".join(f"{key}={value}" for key, value in sorted(values.items()))
        return f"{code.replace('_', ' ')}{f' ({shown})' if shown else ''}"
    added, names = further().get(code, ("", frozenset()))
    return _FORMATTER.vformat(template + (added if names <= values.keys() else ""), (), values)
