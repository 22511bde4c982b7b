"""What the teachers' boxes say about each given box, as numbers that know no pixels and no batch.

Every number is about one image: overlaps, probabilities, classes, and the size relative to the image.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from curate.teachers.boxes.edges import edge_numbers
from curate.teachers.boxes.fuse import Clusters, Detections, Given
from curate.teachers.boxes.geometry import (
    Floats,
    Ints,
    Overlaps,
    best_rows,
    iou_of,
    largest,
    overlaps,
)
from curate.teachers.boxes.match import OTHER_CLASS, assign
from curate.teachers.boxes.merges import merge_numbers

LEAST = 0.003  # what a teacher that sees nothing counts as: below it scores say nothing, and the log needs a floor
NEAR_IOU = 0.1  # with less overlap two boxes have nothing to do with each other
SETTLED_IOU = 0.5  # from here on a given box and a cluster are about the same thing, well placed
TWIN_IOU = 0.5  # from here on two given boxes of one class may be about one thing
FULL_IOU = 0.5  # from here on a box supports another one fully
SEEN = 0.25  # a probability from which on a person would say that the teacher sees it
SOFT = 0.02  # IoU closer to 1 than this is drawing noise


@dataclass(frozen=True, slots=True)
class Evidence:
    """What is known of each given box.

    Attributes:
        numbers: (N, F) for the model.
        cluster: (N,) the cluster it is matched with; -1 = none.
        iou: (N,) with that cluster's box; 0 without one.
        rival: (N,) the class that the teachers prefer among all others.
        own: (N,) mean probability that the teachers give its class at this place.
        rival_prob: (N,) the same of the rival.
        twin: (N,) the given box of the same class that is better placed on the same thing (overlap of `TWIN_IOU` or
            more; of several the best placed); -1 = none: such a box repeats no other.
        twin_iou: (N,) overlap with it; 0 without one.
        anything: (N,) mean probability that the teachers give to a thing of any class here.
        nearest: (N,) best overlap with any box of any teacher.
        n_anything: (N,) teachers that see a thing here: with a probability of `SEEN` or more.
        n_own: (N,) those that see one of the given class.
        n_rival: (N,) those that see one of the rival class.
    """

    numbers: Floats
    cluster: Ints
    iou: Floats
    rival: Ints
    own: Floats
    rival_prob: Floats
    twin: Ints
    twin_iou: Floats
    anything: Floats
    nearest: Floats
    n_anything: Ints
    n_own: Ints
    n_rival: Ints


def match(given: Given, clusters: Clusters) -> tuple[Ints, Floats]:
    """Return for each given box its cluster (-1 = none) and the IoU, one to one."""
    a, b, iou = overlaps(given.image, given.boxes, clusters.image, clusters.boxes, min_iou=NEAR_IOU)
    agrees = np.where(clusters.label[b] == given.label[a], 1.0, OTHER_CLASS)
    edge = assign(len(given.image), len(clusters.image), a, b, clusters.objectness[b] * iou * agrees)
    found = edge >= 0
    cluster, overlap = np.full(len(edge), -1, dtype=np.int64), np.zeros(len(edge))
    cluster[found], overlap[found] = b[edge[found]], iou[edge[found]]
    return cluster, overlap


def gather(given: Given, found: Detections, clusters: Clusters, weight: Floats) -> Evidence:
    """Look at every given box beside the teachers' boxes and the other given boxes of its image.

    Args:
        given: the given boxes.
        found: the teachers' boxes.
        clusters: of `found`.
        weight: (T,) of the teachers, sums to 1.
    """
    cluster, iou = match(given, clusters)
    near = overlaps(given.image, given.boxes, found.image, found.boxes, min_iou=NEAR_IOU)
    support = _support(given, found, near, len(weight), clusters.mass.shape[1])
    held = np.where(cluster >= 0, clusters.objectness[cluster] if len(clusters.image) else 0.0, 0.0) * iou
    twin, twin_iou, *neighbours = _neighbours(given, _fit(given, clusters), held)
    place = _place_numbers(given, support, weight)
    matched = _match_numbers(given, found, clusters, cluster, iou)
    shared = _shared_cluster(given, clusters, cluster)
    size = np.log(given.boxes[:, 2:]).sum(axis=1) / 2  # not the log of the area: that of a sliver is zero
    around = [shared, *neighbours, size, size * place[0], size * matched[1]]
    edges = edge_numbers(given, found, clusters, cluster)
    rows = np.arange(len(given.image))
    means = support.mean_prob
    others = means.copy()
    others[rows, given.label] = -1.0
    rival = others.argmax(axis=1)
    merges = merge_numbers(given, found, near, len(weight))
    numbers = np.stack([*place, *matched, *around, *edges, *merges], axis=1)
    own, other = means[rows, given.label], np.maximum(others[rows, rival], 0.0)
    return Evidence(
        numbers=numbers,
        cluster=cluster,
        iou=iou,
        rival=rival,
        own=own,
        rival_prob=other,
        twin=twin,
        twin_iou=twin_iou,
        anything=support.anything.mean(axis=0),
        nearest=support.iou.max(axis=0),
        n_anything=(support.anything >= SEEN).sum(axis=0),
        n_own=(support.own >= SEEN).sum(axis=0),
        n_rival=support.count(rival),
    )


@dataclass(frozen=True, slots=True)
class _Support:
    """(T, N) by teacher: best probability times min(1, IoU / .5) of any class, of its own; best IoU of both kinds."""

    anything: Floats
    own: Floats
    iou: Floats
    own_iou: Floats
    mean_log: Floats  # (N, K) of the class supports over the teachers
    mean_prob: Floats  # (N, K)
    seen: tuple[Ints, Ints, Ints]  # (given box, class, teacher) where a teacher sees one

    def count(self, label: Ints) -> Ints:
        """Return for each given box how many teachers see a thing of this class there."""
        row, seen, teacher = self.seen
        fits = seen == label[row]
        pairs = np.unique(row[fits] * len(self.anything) + teacher[fits])
        return np.bincount(pairs // len(self.anything), minlength=len(label)).astype(np.int64)


def _support(given: Given, found: Detections, near: Overlaps, n_teachers: int, n_classes: int) -> _Support:
    n = len(given.image)
    a, b, iou = near
    worth = found.prob[b] * np.minimum(1.0, iou / FULL_IOU)
    same = found.label[b] == given.label[a]
    parts: list[list[Floats]] = [[], [], [], []]
    mean_log, mean_prob = np.zeros((n, n_classes)), np.zeros((n, n_classes))
    for teacher in range(n_teachers):
        its = found.teacher[b] == teacher
        for place, (chosen, values) in enumerate(
            ((its, worth), (its & same, worth), (its, iou), (its & same, iou))
        ):
            parts[place].append(largest(n, a[chosen], values[chosen]))
        by_class = np.zeros((n, n_classes))
        np.maximum.at(by_class, (a[its], found.label[b[its]]), worth[its])
        mean_prob += by_class / n_teachers
        mean_log += np.log(by_class + LEAST) / n_teachers
    sees = worth >= SEEN
    seen = (a[sees], found.label[b[sees]], found.teacher[b[sees]])
    anything, its_own, nearest, its_nearest = (np.stack(part) for part in parts)
    return _Support(anything, its_own, nearest, its_nearest, mean_log, mean_prob, seen)


def _place_numbers(given: Given, support: _Support, weight: Floats) -> list[Floats]:
    """Return what the teachers see where the box is, whether or not it is about this box."""
    rows = np.arange(len(given.image))
    anything, own = np.log(support.anything + LEAST), np.log(support.own + LEAST)
    best_other = support.mean_log.copy()
    best_other[rows, given.label] = -np.inf
    mass = support.mean_prob.copy()
    mass[rows, given.label] = 0.0
    return [
        weight @ anything,
        anything.max(axis=0),
        anything.min(axis=0),
        weight @ own,
        own.max(axis=0),
        weight @ support.iou,
        support.iou.max(axis=0),
        weight @ support.own_iou,
        support.own_iou.max(axis=0),
        support.mean_log[rows, given.label] - _finite_max(best_other),
        np.log(support.mean_prob[rows, given.label] + LEAST) - np.log(mass.max(axis=1) + LEAST),
    ]


def _finite_max(values: Floats) -> Floats:
    best = values.max(axis=1)
    return np.asarray(np.where(np.isfinite(best), best, np.log(LEAST)), dtype=np.float64)


def _match_numbers(given: Given, found: Detections, clusters: Clusters, cluster: Ints, iou: Floats) -> list[Floats]:
    """Return how well the box fits the cluster that it is matched with."""
    n, rows = len(cluster), np.arange(len(cluster))
    is_matched = cluster >= 0
    if not len(clusters.image):
        zero = np.zeros(n)
        low = np.full(n, np.log(LEAST))
        gap = np.full(n, np.log(1 + SOFT))
        return [zero, gap, low, zero, gap * low, zero, zero, zero, zero, zero]
    seen = np.log(np.where(is_matched, clusters.objectness[cluster], 0.0) + LEAST)
    spread = np.where(is_matched, clusters.spread[cluster], 0.0)
    members = clusters.at[:, cluster]
    there = (members >= 0) & is_matched
    ious = np.where(there, iou_of(given.boxes[None], found.boxes[members]), 0.0)
    weight = clusters.probs[cluster].T * there
    mean = np.divide((weight * ious).sum(axis=0), weight.sum(axis=0), out=np.zeros(n), where=is_matched)
    least = np.where(is_matched, np.where(there, ious, 2.0).min(axis=0), 0.0)
    classes = np.log(clusters.mass[cluster] + LEAST)
    own = classes[rows, given.label]
    classes[rows, given.label] = -np.inf
    lead = np.where(is_matched, own - _finite_max(classes), 0.0)
    gap = np.log(1 - iou + SOFT)
    return [iou, gap, seen, spread, gap * seen, gap * spread, mean, ious.max(axis=0), least, lead]


def _shared_cluster(given: Given, clusters: Clusters, cluster: Ints) -> Floats:
    """Return how much another given box overlaps the cluster that this one is matched with."""
    owner = np.full(len(clusters.image), -1, dtype=np.int64)
    owner[cluster[cluster >= 0]] = np.flatnonzero(cluster >= 0)
    a, b, iou = overlaps(given.image, given.boxes, clusters.image, clusters.boxes, min_iou=NEAR_IOU)
    other = owner[b] != a
    shared = largest(len(clusters.image), b[other], iou[other])
    return np.asarray(np.where(cluster >= 0, shared[cluster] if len(shared) else 0.0, 0.0), dtype=np.float64)


def _fit(given: Given, clusters: Clusters) -> Floats:
    """Return how well each given box fits a place, whether or not another one has it: the best objectness times IoU."""
    a, b, iou = overlaps(given.image, given.boxes, clusters.image, clusters.boxes, min_iou=NEAR_IOU)
    agrees = np.where(clusters.label[b] == given.label[a], 1.0, OTHER_CLASS)
    return largest(len(given.image), a, clusters.objectness[b] * iou * agrees)


def _neighbours(given: Given, fit: Floats, held: Floats) -> tuple[Ints, Floats, Floats, Floats, Floats]:
    """Return the twin, its IoU, and the largest IoU with other given boxes: any, any of the class, any better held.

    Of two boxes of one class on the same thing the one that fits the teachers' box better is the one that stays; of
    equals that with the smaller key.
    """
    n = len(given.image)
    a, b, iou = overlaps(given.image, given.boxes, given.image, given.boxes, min_iou=0.0)
    apart = a != b
    a, b, iou = a[apart], b[apart], iou[apart]
    same = given.label[a] == given.label[b]
    place = _ranks(given, fit)
    better = same & (place[b] < place[a])
    repeats = np.flatnonzero(better & (iou >= TWIN_IOU))
    row = best_rows(n, a[repeats], -place[b[repeats]].astype(np.float64))
    has = row >= 0
    twin, twin_iou = np.full(n, -1, dtype=np.int64), np.zeros(n)
    twin[has], twin_iou[has] = b[repeats[row[has]]], iou[repeats[row[has]]]
    ranks = _ranks(given, held)
    holds = same & (ranks[b] < ranks[a])
    return twin, twin_iou, largest(n, a, iou), largest(n, a[same], iou[same]), largest(n, a[holds], iou[holds])


def _ranks(given: Given, worth: Floats) -> Ints:
    """Return the rank of each given box, the highest worth first; of equals the smaller key."""
    n = len(given.image)
    rank = np.empty(n, dtype=np.int64)
    rank[np.lexsort((np.arange(n), given.key, -worth))] = np.arange(n)
    return rank
