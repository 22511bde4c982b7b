"""Regions of masks against teachers: another class, spurious, missing, or an outline that is off.

Two passes. The first weighs the teachers by what they say of labeled regions (`pool`); the second holds every region
of every mask against the pool. All lengths follow the image; class ids are names and nothing is averaged over them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from curate.teachers.regions.answers import Answer
from curate.teachers.regions.boundary import REACH, SURE, Displacement, displacement_of, edge_noise, in_noises
from curate.teachers.regions.canvas import NONE, Canvas, Floats, Ids, canvas_of
from curate.teachers.regions.evidence import PROB_FLOOR, Evidence, evidence_of, without_points
from curate.teachers.regions.missing import Candidate, candidates_of
from curate.teachers.regions.pool import Pool, believed, fit_pool
from curate.teachers.regions.shapes import Shape, shapes_of

ISSUES = ("wrong_class", "spurious", "missing", "boundary")
N_FITTED = 300  # masks that teachers are weighed on, drawn by a hash of their names
LEAST_DRAWN = 0.0025  # of the image's diagonal: shapes of outlines that are off by less are not kept
LEAST_ODDS = 0.02  # of a missing region, before it is looked at
Array = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Region:
    """A connected region of a mask (8 neighbours), or one that is missing from it, and what teachers say of it.

    Attributes:
        component: number in its image, from 0; NONE where a region is missing.
        class_id: of the label; of a missing region, what is there instead.
        area_px: pixels.
        bbox_px: x, y, width, height.
        risk: by issue, in [0, 1].
        suggested: by issue, a class id, or NONE.
        given_prob: probability of the class given.
        other: the class that teachers prefer.
        other_prob: its probability.
        n_agree: teachers to whom that class is the commonest here.
        iou: with the teachers' region of the same class nearby; 0 of a missing region.
        offset_px: how far outside (+) or inside (-) teachers see the outline, on average.
        moved_px: root mean square of the same by side.
        noises: `moved_px` in units of what is usual.
        drawn: where the label has it; None where it is missing, or nothing is found.
        seen: where teachers see it, of a missing region and of an outline that is off.
    """

    component: int
    class_id: int
    area_px: int
    bbox_px: tuple[int, int, int, int]
    risk: dict[str, float] = field(default_factory=dict)
    suggested: dict[str, int] = field(default_factory=dict)
    given_prob: float = 0.0
    other: int = NONE
    other_prob: float = 0.0
    n_agree: int = 0
    iou: float = 0.0
    offset_px: float = 0.0
    moved_px: float = 0.0
    noises: float = 0.0
    drawn: Shape | None = None
    seen: Shape | None = None


@dataclass(frozen=True, slots=True)
class Source:
    """Masks and what teachers say of them.

    Attributes:
        names: of the masks; sorted.
        teachers: their names.
        n_classes: K.
        load: name -> (H, W) labels, NONE where ignored, and an answer of each teacher, in their order.
    """

    names: Sequence[str]
    teachers: Sequence[str]
    n_classes: int
    load: Callable[[str], tuple[Ids, Sequence[Answer]]]


@dataclass(frozen=True, slots=True)
class _Seen:
    """One mask, judged as far as it goes alone."""

    canvas: _Regions
    evidence: Evidence
    moved: Displacement
    candidates: Sequence[Candidate]
    log_probs: Array  # (R, K)
    right: Array  # (R,) probability that the label is right
    same: Array  # (M + 1,) labeled points at which each teacher agrees, and how many there are
    shapes: dict[int, tuple[Shape | None, Shape | None]]  # region -> drawn, seen


@dataclass(frozen=True, slots=True)
class _Regions:
    """What is kept of a canvas: nothing by pixel."""

    shape: tuple[int, int]
    classes: Ids
    area_px: Ids
    bbox_px: Ids

    @classmethod
    def of(cls, canvas: Canvas) -> _Regions:
        return cls(canvas.shape, canvas.classes[1:], canvas.area_px[1:], canvas.bbox_px[1:])

    @property
    def area(self) -> Array:
        """Relative to the image."""
        return self.area_px / (self.shape[0] * self.shape[1])

    @property
    def diagonal_px(self) -> float:
        return float(np.hypot(*self.shape))


@dataclass(frozen=True, slots=True)
class Judged:
    """What was found.

    Attributes:
        regions: by mask.
        diagonal_px: of each mask.
        agreement: (M,) share of the labeled pixels where a teacher's likeliest class is the label.
        pool: how the teachers were weighed.
    """

    regions: dict[str, list[Region]]
    diagonal_px: dict[str, float]
    agreement: Array
    pool: Pool


def judge(source: Source) -> Judged:
    """Judge every region of every mask."""
    pool = _weighed(source)
    seen = dict(_each(source, pool))
    noise = _usual_noise(list(seen.values()))
    found = {name: _regions(one, noise, pool) for name, one in seen.items()}
    same = np.sum([one.same for one in seen.values()], axis=0)
    return Judged(
        found, {name: one.canvas.diagonal_px for name, one in seen.items()}, same[:-1] / max(same[-1], 1), pool
    )


def _weighed(source: Source) -> Pool:
    """First pass: fit the pool to the labels of some masks."""
    order = sorted(source.names, key=lambda name: (hashlib.sha256(name.encode()).digest(), name))
    parts = []
    for name in sorted(order[:N_FITTED]):
        label, answers = source.load(name)
        canvas = canvas_of(label)
        probs = [one.on(canvas) for one in answers]
        parts.append((_Regions.of(canvas), evidence_of(canvas, probs, _off_grid(canvas, answers))))
    return fit_pool(
        source.teachers,
        np.concatenate([one.logs for _, one in parts]),
        np.concatenate([one.votes for _, one in parts]),
        np.concatenate([one.classes for one, _ in parts]),
        np.concatenate([one.area for one, _ in parts]),
        source.n_classes,
    )


def _off_grid(canvas: Canvas, answers: Sequence[Answer]) -> list[Floats]:
    points = canvas.first[without_points(canvas)]
    return [one.at(canvas, points) for one in answers]


def _each(source: Source, pool: Pool) -> Iterator[tuple[str, _Seen]]:
    """Second pass: measure every mask with the pool's weights."""
    for name in sorted(source.names):
        label, answers = source.load(name)
        canvas = canvas_of(label)
        probs = [one.on(canvas) for one in answers]
        pooled = pooled_pixels(probs, pool)
        votes = [one.argmax(axis=0) for one in probs]
        used = [one for one, weight in zip(probs, pool.large, strict=True) if weight > 0] or probs
        given = canvas.classes[canvas.numbers]
        same = [*((vote == given).sum() for vote in votes), (given != NONE).sum()]
        regions = _Regions.of(canvas)
        evidence = evidence_of(canvas, probs, _off_grid(canvas, answers))
        log_probs = pool.log_probs(evidence.logs, regions.area)
        right = pool.right(log_probs, regions.classes)
        moved = displacement_of(canvas, pooled, used, right)
        shapes = shapes_of(canvas, pooled, _worth_drawing(regions, right, moved), REACH)
        candidates = candidates_of(canvas, pooled, votes)
        counts = np.asarray(same, dtype=np.float64)
        yield name, _Seen(regions, evidence, moved, candidates, log_probs, right, counts, shapes)


