from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from asked import ask, encoded, picture, shuffled
from PIL import Image

from curate.errors import ConfigError
from curate.teachers.features import image_features
from curate.teachers.pixels import crop, crops, decoded


@pytest.fixture
def drawings() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [picture(kind % 4, rng, side=40) for kind in range(8)]


def test_features_follow_the_row_whatever_the_order(tmp_path: Path, drawings: list[np.ndarray]) -> None:
    request = ask(tmp_path / "in", [encoded(d) for d in drawings], ["a"] * 8, ["a"])
    plain = image_features("pixels", request)
    order = np.random.default_rng(1).permutation(8)
    other = image_features("pixels", replace(shuffled(request, order), scratch=tmp_path / "fresh"))
    np.testing.assert_array_equal(plain[order], other)
    assert len({row.tobytes() for row in plain}) == 8


def test_only_what_is_new_is_decoded(tmp_path: Path, drawings: list[np.ndarray]) -> None:
    images = [encoded(d) for d in drawings]
    first = image_features("pixels", ask(tmp_path / "in", images[:5], ["a"] * 5, ["a"]))
    request = ask(tmp_path / "in", images, ["a"] * 8, ["a"])
    for number in range(5):
        (tmp_path / "in" / f"{number:05}.img").unlink()
    again = image_features("pixels", request)
    np.testing.assert_array_equal(again[:5], first)
    assert np.isfinite(again).all()


def test_an_image_that_is_no_image_is_a_row_of_nan(tmp_path: Path, drawings: list[np.ndarray]) -> None:
    request = ask(tmp_path / "in", [encoded(drawings[0]), b"GIF89a?", b"", encoded(drawings[1])], "aaaa", ["a"])
    known = np.isfinite(image_features("pixels", request)).all(axis=1)
    assert known.tolist() == [True, False, False, True]


def test_boxes_are_judged_on_their_own_crop_also_when_rows_are_mixed(
    tmp_path: Path, drawings: list[np.ndarray]
) -> None:
    wide = np.concatenate([drawings[0], drawings[2]], axis=1)
    left, right = [0.0, 0.0, 0.5, 1.0], [0.5, 0.0, 0.5, 1.0]
    boxes = [(0, left), (1, left), (0, right), (1, right), (0, left)]
    other = np.ascontiguousarray(wide[:, ::-1] // 2)
    request = ask(tmp_path / "in", [encoded(wide), encoded(other)], "aaaaa", ["a"], boxes=boxes)
    shown = list(crops(request.labels, request.media))
    for (at, box), pixels in zip(boxes, shown, strict=True):
        np.testing.assert_array_equal(pixels, crop([wide, other][at], box))
    features = image_features("pixels", request)
    np.testing.assert_array_equal(features[0], features[4])
    assert not np.array_equal(features[0], features[2])


def test_a_box_gets_a_margin_and_stays_inside() -> None:
    image = np.zeros((100, 200, 3), np.uint8)
    assert crop(image, [0.25, 0.25, 0.5, 0.5]).shape[:2] == (71, 121)
    assert crop(image, [0.0, 0.0, 1.0, 1.0]).shape[:2] == (100, 200)
    assert crop(image, None) is image


def test_rotated_gray_cmyk_and_transparent_images_are_decoded_as_the_scan_does() -> None:
    tall = Image.fromarray(np.tile(np.arange(16, dtype=np.uint8)[:, None] * 15, (1, 8)))
    turned = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6
    tall.convert("RGB").save(turned, "JPEG", exif=exif, quality=95)
    pixels = decoded(turned.getvalue())
    assert pixels is not None
    assert pixels.shape == (8, 16, 3)
    assert pixels[0, 0, 0] > pixels[0, -1, 0]  # the dark top edge is now at the right
    for mode, kind in (("L", "PNG"), ("CMYK", "JPEG"), ("RGBA", "PNG"), ("P", "GIF")):
        buffer = io.BytesIO()
        Image.new("RGB", (4, 6), (200, 10, 30)).convert(mode).save(buffer, kind)
        found = decoded(buffer.getvalue())
        assert found is not None
        assert found.shape == (6, 4, 3)
    assert decoded(None) is None


def test_blue_green_red() -> None:
    pixels = decoded(encoded(np.full((4, 4, 3), (250, 20, 10), np.uint8)))
    assert pixels is not None
    assert pixels[0, 0].tolist() == [250, 20, 10]


def test_unknown_features_are_an_error_with_a_hint(tmp_path: Path, drawings: list[np.ndarray]) -> None:
    request = ask(tmp_path / "in", [encoded(drawings[0])], ["a"], ["a"])
    with pytest.raises(ConfigError, match="Did you mean 'pixels'"):
        image_features("pixel", request)


def test_no_rows_no_features(tmp_path: Path) -> None:
    request = ask(tmp_path / "in", [], [], ["a"])
    empty = image_features("pixels", replace(request, labels=request.labels.cast(_typed(request.labels.schema))))
    assert empty.shape[0] == 0


def _typed(schema: pa.Schema) -> pa.Schema:
    return pa.schema([f.with_type(pa.string()) if pa.types.is_null(f.type) else f for f in schema])
