"""Class maps at reduced resolution: how much of each cell of a coarse grid a teacher gives to each class.

A cell's mass of a class is the mean of its probability over the cell's area (of class ids: the share of the cell that
has the id); a pixel that lies in two cells counts in both by how much of it does. Ids are names: none is averaged. The
sum over all cells of mass times area is that over all pixels, and a map of another size of the same picture gives the
same mass.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array

from curate.teachers.regions.answers import Answer
from curate.teachers.regions.canvas import Floats

Array = npt.NDArray[np.float64]


def grid_size(height_px: int, width_px: int, longest: int) -> tuple[int, int]:
    """Return rows and columns of the grid of an image: `longest` cells on its longer side, never more than pixels."""
    side = max(height_px, width_px)
    cells = min(longest, side)
    return max(1, round(height_px * cells / side)), max(1, round(width_px * cells / side))


def cell_mass(answer: Answer, size: tuple[int, int]) -> Floats:
    """Return (K, rows, columns) mean probabilities of the cells.

    They sum to 1 over the classes; to less where the teacher says nothing of a part of the cell (an ignored id), to 0
    where it says nothing of all of it.

    Args:
        answer: of the teacher, at any size.
        size: rows and columns of the grid.

    Raises:
        InputError: what the answer holds are no probabilities.
    """
    mass = np.zeros((answer.n_classes, *size), dtype=np.float32)
    if answer.codes is None:
        probs = answer.whole()
        down, across = (_overlaps(n, cells) for n, cells in zip(probs.shape[1:], size, strict=True))
        for one, plane in enumerate(probs):
            mass[one] = _pooled(plane, down, across)
        return mass
    codes = answer.codes
    down, across = (_overlaps(n, cells) for n, cells in zip(codes.shape, size, strict=True))
    for one in np.unique(codes).tolist():
        if 0 <= one < answer.n_classes:
            mass[one] = _pooled(codes == one, down, across)
    return mass


def _pooled(plane: npt.NDArray[np.bool_ | np.float32], down: csr_array, across: csr_array) -> Array:
    pooled: Array = (across @ (down @ plane.astype(np.float64)).T).T
    return pooled


def _overlaps(n_px: int, n_cells: int) -> csr_array:
    """Return (n_cells, n_px): which share of each cell lies in each pixel; rows sum to 1."""
    edges = np.union1d(np.arange(n_cells + 1) * n_px, np.arange(n_px + 1) * n_cells)  # in 1 / n_cells of a pixel
    start, length = edges[:-1], np.diff(edges)
    values = length / n_px
    return csr_array((values, (start // n_px, start // n_cells)), shape=(n_cells, n_px))
