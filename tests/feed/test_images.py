from __future__ import annotations

import io
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image, ImageOps

import curate.feed
from curate.errors import VerificationError
from curate.feed.images import pixels_of
from curate.scan.decode import Decoded, decode

Publish = Callable[..., Any]
Containers = dict[str, tuple[Path, dict[str, Any]]]


def noise(mode: str = "RGB", size: tuple[int, int] = (37, 22)) -> Image.Image:
    """Return smooth noise: JPEG decoders agree on it to the last bit only if they are the same."""
    values = np.random.default_rng(0).integers(0, 256, (6, 8, 4)).astype(np.uint8)
    big = cv2.resize(values, size, interpolation=cv2.INTER_CUBIC)
    return Image.fromarray(big[:, :, :3]).convert(mode) if mode != "RGBA" else Image.fromarray(big)


def encoded(image: Image.Image, kind: str, **keys: Any) -> bytes:  # noqa: ANN401 - PIL's
    buffer = io.BytesIO()
    image.save(buffer, kind, **keys)
    return buffer.getvalue()


def turned(kind: str, orientation: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encoded(noise(), kind, exif=exif)


CASES = {
    "jpeg": encoded(noise(), "JPEG"),
    "jpeg progressive": encoded(noise(), "JPEG", progressive=True),
    "jpeg gray": encoded(noise("L"), "JPEG"),
    "jpeg cmyk": encoded(noise("CMYK"), "JPEG"),
    "png": encoded(noise(), "PNG"),
    "png gray": encoded(noise("L"), "PNG"),
    "png alpha": encoded(noise("RGBA"), "PNG"),
    "png palette": encoded(noise("P"), "PNG"),
    "png bilevel": encoded(noise("1"), "PNG"),
    "png 16 bit": encoded(Image.fromarray(np.arange(600, dtype=np.uint16).reshape(20, 30) * 100), "PNG"),
    "webp": encoded(noise(), "WEBP", lossless=True),
    "gif": encoded(noise("P"), "GIF"),
    "bmp": encoded(noise(), "BMP"),
    **{f"jpeg turned {at}": turned("JPEG", at) for at in range(1, 9)},
    **{f"png turned {at}": turned("PNG", at) for at in (3, 6)},
}


@pytest.mark.parametrize("case", CASES)
def test_pixels_are_those_that_the_scan_saw(case: str) -> None:
    found = decode(CASES[case], max_pixels=10**6)
    assert isinstance(found, Decoded)
    seen = found.pixels if found.pixels.ndim == 3 else np.repeat(found.pixels[..., None], 3, axis=2)
    np.testing.assert_array_equal(pixels_of(CASES[case]), seen)


@pytest.mark.parametrize("case", [case for case in CASES if "16 bit" not in case])
def test_pixels_are_what_pil_gives_upright(case: str) -> None:
    image = ImageOps.exif_transpose(Image.open(io.BytesIO(CASES[case])))
    np.testing.assert_array_equal(pixels_of(CASES[case]), np.asarray(image.convert("RGB")))


@pytest.mark.parametrize("size_px", [(9, 14), (22, 37), (60, 41)])
def test_a_resize_is_that_of_pil_or_that_of_the_teachers(size_px: tuple[int, int]) -> None:
    from curate.teachers.model_input import Preparation  # noqa: PLC0415 - only here

    image = noise()
    theirs = np.asarray(image.resize(size_px[::-1], Image.Resampling.BILINEAR)).astype(int)
    assert np.abs(pixels_of(encoded(image, "PNG"), size_px=size_px) - theirs).max() <= 1
    bgr = np.asarray(image)[:, :, ::-1]
    seen = Preparation(*size_px, (0, 0, 0), (1, 1, 1), channels_last=True, dtype="uint8").batch([bgr])[0]
    np.testing.assert_array_equal(pixels_of(encoded(image, "PNG"), size_px=size_px, resize="area"), seen)


def test_a_size_is_height_and_width_and_a_photo_may_be_shrunk_while_it_loads() -> None:
    big = encoded(noise(size=(800, 600)), "JPEG", quality=95)
    plain = pixels_of(big, size_px=(50, 70))
    assert plain.shape == (50, 70, 3)
    shrunk = pixels_of(big, size_px=(50, 70), shrink_on_load=True)
    assert shrunk.shape == (50, 70, 3)
    assert np.abs(plain.astype(int) - shrunk).mean() < 2
    small = encoded(noise(), "JPEG")
    np.testing.assert_array_equal(
        pixels_of(small, size_px=(30, 30)), pixels_of(small, size_px=(30, 30), shrink_on_load=True)
    )


@pytest.mark.parametrize("name", ["files", "tar", "tar.gz", "zip", "parquet", "nested"])
def test_the_same_pictures_come_from_every_container(
    name: str, containers: Containers, publish_version: Publish, tmp_path: Path
) -> None:
    root, how = containers[name]
    publish_version(root, tmp_path, how=how)
    feed = curate.feed.open("pets", workspace=tmp_path, images=root)
    originals = {path.read_bytes(): path for path in containers["files"][0].rglob("*.png")}
    pictures = {pixels_of(data).tobytes(): path.parent.name for data, path in originals.items()}
    found = [
        (image.permute(1, 2, 0).numpy().tobytes(), feed.classes[label])
        for batch in feed.stream(batch_size=8, n_threads=3)
        for image, label in zip(batch["image"], batch["label"].tolist(), strict=True)
    ]
    assert dict(found) == pictures
    assert len(found) == len(pictures) == 45
    assert (feed.blocks.max() > 3) == (name in {"parquet", "nested"})


def test_a_changed_image_is_stale_and_a_missing_one_is_named(
    publish_version: Publish, pictures: Path, tmp_path: Path
) -> None:
    shutil.copytree(pictures, tmp_path / "data")
    publish_version(tmp_path / "data", tmp_path / "ws")
    feed = curate.feed.open("pets", workspace=tmp_path / "ws", images=tmp_path / "data")
    first, second = (tmp_path / "data" / uri for uri in feed.rows.table["uri"].to_pylist()[:2])
    shutil.copyfile(second, first)
    with pytest.raises(VerificationError, match=f"{first.name} changed since its label and soft label were made"):
        feed.dataset()[0]
    with pytest.raises(VerificationError, match="only changed images are judged anew"):
        list(feed.stream(batch_size=4))
    unchecked = curate.feed.open("pets", workspace=tmp_path / "ws", images=tmp_path / "data", check_images=False)
    assert unchecked.dataset()[0]["image"].shape == (3, 24, 24)
    second.unlink()
    with pytest.raises(VerificationError, match=f"{second.name} is not under .* any more"):
        feed.dataset()[1]
