"""What is fitted does not hang on how many CPUs a machine has."""

from __future__ import annotations

import numpy as np
import pytest
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from curate.teachers.boxes import arrange
from curate.teachers.boxes.fuse import Detections, Given
from curate.teachers.boxes.judge import judge
from curate.teachers.boxes.model import BoxModel, fit_boxes
from curate.teachers.sampling import order_keys

N_IMAGES, N_CLASSES = 150, 8


def boxes() -> tuple[Given, Detections]:
    """Return given boxes, one in ten of another class, and what two detectors see of them."""
    random = np.random.default_rng(0)
    image = np.repeat(np.arange(N_IMAGES), 7)
    n = len(image)
    place = np.concatenate([random.uniform(0, 0.7, (n, 2)), random.uniform(0.05, 0.25, (n, 2))], axis=1)
    label = random.integers(0, N_CLASSES, n)
    given = np.where(random.random(n) < 0.1, random.integers(0, N_CLASSES, n), label)
    keys, ties = order_keys(None, N_IMAGES), order_keys(None, n)
    names = [f"c{number}" for number in range(N_CLASSES)]
    seen = np.tile(place, (2, 1)) * random.normal(1, 0.05, (2 * n, 4))
    found = arrange.arrange_found(
        np.tile(image, 2), seen, np.tile(label, 2), random.uniform(0.2, 1, 2 * n), np.repeat([0, 1], n)
    )
    return arrange.arrange_given(image, place, given, keys, names, ties).given, found


@pytest.fixture(scope="module")
def fitted() -> list[BoxModel]:
    """Return what is fitted where BLAS has one and two threads."""
    models = []
    for n_threads in (1, 2):
        with threadpool_limits(limits=n_threads):
            models.append(fit_boxes(("a", "b"), *boxes(), N_IMAGES, N_CLASSES))
    return models


def test_no_bit_of_a_model_hangs_on_the_number_of_threads(fitted: list[BoxModel]) -> None:
    one, *others = (model.given for model in fitted)
    assert one is not None
    for other in others:
        assert other is not None
        assert np.array_equal(one.coefficients, other.coefficients)
    assert len({model.cuts.tobytes() for model in fitted}) == 1


def test_no_risk_hangs_on_the_number_of_threads(fitted: list[BoxModel]) -> None:
    risks = []
    for n_threads in (1, 2):
        with threadpool_limits(limits=n_threads):
            risks.append(judge(fitted[0], *boxes()).risk.tobytes())
    assert len(set(risks)) == 1
