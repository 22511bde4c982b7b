"""A region of one mask as segmenters see it: what is measured on the mask alone, as a value and as a row of a table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from curate.teachers.regions.boundary import SIDES
from curate.teachers.regions.canvas import NONE, Floats
from curate.teachers.regions.shapes import Shape

ISSUES = ("wrong_class", "spurious", "missing", "boundary")
_ALONE = ("wrong_class", "spurious", "missing")  # issues whose risk follows from one mask
_PLAIN: tuple[str, ...] = ("label", "other", "area_px", "area_share", "right_prob", "given_prob", "other_prob")
_PLAIN += ("n_agree", "n_teachers", "iou", "offset_px", "moved_px")
_SIDES = ("length", "shift", "spread")


def no_sides() -> Floats:
    """Return what is measured of a side that is not there."""
    return np.zeros(SIDES, dtype=np.float32)


@dataclass(frozen=True, slots=True)
class Region:
    """A connected region of a mask (8 neighbours), or one that is missing from it, and what teachers say of it.

    Attributes:
        component: number in its image, from 0; NONE where a region is missing.
        label: its class; of a missing region, what is there instead.
        other: the class that teachers prefer; None where they prefer none.
        area_px: pixels.
        area_share: of the image.
        bbox_px: x, y, width, height.
        risk: by issue, in [0, 1].
        right_prob: probability that the label is right; of a missing region, that it is of what covers it.
        given_prob: probability of the class given.
        other_prob: of the other one.
        n_agree: teachers to whom that class is the commonest here.
        n_teachers: that have answered for the image.
        iou: with the teachers' region of the same class nearby; 0 of a missing region.
        offset_px: how far outside (+) or inside (-) teachers see the outline, on average.
        moved_px: root mean square of the same by side.
        length: (4,) of the outline by side, see `boundary`; zero of a missing region.
        shift: (4,) how far outside (+) or inside (-) teachers see it.
        spread: (4,) standard deviation of the teachers' own.
        noises: `moved_px` in units of what is usual; 0 until that is known.
        drawn: where the label has it; None where it is missing, or nothing is found.
        seen: where teachers see it, of a missing region and of an outline that is off.
    """

    component: int
    label: str
    other: str | None
    area_px: int
    area_share: float
    bbox_px: tuple[int, int, int, int]
    risk: dict[str, float] = field(default_factory=dict)
    right_prob: float = 0.0
    given_prob: float = 0.0
    other_prob: float = 0.0
    n_agree: int = 0
    n_teachers: int = 0
    iou: float = 0.0
    offset_px: float = 0.0
    moved_px: float = 0.0
    length: Floats = field(default_factory=no_sides)
    shift: Floats = field(default_factory=no_sides)
    spread: Floats = field(default_factory=no_sides)
    noises: float = 0.0
    drawn: Shape | None = None
    seen: Shape | None = None

    def to_row(self) -> dict[str, Any]:
        """Return a `schema.REGION`: what is known from the mask alone, without the noise of other masks' outlines."""
        return {
            "component": None if self.component == NONE else self.component,
            "bbox_px": list(self.bbox_px),
            **{name: getattr(self, name) for name in _PLAIN},
            **{f"{issue}_risk": self.risk.get(issue) for issue in _ALONE},
            **{name: getattr(self, name).tolist() for name in _SIDES},
            **{
                name: None if shape is None else shape.to_row()
                for name, shape in (("drawn", self.drawn), ("seen", self.seen))
            },
        }

    @classmethod
    def of_row(cls, row: Mapping[str, Any]) -> Region:
        """Return the region of a `schema.REGION`."""
        x, y, width, height = row["bbox_px"]
        return cls(
            component=NONE if row["component"] is None else row["component"],
            bbox_px=(x, y, width, height),
            risk={issue: risk for issue in _ALONE if (risk := row[f"{issue}_risk"]) is not None},
            drawn=None if row["drawn"] is None else Shape.of_row(row["drawn"]),
            seen=None if row["seen"] is None else Shape.of_row(row["seen"]),
            length=np.asarray(row["length"], dtype=np.float32),
            shift=np.asarray(row["shift"], dtype=np.float32),
            spread=np.asarray(row["spread"], dtype=np.float32),
            **{name: row[name] for name in _PLAIN},
        )
