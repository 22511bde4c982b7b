"""Which class the training rows of a probe truly are: their labels weighed against what the other rows say."""

from __future__ import annotations

import numpy as np

from curate.teachers.classifiers import Matrix
from curate.teachers.kernel import KernelMap, LeaveOut, log_softmax, ridge_and_sharpness
from curate.teachers.mixture import fit_mixture, posterior
from curate.teachers.noise import confident_transition
from curate.teachers.pool import PROB_FLOOR, class_means


def class_shares(features: Matrix, position: np.ndarray, folds: np.ndarray, n_rounds: int) -> Matrix:
    """Return (n, n_seen) p(true class | image, given label) of the rows that a probe is about to be fitted on.

    A kernel probe judges each fold by the others; the posterior under the transition matrix that its confident
    answers imply takes the place of the labels, and the probe is fitted again, `n_rounds` times. Where the
    likelihood of the labels asks for no noise, they stay as they are: a weak probe must not correct clean labels.

    Args:
        features: (n, d).
        position: (n,) given classes, 0 … n_seen - 1.
        folds: (n,) of these rows alone: the rows that will be judged take no part, so that no label has a say in
            its own judgement.
        n_rounds: 0 = the labels as they are.
    """
    n_seen = int(position.max()) + 1
    shares: Matrix = np.eye(n_seen)[position]
    numbers = np.unique(folds)
    if n_rounds < 1 or len(numbers) < 2:
        return shares
    leave = LeaveOut(KernelMap(features)(features), folds)
    ridge, sharpness = ridge_and_sharpness(leave, shares.astype(np.float32), [int(numbers[0])])
    for round_ in range(n_rounds):
        scores = leave.all_scores(shares.astype(np.float32), ridge)
        logs = np.maximum(log_softmax(sharpness * scores.astype(np.float64)), np.log(PROB_FLOOR))
        if round_ == 0 and _is_clean(logs, position):
            return shares
        probs = np.exp(logs)
        transition, _ = confident_transition(probs, position, class_means(probs, position))
        shares = posterior(logs, position, transition)
    return shares


def _is_clean(logs: Matrix, position: np.ndarray) -> bool:
    answered = np.ones((len(position), 1), dtype=bool)
    return bool(fit_mixture(logs[:, None], answered, position).kind == "none")
