"""A teacher that answered before: probabilities in a Parquet or CSV table."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from curate.errors import ConfigError, InputError, did_you_mean
from curate.schema import PROB_PREFIX, canonical_json
from curate.spec import TableTeacherSpec
from curate.teachers.class_names import named, onto_classes, resolve_names, wrong_rows
from curate.teachers.each_class import n_silent, onto_each_class, wrong_cells
from curate.teachers.label_columns import is_list
from curate.teachers.protocol import Answer, Request, TeacherCard

KEYS = ("uri", "sample_id", "label_id")
_BLOCK_ROWS = 65_536  # checked and normalised at once, in twice the precision
_IN_SAMPLE = (
    "its spec says that it learned from the labels that it judges (out_of_fold: false), so its agreement with them says "
    "nothing; say out_of_fold: true where no row's own label was seen by the model that judged it"
)
_NEEDS = {False: "numbers from 0 that sum to 1", True: "a number from 0 to 1 for each class"}


@dataclass(frozen=True, slots=True)
class TableTeacher:
    """The table of a spec."""

    spec: TableTeacherSpec

    def answer(self, request: Request) -> Sequence[Answer]:
        """Look up every label row; one without a row in the table has no answer.

        Raises:
            ConfigError: a key that is none of `KEYS`.
            InputError: no such file or column, ids twice, ids of another dataset, rows that are no probabilities.
        """
        spec = self.spec
        if spec.key not in KEYS:
            hint = did_you_mean(spec.key, KEYS)
            raise ConfigError(
                f"The teacher {spec.name}: `key` is one of {', '.join(KEYS)}; given: {spec.key!r}. {hint}".rstrip()
            )
        path = request.resolve(spec.path)
        table = read_table(path, spec.key, teacher=spec.name)
        ids = table[spec.key].cast(pa.string()).combine_chunks()
        _refuse_bad_ids(ids, spec)
        told = _about_ids(ids, request, spec)
        probs, inherent = _matrix(table, request, spec)
        _refuse_wrong_rows(ids, probs, request, spec)
        names, about_names = resolve_names(probs.shape[1], spec.classes, inherent, request, teacher=spec.name)
        at = pc.index_in(request.labels[spec.key], value_set=ids).to_numpy(zero_copy_only=False)
        _refuse_other_bytes(table, at, request, spec)
        found = np.isfinite(at.astype(np.float64))
        if spec.key != "label_id":
            ambiguous = _several_labels(request)
            if (found & ambiguous).any():
                told.append(
                    f"{int((found & ambiguous).sum())} labels of images with several labels are not judged: the "
                    f"table has one row for an image; give one for a label, with key: label_id"
                )
            found &= ~ambiguous
        answered = _looked_up(probs, at, found, normalise=not request.independent)
        full = (onto_each_class if request.independent else onto_classes)(answered, names, request)
        silent = n_silent(full, independent=request.independent)
        return [Answer(self._card(path, names, full, (*told, *about_names), silent), full)]

    def _card(
        self, path: Path, names: Sequence[str], full: np.ndarray, told: Sequence[str], silent: int
    ) -> TeacherCard:
        if silent:
            told = (*told, f"{silent} labels are not judged: the table says nothing of them")
        about = {"spec": self.spec.model_dump(mode="json", exclude={"path"}), "classes": list(names)}
        with path.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256")
        digest.update(canonical_json(about).encode())
        return TeacherCard(
            name=self.spec.name,
            kind="table",
            trained_on=self.spec.trained_on,
            features=self.spec.features,
            out_of_fold=self.spec.out_of_fold,
            calibration=None,
            digest=digest.hexdigest(),
            n_predicted=len(full) - silent,
            warnings=tuple(told),
            left_out=_IN_SAMPLE if self.spec.out_of_fold is False else None,
        )


def _refuse_wrong_rows(ids: pa.Array, probs: np.ndarray, request: Request, spec: TableTeacherSpec) -> None:
    is_wrong = wrong_cells if request.independent else wrong_rows
    blocks = [slice(at, at + _BLOCK_ROWS) for at in range(0, len(probs), _BLOCK_ROWS)]
    flaws = [np.flatnonzero(is_wrong(_exact(probs[part]))) + part.start for part in blocks]
    wrong = np.concatenate([np.zeros(0, dtype=np.int64), *flaws])
    if len(wrong):
        first = ", ".join(f"{ids[int(row)]}: {_flaw(probs[row])}" for row in wrong[:3])
        raise InputError(
            f"The table of the teacher {spec.name} has {len(wrong)} rows that are not probabilities (each needs "
            f"{_NEEDS[request.independent]}; a row without an answer is null): {first}. "
            f"Correct them in {Path(spec.path).name}."
        )


def _looked_up(probs: np.ndarray, at: np.ndarray, found: np.ndarray, *, normalise: bool) -> np.ndarray:
    """Return float32 (n_labels, width): of each label row the table's row `at` it, NaN where none is `found`."""
    answered = np.full((len(at), probs.shape[1]), np.nan, dtype=np.float32)
    places = np.flatnonzero(found)
    for start in range(0, len(places), _BLOCK_ROWS):
        rows = places[start : start + _BLOCK_ROWS]
        told = _exact(probs[at[rows].astype(np.int64)])
        answered[rows] = told / told.sum(axis=1, keepdims=True) if normalise else told
    return answered


