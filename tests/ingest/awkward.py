"""Awkward but valid images and names, and hostile files, written by PIL. For every format's tests to reuse.

`tests/ingest/conftest.py` makes it importable: `import awkward`.
"""

from __future__ import annotations

import io
import os
import socket
import tarfile
import unicodedata
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image

NAMES = (
    "plain.jpg",
    "with space.jpg",
    "UPPER.JPG",
    "Mixed.JpEg",
    "hash#mark.png",
    "per%20cent.png",
    "quote'\".png",
    "comma,semi;colon.png",
    "new\nline.png",
    "tab\there.png",
    "back\\slash.png",
    "-dash.png",
    "two.dots.png",
    "question?.png",
    "[bracket]*.png",
    unicodedata.normalize("NFC", "é-Ünïcode.png"),
    unicodedata.normalize("NFD", "è-Decomposed.png"),
    "日本語 🐈.png",
    "<script>alert(1)</script>".replace("/", "_") + ".png",
    "no: yaml, {a: !!python}.png",
)

LABELS = ("cat", "Dog", "<b>html</b>", "no", "1e3", "null", "a: b", "naïve", "with space", "=SUM(A1)")


def pixels(seed: int, *, width_px: int = 24, height_px: int = 16) -> np.ndarray:
    """Return an RGB picture, uint8 (height, width, 3), smooth enough to survive JPEG."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:height_px, 0:width_px]
    phases = rng.uniform(0, 6.28, size=(3, 2))
    waves = [np.sin(x / 5 + a) + np.cos(y / 4 + b) for a, b in phases]
    return (np.stack(waves, axis=-1) * 60 + 128).clip(0, 255).astype(np.uint8)


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    """Return the image as bytes of the format `kind`."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def jpeg(seed: int = 0) -> bytes:
    """Return a small plain JPEG; another seed is another picture."""
    return encoded(Image.fromarray(pixels(seed)), "JPEG", quality=90)


def png(seed: int = 0) -> bytes:
    """Return a small plain PNG; another seed is another picture."""
    return encoded(Image.fromarray(pixels(seed)), "PNG")


def variants() -> dict[str, bytes]:
    """Return name -> bytes of valid images of every awkward kind."""
    rgb = Image.fromarray(pixels(1))
    gray = rgb.convert("L")
    exif = Image.Exif()
    exif[0x0112] = 6  # Orientation: rotate by 90° to be upright
    deep = Image.fromarray(np.linspace(0, 65535, 24 * 16).reshape(16, 24).astype(np.uint16))
    frames = [Image.fromarray(pixels(seed)) for seed in (2, 3, 4)]
    alpha = rgb.copy()
    alpha.putalpha(gray)
    return {
        "exif_rotated.jpg": encoded(rgb, "JPEG", exif=exif),
        "progressive.jpg": encoded(rgb, "JPEG", progressive=True),
        "cmyk.jpg": encoded(rgb.convert("CMYK"), "JPEG"),
        "gray.jpg": encoded(gray, "JPEG"),
        "gray_16bit.png": encoded(deep, "PNG"),
        "alpha.png": encoded(alpha, "PNG"),
        "gray_alpha.png": encoded(alpha.convert("LA"), "PNG"),
        "palette.png": encoded(rgb.convert("P"), "PNG"),
        "one_bit.png": encoded(rgb.convert("1"), "PNG"),
        "animated.gif": encoded(frames[0], "GIF", save_all=True, append_images=frames[1:], duration=50),
        "animated.webp": encoded(frames[0], "WEBP", save_all=True, append_images=frames[1:], duration=50),
        "still.webp": encoded(rgb, "WEBP"),
        "lossless.tiff": encoded(rgb, "TIFF"),
        "deep.tif": encoded(deep, "TIFF"),
        "windows.bmp": encoded(rgb, "BMP"),
    }


