"""What is said of a region: its issue, whether it is flagged, and the reason with its numbers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from curate.teachers.regions.judge import NONE, Region

MIN_RISK = 0.1  # below, a region is quiet
CUT = 0.5  # teachers prefer the other class; half a band for a boundary


@dataclass(frozen=True, slots=True)
class RegionFound:
    """An issue of a region.

    Attributes:
        region: that it is about.
        issue: one of `judge.ISSUES`.
        risk: in [0, 1].
        flagged: the risk is at least one half, and most teachers agree where it is about a class.
        suggested: the class that fits better, or NONE.
        code: reason code.
        args: its arguments.
    """

    region: Region
    issue: str
    risk: float
    flagged: bool
    suggested: int
    code: str
    args: dict[str, Any]


def issues_of(
    region: Region, names: Sequence[str], n_teachers: int, min_risk: float = MIN_RISK
) -> Iterator[RegionFound]:
    """Yield each issue of a region from `min_risk` on."""
    for issue, risk in sorted(region.risk.items()):
        if risk < min_risk:
            continue
        agreed = issue == "boundary" or 2 * region.n_agree > n_teachers
        code = f"region_{issue}"
        if issue == "boundary":
            code = "region_too_small" if region.offset > 0 else "region_too_large"
        yield RegionFound(
            region,
            issue,
            float(risk),
            bool(risk >= CUT and agreed),
            region.suggested[issue],
            code,
            _args(region, names, n_teachers),
        )


def _args(region: Region, names: Sequence[str], n_teachers: int) -> dict[str, Any]:
    return {
        "label": names[region.class_id],
        "other": names[region.other] if region.other != NONE else None,
        "area_px": region.area_px,
        "bbox_px": list(region.bbox_px),
        "n_agree": region.n_agree,
        "n_teachers": n_teachers,
        "given_prob": round(region.given_prob, 2),
        "other_prob": round(region.other_prob, 2),
        "iou": round(region.iou, 2),
        "offset_px": round(abs(region.offset_px), 1),
    }
