"""How often an image shows each of a fixed set of small patterns, and where: features without a network.

Coates, Lee and Ng, "An analysis of single-layer networks in unsupervised feature learning" (AISTATS 2011):
contrast-normalised 6 x 6 colour patches at every position are whitened, compared with filters found by spherical
k-means, rectified on both sides and averaged over the four quarters. The filters were found once, on two
photographs (benchmarks/probe_features/learn_filters.py), so that features of an image never depend on the data
set it is in, and what was computed for it stays valid when others are added.

The set of filters is closed under left-right mirroring and comes in pairs. A filter's answer and its partner's
in the mirrored quarter are added up: a picture and its mirror image get the same features.
"""

from __future__ import annotations

import hashlib
import io
from functools import cache
from importlib.resources import files
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]

PATCH_PX = 6
THRESHOLD = 0.25  # cosine below which a patch does not count as like a filter
CONTRAST_FLOOR = 10.0  # variance in gray levels² under which a patch counts as flat
N_QUARTERS = 4
FILTERS_FILE = "patch_filters.npz"


class Filters(NamedTuple):
    """Whitening: mean (108,), matrix (108, 108); unit filters (F, 108), the partner of filter i at i ± F/2."""

    mean: Floats
    whitening: Floats
    filters: Floats

    @property
    def n_features(self) -> int:
        """Two signs, four quarters, one of each pair of filters in each."""
        return len(self.filters) * N_QUARTERS


@cache
def shipped_filters() -> Filters:
    """Return the filters that come with the package."""
    with np.load(io.BytesIO(_shipped_bytes())) as found:
        return Filters(*(found[name].astype(np.float32) for name in Filters._fields))


@cache
def shipped_digest() -> str:
    """Return the sha256 of the shipped filters, part of the name of the features made with them."""
    return hashlib.sha256(_shipped_bytes()).hexdigest()


def _shipped_bytes() -> bytes:
    return files("curate.teachers").joinpath(FILTERS_FILE).read_bytes()


def patch_features(images: npt.NDArray[np.uint8], bank: Filters) -> Floats:
    """Return float32 (n, F * 4) answers of the filters, square-rooted, in [0, 1].

    Args:
        images: uint8 (n, side, side, 3), blue green red.
        bank: the filters.
    """
    made = np.empty((len(images), bank.n_features), np.float32)
    for row, image in zip(made, images, strict=True):
        row[:] = _encode(image[None], bank)[0]  # one by one: no bit depends on what else is in the batch
    return made


def patches_of(images: npt.NDArray[np.uint8]) -> Floats:
    """Return float32 (n, positions, positions, 108): every patch with mean 0 and contrast 1; BGR runs fastest."""
    seen = np.lib.stride_tricks.sliding_window_view(images, (PATCH_PX, PATCH_PX), axis=(1, 2))
    flat = seen.transpose(0, 1, 2, 4, 5, 3).reshape(*seen.shape[:3], -1).astype(np.float32)
    flat -= flat.mean(axis=-1, keepdims=True)
    flat /= np.sqrt(np.einsum("...i,...i->...", flat, flat)[..., None] / flat.shape[-1] + CONTRAST_FLOOR)
    return flat


def _encode(images: npt.NDArray[np.uint8], bank: Filters) -> Floats:
    patches = patches_of(images)
    n_images, side = patches.shape[:2]
    white = (patches.reshape(-1, patches.shape[-1]) - bank.mean) @ bank.whitening
    white /= np.linalg.norm(white, axis=1, keepdims=True) + np.float32(1e-6)
    answers = (white @ bank.filters.T).reshape(n_images, side, side, -1)
    parts = []
    for signed in (answers, -answers):
        counted = np.maximum(signed - np.float32(THRESHOLD), 0)
        parts.append(_mirrored_too(_halved(_halved(counted, 1), 2)))
    return np.sqrt(np.concatenate(parts, axis=1), dtype=np.float32)


def _halved(values: Floats, axis: int) -> Floats:
    """Return the means of the two halves along `axis`; the middle of an odd length is in both, for mirrors."""
    length = values.shape[axis]
    half = -(-length // 2)
    first, last = (
        values.take(range(*at), axis=axis).mean(axis=axis) for at in ((0, half), (length - half, length))
    )
    stacked: Floats = np.stack([first, last], axis=axis)
    return stacked


def _mirrored_too(sums: Floats) -> Floats:
    """Return (n, F * 2) of (n, 2 rows, 2 columns, F): means of a filter's answer and its partner's mirrored."""
    n_pairs = sums.shape[-1] // 2
    both = (sums[..., :n_pairs] + sums[:, :, ::-1, n_pairs:]) / np.float32(2)
    return both.reshape(len(sums), -1).astype(np.float32, copy=False)
