"""Encoded bytes → upright pixels and what the header says, or why not. One decode per image, one orientation rule.

OpenCV decodes what it decodes exactly as PIL does (plain 8-bit JPEG and PNG), PIL the rest: CMYK, palettes, 16 bit,
animations, other formats. Pixels are what a trainer gets from `PIL.Image.convert("RGB")` after
`ImageOps.exif_transpose`: alpha is left out, a palette is resolved; 16 bit is scaled to 8 by its type's range.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np
import numpy.typing as npt

from curate.scan.header import READERS, Damage, damage_of, ends_early, format_of, kind_of, png_has_exif

_GPS_IFD = 0x8825
_ORIENTATION = 0x0112
_OPENCV = {("JPEG", "L"), ("JPEG", "RGB"), ("PNG", "L"), ("PNG", "RGB"), ("PNG", "RGBA")}
_PAST_THE_END = ("truncated", "unexpected end", "end of file", "not enough data", "incomplete")


@dataclass(frozen=True, slots=True)
class Header:
    """What is known without decoding; sizes are those that the reader gives, before our rotation."""

    format: str
    mode: str
    width_px: int
    height_px: int
    n_frames: int = 1
    exif_orientation: int = 1
    has_gps: bool = False

    @property
    def upright_when_loaded(self) -> bool:
        """Whether PIL's reader of the format turns the pixels, and their size, by itself."""
        return self.format == "TIFF"

    @property
    def upright_px(self) -> tuple[int, int]:
        """Return (width, height) after the EXIF rotation."""
        swapped = self.exif_orientation >= 5 and not self.upright_when_loaded
        return (self.height_px, self.width_px) if swapped else (self.width_px, self.height_px)


@dataclass(frozen=True, slots=True)
class Decoded:
    """Header and upright pixels: uint8 (height, width) for gray or (height, width, 3) RGB."""

    header: Header
    pixels: npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Refused:
    """Why there are no pixels, and the header as far as it could be read."""

    damage: Damage
    header: Header | None = None
    format: str | None = None


def decode(data: bytes, *, max_pixels: int) -> Decoded | Refused:  # noqa: PLR0911 - a return for each refusal
    """Decode one image.

    Args:
        data: the encoded bytes.
        max_pixels: an image whose header promises more is refused before any pixel is decoded.

    Returns:
        `Decoded`, or `Refused` with zero_bytes, not_an_image, truncated, too_many_pixels or unreadable.
    """
    if not data:
        return Refused(Damage("zero_bytes"))
    name = format_of(data)
    if name is None:
        return Refused(Damage("not_an_image", {"looks_like": kind_of(data), "first_bytes": data[:8].hex(" ")}))
    try:
        image = _open(data, name)
        header = _header_of(image, name, data, max_pixels)
    except Exception as error:  # noqa: BLE001 - decoders raise anything, from struct.error to SyntaxError
        return Refused(damage_of(data, name) or _damage_from(error, data, name), format=name)
    n_pixels = header.width_px * header.height_px
    if n_pixels > max_pixels:
        args = {"width_px": header.width_px, "height_px": header.height_px, "max_pixels": max_pixels}
        return Refused(Damage("too_many_pixels", args), header, name)
    visible = damage_of(data, name)
    if visible:
        return Refused(visible, header, name)
    try:
        pixels = _pixels(data, image, header)
    except Exception as error:  # noqa: BLE001 - as above
        return Refused(_damage_from(error, data, name), header, name)
    turn = 1 if header.upright_when_loaded else header.exif_orientation
    return Decoded(header, _upright(pixels, turn))


def _open(data: bytes, format_name: str) -> Any:  # noqa: ANN401 - PIL's image
    """Read the header with PIL's own reader of the format.

    Not `Image.open`: it would warn or raise at a bound of its own, which is a global of the process.
    """
    module, reader = READERS[format_name]
    return getattr(import_module(f"PIL.{module}"), reader)(io.BytesIO(data))