def _refuse_other_bytes(table: pa.Table, at: np.ndarray, request: Request, spec: TableTeacherSpec) -> None:
    """Refuse a table whose column `content_sha256` says that it was made for other images than there are now."""
    if "content_sha256" not in table.column_names or "content_sha256" not in request.labels.column_names:
        return
    then = table["content_sha256"].take(pa.array(at, pa.int64(), from_pandas=True))
    differs = pc.fill_null(pc.not_equal(then, request.labels["content_sha256"]), fill_value=False)
    stale = request.labels.filter(differs)
    if stale.num_rows:
        raise InputError(
            f"{stale.num_rows:,} rows of the table of the teacher {spec.name} were made for other image bytes: "
            f"{named(stale['uri'].to_pylist())}. Compute these rows of {spec.path} again, or leave them out."
        )


def read_table(path: Path, key: str, *, teacher: str) -> pa.Table:
    """Read a Parquet or CSV file; the key column of a CSV stays text.

    Raises:
        InputError: not there, not readable, or without the key column.
    """
    if not path.is_file():
        raise InputError(f"The table of the teacher {teacher} is not there: {path}. Correct its `path`.")
    try:
        if path.suffix.lower() in {".csv", ".tsv"}:
            table = pa.csv.read_csv(
                path,
                parse_options=pa.csv.ParseOptions(delimiter="\t" if path.suffix.lower() == ".tsv" else ","),
                convert_options=pa.csv.ConvertOptions(column_types={key: pa.string()}),
            )
        else:
            table = pq.read_table(path, partitioning=None)
    except (pa.ArrowInvalid, OSError) as error:
        raise InputError(
            f"The table of the teacher {teacher}, {path.name}, is neither Parquet nor CSV: {error}"
        ) from error
    if key not in table.column_names:
        raise InputError.from_missing_columns([key], table.column_names, needed_by=f"The teacher {teacher}")
    return table


def _refuse_bad_ids(ids: pa.Array, spec: TableTeacherSpec) -> None:
    if ids.null_count:
        raise InputError(f"The table of the teacher {spec.name} has {ids.null_count} rows without {spec.key}.")
    counts = ids.value_counts()
    twice = counts.field("values").filter(pc.greater(counts.field("counts"), 1)).to_pylist()
    if twice:
        raise InputError(
            f"The table of the teacher {spec.name} has more than one row for {named(sorted(twice))}; "
            "one each is needed."
        )


def _about_ids(ids: pa.Array, request: Request, spec: TableTeacherSpec) -> list[str]:
    """Name the table's ids that the dataset lacks.

    Some may be images that cannot be read, or labels that no classifier judges, so only a table most of which is
    unknown is refused.
    """
    judged = request.labels[spec.key]
    known = pa.chunked_array([*judged.chunks, *request.beyond.ids(spec.key).chunks], pa.string())
    if spec.key != "label_id":
        known = pa.chunked_array([*request.samples[spec.key].chunks, *known.chunks])
    is_unknown = pc.invert(pc.is_in(ids, value_set=known))
    unknown = sorted(ids.filter(is_unknown).to_pylist())
    if unknown and 2 * len(unknown) > len(ids):
        example = judged[0].as_py() if len(judged) else "none"
        raise InputError(
            f"{len(unknown)} of {len(ids)} rows in the table of the teacher {spec.name} have a {spec.key} that the "
            f"dataset does not have: {named(unknown)}. One of the dataset's: {example!r}. "
            f"Is this the table of this dataset, and `key` the right one?"
        )
    if not unknown:
        return []
    return [
        f"{len(unknown)} rows of its table have a {spec.key} of no readable image or label here: {named(unknown)}"
    ]


