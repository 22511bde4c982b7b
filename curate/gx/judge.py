"""Great Expectations run shard by shard, closed where it fails open."""

from __future__ import annotations

import logging
import threading
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate.gx.suites import Expectation, columns_of

Outcome = Literal["met", "not met", "errored", "not applicable"]

_RESULT_FORMAT = {
    "result_format": "COMPLETE",
    "exclude_unexpected_values": True,  # no value of a row gets into evidence
    "partial_unexpected_count": 0,
    "return_unexpected_index_query": False,
    "unexpected_index_column_names": ["__row__"],
}
_UNIQUE = "expect_column_values_to_be_unique"
_COMPOUND_UNIQUE = "expect_compound_columns_to_be_unique"
_ROW_COUNT = "expect_table_row_count_to_be_between"
_PER_ROW = (
    "expect_column_values_",
    "expect_column_value_lengths_",
    "expect_column_pair_values_",
    "expect_compound_",
    "expect_select_column_",
)
_one_at_a_time = threading.Lock()  # Great Expectations keeps its context in globals


@dataclass(slots=True)
class Tally:
    """What came of one expectation: outcome, rows that were evaluated, rows that fail it."""

    outcome: Outcome = "not applicable"
    n_evaluated: int = 0
    rows: list[int] = field(default_factory=list)
    n_unexpected: int = 0
    why: str | None = None


