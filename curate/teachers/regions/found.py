"""What is said of a region: its issue, whether it is flagged, and the reason with its numbers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from curate.teachers.regions.canvas import NONE
from curate.teachers.regions.judge import Region

MIN_RISK = 0.1  # below, a region is quiet
_RIVAL = {"wrong_class": "spurious", "spurious": "wrong_class"}
CUT = 0.5  # as likely wrong as not; of an outline, displaced by three times what is usual
MIN_MOVED = 0.0025  # of the image's diagonal: an outline that is off by less is drawn well


@dataclass(frozen=True, slots=True)
class RegionFound:
    """An issue of a region.

    Attributes:
        region: that it is about.
        issue: one of `judge.ISSUES`.
        risk: in [0, 1].
        flagged: the risk is at least one half; where it is about a class most teachers agree, and an outline is off by
            an amount that matters.
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
    region: Region, names: Sequence[str], n_teachers: int, diagonal_px: float, min_risk: float = MIN_RISK
) -> Iterator[RegionFound]:
    """Yield each issue of a region from `min_risk` on; the diagonal is the image's."""
    for issue, risk in sorted(region.risk.items()):
        if risk < min_risk:
            continue
        doubt = risk
        if issue == "boundary":
            agreed = region.moved_px >= MIN_MOVED * diagonal_px
            code = _direction(region)
        else:
            agreed, code = 2 * region.n_agree > n_teachers, f"region_{issue}"
            rival = region.risk.get(_RIVAL.get(issue, ""), 0.0)  # the label is wrong in one of two ways
            doubt = risk + rival if risk > rival else 0.0
        yield RegionFound(
            region,
            issue,
            float(risk),
            bool(doubt >= CUT and agreed),
            region.suggested[issue],
            code,
            _args(region, names, n_teachers),
        )


def _direction(region: Region) -> str:
    """Return the code of an outline that is off: by less than half on average, it stands elsewhere."""
    if 2 * abs(region.offset_px) < region.moved_px:
        return "region_shifted"
    return "region_too_small" if region.offset_px > 0 else "region_too_large"


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
        "moved_px": round(region.moved_px, 1),
        "noises": round(region.noises, 1),
    }
