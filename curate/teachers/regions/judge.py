"""Regions of one mask against the teachers' probabilities: another class, spurious, missing, or a boundary that is off.

All lengths follow the image: the band at a boundary is `BAND` of its diagonal wide. Probabilities are held against what
teachers give the class where it is labeled (`tau`), so that a class they are weak on is not doubted everywhere.
Class ids are names: nothing is averaged over them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt
from scipy import ndimage

Floats = npt.NDArray[np.float32]
Ids = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

ISSUES = ("wrong_class", "spurious", "missing", "boundary")
BAND = 0.005  # of the image's diagonal
SMALL = 1e-4  # of the image's area: regions of this size are believed half
MIN_TAU = 0.1
NONE = -1
_EIGHT = np.ones((3, 3), dtype=np.int8)


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
        given_prob: mean probability of the class given.
        other: the class that teachers prefer.
        other_prob: its mean probability.
        n_agree: teachers to whom that class is the commonest here.
        iou: with the teachers' region of the same class nearby; of a missing region, share that is not labeled so.
        offset: how far outside (+) or inside (-) teachers see the boundary, in bands.
        offset_px: the same in pixels.
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
    offset: float = 0.0
    offset_px: float = 0.0


def band_px(shape: tuple[int, ...]) -> float:
    """Return the width of the band at boundaries, at least one pixel."""
    return max(1.0, BAND * float(np.hypot(shape[-2], shape[-1])))


@dataclass(frozen=True, slots=True)
class Image:
    """What is judged: (H, W) labels as class numbers 0 … K-1 or NONE where ignored, and (K, H, W) pooled probabilities.

    Attributes:
        label: (H, W).
        probs: (K, H, W), mean of the teachers.
        votes: (H, W) likeliest class, a teacher each.
        tau: (K,) mean probability of each class where it is labeled.
        best: (H, W) likeliest class of the pool, by what teachers usually give each.
    """

    label: Ids
    probs: Floats
    votes: Sequence[Ids]
    tau: Floats
    best: Ids


def image_of(label: Ids, probs: Sequence[Floats], tau: Floats) -> Image:
    """Pool the teachers' probabilities, (K, H, W) each, with equal weights."""
    pooled: Floats = probs[0] if len(probs) == 1 else np.asarray(sum(probs) / len(probs), dtype=np.float32)
    best = (pooled / tau[:, None, None]).argmax(axis=0).astype(np.int64)
    return Image(label, pooled, [one.argmax(axis=0).astype(np.int64) for one in probs], tau, best)


def regions_of(image: Image) -> list[Region]:
    """Return every region of the mask with its risks, and the regions that are missing from it."""
    reach = band_px(image.label.shape)
    seen = _labeled(image.best, image.label >= 0)
    numbers, n_regions, classes = _components(image.label)
    found: list[Region] = []
    for number, place in enumerate(ndimage.find_objects(numbers, max_label=n_regions)):
        found.append(_judged(image, numbers, number, int(classes[number]), place, seen, reach))
    return found + _missing(image, numbers, n_regions, reach)


def _components(label: Ids) -> tuple[Ids, int, Ids]:
    """Return (H, W) region numbers from 1 (0 = ignored), how many, and the class of each."""
    numbers = np.zeros(label.shape, dtype=np.int64)
    n, classes = 0, []
    for one in np.unique(label[label >= 0]).tolist():
        parts, n_parts = ndimage.label(label == one, structure=_EIGHT)
        numbers[parts > 0] = parts[parts > 0] + n
        n += n_parts
        classes += [one] * n_parts
    return numbers, n, np.asarray(classes, dtype=np.int64)


def _labeled(best: Ids, valid: Bools) -> tuple[Ids, npt.NDArray[np.int64]]:
    """Return the teachers' own regions, numbered from 1, and their areas."""
    numbers, n, _ = _components(np.where(valid, best, NONE))
    return numbers, np.bincount(numbers.ravel(), minlength=n + 1)


