"""A teacher that segmented before: masks or probability maps in a folder, by the stems of the images."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
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
        spec = self.spec
        files = files_by_stem(request.resolve(spec.path), (*PNG, *MAPS), f"The teacher {spec.name}")
        names = tuple(spec.classes or request.classes)
        homes = _homes(request.labels)
        masks = request.labels["mask"].to_pylist()
        segments: list[list[dict[str, Any]] | None] = [None] * request.labels.num_rows
        digest = hashlib.sha256(
            schema.canonical_json([spec.model_dump(mode="json", exclude={"path"}), names]).encode()
        )
        n_seen = 0
        for uri, row in sorted(homes.items()):
            file = _file_of(uri, files)
            if file is None:
                continue
            n_seen += 1
            digest.update(f"\0{uri}\0".encode() + hashlib.sha256(file.read_bytes()).digest())
            segments[row] = _segments(file, names, masks[row])
        if not n_seen:
            example = next(iter(sorted(homes)), "none")
            raise InputError(
                f"The teacher {spec.name} needs a PNG, npy or npz with the stem of each image, for example of {example}; "
                f"it has: {', '.join(sorted(files)[:3])}."
            )
        absent = len(homes) - n_seen
        told = (f"{absent} images are not judged: the folder has no file of their stem",) if absent else ()
        card = TeacherCard(
            name=spec.name,
            kind="masks",
            trained_on=spec.trained_on,
            features=None,
            out_of_fold=False,
            calibration=None,
            digest=digest.hexdigest(),
            n_predicted=n_seen,
            warnings=told,
        )
        return [ColumnAnswer(card, schema.MASKS_PREFIX, pa.array(segments, schema.SEGMENTS))]


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


def _segments(file: Path, names: Sequence[str], mask: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    """Return a mask for each class that a file says, at its own size, which has to have the label's format."""
    answer = read_answer(file, {one: one for one in range(len(names))}, len(names), IGNORED)
    ids = answer.codes if answer.codes is not None else answer.likeliest()
    if mask is not None and mask["height_px"] and mask["width_px"]:
        answer.refuse_other_format((mask["height_px"], mask["width_px"]))
    return [
        {"label": names[one], "mask": encode_mask(ids == one)}
        for one in np.unique(ids).tolist()
        if 0 <= one < len(names)
    ]
