"""YAML with line numbers: safe tags only, and a key that stands twice is an error."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from curate.errors import ConfigError

Loc = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class LocatedYaml:
    """A YAML document as plain values, and the line of every key and item (1-based)."""

    file: Path
    data: Any
    lines: dict[Loc, int]

    def where(self, loc: Loc) -> str:
        """Return "file:line" of the nearest thing on the path that stands in the file."""
        path = tuple(loc)
        while path and path not in self.lines:
            # pydantic puts union tags into its paths; the file does not hold them
            shorter = [path[:i] + path[i + 1 :] for i in range(len(path))]
            path = next((p for p in shorter if p in self.lines), path[:-1])
        return f"{self.file}:{self.lines.get(path, 1)}"

    def leaves(self) -> Iterator[tuple[Loc, Any]]:
        """Yield the path and value of every scalar."""
        yield from _leaves(self.data, ())


def _leaves(value: Any, loc: Loc) -> Iterator[tuple[Loc, Any]]:  # noqa: ANN401 - YAML values
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _leaves(item, (*loc, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _leaves(item, (*loc, index))
    else:
        yield loc, value


def load_yaml(file: Path) -> LocatedYaml:
    """Read one YAML document.

    Raises:
        ConfigError: not UTF-8, not YAML, a tag that would run code, or a key that stands twice.
    """
    try:
        text = file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        msg = f"{file}: a spec must be UTF-8 text; byte {error.start} is not."
        raise ConfigError(msg) from error
    lines: dict[Loc, int] = {(): 1}
    loader = yaml.SafeLoader(text)
    try:
        _refuse_aliases(file, text)
        node = loader.get_single_node()
        if node is None:
            msg = f"{file}: the file is empty; a spec needs at least name and source."
            raise ConfigError(msg)
        _locate(file, node, (), lines)
        data = loader.construct_document(node)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = mark.line + 1 if mark else 1
        problem = getattr(error, "problem", None) or str(error)
        msg = f"{file}:{line}: not valid YAML: {problem}."
        raise ConfigError(msg) from error
    except RecursionError as error:
        msg = f"{file}: not a spec: it is nested deeper than anything a spec holds."
        raise ConfigError(msg) from error
    finally:
        loader.dispose()
    return LocatedYaml(file, data, lines)


def _refuse_aliases(file: Path, text: str) -> None:
    """Refuse `*name`: a few lines of aliases can stand for more values than memory holds."""
    for token in yaml.scan(text, Loader=yaml.SafeLoader):
        if isinstance(token, yaml.AliasToken):
            line = token.start_mark.line + 1
            raise ConfigError(f"{file}:{line}: the alias *{token.value} is not allowed; write the value out.")


def _locate(file: Path, node: yaml.Node, loc: Loc, lines: dict[Loc, int]) -> None:
    if isinstance(node, yaml.MappingNode):
        seen: dict[str, int] = {}
        for key_node, value_node in node.value:
            key, line = key_node.value, key_node.start_mark.line + 1
            if not isinstance(key, str):
                msg = f"{file}:{line}: keys must be plain words."
                raise ConfigError(msg)
            if key in seen:
                msg = f"{file}:{line}: the key {key!r} stands twice (first on line {seen[key]}); keep one."
                raise ConfigError(msg)
            seen[key] = line
            lines[(*loc, key)] = line
            _locate(file, value_node, (*loc, key), lines)
    elif isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            lines[(*loc, index)] = item.start_mark.line + 1
            _locate(file, item, (*loc, index), lines)
