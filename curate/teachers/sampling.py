"""A sample that depends on ids only: the rows with the smallest hashes, in the order of their hashes."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from curate.teachers.noise import Bools, Ints


def order_keys(ids: Sequence[str] | None, n_rows: int, *, first_row: int = 0) -> NDArray[np.uint64]:
    """Return (N,) uint64 keys that order rows by a hash of the id, or of the row number where there is none."""
    if ids is None:
        return _mix(np.arange(first_row, first_row + n_rows, dtype=np.uint64))
    digest = hashlib.blake2b
    joined = b"".join(digest(str(i).encode("utf-8", "surrogateescape"), digest_size=8).digest() for i in ids)
    return np.frombuffer(joined, dtype="<u8").astype(np.uint64)


def _mix(numbers: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Return SplitMix64 of the numbers (Steele, Lea and Flood 2014)."""
    mixed = numbers + np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(mixed ^ (mixed >> np.uint64(31)))


def smallest(keys: NDArray[np.uint64], usable: Bools, limit: int) -> Ints:
    """Return the row numbers of the `limit` usable rows with the smallest keys, ordered by key."""
    rows = np.flatnonzero(usable)
    if len(rows) > limit:
        rows = rows[np.argpartition(keys[rows], limit - 1)[:limit]]
    return np.asarray(rows[np.argsort(keys[rows], kind="stable")])


class SmallestRows:
    """The `limit` rows with the smallest keys of all that were added: a sample that no order of adding shows in."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.ceiling = np.uint64(2**64 - 1)  # keys above it cannot be in the sample any more
        self._parts: list[tuple[NDArray[Any], ...]] = []

    def add(self, keys: NDArray[np.uint64], *columns: NDArray[Any]) -> None:
        """Add rows: (n,) keys and arrays of n rows each."""
        self._parts.append((keys, *columns))
        if sum(len(part[0]) for part in self._parts) >= 2 * self.limit:
            self._shrink()

    def _shrink(self) -> None:
        keys = np.concatenate([part[0] for part in self._parts])
        best = np.argsort(keys, kind="stable")[: self.limit]
        self._parts = [tuple(np.concatenate(column)[best] for column in zip(*self._parts, strict=True))]
        if len(best) == self.limit:
            self.ceiling = keys[best[-1]]

    def rows(self) -> tuple[NDArray[Any], ...] | None:
        """Return the arrays of the sample, ordered by key; None where nothing was added."""
        if not self._parts:
            return None
        self._shrink()
        return self._parts[0][1:]
