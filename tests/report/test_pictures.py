from __future__ import annotations

import base64
import io
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from curate.report.pictures import THUMBNAIL_PX, thumbnail


def encoded(width: int, height: int, **options: object) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.full((height, width, 3), (40, 90, 200), np.uint8)).save(file, "PNG", **options)
    return file.getvalue()


def decoded(uri: str | None) -> np.ndarray:
    assert uri is not None
    head, _, data = uri.partition(",")
    assert head == "data:image/jpeg;base64"
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB"))


@pytest.mark.parametrize("size", [(400, 200), (8, 8), (3, 900)])
def test_the_longest_side_has_the_size_asked_for(size: tuple[int, int]) -> None:
    picture = decoded(thumbnail(encoded(*size)))
    assert max(picture.shape[:2]) == THUMBNAIL_PX
    assert np.abs(picture.mean(axis=(0, 1)) - (40, 90, 200)).max() < 6


@pytest.mark.parametrize("data", [None, b"", b"no image", encoded(40, 40)[:90]])
def test_what_cannot_be_decoded_has_no_picture(data: bytes | None) -> None:
    assert thumbnail(data) is None


def test_a_box_is_drawn_and_the_picture_is_cut_round_it() -> None:
    picture = decoded(thumbnail(encoded(400, 400), (0.4, 0.4, 0.1, 0.1)))
    orange = (picture[:, :, 0] > 200) & (picture[:, :, 2] < 90)
    rows, columns = np.where(orange)
    middle = THUMBNAIL_PX / 2
    assert rows.min() < middle < rows.max()
    assert columns.min() < middle < columns.max()
    assert columns.max() - columns.min() > THUMBNAIL_PX / 3


NUMBERS = st.floats(allow_nan=True, allow_infinity=True) | st.sampled_from([0.0, 1.0, -1.0, 1e300, math.nan])


@given(st.tuples(NUMBERS, NUMBERS, NUMBERS, NUMBERS))
def test_any_box_leaves_a_picture(box: tuple[float, float, float, float]) -> None:
    assert decoded(thumbnail(encoded(30, 20), box)).size
