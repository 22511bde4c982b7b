"""Fit what a wrong box looks like to these teachers, then judge every box by it. Pure; no batch normalises anything.

Fitting sees a bounded sample of the images, chosen by a hash; judging an image needs nothing but the fitted model and
what is known of that image.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from curate.statistics.intervals import wilson
from curate.teachers.boxes import contrast
from curate.teachers.boxes.contrast import KINDS
from curate.teachers.boxes.evidence import gather, match
from curate.teachers.boxes.fuse import Clusters, Detections, Given, fuse
from curate.teachers.boxes.geometry import Floats, Ints
from curate.teachers.boxes.logistic import cut_for_f1, labeled_share
from curate.teachers.boxes.mixture import Contrast, fit_contrast
from curate.teachers.boxes.places import PLAIN_NUMBERS, look_at_places
from curate.teachers.boxes.teachers import BoxTeacher, judge_teachers, kept_of, prepared
from curate.teachers.boxes.trees import Blend, blend
from curate.teachers.one_thread import in_one_thread

MIN_BOXES = 50  # with fewer given boxes nothing is fitted
MIN_FOR_RATES = 300  # with fewer the rates are what they start from, and say nothing
PLANTED_PER_KIND = 1_500
COPIES = (3, 8)
START_RATE = 0.05  # of each kind of error, before the data has spoken
ROUNDS = 12
LEAST_CUT = 0.1  # a flag with less than a chance of one in ten is not worth a look
AT_LIMIT = f"at the {START_RATE:.0%} that are assumed at most: more would look the same"
FITTED, PLAIN = "fitted", "plain"
AT_LEAST = "counted where the teachers are surest; what they do not see is not in it, so its upper end is not known"
BIASED = "a fitted share that can be off in both directions; its interval is not known"


@dataclass(frozen=True, slots=True)
class BoxModel:
    """Everything that judging an image needs.

    Attributes:
        teachers: all of them, in the order of their numbers.
        n_classes: number of classes.
        regime: "fitted" | "plain": too little to fit anything, so plain agreement ranks and nothing is flagged.
        why: a sentence.
        given: of given boxes, by `KINDS`; None in the plain regime.
        missing: of open places: nothing there, or a thing that was overlooked; None in the plain regime.
        cuts: (5,) from which chance on each kind is flagged.
        missing_cut: the same for missing boxes.
        missing_rate: things that were overlooked / all things; NaN in the plain regime.
        n_fitted: given boxes that were fitted on.
    """

    teachers: tuple[BoxTeacher, ...]
    n_classes: int
    regime: str
    why: str
    given: Contrast | None
    missing: Blend | None
    cuts: Floats
    missing_cut: float
    missing_rate: float
    n_fitted: int

    @property
    def kept(self) -> list[int]:
        """Return the numbers of the teachers that have a say."""
        return kept_of(self.teachers)

    @property
    def weight(self) -> Floats:
        """(T',) of the kept teachers, sums to 1."""
        return np.array([self.teachers[place].weight for place in self.kept])

    @property
    def rates(self) -> dict[str, float | None]:
        """Estimated share of each kind among the given boxes (missing: among all things); empty: insufficient data.

        None = not known: at the limit that is assumed, so any higher rate would look the same.
        """
        if self.given is None or self.n_fitted < MIN_FOR_RATES:
            return {}
        of_given = [rate if rate < START_RATE else None for rate in self.given.rates[1:].tolist()]
        return {"missing": self.missing_rate, **dict(zip(KINDS[1:], of_given, strict=True))}

    @property
    def rate_bounds(self) -> dict[str, tuple[float, float]]:
        """What is sure of each known rate: nothing (0, 1), but of missing boxes the lower end (Wilson, 95 %).

        Errors that were planted on top are told too low or too high by a third and more, which no count of boxes tells.
        """
        known = {issue: (0.0, 1.0) for issue, rate in self.rates.items() if rate is not None}
        if "missing" in known:
            known["missing"] = wilson(round(self.missing_rate * self.n_fitted), self.n_fitted)[0], 1.0
        return known

    def prepare(self, found: Detections) -> Detections:
        """Return the boxes of the kept teachers, renumbered, with calibrated probabilities."""
        return prepared(found, self.teachers)


@in_one_thread
def fit_boxes(names: Sequence[str], given: Given, found: Detections, n_images: int, n_classes: int) -> BoxModel:
    """Fit on given boxes and teachers' boxes of the same images.

    Args:
        names: of the teachers, sorted.
        given: labels; images are numbered 0 … n_images - 1.
        found: boxes of all teachers (`prob` is not read).
        n_images: number of images.
        n_classes: number of classes.
    """
    teachers = tuple(judge_teachers(names, given, found))
    n = len(given.image)
    none = np.full(len(KINDS), np.inf)
    plain = BoxModel(teachers, n_classes, PLAIN, "", None, None, none, math.inf, math.nan, n)
    if not plain.kept:
        return _because(plain, "no teacher has a say")
    if n < MIN_BOXES:
        return _because(plain, f"{n} usable given boxes, and {MIN_BOXES} are needed to fit a cut")
    own = plain.prepare(found)
    clusters = fuse(own, len(plain.kept), n_classes)
    cluster, iou = match(given, clusters)
    n_settled = int((iou >= 0.5).sum())
    if n_settled < MIN_BOXES // 2:
        return _because(plain, f"the teachers find {n_settled} of the {n} given boxes, too few to fit a cut")
    kinds, n_planted = _fit_given(plain, given, own, clusters, n_images)
    missing, missing_rate = _fit_missing(plain, given, clusters, cluster, iou)
    seen = gather(given, own, clusters, plain.weight)
    chances = kinds.posterior(seen.numbers, contrast.possible_kinds(seen.twin))
    places = look_at_places(given, clusters, cluster, iou, plain.weight)
    overlooked = missing.posterior(places.numbers[places.is_open])[:, 1]
    why = f"fitted on {n:,} given boxes and {n_planted:,} errors planted in copies of them"
    if n < MIN_FOR_RATES:
        why += (
            f"; insufficient data to estimate rates ({MIN_FOR_RATES} boxes are needed): "
            f"up to {START_RATE:.0%} of each kind are assumed, so some flags are likely even where no box is wrong"
        )
    return replace(
        plain,
        regime=FITTED,
        why=why,
        given=kinds,
        missing=missing,
        cuts=np.array([np.inf, *(cut_for_f1(chances[:, kind], least=LEAST_CUT) for kind in range(1, len(KINDS)))]),
        missing_cut=cut_for_f1(overlooked, least=LEAST_CUT),
        missing_rate=missing_rate,
    )


def _because(model: BoxModel, why: str) -> BoxModel:
    return replace(model, why=f"{why}: plain agreement ranks, and nothing is flagged")


def _n_copies(n_boxes: int) -> int:
    wanted = math.ceil(PLANTED_PER_KIND / (contrast.SHARE * n_boxes))
    return min(max(wanted, COPIES[0]), COPIES[1])


def _fit_given(
    model: BoxModel, given: Given, found: Detections, clusters: Clusters, n_images: int
) -> tuple[Contrast, int]:
    """Fit the kinds of given boxes; also return how many errors were planted for it."""
    as_given = gather(given, found, clusters, model.weight)
    numbers: list[Floats] = [as_given.numbers[:0]]
    kinds: list[Ints] = [np.zeros(0, dtype=np.int64)]
    for copy in range(_n_copies(len(given.image))):
        planted = contrast.plant(given, n_images, model.n_classes, copy)
        seen = gather(planted.given, found, clusters, model.weight)
        kind = contrast.worse_of_pairs(planted.kind, seen.twin)
        numbers.append(seen.numbers[kind > 0])
        kinds.append(kind[kind > 0])
    rates = np.full(len(KINDS), START_RATE)
    rates[0] = 1 - rates[1:].sum()
    kind = np.concatenate(kinds)
    possible = contrast.possible_kinds(as_given.twin)
    made = np.concatenate(numbers)
    return fit_contrast(as_given.numbers, made, kind, rates, rounds=ROUNDS, possible=possible), len(kind)


def _fit_missing(
    model: BoxModel, given: Given, clusters: Clusters, cluster: Ints, iou: Floats
) -> tuple[Blend, float]:
    """Fit what the place of an overlooked thing looks like, and how many things are overlooked.

    The evidence is from copies of the labels with boxes left out; the rate from how many of the surest places have
    no given box. (An EM for the rate would have one open place in a hundred to go by, and loses it.)
    """
    places = look_at_places(given, clusters, cluster, iou, model.weight)
    settled = (cluster >= 0) & (iou >= 0.5)
    clear = ~places.is_open
    clear[np.setdiff1d(np.flatnonzero(places.is_open), cluster[cluster >= 0])] = True
    share = labeled_share(places.numbers[clear][:, :PLAIN_NUMBERS], ~places.is_open[clear])
    made = []
    for copy in range(_n_copies(len(given.image))):
        out = contrast.dropped(given, copy)
        kept = given.take(np.flatnonzero(~out))
        seen = look_at_places(kept, clusters, *match(kept, clusters), model.weight)
        theirs = cluster[out & settled]
        made.append(seen.numbers[theirs[seen.is_open[theirs]]])
    n_open = max(int(places.is_open.sum()), 1)
    rate = float(np.clip((1 - share) / share * settled.sum() / n_open, 1e-6, 0.5))
    rows = np.concatenate(made)
    kind = np.ones(len(rows), dtype=np.int64)
    rates = np.array([1 - rate, rate])
    unknown = places.numbers[places.is_open]
    fitted = fit_contrast(unknown, rows, kind, rates, rounds=3, keep_rates=True)
    return blend(fitted, unknown, rows), 1 - share
