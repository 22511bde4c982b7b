"""Who errs on a class far more than others do."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from curate.statistics.exact import share_interval
from curate.teachers.noise import Ints

ALPHA = 0.05


@dataclass(frozen=True, slots=True)
class StandsOut:
    """An annotator on a class that he gives: `n_wrong` of `n` answers are contradicted, of others a share of `usual`."""

    annotator: int
    label: int
    n: int
    n_wrong: int
    low: float
    high: float
    usual: float


def stand_out(
    n_by: Ints, wrong_by: Ints, *, min_labels: int, min_ratio: float, min_ratio_low: float
) -> list[StandsOut]:
    """Return the annotators who stand out on a class.

    An annotator stands out where the exact lower limit of his share is above that of the others on that class even
    after all classes of all annotators were looked at (Bonferroni), and where his multiple of their share is surely
    large; where the others err, both rise.

    Args:
        n_by: (annotators, classes) answers that can be judged.
        wrong_by: those of them that are contradicted.
        min_labels: with fewer answers on a class nobody is judged on it.
        min_ratio: of the others' share, at least.
        min_ratio_low: of the others' share, at least, by the lower end of the 95 % interval.
    """
    n_others, wrong_others = n_by.sum(axis=0) - n_by, wrong_by.sum(axis=0) - wrong_by
    average = np.where(n_others > 0, wrong_others / np.maximum(n_others, 1), 0.0)
    candidates = np.argwhere(n_by >= min_labels)
    each = ALPHA / max(1, len(candidates))
    found = []
    for who, label in candidates.tolist():
        n, n_wrong, usual = int(n_by[who, label]), int(wrong_by[who, label]), float(average[who, label])
        if usual <= 0 or n_wrong / n < min_ratio * usual:
            continue
        if share_interval(n_wrong, n, alpha=2 * each)[0] <= usual:
            continue
        low, high = share_interval(n_wrong, n)
        if low >= min_ratio_low * usual:
            found.append(StandsOut(who, label, n, n_wrong, low, high, usual))
    return found
