"""What the encoded bytes say before a pixel is decoded: format, size, whether the end is there."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

# format as PIL names it -> PIL module and class that read it. Formats that run programs (EPS) or name other files
# are not among them.
READERS: dict[str, tuple[str, str]] = {
    "JPEG": ("JpegImagePlugin", "JpegImageFile"),
    "PNG": ("PngImagePlugin", "PngImageFile"),
    "GIF": ("GifImagePlugin", "GifImageFile"),
    "BMP": ("BmpImagePlugin", "BmpImageFile"),
    "WEBP": ("WebPImagePlugin", "WebPImageFile"),
    "TIFF": ("TiffImagePlugin", "TiffImageFile"),
    "PPM": ("PpmImagePlugin", "PpmImageFile"),
    "JPEG2000": ("Jpeg2KImagePlugin", "Jpeg2KImageFile"),
    "AVIF": ("AvifImagePlugin", "AvifImageFile"),
    "ICO": ("IcoImagePlugin", "IcoImageFile"),
    "DDS": ("DdsImagePlugin", "DdsImageFile"),
    "PCX": ("PcxImagePlugin", "PcxImageFile"),
    "SGI": ("SgiImagePlugin", "SgiImageFile"),
    "QOI": ("QoiImagePlugin", "QoiImageFile"),
    "SUN": ("SunImagePlugin", "SunImageFile"),
}

_SIGNATURES: tuple[tuple[bytes, str], ...] = (
    (b"\xff\xd8\xff", "JPEG"),
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"GIF87a", "GIF"),
    (b"GIF89a", "GIF"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
    (b"II+\0", "TIFF"),
    (b"MM\0+", "TIFF"),
    (b"\0\0\0\x0cjP  \r\n\x87\n", "JPEG2000"),
    (b"\xff\x4f\xff\x51", "JPEG2000"),
    (b"\0\0\1\0", "ICO"),
    (b"DDS ", "DDS"),
    (b"qoif", "QOI"),
    (b"\x01\xda", "SGI"),
    (b"\x59\xa6\x6a\x95", "SUN"),
)

_PNG_TEXT = frozenset({b"tEXt", b"zTXt", b"iTXt"})
_EXIF_KEYWORDS = (b"Raw profile type", b"XML:com.adobe.xmp", b"xmp", b"exif")  # those that PIL reads EXIF from

_OTHER_KINDS: tuple[tuple[bytes, str], ...] = (
    (b"PK\x03\x04", "a zip archive"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"%PDF", "a PDF document"),
    (b"%!PS", "a PostScript document"),
    (b"PAR1", "a Parquet table"),
    (b"RIFF", "a RIFF container (sound or video)"),
    (b"ID3", "sound"),
    (b"version https://git-lfs", "a Git LFS pointer: the image itself was never fetched"),
    (b"\x00\x05\x16\x07", "a macOS resource fork"),
)


@dataclass(frozen=True, slots=True)
class Damage:
    """Why the bytes are no image that can be used: a reason code and its arguments."""

    code: str
    args: Mapping[str, Any] = field(default_factory=dict)


def format_of(data: bytes) -> str | None:  # noqa: PLR0911 - a return for each signature
    """Return the format that the signature of `data` says, or None if it is none that curate reads."""
    for signature, name in _SIGNATURES:
        if data.startswith(signature):
            return name
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WEBP"
    if data[4:8] == b"ftyp" and data[8:12] in (b"avif", b"avis"):
        return "AVIF"
    # two-byte signatures are words of English too, so look at what follows them
    if data[:2] == b"BM" and len(data) >= 18 and data[6:10] == b"\0\0\0\0" and data[15:18] == b"\0\0\0":
        return "BMP"
    if len(data) > 2 and data[:1] == b"P" and data[1:2] in b"123456" and data[2:3].isspace():
        return "PPM"
    if data[:1] == b"\x0a" and data[1:2] in (b"\0", b"\2", b"\3", b"\5") and data[2:3] == b"\1":
        return "PCX"
    return None


def kind_of(data: bytes) -> str:  # noqa: PLR0911 - a return for each kind
    """Say in a few words what bytes that are no image look like."""
    for signature, kind in _OTHER_KINDS:
        if data.startswith(signature):
            return kind
    start = data[:512]
    if data[4:8] == b"ftyp":
        return f"a media file of the brand {data[8:12].decode('ascii', 'replace').strip()}"
    if start.lstrip()[:9].lower().startswith((b"<!doctype", b"<html")):
        return "an HTML page"
    if start.lstrip()[:4].lower() in (b"<svg", b"<?xm"):
        return "XML or SVG"
    if not start.strip(b"\0"):
        return "only zero bytes"
    if all(byte >= 32 or byte in b"\t\n\r" for byte in start):
        return "text"
    return "unknown binary data"


def damage_of(data: bytes, format_name: str) -> Damage | None:
    """Return what is visibly wrong with the container, or None. Cheap next to a decode; looks at no pixel.

    JPEG without its end marker is not judged here: some encoders leave it out. See `ends_early`.
    """
    if format_name == "PNG":
        return _png_damage(data)
    if format_name == "WEBP":
        declared = struct.unpack_from("<I", data, 4)[0] + 8 if len(data) >= 8 else 0
        if declared > len(data):
            return Damage("truncated", {"n_bytes": len(data), "needed": f"{declared} bytes"})
    return None


def ends_early(data: bytes) -> bool:
    """Report whether a JPEG lacks the end marker behind its first scan: then it needs a strict decode.

    Decoders fill what is missing with gray and say nothing. Inside entropy-coded data 0xFF is always followed by
    0x00 or a restart marker (ISO/IEC 10918-1, B.1.1.5), so the marker cannot stand there by chance.
    """
    return data.rfind(b"\xff\xd9", _scan_start(data)) < 0


def _scan_start(data: bytes) -> int:
    for marker, start in _jpeg_segments(data):
        if marker == 0xDA:
            return start
    return len(data)


def _jpeg_segments(data: bytes) -> Iterator[tuple[int, int]]:
    """Yield (marker, start of the payload) up to and with the first scan."""
    position = 2
    while position + 4 <= len(data):
        if data[position] != 0xFF:
            return
        marker = data[position + 1]
        if marker == 0xFF:  # fill byte
            position += 1
            continue
        if marker == 0x01 or 0xD0 <= marker <= 0xD9:  # no payload
            position += 2
            continue
        length = struct.unpack_from(">H", data, position + 2)[0]
        yield marker, position + 4
        if marker == 0xDA:
            return
        position += 2 + max(2, length)


def png_has_exif(data: bytes) -> bool:
    """Return whether a chunk of a PNG may say which way is up: EXIF, or text that tools keep EXIF or XMP in."""
    for kind, start, _ in _png_chunks(data):
        if kind == b"eXIf" or (kind in _PNG_TEXT and data.startswith(_EXIF_KEYWORDS, start)):
            return True
    return False


def _png_chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Yield (kind, start of the payload, end of the checksum) of each whole chunk."""
    position = 8
    while position + 12 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, position)
        end = position + 12 + length
        if end > len(data):
            return
        yield kind, position + 8, end
        position = end


def _png_damage(data: bytes) -> Damage | None:
    view = memoryview(data)
    for kind, start, end in _png_chunks(data):
        if (
            kind[:1].isupper()
            and zlib.crc32(view[start - 4 : end - 4]) != struct.unpack_from(">I", data, end - 4)[0]
        ):
            name = kind.decode("ascii", "replace")
            return Damage("unreadable", {"message": f"the checksum of the PNG chunk {name} does not match"})
        if kind == b"IEND":
            return None
    return Damage("truncated", {"n_bytes": len(data), "needed": "the closing chunk IEND"})
