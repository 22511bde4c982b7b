"""What a check may hand back: columns, dtypes and ranges. A result that breaks it is named, and is not published."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from curate import schema
from curate.errors import InputError


def conforming_findings(check: str, table: pa.Table) -> pa.Table:
    """Return findings with the columns in the order of `schema.FINDINGS`.

    Raises:
        InputError: a column is missing, strange, of another dtype or null where none may be, or a risk is outside
            [0, 1]. Names check and column.
    """
    found = _conforming(check, table, schema.FINDINGS, "findings")
    inside = pc.and_(pc.greater_equal(found["risk"], 0.0), pc.less_equal(found["risk"], 1.0))
    outside = found.filter(pc.invert(inside))
    if outside.num_rows:
        first = outside.slice(0, 1).to_pylist()[0]
        raise InputError(
            f"The column 'risk' of the check {check} must be in [0, 1]; it is not in {outside.num_rows:,} of "
            f"{found.num_rows:,} findings, as {first['risk']:g} for the sample {first['sample_id']}. None of its "
            f"findings is used. Scale its risk, 1 being the worst."
        )
    return found


def conforming_statistics(check: str, table: pa.Table) -> pa.Table:
    """Return statistics with the columns in the order of `schema.STATISTICS`.

    Raises:
        InputError: a column is missing, strange, of another dtype or null where none may be. Names check and column.
    """
    return _conforming(check, table, schema.STATISTICS, "statistics")


def _conforming(check: str, table: object, wanted: pa.Schema, what: str) -> pa.Table:
    remedy = f"curate.check.build_{what} makes such a table."
    if not isinstance(table, pa.Table):
        raise InputError(
            f"The check {check} must give its {what} as a pyarrow.Table; given: {table!r:.80}. {remedy}"
        )
    lacking = [name for name in wanted.names if name not in table.column_names]
    if lacking:
        raise InputError(f"The {what} of the check {check} lack the column {lacking[0]!r}. {remedy}")
    strange = [name for name in table.column_names if name not in wanted.names]
    if strange or table.num_columns != len(wanted):
        named = strange[0] if strange else "one twice"
        raise InputError(f"The {what} of the check {check} have a column too many: {named!r}. {remedy}")
    for field in wanted:
        column = table[field.name]
        if column.type != field.type:
            raise InputError(
                f"The column {field.name!r} in the {what} of the check {check} must be {field.type}; it is "
                f"{column.type}. {remedy}"
            )
        if column.null_count and not field.nullable:
            raise InputError(
                f"The column {field.name!r} in the {what} of the check {check} is null in {column.null_count:,} of "
                f"{table.num_rows:,} rows, and must not be."
            )
    return pa.Table.from_arrays([table[name] for name in wanted.names], schema=wanted)