def _worth_drawing(regions: _Regions, right: Array, moved: Displacement) -> Ids:
    """Return the regions that may be reported, whatever noise others have."""
    length = np.maximum(moved.length.sum(axis=1), 1e-9)
    far = np.sqrt((moved.shift**2 * moved.length).sum(axis=1) / length) >= LEAST_DRAWN
    believe = believed(regions.area)
    return np.flatnonzero(((1.0 - right) * believe >= 0.1) | (far & (believe >= 0.1)))


def pooled_pixels(probs: Sequence[Floats], pool: Pool) -> Floats:
    """Return (K, h, w) probabilities of the pool, with the weights of large regions and no bias."""
    total = np.zeros_like(probs[0])
    weights = pool.large if pool.large.sum() > 0 else np.full(len(probs), 1.0 / len(probs))
    for one, weight in zip(probs, weights.tolist(), strict=True):
        if weight > 0:
            total += np.float32(weight) * np.log(np.maximum(one, np.float32(PROB_FLOOR)))
    total -= total.max(axis=0)
    np.exp(total, out=total)
    total /= total.sum(axis=0)
    return total


def _usual_noise(seen: Sequence[_Seen]) -> float:
    trusted = [(believed(one.canvas.area) > 0.75) & (one.right > 0.5) for one in seen]
    return edge_noise(
        np.concatenate([one.moved.shift[good] for one, good in zip(seen, trusted, strict=True)]),
        np.concatenate([one.moved.length[good] for one, good in zip(seen, trusted, strict=True)]),
    )


