"""The risk of labels that have no finding: the teachers are asked again, so that the rest of the labels has an order.

It decides which band a label is in and where a lower threshold would lie; no estimate rests on it.
"""

from __future__ import annotations

import json
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from curate import schema
from curate.errors import InputError
from curate.manifest.read import LoadedRelease
from curate.runs import Workspace, read_table
from curate.stages.answers import shared_features


def rest_risk(workspace: Workspace, release: LoadedRelease) -> pa.Table | None:
    """Return `label_id`, `risk` from the predictions of the last run, or None where there are none any more."""
    predictions = _last_predictions(workspace)
    if predictions is None or not schema.teacher_columns(predictions):
        return None
    tables = [table.select(["label_id", "given_label"]) for table in (release.data, release.excluded)]
    labels = pa.concat_tables(tables, promote_options="permissive")
    labels = labels.filter(pc.is_in(labels["label_id"], value_set=predictions["label_id"].combine_chunks()))
    cards = release.evidence.get("teachers") or []
    return risk_of(labels, predictions, release.manifest["classes"], shared_features(cards))


def risk_of(
    labels: pa.Table, predictions: pa.Table, classes: list[str], features: dict[str, str]
) -> pa.Table | None:
    """Return `label_id`, `risk` of every label that the teachers can judge; None where they cannot judge at all."""
    from curate.teachers.disagreement import flag_labels  # noqa: PLC0415 - pulls in SciPy
    from curate.teachers.label_columns import label_indices, label_strings, prob_matrix  # noqa: PLC0415 - as above

    at = pc.index_in(labels["label_id"], value_set=predictions["label_id"].combine_chunks())
    answers = predictions.take(at.combine_chunks())
    given = label_indices(label_strings(labels["given_label"].combine_chunks()), classes)
    names = [name for name in answers.column_names if name.startswith(schema.PROB_PREFIX)]
    try:
        probs = {
            name.removeprefix(schema.PROB_PREFIX): prob_matrix(answers[name].combine_chunks(), len(classes), name)
            for name in names
        }
        flags = flag_labels(given, probs, ids=labels["label_id"].to_pylist(), features=features or None)
    except InputError:
        return None  # the check has said so already, as an errored statistic
    judged = flags.scores.judged
    return pa.table({"label_id": labels["label_id"].filter(pa.array(judged)), "risk": flags.risk[judged]})


def _last_predictions(workspace: Workspace) -> pa.Table | None:
    for file in sorted((workspace.folder / "runs").glob("*/run.json"), reverse=True):
        record: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        if record.get("state") != "done":
            continue
        key = next((stage.get("key") for stage in record["stages"] if stage["stage"] == "teachers"), None)
        return read_table(workspace.cache / "teachers" / f"{key}.predictions.parquet") if key else None
    return None
