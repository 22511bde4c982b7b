"""Checks and expectations: each from its cache where nothing it reads has changed; a crash is "errored"."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from curate import check as plug
from curate import runs, schema
from curate.check import Check, CheckResult
from curate.check_params import params_of
from curate.spec import Spec
from curate.stages.context import Context
from curate.views import without_reference

EXPECTATIONS_VERSION = 1


def run_checks(
    context: Context, view: pa.Table, checks: Sequence[Check], facts: Mapping[str, Any], label: str
) -> CheckResult:
    """Run checks over a view, each from its cache where nothing it reads has changed; a crash is "errored"."""
    judged = without_reference(view)
    digests = {name: runs.digest_table(judged.select([name])) for name in judged.column_names}
    results = []
    for check in checks:
        if _has_no_attribute(check, judged):
            results.append(not_applicable(check, "no attribute is declared in the spec"))
            continue
        results.append(_run_check(context, judged, with_params(check, context.spec, facts), digests, label))
    findings = pa.concat_tables([schema.empty(schema.FINDINGS), *(result.findings for result in results)])
    statistics = pa.concat_tables([schema.empty(schema.STATISTICS), *(r.statistics for r in results)])
    return CheckResult(findings.combine_chunks(), statistics.combine_chunks())


def _has_no_attribute(check: Check, view: pa.Table) -> bool:
    """Return whether a check is about attributes and the data has none: nothing to judge, and that is said."""
    wants = any(need.startswith(schema.ATTRIBUTE_PREFIX) for need in check.needs)
    return wants and not any(name.startswith(schema.ATTRIBUTE_PREFIX) for name in view.column_names)


def _run_check(
    context: Context, view: pa.Table, check: Check, digests: Mapping[str, str], label: str
) -> CheckResult:
    read = sorted(name for name in digests if name != "mtime_ns")
    key = {"check": check.key_parts(), "columns": {name: digests[name] for name in read}}

    def compute() -> Mapping[str, pa.Table]:
        result = plug.run_check(check, view.drop_columns(["mtime_ns"]) if "mtime_ns" in digests else view)
        why = _without_subject(result)
        if why:
            first = not_applicable(check, why).statistics
        else:
            first = plug.build_statistics(check.name, [{"name": "ran", "value": 1.0, "n": view.num_rows}])
        return {"findings": result.findings, "statistics": pa.concat_tables([first, result.statistics])}

    try:
        tables = context.run.stage(f"{label}-{check.name}", key, ("findings", "statistics"), compute)
    except Exception as error:  # noqa: BLE001 - one check that crashes must not hide what the others found
        return plug.errored(check, error)
    return CheckResult(tables["findings"], tables["statistics"])


def _without_subject(result: CheckResult) -> str | None:
    """Return why a check had nothing to look at (no box, no mask, …), or None: that it ran is then no pass."""
    rows = result.statistics.to_pylist()
    if not rows or result.findings.num_rows or any(row["n"] != 0 or row["outcome"] is None for row in rows):
        return None
    why = json.loads(rows[0]["detail"] or "{}").get("why")
    return str(why) if why else None


def with_params(check: Check, spec: Spec, facts: Mapping[str, Any]) -> Check:
    """Return the check with what the spec says about it, and with the facts of this run that its params ask for.

    A params field that is called like a fact (classes, attributes, …) gets it, unless the spec sets it.

    Raises:
        ConfigError: the spec gives a parameter that the check does not have, or a value of another type.
    """
    given = params_of(check, spec.checks.get(check.name) or {})
    if not dataclasses.is_dataclass(check.params) or isinstance(check.params, type):
        return check
    fields = {field.name for field in dataclasses.fields(check.params)}
    chosen = {name: value for name, value in facts.items() if name in fields} | given
    return dataclasses.replace(check, params=dataclasses.replace(check.params, **chosen))


def enabled_checks(spec: Spec) -> tuple[list[Check], list[str]]:
    """Return the checks that run and the names of those that the spec leaves out.

    Raises:
        ConfigError: the spec names a check that does not exist.
    """
    found = plug.discover()
    plug.select(list(spec.checks), found)
    left_out = [name for name, value in spec.checks.items() if value is False]
    return [check for name, check in found.items() if name not in left_out], left_out


def expectations(
    context: Context, table: pa.Table, suite: str, allowed: Mapping[str, Sequence[str]]
) -> tuple[pa.Table, dict[str, Any]]:
    """Hold a table against a Great Expectations suite; an error while doing so is an errored statistic."""
    key = {
        "version": EXPECTATIONS_VERSION,
        "suite": suite_digest(suite),
        "table": runs.digest_table(table, leave_out=("mtime_ns", "reference_label")),
        "allowed": {name: list(values) for name, values in allowed.items()},
    }

    def compute() -> Mapping[str, pa.Table]:
        from curate.gx import validate  # noqa: PLC0415 - Great Expectations takes five seconds to import

        found = validate(table, suite, allowed=allowed)
        proof = pa.table({"evidence": [schema.canonical_json(found.evidence)]})
        return {"statistics": found.statistics, "evidence": proof}

    try:
        tables = context.run.stage(f"expectations-{suite}", key, ("statistics", "evidence"), compute)
    except Exception as error:  # noqa: BLE001 - fails closed: the gate on expectations.* sees "errored"
        detail = {"error": type(error).__name__, "message": str(error)}
        rows = [{"name": suite, "value": None, "outcome": "errored", "detail": detail}]
        return plug.build_statistics("expectations", rows), {"errored": detail}
    return tables["statistics"], json.loads(tables["evidence"]["evidence"][0].as_py())


def suite_digest(suite: str) -> str:
    """Return the sha256 of a committed suite file."""
    from curate.gx import suite_folder  # noqa: PLC0415 - beside `validate`; imports nothing heavy by itself

    return runs.digest_file(suite_folder() / f"{suite}.json")


def without_teacher(
    spec: Spec,
    checks: Sequence[Check],
    columns: Sequence[str],
    teachers: pa.Table | None = None,
    *,
    elsewhere: str | None = None,
    classified: bool = False,
) -> tuple[list[Check], CheckResult]:
    """Return the checks whose teachers have answered, and what is said of the others.

    A check whose kind of teacher the spec does not have has no subject (with `classified` images, probes and classifiers
    do have one: then it did not run); one whose teachers gave nothing did not run,
    and is errored where a teacher failed (`teachers`: their statistics). `elsewhere` says why probes and classifiers of
    one label have no say.
    """
    kinds = {_ANSWERS.get(teacher.kind, schema.PROB_PREFIX) for teacher in spec.teachers} or {schema.PROB_PREFIX}
    ready = [one for one in checks if any(name.startswith(str(one.teacher_prefix)) for name in columns)]
    silent = [one for one in checks if one not in ready]
    if classified:
        kinds.add(schema.PROB_PREFIX)
    if elsewhere:
        kinds -= {schema.PROB_PREFIX}
    elif schema.PROB_PREFIX in kinds:  # the same teachers, asked about each class
        kinds.add(schema.PRESENT_PREFIX)
    of_kind = [one for one in silent if one.teacher_prefix in kinds]
    results = [without_answer(of_kind, "no teacher has given predictions", teachers)]
    results += [
        not_applicable(one, elsewhere or "the spec has no teacher of this kind")
        for one in silent
        if one.teacher_prefix not in kinds
    ]
    findings = pa.concat_tables([result.findings for result in results])
    return ready, CheckResult(findings, pa.concat_tables([result.statistics for result in results]))


def without_answer(checks: Sequence[Check], why: str, teachers: pa.Table | None) -> CheckResult:
    """Return the result of checks whose teachers gave nothing: errored where a teacher failed, whatever its kind.

    Where none failed, one may have had too few rows: that is said, and is "insufficient data".

    Args:
        checks: that could not run.
        why: in words; the first failure, or what a teacher lacked, is added to it.
        teachers: `schema.STATISTICS` of the teachers, with a `teachers.ran` that says what became of each.
    """
    silent = [row for row in (teachers.to_pylist() if teachers else ()) if row["name"] == "ran" and row["outcome"]]
    failed = [row for row in silent if row["outcome"] == "errored"]
    for row in [*failed, *silent][:1]:
        message = json.loads(row["detail"])["message"]
        why = f"{why} ({row['group'].removeprefix('teacher=')}: {message})"
    return not_run(checks, why, outcome="errored" if failed else "insufficient data")


_ANSWERS = {
    "mot": schema.TRACKS_PREFIX,
    "masks": schema.REGIONS_COLUMN,
    "coco": schema.BOXES_PREFIX,
}  # kind of teacher -> its columns, where they are no probabilities


def not_applicable(check: Check, why: str) -> CheckResult:
    """Return the result of a check that has no subject in this data: said, and no gate's business."""
    rows = [{"name": "applies", "value": 0.0, "detail": {"why": why}}]
    return CheckResult(schema.empty(schema.FINDINGS), plug.build_statistics(check.name, rows))


def not_run(checks: Sequence[Check], why: str, *, outcome: str = "insufficient data") -> CheckResult:
    """Return the result of checks that had nothing to work on: insufficient data or errored, which is not a pass."""
    rows = [(check.name, {"name": "ran", "outcome": outcome, "detail": {"why": why}}) for check in checks]
    tables = [plug.build_statistics(name, [row]) for name, row in rows]
    statistics = pa.concat_tables([schema.empty(schema.STATISTICS), *tables])
    return CheckResult(schema.empty(schema.FINDINGS), statistics)
