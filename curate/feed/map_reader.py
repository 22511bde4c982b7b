"""Class maps of a version, a row group at a time: found by the ids that each group begins with, a few groups held."""

from __future__ import annotations

import threading
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from curate.errors import VerificationError
from curate.manifest.place import Place, parquet_file
from curate.manifest.soft_layout import Layout
from curate.manifest.soft_masks import dense_maps

Half = NDArray[np.float16]

_HELD_GROUPS = 16
_HELD_BYTES = 64 << 20
_ID = "sample_id"


class MapReader:
    """Class maps of a version, read as they are asked for; what was read last is held, for all threads.

    Rows stand in the order of their ids, so that the first id of each row group, which the footers hold, tells the
    group of an id: opening reads footers and nothing else, and keeps one id of `GROUP_ROWS` images. A map that is not
    held costs one row group: of a file in a store one request, as a rule.

    Args:
        parts: Parquet files of `soft_masks/`.
        layout: of the version.
        temperature: that they are stored at.
        longest: cells on the longer side of an image.
        teacher: one of those that are stored alone; None = the ensemble.

    Attributes:
        n_groups_read: row groups that were read so far; the others were held.

    Raises:
        VerificationError: rows that do not stand in the order of their ids.
    """

    def __init__(
        self, parts: Sequence[Place], layout: Layout, temperature: float, longest: int, teacher: str | None = None
    ) -> None:
        self.layout, self.temperature, self.longest = layout, temperature, longest
        self._parts, self._teacher = list(parts), teacher
        self._names = ["n_rows", "n_columns", *(field.name for field in layout.fields(teacher))]
        self._footers: list[pq.FileMetaData] = []
        firsts, at, last = list[bytes](), list[tuple[int, int]](), b""
        for part, path in enumerate(self._parts):
            file = parquet_file(path)
            self._footers.append(file.metadata)
            for group, (first, after) in enumerate(_ends(file)):
                if first <= last:
                    raise VerificationError(f"The rows of {path} do not stand in the order of their ids.")
                firsts.append(first)
                at.append((part, group))
                last = after
        self._firsts: NDArray[np.bytes_] = np.array(firsts, dtype=np.bytes_)
        self._at: NDArray[np.int32] = np.array(at, dtype=np.int32).reshape(-1, 2)
        self._begin()

    def _begin(self) -> None:
        self.n_groups_read, self._held_bytes = 0, 0
        self._lock = threading.Lock()
        self._held: OrderedDict[tuple[int, int], tuple[dict[str, int], pa.Table]] = OrderedDict()
        self._files = threading.local()  # an open file is of one thread

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name not in {"_lock", "_held", "_files"}}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._begin()

    def read(self, sample_id: str) -> tuple[Half, Half | None] | None:
        """Return (K, rows, columns) probabilities, and (rows, columns) of a cut-off tail; None without a map."""
        found = bisect_right(self._firsts, sample_id.encode()) - 1
        if found < 0:
            return None
        rows, table = self._group(int(self._at[found, 0]), int(self._at[found, 1]))
        if sample_id not in rows:
            return None
        row = {name: _value(table[name][rows[sample_id]]) for name in self._names}
        return dense_maps(row, self.layout, self._teacher)

    def _group(self, part: int, group: int) -> tuple[dict[str, int], pa.Table]:
        """Return id -> row of a row group, and its columns; threads that wait for other groups are not held up."""
        with self._lock:
            if (part, group) in self._held:
                self._held.move_to_end((part, group))
                return self._held[part, group]
        table = self._file(part).read_row_group(group, columns=[_ID, *self._names], use_threads=False)
        rows = {one: at for at, one in enumerate(table[_ID].to_pylist())}
        with self._lock:
            self.n_groups_read += 1
            if (part, group) not in self._held:
                self._held_bytes += table.nbytes
            self._held[part, group] = rows, table
            while len(self._held) > 1 and (len(self._held) > _HELD_GROUPS or self._held_bytes > _HELD_BYTES):
                self._held_bytes -= self._held.popitem(last=False)[1][1].nbytes
        return rows, table

    def _file(self, part: int) -> pq.ParquetFile:
        """Return the file of a part as this thread has it open; the one before is let go."""
        if getattr(self._files, "part", None) != part:
            self._files.part = part
            self._files.file = parquet_file(self._parts[part], footer=self._footers[part])
        file: pq.ParquetFile = self._files.file
        return file


def _ends(file: pq.ParquetFile) -> Iterator[tuple[bytes, bytes]]:
    """Yield the first and the last id of each row group, by the statistics; read where there are none."""
    column = file.schema_arrow.get_field_index(_ID)
    for group in range(file.metadata.num_row_groups):
        told = file.metadata.row_group(group).column(column).statistics
        if told is not None and told.has_min_max:
            yield str(told.min).encode(), str(told.max).encode()
        else:
            ids = file.read_row_group(group, columns=[_ID])[_ID].to_pylist()
            yield min(ids).encode(), max(ids).encode()


def _value(scalar: pa.Scalar) -> Any:  # noqa: ANN401 - a number, an array or None
    if not scalar.is_valid:
        return None
    return scalar.values.to_numpy(zero_copy_only=False) if pa.types.is_list(scalar.type) else scalar.as_py()
