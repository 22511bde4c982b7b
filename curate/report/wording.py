"""Reasons in the words of a page: file names in the place of ids, numbers as long as people read them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from curate.manifest.read import LoadedRelease
from curate.reasons import render

_ID = re.compile(r"[0-9a-f]{24}")  # schema.stable_id; six digits tell labels of one picture apart


class FileNames(Mapping[str, str]):
    """A short file name for every sample that a release knows, by its id and by its whole uri.

    A page shows a few hundred of them, so they are looked up when they are asked for: a mapping of all would be larger
    than the tables of the release.
    """

    def __init__(self, release: LoadedRelease) -> None:
        self._tables = [table.select(["sample_id", "uri"]) for table in (release.data, release.excluded)]
        self._found: dict[str, str | None] = {}

    def __getitem__(self, key: str) -> str:
        if key not in self._found:
            self._found[key] = self._name(key)
        name = self._found[key]
        if name is None:
            raise KeyError(key)
        return name

    def _name(self, key: str) -> str | None:
        is_id = _ID.fullmatch(key) is not None
        if not is_id and key == short_name(key):
            return key  # a uri as short as that is shown as it is, and so is what is none
        for table in reversed(self._tables):
            at = pc.index(table["sample_id" if is_id else "uri"], pa.scalar(key)).as_py()
            if at >= 0 and table["uri"][at].as_py():
                return short_name(table["uri"][at].as_py())
        return None

    def __iter__(self) -> Iterator[str]:
        for table in self._tables:
            yield from table["sample_id"].drop_null().to_pylist()

    def __len__(self) -> int:
        return sum(len(table) - table["sample_id"].null_count for table in self._tables)


def short_name(uri: str) -> str:
    """Return the file's own name and its folder's; those before are long and say little in a caption."""
    return "/".join(uri.rstrip("/").split("/")[-2:])


def sentence(code: str, args: str | Mapping[str, Any] | None, names: Mapping[str, str]) -> str:
    """Return a reason with ids replaced by file names and numbers by three digits."""
    values = json.loads(args) if isinstance(args, str) and args else args or {}
    return render(code, {key: _plain(value, names) for key, value in values.items()})


def _plain(value: Any, names: Mapping[str, str]) -> Any:  # noqa: ANN401 - any JSON value
    if isinstance(value, float):
        short = float(f"{value:.3g}")
        return int(short) if short.is_integer() else short
    if isinstance(value, str):
        return names.get(value, value[:6] if _ID.fullmatch(value) else value)
    if isinstance(value, list):
        return [_plain(one, names) for one in value]
    return value


def quantity(name: str, value: Any) -> str:  # noqa: ANN401 - evidence writes what is no finite number as a word
    """Return a statistic as people read it: what is a share as per cent, what is a count without decimals."""
    if value is None:
        return "–"  # noqa: RUF001 - a dash for nothing
    try:
        number = float(value)
    except ValueError:
        return str(value)
    if is_share(name):
        return percent(number)
    return f"{number:,.0f}" if number.is_integer() and abs(number) < 1e15 else f"{number:,.3g}"


def is_share(name: str) -> bool:
    """Return whether a statistic of this name is a share of a whole."""
    last = name.rpartition(".")[2]
    return last.startswith(("share", "noise_rate")) or last in {"precision", "recall"}


def percent(value: float) -> str:
    """Return a share as per cent, with more digits where it is small."""
    if value != value:  # noqa: PLR0124 - not a number
        return "not a number"
    digits = 1 if abs(value) >= 0.01 or value == 0 else 2
    text = f"{100 * value:.{digits}f}"
    return f"{text.rstrip('0').rstrip('.')}%" if "." in text else f"{text}%"


def interval(low: float | None, high: float | None, *, share: bool = True) -> str:
    """Return an interval, or nothing where there is none."""
    if low is None or high is None:
        return ""
    ends = (percent(low), percent(high)) if share else (f"{low:.3g}", f"{high:.3g}")
    return " to ".join(ends)
