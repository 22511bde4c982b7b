"""Mislabel flags for a Parquet table of labels and teachers' probabilities, streamed: the body of `curate flag`."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from curate import schema
from curate.errors import InputError
from curate.teachers.disagreement import fit_flags, fit_rows
from curate.teachers.flag_model import RISK_KIND, FlagModel
from curate.teachers.flag_reasons import reason_texts
from curate.teachers.flag_summary import FlagSummary, writing_beside
from curate.teachers.label_columns import (
    class_order,
    class_places,
    label_indices,
    label_strings,
    named_classes,
    onto_places,
    prob_matrix,
    prob_widths,
)
from curate.teachers.noise import Floats, Ints, transition_json
from curate.teachers.sampling import SmallestRows, order_keys
from curate.teachers.scoring import score_flags, usable_rows

LABEL = "label"
IDS = "sample_id"
BATCH_CELLS = 4_000_000
KEPT_BYTES = 300_000_000
READ_BYTES = 4_000_000  # of a column at once

OUT_COLUMNS = pa.schema(
    [
        pa.field("label", pa.string()),
        pa.field("risk", pa.float64()),  # null = cannot be judged, the reason says why
        pa.field("flagged", pa.bool_(), nullable=False),
        pa.field("suggested_label", pa.string()),
        pa.field("suggested_prob", pa.float64()),
        pa.field("reason", pa.string(), nullable=False),
    ]
)

Progress = Callable[[int, int | None], None]


def flag_table(
    path: str | Path,
    out: str | Path,
    *,
    classes: Sequence[str] | None = None,
    independent: bool | None = None,
    progress: Progress | None = None,
) -> FlagSummary:
    """Judge every row of a Parquet table and write the result beside it, in input order.

    The table has `label` (string, dictionary or integer) and a list column `prob_<teacher>` for each teacher;
    `sample_id` where there is one is carried over, else the row number (int64) stands there. Other columns are
    not read. A null probability list means that the teacher has no answer. The class order is `classes`, else the
    Parquet metadata key `classes` (a JSON list, or comma-separated), else the sorted distinct labels; integer
    labels without a class list that all lie in 0 … K - 1 are taken for positions. A probability column whose field
    has a metadata key `classes` of its own is mapped by name; labels of classes that it does not know are not
    judged by that teacher.

    A row without a usable label or with invalid probabilities is written with a null risk, not flagged, and a
    reason that says so. Two passes over the file: fit on a bounded sample chosen by a hash of the id, then score
    batch by batch. The result does not depend on the batches.

    Raises:
        InputError: not a Parquet file, no label or teacher column, widths that do not fit, no row with a class.
    """
    source = Path(path)
    with _open(source) as file:
        teachers = _teachers(file.schema_arrow, source)
        if is_list(file.schema_arrow.field(LABEL).type):
            from curate.teachers.flag_multi_table import flag_multi_table  # noqa: PLC0415 - it stands on this module

            return flag_multi_table(file, source, Path(out), teachers, classes=classes, progress=progress)
        named = named_classes(file, teachers, source)
        width = prob_widths(file, [name for name in teachers if name not in named], source)
        order = class_order(file, LABEL, width, classes, source)
        places = {name: class_places(name, listed, order, source) for name, listed in named.items()}
        reader = _Reader(file, teachers, order, places, IDS in file.schema_arrow.names)
        model = _fit(reader, independent=independent)
        counts = _write(reader, model, Path(out), progress)
    return FlagSummary(
        counts[0], counts[1], counts[2], model.noise_rate, model.estimates, model.estimates_agree, model.teachers,
        model.regime, model.why, RISK_KIND, _transition(model, order), tuple(order), Path(out),
    )  # fmt: skip


def _transition(model: FlagModel, classes: Sequence[str]) -> Mapping[str, Any]:
    return transition_json(model.transition, classes) if model.transition.size else {}


def is_list(kind: pa.DataType) -> bool:
    """Whether a column holds a list in each row."""
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))


def _open(path: Path) -> pq.ParquetFile:
    try:
        # else every row group stays in memory once read, and a large one is read as a whole
        return pq.ParquetFile(path, pre_buffer=False, buffer_size=READ_BYTES)
    except FileNotFoundError as error:
        raise InputError(f"Flagging needs a Parquet table; there is no file {path}.") from error
    except (pa.ArrowInvalid, OSError) as error:
        raise InputError(f"Flagging needs a Parquet table; {path} cannot be read as one: {error}") from error


def _teachers(columns: pa.Schema, path: Path) -> tuple[str, ...]:
    names = tuple(name for name in columns.names if name.startswith(schema.PROB_PREFIX))
    missing = [LABEL] * (LABEL not in columns.names) + [f"{schema.PROB_PREFIX}<teacher>"] * (not names)
    if missing:
        raise InputError.from_missing_columns(missing, columns.names, needed_by=f"Flagging {path}")
    return names


@dataclass(frozen=True, slots=True)
class _Batch:
    first_row: int
    ids: list[str] | None
    labels: pa.Array  # string
    given: Ints
    probs: list[Floats]


@dataclass(frozen=True, slots=True)
class _Reader:
    file: pq.ParquetFile
    columns: tuple[str, ...]
    classes: tuple[str, ...]
    places: Mapping[str, Ints]  # column -> class index of each entry, for columns that name classes of their own
    has_ids: bool
    kept: list[_Batch] = field(default_factory=list)  # the first rows, decoded once for both passes

    @property
    def n_rows(self) -> int:
        return int(self.file.metadata.num_rows)

    @property
    def teachers(self) -> tuple[str, ...]:
        return tuple(name.removeprefix(schema.PROB_PREFIX) for name in self.columns)

    def batches(self) -> Iterator[_Batch]:
        """Yield the rows in order; a batch is bounded by rows x teachers x classes."""
        yield from self.kept
        n_kept = len(self.kept)
        rows = max(256, min(65_536, BATCH_CELLS // (len(self.columns) * len(self.classes))))
        wanted = [LABEL, *self.columns, *([IDS] if self.has_ids else [])]
        first = sum(len(batch.given) for batch in self.kept)
        n_bytes = sum(p.nbytes for batch in self.kept for p in batch.probs)
        stream = self.file.iter_batches(batch_size=rows, columns=wanted) if first < self.n_rows else iter(())
        for number, batch in enumerate(stream):
            if number < n_kept:
                continue
            made = self._batch(batch, first)
            first += batch.num_rows
            n_bytes += sum(p.nbytes for p in made.probs)
            if number == len(self.kept) and n_bytes <= KEPT_BYTES:
                self.kept.append(made)
            yield made

    def _batch(self, batch: pa.RecordBatch, first: int) -> _Batch:
        labels = label_strings(batch.column(LABEL))
        ids = label_strings(batch.column(IDS)).to_pylist() if self.has_ids else None
        given = label_indices(labels, self.classes)
        probs = [self._probs(batch.column(name), name, given) for name in self.columns]
        return _Batch(first, ids, labels, given, probs)

    def _probs(self, column: pa.Array, name: str, given: Ints) -> Floats:
        if name not in self.places:
            return prob_matrix(column, len(self.classes), name)
        places = self.places[name]
        return onto_places(prob_matrix(column, len(places), name), places, len(self.classes), given)


def _fit(reader: _Reader, *, independent: bool | None) -> FlagModel:
    """Fit on the usable rows with the smallest keys, kept while streaming: at most two times the limit and a batch."""
    limit = fit_rows(len(reader.columns), len(reader.classes))
    sample = SmallestRows(limit)
    answers: dict[str, int] = dict.fromkeys(reader.columns, 0)
    invalid: dict[str, int] = dict.fromkeys(reader.columns, 0)
    n_labeled = 0
    for batch in reader.batches():
        n_labeled += int((batch.given >= 0).sum())
        keys = order_keys(batch.ids, len(batch.given), first_row=batch.first_row)
        near = np.flatnonzero(keys <= sample.ceiling)  # only these can be in the sample
        near_probs = [p[near] for p in batch.probs]
        usable, answered, bad = usable_rows(batch.given[near], near_probs)
        for m, name in enumerate(reader.columns):
            answers[name] += int(answered[:, m].sum())
            invalid[name] += int((bad == m).sum())
        stacked = np.stack([p[usable].astype(np.float32) for p in near_probs], axis=1)
        sample.add(keys[near[usable]], batch.given[near[usable]], stacked)
    _check_answers(reader, answers, invalid, n_labeled)
    found = sample.rows()
    given, probs = found or (np.zeros(0, np.int64), np.zeros((0, len(reader.columns), len(reader.classes))))
    return fit_flags(given, reader.teachers, probs, independent=independent)


def _check_answers(reader: _Reader, answers: Mapping[str, int], invalid: Mapping[str, int], n_labeled: int) -> None:
    if not reader.n_rows:
        return
    for name in reader.columns:
        if not answers[name] and invalid[name]:
            raise InputError(
                f"The column {name} needs probabilities: finite, at least 0, each row summing to one. None of the "
                f"{invalid[name]} rows looked at is like that; turn logits or percentages into probabilities first."
            )
    if not n_labeled:
        shown = ", ".join(reader.classes[:10])
        raise InputError(
            f"None of the {reader.n_rows} labels is one of the {len(reader.classes)} classes ({shown}). Give the "
            "classes in the order of the probabilities with --classes, written as the labels are."
        )


def _write(reader: _Reader, model: FlagModel, out: Path, progress: Progress | None) -> tuple[int, int, int]:
    """Write every row to a temporary file beside `out` and rename it; return (n, n_flagged, n_unjudged)."""
    key = pa.field(IDS, pa.string() if reader.has_ids else pa.int64())
    fields = pa.schema([key, *OUT_COLUMNS])
    n = n_flagged = n_unjudged = 0
    about = {
        "noise_rate": model.noise_rate.to_json(),
        "regime": model.regime,
        "risk_kind": model.risk_kind,
        "estimates_agree": model.estimates_agree,
        "transition": _transition(model, reader.classes),
    }
    with writing_beside(out, fields, about) as writer:
        for batch in reader.batches():
            scores = score_flags(model, batch.given, reader.teachers, batch.probs, workers=os.cpu_count() or 1)
            writer.write_table(_out_table(reader, model, batch, scores, fields))
            n += len(batch.given)
            n_flagged += int(scores.flagged.sum())
            n_unjudged += int((~scores.judged).sum())
            if progress:
                progress(n, reader.n_rows)
    return n, n_flagged, n_unjudged


def _out_table(reader: _Reader, model: FlagModel, batch: _Batch, scores: Any, fields: pa.Schema) -> pa.Table:  # noqa: ANN401
    names = pa.array(reader.classes, pa.string())
    unjudged = ~scores.judged
    ids: Any = batch.ids
    if ids is None:
        ids = np.arange(batch.first_row, batch.first_row + len(batch.given), dtype=np.int64)
    suggested = names.take(pa.array(scores.suggested, mask=scores.suggested < 0))
    columns = [
        pa.array(ids, fields.field(IDS).type),
        batch.labels,
        pa.array(scores.risk, mask=unjudged),
        pa.array(scores.flagged),
        suggested,
        pa.array(scores.suggested_prob, mask=unjudged),
        reason_texts(model, scores, batch.labels, suggested, reader.teachers),
    ]
    return pa.Table.from_arrays(columns, schema=fields)
