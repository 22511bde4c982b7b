"""What an erased sample can be recognised by in a text: its ids, its paths, the hashes of its bytes and pixels."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

ID_CHARS = 24  # of ids; longer hashes are recognised by as many
GONE = "(erased)"  # stands where a text named an erased sample
_HEX = re.compile(r"[0-9a-f]{24,}")
_NAME_CHAR = re.compile(r"[\w-]")


@dataclass(frozen=True)
class Traces:
    """What to look for.

    Attributes:
        hashes: ids of samples, labels and findings; hashes of bytes and of pixels; hex, 24 characters or more.
        uris: paths relative to their source's root.
        roots: absolute paths that a text may put before a uri.
        subjects: as the source names them; looked for as whole values only, since a subject may be called "7".
    """

    hashes: frozenset[str]
    uris: tuple[str, ...] = ()
    roots: tuple[str, ...] = ()
    subjects: tuple[str, ...] = ()

    @cached_property
    def _starts(self) -> frozenset[str]:
        return frozenset(one[:ID_CHARS] for one in self.hashes)

    def within(self, folder: str) -> Traces:
        """Return what to look for in files of a folder that a uri begins with: they may name it without the folder."""
        short = tuple(uri.removeprefix(f"{folder}/") for uri in self.uris if uri.startswith(f"{folder}/"))
        return replace(self, uris=(*self.uris, *short)) if short else self

    def hits(self, text: str) -> bool:
        """Return whether a text names anything erased."""
        if any(match[:ID_CHARS] in self._starts for match in _HEX.findall(text)):
            return True
        return any(uri in text and any(True for _ in self._places(text, uri)) for uri in self.uris)

    def scrubbed(self, text: str) -> str:
        """Return a text without what names something erased."""
        text = _HEX.sub(lambda match: GONE if match[0][:ID_CHARS] in self._starts else match[0], text)
        for uri in self.uris:
            for start in reversed(list(self._places(text, uri))):
                text = text[:start] + GONE + text[start + len(uri) :]
        return text

    def scrub_json(self, value: Any) -> Any:  # noqa: ANN401 - any JSON value
        """Return a JSON value without what names something erased, keys included."""
        if isinstance(value, str):
            return GONE if value in self.subjects else self.scrubbed(value)
        if isinstance(value, Mapping):
            return {self.scrubbed(str(key)): self.scrub_json(inner) for key, inner in value.items()}
        if isinstance(value, list | tuple):
            return [self.scrub_json(inner) for inner in value]
        return value

    def json_hits(self, value: Any) -> bool:  # noqa: ANN401 - any JSON value
        """Return whether a JSON value names anything erased."""
        if isinstance(value, str):
            return self.hits(value)
        if isinstance(value, Mapping):
            return any(self.hits(str(key)) or self.json_hits(inner) for key, inner in value.items())
        return isinstance(value, list | tuple) and any(self.json_hits(inner) for inner in value)

    def rows(self, table: pa.Table) -> list[bool]:
        """Return for each row of a table whether any text in it, lists and JSON included, names something erased."""
        found = [False] * table.num_rows
        for name in table.column_names:
            for at in self._column_hits(table[name]):
                found[at] = True
        return found

    def _column_hits(self, column: pa.ChunkedArray | pa.Array) -> Iterable[int]:
        array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
        kind = array.type
        if pa.types.is_dictionary(kind):
            return self._column_hits(array.cast(kind.value_type))
        if pa.types.is_string(kind) or pa.types.is_large_string(kind):
            return self._text_hits(array)
        if pa.types.is_map(kind) or pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
            return self._slow_hits(array)
        if pa.types.is_struct(kind):
            inner = [self._column_hits(pc.struct_field(array, index)) for index in range(kind.num_fields)]
            return sorted({at for hits in inner for at in hits})
        if pa.types.is_nested(kind):
            found = list(self._column_hits(pc.list_flatten(array)))
            return pc.list_parent_indices(array).take(pa.array(found, pa.int64())).to_pylist() if found else ()
        return ()

    def _text_hits(self, array: pa.Array) -> Iterable[int]:
        bad = self._bad([value for value in pc.unique(array).to_pylist() if value is not None])
        if not bad:
            return ()
        which = pc.fill_null(pc.is_in(array, value_set=pa.array(bad, array.type)), False)  # noqa: FBT003 - pyarrow
        return [int(at) for at in pc.indices_nonzero(which).to_pylist()]

    def _slow_hits(self, array: pa.Array) -> Iterable[int]:
        """Look at each value; of maps, only where one of their keys or values hits at all."""
        if pa.types.is_map(array.type) and not (
            any(True for _ in self._column_hits(array.keys)) or any(True for _ in self._column_hits(array.items))
        ):
            return ()
        return (at for at, value in enumerate(array.to_pylist()) if self._nested_hits(value))

    def _bad(self, values: list[str]) -> list[str]:
        joined = "\n".join(values)  # one quick look before each value is looked at
        if not self._starts.intersection(m[:ID_CHARS] for m in _HEX.findall(joined)) and not any(
            uri in joined or json.dumps(uri)[1:-1] in joined for uri in self.uris
        ):
            return []
        return [value for value in values if self.hits(value) or self._hits_in_json(value)]

    def _hits_in_json(self, text: str) -> bool:
        if not text.startswith(("{", "[")):
            return False
        try:
            return self.json_hits(json.loads(text))
        except ValueError:
            return False

    def _nested_hits(self, value: Any) -> bool:  # noqa: ANN401 - any Arrow value
        if isinstance(value, bytes):
            return self.hits(value.decode("utf-8", "ignore"))
        if isinstance(value, list | tuple):
            return any(map(self._nested_hits, value))
        return isinstance(value, str) and self.hits(value)

    def _places(self, text: str, uri: str) -> Iterator[int]:
        """Yield where a text names `uri` as a whole path: `a.png` is not in `aa.png`, nor in `b/a.png`."""
        start = text.find(uri)
        while start >= 0:
            if self._begins(text[:start]) and _ends(text[start + len(uri) : start + len(uri) + 2]):
                yield start
            start = text.find(uri, start + 1)

    def _begins(self, before: str) -> bool:
        if before.endswith("/"):
            return any(before.endswith(f"{root}/") for root in self.roots)
        return not before or not (_NAME_CHAR.match(before[-1]) or before[-1] == ".")


def _ends(after: str) -> bool:
    if not after:
        return True
    if after[0] == ".":
        return len(after) == 1 or not _NAME_CHAR.match(after[1])
    return not _NAME_CHAR.match(after[0]) and after[0] != "/"
