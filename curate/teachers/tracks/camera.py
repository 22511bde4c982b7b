"""The camera: what most ids of a frame share is its movement, not theirs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from curate.teachers.tracks.boxes import Floats, TrackBoxes

MIN_SHARED = 5  # links in a frame from which on their median is the camera


def steadied(boxes: TrackBoxes) -> tuple[TrackBoxes, Floats]:
    """Return the boxes as a camera that goes with most of them sees them, and the shift of each frame.

    The shift, (F, 2) pixels by row of `boxes.frames`, is to be added to come back to the picture. It is the sum of
    the median steps from frame to frame; fewer than `MIN_SHARED` ids in both frames say nothing.
    """
    used = np.flatnonzero(boxes.usable)
    follows = (boxes.track[used[1:]] == boxes.track[used[:-1]]) & (
        boxes.frame[used[1:]] == boxes.frame[used[:-1]] + 1
    )
    before, after = used[:-1][follows], used[1:][follows]
    first = np.searchsorted(boxes.frames[:, 0], boxes.sequence)  # row of the sequence's first frame
    place = first + boxes.frame
    shift = np.zeros((len(boxes.frames), 2))
    if len(before):
        step = boxes.centre[after] - boxes.centre[before]
        values, group, size = np.unique(place[after], return_inverse=True, return_counts=True)
        start = np.cumsum(size) - size
        for axis in range(2):
            ranked = step[np.lexsort([step[:, axis], group]), axis]
            middle = (ranked[start + (size - 1) // 2] + ranked[start + size // 2]) / 2
            shift[values, axis] = np.where(size >= MIN_SHARED, middle, 0.0)
    shift = np.cumsum(shift, axis=0)
    shift -= shift[np.searchsorted(boxes.frames[:, 0], boxes.frames[:, 0])]
    steady = boxes.box.copy()
    steady[:, :2] -= shift[place]
    return replace(boxes, box=steady), shift
