"""What a source format has to be: a function from options and a root folder to three Arrow tables."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa


@dataclass(frozen=True, slots=True)
class ReadOptions:
    """What a spec says to every format.

    Attributes:
        source: name that goes into every id; the spec's `source.name` or the dataset's name.
        root: absolute path of the folder or file that the source is read from.
        classes: declared classes in order, or None to infer them (sorted).
        aliases: given label -> declared class.
        attributes: attribute name -> column of the source that holds it.
        groups: group name -> column of the source.
        columns: role -> column for tables (image, label, split, annotator, reference_label, license, …).
        options: what only this format knows (annotation file, mask folder, …), already validated.
        scratch: folder of the workspace for what has to be extracted or generated.
        multi_label: the spec says that an image has several labels, each there or not (`task: multi_label`).
    """

    source: str
    root: Path
    classes: tuple[str, ...] | None = None
    aliases: Mapping[str, str] = field(default_factory=dict)
    attributes: Mapping[str, str] = field(default_factory=dict)
    groups: Mapping[str, str] = field(default_factory=dict)
    columns: Mapping[str, str] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    scratch: Path | None = None
    multi_label: bool = False


@dataclass(frozen=True, slots=True)
class Beyond:
    """What a limit left out of the source: nobody judges it, and files of teachers may speak of it all the same.

    Attributes:
        samples: `sample_id`, `uri` and, where the source has one, `group_video`.
        label_ids: string.
    """

    samples: pa.Table
    label_ids: pa.ChunkedArray

    @classmethod
    def of(cls, samples: pa.Table, labels: pa.Table) -> Beyond:
        """Take the samples and labels that were left out."""
        names = [name for name in (*_SAMPLE_NAMES, "group_video") if name in samples.column_names]
        return cls(samples.select(names), labels["label_id"])

    @property
    def videos(self) -> frozenset[str]:
        """Names of the videos that are out there."""
        names = self.samples.column_names
        return frozenset(self.samples["group_video"].to_pylist() if "group_video" in names else ()) - {None}

    def ids(self, key: str) -> pa.ChunkedArray:
        """Return its uri, sample_id or label_id."""
        return self.label_ids if key == "label_id" else self.samples[key]


_SAMPLE_NAMES = ("sample_id", "uri")


def nothing_beyond() -> Beyond:
    """Return what is left out without a limit; made when it is needed, for an empty array of pyarrow loads pandas."""
    nothing = pa.schema([(name, pa.string()) for name in (*_SAMPLE_NAMES, "label_id")]).empty_table()
    return Beyond.of(nothing, nothing)


@dataclass(frozen=True, slots=True)
class Ingested:
    """What a source gave, before a pixel is read.

    `samples` has `schema.SAMPLES` plus `attr_*` and `group_*` string columns; `labels` has `schema.LABELS`;
    `outcomes` has `schema.INGEST_OUTCOMES`, one per input row. `classes` are in their final order.
    Every added image is in `samples`, every added label in `labels` or, where several annotators labeled an image,
    in `annotations` (same schema): these are the answers that are not the given one. None = there are none.
    `beyond` is what a limit left out.
    """

    samples: pa.Table
    labels: pa.Table
    outcomes: pa.Table
    classes: tuple[str, ...]
    annotations: pa.Table | None = None
    beyond: Beyond = field(default_factory=nothing_beyond)


class Source(Protocol):
    """A format: recognises what it can read, and reads it. One module a format, an instance called SOURCE."""

    name: str
    option_names: tuple[str, ...]  # the keys of a spec's `source` that only this format takes

    def recognises(self, path: Path) -> Mapping[str, Any] | None:
        """Return the spec's `source` keys (options and columns) that fit `path`, or None if it is not ours."""
        ...

    def read(self, options: ReadOptions) -> Ingested:
        """Read everything; a bad row is an outcome, never an exception. Raises InputError if nothing is there."""
        ...


class Media(Protocol):
    """Where the bytes of images come from: plain files, tar, zip or Parquet."""

    def read(self, samples: pa.Table) -> Iterator[bytes | None]:
        """Yield the encoded bytes of each sample in order; None where they are not there."""
        ...

    def paths(self, samples: pa.Table) -> Sequence[Path]:
        """Return a plain file for each sample, extracted to the workspace where it is inside a container."""
        ...
