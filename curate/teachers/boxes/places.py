"""Places where teachers see a thing and no given box is: is it a thing that was overlooked, or nothing?

What a place looks like is not all. A person among five labeled ones is likelier overlooked than one in a picture without
any; a box within a stronger one of its class is a part or an echo; one that a misplaced label lies beside is explained.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from curate.teachers.boxes.evidence import LEAST, SETTLED_IOU
from curate.teachers.boxes.fuse import Clusters, Given
from curate.teachers.boxes.geometry import Bools, Floats, Ints, largest, logit, overlaps

PLAIN_NUMBERS = 8  # of the first columns: those that do not ask what is labeled there badly
BORDER = 0.05  # of the image: nearer to its edge a thing is cut off
DEEP = 0.7  # share of a given box inside a place from which on the place seems to be round a group


@dataclass(frozen=True, slots=True)
class Places:
    """What is known of each cluster as a place where a label could be missing.

    Attributes:
        numbers: (C, F) for the model.
        is_open: (C,) whether no given box is matched with it at `SETTLED_IOU` or more.
        covered: (C,) largest overlap with a given box other than one that settles it.
    """

    numbers: Floats
    is_open: Bools
    covered: Floats


def look_at_places(given: Given, clusters: Clusters, cluster: Ints, iou: Floats, weight: Floats) -> Places:
    """Look at every cluster beside the given boxes and the other clusters of its image.

    Args:
        given: the given boxes.
        clusters: of the teachers' boxes.
        cluster: (N,) of each given box, from `evidence.match`.
        iou: (N,) with it.
        weight: (T,) of the teachers.
    """
    n = len(clusters.image)
    owner = np.full(n, -1, dtype=np.int64)
    settled = (cluster >= 0) & (iou >= SETTLED_IOU)
    owner[cluster[settled]] = np.flatnonzero(settled)
    is_open: Bools = owner < 0
    covered, of_labels = _beside_labels(given, clusters, owner)
    loose, loose_same = np.zeros(n), np.zeros(n)  # a given box that is matched, but badly
    badly = np.flatnonzero((cluster >= 0) & ~settled)
    loose[cluster[badly]] = iou[badly]
    loose_same[cluster[badly]] = iou[badly] * (clusters.label[cluster[badly]] == given.label[badly])
    seen, size = (
        logit(clusters.objectness),
        np.log(np.maximum(clusters.boxes[:, 2] * clusters.boxes[:, 3], 1e-12)) / 2,
    )
    logs = np.log(clusters.probs + LEAST)
    echo, company, shape = _echo(clusters), _company(given, clusters, is_open), _shape(clusters)
    numbers = [
        seen,
        logs @ weight,
        logs.max(axis=1),
        size,
        size * seen,
        covered,
        of_labels[0],
        echo,
        loose,
        loose_same,
        *logs.T,
        logs.min(axis=1),
        *of_labels[1:],
        *company,
        *shape,
    ]
    # what is beside a place says much of a sure one and little of a faint one
    beside = [seen, covered, of_labels[0], echo, loose, loose_same, *company[1:3], *shape[:2]]
    numbers += [seen * one for one in beside]
    return Places(np.stack(numbers, axis=1), is_open, covered)


def _beside_labels(given: Given, clusters: Clusters, owner: Ints) -> tuple[Floats, list[Floats]]:
    """Return the largest IoU with another given box, that with one of the class, and what is inside of what."""
    n = len(clusters.image)
    a, b, iou = overlaps(given.image, given.boxes, clusters.image, clusters.boxes, min_iou=0.0)
    other = owner[b] != a
    a, b, iou = a[other], b[other], iou[other]
    same = given.label[a] == clusters.label[b]
    own, theirs = (boxes[:, 2] * boxes[:, 3] for boxes in (clusters.boxes[b], given.boxes[a]))
    shared = iou * (own + theirs) / (1 + iou)  # the intersection, from the IoU
    inside, around = shared / own, shared / theirs
    n_within = np.bincount(b[around > DEEP], minlength=n).astype(np.float64)
    return largest(n, b, iou), [
        largest(n, b[same], iou[same]),
        largest(n, b, inside),
        largest(n, b[same], inside[same]),
        largest(n, b, around),
        largest(n, b[same], around[same]),
        n_within,
    ]


def _echo(clusters: Clusters) -> Floats:
    """Return how much a surer cluster of the class stands in the same place."""
    strength = clusters.objectness
    a, b, iou = overlaps(clusters.image, clusters.boxes, clusters.image, clusters.boxes, min_iou=0.0)
    echo = (strength[a] > strength[b]) & (clusters.label[a] == clusters.label[b])
    return largest(len(clusters.image), b[echo], (iou * strength[a])[echo])


def _company(given: Given, clusters: Clusters, is_open: Bools) -> list[Floats]:
    """Return what else is labeled and what else is open in the image: of the class, of any."""
    n_classes, strength = max(clusters.mass.shape[1], 1), clusters.objectness
    last = int(max(given.image.max(initial=0), clusters.image.max(initial=0))) + 1
    kind = clusters.image * n_classes + clusters.label
    of_class = np.bincount(given.image * n_classes + given.label, minlength=last * n_classes)[kind]
    of_any = np.bincount(given.image, minlength=last)[clusters.image]
    open_strength = strength * is_open
    rest = np.bincount(kind, open_strength, minlength=last * n_classes)[kind] - open_strength
    rest_any = np.bincount(clusters.image, open_strength, minlength=last)[clusters.image] - open_strength
    labeled = np.bincount(clusters.image, strength * ~is_open, minlength=last)[clusters.image]
    n_labeled = np.bincount(clusters.image, ~is_open, minlength=last)[clusters.image]
    return [np.log1p(of_class), np.log1p(of_any), rest, rest_any, (labeled + 0.5) / (n_labeled + 1)]


def _shape(clusters: Clusters) -> list[Floats]:
    """Return how much the teachers differ, how sure the class is, the aspect, and how near the four borders are."""
    mass = np.sort(clusters.mass, axis=1)
    second = mass[:, -2] if mass.shape[1] > 1 else np.zeros(len(mass))
    lead = np.log(mass[:, -1] + LEAST) - np.log(second + LEAST)
    x, y, w, h = clusters.boxes.T
    borders = [np.clip(gap, 0.0, BORDER) for gap in (x, y, 1 - x - w, 1 - y - h)]
    aspect = np.log(np.maximum(w, LEAST)) - np.log(np.maximum(h, LEAST))  # of a sliver too
    return [clusters.spread, lead, aspect, *borders]
