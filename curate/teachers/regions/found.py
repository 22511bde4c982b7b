"""What is said of a region: its issue, whether it is flagged, and the reason with its numbers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from curate.teachers.regions.measure import root_shift
from curate.teachers.regions.region import Region

MIN_RISK = 0.1  # below, a region is quiet
_RIVAL = {"wrong_class": "spurious", "spurious": "wrong_class"}
CUT = 0.5  # as likely wrong as not; of an outline, displaced by three times what is usual
MIN_MOVED = 0.0025  # of the image's diagonal: an outline that is off by less is drawn well


@dataclass(frozen=True, slots=True)
class RegionFound:
    """An issue of a region.

    Attributes:
        region: that it is about.
        issue: one of `region.ISSUES`.
        risk: in [0, 1].
        flagged: the risk is at least one half; where it is about a class most teachers agree, and an outline is off by
            an amount that matters.
        suggested: the class that fits better; None of an outline.
        code: reason code.
        args: its arguments.
    """

    region: Region
    issue: str
    risk: float
    flagged: bool
    suggested: str | None
    code: str
    args: dict[str, Any]


def issues_of(region: Region, min_risk: float = MIN_RISK) -> Iterator[RegionFound]:
    """Yield each issue of a region, judged, from `min_risk` on."""
    for issue, risk in sorted(region.risk.items()):
        if risk < min_risk:
            continue
        doubt = risk
        if issue == "boundary":
            moved = root_shift(region.shift[None], region.length[None])
            agreed, code = bool(moved[0] >= MIN_MOVED), _direction(region)
        else:
            agreed, code = 2 * region.n_agree > region.n_teachers, f"region_{issue}"
            rival = region.risk.get(_RIVAL.get(issue, ""), 0.0)  # the label is wrong in one of two ways
            doubt = risk + rival if risk > rival else 0.0
        yield RegionFound(
            region=region,
            issue=issue,
            risk=float(risk),
            flagged=bool(doubt >= CUT and agreed),
            suggested=None if issue == "boundary" else region.other,
            code=code,
            args=_args(region),
        )


def _direction(region: Region) -> str:
    """Return the code of an outline that is off: by less than half on average, it stands elsewhere."""
    if 2 * abs(region.offset_px) < region.moved_px:
        return "region_shifted"
    return "region_too_small" if region.offset_px > 0 else "region_too_large"


def _args(region: Region) -> dict[str, Any]:
    return {
        "label": region.label,
        "other": region.other,
        "area_px": region.area_px,
        "bbox_px": list(region.bbox_px),
        "n_agree": region.n_agree,
        "n_teachers": region.n_teachers,
        "given_prob": round(region.given_prob, 2),
        "other_prob": round(region.other_prob, 2),
        "iou": round(region.iou, 2),
        "offset_px": round(abs(region.offset_px), 1),
        "moved_px": round(region.moved_px, 1),
        "noises": round(region.noises, 1),
    }
