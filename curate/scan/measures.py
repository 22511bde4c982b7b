"""Upright pixels → measures. Pure, deterministic, the same for the same picture whoever decoded it."""

from __future__ import annotations

import hashlib
import math
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
_EDGES = np.array([[-1, -1, -1], [-1, 8, -1], [-1, -1, -1]], np.float32)
_PIXEL = np.dtype("V3")
_LEVELS = np.arange(256)
_SQUARED_LEVELS = _LEVELS * _LEVELS
_RGB_WEIGHTS = np.array(
    [[0.241, 0.691, 0.068]], np.float32
)  # Finley, HSP colour model: perceived brightness of R, G, B


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
        n_bins, counts = 256, _counts(sampled)
    else:
        n_bins, counts = _BRIGHTNESS_BINS, _counts(_brightness_bins(sampled), _BRIGHTNESS_BINS)
    below = np.cumsum(counts)
    ranks = [share * (int(below[-1]) - 1) for share in (0.05, 0.50, 0.99)]
    whole = [math.floor(rank) for rank in ranks] + [math.ceil(rank) for rank in ranks]
    levels = (np.searchsorted(below, whole, side="right") / (n_bins - 1)).tolist()
    parts = (rank - math.floor(rank) for rank in ranks)
    p05, p50, p99 = (
        min(lower + (upper - lower) * part, 1.0)
        for lower, upper, part in zip(levels[:3], levels[3:], parts, strict=True)
    )
    return p05, p50, p99


def _brightness_bins(rgb: Pixels) -> npt.NDArray[np.uint16]:
    import cv2  # noqa: PLC0415 - as above

    squares = cv2.multiply(rgb, rgb, dtype=cv2.CV_32F, scale=1.0 / (255.0 * 255.0))
    brightness = cv2.transform(squares, _RGB_WEIGHTS)
    np.sqrt(brightness, out=brightness)
    brightness *= _BRIGHTNESS_BINS - 1
    brightness += 0.5
    binned: npt.NDArray[np.uint16] = brightness.astype(np.uint16)
    return binned


def _counts(values: npt.NDArray[Any], n_bins: int = 256) -> npt.NDArray[np.int64]:
    """Return how often each of the whole numbers below `n_bins` stands in an image; exact below 2**24 pixels."""
    import cv2  # noqa: PLC0415 - as above

    counts: npt.NDArray[np.float32] = cv2.calcHist([values], [0], None, [n_bins], [0, n_bins])
    return counts.ravel().astype(np.int64)


def _even_grid(pixels: Pixels, most: int = SAMPLED_PIXELS) -> Pixels:
    """Return every n-th row and column, about `most` pixels; no averaging, which would hide extremes."""
    step = int(np.ceil(np.sqrt(pixels.shape[0] * pixels.shape[1] / most)))
    if step == 1:
        return pixels
    if pixels.ndim == 2:
        return np.ascontiguousarray(pixels[::step, ::step])
    whole = np.ascontiguousarray(pixels).view(_PIXEL)[::step, ::step]  # copied pixel by pixel, not byte by byte
    return np.ascontiguousarray(whole).view(np.uint8)


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
    import cv2  # noqa: PLC0415 - as above

    edges = luma.copy()
    edges[1:-1, 1:-1] = cv2.filter2D(luma, -1, _EDGES)[1:-1, 1:-1]
    levels = _counts(edges)
    edge_std = _std(luma.size, int(levels @ _LEVELS), int(levels @ _SQUARED_LEVELS))
    return edge_std, float(_counts(luma).std())


def entropy_bits(luma: Pixels) -> float:
    """Return the Shannon entropy of the 256-bin luma histogram, in [0, 8]."""
    counts = _counts(_even_grid(luma))
    share = counts[counts > 0] / counts.sum()
    return float(max(0.0, -(share * np.log2(share)).sum()))


def colorfulness(pixels: Pixels) -> float:
    """Return the colourfulness of Hasler and Süsstrunk (2003); 0 for gray, about 15 slight, over 80 extreme."""
    if pixels.ndim == 2:
        return 0.0
    import cv2  # noqa: PLC0415 - as above

    rows = _even_grid(pixels, COLOR_PIXELS).reshape(-1, 3)
    # sums of whole numbers below 2**53: exact, whatever the order they are added in
    products = cv2.mulTransposed(rows, aTa=True, dtype=cv2.CV_64F).astype(np.int64)
    (rr, rg, rb), (_, gg, gb), (_, _, bb) = products.tolist()
    red, green, blue = (int(total) for total in cv2.sumElems(rows.reshape(-1, 1, 3))[:3])
    n = len(rows)
    red_green, yellow_blue_twice = red - green, red + green - 2 * blue
    spread = math.hypot(
        _std(n, red_green, rr - 2 * rg + gg),
        _std(n, yellow_blue_twice, rr + gg + 4 * bb + 2 * rg - 4 * rb - 4 * gb) / 2,
    )
    return spread + 0.3 * math.hypot(red_green / n, yellow_blue_twice / (2 * n))


def _std(n: int, total: int, squares: int) -> float:
    """Return the standard deviation of `n` whole numbers from their sum and that of their squares, both exact."""
    return math.sqrt(n * squares - total * total) / n


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
    middle = np.sort(rounded)[rounded.size // 2 - 1 : rounded.size // 2 + 1]
    bits = rounded > (middle[0] + middle[1]) / 2
    return int.from_bytes(np.packbits(bits).tobytes(), "big")


def pixel_sha256(pixels: Pixels) -> str:
    """Return the sha256 of size and RGB pixels: equal for the same picture in another lossless file."""
    rgb: Any = pixels if pixels.ndim == 3 else np.repeat(pixels[..., None], 3, axis=2)
    digest = hashlib.sha256(f"{rgb.shape[1]}x{rgb.shape[0]}:".encode())
    digest.update(np.ascontiguousarray(rgb).data)
    return digest.hexdigest()
