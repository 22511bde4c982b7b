"""A table of labels and teachers' probabilities in batches, twice: to fit on a sample, and to score."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from curate import schema
from curate.errors import InputError
from curate.teachers.label_columns import label_indices, label_strings, onto_places, prob_matrix
from curate.teachers.noise import Floats, Ints
from curate.teachers.parquet_pages import NotPlainError
from curate.teachers.plain_lists import Pages, Place, PlainList, place_of
from curate.teachers.sampling import SmallestRows, order_keys

LABEL = "label"
IDS = "sample_id"
BATCH_CELLS = 4_000_000
KEPT_BYTES = 600_000_000
_ID_ROWS = 65_536
_FEWEST_ROWS = 1_000  # of a row group whose pages are worth looking at


@contextmanager
def memory_that_is_kept() -> Iterator[None]:
    """Let Arrow allocate where fresh memory is cheap: batches that are kept get pages that were never used.

    With Arrow's default allocator the kernel spends as long on these as the decoder on their content.
    """
    before = pa.default_memory_pool()
    has_jemalloc = "jemalloc" in pa.supported_memory_backends()
    pa.set_memory_pool(pa.jemalloc_memory_pool() if has_jemalloc else pa.system_memory_pool())
    try:
        yield
    finally:
        pa.set_memory_pool(before)


def read_batches(
    file: pq.ParquetFile, n_rows: int, columns: Sequence[str], groups: Sequence[int] | None = None
) -> Iterator[pa.RecordBatch]:
    """Yield batches of at most so many rows, of all row groups or of some.

    Raises:
        InputError: the file turns out to be damaged.
    """
    n_read = 0 if groups is None else sum(file.metadata.row_group(group).num_rows for group in range(groups[0]))
    stream = file.iter_batches(batch_size=n_rows, columns=list(columns), row_groups=groups)
    while True:
        try:
            batch = next(stream, None)
        except (pa.ArrowInvalid, OSError) as error:
            raise InputError(
                f"The table cannot be read beyond row {n_read:,} of {file.metadata.num_rows:,}: {error}. The file is "
                "damaged or was cut off; copy or write it again."
            ) from error
        if batch is None:
            return
        n_read += batch.num_rows
        yield batch


@dataclass(frozen=True, slots=True)
class LabeledRows:
    """Rows that follow one another in the table, without what teachers say of them.

    Attributes:
        first_row: number of the first of n rows in the table.
        ids: (n,) strings; None where the table has none.
        others: strings, the labels that are none of the classes, in their order.
        given: (n,) class indices, -1 = none of the classes.
    """

    first_row: int
    ids: pa.Array | None
    others: pa.Array
    given: Ints


@dataclass(frozen=True, slots=True)
class Batch:
    """Some rows and what the teachers say of them.

    Attributes:
        rows: n of them.
        probs: by teacher (n, K), as wide as they stand in the table; overwritten when the next batch is read.
    """

    rows: LabeledRows
    probs: list[Floats]


@dataclass(frozen=True, slots=True)
class Near:
    """The rows that a fit may stand on.

    Attributes:
        rows: row numbers, in the order of the hashes of their ids.
        n_labeled: rows of the whole table whose label is one of the classes.
    """

    rows: Ints
    n_labeled: int


@dataclass(frozen=True, slots=True)
class Run:
    """Row groups one after another that are read in one way.

    Attributes:
        groups: their numbers.
        places: where each teacher's column stands in the one group that needs no decoding; empty = Arrow reads.
    """

    groups: tuple[int, ...]
    places: tuple[Place, ...]


@dataclass(frozen=True, slots=True)
class Reader:
    """The columns of a table that flagging needs.

    Attributes:
        file: open.
        path: of the file.
        columns: `prob_<teacher>`, T of them.
        classes: K names.
        places: column -> class index of each entry, for columns that name classes of their own.
        has_ids: whether there is a column `sample_id`.
    """

    file: pq.ParquetFile
    path: Path
    columns: tuple[str, ...]
    classes: tuple[str, ...]
    places: Mapping[str, Ints]
    has_ids: bool
    _kept: dict[Run, list[list[Floats]]] = field(default_factory=dict)  # what Arrow decoded, for the second time
    _pages: dict[Place, Pages] = field(default_factory=dict)  # of columns whose levels were looked at
    _not_plain: set[Run] = field(default_factory=set)  # seen to need Arrow after all

    @property
    def n_rows(self) -> int:
        """Rows of the table."""
        return int(self.file.metadata.num_rows)

    @property
    def teachers(self) -> tuple[str, ...]:
        """T names."""
        return tuple(name.removeprefix(schema.PROB_PREFIX) for name in self.columns)

    def batches(self) -> Iterator[Batch]:
        """Yield the rows in order; a batch is bounded by rows x teachers x classes."""
        rows = max(256, min(65_536, BATCH_CELLS // (len(self.columns) * len(self.classes))))
        told, first = _Told(read_batches(self.file, _ID_ROWS, self._about)), 0
        for run in self._runs():
            for probs in self._probs(run, rows):
                batch = told.take(len(probs[0]))
                labels = batch.column(LABEL)
                given = label_indices(labels, self.classes)
                others = label_strings(labels.filter(pa.array(given < 0)))
                ids = label_strings(batch.column(IDS)) if self.has_ids else None
                yield Batch(LabeledRows(first, ids, others, given), self._onto_classes(probs, given))
                first += len(given)

    def near(self, limit: int) -> Near:
        """Return the `limit` rows with a label whose ids have the smallest hashes; probabilities are not read."""
        found = SmallestRows(limit)
        first = n_labeled = 0
        for batch in read_batches(self.file, _ID_ROWS, self._about):
            labeled = label_indices(batch.column(LABEL), self.classes) >= 0
            ids = label_strings(batch.column(IDS)).to_pylist() if self.has_ids else None
            keys = order_keys(ids, batch.num_rows, first_row=first)
            at = np.flatnonzero(labeled & (keys <= found.ceiling))
            found.add(keys[at], at + first)
            first += batch.num_rows
            n_labeled += int(labeled.sum())
        rows = found.rows()
        return Near(rows[0] if rows else np.zeros(0, np.int64), n_labeled)

    @property
    def _about(self) -> list[str]:
        return [LABEL, *([IDS] if self.has_ids else [])]

    def _width(self, name: str) -> int:
        return len(self.places.get(name, self.classes))

    def _onto_classes(self, probs: Sequence[Floats], given: Ints) -> list[Floats]:
        return [
            onto_places(p, self.places[name], len(self.classes), given) if name in self.places else p
            for name, p in zip(self.columns, probs, strict=True)
        ]

    def _runs(self) -> Iterator[Run]:
        waiting: list[int] = []
        for group in range(self.file.metadata.num_row_groups):
            places: tuple[Place, ...] = ()
            if self.file.metadata.row_group(group).num_rows >= _FEWEST_ROWS:
                found = [place_of(self.file, group, name, self._width(name)) for name in self.columns]
                places = tuple(place for place in found if place is not None)
            if len(places) < len(self.columns):
                waiting.append(group)
                continue
            if waiting:
                yield Run(tuple(waiting), ())
                waiting = []
            yield Run((group,), places)
        if waiting:
            yield Run(tuple(waiting), ())

    def _probs(self, run: Run, n_rows: int) -> Iterator[list[Floats]]:
        """Yield by teacher (n, width) probabilities of a run's rows."""
        n_done = 0
        if run.places and run not in self._not_plain:
            try:
                for probs in self._read_plain(run, n_rows):
                    yield probs
                    n_done += len(probs[0])
            except NotPlainError:
                self._not_plain.add(run)
            else:
                return
        if run in self._kept:
            yield from self._kept[run]
        else:
            yield from self._decode(run, n_rows, n_done)

    def _read_plain(self, run: Run, n_rows: int) -> Iterator[list[Floats]]:
        total = self.file.metadata.row_group(run.groups[0]).num_rows
        with self.path.open("rb", buffering=0) as raw:
            columns = [PlainList(self.file, raw, place, self._pages.get(place)) for place in run.places]
            rooms = [np.empty((min(n_rows, total), place.length), place.dtype) for place in run.places]
            for start, end in pairwise([*range(0, total, n_rows), total]):
                probs = [room[: end - start] for room in rooms]
                for column, rows in zip(columns, probs, strict=True):
                    column.read_into(rows)
                yield probs
        for place, column in zip(run.places, columns, strict=True):
            pages = column.pages_for_next_time()
            if pages is not None:
                self._pages[place] = pages

    def _decode(self, run: Run, n_rows: int, n_done: int) -> Iterator[list[Floats]]:
        """Let Arrow decode, from row `n_done` of the run on; keep all of the run where there is room for it."""
        left = KEPT_BYTES - sum(p.nbytes for batches in self._kept.values() for probs in batches for p in probs)
        kept: list[list[Floats]] | None = [] if not n_done else None
        for batch in read_batches(self.file, n_rows, self.columns, run.groups):
            n_over = min(n_done, batch.num_rows)
            n_done -= n_over
            if n_over == batch.num_rows:
                continue
            rows = batch.slice(n_over)
            probs = [prob_matrix(rows.column(name), self._width(name), name) for name in self.columns]
            left -= sum(p.nbytes for p in probs)
            kept = None if left < 0 or kept is None else [*kept, probs]
            yield probs
        if kept is not None:
            self._kept[run] = kept


class _Told:
    """Labels and ids, taken as many rows at a time as there are probabilities."""

    def __init__(self, stream: Iterator[pa.RecordBatch]) -> None:
        self._stream = stream
        self._rest: pa.RecordBatch | None = None

    def take(self, n_rows: int) -> pa.RecordBatch:
        """Return the next rows; there are that many."""
        parts: list[pa.RecordBatch] = []
        while n_rows:
            batch = self._rest or next(self._stream)
            parts.append(batch.slice(0, n_rows))
            n_rows -= parts[-1].num_rows
            self._rest = batch.slice(parts[-1].num_rows) if parts[-1].num_rows < batch.num_rows else None
        return parts[0] if len(parts) == 1 else pa.concat_batches(parts)
