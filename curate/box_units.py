"""In which units boxes stand that should be x, y, width, height in pixels: told from all boxes of a file together."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from curate.errors import InputError

Floats = npt.NDArray[np.float64]

LEAST_TO_TELL = 20  # boxes; with fewer nothing is typical
TYPICAL = 0.9  # share of the boxes that go by the unit; the others may be anything
RELATIVE_PX, SIDE_PX = 1.5, 8  # boxes that end so near to the corner of images that are larger than this
FAR = 1.1  # of a side: overhanging labels and detectors' boxes end before it
FAR_SHARE = 0.3  # of corners read as sizes: every box whose middle is right of or below the image's does it
BEYOND, BEYOND_SHARE = 1.05, 0.5  # of detections, whose corners may be anywhere as well
CORNERS_SHARE = 0.95
WANTED = "COCO boxes are [x, y, width, height] in pixels"


def refuse_other_units(boxes: Floats, size_px: Floats, what: str, *, are_found: bool = False) -> None:
    """Refuse boxes that are relative, or corners, instead of x, y, width, height in pixels.

    Boxes that merely overhang, and files with few boxes, are let through: what is wrong there is found box by box.

    Args:
        boxes: (D, 4) as they stand in the file.
        size_px: (D, 2) of their images; NaN where it is not known.
        what: the file, for the message.
        are_found: by a detector, so that corners too may reach beyond the images.

    Raises:
        InputError: they are in other units.
    """
    known = np.isfinite(size_px).all(axis=1) & np.isfinite(boxes).all(axis=1)
    boxes, size_px = boxes[known], size_px[known]
    if len(boxes) < LEAST_TO_TELL:
        return
    if np.quantile(np.abs(boxes).max(axis=1), TYPICAL) <= RELATIVE_PX and np.median(size_px.min(axis=1)) > SIDE_PX:
        raise InputError(
            f"{what} seems to hold boxes relative to their images: hardly a number is beyond {RELATIVE_PX}. {WANTED}. "
            f"Multiply x and width by the image's width, y and height by its height."
        )
    with np.errstate(over="ignore"):
        ends = boxes[:, :2] + boxes[:, 2:]
    is_ordered = (boxes[:, 2:] > boxes[:, :2]).all(axis=1)
    far = (ends > size_px * FAR).any(axis=1).mean()
    inside = ((boxes[:, :2] > (1 - FAR) * size_px) & (boxes[:, 2:] < size_px * FAR)).all(axis=1)
    are_corners = far >= FAR_SHARE and (is_ordered & inside).mean() >= CORNERS_SHARE
    if are_found:
        beyond = (ends > size_px * BEYOND).any(axis=1)
        are_corners |= (beyond & is_ordered).mean() > BEYOND_SHARE
    if are_corners:
        raise InputError(
            f"{what} seems to hold corners [x0, y0, x1, y1]: read as sizes, {far:.0%} of the boxes reach far beyond "
            f"their images. {WANTED}. Subtract x0 from x1 and y0 from y1."
        )
