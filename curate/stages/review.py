"""Review: decisions come back from the FiftyOne dataset before anything is judged, and it is shown what was judged."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from curate import runs, schema
from curate.ingest import Media
from curate.reasons import render
from curate.review import ledger
from curate.stages.context import Context

if TYPE_CHECKING:
    from curate.state import Gathered

SHOWN_VERSION = 4


def recall(context: Context, *, enabled: bool) -> pa.Table:
    """Return every decision of the ledger, after pulling what reviewers did in the App since the last time.

    Args:
        context: of the run.
        enabled: whether the FiftyOne dataset may be asked; the ledger is read in any case.
    """
    workspace = context.run.workspace
    with context.run.timed("decisions") as timing:
        if enabled and _shown_file(context).exists():
            from curate.adapters.mongod import ensure_database  # noqa: PLC0415 - only where a view was loaded
            from curate.review.pull import pull  # noqa: PLC0415 - as above

            ensure_database(workspace.root)
            if _is_there(context):
                pulled = pull(workspace.name, workspace=workspace.root)
                timing.note = f"{pulled.decisions.num_rows:,} new from the App"
        held = ledger.read(ledger.ledger_folder(workspace.root, workspace.name))
        timing.details["n_decisions"] = held.decisions.num_rows
        if not timing.note:
            timing.note = f"{held.decisions.num_rows:,} in the ledger"
    return held.decisions


def show(context: Context, found: Gathered, media: Media) -> None:
    """Make the FiftyOne dataset say what the tables say; nothing is done where it says so already."""
    workspace = context.run.workspace
    answers = found.predictions.table if found.predictions else None
    shown = runs.digest_json(
        {
            "version": SHOWN_VERSION,
            "samples": runs.digest_table(found.samples, leave_out=("mtime_ns",)),
            "labels": runs.digest_table(found.labels),
            "scan": runs.digest_table(found.scan),
            "findings": runs.digest_table(found.findings.sort_by("finding_id")),
            "verdicts": runs.digest_table(found.verdicts),
            "predictions": runs.digest_table(answers) if answers is not None else None,
        }
    )
    marker = _shown_file(context)
    with context.run.timed("review") as timing:
        if marker.exists() and marker.read_text() == shown and _is_there(context):
            timing.cached = True
            return
        marker.unlink(missing_ok=True)
        from curate.review.load import load_dataset  # noqa: PLC0415 - FiftyOne takes seconds to import

        loaded = load_dataset(
            workspace.name,
            workspace=workspace.root,
            samples=found.samples.drop_columns(["mtime_ns"]),
            labels=found.labels,
            media_paths=list(media.paths(found.samples)),
            scan=found.scan,
            findings=pa.concat_tables([found.findings, found.answered]),
            verdicts=found.verdicts,
            predictions=_by_sample(answers, found.labels),
            classes=found.classes,
            render=render,
            progress=context.run.listener.progress,
        )
        runs.write_text(marker, shown)
        timing.note = f"FiftyOne dataset {loaded.dataset}: {loaded.n_added:,} added, {loaded.n_updated:,} updated"


def _shown_file(context: Context) -> Path:
    return context.run.workspace.cache / "review" / "shown.sha256"


def _is_there(context: Context) -> bool:
    """Return whether the view exists; FiftyOne, which takes seconds to import, is asked only where it may not."""
    from curate.adapters.mongod import ensure_database  # noqa: PLC0415 - only where a view was loaded
    from curate.review.stored import open_stored  # noqa: PLC0415 - as above

    workspace = context.run.workspace
    with open_stored(ensure_database(workspace.root).uri, workspace.name) as stored:
        if stored is not None:
            return True
    from curate.review.dataset import exists  # noqa: PLC0415 - as said above

    return exists(workspace.name)


def _by_sample(predictions: pa.Table | None, labels: pa.Table) -> pa.Table | None:
    """Return predictions keyed by sample, for labels that are about a whole image; None where there are none."""
    if predictions is None or not schema.teacher_columns(predictions):
        return None
    whole = labels.filter(pc.equal(labels["task"], "classification")).select(["label_id", "sample_id"])
    at = pc.index_in(whole["label_id"], value_set=predictions["label_id"].combine_chunks())
    known = whole.filter(pc.is_valid(at))
    if not known.num_rows:
        return None
    answers = predictions.take(at.drop_null())
    columns = [name for name in answers.column_names if name.startswith(schema.PROB_PREFIX)]
    return answers.select(columns).append_column("sample_id", known["sample_id"])
