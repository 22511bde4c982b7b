"""Features that need no weights of anybody: patterns, oriented gradients, a colour layout."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from curate.teachers.patches import patch_features, shipped_digest, shipped_filters
from curate.teachers.pixels import Pixels

VERSION = 2
SIDE_PX = 32  # whatever the image's size
CELL_PX = 8
LAYOUT_PX = 6
HOG_DIM = 324
LAYOUT_DIM = LAYOUT_PX * LAYOUT_PX * 3


def n_pixel_features() -> int:
    """Return how many values `pixel_features` gives for an image."""
    return shipped_filters().n_features + HOG_DIM + LAYOUT_DIM


def pixel_features_version() -> str:
    """Return what decides the values of `pixel_features`, for the cache key."""
    return f"pixels-{VERSION}-{shipped_digest()[:8]}"


def pixel_features(images: Sequence[Pixels]) -> np.ndarray:
    """Return float32 (n, n_features) at 32 px: patterns of patches, oriented gradients and a 6 x 6 Lab layout.

    The patterns (`curate.teachers.patches`) do not tell an image from its mirror image; the gradients (Dalal and
    Triggs, CVPR 2005, in 8 px cells) and the layout do.
    """
    import cv2  # noqa: PLC0415 - loaded in the workers that decode

    block, cell = (2 * CELL_PX, 2 * CELL_PX), (CELL_PX, CELL_PX)
    hog = cv2.HOGDescriptor((SIDE_PX, SIDE_PX), block, cell, cell, 9)
    small = np.stack([_resized(image, SIDE_PX) for image in images])
    shapes = np.empty((len(images), HOG_DIM + LAYOUT_DIM), dtype=np.float32)
    for row, image in zip(shapes, small, strict=True):
        row[:HOG_DIM] = np.ravel(hog.compute(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)))
        row[HOG_DIM:] = np.ravel(_resized(cv2.cvtColor(image, cv2.COLOR_BGR2LAB), LAYOUT_PX)) / np.float32(85.0)
    return np.concatenate([patch_features(small, shipped_filters()), shapes], axis=1)


def _resized(image: Pixels, side_px: int) -> Pixels:
    import cv2  # noqa: PLC0415 - loaded in the workers that decode

    shrinks = min(image.shape[:2]) >= side_px
    method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    resized: Pixels = cv2.resize(image, (side_px, side_px), interpolation=method)
    return resized
