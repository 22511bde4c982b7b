"""Risk of every given box for each kind of error, and of every place for a missing box; with what a person can check."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from curate.teachers.boxes.contrast import DUPLICATE, KINDS, possible_kinds
from curate.teachers.boxes.evidence import SEEN, Evidence, gather
from curate.teachers.boxes.fuse import Clusters, Detections, Given, fuse
from curate.teachers.boxes.geometry import Bools, Floats, Ints, corners, from_corners, largest, overlaps
from curate.teachers.boxes.model import BoxModel
from curate.teachers.boxes.places import Places, look_at_places
from curate.teachers.one_thread import in_one_thread

ISSUES = KINDS[1:]  # of given boxes, in the order of the columns of `risk`
MISSING = "missing"
LEAST_RISK = 1e-3  # a place with less is no candidate
IN_CROWD = 0.5  # share of a place's area
GOES = 0.5  # risk from which on a duplicate is taken as gone and its own twin stays; or the cut, if lower
DIGITS = 9  # of a risk: below them is the noise of sums


@dataclass(frozen=True, slots=True)
class Regions:
    """Crowd regions: (R,) ascending numbers of images and (R, 4) boxes."""

    image: Ints
    boxes: Floats


@dataclass(frozen=True, slots=True)
class Judged:
    """What is said of the boxes of some images.

    Attributes:
        risk: (N, 4) by `ISSUES`.
        flagged: (N, 4), at most one of a row.
        evidence: of the given boxes.
        clusters: the places.
        n_see: (C,) teachers that see a thing there (`evidence.SEEN`).
        mean_score: (C,) mean of their scores as given; 0 where none does.
        suggested: (C, 4) the cluster's box inside the image.
        places: of the clusters.
        missing: (M,) clusters that are candidates for a missing box.
        missing_risk: (M,)
        missing_flagged: (M,)
    """

    risk: Floats
    flagged: Bools
    evidence: Evidence
    clusters: Clusters
    n_see: Ints
    mean_score: Floats
    suggested: Floats
    places: Places
    missing: Ints
    missing_risk: Floats
    missing_flagged: Bools


@in_one_thread
def judge(model: BoxModel, given: Given, found: Detections, crowds: Regions | None = None) -> Judged:
    """Judge the boxes of some images; what is said of an image depends on the model and on this image only.

    Args:
        model: as it was fitted.
        given: of these images.
        found: boxes of all teachers for these images (`prob` is not read).
        crowds: regions where nobody drew single boxes; no box is missing there.
    """
    own = model.prepare(found)
    n_teachers = max(len(model.kept), 1)
    clusters = fuse(own, n_teachers, model.n_classes)
    weight = model.weight if model.kept else np.ones(1)
    evidence = gather(given, own, clusters, weight)
    places = look_at_places(given, clusters, evidence.cluster, evidence.iou, weight)
    if model.given is not None and model.missing is not None:
        risk = model.given.posterior(evidence.numbers, possible_kinds(evidence.twin))[:, 1:]
        overlooked = model.missing.posterior(places.numbers)[:, 1]
    else:
        risk, overlooked = _plain(evidence, clusters, places)
    risk = _rounded(risk)
    column = DUPLICATE - 1
    risk[:, column] = _beside_one_that_stays(
        risk[:, column], evidence.twin, min(float(model.cuts[DUPLICATE]), GOES)
    )
    in_crowd = _inside(clusters, crowds) if crowds is not None else np.zeros(len(overlooked), dtype=bool)
    overlooked = _rounded(np.where(places.is_open & ~in_crowd, overlooked, 0.0))
    first = np.zeros(risk.shape, dtype=bool)
    first[np.arange(len(risk)), risk.argmax(axis=1)] = True
    missing = np.flatnonzero(overlooked >= LEAST_RISK)
    n_see, mean_score = _sightings(clusters, own)
    return Judged(
        risk=risk,
        flagged=(risk >= model.cuts[1:]) & first,
        evidence=evidence,
        clusters=clusters,
        n_see=n_see,
        mean_score=mean_score,
        suggested=from_corners(np.clip(corners(clusters.boxes), 0.0, 1.0)),
        places=places,
        missing=missing,
        missing_risk=overlooked[missing],
        missing_flagged=overlooked[missing] >= model.missing_cut,
    )


def _beside_one_that_stays(risk: Floats, twin: Ints, goes: float) -> Floats:
    """Return the risk of duplicates, 0 where the twin is a duplicate itself: never both of a pair.

    A twin fits better than its box, so there are no circles, and following the twins comes to an end.
    """
    out = likely = (twin >= 0) & (risk >= goes)
    while True:
        is_beside = (twin >= 0) & out[twin]
        following = likely & ~is_beside
        if (following == out).all():
            return np.asarray(np.where(is_beside, 0.0, risk), dtype=np.float64)
        out = following


def _inside(clusters: Clusters, crowds: Regions) -> Bools:
    """Return which clusters lie in a crowd region by half of their area or more."""
    a, b, share = overlaps(clusters.image, clusters.boxes, crowds.image, crowds.boxes, min_iou=0.0)
    own, region = (boxes[:, 2] * boxes[:, 3] for boxes in (clusters.boxes[a], crowds.boxes[b]))
    shared = share * (own + region) / (1 + share)  # the intersection, from the IoU
    return np.asarray(largest(len(clusters.image), a, shared / own) >= IN_CROWD, dtype=bool)


def _rounded(risk: Floats) -> Floats:
    return np.asarray(np.round(np.clip(risk, 0.0, 1.0), DIGITS), dtype=np.float64)


def _plain(evidence: Evidence, clusters: Clusters, places: Places) -> tuple[Floats, Floats]:
    """Return risks by plain agreement, where there is too little to fit anything.

    missing: objectness times (1 - largest IoU with a given box); spurious: 1 - what supports a thing there; location:
    objectness times (1 - IoU, less twice the spread of the teachers); swap: the rival's mean probability less the
    given one's.
    """
    matched = evidence.cluster >= 0
    seen, spread = np.zeros(len(matched)), np.zeros(len(matched))
    seen[matched] = clusters.objectness[evidence.cluster[matched]]
    spread[matched] = clusters.spread[evidence.cluster[matched]]
    location = np.where(matched, seen * np.maximum(0.0, 1 - evidence.iou - 2 * spread), 0.0)
    swap = np.maximum(0.0, evidence.rival_prob - evidence.own)
    risk = np.stack([location, swap, 1 - evidence.anything, evidence.twin_iou], axis=1)
    return risk, clusters.objectness * (1 - places.covered)


def _sightings(clusters: Clusters, found: Detections) -> tuple[Ints, Floats]:
    """Return how many teachers see each cluster, and the mean of their scores."""
    sees = clusters.probs.T >= SEEN
    n = sees.sum(axis=0)
    if not len(found.score):
        return n, np.zeros(len(n))
    scores = np.where(sees, found.score[clusters.at], 0.0).sum(axis=0)
    return n, np.divide(scores, n, out=np.zeros(len(n)), where=n > 0)
