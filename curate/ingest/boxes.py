"""Whether a given box can be one: the single judgement for all formats."""

from __future__ import annotations

import math
from collections.abc import Sequence

from curate.ingest.location import Problem

ROUNDING_PX = 1.0
ROUNDING_SHARE = 0.005  # where the image's size is not known: 1 px of 200


def box_problem(
    bbox: Sequence[float], *, width_px: int | None = None, height_px: int | None = None
) -> Problem | None:
    """Return why a box (x, y, w, h relative to the image, top-left) is out, or None.

    Out: not four finite numbers, inverted (negative width or height), zero area, or beyond the image by more
    than 1 px (0.5 % of the side where the size is not known). A box beyond the edge by less is a rounding of its
    tool: it is kept **as given**, not clipped, so that an export gives it back to the digit.
    """
    try:
        values = list(map(float, bbox))
    except (TypeError, ValueError, OverflowError):
        return Problem("box_not_numbers", {"box": str(bbox)[:100]})
    if len(values) != 4 or not all(map(math.isfinite, values)):
        return Problem("box_not_numbers", {"box": str(values)[:100]})
    x, y, w, h = values
    slack_x = ROUNDING_PX / width_px if width_px else ROUNDING_SHARE
    slack_y = ROUNDING_PX / height_px if height_px else ROUNDING_SHARE
    ulp = 1e-9  # the division by the size has rounded once already
    inside = (
        -slack_x - ulp <= x and -slack_y - ulp <= y and x + w <= 1 + slack_x + ulp and y + h <= 1 + slack_y + ulp
    )
    if inside and w > 0 and h > 0:
        return None
    code = "box_inverted" if w < 0 or h < 0 else "box_zero_area" if w == 0 or h == 0 else "box_outside"
    return Problem(code, {"x": _short(x), "y": _short(y), "w": _short(w), "h": _short(h)})


def _short(value: float) -> float:
    return float(f"{value:.6g}")
