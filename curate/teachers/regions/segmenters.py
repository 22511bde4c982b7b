"""Teachers that segmented before: masks or probability maps in folders, by the stems of the images."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate import schema
from curate.adapters.execution import Progress
from curate.errors import InputError, TooFewRowsError
from curate.incremental import stream_rows
from curate.runs import digest_json
from curate.spec import MasksSpec
from curate.teachers.agreement import with_doubts
from curate.teachers.protocol import TeacherCard, TeacherError
from curate.teachers.regions.answers import Answer
from curate.teachers.regions.files import MAPS, PNG, files_by_stem, numbered, read_answer
from curate.teachers.regions.given import drawn, readable
from curate.teachers.regions.judge import Source, measured, regions_column, weigh
from curate.teachers.regions.measure import AnswerError, MaskAnswers
from curate.teachers.regions.pool import Pool

VERSION = 1  # of what is kept of an image
IGNORED = (255,)  # what a file may hold besides the ids of classes
SHARD_MASKS = 16
MEASURED = pa.schema([pa.field(schema.REGIONS_COLUMN, pa.list_(schema.REGION))])


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
        """Return what a file says, classes as they are called by the teacher.

        Raises:
            InputError: it cannot be used.
        """
        return read_answer(file, {one: one for one in range(len(self.names))}, len(self.names), IGNORED)

    def read_as(self, file: Path, classes: Sequence[str]) -> Answer:
        """Return what a file says of `classes`, which hold those of the teacher.

        Raises:
            InputError: it cannot be used.
        """
        own = self.read(file)
        places = tuple(classes.index(name) for name in self.names)
        if own.codes is not None:
            return replace(own, n_classes=len(classes), codes=numbered(own.codes, dict(enumerate(places))))
        same = places == tuple(range(len(classes)))
        return replace(own, n_classes=len(classes), places=None if same else places)

    def hashes(self) -> dict[str, bytes]:
        """Return uri -> sha256 of its file."""
        return {uri: hashlib.sha256(file.read_bytes()).digest() for uri, file in self.files.items()}

    def digest(self, hashes: Mapping[str, bytes]) -> str:
        """Return the digest of the teacher: its settings, and uri and sha256 of each file."""
        told = schema.canonical_json([self.spec.model_dump(mode="json", exclude={"path"}), self.names])
        digest = hashlib.sha256(told.encode())
        for uri in self.files:
            digest.update(f"\0{uri}\0".encode() + hashes[uri])
        return digest.hexdigest()

    def card(self, hashes: Mapping[str, bytes], n_images: int) -> TeacherCard:
        """Return what may be said of the teacher."""
        absent = n_images - len(self.files)
        told = (f"{absent} images are not judged: the folder has no file of their stem",) if absent else ()
        return TeacherCard(
            name=self.spec.name,
            kind=self.spec.kind,
            trained_on=self.spec.trained_on,
            features=None,
            out_of_fold=None,
            calibration=None,
            digest=self.digest(hashes),
            n_predicted=len(self.files),
            warnings=told,
        )


def asked_of(
    spec: MasksSpec, uris: Collection[str], folder: Path, classes: Sequence[str], *, beyond: Collection[str] = ()
) -> Asked:
    """Return the files of a teacher for images.

    Args:
        spec: of the teacher.
        uris: of the images.
        folder: its files.
        classes: of the release, in order.
        beyond: uris of the images that a limit left out.

    Raises:
        InputError: no folder, or no file for any image.
        TooFewRowsError: files for images that a limit left out alone.
    """
    files = files_by_stem(folder, (*PNG, *MAPS), f"The teacher {spec.name}")
    found = {uri: file for uri in sorted(uris) if (file := _file_of(uri, files)) is not None}
    if not found and any(_file_of(uri, files) for uri in beyond):
        raise TooFewRowsError(
            f"The teacher {spec.name} has masks of images that --limit leaves out, and of no other."
        )
    if not found:
        raise InputError(
            f"The teacher {spec.name} needs a PNG, npy or npz with the stem of each image, for example of "
            f"{min(uris, default='none')}; it has: {', '.join(sorted(files)[:3])}."
        )
    return Asked(spec, tuple(spec.classes or classes), found)


def _file_of(uri: str, files: Mapping[str, Path]) -> Path | None:
    """Return the file whose path ends as the image's does, the longest such path first."""
    parts = PurePosixPath(uri).with_suffix("").parts
    return next((files[key] for at in range(len(parts)) if (key := "/".join(parts[at:])) in files), None)


@dataclass(frozen=True, slots=True)
class GivenMasks:
    """The masks of labels, by image; none is drawn before it is asked for.

    Attributes:
        table: `uri`, `sample_id`, `label_id`, `label`, `mask`, sorted by uri and label id.
        first: uri -> its first row and one past its last.
    """

    table: pa.Table
    first: Mapping[str, tuple[int, int]]

    @classmethod
    def of(cls, labels: pa.Table) -> GivenMasks:
        """Take the labels view; rows without a mask are left out."""
        chosen = labels.filter(pc.is_valid(labels["mask"])).select(
            ["uri", "sample_id", "label_id", "label", "mask"]
        )
        table = chosen.sort_by([("uri", "ascending"), ("label_id", "ascending")]).combine_chunks()
        uris = table["uri"].to_pylist()
        ends = [at for at in range(1, len(uris) + 1) if at == len(uris) or uris[at] != uris[at - 1]]
        return cls(table, {uris[end - 1]: (start, end) for start, end in zip([0, *ends], ends, strict=False)})

    def rows(self, uri: str) -> list[Mapping[str, Any]]:
        """Return the readable rows of an image."""
        start, end = self.first.get(uri, (0, 0))
        return readable(self.table.slice(start, end - start).to_pylist())


