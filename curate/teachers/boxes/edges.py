"""Edge by edge, how far a given box is from the teachers' boxes: what tells a displaced label from a loose teacher.

A displaced box is off at some edges by more than the teachers differ there; the noise of a teacher is at every edge,
and another teacher seldom shares it. Distances are relative to the sides, so that resolution and size leave no trace.
"""

from __future__ import annotations

import numpy as np

from curate.teachers.boxes.fuse import Clusters, Detections, Given
from curate.teachers.boxes.geometry import Floats, Ints, corners

SOFT = 0.02  # of a side: closer is drawing noise
LEAST_SIDE = 1e-9  # of the image
FARTHEST = 2.0  # sides; beyond, an edge is about something else
FLOOR = 0.04  # of a side: by as much two careful people differ, however well the teachers agree


def edge_numbers(given: Given, found: Detections, clusters: Clusters, cluster: Ints) -> list[Floats]:
    """Return eleven columns (N,) about the four edges of each given box; those of an unmatched one say "nothing near".

    The four distances to the cluster's box, sorted, as logs; the third and the largest of those to the teacher that is
    nearest at the edge; the largest and the mean distance in units of the teachers' spread at that edge; the largest
    spread; how much larger or smaller the box is, and in which direction.

    Args:
        given: the given boxes.
        found: the teachers' boxes.
        clusters: of `found`.
        cluster: (N,) of each given box; -1 = none.
    """
    n, matched = len(cluster), cluster >= 0
    if not len(clusters.image):
        matched = np.zeros(n, dtype=bool)
        away, apart, spread, ratio = np.ones((n, 4)), np.ones((n, 4)), np.zeros((n, 4)), np.zeros(n)
    else:
        ends, own = corners(given.boxes), clusters.boxes[cluster]
        # fused boxes may have lost their last bits of a side
        wide = np.maximum(own[:, 2:], LEAST_SIDE)
        side = np.tile(np.sqrt(wide * given.boxes[:, 2:]), 2)
        middle = corners(own)
        away = np.abs(ends - middle) / side
        members = clusters.at[:, cluster]
        there = (members >= 0) & matched
        edges = corners(found.boxes[members])
        apart = np.where(there[..., None], np.abs(ends - edges) / side, np.inf).min(axis=0)
        weight = clusters.probs[cluster].T * there
        weight = weight / np.maximum(weight.sum(axis=0), 1e-9)
        spread = np.sqrt((weight[..., None] * ((edges - middle) / side) ** 2).sum(axis=0))
        ratio = np.log((given.boxes[:, 2:] / wide).prod(axis=1))
    away, apart = (np.where(matched[:, None], values, 1.0) for values in (away, apart))
    spread, ratio = np.where(matched[:, None], spread, 0.0), np.where(matched, np.clip(ratio, -2.0, 2.0), 0.0)
    beyond = np.where(matched[:, None], np.log1p(away / (spread + FLOOR)), 0.0)
    sorted_away, nearest = np.sort(_log(away), axis=1), np.sort(_log(apart), axis=1)
    columns = [*sorted_away.T, nearest[:, 2], nearest[:, 3], beyond.max(axis=1), beyond.mean(axis=1)]
    return [*columns, np.log(spread.max(axis=1) + SOFT), ratio, np.abs(ratio)]


def _log(distance: Floats) -> Floats:
    return np.asarray(np.log(np.minimum(distance, FARTHEST) + SOFT), dtype=np.float64)