def _box(place: tuple[slice, slice]) -> tuple[int, int, int, int]:
    rows, columns = place
    return columns.start, rows.start, columns.stop - columns.start, rows.stop - rows.start


def _believed(area_px: int, image: Image) -> float:
    return area_px / (area_px + SMALL * image.label.size)


def _preferred(image: Image, mask: Bools, place: tuple[slice, slice], given: int) -> tuple[Floats, int, float]:
    """Return mean probabilities on a region, the other class that suits it best, and how much better, in [0, 1]."""
    mean = image.probs[(slice(None), *place)][:, mask].mean(axis=1)
    adjusted = mean / image.tau
    rest = adjusted.copy()
    rest[given] = -1.0
    other = int(rest.argmax())
    total = float(rest[other] + adjusted[given])
    return mean, other, float(rest[other] / total) if total > 0 else 0.0


def _judged(
    image: Image,
    numbers: Ids,
    number: int,
    given: int,
    place: tuple[slice, slice],
    seen: tuple[Ids, npt.NDArray[np.int64]],
    reach: float,
) -> Region:
    mask = numbers[place] == number + 1
    area = int(mask.sum())
    mean, other, better = _preferred(image, mask, place, given)
    theirs = seen[0][place][mask & (image.best[place] == other)]
    touched = np.unique(theirs)
    whole = int(seen[1][touched].sum())
    within = len(theirs) / whole if whole else 0.0  # 1: the teachers' region is this very one, under another class
    doubt = better * _believed(area, image)
    offset, iou, core = _boundary(image, numbers, number, given, place, reach)
    supported = min(1.0, float(core / image.tau[given]))
    return Region(
        component=number,
        class_id=given,
        area_px=area,
        bbox_px=_box(place),
        risk={
            "wrong_class": doubt * within,
            "spurious": doubt * (1.0 - within),
            "boundary": supported * _believed(area, image),  # times |offset|, when the usual one is known
        },
        suggested={"wrong_class": other, "spurious": other, "boundary": NONE},
        given_prob=float(mean[given]),
        other=other,
        other_prob=float(mean[other]),
        n_agree=sum(_commonest(vote[place][mask]) == other for vote in image.votes),
        iou=iou,
        offset=offset,
        offset_px=offset * reach,
    )


def _commonest(ids: Ids) -> int:
    return int(np.bincount(ids).argmax()) if len(ids) else NONE


def _boundary(
    image: Image, numbers: Ids, number: int, given: int, place: tuple[slice, slice], reach: float
) -> tuple[float, float, float]:
    """Return how far outside teachers see the boundary, in bands, the IoU nearby, and the support of the core.

    Where teachers are merely blurred, as much of the class is lost inside as is found outside; a boundary that is off
    shows as the difference of the two.
    """
    pad = int(np.ceil(reach)) + 1
    grown = tuple(
        slice(max(one.start - pad, 0), min(one.stop + pad, side))
        for one, side in zip(place, image.label.shape, strict=True)
    )
    rows, columns = grown
    mask = numbers[rows, columns] == number + 1
    inside = ndimage.distance_transform_edt(np.pad(mask, 1, mode="edge"))[1:-1, 1:-1]
    outside = ndimage.distance_transform_edt(~np.pad(mask, 1, mode="edge"))[1:-1, 1:-1]
    label = image.label[rows, columns]
    probs = image.probs[given][rows, columns]
    inner = mask & (inside <= reach)
    outer = ~mask & (outside <= reach) & (label >= 0) & (label != given)
    core = mask & (inside > reach)
    core = core if core.any() else mask
    near = (mask | outer) & (image.best[rows, columns] == given)
    iou = float((near & mask).sum() / max(int((near | mask).sum()), 1))
    if not inner.any() or not outer.any():
        return 0.0, iou, float(probs[core].mean())
    found, lost = float(probs[outer].mean()), float(1.0 - probs[inner].mean())
    return found - lost, iou, float(probs[core].mean())


