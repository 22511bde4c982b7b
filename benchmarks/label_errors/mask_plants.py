"""Errors planted into masks: class swapped, region dropped or invented, boundary eroded, dilated or shifted."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from mask_teachers import VOID
from scipy import ndimage

KINDS = ("wrong_class", "spurious", "missing", "boundary")
EIGHT = np.ones((3, 3))


@dataclass
class Plants:
    """Where errors are: image -> kind -> masks of the regions as they are now (of missing ones, as they were)."""

    at: dict[str, dict[str, list[np.ndarray]]] = field(default_factory=dict)


def regions(mask: np.ndarray) -> list[tuple[int, np.ndarray]]:
    found = []
    for one in np.unique(mask[mask != VOID]):
        parts, n = ndimage.label(mask == one, structure=EIGHT)
        found += [(int(one), parts == number) for number in range(1, n + 1)]
    return found


def numbered(mask: np.ndarray) -> tuple[np.ndarray, int]:
    """Return region numbers from 1, in the order of `regions`, 0 where nothing is said, and how many there are."""
    numbers, n = np.zeros(mask.shape, dtype=np.int64), 0
    for one in np.unique(mask[mask != VOID]):
        parts, n_parts = ndimage.label(mask == one, structure=EIGHT)
        numbers[parts > 0] = parts[parts > 0] + n
        n += n_parts
    return numbers, n


def crop_of(mask: np.ndarray, by_px: float) -> tuple[slice, slice]:
    pad = int(by_px) + 2
    place = ndimage.find_objects(mask.astype(np.uint8))[0]
    return tuple(slice(max(one.start - pad, 0), one.stop + pad) for one in place)


def grown(mask: np.ndarray, by_px: float) -> np.ndarray:
    place, wide = crop_of(mask, by_px), np.zeros_like(mask)
    wide[place] = ndimage.distance_transform_edt(~mask[place]) <= by_px
    return wide


def thinned(mask: np.ndarray, by_px: float) -> np.ndarray:
    place, thin = crop_of(mask, 0), np.zeros_like(mask)
    thin[place] = ndimage.distance_transform_edt(mask[place]) > by_px
    return thin


def shifted(mask: np.ndarray, down: int, right: int) -> np.ndarray:
    wide = np.zeros_like(mask)
    height, width = mask.shape
    rows, columns = np.nonzero(mask)
    inside = (rows + down >= 0) & (rows + down < height) & (columns + right >= 0) & (columns + right < width)
    wide[rows[inside] + down, columns[inside] + right] = True
    return wide


def plant(masks: dict[str, np.ndarray], seed: int) -> tuple[dict[str, np.ndarray], Plants]:
    random = np.random.default_rng(seed)
    counts = np.bincount(np.concatenate([m[m != VOID] for m in masks.values()]))
    plants, made = Plants(), {}
    outlines = []
    sizes = {stem: mask.size for stem, mask in masks.items()}
    for stem, mask in masks.items():
        outlines += [
            part[ndimage.find_objects(part.astype(int))[0]]
            for _, part in regions(mask)
            if 5e-4 * sizes[stem] <= part.sum() <= 0.02 * sizes[stem]
        ]
    for stem, true in masks.items():
        mask, busy = true.copy(), np.zeros(true.shape, dtype=bool)
        own = {kind: [] for kind in KINDS}
        parts = [p for p in regions(true) if 5e-4 * true.size <= p[1].sum() <= 0.08 * true.size]
        random.shuffle(parts)
        width = 0.0125 * np.hypot(*true.shape)
        for kind in ("wrong_class", "missing", "boundary", "spurious") * 2:
            if kind == "spurious":
                _invent(mask, busy, own, outlines, counts, random)
                continue
            while parts:
                one, part = parts.pop()
                if (busy & part).any():
                    continue
                if _change(kind, mask, one, part, busy, own, counts, width, random):
                    break
        plants.at[stem], made[stem] = own, mask
    return made, plants


def _change(kind, mask, one, part, busy, own, counts, width, random) -> bool:  # noqa: ANN001, PLR0913, PLR0917 - a planter's state
    shape = part
    if kind == "wrong_class":
        weight = counts.astype(float)
        weight[one] = 0
        new = int(random.choice(len(weight), p=weight / weight.sum()))
        if (mask[ndimage.binary_dilation(part, EIGHT) & ~part] == new).any():
            return False  # it would merge with a neighbour and be no region of its own
        mask[part] = new
    elif kind == "missing":
        ring = ndimage.binary_dilation(part, EIGHT) & ~part
        around = mask[ring][mask[ring] != VOID]
        if not len(around) or (around == one).any():
            return False
        mask[part] = np.bincount(around).argmax()
    else:
        by = width * random.uniform(0.8, 1.2)
        how = random.choice(["eroded", "dilated", "shifted"])
        if how == "eroded":
            shape = thinned(part, by)
        elif how == "dilated":
            shape = (grown(part, by) & (mask != VOID) & ~busy) | part
        else:
            angle = random.uniform(0, 2 * np.pi)
            shape = shifted(part, round(1.5 * by * np.sin(angle)), round(1.5 * by * np.cos(angle)))
            shape &= (mask != VOID) & ~busy
        if shape.sum() < 0.25 * part.sum() or (mask[ndimage.binary_dilation(shape, EIGHT) & ~part] == one).any():
            return False
        if ndimage.label(shape, EIGHT)[1] != 1:
            return False
        lost = part & ~shape
        if lost.any():
            place = crop_of(part, width)
            unknown = (part | (mask == VOID))[place]
            nearest = ndimage.distance_transform_edt(unknown, return_distances=False, return_indices=True)
            mask[lost] = mask[place][tuple(nearest)][lost[place]]
        mask[shape] = one
    busy |= grown(part | shape, 2 * width)
    own[kind].append(shape)
    return True


def _invent(mask, busy, own, outlines, counts, random) -> None:  # noqa: ANN001
    for _ in range(50):
        outline = outlines[int(random.integers(len(outlines)))]
        top, left = (
            int(random.integers(0, side - size + 1)) for side, size in zip(mask.shape, outline.shape, strict=True)
        )
        part = np.zeros(mask.shape, dtype=bool)
        part[top : top + outline.shape[0], left : left + outline.shape[1]] = outline
        near = grown(part, 3)
        under = np.unique(mask[near])
        if len(under) != 1 or under[0] == VOID or (busy & near).any():
            continue
        weight = counts.astype(float)
        weight[under[0]] = 0
        mask[part] = int(random.choice(len(weight), p=weight / weight.sum()))
        busy |= grown(part, 6)
        own["spurious"].append(part)
        return
