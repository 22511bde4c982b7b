"""A teacher that segmented before: masks or probability maps in a folder, by the stems of the images."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pyarrow as pa

from curate import schema
from curate.errors import InputError
from curate.ingest.rle import encode_mask
from curate.spec import MasksSpec
from curate.teachers.protocol import ColumnAnswer, Request, TeacherCard
from curate.teachers.regions.answers import Answer
from curate.teachers.regions.files import MAPS, PNG, files_by_stem, read_answer

IGNORED = (255,)  # what a file may hold besides the ids of classes


@dataclass(frozen=True, slots=True)
class MasksTeacher:
    """The folder of a spec."""

    spec: MasksSpec

    def answer(self, request: Request) -> Sequence[ColumnAnswer]:
        """Return the likeliest class of each pixel, as a mask a class, at the image's label with the smallest id.

        Raises:
            InputError: a folder or a file that cannot be used, or no file for any image.
        """
        spec, homes = self.spec, _homes(request.labels)
        asked = asked_of(spec, homes, request.resolve(spec.path), request.classes)
        masks = request.labels["mask"].to_pylist()
        segments: list[list[dict[str, Any]] | None] = [None] * request.labels.num_rows
        hashes = {}
        for uri, file in asked.files.items():
            hashes[uri] = hashlib.sha256(file.read_bytes()).digest()
            segments[homes[uri]] = _segments(asked.read(file), asked.names, masks[homes[uri]])
        n_seen = len(asked.files)
        absent = len(homes) - n_seen
        told = (f"{absent} images are not judged: the folder has no file of their stem",) if absent else ()
        card = TeacherCard(
            name=spec.name,
            kind="masks",
            trained_on=spec.trained_on,
            features=None,
            out_of_fold=False,
            calibration=None,
            digest=asked.digest(hashes),
            n_predicted=n_seen,
            warnings=told,
        )
        return [ColumnAnswer(card, schema.MASKS_PREFIX, pa.array(segments, schema.SEGMENTS))]


@dataclass(frozen=True, slots=True)
class Asked:
    """The files of a teacher that answer for images.

    Attributes:
        spec: of the teacher.
        names: class 0, 1, … of its files.
        files: uri of the image -> file, sorted by uri.
    """

    spec: MasksSpec
    names: tuple[str, ...]
    files: Mapping[str, Path]

    def read(self, file: Path) -> Answer:
        """Return what a file says.

        Raises:
            InputError: it cannot be used.
        """
        return read_answer(file, {one: one for one in range(len(self.names))}, len(self.names), IGNORED)

    def digest(self, hashes: Mapping[str, bytes]) -> str:
        """Return the digest of the teacher: its settings, and uri and sha256 of each file."""
        told = schema.canonical_json([self.spec.model_dump(mode="json", exclude={"path"}), self.names])
        digest = hashlib.sha256(told.encode())
        for uri in self.files:
            digest.update(f"\0{uri}\0".encode() + hashes[uri])
        return digest.hexdigest()


def asked_of(spec: MasksSpec, uris: Collection[str], folder: Path, classes: Sequence[str]) -> Asked:
    """Return the files of a teacher for images.

    Raises:
        InputError: no folder, or no file for any image.
    """
    files = files_by_stem(folder, (*PNG, *MAPS), f"The teacher {spec.name}")
    found = {uri: file for uri in sorted(uris) if (file := _file_of(uri, files)) is not None}
    if not found:
        raise InputError(
            f"The teacher {spec.name} needs a PNG, npy or npz with the stem of each image, for example of "
            f"{min(uris, default='none')}; it has: {', '.join(sorted(files)[:3])}."
        )
    return Asked(spec, tuple(spec.classes or classes), found)


def _homes(labels: pa.Table) -> dict[str, int]:
    """Return uri of each image -> row of its label with the smallest id."""
    keys = labels["label_id"].to_pylist()
    homes: dict[str, int] = {}
    for row, uri in enumerate(labels["uri"].to_pylist()):
        if uri not in homes or keys[row] < keys[homes[uri]]:
            homes[uri] = row
    return homes


def _file_of(uri: str, files: Mapping[str, Path]) -> Path | None:
    """Return the file whose path ends as the image's does, the longest such path first."""
    parts = PurePosixPath(uri).with_suffix("").parts
    return next((files[key] for at in range(len(parts)) if (key := "/".join(parts[at:])) in files), None)


def _segments(answer: Answer, names: Sequence[str], mask: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    """Return a mask for each class that a file says, at its own size, which has to have the label's format."""
    ids = answer.codes if answer.codes is not None else answer.likeliest()
    if mask is not None and mask["height_px"] and mask["width_px"]:
        answer.refuse_other_format((mask["height_px"], mask["width_px"]))
    return [
        {"label": names[one], "mask": encode_mask(ids == one)}
        for one in np.unique(ids).tolist()
        if 0 <= one < len(names)
    ]
