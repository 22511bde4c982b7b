"""Geometry that image, mask and class map share: where each point of what is handed out lies in the image.

A warp is a (2, 3) matrix that takes x, y of the output to x, y of the image, both relative to their size (0 to 1, origin
at the top left). What lies outside the image is black, ignored in a mask, and unknown in a class map.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from curate.errors import ConfigError

Matrix = NDArray[np.float64]
Size = tuple[int, int]  # height, width
Warp = Callable[[np.random.Generator, Size], Matrix]


@dataclass(frozen=True)
class Frame:
    """What an item shows of its image.

    Attributes:
        size: height and width of what is handed out, pixels.
        matrix: the warp; None = all of the image.
        stretched: whether every item has this size.
    """

    size: Size
    matrix: Matrix | None = None
    stretched: bool = False


def random_affine(
    *, flip: float = 0.5, zoom: tuple[float, float] = (1.0, 1.0), degrees: float = 0.0, shift: float = 0.0
) -> Warp:
    """Return a warp that draws a mirror, a zoom, a rotation and a shift for each item and epoch.

    Args:
        flip: chance of a left-right mirror.
        zoom: least and largest factor; above 1 shows a part of the image, below 1 all of it and black around.
        degrees: largest rotation either way.
        shift: largest shift either way, in shares of the sides.

    Raises:
        ConfigError: a number that cannot be.
    """
    if not (0 <= flip <= 1 and 0 < zoom[0] <= zoom[1] and degrees >= 0 and shift >= 0):
        raise ConfigError(
            f"flip is in [0, 1], zoom two factors above 0 in order, degrees and shift from 0; given: {flip}, {zoom}, "
            f"{degrees}, {shift}."
        )

    def drawn(generator: np.random.Generator, size: Size) -> Matrix:
        mirrored, by, angle, *off = generator.uniform(
            [0, np.log(zoom[0]), -degrees, -shift, -shift], [1, np.log(zoom[1]), degrees, shift, shift]
        )
        turned, aspect = np.deg2rad(angle), size[1] / size[0]
        sign = -1.0 if mirrored < flip else 1.0
        turn = np.array([[np.cos(turned), -np.sin(turned) / aspect], [np.sin(turned) * aspect, np.cos(turned)]])
        linear = turn @ np.diag([sign, 1.0]) / np.exp(by)
        middle = np.array([0.5, 0.5])
        return np.column_stack([linear, middle - linear @ middle + np.array(off)])

    return drawn


def checked(matrix: Matrix) -> Matrix:
    """Return a warp's matrix.

    Raises:
        ConfigError: it is none.
    """
    made = np.asarray(matrix, dtype=np.float64)
    if made.shape != (2, 3) or not np.isfinite(made).all():
        raise ConfigError(f"A warp returns a (2, 3) matrix of numbers; given: shape {made.shape}.")
    return made


def sampled_linearly(planes: NDArray[np.generic], size: Size, matrix: Matrix) -> NDArray[np.generic]:
    """Return (h, w) or (h, w, n) values at `size`, bilinear, 0 outside; n as far as OpenCV goes (4)."""
    import cv2  # noqa: PLC0415 - `import curate` must not load it

    to_px = _in_pixels(planes.shape[:2], size, matrix)
    made: NDArray[np.generic] = cv2.warpAffine(
        planes, to_px, size[::-1], flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP, borderMode=cv2.BORDER_CONSTANT
    )
    return made


def _in_pixels(source: tuple[int, ...], size: Size, matrix: Matrix) -> Matrix:
    """Return the matrix between centres of pixels: of the output to those of the source."""
    scale = np.diag([source[1], source[0]]).astype(np.float64)
    linear = scale @ matrix[:, :2] @ np.diag([1 / size[1], 1 / size[0]])
    offset = scale @ matrix[:, 2] + linear @ np.array([0.5, 0.5]) - 0.5
    return np.column_stack([linear, offset])


def nearest(values: NDArray[np.generic], frame: Frame, outside: float) -> NDArray[np.generic]:
    """Return (height, width) values of the nearest pixels, so that ids stay ids; `outside` beyond the image."""
    height, width = frame.size
    if frame.matrix is None:
        rows, columns = (
            ((np.arange(n) + 0.5) * own / n).astype(np.int64)
            for n, own in zip(frame.size, values.shape, strict=True)
        )
        return values[np.ix_(rows, columns)]
    x, y = (np.arange(width) + 0.5) / width, (np.arange(height) + 0.5) / height
    m = frame.matrix
    column = np.floor((m[0, 0] * x[None, :] + m[0, 1] * y[:, None] + m[0, 2]) * values.shape[1]).astype(np.int64)
    row = np.floor((m[1, 0] * x[None, :] + m[1, 1] * y[:, None] + m[1, 2]) * values.shape[0]).astype(np.int64)
    inside = (row >= 0) & (row < values.shape[0]) & (column >= 0) & (column < values.shape[1])
    taken = values[np.clip(row, 0, values.shape[0] - 1), np.clip(column, 0, values.shape[1] - 1)]
    return np.where(inside, taken, np.asarray(outside, dtype=values.dtype))
