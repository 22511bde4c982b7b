"""Gates: bounds on statistics, judged closed. What is absent, errored or not a number never passes."""

from __future__ import annotations

import fnmatch
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import pyarrow as pa

from curate import schema
from curate.errors import did_you_mean
from curate.policy import Gate

GATES = pa.schema(
    [
        pa.field("statistic", pa.string(), nullable=False),  # check.name as found, or the gate's pattern
        pa.field("group", pa.string()),
        pa.field("value", pa.float64()),
        pa.field("judged", pa.float64()),  # the number that was held against the bound: value, low or high
        pa.field("min", pa.float64()),
        pa.field("max", pa.float64()),
        pa.field("level", pa.string(), nullable=False),  # fail | warn | info
        pa.field("outcome", pa.string(), nullable=False),  # schema.STATISTIC_OUTCOMES
        pa.field("blocks", pa.bool_(), nullable=False),  # makes the release's gates fail
        pa.field("reason_code", pa.string()),  # null where it passed
        pa.field("reason_args", pa.string()),  # canonical JSON
    ]
)

_WORST_FIRST = ("errored", "fail", "insufficient data", "warn", "pass")


@dataclass(frozen=True, slots=True)
class GateResult:
    """What all gates together say.

    Attributes:
        outcome: "failed" if any gate blocks, else "warned" if any was not passed, else "passed".
        rows: `GATES`, one per gate and statistic it matches; a gate that matches nothing has one row that says so.
    """

    outcome: Literal["passed", "warned", "failed"]
    rows: pa.Table

    @property
    def passed(self) -> bool:
        """Whether nothing blocks (a warning does not)."""
        return self.outcome != "failed"


def judge(statistics: pa.Table, gates: Sequence[Gate]) -> pa.Table:
    """Return the statistics with `threshold` and `outcome` filled in by the gates; the worst outcome wins.

    A gate that matches nothing adds a row of its own name with outcome "errored": it is said, never skipped.
    A statistic that no gate names keeps the outcome that its check gave it (or null).
    """
    rows = statistics.to_pylist()
    worst: dict[int, tuple[int, float | None, str]] = {}
    absent: list[dict[str, Any]] = []
    for at, verdict in _verdicts(rows, gates):
        threshold = verdict["max"] if verdict["max"] is not None else verdict["min"]
        if at is None:
            check, _, name = verdict["statistic"].partition(".")
            detail = schema.canonical_json({"reason_code": verdict["reason_code"]})
            absent.append(
                {"check": check, "name": name, "group": verdict["group"], "threshold": threshold}
                | {"outcome": "errored", "detail": detail}
            )
            continue
        candidate = (_WORST_FIRST.index(verdict["outcome"]), _broken_bound(verdict, threshold), verdict["outcome"])
        if at not in worst or candidate[0] < worst[at][0]:
            worst[at] = candidate
    for at, (_, threshold, outcome) in worst.items():
        rows[at] |= {"threshold": threshold, "outcome": outcome}
    return schema.table_from_rows(rows + absent, schema.STATISTICS)


def gate_result(statistics: pa.Table, gates: Sequence[Gate]) -> GateResult:
    """Return what every gate says of every statistic it matches, and what they say together."""
    rows = [verdict for _, verdict in _verdicts(statistics.to_pylist(), gates)]
    table = schema.table_from_rows(rows, GATES)
    if any(row["blocks"] for row in rows):
        return GateResult("failed", table)
    quiet = all(row["outcome"] == "pass" or row["level"] == "info" for row in rows)
    return GateResult("passed" if quiet else "warned", table)


def _verdicts(
    rows: Sequence[Mapping[str, Any]], gates: Sequence[Gate]
) -> Iterator[tuple[int | None, dict[str, Any]]]:
    """Yield (position of the statistic or None, row of `GATES`) in the order of gates, then statistics."""
    audited = _audited(rows)
    for gate in gates:
        matches = [at for at, row in enumerate(rows) if _names(gate, row)]
        for at in matches:
            yield at, _held_against(gate, rows[at], audited)
        if not matches:
            yield None, _unmatched(gate, rows)


