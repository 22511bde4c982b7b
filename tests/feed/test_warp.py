"""Geometry that image, mask and class map share."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.errors import ConfigError
from curate.feed.masks import IGNORE
from curate.feed.warp import Frame, checked, nearest, random_affine, sampled_linearly

MIRROR = np.array([[-1.0, 0.0, 1.0], [0.0, 1.0, 0.0]])


def test_a_mirror_is_a_mirror_of_ids_and_of_values() -> None:
    ids = np.arange(6 * 8).reshape(6, 8)
    np.testing.assert_array_equal(nearest(ids, Frame((6, 8), MIRROR), IGNORE), ids[:, ::-1])
    values = ids.astype(np.float32)
    np.testing.assert_allclose(sampled_linearly(values, (6, 8), MIRROR), values[:, ::-1], atol=1e-3)
    np.testing.assert_array_equal(nearest(ids, Frame((6, 8), np.eye(2, 3)), IGNORE), ids)


def test_a_stretch_takes_the_nearest_pixel_and_makes_no_new_id() -> None:
    ids = np.random.default_rng(0).choice([3, 7, IGNORE], (30, 40))
    assert set(np.unique(nearest(ids, Frame((13, 21)), IGNORE))) <= {3, 7, IGNORE}
    np.testing.assert_array_equal(nearest(ids, Frame((60, 80)), IGNORE), ids.repeat(2, axis=0).repeat(2, axis=1))


@settings(deadline=None)
@given(st.integers(0, 50))
def test_a_point_goes_to_the_same_place_in_ids_and_values(seed: int) -> None:
    matrix = random_affine(flip=0.5, zoom=(0.7, 1.5), degrees=30, shift=0.1)(np.random.default_rng(seed), (48, 64))
    # a ramp is what bilinear sampling keeps exactly: its value is the place that was read
    ramp = np.tile((np.arange(64, dtype=np.float32) + 0.5) / 64, (48, 1))
    read = sampled_linearly(ramp, (48, 64), matrix)
    columns = nearest(np.tile(np.arange(64), (48, 1)), Frame((48, 64), matrix), -1)
    inside = (columns > 1) & (columns < 62) & (read > 0)
    rows = nearest(np.tile(np.arange(48)[:, None], (1, 64)), Frame((48, 64), matrix), -1)
    inside &= (rows > 1) & (rows < 46)
    assert inside.any()
    assert np.abs(read[inside] * 64 - 0.5 - columns[inside]).max() <= 0.6  # half a pixel, and OpenCV's 1/32


def test_outside_is_ignored_and_black() -> None:
    out = np.array([[2.0, 0.0, -0.5], [0.0, 2.0, -0.5]])  # the image fills the middle quarter
    made = nearest(np.zeros((8, 8), dtype=np.int64), Frame((8, 8), out), IGNORE)
    assert (made[2:6, 2:6] == 0).all()
    assert (made == 0).sum() == 16
    assert not sampled_linearly(np.full((8, 8), 9.0, dtype=np.float32), (8, 8), out)[0].any()


@pytest.mark.parametrize("options", [{"flip": 2}, {"zoom": (2.0, 1.0)}, {"zoom": (0.0, 1.0)}, {"degrees": -1}])
def test_impossible_numbers_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match="given:"):
        random_affine(**options)  # type: ignore[arg-type] - what the test is about


def test_a_warp_that_is_no_matrix_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"\(2, 3\) matrix"):
        checked(np.eye(3))
