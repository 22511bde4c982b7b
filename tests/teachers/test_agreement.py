"""A teacher of other classes, images or sequences is named; one that is merely weak is not."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.teachers.agreement import MIN_LABELS, doubt_classes, doubt_places, is_chance

CLASSES = ("ground", "car", "dog", "tree")


def labels(n: int = 400, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).choice(len(CLASSES), size=n, p=(0.7, 0.1, 0.1, 0.1))


def classes_doubted(named: np.ndarray, given_: np.ndarray) -> str | None:
    doubt = doubt_classes("t", given_, named, CLASSES, "Check the ids.", things="boxes")
    return None if doubt is None else doubt.message


def test_class_ids_that_are_off_by_one_are_named_with_what_stands_for_what() -> None:
    told = classes_doubted((labels() + 1) % 4, labels())
    assert told is not None
    assert told.startswith("t: of 400 boxes it names the labeled class for 0.0%")
    assert "most of ground is car to it" in told
    assert "Check the ids." in told


def test_ids_that_are_right_for_the_commonest_class_alone_are_named() -> None:
    truth = labels()
    told = classes_doubted(np.where(truth == 0, 0, truth % 3 + 1), truth)
    assert told is not None
    assert "boxes other than ground" in told


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 1000), st.floats(0.25, 1.0))
def test_a_weak_teacher_is_not_doubted(seed: int, right: float) -> None:
    random = np.random.default_rng(seed)
    truth = random.integers(4, size=400)
    named = np.where(random.uniform(size=400) < right, truth, random.integers(4, size=400))
    assert classes_doubted(named, truth) is None


def test_a_teacher_that_knows_the_commonest_class_only_is_not_doubted() -> None:
    truth = labels()
    assert classes_doubted(np.zeros_like(truth), truth) is None


def test_too_few_labels_and_none_say_nothing() -> None:
    few = labels(MIN_LABELS - 1)
    assert classes_doubted((few + 1) % 4, few) is None
    assert classes_doubted((labels(MIN_LABELS) + 1) % 4, labels(MIN_LABELS)) is not None
    assert classes_doubted(few[:0], few[:0]) is None


@pytest.mark.parametrize(
    ("n_seen", "n", "precision", "chance", "is_named"),
    [
        (4, 100, 0.01, 0.05, True),
        (0, MIN_LABELS, 0.0, 0.0, True),
        (0, MIN_LABELS - 1, 0.0, 0.0, False),
        (4, 100, 0.9, 0.05, False),  # it answered for a few images, rightly
        (20, 100, 0.1, 0.05, False),  # weak
        (20, 100, 0.1, 0.2, True),  # as often as boxes of other images
        (90, 100, 0.9, 0.9, False),  # a camera and things at rest
    ],
)
def test_places_are_held_against_chance(
    n_seen: int, n: int, precision: float, chance: float, *, is_named: bool
) -> None:
    doubt = doubt_places("t", n_seen, n, precision, chance, "Check the file.")
    assert (doubt is not None) == is_named
    if doubt is not None:
        assert f"sees {n_seen / n:.1%} of the {n} labeled boxes" in doubt.message
        assert doubt.to_json()["message"] == doubt.message


@given(st.floats(0, 1), st.floats(0, 1))
def test_more_agreement_never_brings_a_doubt(share: float, chance: float) -> None:
    assert not is_chance(min(1.0, share + 0.1), chance) or is_chance(share, chance)
