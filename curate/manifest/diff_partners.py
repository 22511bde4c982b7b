"""Which keys of two columns are partners: stretches in which partner follows partner, found by walking along both."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

Rows = NDArray[np.int64]
Stretch = tuple[int, int, int]  # where it begins in the one and in the other column, and how long it is

_BLOCK = 8192  # keys that are compared at once
_NEAR = 1024  # keys ahead among which the next partners are looked for first
_MOST_STEPS = 64  # interruptions after which every key is looked up


def matched(old: pa.Array, new: pa.Array) -> list[Stretch]:
    """Return the stretches of equal keys, ascending in `old`; a key stands once in a column."""
    found = walked(old, new)
    return _looked_up(old, new) if found is None else found


def places(stretches: list[Stretch]) -> tuple[Rows, Rows]:
    """Return the places of partners in the one and the other column."""
    none = np.zeros(0, np.int64)
    return (
        np.concatenate([none, *(np.arange(i, i + n) for i, _, n in stretches)]),
        np.concatenate([none, *(np.arange(j, j + n) for _, j, n in stretches)]),
    )


def walked(old: pa.Array, new: pa.Array) -> list[Stretch] | None:
    """Walk along both; where the keys are not equal, go on at the next ones that are.

    Returns:
        the stretches; None where partners do not lie in the same order, or few follow each other.
    """
    found: list[Stretch] = []
    i = j = 0
    gone, came = [], []
    for _ in range(_MOST_STEPS):
        n = _n_alike(old.slice(i), new.slice(j))
        if n:
            found.append((i, j, n))
        next_i, next_j = _next_partners(old, i + n, new, j + n)
        gone.append(old.slice(i + n, next_i - i - n))
        came.append(new.slice(j + n, next_j - j - n))
        if next_i == len(old):
            passed = pc.is_in(pa.concat_arrays(gone), value_set=pa.concat_arrays(came))
            return None if pc.any(passed, min_count=0).as_py() else found
        i, j = next_i, next_j
    return None


def _n_alike(old: pa.Array, new: pa.Array) -> int:
    """Return how many keys from the front on are equal."""
    n, at = min(len(old), len(new)), 0
    while at < n:
        one, other = old.slice(at, min(_BLOCK, n - at)), new.slice(at, min(_BLOCK, n - at))
        if not one.equals(other):
            return at + int(pc.index(pc.equal(one, other), value=False).as_py())
        at += len(one)
    return at


def _next_partners(old: pa.Array, i: int, new: pa.Array, j: int) -> tuple[int, int]:
    """Return where the next keys that are equal lie, the first in `old` of those that are near; the ends without any."""
    n = _NEAR
    while i < len(old) and j < len(new):
        at = pc.index_in(old.slice(i, n), value_set=new.slice(j, n))
        first = pc.index(pc.is_valid(at), value=True).as_py()
        if first >= 0:
            return i + first, j + at[first].as_py()
        if i + n >= len(old) and j + n >= len(new):
            break
        n *= 8
    return len(old), len(new)


def _looked_up(old: pa.Array, new: pa.Array) -> list[Stretch]:
    in_new = pc.fill_null(pc.index_in(old, value_set=new), -1).to_numpy().astype(np.int64)
    at_old = np.flatnonzero(in_new >= 0)
    at_new = in_new[at_old]
    if not at_old.size:
        return []
    breaks = np.flatnonzero((np.diff(at_old) != 1) | (np.diff(at_new) != 1)) + 1
    bounds = pairwise([0, *breaks.tolist(), at_old.size])
    return [(int(at_old[start]), int(at_new[start]), stop - start) for start, stop in bounds]
