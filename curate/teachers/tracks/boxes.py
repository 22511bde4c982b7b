"""Boxes with an id and a frame as sorted arrays: sequences stay in order whatever the order of the rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
Names = npt.NDArray[np.object_]

NONE = -1
MAX_PX = 1e9  # of a coordinate: what is beyond any picture is a mistake in writing
MIN_SIDE_PX = 1e-6  # what is thinner has no area: sizes are compared by logarithms and ratios


@dataclass(frozen=True, slots=True)
class TrackBoxes:
    """N boxes, sorted by sequence, track, frame and then by what they hold.

    Attributes:
        row: (N,) row of the input each box came from.
        sequence: (N,) number of the sequence.
        track: (N,) number of the track; the same id in two sequences is two tracks.
        frame: (N,) rank among the annotated frames of the sequence.
        frame_number: (N,) the frame as the input calls it.
        label: (N,) number of the class.
        box: (N, 4) x, y, width, height in pixels; NaN where there is no usable box.
        track_name: (N,) the id as the input calls it.
        labels: class names by number.
        frames: (F, 2) every annotated (sequence, frame number), sorted.
        sequences: names by number.
    """

    row: Ints
    sequence: Ints
    track: Ints
    frame: Ints
    frame_number: Ints
    label: Ints
    box: Floats
    track_name: Names
    labels: tuple[str, ...]
    frames: Ints
    sequences: tuple[str, ...]

    @property
    def n(self) -> int:
        """Number of boxes."""
        return len(self.row)

    @property
    def usable(self) -> Bools:
        """(N,) whether a box has an area and coordinates that are numbers."""
        return np.asarray(np.isfinite(self.box).all(axis=1), dtype=np.bool_)

    @property
    def centre(self) -> Floats:
        """(N, 2) pixels."""
        return self.box[:, :2] + self.box[:, 2:] / 2

    @property
    def diagonal_px(self) -> Floats:
        """(N,) pixels."""
        return np.hypot(self.box[:, 2], self.box[:, 3])


def track_boxes(
    sequence: Sequence[str],
    track: Sequence[str],
    frame_number: Ints,
    box: Floats,
    label: Sequence[str],
    like: TrackBoxes | None = None,
    tie: Sequence[str] | None = None,
) -> TrackBoxes:
    """Return the boxes in order.

    Args:
        sequence: (N,) name of the sequence.
        track: (N,) id within the sequence.
        frame_number: (N,).
        box: (N, 4) pixels; a box that is not finite, beyond any picture or thinner than MIN_SIDE_PX becomes NaN.
        label: (N,) class.
        like: take sequences, frames and their ranks from these boxes; boxes elsewhere are left out.
        tie: (N,) what orders boxes of one id in one frame; the box itself if left out.
    """
    names = np.asarray(sequence, dtype=object).astype(str)
    numbers = np.asarray(frame_number, dtype=np.int64)
    sequences, frames, at = _frames_of(names, numbers, like)
    rank = _ranks(frames, at, numbers)
    kept = np.flatnonzero(rank >= 0)
    names, at, numbers, rank = names[kept], at[kept], numbers[kept], rank[kept]
    ids = np.asarray(track, dtype=object).astype(str)[kept]
    boxes = _usable(np.asarray(box, dtype=np.float64).reshape(-1, 4)[kept])
    labels, code = np.unique(np.asarray(label, dtype=object).astype(str)[kept], return_inverse=True)
    _, id_code = np.unique(ids, return_inverse=True)
    _, track_code = np.unique(at * (len(ids) + 1) + id_code, return_inverse=True)
    ties = [np.asarray(tie, dtype=object).astype(str)[kept]] if tie is not None else [code, *boxes.T[::-1]]
    order = np.lexsort([*ties, rank, track_code])
    return TrackBoxes(
        row=kept[order].astype(np.int64),
        sequence=np.asarray(at[order], dtype=np.int64),
        track=np.asarray(track_code[order], dtype=np.int64),
        frame=np.asarray(rank[order], dtype=np.int64),
        frame_number=numbers[order],
        label=np.asarray(code[order], dtype=np.int64),
        box=boxes[order],
        track_name=ids[order].astype(object),
        labels=tuple(str(name) for name in labels),
        frames=frames,
        sequences=sequences,
    )


def _frames_of(
    names: npt.NDArray[np.str_], numbers: Ints, like: TrackBoxes | None
) -> tuple[tuple[str, ...], Ints, Ints]:
    """Return the sequences, their frames, and the number of the sequence of each box; those of `like` where given."""
    if like is not None:
        return like.sequences, like.frames, _position(np.asarray(like.sequences, dtype=str), names)
    known, at = np.unique(names, return_inverse=True)
    pairs = np.stack([at.astype(np.int64), numbers], axis=1) if len(at) else np.zeros((0, 2), dtype=np.int64)
    return tuple(str(name) for name in known), np.unique(pairs, axis=0), at


def _usable(boxes: Floats) -> Floats:
    """Return the boxes, NaN where they are not finite, beyond any picture or too thin."""
    usable = (np.abs(boxes) < MAX_PX).all(axis=1) & (boxes[:, 2:] > MIN_SIDE_PX).all(axis=1)  # NaN is below nothing
    return np.where(np.asarray(usable)[:, None], boxes, np.nan)


def _position(known: npt.NDArray[np.str_], wanted: npt.NDArray[np.str_]) -> Ints:
    """Return the position of each of `wanted` in the sorted `known`, NONE where it is not there."""
    if not len(known):
        return np.full(len(wanted), NONE, dtype=np.int64)
    at = np.minimum(np.searchsorted(known, wanted), len(known) - 1)
    return np.where(known[at] == wanted, at, NONE).astype(np.int64)


def _ranks(frames: Ints, sequence: Ints, number: Ints) -> Ints:
    """Return the rank of each frame among those of its sequence, NONE where it is not annotated."""
    if not len(frames):
        return np.full(len(number), NONE, dtype=np.int64)
    numbers, code = np.unique(frames[:, 1], return_inverse=True)
    wide = len(numbers) + 1
    keys = frames[:, 0] * wide + code
    own = np.minimum(np.searchsorted(numbers, number), len(numbers) - 1)
    wanted = sequence * wide + own
    at = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    there = (sequence >= 0) & (numbers[own] == number) & (keys[at] == wanted)
    first = np.searchsorted(frames[:, 0], np.maximum(sequence, 0))
    return np.where(there, at - first, NONE).astype(np.int64)


def iou(one: Floats, other: Floats) -> Floats:
    """Return the overlap of (n, 4) with (m, 4) boxes x, y, w, h: (n, m) in [0, 1], 0 where one is NaN."""
    low = np.maximum(one[:, None, :2], other[None, :, :2])
    high = np.minimum(one[:, None, :2] + one[:, None, 2:], other[None, :, :2] + other[None, :, 2:])
    shared = np.clip(high - low, 0, None).prod(axis=2)
    union = one[:, 2:].prod(axis=1)[:, None] + other[:, 2:].prod(axis=1)[None, :] - shared
    overlap: Floats = np.nan_to_num(np.divide(shared, union, out=np.zeros_like(shared), where=union > 0))
    return overlap
