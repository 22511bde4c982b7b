"""Great Expectations on Arrow tables: committed suites, judged in shards, closed where it fails open.

A suite is `expectations/NAME.json`: `name`, `key` (the column that names a row), optionally `only_where_null`
(a column; rows in which it has a value are left out first), and `expectations`, each with `type`, `kwargs`,
`severity` (critical, warning, info) and `meta`: `clauses` (what it is evidence for) and `nullable` (a column of
nulls is fine). The kwarg value `{"$allowed": "classes"}` is filled in with `allowed["classes"]` when it runs.

What Great Expectations lets pass and this module does not: a type it does not know (dropped with a log line), an
empty table, a column of nulls under a set or a range, a missing column (an exception that reads like a failure),
lists of failing rows that are cut at 200 or 20, uniqueness across shards.
"""

from __future__ import annotations

import hashlib
import json
import logging
import threading
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate import schema
from curate.check import build_statistics
from curate.errors import ConfigError, did_you_mean

NAME = "expectations"
ALLOWED = "$allowed"
Outcome = Literal["met", "not met", "errored", "not applicable"]

FAILING = pa.schema(
    [
        pa.field("suite", pa.string(), nullable=False),
        pa.field("position", pa.int32(), nullable=False),  # of the expectation in its suite, from 0
        pa.field("type", pa.string(), nullable=False),
        pa.field("column", pa.string()),
        pa.field("row_id", pa.string()),  # value of the suite's key column
    ]
)

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


@dataclass(frozen=True, slots=True)
class Expectation:
    """One line of a suite, with its placeholders filled in; `error` says why it cannot be judged."""

    position: int
    type: str
    kwargs: Mapping[str, Any]
    severity: str
    clauses: tuple[str, ...]
    nullable: bool
    error: str | None = None


@dataclass(slots=True)
class _Tally:
    outcome: Outcome = "not applicable"
    n_evaluated: int = 0
    rows: list[int] = field(default_factory=list)
    n_unexpected: int = 0
    why: str | None = None


class Validation(NamedTuple):
    """What a suite says about a table.

    Attributes:
        statistics: `schema.STATISTICS`: `expectations.SUITE`, the share of critical expectations that are met;
            the outcome is "errored" where one could not be judged, else empty for the gates to fill.
        evidence: JSON values; no clock, no path, no value of a row.
        failing: `FAILING`, one row per expectation and row that fails it, sorted.
    """

    statistics: pa.Table
    evidence: dict[str, Any]
    failing: pa.Table


def suite_folder() -> Path:
    """Return the folder of the committed suites: package data of a wheel, or the top of a checkout."""
    here = Path(__file__).parent
    packaged = here / "expectations"
    return packaged if packaged.is_dir() else here.parent / "expectations"


def load_suite(suite: str, folder: Path | None = None) -> dict[str, Any]:
    """Return the suite called `suite` as it stands in its file.

    Raises:
        ConfigError: there is no such suite, or the file is none.
    """
    folder = folder or suite_folder()
    names = sorted(path.stem for path in folder.glob("*.json"))
    if suite not in names:
        hint = did_you_mean(suite, names)
        raise ConfigError(f"There is no suite {suite!r}. Suites: {', '.join(names) or 'none'}. {hint}".rstrip())
    try:
        document = json.loads((folder / f"{suite}.json").read_text(encoding="utf-8"))
    except ValueError as error:
        raise ConfigError(f"The suite {suite}.json is not JSON: {error}") from error
    items = document.get("expectations") if isinstance(document, dict) else None
    if not isinstance(items, list) or not items or not all(isinstance(i, dict) and "type" in i for i in items):
        raise ConfigError(f"The suite {suite}.json needs a list 'expectations' with at least one 'type' in it.")
    return dict(document)


