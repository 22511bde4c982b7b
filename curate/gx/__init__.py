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
from collections import Counter
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from curate import schema
from curate.check import build_statistics
from curate.errors import ConfigError
from curate.gx.judge import Tally, judge
from curate.gx.suites import Expectation, columns_of, filled, load_suite, suite_folder

__all__ = ["FAILING", "Validation", "load_suite", "suite_folder", "validate"]

NAME = "expectations"

FAILING = pa.schema(
    [
        pa.field("suite", pa.string(), nullable=False),
        pa.field("position", pa.int32(), nullable=False),  # of the expectation in its suite, from 0
        pa.field("type", pa.string(), nullable=False),
        pa.field("column", pa.string()),
        pa.field("row_id", pa.string()),  # value of the suite's key column
    ]
)


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
    expectations = [filled(i, item, allowed or {}) for i, item in enumerate(document["expectations"])]
    condition = document.get("only_where_null")
    if condition and condition in table.column_names:
        table = table.filter(pc.is_null(table[condition]))
    tallies = judge(table, expectations, shard_rows)
    key = document.get("key", "sample_id")
    failing = _failing(suite, expectations, tallies, table, key)
    digest = hashlib.sha256(schema.canonical_json(document).encode()).hexdigest()
    evidence = _evidence(suite, digest, table, expectations, tallies)
    return Validation(_statistics(suite, expectations, tallies, table.num_rows), evidence, failing)


def _failing(
    suite: str,
    expectations: Sequence[Expectation],
    tallies: Sequence[Tally],
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
            "column": pa.array([", ".join(columns_of(expectation)) or None] * n, pa.string()),
            "row_id": ids,
        }
        parts.append(pa.table(part, schema=FAILING))
    return pa.concat_tables(parts).sort_by([("position", "ascending"), ("row_id", "ascending")])


def _evidence(
    suite: str,
    digest: str,
    table: pa.Table,
    expectations: Sequence[Expectation],
    tallies: Sequence[Tally],
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


def _statistics(suite: str, expectations: Sequence[Expectation], tallies: Sequence[Tally], n_rows: int) -> pa.Table:
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
