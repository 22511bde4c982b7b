from __future__ import annotations

import cv2
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.teachers.patches import patch_features, patches_of, shipped_filters


def blots(n: int, seed: int) -> np.ndarray:
    """Return uint8 (n, 32, 32, 3): soft spots of colour, with edges as photographs have them."""
    drawn = np.random.default_rng(seed).integers(0, 256, (n, 8, 8, 3), dtype=np.uint8)
    return np.stack([cv2.resize(image, (32, 32)) for image in drawn]) if n else np.empty((0, 32, 32, 3), np.uint8)


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=10, deadline=None)
def test_a_picture_and_its_mirror_image_have_the_same_features(seed: int) -> None:
    images = blots(2, seed)
    mirrored = np.ascontiguousarray(images[:, :, ::-1])
    bank = shipped_filters()
    np.testing.assert_allclose(patch_features(images, bank), patch_features(mirrored, bank), atol=1e-5)


def test_an_upside_down_picture_has_others() -> None:
    images = blots(1, 0)
    bank = shipped_filters()
    assert np.abs(patch_features(images, bank) - patch_features(images[:, ::-1], bank)).max() > 0.05


def test_no_bit_depends_on_what_else_is_in_the_batch() -> None:
    images = blots(7, 1)
    bank = shipped_filters()
    alone = np.concatenate([patch_features(images[at : at + 1], bank) for at in range(7)])
    np.testing.assert_array_equal(patch_features(images, bank), alone)


def test_brightness_and_contrast_hardly_count_where_there_is_something_to_see() -> None:
    images = (blots(1, 2) // 2).astype(np.uint8)
    brighter = images + np.uint8(100)
    bank = shipped_filters()
    np.testing.assert_allclose(patch_features(images, bank), patch_features(brighter, bank), atol=1e-4)


def test_patches_have_mean_zero_and_contrast_one() -> None:
    patches = patches_of(blots(1, 3))
    assert patches.shape == (1, 27, 27, 108)
    np.testing.assert_allclose(patches.mean(axis=-1), 0, atol=1e-5)
    np.testing.assert_allclose(patches.std(axis=-1), 1, atol=0.01)


def test_a_flat_picture_gives_numbers_and_no_image_gives_no_row() -> None:
    bank = shipped_filters()
    flat = np.full((1, 32, 32, 3), 128, np.uint8)
    assert np.isfinite(patch_features(flat, bank)).all()
    assert patch_features(blots(0, 0), bank).shape == (0, bank.n_features)


def test_shipped_filters_are_unit_pairs_of_mirror_images() -> None:
    bank = shipped_filters()
    half = len(bank.filters) // 2
    squares = bank.filters.reshape(-1, 6, 6, 3)
    np.testing.assert_allclose(np.linalg.norm(bank.filters, axis=1), 1, atol=1e-2)
    np.testing.assert_array_equal(squares[:half][:, :, ::-1], squares[half:])
    assert bank.n_features == patch_features(blots(1, 0), bank).shape[1]