def _missing(image: Image, numbers: Ids, n_regions: int, reach: float) -> list[Region]:
    """Return the regions that teachers see inside others: of another class, thick, and a small part of what is there."""
    areas = np.bincount(numbers.ravel(), minlength=n_regions + 1)
    valid = image.label >= 0
    found: list[Region] = []
    for one in np.unique(image.best[valid]).tolist():
        off = valid & (image.best == one) & (image.label != one)
        thick = ndimage.distance_transform_edt(np.pad(off, 1))[1:-1, 1:-1] > reach
        if not thick.any():
            continue
        parts, _ = ndimage.label(off, structure=_EIGHT)
        for number, place in enumerate(ndimage.find_objects(parts), start=1):
            mask = parts[place] == number
            if not (mask & thick[place]).any():
                continue
            home = numbers[place][mask]
            owner = _commonest(home)
            shared = int((home == owner).sum())
            taken = shared / int(areas[owner])
            given = _commonest(image.label[place][mask])
            mean = image.probs[(slice(None), *place)][:, mask].mean(axis=1)
            ratio = mean / image.tau
            better = float(ratio[one] / max(float(ratio[one] + ratio[given]), 1e-9))
            area = int(mask.sum())
            beside = _beside(image.label, mask, place, one)
            found.append(
                Region(
                    component=NONE,
                    class_id=given,
                    area_px=area,
                    bbox_px=_box(place),
                    risk={"missing": better * (1.0 - taken) * (1.0 - beside) * _believed(area, image)},
                    suggested={"missing": one},
                    given_prob=float(mean[given]),
                    other=one,
                    other_prob=float(mean[one]),
                    n_agree=sum(_commonest(vote[place][mask]) == one for vote in image.votes),
                    iou=0.0,
                )
            )
    return found


def _beside(label: Ids, mask: Bools, place: tuple[slice, slice], one: int) -> float:
    """Return in [0, 1] how far a part only adds to a labeled region of its class: 1 from half its contour on."""
    rows, columns = (
        slice(max(a.start - 1, 0), min(a.stop + 1, side)) for a, side in zip(place, label.shape, strict=True)
    )
    whole = np.zeros(label[rows, columns].shape, dtype=np.bool_)
    top, left = place[0].start - rows.start, place[1].start - columns.start
    whole[top : top + mask.shape[0], left : left + mask.shape[1]] = mask
    contour = ndimage.binary_dilation(whole, structure=_EIGHT) & ~whole
    if not contour.any():
        return 0.0
    return min(1.0, 2.0 * float((label[rows, columns][contour] == one).mean()))


def with_usual_offset(regions: Sequence[Region], usual: dict[int, float]) -> list[Region]:
    """Return the regions with the risk of their boundary: how far it is from what is usual for the class.

    What teachers do to most regions of a class (thin ones grow, for example) is theirs and not the labels'.
    """
    adjusted = []
    for one in regions:
        if "boundary" not in one.risk:
            adjusted.append(one)
            continue
        off = one.offset - usual.get(one.class_id, 0.0)
        risk = {**one.risk, "boundary": float(np.clip(abs(off), 0.0, 1.0)) * one.risk["boundary"]}
        adjusted.append(
            replace(one, risk=risk, offset=off, offset_px=one.offset_px * (off / one.offset if one.offset else 1.0))
        )
    return adjusted


def usual_offsets(regions: Sequence[Region]) -> dict[int, float]:
    """Return the median offset of each class over regions that are no specks."""
    by_class: dict[int, list[float]] = {}
    for one in regions:
        if one.component >= 0 and one.risk.get("boundary", 0.0) >= 0.25:
            by_class.setdefault(one.class_id, []).append(one.offset)
    return {key: float(np.median(values)) for key, values in by_class.items() if len(values) >= 5}


def image_risk(regions: Sequence[Region]) -> float:
    """Return the risk of an image: its regions' highest risks, the worst weighing most (softmax at 0.1)."""
    worst = np.asarray([max(one.risk.values()) for one in regions if one.risk], dtype=np.float64)
    if not len(worst):
        return 0.0
    weight = np.exp((worst - worst.max()) / 0.1)
    return float((weight * worst).sum() / weight.sum())
