"""Mislabel flags for a Parquet table of labels and teachers' probabilities, streamed: the body of `curate flag`."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from curate import schema
from curate.errors import InputError
from curate.teachers.column_cards import column_features
from curate.teachers.column_order import Moved, order_warning
from curate.teachers.disagreement import fit_flags, fit_rows
from curate.teachers.flag_model import RISK_KIND, FlagModel, Scores
from curate.teachers.flag_ranks import RANK, ranking, without_rank
from curate.teachers.flag_reader import IDS, LABEL, LabeledRows, Near, Reader, memory_that_is_kept
from curate.teachers.flag_rows import TEXT, flag_columns, joined
from curate.teachers.flag_summary import FlagSummary, refuse_out, writing_beside
from curate.teachers.label_columns import class_order, class_places, is_list, named_classes, prob_widths
from curate.teachers.noise import Floats, Ints, transition_json
from curate.teachers.score_kernel import in_float32
from curate.teachers.scoring import Scorer, usable_rows

READ_BYTES = 4_000_000  # of a column at once
OUT_ROWS = 100_000  # of a row group
_LOOKED_AT = (1.05, 8.0)  # times the rows that a fit takes

OUT_COLUMNS = pa.schema(
    [
        pa.field("label", TEXT),
        pa.field("risk", pa.float64()),  # null = cannot be judged, the reason says why
        RANK,
        pa.field("flagged", pa.bool_(), nullable=False),
        pa.field("suggested_label", TEXT),
        pa.field("suggested_prob", pa.float64()),
        pa.field("reason", TEXT, nullable=False),
    ]
)

Progress = Callable[[int, int | None], None]


def flag_table(
    path: str | Path,
    out: str | Path,
    *,
    classes: Sequence[str] | None = None,
    independent: bool | None = None,
    same_features: Sequence[Sequence[str]] = (),
    progress: Progress | None = None,
) -> FlagSummary:
    """Judge every row of a Parquet table and write the result beside it, in input order.

    The table has `label` (string, dictionary or integer) and a list column `prob_<teacher>` for each teacher;
    `sample_id` where there is one is carried over, else the row number (int64) stands there. Other columns are
    not read. A null probability list means that the teacher has no answer. The class order is `classes`, else the
    Parquet metadata key `classes` (a JSON list, or comma-separated), else the sorted distinct labels; integer
    labels without a class list that all lie in 0 … K - 1 are taken for positions. A probability column whose field
    has a metadata key `classes` of its own is mapped by name; labels of classes that it does not know are not
    judged by that teacher. Teachers share errors that are together in a set of `same_features`, or whose fields have the
    same metadata key `features`.

    A row without a usable label or with invalid probabilities is written with a null risk, not flagged, and a
    reason that says so. Two passes over the file: fit on a bounded sample chosen by a hash of the id, then score
    batch by batch. The result does not depend on the batches.

    Raises:
        InputError: not a Parquet file, no label or teacher column, widths that do not fit, no row with a class.
        ConfigError: an `out` that cannot be written, or is the table itself; a teacher in `same_features` that is none.
        StageError: the disk is full, or fails.
    """
    source = Path(path)
    refuse_out(Path(out), source)
    with memory_that_is_kept(), _open(source) as file:
        teachers = _teachers(file.schema_arrow, source)
        features = column_features(file, teachers, source, same_features)
        if is_list(file.schema_arrow.field(LABEL).type):
            from curate.teachers.flag_multi_table import flag_multi_table  # noqa: PLC0415 - it stands on this module

            return flag_multi_table(file, source, Path(out), teachers, classes=classes, progress=progress)
        named = named_classes(file, teachers, source)
        width = prob_widths(file, [name for name in teachers if name not in named], source)
        order, order_from = class_order(file, LABEL, width, classes, source)
        order_from = order_from if len(named) < len(teachers) else "columns"
        places = {name: class_places(name, listed, order, source) for name, listed in named.items()}
        reader = Reader(file, source, teachers, order, places, IDS in file.schema_arrow.names)
        model = _fit(reader, independent=independent, features=features)
        warnings = order_warnings(model.moved, len(teachers), order, places)
        counts = _write(reader, model, Path(out), warnings, progress)
    return FlagSummary(
        counts[0], counts[1], counts[2], model.noise_rate, model.estimates, model.estimates_agree, model.teachers,
        model.regime, model.why, RISK_KIND, _transition(model, order), tuple(order), Path(out),
        order_from, warnings=warnings,
    )  # fmt: skip


def _transition(model: FlagModel, classes: Sequence[str]) -> Mapping[str, Any]:
    return transition_json(model.transition, classes) if model.transition.size else {}


def order_warnings(
    found: Sequence[Moved], n_teachers: int, order: Sequence[str], places: Mapping[str, Ints]
) -> tuple[Mapping[str, Any], ...]:
    """Return a warning for each set of columns that seem to stand in another order, alike in all of the set."""
    alike: dict[tuple[Any, ...], list[Moved]] = {}
    for moved in found:
        listed = places.get(schema.PROB_PREFIX + moved.teacher)
        alike.setdefault((moved.places, None if listed is None else tuple(listed)), []).append(moved)
    n_unnamed = n_teachers - len(places)
    warnings = []
    for (_, listed), some in alike.items():
        names = [schema.PROB_PREFIX + moved.teacher for moved in some]
        columns = list(range(len(order))) if listed is None else [-1] * len(order)
        for column, k in enumerate(listed or ()):
            columns[k] = column
        remedy = (
            f"Check the order; what would fit is the metadata key `classes` of the field {names[0]}: {{classes}}"
        )
        if listed is None and len(some) == n_unnamed:
            remedy = "Check the order; what would fit: --classes {classes} (or the metadata key `classes`)"
        warnings.append(order_warning(names, some[0], order, columns, remedy))
    return tuple(warnings)


def _open(path: Path) -> pq.ParquetFile:
    try:
        about = pq.read_metadata(path)
        flat = LABEL in {about.schema.column(at).path for at in range(about.num_columns)}
        # without these every row group stays in memory once read, and a large one is read as a whole
        streams = {"pre_buffer": False, "buffer_size": READ_BYTES}
        return pq.ParquetFile(path, metadata=about, read_dictionary=[LABEL] * flat, **streams)
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
class _Sample:
    """Rows to fit on, in the order of the hashes of their ids, and what was seen of the teachers on the way."""

    given: Ints
    probs: Floats  # (n, T, K) float32
    n_answers: Ints  # (T,)
    n_invalid: Ints  # (T,)


def _fit(reader: Reader, *, independent: bool | None, features: Mapping[str, str]) -> FlagModel:
    """Fit on the usable rows with the smallest keys.

    Which rows those are is known from ids and labels; the probabilities are then read once. A few rows more than
    needed are looked at, in case some are not usable; where that is not enough, many more are, up to a bound.
    """
    limit = fit_rows(len(reader.columns), len(reader.classes))
    for factor in _LOOKED_AT:
        near = reader.near(int(limit * factor))
        sample = _read_sample(reader, near, limit)
        if len(sample.given) == limit or len(near.rows) == near.n_labeled:
            break
    _check_answers(reader, sample, near.n_labeled)
    return fit_flags(sample.given, reader.teachers, sample.probs, independent=independent, features=features)


def _read_sample(reader: Reader, near: Near, limit: int) -> _Sample:
    """Return the first `limit` usable ones of the near rows."""
    n_near, n_teachers = len(near.rows), len(reader.columns)
    given = np.full(n_near, -1)
    probs = np.empty((n_teachers, n_near, len(reader.classes)), dtype=np.float32)
    usable = np.zeros(n_near, dtype=bool)
    counts = np.zeros((2, n_teachers), dtype=np.int64)
    by_row = np.argsort(near.rows, kind="stable")
    rows = near.rows[by_row]
    for batch in reader.batches():
        first = batch.rows.first_row
        part = slice(*np.searchsorted(rows, [first, first + len(batch.rows.given)]))
        at, into = rows[part] - first, by_row[part]
        found = [p[at] for p in batch.probs]
        given[into] = batch.rows.given[at]
        usable[into], answered, bad = usable_rows(given[into], found)
        for teacher, values in enumerate(found):
            probs[teacher, into] = in_float32(values, np.empty(values.shape, np.float32))
        counts += np.stack([answered.sum(axis=0), np.bincount(bad[bad >= 0], minlength=n_teachers)])
    chosen: Ints | slice = np.flatnonzero(usable)[:limit]
    if usable[:limit].all():
        chosen = slice(limit)
    given, probs = given[chosen], probs[:, chosen]
    return _Sample(given, probs.transpose(1, 0, 2), counts[0], counts[1])


def _check_answers(reader: Reader, sample: _Sample, n_labeled: int) -> None:
    if not reader.n_rows:
        return
    for name, n_answers, n_invalid in zip(reader.columns, sample.n_answers, sample.n_invalid, strict=True):
        if not n_answers and n_invalid:
            raise InputError(
                f"The column {name} needs probabilities: finite, at least 0, each row summing to one. None of the "
                f"{n_invalid} rows looked at is like that; turn logits or percentages into probabilities first."
            )
    if not n_labeled:
        shown = ", ".join(reader.classes[:10])
        raise InputError(
            f"None of the {reader.n_rows} labels is one of the {len(reader.classes)} classes ({shown}). Give the "
            "classes in the order of the probabilities with --classes, written as the labels are."
        )


def _write(
    reader: Reader, model: FlagModel, out: Path, warnings: Sequence[Mapping[str, Any]], progress: Progress | None
) -> tuple[int, int, int]:
    """Write every row to a temporary file beside `out` and rename it; return (n, n_flagged, n_unjudged)."""
    key = pa.field(IDS, pa.string() if reader.has_ids else pa.int64())
    fields = pa.schema([key, *OUT_COLUMNS])
    n = n_flagged = n_unjudged = 0
    about: dict[str, Any] = {
        "noise_rate": model.noise_rate.to_json(),
        "regime": model.regime,
        "risk_kind": model.risk_kind,
        "estimates_agree": model.estimates_agree,
        "transition": _transition(model, reader.classes),
    }
    if warnings:
        about["warnings"] = [dict(warning) for warning in warnings]
    waiting: list[tuple[LabeledRows, Scores]] = []
    scorer = Scorer(model, reader.teachers, workers=os.cpu_count() or 1)
    with scorer, writing_beside(out, fields, about) as writer, ranking(out, fields) as ranked:
        for batch in reader.batches():
            scores = scorer.score(batch.rows.given, batch.probs)
            waiting.append((batch.rows, scores))
            n += len(batch.rows.given)
            n_flagged += int(scores.flagged.sum())
            n_unjudged += int((~scores.judged).sum())
            if n == reader.n_rows or sum(len(rows.given) for rows, _ in waiting) >= OUT_ROWS:
                rows, scored = joined(waiting)
                columns = flag_columns(rows, scored, model, reader.classes, reader.teachers)
                ids = None if rows.ids is None else rows.ids.to_pylist()
                risk = np.where(scored.judged, scored.risk, np.nan)
                ranked.add(ids, risk, pa.Table.from_arrays(columns, schema=without_rank(fields)))
                waiting.clear()
            if progress:
                progress(n, reader.n_rows)
        ranked.write(writer, fields)
    return n, n_flagged, n_unjudged
