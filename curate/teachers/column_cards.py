"""What a table and its caller say of the teachers in it: which stand on the same features and so share errors."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pyarrow.parquet as pq

from curate.errors import ConfigError, InputError, did_you_mean
from curate.schema import PROB_PREFIX

METADATA_KEY = "features"  # of the field of a probability column


def column_features(
    file: pq.ParquetFile, columns: Sequence[str], path: Path, same: Sequence[Sequence[str]] = ()
) -> dict[str, str]:
    """Return teacher -> what it stands on, for those of which the table or the caller says it.

    Args:
        file: of which a column's field may have the metadata key `features`, a name.
        columns: `prob_<teacher>`.
        path: for messages.
        same: teachers that stand on the same features, beside what the table says; sets that overlap are one.

    Raises:
        ConfigError: a set of fewer than two, or with a teacher that the table does not have.
        InputError: a metadata key that is no text.
    """
    found = {}
    for column in columns:
        raw = (file.schema_arrow.field(column).metadata or {}).get(METADATA_KEY.encode(), b"")
        try:
            text = raw.decode("utf-8").strip()
        except UnicodeDecodeError as error:
            raise InputError(
                f"{path}: the metadata key '{METADATA_KEY}' of the column {column} is no UTF-8 text. Write a name."
            ) from error
        if text:
            found[column.removeprefix(PROB_PREFIX)] = text
    names = [column.removeprefix(PROB_PREFIX) for column in columns]
    for group in same:
        _refuse_unknown(group, names)
        joined = {found[name] for name in group if name in found}
        members = {*group, *(name for name, features in found.items() if features in joined)}
        found |= dict.fromkeys(members, min(joined, default="the same as " + ", ".join(sorted(members))))
    return found


def _refuse_unknown(group: Sequence[str], names: Sequence[str]) -> None:
    told = f"--same-features is a comma-separated list of two or more teachers; given: {','.join(group)!r}."
    for name in group:
        if name not in names:
            hint = did_you_mean(name, names)
            raise ConfigError(
                f"{told} There is no teacher {name!r}; there are: {', '.join(names)}. {hint}".rstrip()
            )
    if len(set(group)) < 2:
        raise ConfigError(told)