def validate(
    table: pa.Table,
    suite: str,
    *,
    shard_rows: int = 1_000_000,
    allowed: Mapping[str, Sequence[Any]] | None = None,
    folder: Path | None = None,
) -> Validation:
    """Judge a table by a suite.

    Args:
        table: what the suite is about; columns that no expectation names are not looked at.
        suite: name of a file in `folder`.
        shard_rows: most rows that are turned into a data frame at once.
        allowed: the sets that the suite's `$allowed` placeholders name, for example classes and splits. One
            that is not given makes its expectations errored.
        folder: where the suites are; default: the committed ones.

    Raises:
        ConfigError: there is no such suite, or `shard_rows` is below 1.
    """
    if shard_rows < 1:
        raise ConfigError(f"shard_rows must be at least 1; given: {shard_rows}")
    document = load_suite(suite, folder)
    expectations = [_filled(i, item, allowed or {}) for i, item in enumerate(document["expectations"])]
    condition = document.get("only_where_null")
    if condition and condition in table.column_names:
        table = table.filter(pc.is_null(table[condition]))
    tallies = _judge(table, expectations, shard_rows)
    key = document.get("key", "sample_id")
    failing = _failing(suite, expectations, tallies, table, key)
    digest = hashlib.sha256(schema.canonical_json(document).encode()).hexdigest()
    evidence = _evidence(suite, digest, table, expectations, tallies)
    return Validation(_statistics(suite, expectations, tallies, table.num_rows), evidence, failing)


def _filled(position: int, item: Mapping[str, Any], allowed: Mapping[str, Sequence[Any]]) -> Expectation:
    kwargs, error = dict(item.get("kwargs", {})), None
    for name, value in kwargs.items():
        if isinstance(value, dict) and ALLOWED in value:
            wanted = str(value[ALLOWED])
            if wanted not in allowed:
                error = f"the suite needs the set {wanted!r}; given: {', '.join(sorted(allowed)) or 'none'}"
            kwargs[name] = sorted(allowed.get(wanted, ()), key=str)
    if "mostly" in kwargs:
        error = "'mostly' is not used here: how many rows may fail is a gate's to say"
    meta = item.get("meta", {})
    severity = str(item.get("severity", "critical"))
    if severity not in {"critical", "warning", "info"}:
        error = f"the severity must be critical, warning or info; given: {severity!r}"
    clauses = tuple(str(clause) for clause in meta.get("clauses", ()))
    nullable = meta.get("nullable") is True
    return Expectation(position, str(item["type"]), kwargs, severity, clauses, nullable, error)


def _columns(expectation: Expectation) -> list[str]:
    named = [expectation.kwargs.get(name) for name in ("column", "column_A", "column_B")]
    return [str(n) for n in (*named, *expectation.kwargs.get("column_list", ())) if n is not None]


