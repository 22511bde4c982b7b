"""Pixels → the batch that a network wants."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from curate.errors import InputError
from curate.teachers.class_names import wrong_rows
from curate.teachers.each_class import wrong_cells
from curate.teachers.pixels import Pixels

BATCH = 32

Output = Literal["logits", "probabilities", "features", "each_logits", "each_probabilities"]
_EACH: dict[str, Output] = {"logits": "each_logits", "probabilities": "each_probabilities"}


@dataclass(frozen=True, slots=True)
class Preparation:
    """How an image becomes a network's input: stretched to the size, RGB in [0, 1], then normalised.

    Attributes:
        height_px: of the input.
        width_px: of the input.
        mean: of red, green, blue in [0, 1].
        std: likewise.
        channels: 3, or 1 for luma.
        channels_last: NHWC instead of NCHW.
        dtype: float32, float16 or uint8; uint8 takes bytes as they are, without mean and std.
    """

    height_px: int
    width_px: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    channels: int = 3
    channels_last: bool = False
    dtype: str = "float32"

    @property
    def words(self) -> str:
        """What is done, for people and for the teacher's card."""
        colour = "RGB" if self.channels == 3 else "luma"
        norm = "" if self.dtype == "uint8" else f", mean {self.mean}, std {self.std}"
        return f"{colour} stretched to {self.width_px} x {self.height_px} px{norm}, {self.dtype}"

    def batch(self, images: Sequence[Pixels]) -> np.ndarray:
        """Return (n, channels, height, width), or (n, height, width, channels)."""
        import cv2  # noqa: PLC0415 - loaded in the workers that decode

        made = np.empty((len(images), self.height_px, self.width_px, 3), dtype=np.uint8)
        for row, image in zip(made, images, strict=True):
            shrinks = image.shape[0] > self.height_px or image.shape[1] > self.width_px
            method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
            row[:] = cv2.resize(image, (self.width_px, self.height_px), interpolation=method)[:, :, ::-1]
        mean, std = np.asarray(self.mean, np.float32), np.asarray(self.std, np.float32)
        values: np.ndarray = made
        if self.channels == 1:
            luma = made.astype(np.float32) @ np.asarray([0.299, 0.587, 0.114], np.float32)
            values = np.rint(luma).astype(np.uint8)[..., None]
            mean, std = mean.mean(keepdims=True), std.mean(keepdims=True)
        if self.dtype != "uint8":
            values = ((values.astype(np.float32) / 255 - mean) / std).astype(self.dtype)
        return values if self.channels_last else np.ascontiguousarray(values.transpose(0, 3, 1, 2))


def batches(images: Sequence[Pixels]) -> Iterator[Sequence[Pixels]]:
    """Yield runs of at most `BATCH` images."""
    for start in range(0, len(images), BATCH):
        yield images[start : start + BATCH]


def finished(raw: np.ndarray, output: Output) -> np.ndarray:
    """Return float32 (n, width) from what a network gave: probabilities from logits, or a vector from a map.

    Raises:
        InputError: a classifier's output that is not a vector, or "probabilities" that do not sum to one.
    """
    values = np.asarray(raw, dtype=np.float32)
    if output == "features" and values.ndim == 4:
        values = values.mean(axis=(2, 3))  # global average pooling
    if output == "features":
        return values.reshape(len(values), -1)
    flat = values.reshape(len(values), -1) if values.ndim != 2 and values[0].size == values.shape[1] else values
    if flat.ndim != 2:
        raise InputError(
            f"A classifier's output is (images, classes); this one's has the shape {values.shape}. "
            f"Export the model with its classification head."
        )
    if output == "each_logits":
        each: np.ndarray = 1.0 / (1.0 + np.exp(-np.clip(flat, -80.0, 80.0)))
        return each
    if output == "each_probabilities":
        if wrong_cells(flat).any():
            raise InputError(
                f"The output is declared to be probabilities, one a class; it has values from {flat.min():.4g} to "
                f"{flat.max():.4g}. Give output: logits if it is logits."
            )
        return flat
    if output == "probabilities":
        if wrong_rows(flat).any():
            row = flat[int(np.flatnonzero(wrong_rows(flat))[0])]
            raise InputError(
                f"The output is declared to be probabilities, but a row has the sum {row.sum():.4g} and the "
                f"minimum {row.min():.4g}. Give output: logits if it is logits."
            )
        return flat
    with np.errstate(invalid="ignore"):
        powers = np.exp(flat - flat.max(axis=1, keepdims=True))
        probs: np.ndarray = powers / powers.sum(axis=1, keepdims=True)
    return probs


def output_for(output: Output, *, independent: bool) -> Output:
    """Return what a classifier's output is where each class stands alone, or as it was declared."""
    return _EACH[output] if independent else output


def file_sha256(path: Path) -> str:
    """Return the sha256 of a file in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
