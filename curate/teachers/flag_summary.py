"""What `curate flag` found in a table, and how its rows reach the disk."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from curate.errors import ConfigError, StageError
from curate.schema import canonical_json
from curate.teachers.flag_model import TeacherWeight
from curate.teachers.noise import NoiseRate

_DISTINCT = {
    "sample_id",
    "risk",
    "rank",
    "suggested_prob",
    "reason",
}  # next to no value twice: a dictionary only costs time
_DICTIONARY_BYTES = 64_000_000  # of a row group: sentences, most of them shared by many rows
METADATA_KEY = "curate"  # of a table of flags: what they stand on, as canonical JSON


@dataclass(frozen=True, slots=True)
class FlagSummary:
    """What `curate flag` prints.

    Attributes:
        n: input rows, all of them in the output.
        n_flagged: rows whose label is taken for wrong.
        n_unjudged: rows that could not be judged.
        noise_rate: the estimate that counts.
        estimates: all of them by name.
        estimates_agree: whether they are close enough to act on, see `FlagModel.estimates_agree`.
        teachers: kept or left out, why, weight.
        regime: "independent" | "shared" | "insufficient data".
        why: a sentence on the regime and the cut.
        risk_kind: "rank": no audit says that risks are probabilities.
        transition: which class is taken for which, see `noise.transition_json`; empty where none was fitted.
        classes: in the order of the probabilities.
        order_from: where that order is from, one of `label_columns.ORDERS`, or "columns" where each names its own.
        by_class: whether `estimates` are of one class each (several labels a row), not of the same rate.
        warnings: that columns seem to stand in another order, see `column_order.order_warning`.
        out: the table that was written.
        answers: of several labels a row, how many answers (is this class there?) were judged and flagged; else None.
    """

    n: int
    n_flagged: int
    n_unjudged: int
    noise_rate: NoiseRate
    estimates: Mapping[str, NoiseRate]
    estimates_agree: bool
    teachers: tuple[TeacherWeight, ...]
    regime: str
    why: str
    risk_kind: str
    transition: Mapping[str, Any]
    classes: tuple[str, ...]
    out: Path
    order_from: str
    by_class: bool = False
    warnings: tuple[Mapping[str, Any], ...] = ()
    answers: tuple[int, int] | None = None

    def to_json(self) -> dict[str, Any]:
        """Return JSON values, for `--json`."""
        return {
            "n": self.n,
            "n_flagged": self.n_flagged,
            "n_unjudged": self.n_unjudged,
            "noise_rate": self.noise_rate.to_json(),
            "estimates": {name: rate.to_json() for name, rate in self.estimates.items()},
            "estimates_agree": self.estimates_agree,
            "teachers": [teacher.to_json() for teacher in self.teachers],
            "regime": self.regime,
            "why": self.why,
            "risk_kind": self.risk_kind,
            "transition": dict(self.transition),
            "classes": list(self.classes),
            "order_from": self.order_from,
            "by_class": self.by_class,
            "warnings": [dict(warning) for warning in self.warnings],
            "out": str(self.out),
        } | (
            {} if self.answers is None else dict(zip(("n_answers", "n_answers_flagged"), self.answers, strict=True))
        )


def refuse_out(out: Path, source: Path) -> None:
    """Refuse, before anything is computed, an output that cannot be written or would replace its source.

    Raises:
        ConfigError: the source itself, a folder, or in a folder that cannot be made or written.
    """
    if out.exists() and source.exists() and out.samefile(source):
        raise ConfigError(f"--out {out} is the table that is read; curate never changes it. Give another path.")
    if out.is_dir():
        raise ConfigError(
            f"--out needs a file to write; {out} is a folder. Give a name in it: {out / 'flags.parquet'}"
        )
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out.parent):
            pass
    except OSError as error:
        raise ConfigError(
            f"--out {out} cannot be written: {error.strerror}. Give a path in a folder that you may write to."
        ) from error


def _coded(field: pa.Field) -> bool:
    return bool(pa.types.is_dictionary(field.type))


@contextmanager
def writing_beside(out: Path, fields: pa.Schema, about: Mapping[str, Any]) -> Iterator[pq.ParquetWriter]:
    """Write to a temporary file beside `out`, synced and renamed at the end; nothing is left where it fails.

    Args:
        out: the table to write; its folder is made.
        fields: of the table; dictionaries are written as such, and read as what they hold.
        about: kept in the table's metadata under METADATA_KEY.

    Raises:
        StageError: the disk is full, or fails.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    temporary = out.with_name(f".{out.name}.{os.getpid()}.tmp")
    try:
        with pq.ParquetWriter(
            temporary,
            fields.with_metadata({METADATA_KEY: canonical_json(about)}),  # read where the schema is stored, …
            compression="zstd",
            use_dictionary=[field.name for field in fields if field.name not in _DISTINCT or _coded(field)],
            dictionary_pagesize_limit=_DICTIONARY_BYTES,
            store_schema=not any(
                map(_coded, fields)
            ),  # what is handed over as a dictionary is read as what it holds
        ) as writer:
            if any(map(_coded, fields)):  # … and this where it is not
                writer.add_key_value_metadata({METADATA_KEY: canonical_json(about)})
            yield writer
        with temporary.open("rb+") as written:
            os.fsync(written.fileno())
        temporary.replace(out)
    except OSError as error:
        raise StageError(
            f"{out} could not be written: {error}. What was there before is as it was. Make room, or give another --out."
        ) from error
    finally:
        temporary.unlink(missing_ok=True)
