"""A table of labels and teachers' probabilities in batches: decoded once where it is small enough to be kept."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from curate import schema
from curate.errors import InputError
from curate.teachers.label_columns import label_indices, label_strings, onto_places, prob_matrix
from curate.teachers.noise import Floats, Ints
from curate.teachers.sampling import SmallestRows, order_keys

LABEL = "label"
IDS = "sample_id"
BATCH_CELLS = 4_000_000
KEPT_BYTES = 600_000_000
_ID_ROWS = 65_536


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


def read_batches(file: pq.ParquetFile, n_rows: int, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
    """Yield batches of at most so many rows.

    Raises:
        InputError: the file turns out to be damaged.
    """
    n_read = 0
    stream = file.iter_batches(batch_size=n_rows, columns=list(columns))
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
class Batch:
    """Some rows in a row.

    Attributes:
        first_row: number of the first of n rows in the table.
        ids: (n,) strings; None where the table has none.
        labels: (n,) strings.
        given: (n,) class indices, -1 = none of the classes.
        probs: by teacher (n, K), as wide as they stand in the table.
    """

    first_row: int
    ids: pa.Array | None
    labels: pa.Array
    given: Ints
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
class Reader:
    """The columns of a table that flagging needs.

    Attributes:
        file: open.
        columns: `prob_<teacher>`, T of them.
        classes: K names.
        places: column -> class index of each entry, for columns that name classes of their own.
        has_ids: whether there is a column `sample_id`.
    """

    file: pq.ParquetFile
    columns: tuple[str, ...]
    classes: tuple[str, ...]
    places: Mapping[str, Ints]
    has_ids: bool
    _kept: list[Batch] = field(default_factory=list)  # the first rows, decoded once for both passes

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
        yield from self._kept
        n_kept = len(self._kept)
        rows = max(256, min(65_536, BATCH_CELLS // (len(self.columns) * len(self.classes))))
        wanted = [LABEL, *self.columns, *([IDS] if self.has_ids else [])]
        first = sum(len(batch.given) for batch in self._kept)
        n_bytes = sum(p.nbytes for batch in self._kept for p in batch.probs)
        stream = read_batches(self.file, rows, wanted) if first < self.n_rows else iter(())
        for number, batch in enumerate(stream):
            if number < n_kept:
                continue
            made = self._batch(batch, first)
            first += batch.num_rows
            n_bytes += sum(p.nbytes for p in made.probs)
            if number == len(self._kept) and n_bytes <= KEPT_BYTES:
                self._kept.append(made)
            yield made

    def near(self, limit: int) -> Near:
        """Return the `limit` rows with a label whose ids have the smallest hashes; probabilities are not read."""
        found = SmallestRows(limit)
        first = n_labeled = 0
        wanted = [LABEL, *([IDS] if self.has_ids else [])]
        for batch in read_batches(self.file, _ID_ROWS, wanted):
            labeled = label_indices(label_strings(batch.column(LABEL)), self.classes) >= 0
            ids = label_strings(batch.column(IDS)).to_pylist() if self.has_ids else None
            keys = order_keys(ids, batch.num_rows, first_row=first)
            at = np.flatnonzero(labeled & (keys <= found.ceiling))
            found.add(keys[at], at + first)
            first += batch.num_rows
            n_labeled += int(labeled.sum())
        rows = found.rows()
        return Near(rows[0] if rows else np.zeros(0, np.int64), n_labeled)

    def _batch(self, batch: pa.RecordBatch, first: int) -> Batch:
        labels = label_strings(batch.column(LABEL))
        ids = label_strings(batch.column(IDS)) if self.has_ids else None
        given = label_indices(labels, self.classes)
        probs = [self._probs(batch.column(name), name, given) for name in self.columns]
        return Batch(first, ids, labels, given, probs)

    def _probs(self, column: pa.Array, name: str, given: Ints) -> Floats:
        if name not in self.places:
            return prob_matrix(column, len(self.classes), name)
        places = self.places[name]
        return onto_places(prob_matrix(column, len(places), name), places, len(self.classes), given)
