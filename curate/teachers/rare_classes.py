"""Hard or wrong: teachers know rare classes badly, and their ignorance looks like wrong labels.

A class that is rare beside the most common one has to lose no more than twice what common ones lose: its cut is higher.
Under a channel the posterior says how many right labels a cut costs, and these are what is compared; sure evidence costs
next to none and counts in any class. Else wrong and hard cannot be told apart from the teachers alone, and all flags are
compared. What falls between the cuts ranks right below the flagged.
"""

from __future__ import annotations

import numpy as np

from curate.teachers.noise import Floats, Ints

RARE = 1 / 3  # of the rows of the most common class
AT_MOST = 2.0  # times the flagged share of the common classes
LEAST_DOUBT = 1 / 500  # no posterior on a rare class is surer: teachers have seen little of it
LUCK = 0.5  # of a right label in expectation costs a class nothing: sure flags add up to it
_BELOW = 1e-3


def rare_classes(given: Ints, n_classes: int) -> Ints:
    """Return the classes that have rows, though fewer than a third of the most common one."""
    n_rows = np.bincount(given, minlength=n_classes)
    return np.flatnonzero((n_rows > 0) & (n_rows < RARE * n_rows.max()))


def right_shares(rule: str, distance: Floats) -> Floats:
    """Return (N,) how much of a right label flagging each row costs.

    Args:
        rule: of the model; under "channel" the distance is the log odds that the label is wrong, else a flag may cost
            a whole one.
        distance: (N,) from the cut.
    """
    if rule != "channel":
        return np.ones(len(distance))
    return np.asarray(np.maximum(1.0 / (1.0 + np.exp(np.clip(distance, -500.0, 500.0))), LEAST_DOUBT))


def class_offsets(distance: Floats, given: Ints, right: Floats, n_classes: int) -> Floats:
    """Return (K,) how far beyond the cut a row of each class has to be; 0 but for rare classes that need it.

    Args:
        distance: (N,) from the cut, flagged from 0 on.
        given: (N,) class indices.
        right: (N,) from `right_shares`.
        n_classes: K.
    """
    offsets = np.zeros(n_classes)
    n_rows = np.bincount(given, minlength=n_classes)
    order = np.lexsort((np.arange(n_classes), -n_rows))
    before = np.cumsum(n_rows[order]) - n_rows[order]
    common = np.isin(given, order[before < 0.5 * len(given)])  # the largest classes that hold half of the rows
    limit = AT_MOST * float(right[common & (distance >= 0)].sum() / max(right[common].sum(), 1e-9))
    for k in rare_classes(given, n_classes):
        mine = np.flatnonzero(given == k)
        mine = mine[np.argsort(-distance[mine], kind="stable")]
        n_flagged = int((distance[mine] >= 0).sum())
        cost = np.cumsum(right[mine])
        n_allowed = int((cost[:n_flagged] <= max(limit * cost[-1], LUCK)).sum())
        if n_allowed < n_flagged:
            above = distance[mine[n_allowed - 1]] if n_allowed else distance[mine[0]] + 1.0
            offsets[k] = round(float(0.5 * (above + distance[mine[n_allowed]])), 9)
    return offsets


def beyond(distance: Floats, offset: Floats) -> Floats:
    """Return (N,) distances with those between 0 and the offset moved right below 0, in their order."""
    held = (distance >= 0) & (distance < offset)
    return np.where(held, -_BELOW * (1.0 - distance / np.where(held, offset, 1.0)), distance)