def _header_of(image: Any, format_name: str, data: bytes, max_pixels: int) -> Header:  # noqa: ANN401 - PIL's image
    width, height = image.size
    if width < 1 or height < 1:
        msg = f"the header says {width} x {height} pixels"
        raise ValueError(msg)
    # PIL looks for the EXIF of a PNG behind its pixels, and decodes all of them to get there
    unasked = format_name == "PNG" and (width * height > max_pixels or not png_has_exif(data))
    orientation, has_gps = (1, False) if unasked else _exif(image)
    return Header(format_name, str(image.mode), width, height, _n_frames(image), orientation, has_gps)


def _n_frames(image: Any) -> int:  # noqa: ANN401 - PIL's image
    try:
        return int(getattr(image, "n_frames", 1) or 1)
    except Exception:  # noqa: BLE001 - counting reads on to the end; if that is damaged, the first frame decides
        return 1


def _exif(image: Any) -> tuple[int, bool]:  # noqa: ANN401 - PIL's image
    try:
        exif = image.getexif()
        orientation = exif.get(_ORIENTATION, 1)
        has_gps = bool(exif.get_ifd(_GPS_IFD)) if _GPS_IFD in exif else False
    except Exception:  # noqa: BLE001 - damaged metadata of a sound image: as if there were none
        return 1, False
    upright = orientation in range(1, 9) and isinstance(orientation, int)
    return (orientation if upright else 1), has_gps


def _pixels(data: bytes, image: Any, header: Header) -> npt.NDArray[np.uint8]:  # noqa: ANN401 - PIL's image
    plain = (header.format, header.mode) in _OPENCV and header.n_frames == 1
    if plain and not (header.format == "JPEG" and ends_early(data)):
        pixels = _with_opencv(data, header)
        if pixels is not None:
            return pixels
    return _with_pil(image, header.mode)


def _with_opencv(data: bytes, header: Header) -> npt.NDArray[np.uint8] | None:
    import cv2  # noqa: PLC0415 - `import curate` must not load it

    kind = cv2.IMREAD_GRAYSCALE if header.mode == "L" else cv2.IMREAD_COLOR_RGB
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), kind | cv2.IMREAD_IGNORE_ORIENTATION)
    if pixels is None or pixels.shape[:2] != (header.height_px, header.width_px):
        return None
    found: npt.NDArray[np.uint8] = pixels
    return found


def _with_pil(image: Any, mode: str) -> npt.NDArray[np.uint8]:  # noqa: ANN401 - PIL's image
    image.load()
    if mode.startswith(("I", "F")):
        return _eight_bit(np.asarray(image), mode)
    gray = mode in {"1", "L", "LA", "La"}
    return np.asarray(image.convert("L" if gray else "RGB"), dtype=np.uint8)


def _eight_bit(values: npt.NDArray[Any], mode: str) -> npt.NDArray[np.uint8]:
    """Scale 16 bit by 257; wider integers and floats, which declare no range, by their own extremes."""
    if mode.startswith("I;16") or (values.size and values.min() >= 0 and 255 < values.max() <= 65_535):
        return (values.astype(np.float64) / 257.0).round().clip(0, 255).astype(np.uint8)
    wide = values.astype(np.float64)
    finite = np.where(np.isfinite(wide), wide, 0.0)
    if mode == "I" and finite.min() >= 0 and finite.max() <= 255:
        return finite.astype(np.uint8)
    low, high = float(finite.min()), float(finite.max())
    return ((finite - low) * (255.0 / (high - low) if high > low else 0.0)).round().astype(np.uint8)


def _upright(pixels: npt.NDArray[np.uint8], orientation: int) -> npt.NDArray[np.uint8]:
    """Undo the EXIF orientation (TIFF 6.0 tag 274): 1 upright … 8 turned."""
    if orientation >= 5:
        pixels = pixels.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels)


def _damage_from(error: BaseException, data: bytes, format_name: str) -> Damage:
    message = " ".join(str(error).split()) or type(error).__name__
    cut_short = format_name == "JPEG" and ends_early(data)
    if cut_short or any(words in message.lower() for words in _PAST_THE_END):
        return _truncated(data)
    return Damage("unreadable", {"message": message[:200]})


def _truncated(data: bytes) -> Damage:
    return Damage("truncated", {"n_bytes": len(data), "needed": "more data than the file holds"})
