"""Whose errors are independent of whose: what the teachers' cards say, and copies that give themselves away."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np

from curate.teachers.noise import Bools, Floats

_COMPARED_ROWS = 2_000
_SAME = 2e-3  # difference of probabilities; float16 rounds by less


def feature_groups(
    names: Sequence[str], features: Mapping[str, str | None] | None, *, independent: bool | None
) -> tuple[int, ...]:
    """Return a group number by teacher: teachers of one group share their errors."""
    if independent is not None:
        return tuple(range(len(names))) if independent else (0,) * len(names)
    shared = [(features or {}).get(name) for name in names]
    return tuple(place if name is None else shared.index(name) for place, name in enumerate(shared))


def same_answers(probs: Floats, answered: Bools) -> tuple[int, ...]:
    """Return for each teacher the first one of those that give the same answers: a copy is no second opinion.

    A copy of a copy is one too, also where rounding has made it differ from the first.

    Args:
        probs: (T, N, K).
        answered: (N, T); rows in which one of two is silent tell nothing.
    """
    few, known = probs[:, :_COMPARED_ROWS], answered[:_COMPARED_ROWS]

    def alike(one: int, other: int) -> bool:
        both = known[:, one] & known[:, other]
        return bool(both.any()) and bool((np.abs(few[one, both] - few[other, both]) <= _SAME).all())

    first = list(range(len(few)))
    for one, other in combinations(range(len(few)), 2):
        if first[one] != first[other] and alike(one, other):
            joined = {first[one], first[other]}
            first = [min(joined) if of in joined else of for of in first]
    return tuple(first)


def independence(
    groups: Sequence[int], n_given: int, *, told: bool, n_copies: int = 0, unknown: Sequence[str] = ()
) -> tuple[bool, str]:
    """Return whether errors of the kept teachers are independent, and a sentence that says why.

    Args:
        groups: a number a teacher; those of one group share errors.
        n_given: teachers before any was left out.
        told: whether cards, or the caller, say who shares errors.
        n_copies: kept teachers whose answers are those of another one.
        unknown: kept teachers of which no card says what they stand on, where some say it.
    """
    n_kept, n_groups = len(groups), len(set(groups))
    copies = f"; {n_copies} of them give the answers of another one once more" if n_copies else ""
    if n_kept < 2:
        left = "" if n_given < 2 else f" ({n_given - n_kept} of {n_given} were left out)"
        return False, f"one teacher{left}: there is no other one whose errors could be independent of its"
    if n_groups < 2:
        why = "that share features by their cards, and with them their errors" if told else "that are one"
        return False, f"{n_kept} teachers {why}{copies}"
    if not told:
        return True, f"{n_kept} teachers, taken for independent: no card says that they share features{copies}"
    silent = f"no card says what {', '.join(unknown)} stand{'s' * (len(unknown) == 1)} on"
    if unknown and n_groups == n_kept:
        return True, f"{n_kept} teachers, taken for independent: {silent}{copies}"
    if unknown:
        copies = f"; {silent}, taken for independent of all others{copies}"
    if n_groups < n_kept:
        sorts = f"{n_kept} teachers on {n_groups} sorts of features, independent from one sort to the other"
        return True, f"{sorts}{copies}"
    return True, f"{n_kept} teachers that are independent by their cards{copies}"
