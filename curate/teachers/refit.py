"""Which class the training rows of a probe truly are: their labels weighed against what the other rows say."""

from __future__ import annotations

import numpy as np

from curate.teachers.classifiers import Matrix, linear_at, linear_strength
from curate.teachers.mixture import fit_mixture, posterior
from curate.teachers.noise import confident_transition
from curate.teachers.pool import class_means, log_probs


def class_shares(features: Matrix, position: np.ndarray, folds: np.ndarray, n_rounds: int, *, seed: int) -> Matrix:
    """Return (n, n_seen) p(true class | image, given label) of the rows that a probe is about to be fitted on.

    A linear probe judges each fold by the others; the posterior under the transition matrix that its confident
    answers imply takes the place of the labels, and the probe is fitted again, `n_rounds` times. Where the
    likelihood of the labels asks for no noise, they stay as they are: a weak probe must not correct clean labels.

    Args:
        features: (n, d).
        position: (n,) given classes, 0 … n_seen - 1.
        folds: (n,) of these rows alone: the rows that will be judged take no part, so that no label has a say in
            its own judgement.
        n_rounds: 0 = the labels as they are.
        seed: of the fits.
    """
    n_seen = int(position.max()) + 1
    shares: Matrix = np.eye(n_seen)[position]
    numbers = np.unique(folds)
    if n_rounds < 1 or len(numbers) < 2:
        return shares
    strength = linear_strength(features, shares, folds == numbers[0], seed)
    for round_ in range(n_rounds):
        probs = np.empty_like(shares)
        for fold in numbers:
            held = folds == fold
            probs[held] = linear_at(strength, features[~held], shares[~held], seed)(features[held])
        logs = log_probs(probs)
        if round_ == 0 and _is_clean(logs, position):
            return shares
        transition, _ = confident_transition(probs, position, class_means(probs, position))
        shares = posterior(logs, position, transition)
    return shares


def _is_clean(logs: Matrix, position: np.ndarray) -> bool:
    answered = np.ones((len(position), 1), dtype=bool)
    return bool(fit_mixture(logs[:, None], answered, position).kind == "none")
