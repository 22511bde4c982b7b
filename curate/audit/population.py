"""The labels that an audit speaks for: every given label of a readable image, with its risk and flag."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from curate import schema
from curate.audit.design import POPULATION
from curate.errors import ConfigError, InputError
from curate.manifest.read import LoadedRelease
from curate.teachers.label_columns import is_list

SEPARATOR = "; "  # between several labels of a row
NO_CLASS = "(none)"  # an empty list: none of the classes
_LABELS = ("label_id", "sample_id", "uri", "given_label", "bbox", "content_sha256")


def of_release(release: LoadedRelease, further_risk: pa.Table | None = None) -> pa.Table:
    """Return `POPULATION` of a version: its released labels and those that a verdict holds back.

    Args:
        release: the version.
        further_risk: `label_id`, `risk` of labels without a finding; they order what the findings leave out.
    """
    held = release.excluded.filter(
        pc.and_(pc.equal(release.excluded["stage"], "verdict"), pc.is_null(release.excluded["error_code"]))
    )
    parts = [table.select(_LABELS) for table in (release.data, held)]
    labels = pa.concat_tables(parts, promote_options="permissive")
    return of_labels(labels.filter(pc.is_valid(labels["label_id"])), release.findings, further_risk)


def of_labels(labels: pa.Table, findings: pa.Table, further_risk: pa.Table | None = None) -> pa.Table:
    """Return `POPULATION` from labels and what the teachers found about them.

    A finding counts where it is about one label and its check has a cut: `flagged` is not null. Of several about
    one label the flagged one counts, then the riskiest.

    Args:
        labels: `label_id`, `sample_id`, `uri`, `given_label`, `bbox`, `content_sha256`.
        findings: `schema.FINDINGS`.
        further_risk: see `of_release`.
    """
    found = label_error_findings(findings)
    at = pc.index_in(labels["label_id"], value_set=found["label_id"].combine_chunks())
    risk = found["risk"].take(at)
    if further_risk is not None:
        place = pc.index_in(labels["label_id"], value_set=further_risk["label_id"].combine_chunks())
        risk = pc.coalesce(risk, further_risk["risk"].take(place))
    columns = {name: labels[name] for name in _LABELS} | {
        "risk": pc.fill_null(risk, 0.0),
        "flagged": pc.fill_null(found["flagged"].take(at), False),  # noqa: FBT003 - pyarrow's fill value
        "suggested_label": found["suggested_label"].take(at),
        "finding_id": found["finding_id"].take(at),
    }
    return pa.table({name: columns[name] for name in POPULATION.names}).cast(POPULATION).combine_chunks()


def label_error_findings(findings: pa.Table) -> pa.Table:
    """Return the finding that counts for each label, of the checks that hold teachers against labels.

    These are those that read teachers' probabilities, and all that are called `…_noise` (of boxes, masks, tracks).
    """
    from curate.check import discover  # noqa: PLC0415 - checks are plug-ins; loaded when they are asked for

    names = pa.array([check.name for check in discover().values() if check.after_teachers], pa.string())
    of_teachers = pc.or_(pc.is_in(findings["check"], value_set=names), pc.ends_with(findings["check"], "_noise"))
    about = pc.and_(of_teachers, pc.is_valid(findings["label_id"]))
    found = findings.filter(pc.and_(about, pc.is_valid(findings["flagged"])))
    keys = [
        ("label_id", "ascending"),
        ("flagged", "descending"),
        ("risk", "descending"),
        ("finding_id", "ascending"),
    ]
    found = found.take(pc.sort_indices(found, sort_keys=keys))
    ids = found["label_id"].to_pylist()
    first = [at for at in range(len(ids)) if at == 0 or ids[at] != ids[at - 1]]
    return found.take(pa.array(first, pa.int64()))


def of_flags(table: pa.Table) -> pa.Table:
    """Return `POPULATION` of a table of flags of labels (`read_flags`); of claims see `claims`.

    A row is a label; of several labels a row, the flags are about the whole list, and so is what is asked. It needs
    `risk` and `flagged`; `sample_id` (or `label_id`), `label`, `suggested_label` and a column that names the image
    (`image`, `uri`, `file`) are used where they are there. A risk that is null counts as 0.
    """
    names = set(table.column_names)
    key = next((name for name in ("label_id", "sample_id") if name in names), None)
    n = table.num_rows
    ids = pc.cast(table[key], pa.string()) if key else pa.array([str(row) for row in range(n)])
    image = next((name for name in ("image", "uri", "file") if name in names and _is_text(table, name)), key)
    columns = {
        "label_id": ids,
        "sample_id": ids,
        "uri": pc.cast(table[image], pa.string()) if image else ids,
        "given_label": _text(table, "label" if "label" in names else "given_label"),
        "bbox": pa.nulls(n, schema.BBOX),
        "risk": pc.fill_null(table["risk"], 0.0),
        "flagged": table["flagged"],
        "suggested_label": _text(table, "suggested_label"),
        "finding_id": pa.nulls(n, pa.string()),
        "content_sha256": pa.nulls(n, pa.string()),
    }
    return pa.table(columns).cast(POPULATION).combine_chunks()


def read_flags(path: Path) -> pa.Table:
    """Return a table of flags with `risk` (double, null = not judged) and `flagged` (never null).

    Raises:
        ConfigError: there is no file.
        InputError: it is no Parquet, or a column is missing or of the wrong kind.
    """
    if not path.is_file():
        raise ConfigError(
            f"There is no table at {path}. Write one with: curate flag TABLE.parquet --out {path.name}"
        )
    try:
        table = pq.read_table(path)
    except (OSError, pa.ArrowException) as error:
        raise InputError(f"{path} cannot be read as Parquet: {error}.") from error
    missing = [name for name in ("risk", "flagged") if name not in table.column_names]
    if missing:
        raise InputError.from_missing_columns(missing, table.column_names, needed_by="An audit of a table")
    risk = pc.cast(table["risk"], pa.float64())
    if not bool(np.isfinite(risk.drop_null().to_numpy()).all()):
        raise InputError(f"{path}: every risk must be a number or null; some are infinite or not a number.")
    flagged = pc.fill_null(table["flagged"], False)  # noqa: FBT003 - pyarrow's fill value
    told = {"risk": risk, "flagged": flagged}
    for name, values in told.items():
        table = table.set_column(table.column_names.index(name), name, values)
    return table


def _is_text(table: pa.Table, name: str) -> bool:
    kind = table.schema.field(name).type
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_dictionary(kind))


def _text(table: pa.Table, name: str) -> pa.ChunkedArray | pa.Array:
    if name not in table.column_names:
        return pa.nulls(table.num_rows, pa.string())
    if is_list(table.schema.field(name).type):
        return pa.array([None if one is None else joined(one) for one in table[name].to_pylist()], pa.string())
    return pc.cast(table[name], pa.string())


def joined(labels: Sequence[object]) -> str:
    """Return several labels as one text, the same whatever their order."""
    return SEPARATOR.join(sorted(str(one) for one in labels)) or NO_CLASS
