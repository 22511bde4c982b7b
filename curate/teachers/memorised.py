"""The guard: which teachers repeat the given labels instead of judging them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from curate.teachers.noise import Bools, Ints

MIN_ROWS = 20
MIN_SHARE = 0.01  # of all rows; below, a teacher that is right where all others err looks the same


@dataclass(frozen=True, slots=True)
class Guard:
    """What the guard found on one teacher.

    Attributes:
        kept: whether its answers may be used.
        memorised_share: estimated share of the labels that it memorised; None = not checkable.
        n_rows: rows on which that stands: all other teachers agree on one class that is not the given one.
        why: a sentence.
    """

    kept: bool
    memorised_share: float | None
    n_rows: int
    why: str


def find_memorised(names: Sequence[str], votes: Ints, answered: Bools, given: Ints) -> dict[str, Guard]:
    """Find teachers that memorised the given labels; has to run before anything is fitted to labels.

    m_a is the share at which teacher a repeats the given label where all the other teachers agree on one
    different class. A teacher is left out when m_a > max(2·median, median + .15) and those rows are at least one
    in a hundred: on nearly clean labels the best teacher sides with the label where all others err together, and
    that is no reason to lose it. The worst one goes first, then the rest are looked at again, while three are left.

    Args:
        names: T teachers.
        votes: (T, N) class indices.
        answered: (T, N) whether the teacher has an answer.
        given: (N,) given class indices.

    Returns:
        A Guard by name. With fewer than three teachers every one is kept as "not checkable".
    """
    left = list(range(len(names)))
    found: dict[str, Guard] = {}
    while len(left) >= 3:
        share, n_rows = _shares(votes[left], answered[left], given)
        median = float(np.nanmedian(share)) if np.isfinite(share).any() else 0.0
        limit = max(2.0 * median, median + 0.15)
        over = (share > limit) & (share * n_rows >= MIN_SHARE * len(given))  # NaN compares false
        for place, teacher in enumerate(left):
            found[names[teacher]] = _judge(share[place], int(n_rows[place]), limit, memorised=bool(over[place]))
        if not over.any():
            return found
        worst = int(np.where(over, share, -1.0).argmax())
        left.pop(worst)
        for teacher in left:
            found.pop(names[teacher])
    why = f"not checkable: the guard needs three teachers, there are {len(left)}"
    return found | {names[teacher]: Guard(True, None, 0, why) for teacher in left}  # noqa: FBT003


def _shares(votes: Ints, answered: Bools, given: Ints) -> tuple[np.ndarray, np.ndarray]:
    """Return (T,) m_a (NaN on fewer than MIN_ROWS rows) and (T,) the number of rows it stands on."""
    share = np.full(len(votes), np.nan)
    n_rows = np.zeros(len(votes), dtype=np.int64)
    for teacher in range(len(votes)):
        others = np.delete(votes, teacher, axis=0)
        rows = (others == others[0]).all(axis=0) & (others[0] != given) & answered.all(axis=0)
        n_rows[teacher] = rows.sum()
        if n_rows[teacher] >= MIN_ROWS:
            share[teacher] = float((votes[teacher][rows] == given[rows]).mean())
    return share, n_rows


def _judge(share: float, n_rows: int, limit: float, *, memorised: bool) -> Guard:
    if not np.isfinite(share):
        why = f"not checkable: the others agree on another class in {n_rows} rows; {MIN_ROWS} are needed"
        return Guard(True, None, n_rows, why)  # noqa: FBT003
    said = f"repeats the given label in {share:.0%} of {n_rows} rows where all others agree on another class"
    if memorised:
        return Guard(False, share, n_rows, f"memorised: {said} (at most {limit:.0%} is normal here)")  # noqa: FBT003
    if share > limit:
        return Guard(True, share, n_rows, f"{said}; too few rows to hold it against the teacher")  # noqa: FBT003
    return Guard(True, share, n_rows, f"{said}; up to {limit:.0%} is normal here")  # noqa: FBT003
