from __future__ import annotations

import functools
import hashlib
import io
import json
import os
import signal
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps, PngImagePlugin

from curate import schema
from curate.adapters.execution import Engine, map_shards, slices
from curate.errors import InputError
from curate.reasons.ingest import SENTENCES as INGEST_SENTENCES
from curate.reasons.scan import SENTENCES
from curate.scan import passes, scan, scan_batch, scan_bytes, scan_folder
from curate.scan.decode import Decoded, Header, Refused, _with_opencv, _with_pil, decode
from curate.scan.header import READERS, ends_early, format_of
from curate.scan.measures import measure

FLOATS = ("brightness_p05", "brightness_p50", "brightness_p99", "entropy_bits", "colorfulness")


class Bytes:
    """Media of bytes in memory, by uri."""

    def __init__(self, data: dict[str, bytes | None]) -> None:
        self.data = data

    def read(self, samples: pa.Table) -> Iterator[bytes | None]:
        for uri in samples["uri"].to_pylist():
            yield self.data[uri]

    def paths(self, samples: pa.Table) -> list[Path]:
        return [Path(uri) for uri in samples["uri"].to_pylist()]


def samples_of(names: list[str]) -> pa.Table:
    rows = [
        {"sample_id": schema.sample_id_of("t", name), "source": "t", "uri": name, "label_state": "unlabeled"}
        for name in names
    ]
    return schema.table_from_rows(rows, schema.SAMPLES)


