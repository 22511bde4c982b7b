"""Thumbnails of findings on masks: the region as labeled and as teachers see it, outlined where they are."""

from __future__ import annotations

import base64
import io

import numpy as np
import pytest
from PIL import Image

from curate.report.pictures import thumbnail
from curate.teachers.regions.shapes import Shape, shape_of


def picture(**shapes: Shape | None) -> np.ndarray:
    stream = io.BytesIO()
    Image.new("RGB", (400, 300), (90, 90, 90)).save(stream, "PNG")
    uri = thumbnail(stream.getvalue(), **shapes)
    assert uri is not None
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2])))).astype(int)


def disc(x: float, y: float) -> Shape:
    """Return a disc of a tenth of the image's height, at relative x, y."""
    rows, columns = np.ogrid[:300, :400]
    found = Shape.of((rows - y * 300) ** 2 + (columns - x * 400) ** 2 <= 30**2, (0, 0), (300, 400))
    assert found is not None
    return found


def coloured(pixels: np.ndarray, which: str) -> np.ndarray:
    red, _, blue = np.moveaxis(pixels, 2, 0)
    return red - blue > 80 if which == "drawn" else blue - red > 80


@pytest.mark.parametrize("which", ["drawn", "seen"])
def test_a_region_is_outlined_and_not_filled(which: str) -> None:
    pixels = picture(**{which: disc(0.5, 0.5)})
    lines = coloured(pixels, which)
    middle = tuple(side // 2 for side in lines.shape)
    assert lines.sum() > 50
    assert not lines[middle[0] - 5 : middle[0] + 5, middle[1] - 5 : middle[1] + 5].any()
    rows, columns = np.nonzero(lines)
    assert abs(rows.mean() - middle[0]) < 4
    assert abs(columns.mean() - middle[1]) < 4
    assert abs(np.ptp(rows) - np.ptp(columns)) < 6  # a disc stays round


def test_both_regions_are_in_the_picture_each_in_its_colour_and_place() -> None:
    pixels = picture(drawn=disc(0.3, 0.5), seen=disc(0.6, 0.5))
    left, right = (np.nonzero(coloured(pixels, which))[1].mean() for which in ("drawn", "seen"))
    assert left < pixels.shape[1] / 2 < right


def test_shapes_come_back_from_a_finding_and_rubbish_does_not() -> None:
    one = disc(0.25, 0.75)
    back = shape_of(one.to_json())
    assert back is not None
    assert back.bbox == pytest.approx(one.bbox, abs=1e-6)
    assert (back.mask == one.mask).all()
    assert max(one.mask.shape) <= 64
    for rubbish in (
        None,
        {},
        {"bbox": [0, 0, 1], "size": [2, 2], "counts": "04"},
        {**one.to_json(), "counts": "~"},
    ):
        assert shape_of(rubbish) is None