def _judge(table: pa.Table, expectations: Sequence[Expectation], shard_rows: int) -> list[_Tally]:
    tallies = [_Tally() for _ in expectations]
    n_shards = max(1, -(-table.num_rows // shard_rows))
    ready: list[Expectation] = []
    for expectation, tally in zip(expectations, tallies, strict=True):
        tally.why = expectation.error or _not_judgeable(expectation, table.column_names, n_shards)
        if tally.why:
            tally.outcome = "errored"
        else:
            ready.append(expectation)
    columns = sorted({column for expectation in ready for column in _columns(expectation)})
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
    missing = [column for column in _columns(expectation) if column not in columns]
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


def _judge_shard(frame: Any, ready: Sequence[Expectation], tallies: Sequence[_Tally]) -> None:  # noqa: ANN401 - pandas.DataFrame
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


def _count(tally: _Tally, result: Any) -> None:  # noqa: ANN401 - GX's validation result
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


def _set(tally: _Tally, outcome: Outcome) -> None:
    order: tuple[Outcome, ...] = ("not applicable", "met", "not met", "errored")
    tally.outcome = max(tally.outcome, outcome, key=order.index)


def _set_errored(tally: _Tally, why: str) -> None:
    tally.outcome, tally.why = "errored", tally.why or why


def _judge_uniqueness_across(table: pa.Table, ready: Sequence[Expectation], tallies: Sequence[_Tally]) -> None:
    """Judge uniqueness over all shards at once: Great Expectations sees one shard at a time."""
    for expectation in ready:
        if expectation.type not in {_UNIQUE, _COMPOUND_UNIQUE}:
            continue
        tally = tallies[expectation.position]
        columns = _columns(expectation)
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


def _close(expectation: Expectation, tally: _Tally) -> None:
    """Turn "nothing was evaluated" into a failure, unless the suite says that nulls are fine."""
    if tally.outcome == "not applicable" and not expectation.nullable:
        tally.outcome, tally.why = "not met", "no row has a value in the column"


def _failing(
    suite: str,
    expectations: Sequence[Expectation],
    tallies: Sequence[_Tally],
    table: pa.Table,
    key: str,
) -> pa.Table:
    parts = [FAILING.empty_table()]
    for expectation, tally in zip(expectations, tallies, strict=True):
        rows = pa.array(sorted(set(tally.rows)), pa.int64())
        n = len(rows)
        if not n:
            continue
        ids = pc.cast(table[key].take(rows), pa.string()) if key in table.column_names else pa.nulls(n, pa.string())
        part = {
            "suite": pa.array([suite] * n),
            "position": pa.array([expectation.position] * n, pa.int32()),
            "type": pa.array([expectation.type] * n),
            "column": pa.array([", ".join(_columns(expectation)) or None] * n, pa.string()),
            "row_id": ids,
        }
        parts.append(pa.table(part, schema=FAILING))
    return pa.concat_tables(parts).sort_by([("position", "ascending"), ("row_id", "ascending")])


def _evidence(
    suite: str,
    digest: str,
    table: pa.Table,
    expectations: Sequence[Expectation],
    tallies: Sequence[_Tally],
) -> dict[str, Any]:
    lines = [
        {
            "position": expectation.position,
            "type": expectation.type,
            "kwargs": json.loads(json.dumps(dict(expectation.kwargs), default=str)),
            "severity": expectation.severity,
            "clauses": list(expectation.clauses),
            "outcome": tally.outcome,
            "n_evaluated": tally.n_evaluated,
            "n_unexpected": tally.n_unexpected,
            "why": tally.why,
        }
        for expectation, tally in zip(expectations, tallies, strict=True)
    ]
    return {
        "suite": suite,
        "suite_sha256": digest,
        "engine": f"great_expectations {version('great_expectations')}",
        "n_rows": table.num_rows,
        "n_expectations": len(expectations),
        "outcomes": dict(sorted(Counter(tally.outcome for tally in tallies).items())),
        "expectations": lines,
    }


def _statistics(
    suite: str, expectations: Sequence[Expectation], tallies: Sequence[_Tally], n_rows: int
) -> pa.Table:
    """Return the share of expectations met, of those that apply: critical ones, then others by severity.

    `n` is the number of rows that were judged; an expectation that errored is not met.
    """
    rows = []
    for severity in ("critical", "warning", "info"):
        own = [t for e, t in zip(expectations, tallies, strict=True) if e.severity == severity]
        applying = [tally for tally in own if tally.outcome != "not applicable"]
        if not applying and severity != "critical":
            continue
        n_errored = sum(tally.outcome == "errored" for tally in applying)
        n_met = sum(tally.outcome == "met" for tally in applying)
        detail = {"n_expectations": len(applying), "n_met": n_met, "n_errored": n_errored}
        row: dict[str, Any] = {"name": suite, "n": n_rows, "detail": detail}
        row["group"] = None if severity == "critical" else f"severity={severity}"
        row["value"] = n_met / len(applying) if applying else None
        if n_errored or not applying:
            row["outcome"] = "errored"
        rows.append(row)
    return build_statistics(NAME, rows)
