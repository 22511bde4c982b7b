"""THE plug point: a check is a value that measures; verdicts decide.

A check reads one of six views of the data, streamed as batches:

- `samples`: one row per image: `schema.SAMPLES` joined with `schema.SCAN` (and `attr_*`, `group_*`);
- `labels`: one row per given label: `schema.LABELS` joined with the samples view (and `prob_<teacher>`);
- `tags`: one row per image with several labels, or with none of the classes: the samples view with its `given_tags`
  and the `present_<teacher>`;
- `boxes`: one row per labeled image: the samples view with its `given_boxes` and the `boxes_<teacher>` of detectors;
- `regions`: one row per image with masks that a segmenter has answered for: the samples view with its `given_masks`
  and `regions`;
- `annotations`: the labels view with every annotator's answers.

`fit` sees every batch and returns a small state; `score` turns a batch into findings, given the state;
`summarize` turns the state into statistics. A check without one of them leaves it None.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, is_dataclass
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute as pc

from curate import schema
from curate.check_contract import conforming_findings, conforming_statistics
from curate.errors import ConfigError, InputError, did_you_mean
from curate.plugins import load_plugin

Batches = Iterable[pa.RecordBatch]
Scope = Literal["row", "sample", "sequence", "dataset"]
View = Literal["samples", "labels", "tags", "boxes", "regions", "annotations"]

# One line a check, in the order of the flow: module under `curate.checks`, each with a `CHECK`.
BUILTIN: tuple[str, ...] = (
    "duplicates",
    "leakage",
    "image_quality",
    "class_balance",
    "demographic_balance",
    "attribute_association",
    "label_consistency",
    "box_sanity",
    "mask_sanity",
    "track_sanity",
    "label_noise",
    "multi_label_noise",
    "box_noise",
    "annotators",
    "track_noise",
    "mask_noise",
)

ENTRY_POINT_GROUP = "curate.checks"
# who else gives statistics, and which: gates name them
STATISTICIANS: Mapping[str, tuple[str, ...]] = {
    "ingest": ("share_out",),
    "teachers": ("ran", "map", "map50", "mean_iou"),
    "expectations": ("samples", "labels", "manifest"),
    "evaluation": ("precision", "recall", "f1", "average_precision", "n_wrong"),
    "audit": ("ran", "precision", "recall", "f1", "noise_rate", "calibration_error", "share_same_answer"),
    "removal_cap": ("n_held_back",),
    "release": ("share_excluded", "share_waiting_for_review", "share_relabeled"),
}
ALWAYS = ("ran", "applies")  # statistics that are given of every check, by those who run it
BATCH_ROWS = 65_536


@dataclass(frozen=True, slots=True)
class Check:
    """What is measured, on which columns, and what has to stay together.

    Attributes:
        name: unique, snake_case; findings and policies refer to it.
        version: raised whenever a finding could change; part of the cache key.
        view: which view it reads: samples, given labels, images with all tags, boxes or masks, or all annotators' answers
            (labels that are not the given ones too, with the teachers' columns where there are any).
        needs: columns it reads; a pattern such as `prob_*` asks for at least one match.
        scope: what a shard must not split: row, sample, sequence or dataset.
        params: a frozen dataclass of plain values; part of the cache key.
        issues: every issue that its findings may have; a policy's rules name them. Empty: not said.
        statistics: every statistic that it may give; a policy's gates name them. Empty: not said.
        fit: (batches, params) -> state.
        score: (batch, state, params) -> findings, in `schema.FINDINGS`.
        summarize: (state, params) -> statistics, in `schema.STATISTICS`.
    """

    name: str
    version: int
    view: View
    needs: tuple[str, ...]
    scope: Scope
    params: Any
    fit: Callable[[Batches, Any], Any] | None = None
    score: Callable[[pa.RecordBatch, Any, Any], pa.Table] | None = None
    summarize: Callable[[Any, Any], pa.Table] | None = None
    issues: tuple[str, ...] = ()
    statistics: tuple[str, ...] = ()

    @property
    def after_teachers(self) -> bool:
        """Whether it reads predictions and so has to wait for them."""
        return self.teacher_prefix is not None

    @property
    def teacher_prefix(self) -> str | None:
        """What the columns of the teachers that it reads begin with; None where it reads none."""
        prefixes = [one for one in schema.TEACHER_PREFIXES for need in self.needs if need.startswith(one)]
        return prefixes[0] if prefixes else None

    def key_parts(self) -> str:
        """Return what of the check goes into a cache key, as canonical JSON."""
        params = asdict(self.params) if is_dataclass(self.params) and not isinstance(self.params, type) else {}
        return schema.canonical_json({"check": self.name, "version": self.version, "params": params})


@dataclass(frozen=True, slots=True)
class CheckResult:
    """What a check found: `schema.FINDINGS` and `schema.STATISTICS`."""

    findings: pa.Table
    statistics: pa.Table


def discover() -> dict[str, Check]:
    """Return every check by name: the built-in ones in order, then those of other packages.

    Raises:
        ConfigError: an entry point cannot be loaded, is no check, or has the name of another one.
    """
    modules = [(f"curate.checks.{name}", "CHECK") for name in BUILTIN]
    found: dict[str, Check] = {}
    for module, attribute in modules:
        check = getattr(import_module(module), attribute)
        found[check.name] = check
    for entry in sorted(entry_points(group=ENTRY_POINT_GROUP), key=lambda e: e.name):
        check = load_plugin(entry)
        if not isinstance(check, Check):
            msg = f"The entry point {entry.name!r} must name a curate.check.Check; it names {check!r}."
            raise ConfigError(msg)
        if check.name in found:
            msg = f"Two checks are called {check.name!r}; rename the one from the entry point {entry.name!r}."
            raise ConfigError(msg)
        found[check.name] = check
    return found


def select(names: Sequence[str], checks: Mapping[str, Check]) -> list[Check]:
    """Return the checks called `names`; an unknown name is a ConfigError with a hint."""
    for name in names:
        if name not in checks:
            hint = did_you_mean(name, checks)
            msg = f"There is no check {name!r}. Checks: {', '.join(checks)}. {hint}".rstrip()
            raise ConfigError(msg)
    return [checks[name] for name in names]


def unknown_statistic(pattern: str, checks: Mapping[str, Check]) -> str:
    """Return the sentence for a gate's `check.name` that nothing can match; empty where something may.

    Of a check that does not say what it gives (one of another package) every name may be given.
    """
    known = [f"{check.name}.{name}" for check in checks.values() for name in (*check.statistics, *ALWAYS)]
    known += [f"{giver}.{name}" for giver, names in STATISTICIANS.items() for name in names]
    source = pattern.partition(".")[0]
    silent = [check.name for check in checks.values() if not check.statistics]
    if fnmatch.filter(silent, source) or fnmatch.filter(known, pattern):
        return ""
    near = [name for name in known if fnmatch.fnmatchcase(name.partition(".")[0], source)] or known
    hint = did_you_mean(pattern, near) or f"There are: {', '.join(near)}."
    return f"nothing is called {pattern!r}. {hint}"


def missing_columns(check: Check, columns: Sequence[str]) -> list[str]:
    """Return the needs that no column answers."""
    return [need for need in check.needs if not fnmatch.filter(columns, need)]


def run_check(check: Check, view: pa.Table, *, batch_rows: int = BATCH_ROWS) -> CheckResult:
    """Run one check over a view and return what it found, sorted so that row order leaves no trace.

    Raises:
        InputError: a column that the check needs is missing, or what it gave is not as `check_contract` says.
    """
    missing = missing_columns(check, view.column_names)
    if missing:
        raise InputError.from_missing_columns(missing, view.column_names, needed_by=f"The check {check.name}")

    def batches() -> Iterator[pa.RecordBatch]:
        yield from view.to_batches(max_chunksize=batch_rows)

    state = check.fit(batches(), check.params) if check.fit else None
    findings = [schema.empty(schema.FINDINGS)]
    if check.score:
        findings += [
            conforming_findings(check.name, check.score(batch, state, check.params)) for batch in batches()
        ]
    statistics = check.summarize(state, check.params) if check.summarize else schema.empty(schema.STATISTICS)
    table = pa.concat_tables(findings).sort_by("finding_id")
    return CheckResult(table, conforming_statistics(check.name, statistics))


def build_findings(check: str, rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    """Return findings from row mappings; fills in `check`, `finding_id` and the canonical `reason_args`.

    A row has `issue`, `sample_id`, `risk`, `reason_code`, `reason_args` (a mapping) and, where they apply,
    `label_id`, `related_ids`, `flagged`, `suggested_label`, `suggested_prob`, `suggested_bbox`.
    """
    full = []
    for row in rows:
        related = sorted(row.get("related_ids") or []) or None
        identity = schema.finding_id_of(check, row["issue"], row["sample_id"], row.get("label_id"), related)
        args = schema.canonical_json(row.get("reason_args", {}))
        full.append({**row, "check": check, "finding_id": identity, "related_ids": related, "reason_args": args})
    return schema.table_from_rows(full, schema.FINDINGS)


def build_statistics(check: str, rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    """Return statistics from row mappings; fills in `check` and the canonical `detail` (from a mapping)."""
    full = [{**row, "check": check, "detail": schema.canonical_json(row.get("detail", {}))} for row in rows]
    return schema.table_from_rows(full, schema.STATISTICS)


def errored(check: Check, error: BaseException) -> CheckResult:
    """Return the result of a check that could not run: a statistic that says so, never an empty pass."""
    detail = {"error": type(error).__name__, "message": str(error)}
    rows = [{"name": "ran", "value": 0.0, "outcome": "errored", "detail": detail}]
    return CheckResult(schema.empty(schema.FINDINGS), build_statistics(check.name, rows))


def n_flagged(findings: pa.Table) -> int:
    """Return how many findings their own check flagged."""
    return int(pc.sum(pc.fill_null(findings["flagged"], False)).as_py() or 0)  # noqa: FBT003 - pyarrow takes the fill value by position
