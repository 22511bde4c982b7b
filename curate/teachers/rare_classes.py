"""Hard or wrong: teachers know rare classes badly, and their ignorance looks like wrong labels.

Where noise by class explains the labels and its posterior is sure, a label is wrong whatever its class. Else the two
cannot be told apart from the teachers alone, and a class that is rare beside the most common one has to lose no
more than twice what common ones lose: its cut is higher. What falls between the cuts ranks right below the flagged.
"""

from __future__ import annotations

import numpy as np

from curate.teachers.noise import Bools, Floats, Ints

RARE = 1 / 3  # of the rows of the most common class
AT_MOST = 2.0  # times the flagged share of the common classes
SURE_LOG_ODDS = float(np.log(99.0))  # of a hundred such labels one is right
_BELOW = 1e-3


def rare_classes(given: Ints, n_classes: int) -> Ints:
    """Return the classes that have rows, though fewer than a third of the most common one."""
    n_rows = np.bincount(given, minlength=n_classes)
    return np.flatnonzero((n_rows > 0) & (n_rows < RARE * n_rows.max()))


def contested(rule: str, distance: Floats) -> Bools:
    """Return (N,) rows whose evidence leaves room for a hard image.

    Args:
        rule: of the model; under "channel" the distance is the log odds that the label is wrong.
        distance: (N,) from the cut.
    """
    return np.asarray(distance < (SURE_LOG_ODDS if rule == "channel" else np.inf))


def class_offsets(distance: Floats, given: Ints, open_: Bools, n_classes: int) -> Floats:
    """Return (K,) how far beyond the cut a row of each class has to be; 0 but for rare classes that need it.

    Args:
        distance: (N,) from the cut, flagged from 0 on.
        given: (N,) class indices.
        open_: (N,) from `contested`; flagged rows that are not do not count.
        n_classes: K.
    """
    offsets = np.zeros(n_classes)
    n_rows = np.bincount(given, minlength=n_classes)
    order = np.lexsort((np.arange(n_classes), -n_rows))
    before = np.cumsum(n_rows[order]) - n_rows[order]
    common = np.isin(given, order[before < 0.5 * len(given)])  # the largest classes that hold half of the rows
    common &= open_ | (distance < 0)
    limit = AT_MOST * float((distance[common] >= 0).mean()) if common.any() else 0.0
    for k in rare_classes(given, n_classes):
        mine = np.sort(distance[(given == k) & (open_ | (distance < 0))])[::-1]
        n_allowed = int(limit * len(mine))
        if (mine >= 0).sum() > n_allowed:
            above = mine[n_allowed - 1] if n_allowed else mine[0] + 1.0
            offsets[k] = round(float(0.5 * (above + mine[n_allowed])), 9)
    return offsets


def beyond(distance: Floats, offset: Floats) -> Floats:
    """Return (N,) distances with those between 0 and the offset moved right below 0, in their order."""
    held = (distance >= 0) & (distance < offset)
    return np.where(held, -_BELOW * (1.0 - distance / np.where(held, offset, 1.0)), distance)
