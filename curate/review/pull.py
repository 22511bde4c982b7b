"""From what reviewers did in the App to decisions in the ledger; only what is new."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from curate.adapters.mongod import ensure_database
from curate.review import dataset as datasets
from curate.review import ledger, regions, suggested
from curate.review.fields import GROUND_TRUTH
from curate.review.merge import Held, held_signals, shown_signals, sole_label
from curate.review.signals import (
    Signal,
    Standing,
    Target,
    compare,
    contradictory,
    refused,
    say_contradictory,
    standing_signals,
    without_suggestion,
)
from curate.review.stored import Stored, of_dataset, open_stored

_CHUNK = 5_000
_LABEL_PARTS = ("_id", "_cls", "label", "tags", "bounding_box")


@dataclass(frozen=True, slots=True)
class PullReport:
    """What a pull brought back.

    Attributes:
        decisions: what was appended, `schema.DECISIONS`.
        n_samples: how many samples were looked at.
        problems: marks that could not be taken and files of the ledger that could not be read, a sentence each.
    """

    decisions: pa.Table
    n_samples: int
    problems: tuple[str, ...]


def pull(name: str, *, workspace: Path, classes: Sequence[str] = (), reviewer: str | None = None) -> PullReport:
    """Append what reviewers did since the last pull to the ledger of `name`.

    Args:
        name: the dataset's name.
        workspace: where its database and ledger are.
        classes: labels that may be given; empty = those that were declared when it was loaded.
        reviewer: who did it, self-declared; None = CURATE_REVIEWER or the user of the operating system.

    Raises:
        ConfigError: there is no such dataset, or curate did not make it.
    """
    folder = ledger.ledger_folder(workspace, name)
    with open_stored(ensure_database(workspace).uri, name) as stored:
        if stored is not None:
            return pull_stored(stored, folder, classes, reviewer)
    return pull_open(datasets.open_dataset(name), folder, classes, reviewer)


def pull_open(
    dataset: Any,  # noqa: ANN401 - fiftyone is loaded late
    folder: Path,
    classes: Sequence[str] = (),
    reviewer: str | None = None,
) -> PullReport:
    """Like `pull`, for a dataset that FiftyOne has open and the folder of its ledger."""
    return pull_stored(of_dataset(dataset), folder, classes, reviewer)


def pull_stored(
    stored: Stored, folder: Path, classes: Sequence[str] = (), reviewer: str | None = None
) -> PullReport:
    """Like `pull`, for a dataset as it is stored and the folder of its ledger."""
    held_ledger = ledger.read(folder)
    problems = list(held_ledger.problems)
    held = standing_signals(held_ledger.decisions)
    by_sample: dict[str, set[Target]] = defaultdict(set)
    for target in held:
        by_sample[target[0]].add(target)
    allowed = list(classes) or list(stored.classes)
    broken = _broken(stored)
    if broken:
        return PullReport(held_ledger.decisions.slice(0, 0), 0, (*problems, broken))
    rows: list[dict[str, Any]] = []
    n_samples = 0
    for known, shown in _chunks(stored):
        n_samples += len(known)
        for before in known:
            targets = by_sample.get(str(before["_id"]), set())
            found, said = _changes(before, shown.get(before["_id"]), held, targets, allowed)
            rows += found
            problems += said
    return PullReport(
        ledger.append(folder, rows, reviewer=ledger.reviewer_name(reviewer)), n_samples, tuple(problems)
    )


def _broken(stored: Stored) -> str | None:
    """Return why this state is no reviewer's work: taken at its word it would drop everything."""
    if stored.kind is None:
        return f"The field {GROUND_TRUTH} is gone from {stored.name}; nothing was pulled. Run the pipeline again."
    if stored.baselines.estimated_document_count() and stored.samples.find_one({}, {"_id": 1}) is None:
        return f"{stored.name} was emptied; nothing was pulled. Run the pipeline again to fill it."
    return None


def _chunks(stored: Stored) -> Iterator[tuple[list[dict[str, Any]], dict[Any, dict[str, Any]]]]:
    """Yield chunks of baselines with the samples that they are about, without masks."""
    parts = {f"{GROUND_TRUTH}.{name}": 1 for name in _LABEL_PARTS}
    for inner in ("detections", "classifications"):
        parts |= {f"{GROUND_TRUTH}.{inner}.{name}": 1 for name in _LABEL_PARTS}
    parts |= {f"{suggested.FIELD}.detections.{name}": 1 for name in _LABEL_PARTS}
    parts |= {f"{regions.FIELD}.detections.{name}": 1 for name in ("_id", "tags")}
    chunk: list[dict[str, Any]] = []
    cursor = stored.baselines.find({"pending": {"$exists": False}}, {"digest": 0}).sort("_id", 1)
    for document in cursor:
        chunk.append(document)
        if len(chunk) == _CHUNK:
            yield chunk, _shown(stored.samples, chunk, parts)
            chunk = []
    if chunk:
        yield chunk, _shown(stored.samples, chunk, parts)


def _shown(samples: Any, chunk: list[dict[str, Any]], parts: dict[str, int]) -> dict[Any, dict[str, Any]]:  # noqa: ANN401
    query = {"_id": {"$in": [document["_id"] for document in chunk]}}
    return {document["_id"]: document for document in samples.find(query, {"tags": 1, **parts})}


def _changes(
    before: Mapping[str, Any],
    document: Mapping[str, Any] | None,
    held: Held,
    held_here: set[Target],
    classes: Sequence[str],
) -> tuple[list[dict[str, Any]], list[str]]:
    sample_id = str(before["_id"])
    context = suggested.contexts(before) | regions.contexts(before)
    for one in before["labels"]:
        context[one["id"]] = one | {"sha": before.get("sha")} | context.get(one["id"], {})
    whole = {"sha": before.get("sha"), "finding": before.get("finding")}
    if document is None:  # deleted in the App: the sample is dropped, whatever was said about its labels
        target: Target = (sample_id, sole_label({}, before))
        mine = held_signals(sample_id, target[1], held_here, held).get(target, {})
        return compare(target, {("drop", ""), *mine}, mine, context.get(target[1] or "", whole)), []
    ours = held_signals(sample_id, sole_label(document, before), held_here, held)
    for beside in (suggested, regions):
        ours = {target: beside.on_display(signals, target[1], before) for target, signals in ours.items()}
    shown, unknown = shown_signals(document, before)
    problems = [f"Sample {sample_id}: the tag {tag!r} means nothing to curate." for tag in unknown]
    rows = []
    for target in sorted(shown.keys() | ours.keys(), key=str):
        about, mine = context.get(target[1] or "", whole), ours.get(target, {})
        signals, said = _taken(set(shown.get(target, ())), mine, about, classes)
        problems += [f"Sample {sample_id}: {one}" for one in said]
        rows += compare(target, signals, mine, about)
    return rows, problems


def _taken(
    signals: set[Signal], held: Mapping[Signal, Standing], about: Mapping[str, Any], classes: Sequence[str]
) -> tuple[set[Signal], list[str]]:
    """Return the signals of a target that are taken, and why others are not; what is held already stays held."""
    problems = []
    for signal in sorted(signals - held.keys()):
        why_not = refused(signal, classes) or without_suggestion(signal, about)
        if why_not:
            signals = signals - {signal}
            problems.append(why_not)
    at_odds = contradictory(signals)
    if at_odds - held.keys():
        signals = (signals - at_odds) | (at_odds & held.keys())
        problems.append(say_contradictory(at_odds))
    return signals, problems