@dataclass(frozen=True, slots=True)
class FoundRegions:
    """What segmenters say of the masks together.

    Attributes:
        table: `sample_id` and `regions`, a row for each mask that a teacher has answered for; sorted by sample id.
        pool: how they are weighed; None where nothing was judged.
        cards: of those that answered.
        errors: of those that failed.
    """

    table: pa.Table
    pool: Pool | None
    cards: tuple[TeacherCard, ...]
    errors: tuple[TeacherError, ...]


def find_regions(
    asked: Sequence[Asked],
    labels: pa.Table,
    classes: Sequence[str],
    *,
    folder: Path,
    workers: int = 1,
    progress: Progress | None = None,
) -> FoundRegions:
    """Measure the regions of every mask; a teacher that says what cannot be used is left out, and the others go on.

    Args:
        asked: files of each teacher.
        labels: the labels view, rows with masks.
        classes: of the release; those that only teachers name are added.
        folder: where what was measured of each image is kept, for a run that goes on from here.
        workers: threads.
        progress: called with (masks done, masks in all).
    """
    given = GivenMasks.of(labels)
    n_images = pc.count_distinct(labels["uri"]).as_py()
    hashes = {one.spec.name: one.hashes() for one in asked}
    left, errors = sorted(asked, key=lambda one: one.spec.name), []
    table, pool = (
        _sample_ids([], given).append_column(MEASURED.field(0), pa.array([], MEASURED.field(0).type)),
        None,
    )
    while left:
        try:
            table, pool = _found(left, given, classes, hashes, folder, workers, progress)
            break
        except AnswerError as error:
            left = [one for one in left if one.spec.name != error.teacher]
            errors.append(TeacherError(error.teacher, str(error)))
    cards = [one.card(hashes[one.spec.name], n_images) for one in left]
    told = with_doubts(cards, pool.doubts if pool is not None else ())
    return FoundRegions(table, pool, tuple(told), tuple(errors))


def _found(
    asked: Sequence[Asked],
    given: GivenMasks,
    classes: Sequence[str],
    hashes: Mapping[str, Mapping[str, bytes]],
    folder: Path,
    workers: int,
    progress: Progress | None,
) -> tuple[pa.Table, Pool | None]:
    names = (*classes, *sorted({name for one in asked for name in one.names} - set(classes)))
    answered = {uri for one in asked for uri in one.files}
    uris = [uri for uri in given.first if uri in answered and given.rows(uri)]

    def load(uri: str) -> MaskAnswers:
        return MaskAnswers(drawn(given.rows(uri), names), [_answer(one, uri, names) for one in asked])

    source = Source(uris, [one.spec.name for one in asked], names, load)
    pool = weigh(source, workers=workers) if uris else None
    regions = pa.chunked_array([], MEASURED.field(0).type)
    if pool is not None:
        read_as = [list(one.names) for one in asked]  # the same file says something else under other names
        fitted = digest_json([VERSION, source.teachers, read_as, list(names), pool.to_json()])
        keys = [_key(given.rows(uri), [hashes[one.spec.name].get(uri) for one in asked]) for uri in uris]

        def measure_shards(shards: Sequence[pa.Array]) -> Iterable[pa.Table]:
            n_done = len(uris) - sum(len(shard) for shard in shards)
            ordered = measured(
                source, pool, [uris[at] for shard in shards for at in shard.to_pylist()], workers=workers
            )
            for shard in shards:
                column = regions_column([next(ordered) for _ in range(len(shard))])
                n_done += len(shard)
                if progress:
                    progress(n_done, len(uris))
                yield pa.table([column], schema=MEASURED)

        parts = list(stream_rows(folder / fitted, keys, measure_shards, schema=MEASURED, shard_rows=SHARD_MASKS))
        order = np.argsort(np.concatenate([part.positions for part in parts]))
        regions = pa.concat_tables([part.rows for part in parts]).take(pa.array(order))[schema.REGIONS_COLUMN]
    return _sample_ids(uris, given).append_column(MEASURED.field(0), regions).sort_by("sample_id"), pool


def _answer(asked: Asked, uri: str, classes: Sequence[str]) -> Answer | None:
    if uri not in asked.files:
        return None
    try:
        return asked.read_as(asked.files[uri], classes)
    except InputError as error:
        raise AnswerError(asked.spec.name, str(error)) from error


def _key(rows: Sequence[Mapping[str, Any]], hashes: Iterable[bytes | None]) -> str:
    """Return the digest of what is measured of an image: its masks and the files of its teachers."""
    digest = hashlib.sha256()
    for row in rows:
        mask = row["mask"]
        digest.update(f"{row['label']}\0{mask['height_px']} {mask['width_px']}\0".encode() + mask["counts"] + b"\0")
    for one in hashes:
        digest.update(one or b"-")
    return digest.hexdigest()


def _sample_ids(uris: Sequence[str], given: GivenMasks) -> pa.Table:
    ids: Iterator[Any] = (given.table["sample_id"][given.first[uri][0]].as_py() for uri in uris)
    return pa.table({"sample_id": pa.array(ids, pa.string())})
