"""What a teacher says of one mask's pixels: class ids or probabilities, of any size, read where they are asked for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from curate.errors import InputError
from curate.teachers.regions.canvas import Canvas, Floats, Ids, grid_of

MAX_RATIO = 1.05  # of the formats of an answer and a mask: sizes that were rounded, or padded to a multiple
TOLERANCE = 0.02  # of the sum of a pixel's probabilities: float16 and uint8 scales round


@dataclass(frozen=True, slots=True)
class Answer:
    """One of two is there.

    Attributes:
        n_classes: K.
        codes: (H, W) position of the class that the teacher says, NONE where it says none.
        probs: (K, H, W) probabilities, of any float type; may lie on disk. With `places` of as many classes as those.
        source: what an error calls it.
        places: position of each class of `probs` among the K, where they are others or in another order; None = as
            they are.
    """

    n_classes: int
    codes: Ids | None = None
    probs: npt.NDArray[Any] | None = None
    source: str = "a teacher"
    places: tuple[int, ...] | None = None

    def on(self, canvas: Canvas) -> Floats:
        """Return (K, h, w) probabilities on the grid of a mask; of another size they are stretched.

        Raises:
            InputError: what is read there are no probabilities.
        """
        rows, columns = self._points(canvas)
        if self.codes is not None:
            return one_hot(self.codes[np.ix_(rows, columns)], self.n_classes)
        probs = self._probs()
        height, width = canvas.numbers.shape
        if probs.shape[1] >= height and probs.shape[2] >= width:
            if _every(rows) and _every(columns):
                chosen = probs[:, rows[0] :: _step(rows), columns[0] :: _step(columns)]
            else:
                chosen = probs[:, rows][:, :, columns]
            return self._placed(_valid(np.asarray(chosen, dtype=np.float32), self.source))
        import cv2  # noqa: PLC0415 - only where a map is coarser than the grid

        coarse = _valid(np.asarray(probs, dtype=np.float32), self.source)
        fine = [cv2.resize(one, (width, height), interpolation=cv2.INTER_LINEAR) for one in coarse]
        return self._placed(np.asarray(np.stack(fine), dtype=np.float32))

    def at(self, canvas: Canvas, points: Ids) -> Floats:
        """Return (K, n) probabilities at (n, 2) rows and columns of the mask."""
        held = self.codes if self.codes is not None else self._probs()[0]
        rows = points[:, 0] * held.shape[0] // canvas.shape[0]
        columns = points[:, 1] * held.shape[1] // canvas.shape[1]
        if self.codes is not None:
            return one_hot(self.codes[rows, columns], self.n_classes)
        return self._placed(_valid(np.asarray(self._probs()[:, rows, columns], dtype=np.float32), self.source))

    def whole(self) -> Floats:
        """Return (K, H, W) probabilities at the answer's own size.

        Raises:
            InputError: these are no probabilities.
        """
        return self._placed(_valid(np.asarray(self._probs(), dtype=np.float32), self.source))

    def refuse_other_format(self, of: tuple[int, int]) -> None:
        """Raise an InputError where height over width is not that of the mask (`of`: its height and width)."""
        shape = self.codes.shape if self.codes is not None else self._probs().shape[1:]
        ratio = shape[0] * of[1] / (shape[1] * of[0])
        if not 1 / MAX_RATIO <= ratio <= MAX_RATIO:
            raise InputError(
                f"{self.source} is {shape[1]} x {shape[0]} pixels and the mask {of[1]} x {of[0]}: another format, so it "
                "is no answer for this image. Other sizes of the same format are stretched."
            )

    def _probs(self) -> npt.NDArray[Any]:
        if self.probs is None:
            msg = "an answer has codes or probs"
            raise ValueError(msg)
        return self.probs

    def _placed(self, probs: Floats) -> Floats:
        if self.places is None:
            return probs
        placed = np.zeros((self.n_classes, *probs.shape[1:]), dtype=np.float32)
        placed[list(self.places)] = probs
        return placed

    def _points(self, canvas: Canvas) -> tuple[Ids, Ids]:
        shape = self.codes.shape if self.codes is not None else self._probs().shape[1:]
        self.refuse_other_format(canvas.shape)
        found = []
        for side, own, part in zip(canvas.shape, shape, grid_of(canvas.shape, canvas.stride), strict=True):
            asked = np.arange(side)[part]
            found.append(((asked + 0.5) * own / side).astype(np.int64))
        return found[0], found[1]


def one_hot(codes: Ids, n_classes: int) -> Floats:
    """Return (K, …) probabilities: 1 for the class that stands there, uniform where none does."""
    probs = np.zeros((n_classes, *codes.shape), dtype=np.float32)
    for one in range(n_classes):
        probs[one] = codes == one
    probs[:, codes < 0] = 1.0 / n_classes
    return probs


def _every(places: Ids) -> bool:
    return len(places) < 2 or bool((np.diff(places) == _step(places)).all())


def _step(places: Ids) -> int:
    return int(places[1] - places[0]) if len(places) > 1 and places[1] > places[0] else 1


def _valid(probs: Floats, source: str) -> Floats:
    total = probs.sum(axis=0)
    if not np.isfinite(total).all() or probs.min(initial=0.0) < 0 or np.abs(total - 1).max(initial=0.0) > TOLERANCE:
        raise InputError(
            f"The probability map {source} must hold numbers from 0 that sum to 1 over the classes at each pixel; turn "
            "logits into probabilities first."
        )
    exact: Floats = probs / total
    return exact
