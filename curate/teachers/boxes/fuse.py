"""What several detectors say about one place, put together: clusters of their boxes, whatever class they name.

Boxes are taken best first; each takes the boxes of its image that overlap it by `SAME_IOU` or more into its cluster
(greedy non-maximum suppression, across classes and teachers). A cluster's box is the mean of the best box of each
teacher, weighted with their probabilities; a teacher that is absent counts as 0 in the objectness.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from curate.teachers.boxes.geometry import Floats, Ints, best_rows, corners, from_corners, iou_of, overlaps

SAME_IOU = 0.5


@dataclass(frozen=True, slots=True)
class Detections:
    """Boxes that teachers propose, sorted by image.

    Attributes:
        image: (D,) ascending.
        boxes: (D, 4) x, y, w, h relative to the image.
        label: (D,) class.
        score: (D,) as the teacher gave it.
        prob: (D,) chance that a given box of the class is there: the score after calibration.
        teacher: (D,) number of the teacher.
    """

    image: Ints
    boxes: Floats
    label: Ints
    score: Floats
    prob: Floats
    teacher: Ints

    def take(self, rows: Ints) -> Detections:
        """Return some of the rows; `rows` keep the order of images."""
        return Detections(
            self.image[rows],
            self.boxes[rows],
            self.label[rows],
            self.score[rows],
            self.prob[rows],
            self.teacher[rows],
        )


@dataclass(frozen=True, slots=True)
class Given:
    """Boxes that somebody drew, in an order that only depends on what they say.

    Attributes:
        image: (N,) ascending.
        boxes: (N, 4) x, y, w, h relative to the image; finite, with an area.
        label: (N,) class.
        key: (N,) hash of image, class and place.
    """

    image: Ints
    boxes: Floats
    label: Ints
    key: npt.NDArray[np.uint64]

    def take(self, rows: Ints) -> Given:
        """Return some of the rows; `rows` keep the order of images."""
        return Given(self.image[rows], self.boxes[rows], self.label[rows], self.key[rows])


@dataclass(frozen=True, slots=True)
class Clusters:
    """Places where teachers see something.

    Attributes:
        image: (C,) ascending.
        boxes: (C, 4) mean box.
        probs: (C, T) of each teacher's best box here; 0 = it sees nothing.
        label: (C,) class with the largest mass.
        mass: (C, K) mean over the teachers of their best probability for the class.
        spread: (C,) 1 - mean IoU of the teachers' boxes with the mean box; 0 with one teacher.
        at: (T, C) the detection that is the best box of the teacher; -1 = none.
    """

    image: Ints
    boxes: Floats
    probs: Floats
    label: Ints
    mass: Floats
    spread: Floats
    at: Ints

    @property
    def objectness(self) -> Floats:
        """(C,) mean over all teachers, those that see nothing included."""
        return np.asarray(self.probs.mean(axis=1), dtype=np.float64)


def fuse(found: Detections, n_teachers: int, n_classes: int) -> Clusters:
    """Return the clusters, sorted by image and falling probability of their best box."""
    seed = _seeds(found)
    heads, cluster = np.unique(seed, return_inverse=True)
    rank = np.lexsort((heads, -found.prob[heads], found.image[heads]))
    place = np.empty(len(heads), dtype=np.int64)
    place[rank] = np.arange(len(heads))
    cluster = place[cluster]
    n = len(heads)
    at = np.full((n_teachers, n), -1, dtype=np.int64)
    probs = np.zeros((n, n_teachers))
    mass = np.zeros((n, n_classes))
    for teacher in range(n_teachers):
        rows = np.flatnonzero(found.teacher == teacher)
        best = best_rows(n, cluster[rows], found.prob[rows])
        at[teacher] = np.where(best >= 0, rows[best] if len(rows) else -1, -1)
        probs[:, teacher] = np.where(best >= 0, found.prob[at[teacher]] if len(found.prob) else 0.0, 0.0)
        own = np.zeros((n, n_classes))
        np.maximum.at(own, (cluster[rows], found.label[rows]), found.prob[rows])
        mass += own / n_teachers
    boxes, spread = _mean_boxes(found, at, probs)
    return Clusters(found.image[heads][rank], boxes, probs, mass.argmax(axis=1), mass, spread, at)


def _seeds(found: Detections) -> Ints:
    """Return for each detection the one that its cluster is named by (itself, where it leads one)."""
    n = len(found.prob)
    strength = np.empty(n, dtype=np.int64)  # larger = taken earlier; no two alike
    strength[np.lexsort((-np.arange(n), found.prob))] = np.arange(n)
    a, b, _ = overlaps(found.image, found.boxes, found.image, found.boxes, min_iou=SAME_IOU)
    stronger = strength[b] > strength[a]
    weak, strong = a[stronger], b[stronger]
    undecided, is_seed = np.ones(n, dtype=bool), np.zeros(n, dtype=bool)
    while undecided.any():
        live = undecided[weak] & undecided[strong]
        held = np.zeros(n, dtype=bool)
        held[weak[live]] = True
        new = undecided & ~held
        is_seed |= new
        undecided &= ~new
        undecided[weak[new[strong]]] = False
        keep = undecided[weak]
        weak, strong = weak[keep], strong[keep]
    seed = np.arange(n)
    own = ~is_seed[a] & is_seed[b] & (strength[b] > strength[a])
    best = best_rows(n, a[own], strength[b[own]].astype(np.float64))
    led = best >= 0
    seed[led] = b[own][best[led]]
    return seed


def _mean_boxes(found: Detections, at: Ints, probs: Floats) -> tuple[Floats, Floats]:
    if not at.shape[1]:
        return np.zeros((0, 4)), np.zeros(0)
    members = np.where((at >= 0)[..., None], found.boxes[at], 0.0)  # (T, C, 4)
    weight = probs.T
    total = weight.sum(axis=0)
    mean = from_corners((weight[..., None] * corners(members)).sum(axis=0) / total[:, None])
    spread = 1 - (weight * iou_of(members, mean[None])).sum(axis=0) / total
    return mean, np.asarray(np.clip(spread, 0.0, 1.0), dtype=np.float64)
