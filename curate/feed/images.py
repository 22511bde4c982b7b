"""Images of a version: bytes from where they are, held against their hash, decoded upright as the scan decodes them."""

from __future__ import annotations

import hashlib
import struct
import threading
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from curate.errors import VerificationError
from curate.feed.order import WINDOW_BLOCKS
from curate.ingest.location import Located, Locator, base_of
from curate.ingest.media import FileMedia
from curate.ingest.parquet_images import encoded_images, image_columns, split_container
from curate.scan.decode import Refused, decode

Pixels = npt.NDArray[np.uint8]
Resize = Literal["bilinear", "area"]

_MAX_PIXELS = 2**31  # the scan has refused what is too large for this data set before
_PNG = b"\x89PNG\r\n\x1a\n"
_ODD_CHUNKS = (b"eXIf", b"acTL", b"Raw profile type")
_SHRINKS = (8, 4, 2)
_IS_PARQUET = (".parquet", ".pq")


class ParquetBlocks:
    """Row groups of Parquet files with images; the last few are held, for all threads of a process."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._lock = threading.Lock()
        self._files: dict[str, tuple[pq.ParquetFile, str, npt.NDArray[np.int64]]] = {}
        self._held: OrderedDict[tuple[str, int], pa.Array] = OrderedDict()

    def __getstate__(self) -> Path:
        return self._root

    def __setstate__(self, root: Path) -> None:
        self.__init__(root)  # type: ignore[misc]

    def group_of(self, container: str, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Return the row group of each row."""
        with self._lock:
            _, _, starts = self._file(container)
        return np.searchsorted(starts, rows, side="right") - 1

    def read(self, container: str, row: int) -> bytes | None:
        """Return the bytes in a row of the image column."""
        with self._lock:
            file, column, starts = self._file(container)
            group = int(np.searchsorted(starts, row, side="right")) - 1
            key = (container, group)
            if key not in self._held:
                leaf = f"{column}.bytes" if pa.types.is_struct(file.schema_arrow.field(column).type) else column
                values = encoded_images(file.read_row_group(group, columns=[leaf])[column])
                self._held[key] = values.cast(pa.large_binary()).combine_chunks()
                while len(self._held) > WINDOW_BLOCKS + 1:
                    self._held.popitem(last=False)
            self._held.move_to_end(key)
            held = self._held[key]
        value: bytes | None = held[row - int(starts[group])].as_py()
        return value

    def _file(self, container: str) -> tuple[pq.ParquetFile, str, npt.NDArray[np.int64]]:
        if container not in self._files:
            name, column = split_container(container)
            located = Locator(self._root).locate(name)
            if not isinstance(located, Located):
                raise VerificationError(
                    f"The file {name} with images is not under {self._root} any more. Restore it."
                )
            file = pq.ParquetFile(base_of(self._root) / located.uri)
            chosen = column or image_columns(file.schema_arrow)[0]
            sizes = [file.metadata.row_group(at).num_rows for at in range(file.metadata.num_row_groups)]
            starts = np.concatenate([[0], np.cumsum(sizes, dtype=np.int64)])[:-1].astype(np.int64)
            self._files[container] = (file, chosen, starts)
        return self._files[container]


class Images:
    """Where the images of a version are. Can be pickled; threads and processes open their own handles.

    Args:
        root: of the source, as it was ingested.
        scratch: folder for what compressed tars unpack to.
        check: whether the bytes are held against `content_sha256`.
    """

    def __init__(self, root: Path, scratch: Path, *, check: bool = True) -> None:
        self._media = FileMedia(root, scratch)
        self._blocks = ParquetBlocks(root.absolute())
        self._root = root
        self._check = check

    def blocks(self, containers: Sequence[str | None], offsets: Sequence[int | None]) -> npt.NDArray[np.int64]:
        """Return a number for the row group that each image lies in; -1 for images that can be read one by one."""
        blocks = np.full(len(containers), -1, dtype=np.int64)
        n_before = 0
        for container in sorted({name for name in containers if name is not None and _is_parquet(name)}):
            at = np.asarray([i for i, name in enumerate(containers) if name == container], dtype=np.int64)
            rows = np.asarray([offsets[i] or 0 for i in at], dtype=np.int64)
            groups = self._blocks.group_of(container, rows)
            blocks[at] = n_before + groups
            n_before += int(groups.max()) + 1
        return blocks

    def read(
        self, uri: str, container: str | None, offset: int | None, n_bytes: int | None, sha256: str | None
    ) -> bytes:
        """Return the encoded bytes.

        Raises:
            VerificationError: they are not there, or not those that the version was made from.
        """
        if container is not None and offset is not None and _is_parquet(container):
            data = self._blocks.read(container, offset)
        else:
            data = self._media.read_one(uri, container, offset, n_bytes)
        if data is None:
            raise VerificationError(
                f"The image {uri} is not under {self._root} any more. Restore it, say with images= where the images "
                f"are now, or run `curate run SPEC` again and use the version that it publishes."
            )
        if self._check and sha256 is not None and hashlib.sha256(data).hexdigest() != sha256:
            raise VerificationError(
                f"The bytes of {uri} changed since its label and soft label were made, so both are stale. Restore the "
                f"image, or run `curate run SPEC` again: only changed images are judged anew, and a new version is "
                f"published."
            )
        return data