def broken() -> dict[str, bytes]:
    """Return name -> bytes of files that end like an image and are none, or only in part."""
    whole = encoded(Image.fromarray(pixels(5, width_px=200, height_px=150)), "JPEG", quality=95)
    whole_png = encoded(Image.fromarray(pixels(6, width_px=200, height_px=150)), "PNG")
    return {
        "truncated.jpg": whole[: len(whole) // 2],
        "truncated.png": whole_png[: len(whole_png) // 2],
        "text.jpg": b"this is not an image\n",
        "html.png": b"<html><body>404</body></html>",
        "header_only.jpg": whole[:20],
        "zeros.png": bytes(512),
    }


def write_folder_per_class(root: Path, *, names: tuple[str, ...] = NAMES) -> dict[str, str]:
    """Write `names` and all variants in two class folders; return uri -> class."""
    contents: list[tuple[str, bytes]] = []
    for index, name in enumerate(names):
        contents.append((name, jpeg(index) if name.lower().endswith(("jpg", "jpeg")) else png(index)))
    contents += list(variants().items())
    labels: dict[str, str] = {}
    for index, (name, data) in enumerate(contents):
        label = ("cat", "großer Hund")[index % 2]
        (root / label).mkdir(parents=True, exist_ok=True)
        (root / label / name).write_bytes(data)
        labels[f"{label}/{name}"] = label
    return labels


def write_tar(path: Path, members: dict[str, bytes], *, mode: str = "w") -> Path:
    """Write plain members into a tar in the given order."""
    with tarfile.open(path, mode) as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


def write_zip(path: Path, members: dict[str, bytes]) -> Path:
    """Write plain members into a zip in the given order."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


def write_hostile_tar(path: Path, good: dict[str, bytes]) -> Path:
    """Write a tar with `good` members and climbing names, links out, devices, pipes and an absolute name."""
    with tarfile.open(path, "w") as archive:
        for name, data in {**good, "../escape.jpg": jpeg(90), "/tmp/absolute.jpg": jpeg(91)}.items():  # noqa: S108
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
        special = {
            "cat/sym.jpg": (tarfile.SYMTYPE, "/etc/passwd"),
            "cat/hard.jpg": (tarfile.LNKTYPE, "../../etc/passwd"),
            "cat/char.jpg": (tarfile.CHRTYPE, ""),
            "cat/block.jpg": (tarfile.BLKTYPE, ""),
            "cat/pipe.jpg": (tarfile.FIFOTYPE, ""),
        }
        for name, (kind, target) in special.items():
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, target
            archive.addfile(info)
    return path


def write_hostile_folder(root: Path) -> dict[str, str]:
    """Write files that must each end in one outcome "out"; return uri -> reason code.

    Holds a link out of the root, a loop of links, a dangling link, a pipe, a socket, and an empty file.
    """
    folder = root / "cat"
    folder.mkdir(parents=True, exist_ok=True)
    outside = root.parent / "outside.jpg"
    outside.write_bytes(jpeg(99))
    (folder / "link_out.jpg").symlink_to(outside)
    (folder / "loop_a.jpg").symlink_to("loop_b.jpg")
    (folder / "loop_b.jpg").symlink_to("loop_a.jpg")
    (folder / "dangling.jpg").symlink_to("nowhere.jpg")
    (folder / "empty.jpg").write_bytes(b"")
    os.mkfifo(folder / "pipe.jpg")
    here = Path.cwd()
    with socket.socket(socket.AF_UNIX) as listener:
        os.chdir(folder)  # the path of a socket is limited to about 100 characters
        try:
            listener.bind("socket.jpg")
        finally:
            os.chdir(here)
    return {
        "cat/link_out.jpg": "path_leaves_root",
        "cat/loop_a.jpg": "missing_file",
        "cat/loop_b.jpg": "missing_file",
        "cat/dangling.jpg": "missing_file",
        "cat/empty.jpg": "zero_bytes",
        "cat/pipe.jpg": "not_a_file",
        "cat/socket.jpg": "not_a_file",
    }
