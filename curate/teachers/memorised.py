"""The guard: which teachers repeat the given labels instead of judging them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from curate.teachers.noise import Bools, Floats, Ints

MIN_ROWS = 20
MIN_SHARE = 0.005  # of all rows; below, a teacher that is right where all others err looks the same
MIN_HONEST = 0.85  # of the least of the others' agreement with the labels
HALF = 0.5  # whoever repeats that many labels against all others is no judge, however he came to it


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


def find_memorised(
    names: Sequence[str], votes: Ints, answered: Bools, given: Ints, n_classes: int, *, known: Bools | None = None
) -> dict[str, Guard]:
    """Find teachers that memorised the given labels; has to run before anything is fitted to labels.

    m_a is the share at which teacher a repeats the given label where all the other teachers agree on one
    different class; the base is the same of the others, pooled. A teacher is left out when
    m_a > max(2·base, base + .15), unless it is merely different:

    - these repeats are under one row in two hundred: on nearly clean labels the best teacher sides with the label
      where all others err together;
    - its agreement with the labels has no room for it: a teacher that memorised m = (m_a - base)/(1 - base)
      agrees with them in A = m + (1 - m)·h, so that h, what is left for honest judgement, is about what the others
      reach. Where h is well below the least of them, the others are wrong together and this one is right.

    The worst one goes first, then the rest are looked at again, while three are left.

    Args:
        names: T teachers.
        votes: (T, N) class indices.
        answered: (T, N) whether the teacher has an answer.
        given: (N,) given class indices.
        n_classes: K.
        known: (T, K) the classes that a teacher knows; None = all. Not saying another class is no sign of memory
            where it has no word for it.

    Returns:
        A Guard by name. With fewer than three teachers every one is kept as "not checkable".
    """
    left = list(range(len(names)))
    found: dict[str, Guard] = {}
    while len(left) >= 3:
        words = np.ones((len(left), n_classes), dtype=bool) if known is None else known[left]
        n_rows, hits = _against_all(votes[left], answered[left], given, words)
        agreement = ((votes[left] == given) & answered[left]).sum(axis=1) / np.maximum(
            answered[left].sum(axis=1), 1
        )
        share = hits / np.maximum(n_rows, 1)
        base = (hits.sum() - hits) / np.maximum(n_rows.sum() - n_rows, 1)
        limit = np.maximum(2.0 * base, base + 0.15)
        over = (n_rows >= MIN_ROWS) & (share > limit) & (hits >= MIN_SHARE * len(given))
        over &= _has_room(share, base, agreement, n_classes)
        for place, teacher in enumerate(left):
            found[names[teacher]] = _judge(
                share[place], int(n_rows[place]), limit[place], memorised=bool(over[place])
            )
        if not over.any():
            return found
        left.pop(int(np.where(over, share - base, -1.0).argmax()))
        for teacher in left:
            found.pop(names[teacher])
    why = f"not checkable: the guard needs three teachers, there are {len(left)}"
    return found | {names[teacher]: Guard(kept=True, memorised_share=None, n_rows=0, why=why) for teacher in left}


def _against_all(votes: Ints, answered: Bools, given: Ints, known: Bools) -> tuple[Ints, Ints]:
    """Return (T,) rows in which all others agree on one known class that is not the given one, and repeats there."""
    n_rows = np.zeros(len(votes), dtype=np.int64)
    hits = np.zeros(len(votes), dtype=np.int64)
    for teacher in range(len(votes)):
        others = np.delete(votes, teacher, axis=0)
        rows = (others == others[0]).all(axis=0) & (others[0] != given) & answered.all(axis=0)
        rows &= known[teacher, others[0]]
        n_rows[teacher] = rows.sum()
        hits[teacher] = (votes[teacher][rows] == given[rows]).sum()
    return n_rows, hits


def _has_room(share: Floats, base: Floats, agreement: Floats, n_classes: int) -> Bools:
    """Return (T,) whether a teacher's agreement with the labels is high enough to have memorised its share."""
    memorised = np.clip((share - base) / np.maximum(1.0 - base, 1e-9), 0.0, 1.0 - 1e-9)
    honest = (agreement - memorised) / (1.0 - memorised)
    least = np.array([np.delete(agreement, teacher).min() for teacher in range(len(agreement))])
    chance = 1.0 / n_classes
    return np.asarray((honest - chance >= MIN_HONEST * (least - chance)) | (memorised >= HALF))


def _judge(share: float, n_rows: int, limit: float, *, memorised: bool) -> Guard:
    if n_rows < MIN_ROWS:
        why = f"not checkable: all others agree on another class in {n_rows} rows; {MIN_ROWS} are needed"
        return Guard(kept=True, memorised_share=None, n_rows=n_rows, why=why)
    said = f"repeats the given label in {share:.0%} of {n_rows} rows where all others agree on another class"
    if memorised:
        why = f"memorised: {said} (at most {min(limit, 1.0):.0%} is normal here)"
    elif share > limit:
        why = f"{said}; merely different: no sign that it memorised labels"
    else:
        why = f"{said}; up to {min(limit, 1.0):.0%} is normal here"
    return Guard(kept=not memorised, memorised_share=float(share), n_rows=n_rows, why=why)
