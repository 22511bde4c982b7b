"""What a teacher is asked and what it answers. Values only: no model, no pixel."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa

from curate.ingest.source import Beyond, Media, nothing_beyond

Progress = Callable[[int, int | None], None]

OUT_OF_FOLD_HERE = "out-of-fold on this dataset"


@dataclass(frozen=True, slots=True)
class TeacherCard:
    """What is known of a teacher; goes into the manifest beside its predictions.

    Attributes:
        name: unique in a run; its column is `prob_<name>`.
        kind: probes | onnx | torch | table.
        trained_on: what it was trained on; None = unknown; `OUT_OF_FOLD_HERE` for probes.
        features: name of the features it shares with others; two teachers with the same non-null features
            are not independent.
        out_of_fold: whether no row's own given label (nor one of its family) was seen by the model that judged it;
            None = nobody says.
        calibration: how its probabilities were calibrated; None = as they came.
        digest: sha256 of weights, preprocessing and the versions that matter.
        n_predicted: rows with an answer.
        warnings: what a reader has to know, as sentences.
        preprocessing: what was done to pixels before the model saw them, in words; None = unknown. Part of the digest.
        left_out: why its answers must not be used; None = they are.
    """

    name: str
    kind: str
    trained_on: str | None
    features: str | None
    out_of_fold: bool | None
    calibration: str | None
    digest: str
    n_predicted: int
    warnings: tuple[str, ...] = ()
    preprocessing: str | None = None
    left_out: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Return a mapping of plain JSON values."""
        return {**asdict(self), "warnings": list(self.warnings)}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> TeacherCard:
        """Return the card that `to_json` wrote."""
        return cls(**{**value, "warnings": tuple(value["warnings"])})


@dataclass(frozen=True, slots=True)
class TeacherError:
    """A teacher that gave no answer, and why. It never counts as agreement.

    Attributes:
        name: of the teacher.
        message: why.
        too_few: whether it had too little data, which is no failure.
    """

    name: str
    message: str
    too_few: bool = False


@dataclass(frozen=True)
class Request:
    """The rows to be judged and what is needed to do it.

    Attributes:
        samples: the samples view (`schema.SAMPLES` joined with `schema.SCAN`), decodable rows only.
        labels: the rows of the labels view to be judged: label_id, sample_id, label, bbox (or null).
        media: where the bytes of the images come from.
        classes: class names in the order of the probabilities.
        families: (n_labels,) integers; rows of one family (near-duplicates, one group) never are in two folds.
        seed: of everything random.
        resolve: a path of the spec -> an absolute one.
        scratch: folder of the feature cache.
        workers: processes for decoding.
        progress: called with (n_done, n_total).
        independent: a row is an image with several labels (column `given`), and each class has a probability alone.
        beyond: what a limit left out of the source; teachers may speak of it.
    """

    samples: pa.Table
    labels: pa.Table
    media: Media
    classes: tuple[str, ...]
    families: np.ndarray
    seed: int
    resolve: Callable[[str], Path]
    scratch: Path
    workers: int = 1
    progress: Progress | None = None
    independent: bool = False
    beyond: Beyond = field(default_factory=nothing_beyond)


@dataclass(frozen=True)
class Answer:
    """What one teacher says.

    Attributes:
        card: of the teacher.
        probs: float32 (n_labels, n_classes), a row of NaN where it has no answer; of an independent request a NaN is no
            answer for that class alone.
        nearest: `schema.NEAREST`, (n_labels,), what its features say of neighbours; None = it has none.
    """

    card: TeacherCard
    probs: np.ndarray
    nearest: pa.Array | None = None


@dataclass(frozen=True)
class ColumnAnswer:
    """What a teacher says that gives no probability of a label: its column, (n_labels,), named prefix + its name.

    `schema.TRACKS_PREFIX` with `schema.TRACKS`, a frame's boxes at one of its labels.
    """

    card: TeacherCard
    prefix: str
    column: pa.Array


class Teacher(Protocol):
    """A configured teacher. One spec may stand for several answers (each probe is one)."""

    def answer(self, request: Request) -> Sequence[Answer | ColumnAnswer]:
        """Judge every label row of the request. Raises CurateError where it cannot."""
        ...


@dataclass(frozen=True)
class Predictions:
    """All answers: `table` has label_id and a column a teacher, null = no answer.

    `prob_<teacher>` is fixed_size_list<float16>[K], `tracks_<teacher>` is `schema.TRACKS`.
    """

    table: pa.Table
    cards: tuple[TeacherCard, ...]
    errors: tuple[TeacherError, ...]


def prob_column(probs: np.ndarray) -> pa.Array:
    """Return float (n, K) probabilities as fixed_size_list<float16>[K]; a row with a NaN becomes null."""
    n_rows, n_classes = probs.shape
    known = np.isfinite(probs).all(axis=1)
    flat = np.where(known[:, None], probs, 0).astype(np.float16).reshape(-1)
    values = pa.array(flat, type=pa.float16())
    kind = pa.list_(pa.field("item", pa.float16()), n_classes)
    return pa.FixedSizeListArray.from_arrays(
        values, type=kind, mask=pa.array(~known, type=pa.bool_()) if n_rows else None
    )


def prob_matrix(column: pa.ChunkedArray | pa.Array) -> np.ndarray:
    """Return the float32 (n, K) matrix of a probability column, NaN in rows that are null."""
    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    if isinstance(array, pa.ChunkedArray):  # no chunk at all
        return np.empty((0, array.type.list_size), dtype=np.float32)
    n_classes = array.type.list_size
    flat = array.values.slice(array.offset * n_classes, len(array) * n_classes)
    matrix: np.ndarray = flat.to_numpy(zero_copy_only=False).astype(np.float32).reshape(len(array), n_classes)
    matrix[array.is_null().to_numpy(zero_copy_only=False)] = np.nan
    return matrix
