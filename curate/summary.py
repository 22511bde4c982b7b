"""What a run says at its end: one JSON object for machines, a dozen lines for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate.reasons import render
from curate.state import RunResult
from curate.summary_audit import audit_line, audited, better_threshold, threshold_line
from curate.summary_noise import label_noise_of, method_lines, noise_line, tag_line, tag_noise_of
from curate.summary_teachers import (
    order_warnings,
    reasons_once,
    teachers_failed,
    teachers_left_out,
    teachers_warn,
)


def summarize(result: RunResult) -> dict[str, Any]:
    """Return what a run found and where its outputs are, as JSON values."""
    release, published = result.release, result.published
    summary: dict[str, Any] = {
        "name": result.name,
        "run_id": result.run_id,
        "run": str(result.run_file),
        "counts": dict(result.counts),
        "exit_code": int(result.exit_code),
        "notes": list(result.notes),
    }
    if release is not None:
        summary |= {
            "gates": release.gates.outcome,
            "gates_not_passed": [_gate(row) for row in release.gates.rows.to_pylist() if row["outcome"] != "pass"],
            "actions": _counts(result.tables["verdicts"]["action"]),
            "excluded_by_reason": _excluded_reasons(release.excluded),
            "n_without_label": _n_without_label(release.data),
            "n_to_ignore": 0 if release.ignore is None else release.ignore.num_rows,
            "findings": _finding_counts(result.tables["findings"]),
            "teachers_failed": teachers_failed(result.tables["statistics"]),
            "teachers_silent": teachers_failed(result.tables["statistics"], "insufficient data"),
            "teachers_left_out": teachers_left_out(result.tables["statistics"]),
            "teachers_warn": teachers_warn(release.evidence["teachers"], result.tables["statistics"]),
            "warnings": order_warnings(result.tables["statistics"]),
            "label_noise": label_noise_of(result.tables["statistics"]),
            "tag_noise": tag_noise_of(result.tables["statistics"]),
            "held_back": _held_back(result.tables["statistics"]),
            "audit": audited(result.tables["statistics"]),
            "audit_threshold": better_threshold(release.evidence.get("audit")),
        }
    if published is not None:
        summary |= {
            "manifest": str(published.path),
            "id": published.id,
            "version": published.number,
            "is_new": published.is_new,
            "is_latest_again": published.is_latest_again,
            "repaired": published.repaired,
            "retracted": published.retracted,
            "rolled_back": published.rolled_back,
        }
    if result.report is not None:
        summary["report"] = str(result.report)
    return summary


def summary_lines(summary: Mapping[str, Any], *, options: str = "") -> list[str]:
    """Return the lines for people; `options`: what the next commands need to find the run, with a space before it."""
    counts = summary["counts"]
    lines = [f"\n{summary['name']}: {counts['n_images']:,} images, {counts['n_labels']:,} labels"]
    lines += _quality_lines(summary)
    lines += [f"  teacher FAILED {told}" for told in summary.get("teachers_failed", ())]
    lines += [f"  teacher SILENT {told}" for told in summary.get("teachers_silent", ())]
    lines += [f"  LEFT OUT       {told}" for told in summary.get("teachers_left_out", ())]
    lines += [f"  teacher note   {told}" for told in summary.get("teachers_warn", ())]
    lines += [f"  WARNING        {told}" for told in summary.get("warnings", ())]
    if summary.get("findings"):
        lines.append(f"  findings       {_listed(summary['findings'])}")
    if "actions" in summary:
        lines.append(f"  verdicts       {_listed(summary['actions'])}")
        lines.append(f"  released       {counts['n_released']:,} rows; {counts['n_excluded']:,} stay behind")
        if n := summary["n_without_label"]:
            lines.append(
                f"                 {n:,} without a label, which only teachers doubt: their soft label leaves"
            )
        if n := summary.get("n_to_ignore"):
            lines.append(
                f"                 {n:,} places in released images where nobody vouches for what is there (ignore/)"
            )
        if summary["excluded_by_reason"]:
            lines.append(f"                 {_listed(summary['excluded_by_reason'])}")
        lines.append(f"  gates          {summary['gates']}")
        above = [
            told
            for key in ("teachers_failed", "teachers_silent", "teachers_left_out")
            for told in summary.get(key, ())
        ]
        lines += [
            f"                 {_word(gate)}: {reasons_once(gate['message'], above)}"
            for gate in summary["gates_not_passed"]
        ]
    lines += [f"  note           {note}" for note in summary["notes"]]
    if "manifest" in summary:
        version = f"v{summary['version']} ({summary['id'][:7]})"
        lines.append(f"  manifest       {version} {_state(summary)} → {summary['manifest']}")
    if "report" in summary:
        lines.append(f"  report         {summary['report']}")
    name, releases = summary["name"], options  # review asks for no place of releases
    review = options.partition(" --manifests")[0]
    lines.append(f"  next           curate review {name}{review} · curate verify {name}{releases}")
    if summary.get("audit_threshold"):
        lines.append(f"                 {threshold_line(summary['audit_threshold'])}")
    return lines


def _state(summary: Mapping[str, Any]) -> str:
    """Return what became of the version, in words."""
    again = "was damaged and is written again" if summary.get("repaired") else ""
    state = "published" if summary["is_new"] else again or "unchanged, nothing published"
    if summary.get("is_latest_again"):
        state = "was published before and is the latest again"
    if summary.get("rolled_back"):
        state = f"was published before and is not the latest: {summary['rolled_back']}"
    if summary.get("retracted"):
        state = f"was RETRACTED ({summary['retracted']}) and is not the latest"
    return f"{state}; it {again}" if again and state != again else state


def stage_summary(result: RunResult, stage: str) -> tuple[dict[str, Any], list[str]]:
    """Return what one stage made, for machines and for people."""
    outcomes = _counts(result.tables["outcomes"]["outcome"])
    reasons = _counts(result.tables["outcomes"]["reason_code"])
    summary: dict[str, Any] = {
        "name": result.name,
        "stage": stage,
        "counts": dict(result.counts),
        "outcomes": outcomes,
        "out_by_reason": reasons,
        "findings": _finding_counts(result.tables["findings"]),
        "workspace": str(result.run_file.parents[2]),
    }
    lines = [
        f"{result.name}: {result.counts['n_images']:,} images, {result.counts['n_labels']:,} labels; "
        f"input rows: {_listed(outcomes)}"
    ]
    out = result.tables["outcomes"].filter(pc.equal(result.tables["outcomes"]["outcome"], "out"))
    lines += [f"  out  {row['row']}: {render(row['reason_code'], row['reason_args'])}" for row in out.to_pylist()]
    if summary["findings"]:
        lines.append(f"  findings: {_listed(summary['findings'])}")
    if "predictions" in result.tables:
        taught = [name for name in result.tables["predictions"].column_names if name.startswith("prob_")]
        lines.append(f"  predictions: {', '.join(taught)}")
    return summary, lines


def _counts(column: pa.ChunkedArray) -> dict[str, int]:
    counted = pc.value_counts(column).to_pylist()
    return {
        row["values"]: row["counts"]
        for row in sorted(counted, key=lambda r: (-r["counts"], str(r["values"])))
        if row["values"]
    }


def _finding_counts(findings: pa.Table) -> dict[str, int]:
    """Count findings by issue; where a check has a cut of its own, those that it flagged.

    What two checks find of the same label, or of the same image, counts once: of an image, as often as the check that
    finds most.
    """
    told = findings.filter(pc.fill_null(findings["flagged"], True))  # noqa: FBT003 - pyarrow's fill value
    whole = told.filter(pc.is_null(told["label_id"])).group_by(["issue", "sample_id", "check"])
    most = whole.aggregate([([], "count_all")]).group_by(["issue", "sample_id"]).aggregate([("count_all", "max")])
    of_images = most["issue"].take(pa.array(np.repeat(np.arange(most.num_rows), most["count_all_max"].to_numpy())))
    labels = told.filter(pc.is_valid(told["label_id"])).group_by(["issue", "label_id"]).aggregate([])
    return _counts(pa.chunked_array([*of_images.chunks, *labels["issue"].chunks], pa.string()))


def _n_without_label(data: pa.Table) -> int:
    """Return how many released rows wait for a person and leave without their label."""
    waits = pc.and_(pc.equal(data["action"], "review"), pc.is_null(data["released_label"]))
    return pc.sum(pc.and_(waits, pc.is_valid(data["given_label"]))).as_py() or 0


def _excluded_reasons(excluded: pa.Table) -> dict[str, int]:
    if not excluded.num_rows:
        return {}
    return _counts(
        pc.list_element(
            pc.if_else(
                pc.equal(pc.list_value_length(excluded["reason_codes"]), 0),
                pa.scalar(["without_reason"]),
                excluded["reason_codes"],
            ),
            0,
        )
    )


def _quality_lines(summary: Mapping[str, Any]) -> list[str]:
    """Return what teachers, truth and audits say of the labels."""
    lines = []
    noise = summary.get("label_noise", {})
    if noise.get("noise_rate") is not None:
        lines.append(f"  wrong labels   {noise_line(noise, summary.get('audit', {}).get('noise_rate'))}")
    elif noise.get("insufficient"):
        lines.append(f"  wrong labels   not known: {noise['insufficient']}")
    lines += method_lines(noise)
    if summary.get("tag_noise"):
        lines.append(f"  wrong answers  {tag_line(summary['tag_noise'])} (is this class in this image?)")
    if noise.get("n_wrong") is not None:
        known = [
            f"{name} {noise[key]:.2f}"
            for key, name in (("precision", "precision"), ("recall", "recall"), ("f1", "F1"))
            if noise.get(key) is not None
        ]
        told = f": the flags have {', '.join(known)}" if known else ""
        if noise.get("n_flagged") is None:  # nobody looked: that is no recall of 0
            told = "; label noise was not judged, so no flags stand against them"
        lines.append(f"  against truth  {noise['n_wrong']:,.0f} labels are known to be wrong{told}")
    if summary.get("audit"):
        lines.append(f"  audit          {audit_line(summary['audit'])}")
    if summary.get("held_back", {}).get("total"):
        lines.append(f"  held back      {_held_line(summary['held_back'])}")
    return lines


def _held_back(statistics: pa.Table) -> dict[str, int]:
    """Return how many removals the policy's cap refused, by class and group and in total."""
    return {
        row["group"] or "total": int(row["value"])
        for row in statistics.to_pylist()
        if (row["check"], row["name"]) == ("removal_cap", "n_held_back")
    }


def _held_line(held: Mapping[str, int]) -> str:
    worst = sorted(((n, group) for group, n in held.items() if group != "total"), reverse=True)
    shown = ", ".join(f"{n:,} of {group.removeprefix('attr_')}" for n, group in worst[:5])
    return f"{held['total']:,} suspects stay in with less weight: the cap of max_share_out ({shown})"


def _gate(row: Mapping[str, Any]) -> dict[str, Any]:
    message = render(row["reason_code"], row["reason_args"]) if row["reason_code"] else row["statistic"]
    return {
        "statistic": row["statistic"],
        "group": row["group"],
        "outcome": row["outcome"],
        "level": row["level"],
    } | {
        "message": message,
        "value": row["value"],
    }


def _word(gate: Mapping[str, Any]) -> str:
    """Return how a gate that did not pass is called; one that only informs has no say in the outcome."""
    return "for information" if gate["level"] == "info" else str(gate["outcome"])


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count:,} {name.replace('_', ' ')}" for name, count in counts.items()) or "none"
