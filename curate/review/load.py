"""From tables to the FiftyOne dataset `curate-NAME`: what is new goes in, what changed is rewritten.

What reviewers did is pulled to the ledger before anything is rewritten, and stays visible afterwards. Fields and
tags of the user's own are kept. A sample whose tables say the same as last time is not touched.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from os import fspath
from pathlib import Path
from typing import Any

import pyarrow as pa

from curate.adapters.mongod import ensure_database
from curate.review import baseline as baselines
from curate.review import dataset as datasets
from curate.review import ledger, rows, views
from curate.review.documents import Builder, Tables
from curate.review.pull import PullReport, pull_open
from curate.review.signals import standing_signals
from curate.review.write import Writer

Progress = Callable[[int, int | None], None]
_CHUNK = 5_000
_LOCK_TIMEOUT_S = 600


@dataclass(frozen=True, slots=True)
class LoadReport:
    """What a load did.

    Attributes:
        dataset: the FiftyOne dataset's name.
        n_samples: how many it holds now; `n_added + n_updated + n_unchanged`.
        n_added: inserted.
        n_updated: rewritten because the tables say something else than last time.
        n_unchanged: not touched.
        n_removed: taken out because the tables do not hold them any more.
        views: names of the saved views.
        pulled: decisions that were brought to the ledger first; None for a new dataset.
        direct: whether documents were inserted directly (False with an untested FiftyOne).
    """

    dataset: str
    n_samples: int
    n_added: int
    n_updated: int
    n_unchanged: int
    n_removed: int
    views: tuple[str, ...]
    pulled: PullReport | None
    direct: bool


def load_dataset(  # noqa: PLR0913 - one argument a table, all by keyword
    name: str,
    *,
    workspace: Path,
    samples: pa.Table,
    labels: pa.Table,
    media_paths: Sequence[str | Path],
    scan: pa.Table | None = None,
    findings: pa.Table | None = None,
    verdicts: pa.Table | None = None,
    predictions: pa.Table | None = None,
    classes: Sequence[str] = (),
    render: rows.Render = rows.plain_render,
    reviewer: str | None = None,
    progress: Progress | None = None,
) -> LoadReport:
    """Make the FiftyOne dataset `curate-NAME` say what the tables say, and save its views.

    Args:
        name: the dataset's name.
        workspace: where its database and ledger are.
        samples: `schema.SAMPLES` with attributes and groups; unreadable files are rows too.
        labels: `schema.LABELS`. Classification becomes Classification (Classifications where a sample has several);
            boxes, tracks and segments become Detections, masks inside their boxes.
        media_paths: a plain file for each row of `samples`.
        scan: `schema.SCAN`.
        findings: `schema.FINDINGS` of all checks.
        verdicts: `schema.VERDICTS`.
        predictions: `sample_id` and `prob_<teacher>` columns as wide as `classes`.
        classes: the classes in their order; a label that a reviewer gives must be one of them.
        render: (reason code, arguments) -> sentence.
        reviewer: who made the edits that are pulled first; see `ledger.reviewer_name`.
        progress: called with (samples done, samples in all).

    Raises:
        ConfigError: a dataset of that name exists and curate did not make it; no database.
        StageError: the rewriting was disturbed again and again.
    """
    import filelock  # noqa: PLC0415 - only where a database is used

    tables = Tables(
        samples, labels, scan, findings, verdicts, predictions,
        [fspath(path) for path in media_paths], tuple(classes), rows.ground_truth_kind(labels), render,
    )  # fmt: skip
    folder = ledger.ledger_folder(workspace, name)
    ensure_database(workspace)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(folder.parent / "load.lock", timeout=_LOCK_TIMEOUT_S):
        pulled = None
        if datasets.exists(name):
            dataset = datasets.open_dataset(name)
            pulled = pull_open(dataset, folder, reviewer=reviewer)
        else:
            dataset = datasets.make_dataset(name)
        return _Load(dataset, tables, folder, pulled).run(progress)


class _Load:
    """One load: the dataset, what it should say, and what the ledger holds."""

    def __init__(self, dataset: Any, tables: Tables, folder: Path, pulled: PullReport | None) -> None:  # noqa: ANN401
        self.dataset = dataset
        self.tables = tables
        self.pulled = pulled
        self.builder = Builder(tables)
        self.held = standing_signals(ledger.read(folder).decisions)

    def run(self, progress: Progress | None) -> LoadReport:
        self._declare()
        owned = datasets.owned_fields(self.builder.extra_fields, self.builder.teachers)
        writer = Writer(self.dataset, self.tables.kind, owned, self.held)
        n_added, n_updated, n_removed = self._write(writer, progress)
        self.dataset.reload()
        n = self.tables.samples.num_rows
        return LoadReport(
            dataset=self.dataset.name,
            n_samples=n,
            n_added=n_added,
            n_updated=n_updated,
            n_unchanged=n - n_added - n_updated,
            n_removed=n_removed,
            views=tuple(views.save_views(self.dataset, self.tables.classes)),
            pulled=self.pulled,
            direct=writer.direct,
        )

    def _write(self, writer: Writer, progress: Progress | None) -> tuple[int, int, int]:
        """Write what is new or says something else than last time; return how many were added, updated, removed."""
        finished = {"pending": {"$exists": False}}
        digests = {one["_id"]: one.get("digest") for one in writer.baselines.find(finished, {"digest": 1})}
        present = {one["_id"] for one in writer.samples.find({}, {"_id": 1})}
        n = self.tables.samples.num_rows
        n_added = n_updated = 0
        wanted = set()
        for start in range(0, n, _CHUNK):
            prepared = self.builder.prepare(start, min(_CHUNK, n - start))
            wanted |= {one.document["_id"] for one in prepared}
            new = [one for one in prepared if one.document["_id"] not in present]
            there = [one for one in prepared if one.document["_id"] in present]
            changed = [one for one in there if digests.get(one.document["_id"]) != one.baseline["digest"]]
            writer.insert(new)
            writer.update(changed)
            n_added += len(new)
            n_updated += len(changed)
            if progress:
                progress(min(start + _CHUNK, n), n)
        return n_added, n_updated, writer.remove((present | digests.keys()) - wanted, present)

    def _declare(self) -> None:
        dataset, kind = self.dataset, self.tables.kind
        former = datasets.ground_truth_kind(dataset)
        if former != kind:  # the task changed, or somebody deleted the field; marks are in the ledger by now
            if former is not None:
                dataset.delete_sample_field("ground_truth")
            baselines.collection_of(dataset).drop()  # every sample is written anew
        datasets.declare_fields(dataset, kind, self.builder.extra_fields, self.builder.teachers)
        dataset.info = {
            **dataset.info,
            datasets.MARK: {"layout": datasets.LAYOUT, "classes": list(self.tables.classes)},
        }
        dataset.default_classes = list(self.tables.classes)
        datasets.declare_looks(dataset, kind)
        dataset.save()
