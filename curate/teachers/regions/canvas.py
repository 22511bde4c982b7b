"""One mask as connected regions: where they are, how deep each pixel lies in its own, and what is beyond the edge.

Large masks are judged on a grid of every n-th pixel (`GRID_PX` at most); regions are counted on all pixels.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, sqrt
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Ids = npt.NDArray[np.signedinteger[Any]]
Numbers = npt.NDArray[np.int32]
Bools = npt.NDArray[np.bool_]

NONE = -1
GRID_PX = 600_000  # a grid of more pixels says no more about regions that anybody looks at
FAR_PX = 1e6


@dataclass(frozen=True, slots=True)
class Canvas:
    """The regions of one mask. Region 0 is what is ignored; arrays by region have R + 1 rows.

    Attributes:
        shape: height and width of the mask, pixels.
        stride: of the grid, pixels.
        numbers: (h, w) region of each point of the grid.
        classes: (R + 1,) class of each region, NONE for what is ignored.
        area_px: (R + 1,) pixels of the mask.
        bbox_px: (R + 1, 4) x, y, width, height.
        first: (R + 1, 2) row and column of the region's first pixel.
        depth_px: (h, w) distance to the nearest edge of its region; the image's border is no edge.
        across: (h, w) region beyond that edge; 0 where none or where it is ignored.
    """

    shape: tuple[int, int]
    stride: int
    numbers: Numbers
    classes: Ids
    area_px: Ids
    bbox_px: Ids
    first: Ids
    depth_px: Floats
    across: Numbers

    @property
    def n_regions(self) -> int:
        """How many regions there are."""
        return len(self.classes) - 1

    @property
    def diagonal_px(self) -> float:
        """Of the mask."""
        return float(np.hypot(*self.shape))

    def grid(self) -> tuple[slice, slice]:
        """Return the rows and columns of the mask that are the grid."""
        return grid_of(self.shape, self.stride)


def stride_of(shape: tuple[int, ...]) -> int:
    """Return the stride of the grid on which a mask of this shape is judged."""
    return max(1, ceil(sqrt(shape[0] * shape[1] / GRID_PX)))


def grid_of(shape: tuple[int, ...], stride: int) -> tuple[slice, slice]:
    """Return rows and columns of the grid: the middle of each cell, or the first where the mask is smaller."""
    first = [min(stride // 2, side - 1) for side in shape[:2]]
    return slice(first[0], None, stride), slice(first[1], None, stride)


def canvas_of(label: Ids) -> Canvas:
    """Find the regions of a mask.

    Args:
        label: (H, W) class of each pixel, NONE where it says nothing.
    """
    import cv2  # noqa: PLC0415 - a run over unchanged input needs no pixels

    height, width = label.shape
    numbers, classes, stats = _components(label)
    flat = numbers.ravel()
    at = np.zeros(len(classes), dtype=np.int64)
    at[flat[::-1]] = np.arange(flat.size - 1, -1, -1)  # the last one written is the first in the mask
    order = np.lexsort((at[1:], classes[1:])) + 1  # by class, then by place: no trace of how they were found
    rank = np.zeros(len(classes), dtype=np.int32)
    rank[order] = np.arange(1, len(classes), dtype=np.int32)
    order = np.concatenate([[0], order])
    stride = stride_of(label.shape)
    thin = rank[numbers[grid_of(label.shape, stride)]]
    depth, across = _edges(thin)
    return Canvas(
        shape=(height, width),
        stride=stride,
        numbers=thin,
        classes=classes[order],
        area_px=stats[order, cv2.CC_STAT_AREA],
        bbox_px=stats[order][:, [cv2.CC_STAT_LEFT, cv2.CC_STAT_TOP, cv2.CC_STAT_WIDTH, cv2.CC_STAT_HEIGHT]],
        first=np.stack(np.divmod(at[order], width), axis=1),
        depth_px=depth * np.float32(stride),
        across=across,
    )


def _components(label: Ids) -> tuple[Numbers, Ids, Ids]:
    """Return (H, W) region numbers from 1 (8 neighbours), and class and cv2's statistics of each, 0 first."""
    import cv2  # noqa: PLC0415 - a run over unchanged input needs no pixels

    numbers = np.zeros(label.shape, dtype=np.int32)
    classes: list[int] = [NONE]
    stats = [np.zeros((1, 5), dtype=np.int64)]
    for one in np.unique(label).tolist():
        if one < 0:
            continue
        n, parts, own, _ = cv2.connectedComponentsWithStats((label == one).view(np.uint8), connectivity=8)
        np.add(parts, np.int32(len(classes) - 1), out=numbers, where=parts > 0)
        classes += [one] * (n - 1)
        stats.append(own[1:].astype(np.int64))
    return numbers, np.asarray(classes, dtype=np.int64), np.concatenate(stats)


def _edges(numbers: Numbers) -> tuple[Floats, Numbers]:
    """Return distance to the nearest edge, in points of the grid, and the region beyond it."""
    import cv2  # noqa: PLC0415 - a run over unchanged input needs no pixels

    beyond = np.full(numbers.shape, NONE, dtype=np.int32)
    for here, there in _neighbours():
        differs = numbers[here] != numbers[there]
        beyond[here][differs] = numbers[there][differs]
    edge = beyond != NONE
    if not edge.any():
        return np.full(numbers.shape, FAR_PX, dtype=np.float32), np.zeros_like(numbers)
    distance, nearest = cv2.distanceTransformWithLabels(
        (~edge).view(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_5, labelType=cv2.DIST_LABEL_PIXEL
    )
    point = np.zeros(int(nearest.max()) + 1, dtype=np.int64)
    point[nearest[edge]] = np.flatnonzero(edge)
    source = point[nearest]
    side = numbers.ravel()[source]
    across = np.where(side == numbers, beyond.ravel()[source], side)
    return np.asarray(distance + 0.5, dtype=np.float32), across.astype(np.int32)


def _neighbours() -> list[tuple[Any, Any]]:
    """Return index pairs (here, there) of the four neighbours."""
    all_, low, high = slice(None), slice(None, -1), slice(1, None)
    return [
        ((all_, low), (all_, high)),
        ((all_, high), (all_, low)),
        ((low, all_), (high, all_)),
        ((high, all_), (low, all_)),
    ]
