"""Mask files: PNGs of class ids, and probability maps in npy or npz, by the stem of their image."""

from __future__ import annotations

import warnings
import zipfile
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from curate.errors import InputError
from curate.teachers.regions.answers import Answer
from curate.teachers.regions.canvas import NONE, Ids

PNG, MAPS = (".png",), (".npy", ".npz")


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
    if ids.dtype.kind not in "bui":
        raise InputError(f"The mask {file} holds {ids.dtype} values; a pixel's value must be the id of its class.")
    return ids.astype(np.int32)


def read_answer(file: Path, numbers: Mapping[int, int], n_classes: int, ignore: Collection[int] = ()) -> Answer:
    """Return what a teacher's file says: a PNG of class ids, or probabilities (K, H, W) or (H, W, K) in npy or npz.

    Of an npz the only (or first) array counts. Whether they are probabilities is checked where they are read.

    Raises:
        InputError: it cannot be read, holds an id of no class, or has other classes.
    """
    if file.suffix.lower() in PNG:
        ids = read_ids(file)
        unknown = sorted(set(np.unique(ids).tolist()) - set(numbers) - set(ignore))
        if unknown:
            raise InputError(
                f"The mask {file} holds the class id {unknown[0]}, and there are {n_classes} classes (0 to "
                f"{n_classes - 1}). Name them all with --classes, or say with --ignore which id says nothing."
            )
        return Answer(n_classes, codes=numbered(ids, numbers), source=str(file))
    array = read_map(file)
    if array.ndim != 3 or n_classes not in (array.shape[0], array.shape[2]) or array.size == 0:
        raise InputError(
            f"The probability map {file} must have three axes, one of them the {n_classes} classes (first or last); "
            f"its shape is {array.shape}."
        )
    if array.dtype.kind != "f":
        raise InputError(
            f"The probability map {file} must hold floating-point probabilities; it holds {array.dtype}. A map of class "
            "ids is given as a PNG."
        )
    return Answer(
        n_classes, probs=array if array.shape[0] == n_classes else np.moveaxis(array, 2, 0), source=str(file)
    )


def read_map(file: Path) -> npt.NDArray[Any]:
    """Return the array of an npy (left on disk), or the first one of an npz.

    Raises:
        InputError: it cannot be read.
    """
    try:
        loaded = np.load(file, allow_pickle=False, mmap_mode="r" if file.suffix.lower() == ".npy" else None)
        array: npt.NDArray[Any] = loaded[min(loaded.files)] if hasattr(loaded, "files") else loaded
    except (OSError, ValueError, EOFError, IndexError, zipfile.BadZipFile) as error:
        raise InputError(f"The probability map {file} cannot be read: {error}") from error
    return array


def numbered(ids: Ids, numbers: Mapping[int, int]) -> Ids:
    """Return the position of each class id, NONE where it is none of `numbers`."""
    codes = np.full(max(int(ids.max(initial=0)), *numbers, 0) + 1, NONE, dtype=np.int32)
    codes[list(numbers)] = list(numbers.values())
    found: Ids = np.where(ids < 0, np.int32(NONE), codes[np.maximum(ids, 0)])
    return found
