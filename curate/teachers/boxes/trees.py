"""Boosted trees beside the regression for places where a box may be missing: they see what only holds together.

An uncovered place says much if it is a sure one and little if it is faint; a person alone is another matter than one in
a crowd. A regression adds such facts up, trees find which count when. Neither is the better one everywhere, and their
mean (of log likelihood ratios) ranks better than both.

Trees could learn single rows by heart. So an unknown row is fitted as both, with the regression's chances as weights
(which come from other rows), leaves hold many rows, and the learning is slow.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from curate.teachers.boxes.geometry import Floats
from curate.teachers.boxes.logistic import softmax
from curate.teachers.boxes.mixture import Contrast

if TYPE_CHECKING:
    from sklearn.ensemble import HistGradientBoostingClassifier

DOUBT = -3.0  # log likelihood ratio of the regression; below, it speaks alone, and most places are there
MIN_MADE = 60  # rows that were made, in doubt; with fewer there is nothing to split
SEED = 0
DIGITS = 9  # of the evidence: a split must not hang on the rounding of sums


@dataclass(frozen=True, slots=True)
class Blend:
    """A regression of two kinds and trees that were fitted where it doubts.

    Attributes:
        contrast: the regression.
        trees: None where there was too little to fit them.
        offset: log odds of the rows that the trees were fitted to.
    """

    contrast: Contrast
    trees: HistGradientBoostingClassifier | None
    offset: float

    def posterior(self, x: Floats) -> Floats:
        """(N, 2) chance of each kind for rows of unknown kind with this evidence."""
        logs = self.contrast.log_likelihoods(x)
        ratio = logs[:, 1] - logs[:, 0]
        doubt = np.flatnonzero(ratio > DOUBT)
        if self.trees is not None and len(doubt):
            ratio[doubt] = (ratio[doubt] + _decide(self.trees, x[doubt]) - self.offset) / 2
        return softmax(np.stack([np.zeros(len(ratio)), ratio], axis=1) + np.log(self.contrast.rates))


def blend(contrast: Contrast, unknown: Floats, made: Floats) -> Blend:
    """Fit trees beside a regression.

    Args:
        contrast: of two kinds, fitted to these rows.
        unknown: (N, F) evidence of the rows of unknown kind.
        made: (M, F) of rows that were made to be of the second kind.
    """
    from sklearn.ensemble import HistGradientBoostingClassifier as Trees  # noqa: PLC0415 - takes a second to import
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # noqa: PLC0415 - scikit-learn's

    chance = contrast.posterior(unknown)[:, 1]
    offset = float(np.log((len(made) + chance.sum()) / max((1 - chance).sum(), 1e-9)))
    unsure = [np.subtract(*contrast.log_likelihoods(rows).T[::-1]) > DOUBT for rows in (unknown, made)]
    rows, certain, chance = unknown[unsure[0]], made[unsure[1]], chance[unsure[0]]
    if len(certain) < MIN_MADE or not len(rows):
        return Blend(contrast, None, 0.0)
    trees = Trees(
        max_iter=100,
        learning_rate=0.05,
        max_leaf_nodes=16,
        min_samples_leaf=40,
        l2_regularization=10.0,
        max_features=0.3,
        max_bins=63,
        early_stopping=False,
        random_state=SEED,
    )
    kind = np.repeat([0, 1, 1], [len(rows), len(rows), len(certain)])
    weight = np.concatenate([1 - chance, chance, np.ones(len(certain))])
    with threadpool_limits(limits=1):
        trees.fit(np.round(np.concatenate([rows, rows, certain]), DIGITS), kind, sample_weight=weight)
    return Blend(contrast, trees, offset)


def _decide(trees: HistGradientBoostingClassifier, x: Floats) -> Floats:
    from threadpoolctl import threadpool_limits  # noqa: PLC0415 - as above

    with threadpool_limits(limits=1):
        return np.asarray(trees.decision_function(np.round(x, DIGITS)), dtype=np.float64)