def picture(seed: int = 0, width: int = 150, height: int = 90) -> np.ndarray:
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (9, 15, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


RGB = Image.fromarray(picture())
JPEG = encoded(RGB, "JPEG", quality=90)
PNG = encoded(RGB, "PNG")


def png_header(width: int, height: int) -> bytes:
    body = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    end = b"\0\0\0\0IEND" + struct.pack(">I", zlib.crc32(b"IEND"))
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + body + struct.pack(">I", zlib.crc32(body)) + end


def flipped_bit(data: bytes) -> bytes:
    at = data.index(b"IDAT") + 40
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


DAMAGED = {
    "empty.png": (b"", "zero_bytes"),
    "text.jpg": (b"just a few words\n" * 9, "not_an_image"),
    "page.png": (b"<!DOCTYPE html><html>404</html>", "not_an_image"),
    "lfs.jpg": (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n", "not_an_image"),
    "zeros.jpg": (bytes(4000), "not_an_image"),
    "archive.png": (b"PK\x03\x04" + bytes(60), "not_an_image"),
    "half.jpg": (JPEG[: len(JPEG) // 2], "truncated"),
    "no-end.jpg": (JPEG[:-200], "truncated"),
    "head.jpg": (JPEG[:30], "truncated"),
    "zero-filled.jpg": (JPEG[: len(JPEG) // 2] + bytes(len(JPEG) // 2), "truncated"),
    "half.png": (PNG[: len(PNG) // 2], "truncated"),
    "no-iend.png": (PNG[:-12], "truncated"),
    "signature.png": (PNG[:8], "truncated"),
    "half.gif": (encoded(RGB.convert("P"), "GIF")[:900], "truncated"),
    "half.bmp": (encoded(RGB, "BMP")[:9000], "truncated"),
    "half.webp": (encoded(RGB, "WEBP")[:-500], "truncated"),
    "half.tif": (encoded(RGB, "TIFF")[:-9000], None),  # its directory may be in the part that is gone
    "bit.png": (flipped_bit(PNG), "unreadable"),
    "bomb.png": (png_header(60_000, 60_000), "too_many_pixels"),
    "gone.png": (None, "missing_file"),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_damage_is_told_apart(name: str) -> None:
    data, code = DAMAGED[name]
    row = scan_bytes(data, name)
    assert row["error_code"] in ({code} if code else {"truncated", "unreadable"})
    args = json.loads(row["error_args"])
    assert args["path"] == name
    assert {**INGEST_SENTENCES, **SENTENCES}[row["error_code"]].format(**args)
    assert row.get("content_sha256") == (hashlib.sha256(data).hexdigest() if data else None)
    assert "phash" not in row


def test_a_bomb_keeps_the_size_that_its_header_says() -> None:
    row = scan_bytes(png_header(60_000, 60_000), "bomb.png")
    assert (row["width_px"], row["height_px"], row["format"]) == (60_000, 60_000, "PNG")


def test_max_pixels_is_the_callers_and_not_a_library_s() -> None:
    assert scan_bytes(PNG, "a.png", max_pixels=150 * 90 - 1)["error_code"] == "too_many_pixels"
    assert "error_code" not in scan_bytes(PNG, "a.png", max_pixels=150 * 90)
    wide = encoded(Image.new("L", (10_000, 9_100)), "PNG")  # over the size at which PIL warns
    assert scan_bytes(wide, "w.png", max_pixels=100_000_000)["width_px"] == 10_000


@pytest.mark.parametrize(("max_pixels", "n_loads"), [(150 * 90, 1), (150 * 90 - 1, 0)])
def test_exif_behind_the_pixels_of_a_png_is_found_and_nothing_is_decoded_for_it_where_too_large(
    max_pixels: int, n_loads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    whole = encoded(RGB, "PNG", exif=exif.tobytes())
    start = whole.index(b"eXIf") - 4
    end = start + 12 + struct.unpack_from(">I", whole, start)[0]
    behind = whole[:start] + whole[end:-12] + whole[start:end] + whole[-12:]
    loads = []
    load = PngImagePlugin.PngImageFile.load
    monkeypatch.setattr(PngImagePlugin.PngImageFile, "load", lambda self: loads.append(1) or load(self))
    row = scan_bytes(behind, "a.png", max_pixels=max_pixels)
    assert len(loads) == n_loads
    assert (row["exif_orientation"], row["width_px"]) == ((6, 90) if n_loads else (1, 150))


@pytest.mark.parametrize("text", [None, "Software", "exif", "Raw profile type exif", "XML:com.adobe.xmp", "xmp"])
@pytest.mark.parametrize("kind", ["tEXt", "iTXt", "zTXt"])
def test_a_png_says_which_way_is_up_as_pil_reads_it(text: str | None, kind: str) -> None:
    info = PngImagePlugin.PngInfo()
    if text:
        said = '<x tiff:Orientation="8"/>'
        if kind == "iTXt":
            info.add_itxt(text, said)
        else:
            info.add_text(text, said, zip=kind == "zTXt")
    data = encoded(RGB, "PNG", pnginfo=info)
    try:
        with Image.open(io.BytesIO(data)) as image:
            upright = image.getexif().get(0x0112, 1)
    except Exception:  # noqa: BLE001 - metadata that PIL chokes on is as none
        upright = 1
    assert scan_bytes(data, "a.png")["exif_orientation"] == upright


def test_a_jpeg_without_its_end_marker_is_truncated_as_a_strict_loader_says() -> None:
    assert ends_early(JPEG[:-2])
    assert scan_bytes(JPEG[:-2], "a.jpg")["error_code"] == "truncated"
    with pytest.raises(OSError, match="truncated"), Image.open(io.BytesIO(JPEG[:-2])) as image:
        image.load()


def test_bytes_behind_the_end_and_the_end_of_a_thumbnail_do_not_mislead() -> None:
    assert not ends_early(JPEG + b"trailing bytes of a camera")
    exif = b"\xff\xe1" + struct.pack(">H", 2 + len(JPEG)) + JPEG  # an embedded JPEG with an end of its own
    assert ends_early(JPEG[:2] + exif + JPEG[2:-300])
    assert not ends_early(JPEG[:2] + exif + JPEG[2:])


@settings(max_examples=60, deadline=None)
@given(cut=st.integers(0, len(JPEG) - 30))
def test_any_jpeg_that_ends_early_is_called_truncated_and_never_passes(cut: int) -> None:
    row = scan_bytes(JPEG[:cut], "a.jpg")
    assert row["error_code"] == ("zero_bytes" if cut == 0 else "not_an_image" if cut < 3 else "truncated")


@settings(max_examples=60, deadline=None)
@given(cut=st.integers(0, len(PNG) - 1))
def test_any_png_that_ends_early_never_passes(cut: int) -> None:
    row = scan_bytes(PNG[:cut], "a.png")
    assert row["error_code"] == ("zero_bytes" if cut == 0 else "not_an_image" if cut < 8 else "truncated")


@settings(max_examples=100, deadline=None)
@given(
    start=st.sampled_from([b"", JPEG[:20], PNG[:33], b"GIF89a", b"II*\0", b"P6 9 9 255 ", b"BM"]), rest=st.binary()
)
def test_no_bytes_raise(start: bytes, rest: bytes) -> None:
    row = scan_bytes(start + rest, "x")
    assert ("error_code" in row) != ("phash" in row)


MODES: dict[str, tuple[bytes, str, str]] = {
    "rgb.jpg": (JPEG, "JPEG", "RGB"),
    "gray.jpg": (encoded(RGB.convert("L"), "JPEG"), "JPEG", "L"),
    "cmyk.jpg": (encoded(RGB.convert("CMYK"), "JPEG"), "JPEG", "CMYK"),
    "progressive.jpg": (encoded(RGB, "JPEG", progressive=True), "JPEG", "RGB"),
    "rgb.png": (PNG, "PNG", "RGB"),
    "rgba.png": (encoded(RGB.convert("RGBA"), "PNG"), "PNG", "RGBA"),
    "gray-alpha.png": (encoded(RGB.convert("LA"), "PNG"), "PNG", "LA"),
    "palette.png": (encoded(RGB.convert("P"), "PNG"), "PNG", "P"),
    "bits.png": (encoded(RGB.convert("1"), "PNG"), "PNG", "1"),
    "deep.png": (encoded(Image.fromarray(picture()[..., 0].astype(np.uint16) * 257), "PNG"), "PNG", "I;16"),
    "a.webp": (encoded(RGB, "WEBP", lossless=True), "WEBP", "RGB"),
    "a.bmp": (encoded(RGB, "BMP"), "BMP", "RGB"),
    "a.gif": (encoded(RGB.convert("P"), "GIF"), "GIF", "P"),
    "a.tif": (encoded(RGB, "TIFF"), "TIFF", "RGB"),
    "float.tif": (encoded(Image.fromarray(picture()[..., 0].astype(np.float32)), "TIFF"), "TIFF", "F"),
    "a.ppm": (encoded(RGB, "PPM"), "PPM", "RGB"),
}


@pytest.mark.parametrize("name", MODES)
def test_every_kind_is_measured(name: str) -> None:
    data, kind, mode = MODES[name]
    row = scan_bytes(data, name)
    assert "error_code" not in row
    assert (row["format"], row["mode"], row["width_px"], row["height_px"]) == (kind, mode, 150, 90)
    reference = scan_bytes(encoded(RGB.convert(mode) if mode in {"L", "P", "1"} else RGB, "PNG"), "r.png")
    if mode not in {"CMYK", "I;16", "F"}:
        assert abs(row["brightness_p50"] - reference["brightness_p50"]) < 0.03
        assert (row["phash"] ^ reference["phash"]).bit_count() <= 6


def test_sixteen_bit_looks_like_its_eight_bit_version() -> None:
    deep = scan_bytes(MODES["deep.png"][0], "deep.png")
    plain = scan_bytes(encoded(Image.fromarray(picture()[..., 0]), "PNG"), "plain.png")
    assert deep["thumbnail_sha256"] == plain["thumbnail_sha256"]


def test_the_first_frame_of_an_animation_is_measured() -> None:
    frames = [Image.fromarray(picture(seed)).convert("P") for seed in range(3)]
    row = scan_bytes(encoded(frames[0], "GIF", save_all=True, append_images=frames[1:]), "a.gif")
    assert row["n_frames"] == 3
    assert row["thumbnail_sha256"] == scan_bytes(encoded(frames[0], "GIF"), "b.gif")["thumbnail_sha256"]


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_pixels_are_upright_by_one_rule(kind: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    options: dict[str, object] = {"lossless": True} if kind == "WEBP" else {"quality": 92} if kind == "JPEG" else {}
    data = encoded(RGB, kind, exif=exif, **options)
    found = decode(data, max_pixels=10**6)
    assert isinstance(found, Decoded)
    with Image.open(io.BytesIO(data)) as image:
        image.load()
        upright = ImageOps.exif_transpose(image)
    assert found.header.exif_orientation == orientation
    assert found.header.upright_px == upright.size == found.pixels.shape[1::-1]
    assert np.abs(found.pixels.astype(int) - np.asarray(upright).astype(int)).max() <= 3
    row = scan_bytes(data, "a")
    assert (row["width_px"], row["height_px"]) == upright.size


def test_gps_is_reported() -> None:
    exif = Image.Exif()
    exif.get_ifd(0x8825)[1] = "N"
    assert scan_bytes(encoded(RGB, "JPEG", exif=exif), "a.jpg")["has_gps"] is True
    assert scan_bytes(JPEG, "a.jpg")["has_gps"] is False


@pytest.mark.parametrize("name", ["rgb.jpg", "gray.jpg", "progressive.jpg", "rgb.png", "rgba.png"])
def test_both_decoders_give_the_same_measures(name: str) -> None:
    data, kind, mode = MODES[name]
    first = _with_opencv(data, Header(kind, mode, 150, 90))
    assert first is not None
    with Image.open(io.BytesIO(data)) as image:
        second = _with_pil(image, mode)
    one, other = measure(first), measure(second)
    for column in FLOATS:
        assert getattr(one, column) == pytest.approx(getattr(other, column), abs=0.02, rel=0.02), column
    assert one.blur_laplacian_std == pytest.approx(other.blur_laplacian_std, rel=0.02)
    assert (one.phash ^ other.phash).bit_count() <= 2
    if kind == "PNG":
        assert one == other


def test_measures_of_known_pictures() -> None:
    white = measure(np.full((50, 40, 3), 255, np.uint8))
    assert (white.brightness_p05, white.entropy_bits, white.colorfulness) == pytest.approx(
        (1.0, 0.0, 0.0), abs=1e-3
    )
    assert measure(np.zeros((50, 40), np.uint8)).blur_laplacian_std == 0.0
    two = measure(np.tile(np.array([[0, 255]], np.uint8), (20, 20)))
    assert two.entropy_bits == pytest.approx(1.0)
    assert (two.brightness_p05, two.brightness_p99) == (0.0, 1.0)
    red = measure(np.full((9, 9, 3), (255, 0, 0), np.uint8))
    assert red.brightness_p50 == pytest.approx(np.sqrt(0.241), abs=1e-3)
    assert red.colorfulness == pytest.approx(0.3 * np.hypot(255, 127.5), abs=1e-6)


def test_percentiles_are_those_of_numpy() -> None:
    pixels = picture(3, 400, 300).astype(np.float64)
    exact = np.sqrt(pixels**2 @ np.array([0.241, 0.691, 0.068])) / 255
    found = measure(picture(3, 400, 300))
    expected = np.percentile(exact, [5, 50, 99])
    assert (found.brightness_p05, found.brightness_p50, found.brightness_p99) == pytest.approx(expected, abs=0.004)


def test_the_hash_survives_recompression_and_scale_and_tells_pictures_apart() -> None:
    big = Image.fromarray(picture(1, 600, 360))
    first = scan_bytes(encoded(big, "JPEG", quality=95), "a")["phash"]
    second = scan_bytes(encoded(big.resize((300, 180)), "JPEG", quality=60), "b")["phash"]
    other = scan_bytes(encoded(Image.fromarray(picture(2, 600, 360)), "JPEG"), "c")["phash"]
    assert (first ^ second).bit_count() <= 4
    assert (first ^ other).bit_count() >= 16


def test_a_lossless_copy_in_another_format_has_the_same_pixels() -> None:
    digests = {scan_bytes(encoded(RGB, kind), "a")["thumbnail_sha256"] for kind in ("PNG", "BMP", "PPM", "TIFF")}
    assert len(digests) == 1


@settings(max_examples=40, deadline=None)
@given(width=st.integers(1, 200), height=st.integers(1, 200), seed=st.integers(0, 9), gray=st.booleans())
def test_measures_stay_in_their_ranges(width: int, height: int, seed: int, gray: bool) -> None:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    found = measure(pixels[..., 0] if gray else pixels)
    assert 0 <= found.brightness_p05 <= found.brightness_p50 <= found.brightness_p99 <= 1
    assert 0 <= found.entropy_bits <= 8
    assert found.colorfulness >= 0
    assert found.blur_laplacian_std >= 0
    assert 0 <= found.phash < 2**64


def everything() -> tuple[pa.Table, Bytes]:
    data: dict[str, bytes | None] = {name: given for name, (given, _) in DAMAGED.items()}
    data |= {name: given for name, (given, _, _) in MODES.items()}
    return samples_of(sorted(data)), Bytes(data)


def test_a_batch_has_the_schema_and_the_order_of_its_input() -> None:
    samples, media = everything()
    table = scan_batch(samples, media)
    assert table.schema == schema.SCAN
    assert table["sample_id"].equals(samples["sample_id"])
    assert scan_batch(samples.slice(0, 0), media).schema == schema.SCAN


@pytest.mark.parametrize(("engine", "workers"), [("serial", 1), ("threads", 2), ("processes", 2)])
def test_engines_and_shards_leave_no_trace(monkeypatch: pytest.MonkeyPatch, engine: Engine, workers: int) -> None:
    samples, media = everything()
    monkeypatch.setattr(passes, "SHARD_ROWS", 5)
    seen: list[tuple[int, int | None]] = []
    table = scan(samples, media, engine=engine, workers=workers, progress=lambda n, t: seen.append((n, t)))
    assert table.equals(scan_batch(samples, media))
    assert seen[-1] == (samples.num_rows, samples.num_rows)


def test_an_empty_table_scans_to_an_empty_table() -> None:
    assert scan(samples_of([]), Bytes({})).equals(schema.empty(schema.SCAN))


def crash_on(samples: pa.Table, media: Bytes, poison: str) -> pa.Table:
    """Do what a decoder does that runs into its own bug: take the process down."""
    if poison in samples["uri"].to_pylist():
        os.kill(os.getpid(), signal.SIGSEGV)
    return scan_batch(samples, media)


def test_a_decoder_that_crashes_costs_one_row() -> None:
    data: dict[str, bytes | None] = {f"{i}.png": PNG for i in range(12)}
    samples, media = samples_of(sorted(data)), Bytes(data)
    fn = functools.partial(crash_on, media=media, poison="7.png")
    aside = functools.partial(passes.quarantined, media=media)
    table = pa.concat_tables(map_shards(fn, slices(samples, 6), workers=2, quarantine=aside))
    rows = dict(zip(samples["uri"].to_pylist(), table.to_pylist(), strict=True))
    assert {uri for uri, row in rows.items() if row["error_code"]} == {"7.png"}
    assert rows["7.png"]["error_code"] == "decoder_crashed"
    assert rows["7.png"]["content_sha256"] == hashlib.sha256(PNG).hexdigest()


def test_workers_are_silent_about_native_warnings(capfd: pytest.CaptureFixture[str]) -> None:
    broken = bytearray(JPEG)
    middle = len(JPEG) * 2 // 3
    broken[middle : middle + 60] = bytes(range(60))  # sound markers, corrupt entropy-coded data
    media = Bytes({"a.jpg": bytes(broken)})
    scan(samples_of(["a.jpg"]), media, engine="processes", workers=1)
    assert capfd.readouterr().err == ""


def fill(folder: Path) -> None:
    (folder / "sub dir").mkdir(parents=True)
    (folder / "sub dir" / "Å pic.JPG").write_bytes(JPEG)
    (folder / "no-ending").write_bytes(PNG)
    (folder / "bad.png").write_bytes(b"not an image")
    (folder / "empty.png").write_bytes(b"")
    (folder / "notes.txt").write_text("not an image, and not called one")
    (folder / ".hidden.png").write_bytes(PNG)


def test_a_folder_is_scanned_without_a_spec(tmp_path: Path) -> None:
    fill(tmp_path / "data")
    table = scan_folder(tmp_path / "data", engine="serial")
    assert table.column_names == ["sample_id", "uri", *schema.SCAN.names[1:]]
    codes = dict(zip(table["uri"].to_pylist(), table["error_code"].to_pylist(), strict=True))
    assert codes == {
        "sub dir/Å pic.JPG": None,
        "no-ending": None,
        "bad.png": "not_an_image",
        "empty.png": "zero_bytes",
    }
    (tmp_path / "data").rename(tmp_path / "moved")
    assert scan_folder(tmp_path / "moved", engine="serial").equals(table)


@pytest.mark.parametrize("kind", ["tar", "tar.gz", "zip"])
def test_an_archive_is_scanned_like_a_folder(tmp_path: Path, kind: str) -> None:
    files = {"a/one.jpg": JPEG, "a/two.png": PNG, "broken.png": PNG[:99]}
    path = tmp_path / f"data.{kind}"
    if kind == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            for name, data in files.items():
                archive.writestr(name, data)
    else:
        with tarfile.open(path, "w:gz" if kind.endswith("gz") else "w") as archive:
            for name, data in files.items():
                info = tarfile.TarInfo(name)
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))
    table = scan_folder(path, engine="serial")
    assert [uri.removeprefix("data/") for uri in table["uri"].to_pylist()] == sorted(files)
    assert table["error_code"].to_pylist() == [None, None, "truncated"]
    assert table["content_sha256"].to_pylist() == [hashlib.sha256(files[n]).hexdigest() for n in sorted(files)]


def test_a_folder_without_images_is_an_input_error(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("a")
    with pytest.raises(InputError, match="no images"):
        scan_folder(tmp_path)


def test_every_format_has_a_reader_and_none_runs_programs() -> None:
    assert {format_of(data) for data, _, _ in MODES.values()} <= set(READERS)
    assert not {"EPS", "PDF", "WMF"} & set(READERS)


def test_refused_keeps_the_header_where_there_is_one() -> None:
    found = decode(PNG[:-12], max_pixels=10**6)
    assert isinstance(found, Refused)
    assert found.header is not None
    assert found.header.width_px == 150
