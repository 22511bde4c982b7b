"""Two sorted tables side by side: cut at the same samples, so that partners lie in one window and few rows in memory.

Where rows do not ascend by sample id, nothing fails, but partners may come in different windows.
"""

from __future__ import annotations

import bisect
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from typing import TypeVar

import pyarrow as pa

from curate.manifest.row_groups import RowGroup

_AHEAD = 1  # row groups of each version that are read before they are asked for
_WAITING = 2  # windows that wait for their comparison

Found = TypeVar("Found")


@dataclass(frozen=True, slots=True)
class Piece:
    """Rows of a table that lie together: the first one's number in the whole table, and their columns in one chunk."""

    start: int
    rows: pa.Table

    def until(self, sample: str | None) -> int:
        """Return how many rows have a sample id up to this one (None: all)."""
        return self.rows.num_rows if sample is None else self._bisect(bisect.bisect_right, sample)

    def before(self, sample: str) -> int:
        """Return how many rows have a smaller sample id."""
        return self._bisect(bisect.bisect_left, sample)

    def cut(self, n: int) -> tuple[Piece, Piece]:
        """Return the first `n` rows and the others, both over the same memory."""
        return Piece(self.start, self.rows.slice(0, n)), Piece(self.start + n, self.rows.slice(n))

    def _bisect(self, how: Callable[..., int], sample: str) -> int:
        ids = self.rows["sample_id"]
        return how(range(len(ids)), sample, key=lambda row: ids[row].as_py())


class Walk:
    """The rows of one table from front to back, read ahead; hands out those up to a sample."""

    def __init__(
        self, groups: Sequence[RowGroup], columns: pa.Schema, coded: Sequence[str], pool: Executor
    ) -> None:
        self._todo = iter(groups)
        self._columns, self._coded, self._pool = columns.names, coded, pool
        self._coming: deque[tuple[RowGroup, Future[pa.Table]]] = deque()
        self._held: deque[Piece] = deque()
        self._last: str | None = None
        self._nothing = columns.empty_table()
        self._read_on()

    @property
    def is_last(self) -> bool:
        """Whether nothing comes after what is held."""
        return not self._coming

    def hold(self) -> str | None:
        """Hold rows if any are left; return the last sample id that is held."""
        while not self._held and self._coming:
            self._take()
        return self._last if self._held else None

    def hold_past(self, sample: str) -> None:
        """Hold rows until one is of a later sample, or none is left."""
        while self._coming and (self._last is None or self._last <= sample):
            self._take()

    def straddles(self, sample: str) -> bool:
        """Whether the sample's rows lie in more than one piece of what is held."""
        return sum(piece.until(sample) > piece.before(sample) for piece in self._held) > 1

    def take(self, sample: str | None, *, strictly: bool = False) -> Piece:
        """Return the held rows up to a sample (None: all), or strictly before it."""
        taken: list[Piece] = []
        while self._held:
            piece = self._held.popleft()
            n = piece.before(sample) if strictly and sample is not None else piece.until(sample)
            first, rest = piece.cut(n)
            if n or not taken:
                taken.append(first)
            if rest.rows.num_rows:
                self._held.appendleft(rest)
                break
        filled = [piece for piece in taken if piece.rows.num_rows] or taken[:1]
        if len(filled) > 1:
            return Piece(filled[0].start, pa.concat_tables([piece.rows for piece in filled]).combine_chunks())
        return filled[0] if filled else Piece(0, self._nothing)

    def _take(self) -> None:
        group, future = self._coming.popleft()
        self._read_on()
        rows = future.result()
        if not rows.num_rows:
            return
        self._last = rows["sample_id"][-1].as_py()
        self._held.append(Piece(group.start, rows))

    def _read_on(self) -> None:
        while len(self._coming) < _AHEAD and (group := next(self._todo, None)) is not None:
            self._coming.append((group, self._pool.submit(_read, group, self._columns, self._coded)))


def _read(group: RowGroup, columns: Sequence[str], coded: Sequence[str]) -> pa.Table:
    return group.read(columns, coded=coded).unify_dictionaries().combine_chunks()


def windows(old: Walk, new: Walk) -> Iterator[tuple[Piece, Piece]]:
    """Yield the rows of both tables window by window.

    All rows of a sample, of both tables, are in one window, where both ascend by sample id.
    """
    while True:
        ends = [end for walk in (old, new) if (end := walk.hold()) is not None and not walk.is_last]
        if not ends:
            break
        cut = min(ends)
        for walk in (old, new):
            walk.hold_past(cut)
        if old.straddles(cut) or new.straddles(cut):  # what lies in one piece is handed out as it lies there
            yield old.take(cut, strictly=True), new.take(cut, strictly=True)
        yield old.take(cut), new.take(cut)
    yield old.take(None), new.take(None)


def compared(sides: Sequence[Walk], pool: Executor, compare: Callable[[Piece, Piece], Found]) -> Iterator[Found]:
    """Yield what `compare` finds in each window of two tables, in their order; a few are compared at once."""
    waiting: deque[Future[Found]] = deque()
    old, new = sides
    for window in windows(old, new):
        waiting.append(pool.submit(compare, *window))
        if len(waiting) > _WAITING:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()