def _matrix(table: pa.Table, request: Request, spec: TableTeacherSpec) -> tuple[np.ndarray, list[str] | None]:
    """Return (n_rows, width) floats, NaN where null, and the names that the table itself gives its classes."""
    if spec.columns is not None:
        missing = [name for name in spec.columns.values() if name not in table.column_names]
        if missing:
            raise InputError.from_missing_columns(missing, table.column_names, needed_by=f"The teacher {spec.name}")
        return _from_columns(table, spec.columns, spec)
    name = _list_column(table, spec)
    if name is not None:
        metadata = (table.schema.metadata or {}).get(b"classes")
        return _from_lists(table[name], spec), json.loads(metadata) if metadata else None
    wanted = spec.classes or request.classes
    missing = [label for label in wanted if label not in table.column_names]
    if missing:
        raise InputError(
            f"The table of the teacher {spec.name} has neither a list column {PROB_PREFIX}{spec.name} nor a column "
            f"for each class; there is none for {named(missing)}. It has: {', '.join(table.column_names)}. "
            f"Say where they are with `columns` (class -> column)."
        )
    return _from_columns(table, {label: label for label in wanted}, spec)


def _from_columns(table: pa.Table, columns: dict[str, str], spec: TableTeacherSpec) -> tuple[np.ndarray, list[str]]:
    labels = list(columns) if spec.classes is None else [name for name in spec.classes if name in columns]
    if spec.classes is not None and len(labels) != len(columns):
        odd = sorted(set(columns) - set(labels))
        raise InputError(f"The teacher {spec.name}: `columns` has {named(odd)}, which its `classes` does not.")
    stacked = np.empty((table.num_rows, len(labels)))
    for position, label in enumerate(labels):
        column = table[columns[label]]
        if not (
            pa.types.is_floating(column.type)
            or pa.types.is_integer(column.type)
            or column.null_count == len(column)
        ):
            raise InputError(
                f"The table of the teacher {spec.name}: the column {columns[label]!r} holds {column.type}, "
                "no numbers."
            )
        stacked[:, position] = column.cast(pa.float64()).to_numpy(zero_copy_only=False)
    return stacked, labels


def _list_column(table: pa.Table, spec: TableTeacherSpec) -> str | None:
    """Return `prob_<name>`, or the only list column there is."""
    lists = [field.name for field in table.schema if is_list(field.type)]
    wanted = PROB_PREFIX + spec.name
    if wanted in lists:
        return wanted
    if len(lists) > 1:
        raise InputError(
            f"The table of the teacher {spec.name} has several list columns ({', '.join(lists)}) and none is "
            f"called {wanted}. Rename the right one."
        )
    return lists[0] if lists else None


def _from_lists(column: pa.ChunkedArray, spec: TableTeacherSpec) -> np.ndarray:
    kept = column.drop_null()
    widths = pc.unique(pc.list_value_length(kept)).to_pylist()
    if len(widths) != 1:
        shown = ", ".join(map(str, sorted(widths))) or "none"
        raise InputError(f"The lists of the teacher {spec.name} must all have one length; they have: {shown}.")
    values = pc.list_flatten(kept)
    flat = (values if pa.types.is_floating(values.type) else values.cast(pa.float64())).to_numpy()
    if not column.null_count:
        return np.asarray(flat.reshape(-1, widths[0]))
    matrix = np.full((len(column), widths[0]), np.nan, dtype=flat.dtype)
    matrix[column.is_valid().to_numpy(zero_copy_only=False)] = flat.reshape(-1, widths[0])
    return matrix


def _flaw(probs: np.ndarray) -> str:
    """Return what is wrong with a row that is none of probabilities."""
    if np.isnan(probs).any():
        return f"{int(np.isnan(probs).sum())} of {len(probs)} are NaN"
    return f"sum {_exact(probs).sum():.4g}"


def _exact(probs: np.ndarray) -> np.ndarray:
    """Return probabilities in the precision in which they are summed; tables hold them in as little as they like."""
    return probs.astype(np.float64)


def _several_labels(request: Request) -> np.ndarray:
    """Return (n_labels,) booleans: the label's image has other labels too."""
    ids = request.labels["sample_id"].combine_chunks()
    counts = ids.value_counts()
    several = counts.field("values").filter(pc.greater(counts.field("counts"), 1))
    flags: np.ndarray = pc.is_in(ids, value_set=several).to_numpy(zero_copy_only=False)
    return flags
