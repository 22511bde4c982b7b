from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest

from curate.teachers.independence import same_answers

N, K = 60, 4


def probs(seed: int) -> np.ndarray:
    p = np.random.default_rng(seed).dirichlet(np.ones(K), N)
    return np.asarray(p)


@pytest.mark.parametrize("order", list(permutations(range(5))))
def test_copies_of_copies_are_one_teacher_in_whatever_order_they_stand(order: tuple[int, ...]) -> None:
    step = np.zeros((N, K))
    step[:, 0], step[:, 1] = 1.5e-3, -1.5e-3  # alike within 2e-3, and not over two steps
    chain = [probs(0) + n * step for n in range(3)]
    teachers = [*chain, probs(1), probs(2)]
    stacked = np.stack([teachers[at] for at in order])
    same = same_answers(stacked, np.ones((N, 5), dtype=bool))
    of_chain = {same[place] for place, at in enumerate(order) if at < 3}
    assert of_chain == {min(place for place, at in enumerate(order) if at < 3)}
    assert [same[place] for place, at in enumerate(order) if at >= 3] == [
        place for place, at in enumerate(order) if at >= 3
    ]


def test_teachers_that_never_answer_together_are_not_the_same() -> None:
    answered = np.ones((N, 2), dtype=bool)
    answered[: N // 2, 0] = answered[N // 2 :, 1] = False
    assert same_answers(np.stack([probs(0), probs(0)]), answered) == (0, 1)
