"""Do a teacher's columns stand in the order that was assumed? Whole classes that fit another column say no.

Wrong labels, however many, leave a class its own column as long as it wins there. A class is taken for moved where its
rows choose another column at least twice as often as its own, and only where the columns of such classes change places
among each other: a teacher that merely prefers some classes sends rows to them and gets none back.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from curate.teachers.noise import Bools, Floats, Ints

MAX_DISPUTED = 3_000  # classes among which an assignment is looked for: 72 MB
LOG_CHANCE = float(np.log(1_000.0))  # one table of a thousand would be warned of by luck
MANY_CLASSES = 10  # in a cycle: a few of them may have too few rows to tell
_SHARE_OF_MANY = 0.9
_ROWS_A_CLASS = 5
MIN_ROWS_OF_SEVERAL = 20
CLOSER = 1.3  # by correlation: classes that often come together go with each other's columns too
_SHOWN = 3
_LISTED = 12
_FITTING = "{classes}"  # in a remedy, which may hold other braces: a column may be called anything


@dataclass(frozen=True, slots=True)
class Moved:
    """The classes of one teacher whose columns seem to have changed places; indices into the class order.

    Attributes:
        teacher: its name.
        classes: as labeled.
        fits: the class under whose name the column stands that the rows of `classes` choose.
        n_rows: labeled so, with an answer of the teacher.
        n_assumed: of these, first choices that agree with the label as assumed.
        n_fits: of these, first choices of the column that fits.
    """

    teacher: str
    classes: tuple[int, ...]
    fits: tuple[int, ...]
    n_rows: tuple[int, ...]
    n_assumed: tuple[int, ...]
    n_fits: tuple[int, ...]

    @property
    def places(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """What moved where, without the counts."""
        return self.classes, self.fits


def find_moved(
    names: Sequence[str], votes: Ints, answered: Bools, given: Ints, n_classes: int
) -> tuple[Moved, ...]:
    """Return the teachers of which whole classes fit other columns.

    Args:
        names: T teachers.
        votes: (N, T) first choices.
        answered: (N, T).
        given: (N,) class indices.
        n_classes: K. More than MAX_DISPUTED classes without half of their rows are not looked at.
    """
    found = []
    for place, name in enumerate(names):
        rows = answered[:, place]
        moved = _moved_of(name, votes[rows, place], given[rows], n_classes)
        if moved is not None:
            found.append(moved)
    return tuple(found)


def find_moved_of_several(names: Sequence[str], probs: Floats, given: Bools) -> tuple[Moved, ...]:
    """Return the same where a row has several labels: a class is held against columns by correlation.

    A class is taken for moved where another column goes with it CLOSER times as well as its own, far beyond
    chance (Fisher's z), and only in cycles of such classes. `n_assumed` and `n_fits` count rows of the class in which
    that column is among the likeliest, as many as the row has labels.

    Args:
        names: T teachers.
        probs: (N, T, K) independent probabilities; a teacher without an answer is a row of NaN.
        given: (N, K) which labels each row has.
    """
    found = []
    for place, name in enumerate(names):
        heard = ~np.isnan(probs[:, place]).any(axis=1)
        moved = _moved_of_several(name, given[heard], probs[heard, place])
        if moved is not None:
            found.append(moved)
    return tuple(found)


def _moved_of_several(name: str, labels: Bools, probs: Floats) -> Moved | None:
    n_classes = labels.shape[1]
    if len(labels) < MIN_ROWS_OF_SEVERAL:
        return None
    closeness = _standard(labels).T @ _standard(probs) / len(labels)  # (K classes, K columns)
    own = np.maximum(closeness.diagonal(), 0.0)
    disputed = np.flatnonzero(closeness.max(axis=1) > CLOSER * own)
    if not 2 <= len(disputed) <= MAX_DISPUTED:
        return None
    from scipy.optimize import linear_sum_assignment  # noqa: PLC0415 - slow to load, and seldom needed

    _, target = linear_sum_assignment(closeness[np.ix_(disputed, disputed)], maximize=True)
    new = closeness[disputed, disputed[target]]
    z = (np.arctanh(np.clip(new, 0.0, 0.999)) - np.arctanh(np.minimum(own[disputed], 0.999))) * np.sqrt(
        len(labels) / 2.0
    )
    sure = (new >= CLOSER * own[disputed]) & (z >= np.sqrt(2.0 * (np.log(n_classes) + LOG_CHANCE)))
    chosen = sorted(int(one) for cycle in _cycles(target) if sure[cycle].all() for one in cycle)
    if not chosen:
        return None
    at, to = disputed[chosen], disputed[target[chosen]]
    rank = np.argsort(np.argsort(-probs, axis=1, kind="stable"), axis=1, kind="stable")
    likeliest = rank < labels.sum(axis=1, keepdims=True)
    hits = [(labels[:, at] & likeliest[:, columns]).sum(axis=0) for columns in (at, to)]
    lists = (at, to, labels[:, at].sum(axis=0), *hits)
    classes, fits, n, n_assumed, n_fits = (tuple(map(int, values)) for values in lists)
    return Moved(name, classes, fits, n, n_assumed, n_fits)


def _standard(values: Floats | Bools) -> Floats:
    """Return columns of mean 0 and variance 1; of nothing but 0 where they do not vary."""
    centred = values - values.mean(axis=0, dtype=np.float64)
    spread = centred.std(axis=0)
    return np.asarray(centred / np.where(spread > 0, spread, np.inf))


def _moved_of(name: str, votes: Ints, given: Ints, n_classes: int) -> Moved | None:
    n_rows = np.bincount(given, minlength=n_classes)
    own = np.bincount(given[votes == given], minlength=n_classes)
    disputed = np.flatnonzero(2 * own < np.maximum(n_rows, 1))
    if not 2 <= len(disputed) <= MAX_DISPUTED:
        return None
    place = np.full(n_classes, -1)
    place[disputed] = np.arange(len(disputed))
    row, column = place[given], place[votes]
    inside = (row >= 0) & (column >= 0)
    size = len(disputed)
    counts = np.bincount(row[inside] * size + column[inside], minlength=size * size).reshape(size, size)
    if (counts.max(axis=1) <= counts.diagonal()).all():
        return None
    from scipy.optimize import linear_sum_assignment  # noqa: PLC0415 - slow to load, and seldom needed

    # twice the agreement and one for the own column: a tie moves nothing
    _, target = linear_sum_assignment(2 * counts + np.eye(size, dtype=counts.dtype), maximize=True)
    new = counts[np.arange(size), target]
    chosen = sorted(
        int(one)
        for cycle in _cycles(target)
        if _is_sure(n_rows[disputed[cycle]], own[disputed[cycle]], new[cycle], n_classes)
        for one in cycle
    )
    if not chosen:
        return None
    at = disputed[chosen]
    lists = (at, disputed[target[chosen]], n_rows[at], own[at], new[chosen])
    classes, fits, n, n_assumed, n_fits = (tuple(map(int, values)) for values in lists)
    return Moved(name, classes, fits, n, n_assumed, n_fits)


def _cycles(target: Ints) -> Iterator[Ints]:
    """Yield the cycles of a permutation that are longer than one."""
    seen = np.zeros(len(target), dtype=bool)
    for first in range(len(target)):
        cycle, at = [], first
        while not seen[at]:
            seen[at] = True
            cycle.append(at)
            at = int(target[at])
        if len(cycle) > 1:
            yield np.array(cycle)


def _is_sure(n_rows: Ints, own: Ints, new: Ints, n_classes: int) -> bool:
    """Return whether each class of a cycle fits its new column far beyond chance.

    Hoeffding's bound: of m rows that choose the one column or the other, the new one gets a share of p or more with a
    probability of at most exp(-2 m (p - 1/2)²) if it is no better; times K classes, that has to be below one in 1,000.
    In a long cycle, where luck does not line up, more than half of a class's rows are enough.
    """
    m = np.maximum(own + new, 1)
    excess: Floats = 2.0 * m * (new / m - 0.5) ** 2
    sure = (new >= 2 * own) & (excess >= np.log(n_classes) + LOG_CHANCE)
    if len(sure) < MANY_CLASSES or n_rows.sum() < _ROWS_A_CLASS * len(sure):
        return bool(sure.all())
    return bool((sure | (2 * new > n_rows)).mean() >= _SHARE_OF_MANY)


def order_warning(
    teachers: Sequence[str], moved: Moved, classes: Sequence[str], columns: Sequence[int], remedy: str
) -> dict[str, Any]:
    """Return JSON values on teachers whose classes moved alike, with a message for people.

    Args:
        teachers: as they are to be called.
        moved: of any of them.
        classes: K, in the order of the indices.
        columns: (K,) the column that a class was assumed to have; -1 = none.
        remedy: what to do, with {classes} where the list that fits is to stand.
    """
    rows: list[dict[str, Any]] = [
        {
            "class": classes[k],
            "column_assumed": columns[k],
            "column_that_fits": columns[to],
            "named": classes[to],
            "n_rows": n,
            "n_agree_assumed": n_assumed,
            "n_agree_that_fits": n_fits,
        }
        for k, to, n, n_assumed, n_fits in zip(
            moved.classes, moved.fits, moved.n_rows, moved.n_assumed, moved.n_fits, strict=True
        )
    ]
    fitting = classes_that_fit(moved, classes, columns)
    told = "; ".join(
        f"of {row['n_rows']:,} rows labeled {row['class']}, {row['n_agree_that_fits'] / row['n_rows']:.0%} have their "
        f"first choice in column {row['column_that_fits']}, taken for {row['named']}, and "
        f"{row['n_agree_assumed'] / row['n_rows']:.0%} in column {row['column_assumed']}, taken for {row['class']}"
        for row in rows[:_SHOWN]
        if row["n_rows"]
    )
    more = f"; {len(rows) - _SHOWN} more classes fit other columns" if len(rows) > _SHOWN else ""
    listed = ",".join(fitting[:_LISTED]) + ("" if len(fitting) <= _LISTED else ",… (the whole list: --json)")
    message = (
        f"the columns of {', '.join(teachers)} seem to stand in another order than was assumed (columns count from 0): "
        f"{told}{more}. If so, the flags of these classes are wrong; if the order is right, most of their labels are. "
        f"Nothing was reordered. {remedy.replace(_FITTING, listed)}"
    )
    return {"teachers": list(teachers), "moved": rows, "classes_that_fit": fitting, "message": message}


def classes_that_fit(moved: Moved, classes: Sequence[str], columns: Sequence[int]) -> list[str]:
    """Return the classes in the order of a teacher's columns as the labels would have it."""
    fitting = dict(enumerate(classes)) | {to: classes[k] for k, to in zip(moved.classes, moved.fits, strict=True)}
    known = sorted((column, k) for k, column in enumerate(columns) if column >= 0)
    return [fitting[k] for _, k in known]


def shown_order(classes: Sequence[str]) -> str:
    """Return the classes in their order, the middle left out where there are many."""
    if len(classes) <= _LISTED:
        return ", ".join(classes)
    half = _LISTED // 2
    return f"{', '.join(classes[:half])}, … {', '.join(classes[-2:])} ({len(classes):,} classes)"
