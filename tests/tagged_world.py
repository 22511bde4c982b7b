"""Pictures that show several things at once, their true labels, and labels with known errors. Generated, nothing real."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

CLASSES = ("bar", "cross", "disc", "ring", "square")
SIDE = 48
SPOTS = ((12, 12), (36, 12), (12, 36), (36, 36))


class World(NamedTuple):
    """Bool (n, K): what each picture shows, and what its labels say."""

    names: list[str]
    true: np.ndarray
    given: np.ndarray

    @property
    def wrong(self) -> np.ndarray:
        return self.true != self.given


def draw(canvas: np.ndarray, kind: int, x: int, y: int) -> None:
    """Draw one thing, each in a colour of its own, ten pixels about a spot."""
    if kind == 0:
        cv2.rectangle(canvas, (x - 10, y - 3), (x + 10, y + 3), (40, 40, 230), -1)
    elif kind == 1:
        cv2.line(canvas, (x - 8, y - 8), (x + 8, y + 8), (40, 230, 40), 4)
        cv2.line(canvas, (x - 8, y + 8), (x + 8, y - 8), (40, 230, 40), 4)
    elif kind == 2:
        cv2.circle(canvas, (x, y), 9, (230, 40, 40), -1)
    elif kind == 3:
        cv2.circle(canvas, (x, y), 9, (40, 230, 230), 3)
    else:
        cv2.rectangle(canvas, (x - 8, y - 8), (x + 8, y + 8), (230, 40, 230), -1)


def make_world(folder: Path, n: int, *, left_out: float = 0.06, invented: float = 0.02, seed: int = 0) -> World:
    """Write n pictures; of the labels that are there a share is left out, of the others a share invented."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    true = np.zeros((n, len(CLASSES)), dtype=bool)
    names = []
    for number in range(n):
        canvas = rng.integers(90, 130, (SIDE, SIDE, 3)).astype(np.uint8)
        kinds = rng.permutation(len(CLASSES))[: rng.integers(0, 4)]
        for kind, spot in zip(kinds, rng.permutation(4), strict=False):
            x, y = (v + int(rng.integers(-2, 3)) for v in SPOTS[spot])
            draw(canvas, int(kind), x, y)
        true[number, kinds] = True
        names.append(f"{number:04}.png")
        cv2.imwrite(str(folder / names[-1]), canvas)
    chance = rng.random(true.shape)
    given = np.where(true, chance >= left_out, chance < invented)
    return World(names, true, given)


def listed(row: np.ndarray) -> list[str]:
    return [name for name, there in zip(CLASSES, row, strict=True) if there]
