"""What a run has gathered while it goes, and what it gives back at its end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from curate import schema, views
from curate.check import CheckResult
from curate.errors import ExitCode
from curate.ingest.source import Beyond, nothing_beyond
from curate.manifest.build import Release
from curate.manifest.publish import Published
from curate.stages.answers import Taught
from curate.verdict_boxes import answered, drawn_labels, labeled_where_drawn
from curate.verdict_people import standing
from curate.verdict_regions import answered_regions, labels_with_regions


@dataclass
class Gathered:
    """What a run has gathered so far; later stages read what earlier ones wrote."""

    samples: pa.Table
    labels: pa.Table
    outcomes: pa.Table
    classes: tuple[str, ...]
    given: pa.Table = field(
        default_factory=lambda: schema.empty(schema.LABELS)
    )  # labels as the source says them; `labels` grows by what people draw
    annotations: pa.Table = field(
        default_factory=lambda: schema.empty(schema.LABELS)
    )  # answers that are not the given
    scan: pa.Table = field(default_factory=lambda: schema.empty(schema.SCAN))
    view: pa.Table = field(default_factory=lambda: schema.empty(schema.SAMPLES))  # samples joined with their scan
    findings: pa.Table = field(default_factory=lambda: schema.empty(schema.FINDINGS))
    statistics: pa.Table = field(default_factory=lambda: schema.empty(schema.STATISTICS))
    evidence: dict[str, Any] = field(default_factory=dict)
    predictions: Taught | None = None
    added: pa.Table = field(default_factory=lambda: schema.empty(schema.LABELS))  # labels that reviewers gave
    answered: pa.Table = field(default_factory=lambda: schema.empty(schema.FINDINGS))  # what they answer
    verdicts: pa.Table = field(default_factory=lambda: schema.empty(schema.VERDICTS))
    decisions: pa.Table = field(default_factory=lambda: schema.empty(schema.DECISIONS))
    beyond: Beyond = field(default_factory=nothing_beyond)  # what a limit left out

    @property
    def readable_labels(self) -> pa.Table:
        """The labels whose image could be decoded; the others are excluded with their image's reason."""
        good = views.readable(self.view.select(["sample_id", "error_code", "content_sha256"]))
        labels = self.all_labels
        return views.kept(labels, pc.is_in(labels["sample_id"], value_set=good["sample_id"].combine_chunks()))

    @property
    def all_labels(self) -> pa.Table:
        """The labels of the source and those that reviewers added."""
        return pa.concat_tables([self.labels, self.added]) if self.added.num_rows else self.labels

    def add_labels(self, added: pa.Table, asked: pa.Table) -> None:
        """Take in labels that reviewers gave, and set the findings aside that asked for them."""
        self.added = added
        self._set_aside(pc.is_in(self.findings["finding_id"], value_set=asked["finding_id"].combine_chunks()))

    def take_drawn_boxes(self) -> None:
        """Add the boxes that people drew or accepted to the labels, and set the findings aside that asked for them.

        Checks have judged what was given before.
        """
        labels = drawn_labels(self.decisions, self.labels, self.view)
        if labels.num_rows > self.labels.num_rows:
            self.labels = labels
            self.samples = labeled_where_drawn(self.samples, labels)
            self.view = labeled_where_drawn(self.view, labels)
        self._set_aside(pa.array(answered(self.findings, standing(self.decisions), self.view)))

    def take_decided_regions(self) -> None:
        """Add labels of classes that only decided regions have, and set the findings aside that people answered."""
        stands = standing(self.decisions)
        self.labels = labels_with_regions(stands, self.labels, self.view)
        self._set_aside(pa.array(answered_regions(self.findings, stands, self.view)))

    def _set_aside(self, is_answered: pa.Array | pa.ChunkedArray) -> None:
        """Keep findings that people answered for whoever shows decisions; nothing waits for them any more."""
        self.answered = pa.concat_tables([self.answered, self.findings.filter(is_answered)])
        self.findings = views.kept(self.findings, pc.invert(is_answered))

    def add(self, result: CheckResult) -> None:
        """Add what checks found."""
        self.findings = pa.concat_tables([self.findings, result.findings])
        self.statistics = pa.concat_tables([self.statistics, result.statistics])


@dataclass(frozen=True)
class RunResult:
    """What a run gives back.

    Attributes:
        name: of the dataset.
        run_id: of the run; its record is `run_file`.
        tables: every table of the run by name (samples, labels, outcomes, scan, findings, statistics, verdicts, …).
        release: the release as it was built; None where the run stopped before.
        published: the version; None where the run stopped before.
        report: the HTML page; None where the run stopped before.
        counts: what came in, what went out.
        exit_code: 0, 1 where a gate failed, 3 where nothing could be used.
        notes: what a person should know.
        features: teacher → the features that its card names; those that share them are not independent.
    """

    name: str
    run_id: str
    run_file: Path
    tables: Mapping[str, pa.Table]
    release: Release | None
    published: Published | None
    report: Path | None
    counts: Mapping[str, int]
    exit_code: ExitCode
    notes: Sequence[str] = ()
    features: Mapping[str, str] = field(default_factory=dict)
