"""Upright pixels → measures. Pure, deterministic, the same for the same picture whoever decoded it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]

WORKING_SIDE_PX = 64  # sharpness is compared at one size, or a large photo would always look sharper
SAMPLED_PIXELS = 65_536  # percentiles and histograms of more pixels than this come from an even grid of them
COLOR_PIXELS = 16_384
HASH_SIDE_PX = 32
HASH_BITS_SIDE = 8
_BRIGHTNESS_BINS = 1024
_RGB_WEIGHTS = (0.241, 0.691, 0.068)  # Finley, HSP colour model: perceived brightness of R, G, B


@dataclass(frozen=True, slots=True)
class Measures:
    """The columns of `schema.SCAN` that come from pixels."""

    phash: int
    brightness_p05: float
    brightness_p50: float
    brightness_p99: float
    blur_laplacian_std: float
    blur_luma_std: float
    entropy_bits: float
    colorfulness: float
    thumbnail_sha256: str


def measure(pixels: Pixels) -> Measures:
    """Measure upright pixels.

    Args:
        pixels: uint8, (height, width) for gray or (height, width, 3) for RGB.
    """
    import cv2  # noqa: PLC0415 - `import curate` must not load it

    luma = pixels if pixels.ndim == 2 else cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
    p05, p50, p99 = brightness_percentiles(pixels)
    small = working_luma(luma)
    blur, histogram_std = sharpness(small)
    return Measures(
        phash=perceptual_hash(small),
        brightness_p05=p05,
        brightness_p50=p50,
        brightness_p99=p99,
        blur_laplacian_std=blur,
        blur_luma_std=histogram_std,
        entropy_bits=entropy_bits(luma),
        colorfulness=colorfulness(pixels),
        thumbnail_sha256=pixel_sha256(pixels),
    )


def brightness_percentiles(pixels: Pixels) -> tuple[float, float, float]:
    """Return the 5th, 50th and 99th percentile of sqrt(.241 R² + .691 G² + .068 B²) / 255, in [0, 1]."""
    sampled = _even_grid(pixels)
    if sampled.ndim == 2:
        counts = np.bincount(sampled.ravel(), minlength=256)
        levels = np.arange(256) / 255.0
    else:
        index = np.sqrt(_squared_brightness(sampled)) * (_BRIGHTNESS_BINS - 1) + 0.5
        counts = np.bincount(index.astype(np.int32).ravel(), minlength=_BRIGHTNESS_BINS)
        levels = np.arange(len(counts)) / (_BRIGHTNESS_BINS - 1)
    below = np.cumsum(counts)
    ranks = np.array([0.05, 0.50, 0.99]) * (below[-1] - 1)
    lower = levels[np.searchsorted(below, np.floor(ranks), side="right")]
    upper = levels[np.searchsorted(below, np.ceil(ranks), side="right")]
    p05, p50, p99 = np.minimum(lower + (upper - lower) * (ranks - np.floor(ranks)), 1.0)
    return float(p05), float(p50), float(p99)


def _squared_brightness(rgb: Pixels) -> npt.NDArray[np.float32]:
    import cv2  # noqa: PLC0415 - as above

    squares = cv2.multiply(rgb, rgb, dtype=cv2.CV_32F, scale=1.0 / (255.0 * 255.0))
    weighted: npt.NDArray[np.float32] = cv2.transform(squares, np.array([_RGB_WEIGHTS], np.float32))
    return weighted


def _even_grid(pixels: Pixels, most: int = SAMPLED_PIXELS) -> Pixels:
    """Return every n-th row and column, about `most` pixels; no averaging, which would hide extremes."""
    step = int(np.ceil(np.sqrt(pixels.shape[0] * pixels.shape[1] / most)))
    return np.ascontiguousarray(pixels[::step, ::step]) if step > 1 else pixels


def working_luma(luma: Pixels) -> Pixels:
    """Return the luma with its longer side at most `WORKING_SIDE_PX`; a smaller image stays as it is.

    Bicubic with antialiasing, as PIL's `resize`; averaging by whole numbers first where there is much to spare.
    """
    from PIL import Image  # noqa: PLC0415 - as above

    height, width = luma.shape
    ratio = max(width, height) / WORKING_SIDE_PX
    if ratio <= 1:
        return luma
    size = (max(int(width // ratio), 1), max(int(height // ratio), 1))
    image = Image.fromarray(luma)
    resized = image.resize(size, Image.Resampling.BICUBIC, reducing_gap=3.0)
    return np.asarray(resized, dtype=np.uint8)


def sharpness(luma: Pixels) -> tuple[float, float]:
    """Return the standard deviation of the edge image, and that of the counts of the 256-bin histogram.

    The edge image is the 8-neighbour Laplacian clipped to [0, 255], borders left as they are (PIL's FIND_EDGES).
    Few edges mean blur only in a picture whose histogram is spread out: high counts in few bins are a drawing, a
    scan or a flat area, which are meant to be smooth.
    """
    from PIL import Image, ImageFilter  # noqa: PLC0415 - as above

    edges = np.asarray(Image.fromarray(luma).filter(ImageFilter.FIND_EDGES))
    counts = np.bincount(luma.ravel(), minlength=256)
    return float(edges.std()), float(counts.std())


def entropy_bits(luma: Pixels) -> float:
    """Return the Shannon entropy of the 256-bin luma histogram, in [0, 8]."""
    counts = np.bincount(_even_grid(luma).ravel(), minlength=256)
    share = counts[counts > 0] / counts.sum()
    return float(max(0.0, -(share * np.log2(share)).sum()))


def colorfulness(pixels: Pixels) -> float:
    """Return the colourfulness of Hasler and Süsstrunk (2003); 0 for gray, about 15 slight, over 80 extreme."""
    if pixels.ndim == 2:
        return 0.0
    red, green, blue = np.moveaxis(_even_grid(pixels, COLOR_PIXELS), -1, 0).astype(np.float64)
    red_green, yellow_blue = red - green, (red + green) / 2 - blue
    spread = np.hypot(red_green.std(), yellow_blue.std())
    return float(spread + 0.3 * np.hypot(red_green.mean(), yellow_blue.mean()))


def perceptual_hash(luma: Pixels) -> int:
    """Return 64 bits: the signs of the 8 x 8 lowest frequencies against their median (pHash, Zauner 2010).

    Bit 63 is the coefficient (0, 0), row by row. The coefficients are rounded first, so that a flat image hashes to
    the same value whatever the noise of the last float digit is.

    Args:
        luma: of the upright image at the working size.
    """
    import cv2  # noqa: PLC0415 - as above

    small = cv2.resize(luma, (HASH_SIDE_PX, HASH_SIDE_PX), interpolation=cv2.INTER_AREA)
    frequencies = cv2.dct(small.astype(np.float32))[:HASH_BITS_SIDE, :HASH_BITS_SIDE].ravel()
    rounded = np.round(frequencies.astype(np.float64), 1)
    bits = rounded > np.median(rounded)
    return int.from_bytes(np.packbits(bits).tobytes(), "big")


def pixel_sha256(pixels: Pixels) -> str:
    """Return the sha256 of size and RGB pixels: equal for the same picture in another lossless file."""
    rgb: Any = pixels if pixels.ndim == 3 else np.repeat(pixels[..., None], 3, axis=2)
    digest = hashlib.sha256(f"{rgb.shape[1]}x{rgb.shape[0]}:".encode())
    digest.update(np.ascontiguousarray(rgb).data)
    return digest.hexdigest()
