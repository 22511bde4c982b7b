"""Regions of masks against teachers: another class, spurious, missing, or an outline that is off.

Two passes, a mask at a time. The first weighs the teachers by what they say of labeled regions (`pool`); the second
holds every region of every mask against the pool (`measure`). What is usual of outlines is known only then: `judged`
says how odd that of a region is. All lengths follow the image; class ids are names and nothing is averaged over them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate import schema
from curate.adapters.execution import map_shards
from curate.teachers.regions.boundary import SIDES, SURE, edge_noise, in_noises
from curate.teachers.regions.canvas import NONE, Floats
from curate.teachers.regions.measure import Array, MaskAnswers, Measured, measure, on_canvas
from curate.teachers.regions.pool import Pool, believed, doubt_segmenters, fit_pool
from curate.teachers.regions.region import Region

N_FITTED = 300  # masks that teachers are weighed on, drawn by a hash of their names
AT_ONCE = 4  # masks in memory, however many workers there are: one of 2 megapixels takes a quarter of a gigabyte
_SIDES = ("length", "shift", "spread")
TRUSTED = 0.75  # `believed` of a region, from which on its outline says what is usual


@dataclass(frozen=True, slots=True)
class Source:
    """Masks and what teachers say of them.

    Attributes:
        names: of the masks, each a path; sorted.
        teachers: their names, sorted.
        classes: K names.
        load: name of a mask -> it and an answer of each teacher.
    """

    names: Sequence[str]
    teachers: Sequence[str]
    classes: Sequence[str]
    load: Callable[[str], MaskAnswers]


def weigh(source: Source, *, workers: int = 1) -> Pool:
    """First pass: fit the pool to the labels of some masks, drawn by a hash of their stems.

    Raises:
        InputError: a file that cannot be used (`measure.AnswerError`: of a teacher).
    """

    def seen_of(name: str) -> tuple[Floats, np.ndarray, np.ndarray, Array]:
        seen = on_canvas(source.load(name), source.teachers, len(source.classes))
        return seen.evidence.logs, seen.evidence.votes, seen.canvas.classes[1:], seen.area_share

    drawn = sorted(source.names, key=_draw)[:N_FITTED]
    parts = list(map_shards(seen_of, drawn, workers=min(workers, AT_ONCE), engine="threads"))
    logs, votes, given, area = (np.concatenate(column) for column in zip(*parts, strict=True))
    pool = fit_pool(source.teachers, logs, votes, given, area, len(source.classes))
    return replace(pool, doubts=doubt_segmenters(source.teachers, votes, given, area, source.classes))


def measured(source: Source, pool: Pool, names: Sequence[str], *, workers: int = 1) -> Iterator[Measured]:
    """Second pass: yield what the pool says of some masks of the source, in their order.

    Raises:
        InputError: a file that cannot be used.
    """

    def measured_one(name: str) -> Measured:
        return measure(on_canvas(source.load(name), source.teachers, len(source.classes)), pool, source.classes)

    return map_shards(measured_one, names, workers=min(workers, AT_ONCE), engine="threads")


def regions_column(measured_masks: Sequence[Measured]) -> pa.Array:
    """Return what was measured, a list of `schema.REGION` a mask: a tenth of what the values take in memory."""
    kind = pa.list_(schema.REGION)
    return pa.array([[region.to_row() for region in one.regions] for one in measured_masks], kind)


def usual_noise(regions: pa.ChunkedArray) -> float:
    """Return how far outlines usually seem displaced, by those of large regions whose class is not in doubt.

    Args:
        regions: `regions_column` of all masks.
    """
    known = [_trusted(chunk) for chunk in regions.chunks]
    nothing = np.zeros((0, SIDES), dtype=np.float32)
    shift, length = ([nothing, *column] for column in zip(*known, strict=True)) if known else ([nothing], [nothing])
    return edge_noise(np.concatenate(shift), np.concatenate(length))


def _trusted(chunk: pa.Array) -> tuple[Floats, Floats]:
    every = pc.list_flatten(chunk)
    labeled = pc.is_valid(pc.struct_field(every, "component"))
    good = pc.and_(labeled, pc.greater(pc.struct_field(every, "right_prob"), 0.5))
    area = pc.struct_field(every, "area_share").to_numpy(zero_copy_only=False)
    chosen = every.filter(pc.and_(good, pa.array(believed(area) > TRUSTED)))
    shift, length = (
        pc.list_flatten(pc.struct_field(chosen, name)).to_numpy(zero_copy_only=False).reshape(-1, SIDES)
        for name in ("shift", "length")
    )
    return shift, length


def judged(regions: Sequence[Region], noise: float) -> list[Region]:
    """Return regions with the risk of their outline, given what is usual; a missing one has none."""
    if not regions:
        return []
    length, shift, spread = (np.stack([getattr(one, name) for one in regions]) for name in _SIDES)
    noises = in_noises(shift, length, spread, noise).astype(np.float64)
    sure = np.asarray([one.right_prob for one in regions]) * believed(
        np.asarray([one.area_share for one in regions])
    )
    off = noises**2 / (noises**2 + SURE**2) * sure
    return [
        one if one.component == NONE else replace(one, noises=n, risk={**one.risk, "boundary": risk})
        for one, n, risk in zip(regions, noises.tolist(), off.tolist(), strict=True)
    ]


def image_risk(regions: Sequence[Region]) -> float:
    """Return the risk of an image: its regions' highest risks, the worst weighing most (softmax at 0.1)."""
    worst = np.asarray([max(one.risk.values()) for one in regions if one.risk], dtype=np.float64)
    if not len(worst):
        return 0.0
    weight = np.exp((worst - worst.max()) / 0.1)
    return float((weight * worst).sum() / weight.sum())


def _draw(name: str) -> tuple[bytes, str]:
    """Return what masks are drawn by: the stem, which is the same wherever its folder lies."""
    return hashlib.sha256(PurePosixPath(name).stem.encode()).digest(), name