def pixels_of(
    data: bytes,
    *,
    size_px: tuple[int, int] | None = None,
    resize: Resize = "bilinear",
    shrink_on_load: bool = False,
) -> Pixels:
    """Return upright RGB pixels, uint8 (height, width, 3), contiguous.

    Args:
        data: the encoded bytes.
        size_px: (height, width) to stretch to.
        resize: "bilinear", antialiased, as PIL and torchvision do it; or "area", as curate prepares pixels for teachers.
        shrink_on_load: let the JPEG decoder shrink by 2, 4 or 8 first where the image is larger than that: much
            faster for large photos, pixels differ a little.

    Raises:
        VerificationError: they cannot be decoded.
    """
    import cv2  # noqa: PLC0415 - `import curate` must not load it

    factor = _shrink(data, size_px) if shrink_on_load and size_px else 1
    reduced = {
        2: cv2.IMREAD_REDUCED_GRAYSCALE_2,
        4: cv2.IMREAD_REDUCED_GRAYSCALE_4,
        8: cv2.IMREAD_REDUCED_GRAYSCALE_8,
    }
    flags = cv2.IMREAD_COLOR_RGB | reduced.get(factor, 0)  # the bare bit of the reduction: COLOR_ would add BGR
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), flags) if _is_plain(data) else None
    if pixels is None:
        pixels = _decoded_slowly(data)
    if size_px is not None and pixels.shape[:2] != size_px:
        pixels = _bilinear(pixels, size_px) if resize == "bilinear" else _area(pixels, size_px)
    made: Pixels = np.ascontiguousarray(pixels)
    return made


def _bilinear(pixels: Pixels, size_px: tuple[int, int]) -> Pixels:
    import torch  # noqa: PLC0415 - its kernel is several times as fast as PIL's and OpenCV's

    # the batch axis is added before the permutation: only so does torch see channels last, and neither repacks nor
    # returns another order, which would cost as much again as the resize
    batch = torch.from_numpy(pixels)[None].permute(0, 3, 1, 2)
    made = torch.nn.functional.interpolate(batch, size=size_px, mode="bilinear", antialias=True)
    resized: Pixels = made[0].permute(1, 2, 0).numpy()
    return resized


def _area(pixels: Pixels, size_px: tuple[int, int]) -> Pixels:
    import cv2  # noqa: PLC0415 - `import curate` must not load it

    smaller = pixels.shape[0] > size_px[0] or pixels.shape[1] > size_px[1]
    method = cv2.INTER_AREA if smaller else cv2.INTER_LINEAR
    resized: Pixels = cv2.resize(pixels, (size_px[1], size_px[0]), interpolation=method)
    return resized


def _decoded_slowly(data: bytes) -> Pixels:
    found = decode(data, max_pixels=_MAX_PIXELS)
    if isinstance(found, Refused):
        raise VerificationError(f"An image of the version cannot be decoded: {found.damage.code}.")
    return found.pixels if found.pixels.ndim == 3 else np.repeat(found.pixels[:, :, None], 3, axis=2)


def _is_plain(data: bytes) -> bool:
    """Whether OpenCV alone decodes it as the scan does: 8-bit JPEG of one or three components, plain 8-bit PNG."""
    if data[:2] == b"\xff\xd8":
        frame = _jpeg_frame(data)
        return frame is not None and frame[2] in {1, 3}
    if data[:8] == _PNG:
        bits, colour = data[24], data[25]
        return bits == 8 and colour in {0, 2, 6} and not any(chunk in data for chunk in _ODD_CHUNKS)
    return False


def _shrink(data: bytes, size_px: tuple[int, int]) -> int:
    frame = _jpeg_frame(data) if data[:2] == b"\xff\xd8" else None
    if frame is None:
        return 1
    shorter, wanted = min(frame[:2]), max(size_px)  # either way up
    return next((factor for factor in _SHRINKS if shorter >= factor * wanted), 1)


def _jpeg_frame(data: bytes) -> tuple[int, int, int] | None:
    """Return height, width and number of components of an 8-bit JPEG, before any rotation."""
    at = 2
    while at + 9 < len(data):
        if data[at] != 0xFF:
            return None
        marker = data[at + 1]
        if marker == 0xFF:
            at += 1
            continue
        if 0xC0 <= marker <= 0xCF and marker not in {0xC4, 0xC8, 0xCC}:
            bits, height, width, components = struct.unpack_from(">BHHB", data, at + 4)
            return (height, width, components) if bits == 8 else None
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return None


def _is_parquet(container: str) -> bool:
    return split_container(container)[0].lower().endswith(_IS_PARQUET)
