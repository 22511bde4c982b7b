"""From Arrow tables to what the App says about each sample and label: risk, action, reasons, families. Pure."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate import schema
from curate.reasons.join import join_reasons

Render = Callable[[str, Mapping[str, Any]], str]

QUALITY_ISSUES = ("dark", "bright", "blurry", "low_information", "gray", "odd_size", "odd_aspect", "blank")
EXACT_ISSUES = ("exact_duplicate",)
NEAR_ISSUES = ("near_duplicate",)
LEAK_ISSUES = ("leakage_duplicate", "leakage_near_duplicate")
_ABOUT_THE_IMAGE = frozenset(
    {*QUALITY_ISSUES, *EXACT_ISSUES, *NEAR_ISSUES, *LEAK_ISSUES, "leakage_group", "not_compared", "unreadable"}
)
_STRENGTH = ("keep", "soften", "relabel", "review", "drop")  # of several labels' actions the last one is shown


@dataclass(slots=True)
class Said:
    """What findings and verdicts say about one target, a label or a sample.

    Attributes:
        risk: [0, 1], the highest; None where nothing was judged.
        label_risk: the highest risk of findings that are about a label.
        action: of the verdict; for a sample the strongest of its labels'.
        actions: all of them, sorted.
        released_label: of the verdict, where it differs from the given one.
        suggested_label: of the finding with the highest risk that has one.
        suggested_prob: its probability.
        issues: names of what was found, sorted; a finding that its own check did not flag is left out.
        reasons: sentences, worst first.
        finding_id: of the worst finding.
        missing: of a sample, the classes that were left out of its labels, worst first.
        suggested_id: of a label on a track, the id of the finding with the highest risk that has one.
        extra: of a label, whether it is found to be wrongly there.
    """

    risk: float | None = None
    label_risk: float | None = None
    action: str | None = None
    actions: set[str] = field(default_factory=set)
    released_label: str | None = None
    suggested_label: str | None = None
    suggested_prob: float | None = None
    issues: set[str] = field(default_factory=set)
    reasons: list[str] = field(default_factory=list)
    finding_id: str | None = None
    coded: list[tuple[str, str, str]] = field(default_factory=list)  # (label id, reason code, sentence)
    missing: list[str] = field(default_factory=list)
    extra: bool = False
    suggested_id: str | None = None


@dataclass(frozen=True, slots=True)
class Spoken:
    """What is said, by label id and by sample id; a target about which nothing is said is absent."""

    labels: Mapping[str, Said]
    samples: Mapping[str, Said]


def about_image(issue: str) -> bool:
    """Whether an issue is about pixels or copies, not about a label."""
    return issue in _ABOUT_THE_IMAGE


def plain_render(code: str, args: Mapping[str, Any]) -> str:
    """Return a reason as text where no sentence is known: the code and its numbers."""
    shown = ", ".join(f"{key} {value}" for key, value in sorted(args.items()))
    return f"{code.replace('_', ' ')} ({shown})" if shown else code.replace("_", " ")


def spoken(findings: pa.Table | None, verdicts: pa.Table | None, render: Render) -> Spoken:
    """Join findings and verdicts by target. A sample also carries what is said about its labels."""
    labels: dict[str, Said] = defaultdict(Said)
    samples: dict[str, Said] = defaultdict(Said)
    if verdicts is not None:
        _add_verdicts(verdicts, labels, samples)
    if findings is not None:
        order = [("risk", "descending"), ("finding_id", "ascending")]
        for batch in findings.sort_by(order).to_batches(max_chunksize=65_536):
            for row in batch.to_pylist():
                _add_finding(row, labels, samples, render)
    for said in (*labels.values(), *samples.values()):
        said.reasons = _joined(said)
    return Spoken(dict(labels), dict(samples))


def _joined(said: Said) -> list[str]:
    """Return the reasons with those about one label as one sentence, in the place of the worst of them."""
    about = {label for label, _, _ in said.coded}
    if len(about) != 1 or len(said.coded) < 2:
        return said.reasons
    parts = {text for _, _, text in said.coded}
    first = next(at for at, text in enumerate(said.reasons) if text in parts)
    others = [text for text in said.reasons if text not in parts]
    return [*others[:first], join_reasons((code, text) for _, code, text in said.coded), *others[first:]]


def _add_verdicts(verdicts: pa.Table, labels: dict[str, Said], samples: dict[str, Said]) -> None:
    names = ("sample_id", "label_id", "action", "released_label", "risk")
    for sample_id, label_id, action, released, risk in zip(*(verdicts[n].to_pylist() for n in names), strict=True):
        targets = [samples[sample_id]] + ([labels[label_id]] if label_id is not None else [])
        for said in targets:
            said.actions.add(action)
            said.action = max(said.actions, key=_rank)
            said.risk = max(said.risk or 0.0, risk)
        if label_id is not None:
            labels[label_id].released_label = released


def _rank(action: str) -> int:
    return _STRENGTH.index(action) if action in _STRENGTH else len(_STRENGTH)


def _add_finding(row: dict[str, Any], labels: dict[str, Said], samples: dict[str, Said], render: Render) -> None:
    text = render(row["reason_code"], arguments(row["reason_args"]))
    targets = [samples[row["sample_id"]]] + ([labels[row["label_id"]]] if row["label_id"] is not None else [])
    for said in targets:
        said.risk = max(said.risk or 0.0, row["risk"])
        if not about_image(row["issue"]):
            said.label_risk = max(said.label_risk or 0.0, row["risk"])
        if row["flagged"] is not False:
            said.issues.add(row["issue"])
        if text not in said.reasons:
            said.reasons.append(text)
            if row["label_id"] is not None and not about_image(row["issue"]):
                said.coded.append((row["label_id"], row["reason_code"], text))
        if said.finding_id is None:
            said.finding_id = row["finding_id"]
        if row["flagged"] and row["issue"] == "missing_label" and row["suggested_label"] not in said.missing:
            said.missing.append(row["suggested_label"])
        if said.suggested_id is None and row["label_id"] is not None and row["issue"].startswith("track_"):
            said.suggested_id = arguments(row["reason_args"]).get("suggested_track")
        said.extra |= bool(row["flagged"]) and row["issue"] == "extra_label"
        if said.suggested_label is None and row["suggested_label"] is not None:
            said.suggested_label = row["suggested_label"]
            said.suggested_prob = row["suggested_prob"]


def families(findings: pa.Table | None, issues: tuple[str, ...]) -> dict[str, str]:
    """Return sample id → family for what findings of `issues` tie together; a family is named by its least id."""
    if findings is None or findings.num_rows == 0:
        return {}
    chosen = findings.filter(pc.is_in(findings["issue"], value_set=pa.array(issues, pa.string())))
    related = chosen["related_ids"].combine_chunks()
    left = pc.take(chosen["sample_id"].combine_chunks(), pc.list_parent_indices(related))
    right = pc.list_flatten(related)
    ids = pc.unique(pa.concat_arrays([left.cast(pa.string()), right.cast(pa.string())])).sort()
    if len(ids) == 0:
        return {}
    edges = tuple(pc.index_in(side, value_set=ids).to_numpy(zero_copy_only=False) for side in (left, right))
    from scipy.sparse import coo_array  # noqa: PLC0415 - reading decisions needs no graph
    from scipy.sparse.csgraph import connected_components  # noqa: PLC0415 - as above

    graph = coo_array((np.ones(len(left), dtype=np.int8), edges), shape=(len(ids), len(ids)))
    _, component = connected_components(graph, directed=False)
    _, first = np.unique(component, return_index=True)  # ids are sorted: the first of a component is its least
    names = ids.to_pylist()
    return {name: names[first[c]] for name, c in zip(names, component, strict=True)}


def ground_truth_kind(labels: pa.Table) -> str:
    """Return which FiftyOne label holds these: Classification, Classifications (several a sample) or Detections."""
    tasks = set(pc.unique(labels["task"]).to_pylist())
    if schema.MULTI_LABEL in tasks and not tasks - {"classification", schema.MULTI_LABEL}:
        return "Classifications"
    if tasks - {"classification"}:
        return "Detections"
    n_samples = pc.count_distinct(labels["sample_id"]).as_py()
    return "Classifications" if labels.num_rows > n_samples else "Classification"


def labels_by_sample(labels: pa.Table, sample_ids: pa.Array) -> dict[str, list[dict[str, Any]]]:
    """Return the label rows of these samples, in order of label id."""
    chosen = labels.filter(pc.is_in(labels["sample_id"], value_set=sample_ids)).drop_columns(["reference_label"])
    found: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in chosen.sort_by("label_id").to_pylist():
        found[row["sample_id"]].append(row)
    return dict(found)


def teacher_answers(
    predictions: pa.Table | None, classes: tuple[str, ...]
) -> dict[str, dict[str, tuple[str, float]]]:
    """Return teacher → sample id → (most probable class, its probability); a null or NaN row is absent."""
    answers: dict[str, dict[str, tuple[str, float]]] = {}
    if predictions is None or not classes:
        return answers
    ids = predictions["sample_id"].to_pylist()
    for name in predictions.column_names:
        kind = predictions.schema.field(name).type
        if not name.startswith(schema.PROB_PREFIX) or not pa.types.is_fixed_size_list(kind):
            continue
        if kind.list_size != len(classes):
            continue
        column = predictions[name].combine_chunks()
        valid = column.is_valid().to_numpy(zero_copy_only=False)
        flat = column.flatten().to_numpy(zero_copy_only=False).astype(np.float32).reshape(-1, len(classes))
        probs = np.full((len(ids), len(classes)), np.nan, np.float32)
        probs[valid] = flat
        valid &= ~np.isnan(probs).any(axis=1)
        best = np.where(valid, np.nan_to_num(probs).argmax(axis=1), 0)
        answers[name.removeprefix(schema.PROB_PREFIX)] = {
            ids[i]: (classes[best[i]], float(probs[i, best[i]])) for i in np.flatnonzero(valid)
        }
    return answers


def arguments(text: str | None) -> dict[str, Any]:
    """Return the arguments of a reason from their canonical JSON."""
    found: dict[str, Any] = json.loads(text) if text else {}
    return found


def drawn_in(document: Mapping[str, Any] | None, field: str) -> list[dict[str, Any]]:
    """Return the detections of a field of a sample document."""
    return list(((document or {}).get(field) or {}).get("detections") or [])