def _regions(one: _Seen, noise: float, pool: Pool) -> list[Region]:
    canvas, moved, right = one.canvas, one.moved, one.right
    n = len(canvas.classes)
    at = np.arange(n)
    probs = np.exp(one.log_probs)
    rest = probs.copy()
    rest[at, canvas.classes] = 0.0
    other = np.where(rest.max(axis=1) > 0, rest.argmax(axis=1), NONE) if n else np.zeros(0, dtype=np.int64)
    near = (rest * one.evidence.beside).sum(axis=1) / np.maximum(rest.sum(axis=1), 1e-30)
    believe = believed(canvas.area)
    wrong = (1.0 - right) * believe
    noises = in_noises(moved, noise)
    off = noises**2 / (noises**2 + SURE**2) * right * believe
    length = np.maximum(moved.length.sum(axis=1), 1e-9)
    offset = (moved.shift * moved.length).sum(axis=1) / length * canvas.diagonal_px
    root = np.sqrt((moved.shift**2 * moved.length).sum(axis=1) / length) * canvas.diagonal_px
    found = [
        Region(
            component=i,
            class_id=int(canvas.classes[i]),
            area_px=int(canvas.area_px[i]),
            bbox_px=_box(canvas.bbox_px[i]),
            risk={
                "wrong_class": float(wrong[i] * (1.0 - near[i])),
                "spurious": float(wrong[i] * near[i]),
                "boundary": float(off[i]),
            },
            suggested={"wrong_class": int(other[i]), "spurious": int(other[i]), "boundary": NONE},
            given_prob=float(probs[i, canvas.classes[i]]),
            other=int(other[i]),
            other_prob=float(probs[i, other[i]]),
            n_agree=int((one.evidence.votes[i] == other[i]).sum()),
            iou=float(moved.iou[i]),
            offset_px=float(offset[i]),
            moved_px=float(root[i]),
            noises=float(noises[i]),
            drawn=one.shapes.get(i, (None, None))[0],
            seen=one.shapes.get(i, (None, None))[1],
        )
        for i in range(n)
    ]
    return found + [_absent(one, right, pool) for one in one.candidates]


def _absent(one: Candidate, right: Array, pool: Pool) -> Region:
    """Return a missing region: how much teachers prefer it, where the region that covers it is right as a whole."""
    odds = max(pool.noise_rate, LEAST_ODDS)
    prefer = 1.0 / (1.0 + np.exp(-(one.evidence + np.log(odds / (1.0 - odds)))))
    return Region(
        component=NONE,
        class_id=one.given,
        area_px=one.area_px,
        bbox_px=one.bbox_px,
        risk={"missing": float(prefer * one.quality * right[one.owner - 1])},
        suggested={"missing": one.class_id},
        given_prob=one.given_prob,
        other=one.class_id,
        other_prob=one.class_prob,
        n_agree=one.n_agree,
        seen=one.shape,
    )


def _box(values: npt.NDArray[np.int64]) -> tuple[int, int, int, int]:
    x, y, width, height = (int(v) for v in values)
    return x, y, width, height


def image_risk(regions: Sequence[Region]) -> float:
    """Return the risk of an image: its regions' highest risks, the worst weighing most (softmax at 0.1)."""
    worst = np.asarray([max(one.risk.values()) for one in regions if one.risk], dtype=np.float64)
    if not len(worst):
        return 0.0
    weight = np.exp((worst - worst.max()) / 0.1)
    return float((weight * worst).sum() / weight.sum())
