"""Suites as committed files: found, read, and filled in with the sets that are known only once the data is."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from curate.errors import ConfigError, did_you_mean

ALLOWED = "$allowed"


@dataclass(frozen=True, slots=True)
class Expectation:
    """One line of a suite, with its placeholders filled in; `error` says why it cannot be judged."""

    position: int
    type: str
    kwargs: Mapping[str, Any]
    severity: str
    clauses: tuple[str, ...]
    nullable: bool
    error: str | None = None


def suite_folder() -> Path:
    """Return the folder of the committed suites: package data of a wheel, or the top of a checkout."""
    here = Path(__file__).parents[1]
    packaged = here / "expectations"
    return packaged if packaged.is_dir() else here.parent / "expectations"


def load_suite(suite: str, folder: Path | None = None) -> dict[str, Any]:
    """Return the suite called `suite` as it stands in its file.

    Raises:
        ConfigError: there is no such suite, or the file is none.
    """
    folder = folder or suite_folder()
    names = sorted(path.stem for path in folder.glob("*.json"))
    if suite not in names:
        hint = did_you_mean(suite, names)
        raise ConfigError(f"There is no suite {suite!r}. Suites: {', '.join(names) or 'none'}. {hint}".rstrip())
    try:
        document = json.loads((folder / f"{suite}.json").read_text(encoding="utf-8"))
    except ValueError as error:
        raise ConfigError(f"The suite {suite}.json is not JSON: {error}") from error
    items = document.get("expectations") if isinstance(document, dict) else None
    if not isinstance(items, list) or not items or not all(isinstance(i, dict) and "type" in i for i in items):
        raise ConfigError(f"The suite {suite}.json needs a list 'expectations' with at least one 'type' in it.")
    return dict(document)


def filled(position: int, item: Mapping[str, Any], allowed: Mapping[str, Sequence[Any]]) -> Expectation:
    """Return a line of a suite as an expectation, its placeholders filled in."""
    kwargs, error = dict(item.get("kwargs", {})), None
    for name, value in kwargs.items():
        if isinstance(value, dict) and ALLOWED in value:
            wanted = str(value[ALLOWED])
            if wanted not in allowed:
                error = f"the suite needs the set {wanted!r}; given: {', '.join(sorted(allowed)) or 'none'}"
            kwargs[name] = sorted(allowed.get(wanted, ()), key=str)
    if "mostly" in kwargs:
        error = "'mostly' is not used here: how many rows may fail is a gate's to say"
    meta = item.get("meta", {})
    severity = str(item.get("severity", "critical"))
    if severity not in {"critical", "warning", "info"}:
        error = f"the severity must be critical, warning or info; given: {severity!r}"
    clauses = tuple(str(clause) for clause in meta.get("clauses", ()))
    nullable = meta.get("nullable") is True
    return Expectation(position, str(item["type"]), kwargs, severity, clauses, nullable, error)


def columns_of(expectation: Expectation) -> list[str]:
    """Return the columns that an expectation is about."""
    named = [expectation.kwargs.get(name) for name in ("column", "column_A", "column_B")]
    return [str(n) for n in (*named, *expectation.kwargs.get("column_list", ())) if n is not None]
