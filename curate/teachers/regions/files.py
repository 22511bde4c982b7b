"""Mask files: PNGs of class ids, and probability maps in npy or npz, by the stem of their image."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from curate.errors import InputError
from curate.teachers.regions.judge import NONE, Floats, Ids

PNG, MAPS = (".png",), (".npy", ".npz")
TOLERANCE = 0.02  # of the sum of a pixel's probabilities: float16 and uint8 scales round


def files_by_stem(folder: Path, suffixes: tuple[str, ...], what: str) -> Mapping[str, Path]:
    """Return stem -> file of a folder and what is below it.

    Raises:
        InputError: no folder, nothing in it, or a stem that stands twice.
    """
    if not folder.is_dir():
        raise InputError(f"{what} needs a folder of files ({', '.join(suffixes)}); there is no folder {folder}.")
    found: dict[str, Path] = {}
    for file in sorted(folder.rglob("*")):
        if file.suffix.lower() not in suffixes or not file.is_file():
            continue
        key = str(file.relative_to(folder).with_suffix(""))
        if key in found:
            raise InputError(f"{what}: two files in {folder} are called {key}: {found[key].name} and {file.name}.")
        found[key] = file
    if not found:
        raise InputError(f"{what} needs files ({', '.join(suffixes)}); {folder} holds none.")
    return found


def read_ids(file: Path) -> Ids:
    """Return the (H, W) class ids of a PNG: gray values or palette indices.

    Raises:
        InputError: it cannot be read or holds colours.
    """
    from PIL import Image, UnidentifiedImageError  # noqa: PLC0415 - `curate --help` needs none of it

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(file) as image:
                ids = np.asarray(image)
    except (OSError, ValueError, SyntaxError, UnidentifiedImageError, Image.DecompressionBombError) as error:
        raise InputError(f"The mask {file} cannot be read: {error}") from error
    if ids.ndim == 3:
        if (ids[..., :3] != ids[..., :1]).any():
            raise InputError(f"The mask {file} holds colours; a pixel's value must be the id of its class.")
        ids = ids[..., 0]
    return ids.astype(np.int64)


def read_probs(file: Path, n_classes: int) -> Floats:
    """Return (K, H, W) probabilities of an npy, or of the only (or first) array of an npz; (H, W, K) is turned.

    Raises:
        InputError: it cannot be read, has other classes, or does not hold probabilities.
    """
    try:
        loaded = np.load(file, allow_pickle=False)
        array = loaded[min(loaded.files)] if hasattr(loaded, "files") else loaded
    except (OSError, ValueError, EOFError, IndexError) as error:
        raise InputError(f"The probability map {file} cannot be read: {error}") from error
    if array.ndim != 3 or n_classes not in (array.shape[0], array.shape[2]):
        raise InputError(
            f"The probability map {file} must have three axes, one of them the {n_classes} classes (first or last); "
            f"its shape is {array.shape}."
        )
    probs = np.asarray(array if array.shape[0] == n_classes else np.moveaxis(array, 2, 0), dtype=np.float32)
    total = probs.sum(axis=0)
    if not np.isfinite(probs).all() or probs.min() < 0 or np.abs(total - 1).max() > TOLERANCE:
        raise InputError(
            f"The probability map {file} must hold numbers from 0 that sum to 1 over the classes at each pixel; turn "
            "logits into probabilities first."
        )
    exact: Floats = probs / total
    return exact


def one_hot(ids: Ids, numbers: Mapping[int, int], n_classes: int) -> Floats:
    """Return (K, H, W) probabilities of a mask of a teacher: 1 for the class it says, uniform where it says none."""
    code = numbered(ids, numbers)
    probs = np.zeros((n_classes, *ids.shape), dtype=np.float32)
    for one in range(n_classes):
        probs[one] = code == one
    probs[:, code == NONE] = 1.0 / n_classes
    return probs


def numbered(ids: Ids, numbers: Mapping[int, int]) -> Ids:
    """Return the position of each class id, NONE where it is none of `numbers`."""
    known, inverse = np.unique(ids, return_inverse=True)
    codes = np.asarray([numbers.get(int(one), NONE) for one in known], dtype=np.int64)
    return codes[inverse].reshape(ids.shape)


def resized(probs: Floats, shape: tuple[int, ...]) -> Floats:
    """Return (K, h, w) probabilities at the size of the labels, by the nearest pixel."""
    height, width = shape[-2:]
    if probs.shape[1:] == (height, width):
        return probs
    rows = ((np.arange(height) + 0.5) * probs.shape[1] / height).astype(np.int64)
    columns = ((np.arange(width) + 0.5) * probs.shape[2] / width).astype(np.int64)
    return np.ascontiguousarray(probs[:, rows][:, :, columns])