def _unmatched(gate: Gate, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the row of a gate without a statistic; where the check says why it did not run, that is the reason."""
    check = gate.statistic.partition(".")[0]
    said = {(check, "ran"), (check, "applies")}
    ran = next((row for row in rows if (row["check"], row["name"]) in said and _why(row)), {})
    blocks = gate.level == "fail"
    code = "gate_check_did_not_run" if ran else "gate_matches_nothing"
    if (
        ran and ran["name"] == "applies" and not blocks
    ):  # said, and nothing to warn of: the data has no such subject
        gate, code = gate.model_copy(update={"level": "info"}), "gate_without_subject"
    row = _row(gate, gate.statistic, gate.group, {"detail": ran.get("detail")}, None, "errored", code, blocks)
    if ran:
        return row
    known = sorted({f"{one['check']}.{one['name']}" for one in rows if one.get("detail") not in _ABSENT_DETAILS})
    hint = "Audits come from: curate audit NAME." if check == "audit" else did_you_mean(gate.statistic, known)
    args = json.loads(row["reason_args"]) | {"hint": f" {hint}" if hint else ""}
    return row | {"reason_args": schema.canonical_json(args)}


def _why(row: Mapping[str, Any]) -> str | None:
    """Return what a statistic's own detail gives as the reason why there is no value."""
    known = _detail(row)
    return known.get("insufficient") or known.get("why") or known.get("message")


def _detail(row: Mapping[str, Any]) -> dict[str, Any]:
    detail = json.loads(row.get("detail") or "{}")
    return detail if isinstance(detail, dict) else {}


def _audited(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return what a complete audit says of wrong labels, as what to do next; nothing where there is none."""
    for row in rows:
        if (row["check"], row["name"], row["group"]) == ("audit", "noise_rate", None) and row["value"] is not None:
            return f"the audit says {row['value']:.1%}: put the gate on audit.noise_rate"
    return ""


def _names(gate: Gate, row: Mapping[str, Any]) -> bool:
    if row.get("detail") in _ABSENT_DETAILS:  # added by an earlier `judge`: still nothing to match
        return False
    if not fnmatch.fnmatchcase(f"{row['check']}.{row['name']}", gate.statistic):
        return False
    if gate.group is None or row["group"] is None:
        return gate.group is None and row["group"] is None
    return fnmatch.fnmatchcase(row["group"], gate.group)


_ABSENT_DETAILS = {
    schema.canonical_json({"reason_code": code})
    for code in ("gate_matches_nothing", "gate_check_did_not_run", "gate_without_subject")
}


def _held_against(gate: Gate, row: Mapping[str, Any], audited: str) -> dict[str, Any]:
    name, group = f"{row['check']}.{row['name']}", row["group"]
    given = row["outcome"]
    if given == "insufficient data":
        blocks = gate.level == "fail" and not gate.lets_through_insufficient(group)
        code = "gate_not_known" if blocks else "gate_insufficient_data"
        told = _row(gate, name, group, row, None, given, code, blocks)
        ask = _detail(row).get("next")
        args = json.loads(told["reason_args"])
        if ask:
            args["why"] += f"; {audited or ask}"
        return told | {"reason_args": schema.canonical_json(args)}
    upper = _judged(gate, row, "high")
    lower = _judged(gate, row, "low")
    numbers = [number for bound, number in ((gate.max, upper), (gate.min, lower)) if bound is not None]
    unusable = any(number is None or math.isnan(number) for number in [*numbers, row["value"]])
    if given == "errored" or unusable:
        return _row(gate, name, group, row, None, "errored", "gate_errored", gate.level == "fail")
    if gate.max is not None and upper is not None and upper > gate.max:
        return _broken(gate, name, row, upper, "above_max")
    if gate.min is not None and lower is not None and lower < gate.min:
        return _broken(gate, name, row, lower, "below_min")
    return _row(gate, name, group, row, numbers[0], "pass", None, False)  # noqa: FBT003 - the last column


def _judged(gate: Gate, row: Mapping[str, Any], bound: str) -> float | None:
    """Return the interval's unsafe bound where the gate asks for it and there is one, else the value."""
    number = row[bound] if gate.bound == "interval" and row[bound] is not None else row["value"]
    return None if number is None else float(number)


def _broken(gate: Gate, name: str, row: Mapping[str, Any], judged: float, code: str) -> dict[str, Any]:
    outcome = "fail" if gate.level == "fail" else "warn"
    whole = (
        f"gate_{code}" if judged == row["value"] else f"gate_bound_{code}"
    )  # the interval's bound, and the sentence says so
    return _row(gate, name, row["group"], row, judged, outcome, whole, gate.level == "fail")


def _broken_bound(verdict: Mapping[str, Any], default: float | None) -> float | None:
    bound: float | None = verdict["min"] if str(verdict["reason_code"]).endswith("below_min") else default
    return bound


def _row(
    gate: Gate,
    name: str,
    group: str | None,
    row: Mapping[str, Any],
    judged: float | None,
    outcome: str,
    code: str | None,
    blocks: bool,  # noqa: FBT001 - a column, not a switch
) -> dict[str, Any]:
    args: dict[str, Any] = {
        "statistic": name,
        "group": group or "all",
        "judged": _json_number(judged),
        "min": gate.min,
        "max": gate.max,
    }
    if judged is not None and judged != row.get("value"):
        args["value"] = _json_number(row.get("value"))
    if judged is None:
        args["why"] = _why(row) or ("too few rows to be judged" if outcome == "insufficient data" else "no value")
    return {
        "statistic": name,
        "group": group,
        "value": row.get("value"),
        "judged": judged,
        "min": gate.min,
        "max": gate.max,
        "level": gate.level,
        "outcome": outcome,
        "blocks": blocks,
        "reason_code": code,
        "reason_args": schema.canonical_json(args),
    }


def _json_number(number: float | None) -> float | str | None:
    return str(number) if number is not None and not math.isfinite(number) else number