def judge(table: pa.Table, expectations: Sequence[Expectation], shard_rows: int) -> list[Tally]:
    """Judge a table by expectations and return a tally for each, in their order."""
    tallies = [Tally() for _ in expectations]
    n_shards = max(1, -(-table.num_rows // shard_rows))
    ready: list[Expectation] = []
    for expectation, tally in zip(expectations, tallies, strict=True):
        tally.why = expectation.error or _not_judgeable(expectation, table.column_names, n_shards)
        if tally.why:
            tally.outcome = "errored"
        else:
            ready.append(expectation)
    columns = sorted({column for expectation in ready for column in columns_of(expectation)})
    with _one_at_a_time, _Quiet():
        for shard in range(n_shards):
            start = shard * shard_rows
            frame = _frame(table.slice(start, shard_rows).select(columns), start)
            _judge_shard(frame, ready, tallies)
    if n_shards > 1:
        _judge_uniqueness_across(table, ready, tallies)
    for expectation, tally in zip(expectations, tallies, strict=True):
        _close(expectation, tally)
    return tallies


def _not_judgeable(expectation: Expectation, columns: Sequence[str], n_shards: int) -> str | None:
    missing = [column for column in columns_of(expectation) if column not in columns]
    if missing:
        return f"the table has no column {', '.join(missing)}"
    if n_shards > 1 and not expectation.type.startswith(_PER_ROW):
        if expectation.type == _ROW_COUNT and expectation.kwargs.get("max_value") is None:
            return None
        return f"{expectation.type} is about the whole table and cannot be judged in {n_shards} shards"
    return None


def _frame(table: pa.Table, start: int) -> Any:  # noqa: ANN401 - pandas.DataFrame
    import pandas as pd  # noqa: PLC0415 - the only engine of Great Expectations that takes a table in memory

    frame = pd.DataFrame(index=range(table.num_rows))
    for name in table.column_names:
        column = table[name]
        if pa.types.is_nested(column.type):  # lists cannot be hashed; only whether they are there can be judged
            column = pc.if_else(column.is_valid(), pa.scalar("nested"), pa.scalar(None, pa.string()))
        values = column.to_pandas()
        is_integer = pa.types.is_integer(column.type)
        frame[name] = values.astype("Int64") if is_integer and column.null_count else values
    frame["__row__"] = np.arange(start, start + table.num_rows)
    return frame


def _judge_shard(frame: Any, ready: Sequence[Expectation], tallies: Sequence[Tally]) -> None:  # noqa: ANN401 - pandas.DataFrame
    import great_expectations as gx  # noqa: PLC0415 - takes seconds to import
    from great_expectations.data_context.types.base import ProgressBarsConfig  # noqa: PLC0415 - same
    from great_expectations.expectations.registry import get_expectation_impl  # noqa: PLC0415 - same

    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = ProgressBarsConfig(globally=False, metric_calculations=False)
    suite = gx.ExpectationSuite(name="suite")
    loaded: set[int] = set()
    for expectation in ready:
        try:
            implementation = get_expectation_impl(expectation.type)
            meta = {"position": expectation.position}
            suite.add_expectation(implementation(**expectation.kwargs, meta=meta))
        except Exception as error:  # noqa: BLE001 - whatever is wrong with one expectation is its outcome
            _set_errored(tallies[expectation.position], f"{type(error).__name__}: {error}")
        else:
            loaded.add(expectation.position)
    batch = context.data_sources.pandas_default.read_dataframe(frame)
    report = batch.validate(suite, result_format=_RESULT_FORMAT)
    seen: set[int] = set()
    for result in report.results:
        position = int(result.expectation_config.meta["position"])
        seen.add(position)
        _count(tallies[position], result)
    for position in loaded - seen:
        _set_errored(tallies[position], "Great Expectations gave no result for it")


def _count(tally: Tally, result: Any) -> None:  # noqa: ANN401 - GX's validation result
    """Add the result of one shard: an error outweighs a failure, and a failure what was met."""
    raised = _raised(result.exception_info)
    details = result.result
    if raised or not details:
        _set_errored(tally, raised or "no result")
        return
    if "element_count" not in details:  # about the table, not about rows
        tally.n_evaluated += 1
        _set(tally, "met" if result.success else "not met")
        return
    n_evaluated = int(details["element_count"]) - int(details.get("missing_count") or 0)
    tally.n_evaluated += n_evaluated
    rows = _rows(details.get("unexpected_index_list") or [])
    tally.rows += rows
    tally.n_unexpected += int(details.get("unexpected_count") or 0)
    if len(rows) < int(details.get("unexpected_count") or 0):
        _set_errored(tally, "the list of failing rows was cut")
    elif n_evaluated or not result.success:
        _set(tally, "met" if result.success else "not met")


def _raised(info: Mapping[str, Any]) -> str | None:
    """Return the message of an exception; Great Expectations keeps one per metric, or one for all."""
    parts = [info] if "raised_exception" in info else [part for part in info.values() if isinstance(part, dict)]
    messages = sorted(str(part.get("exception_message")) for part in parts if part.get("raised_exception"))
    return messages[0].splitlines()[0] if messages and messages[0] else ("an exception" if messages else None)


def _rows(index_list: Sequence[Mapping[str, Any]]) -> list[int]:
    """Return the row numbers; Great Expectations gives one mapping per row, or one per value with all its rows."""
    rows: list[int] = []
    for item in index_list:
        numbers = item["__row__"]
        rows += [int(n) for n in numbers] if isinstance(numbers, list | tuple | np.ndarray) else [int(numbers)]
    return rows


def _set(tally: Tally, outcome: Outcome) -> None:
    order: tuple[Outcome, ...] = ("not applicable", "met", "not met", "errored")
    tally.outcome = max(tally.outcome, outcome, key=order.index)


def _set_errored(tally: Tally, why: str) -> None:
    tally.outcome, tally.why = "errored", tally.why or why


def _judge_uniqueness_across(table: pa.Table, ready: Sequence[Expectation], tallies: Sequence[Tally]) -> None:
    """Judge uniqueness over all shards at once: Great Expectations sees one shard at a time."""
    for expectation in ready:
        if expectation.type not in {_UNIQUE, _COMPOUND_UNIQUE}:
            continue
        tally = tallies[expectation.position]
        columns = columns_of(expectation)
        keys = table.select(columns).append_column("__row__", pa.array(np.arange(table.num_rows)))
        if expectation.type == _UNIQUE:
            keys = keys.filter(pc.is_valid(keys[columns[0]]))
        counted = keys.group_by(columns).aggregate([([], "count_all"), ("__row__", "list")])
        twice = counted.filter(pc.greater(counted["count_all"], 1))
        tally.rows = [row for rows in twice["__row___list"].to_pylist() for row in rows]
        tally.n_unexpected = len(tally.rows)
        if tally.rows:
            _set(tally, "not met")


class _Quiet:
    """Keep Great Expectations' warnings and log lines off the terminal; what they say is in the outcomes."""

    def __enter__(self) -> None:
        self._warnings = warnings.catch_warnings()
        self._warnings.__enter__()
        warnings.simplefilter("ignore")
        self._logger = logging.getLogger("great_expectations")
        self._level = self._logger.level
        self._logger.setLevel(logging.CRITICAL)

    def __exit__(self, *_: object) -> None:
        self._logger.setLevel(self._level)
        self._warnings.__exit__(None, None, None)


def _close(expectation: Expectation, tally: Tally) -> None:
    """Turn "nothing was evaluated" into a failure, unless the suite says that nulls are fine."""
    if tally.outcome == "not applicable" and not expectation.nullable:
        tally.outcome, tally.why = "not met", "no row has a value in the column"
