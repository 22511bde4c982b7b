"""`curate plant`: the pipeline on a spec as it is, then on a corrupted copy of its labels; nothing is published."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from curate import config, pipeline, runs, schema
from curate.audit.ranking import risk_of
from curate.check import discover
from curate.errors import ConfigError
from curate.ingest import Ingested
from curate.plant.classes import Opinions
from curate.plant.corrupt import KINDS, NEEDS_TEACHERS, NOT_MULTI_LABEL, Corrupted, corrupt, kinds_for
from curate.plant.measure import (
    KindResult,
    PlantMeasures,
    flagged_labels,
    measure,
    missing_places,
    rows_of,
    scores_by_label,
)
from curate.stages.check import with_params
from curate.state import RunResult
from curate.teachers.evaluation import Measured

SUFFIX = "-planted"
# checks that tell of what they flag or doubt: for the order of the rest they are asked about everything
_OF_DOUBTS = ("box_noise", "mask_noise", "track_noise")
_SHARED_CACHE = ("scan", "features")  # of the images, which stay as they are


@dataclass(frozen=True, slots=True)
class PlantResult:
    """What was planted and what was found of it.

    Attributes:
        name: under which the corrupted copy was run.
        share: of the labels, for each kind.
        seed: of the choice.
        n_labels: in the corrupted copy.
        measures: what was found.
        planted: `choose.PLANTED`.
        silent: checks and teachers that could not run on the copy, and why: what they would have found is not found.
        file: the JSON that was written.
    """

    name: str
    share: float
    seed: int
    n_labels: int
    measures: PlantMeasures
    planted: pa.Table
    silent: tuple[str, ...]
    file: Path

    def to_json(self) -> dict[str, Any]:
        """Return it for machines."""
        return {
            "name": self.name,
            "share": self.share,
            "seed": self.seed,
            "n_labels": self.n_labels,
            "n_planted": self.planted.num_rows,
            "silent": list(self.silent),
            **self.measures.to_json(),
        }

    def lines(self) -> list[str]:
        """Return it for people."""
        found = self.measures
        n_top = min(found.budget, found.n_listed)
        told = [
            f"{self.name}: {self.planted.num_rows:,} errors planted among {self.n_labels:,} labels",
            f"of the first {n_top:,} labels to look at, {found.n_planted_in_budget:,} are planted errors: precision at "
            f"least {_shown(found.precision)}, or {_shown(found.precision_with_earlier)} if those flagged before are "
            "wrong too; nobody knows how many of the others are",
            *(f"could not run: {one}" for one in self.silent),
        ]
        width = max((len(one.kind) for one in found.kinds), default=0)
        told += [f"  {one.kind:<{width}}  {_of_kind(one)}" for one in found.kinds]
        return [*told, f"→ {self.file}"]


def _of_kind(one: KindResult) -> str:
    if not one.n:
        return "none could be planted"
    return (
        f"{one.n_in_budget:,} of {one.n:,} found: recall {_shown(one.recall)}, precision {_shown(one.precision)}, "
        f"average precision {_shown(one.average_precision)}, without those flagged before "
        f"{_shown(one.average_precision_without_earlier)}; {KINDS[one.kind][1]}"
    )


def _shown(measured: Measured) -> str:
    if measured.value is None:
        return "not defined"
    if measured.low is None or measured.high is None:
        return f"{measured.value:.2f}"
    return f"{measured.value:.2f} ({measured.low:.2f} to {measured.high:.2f})"


def plant(  # noqa: PLR0913 - one keyword for each option
    spec: str | Path,
    *,
    workspace: str | Path | None = None,
    share: float = 0.05,
    kinds: Sequence[str] = (),
    budget: int | None = None,
    seed: int = 0,
    limit: int | None = None,
    workers: int | None = None,
    listener: runs.Listener | None = None,
) -> PlantResult:
    """Plant errors in a copy of the labels of a spec, run the same pipeline on it, and count what it finds.

    The spec is run up to its flags first (from the cache, where it was run before): teachers' opinions of the
    labels as they are decide which errors are plausible, and what they flag already is told apart from what was
    planted. Then the copy runs under a name of its own, `NAME-planted`. Nothing is published or loaded anywhere.

    Args:
        spec: a dataset spec.
        workspace: see `pipeline.run`.
        share: of the labels that a kind is for, for each kind.
        kinds: of `corrupt.KINDS`; empty = all that fit.
        budget: labels that a reviewer would look at; None = as many as errors are planted.
        seed: of the choice.
        limit: see `pipeline.run`.
        workers: see `pipeline.run`.
        listener: see `pipeline.run`.

    Raises:
        ConfigError: several labels an image, a kind or share that cannot be used, or a budget below 1.
    """
    if budget is not None and budget < 1:
        raise ConfigError(f"The budget is the number of labels to look at, at least 1; given: {budget}.")
    asked = config.load_spec(spec).spec
    if asked.task == schema.MULTI_LABEL:  # before teachers are asked in vain
        raise ConfigError(NOT_MULTI_LABEL)
    common: dict[str, Any] = {"workspace": workspace, "until": "flag", "limit": limit, "review": False}
    common |= {"workers": workers, "listener": listener}
    first = pipeline.run(spec, **common)
    wanted = _kinds(first, kinds)
    made: list[tuple[Corrupted, tuple[str, ...]]] = []

    def relabel(read: Ingested) -> Ingested:
        corrupted = corrupt(
            read.labels,
            wanted,
            share=share,
            classes=read.classes,
            seed=seed,
            opinions=_opinions(first, read.classes),
            sequence_of=_sequences(read.samples),
        )
        made.append((corrupted, read.classes))
        return dataclasses.replace(read, labels=corrupted.labels)

    place = first.run_file.parents[2]
    _share_cache(place, place.with_name(f"{place.name}{SUFFIX}"))
    everything = {name: {"min_risk": 0.0} for name in _OF_DOUBTS}
    second = pipeline.run(spec, **common, relabel=relabel, suffix=SUFFIX, checks=everything)
    corrupted, classes = made[0]
    findings = second.tables["findings"]
    known = discover()
    told = {name: float(with_params(known[name], asked, {}).params.min_risk) for name in _OF_DOUBTS}
    scores = scores_by_label(findings, asked.policy, _further_risk(second, corrupted.labels, classes), told)
    before = flagged_labels(first.tables["findings"], asked.policy)
    rows = rows_of(
        corrupted.labels, corrupted.planted, scores, missing_places(findings, asked.policy, told), before
    )
    found = measure(rows, wanted, budget=budget, seed=seed)
    file = second.run_file.parents[2] / "planted.json"
    result = PlantResult(
        second.name, share, seed, corrupted.labels.num_rows, found, corrupted.planted, _silent(second), file
    )
    runs.write_text(file, schema.canonical_json({**result.to_json(), "planted": corrupted.planted.to_pylist()}))
    return result


def _silent(run: RunResult) -> tuple[str, ...]:
    """Return what was to run and could not: a teacher whose file is wrong, a check that crashed."""
    found = []
    for row in run.tables["statistics"].to_pylist():
        if row["name"] == "ran" and row["outcome"] == "errored":
            told = json.loads(row["detail"] or "{}").get("message", "no reason was given")
            found.append(f"{row['check']} {row['group'] or ''}".strip() + f": {told}")
    return tuple(found)


def _kinds(first: RunResult, wanted: Sequence[str]) -> list[str]:
    """Return the kinds to plant; those that need teachers' opinions are left out where there are none."""
    fitting = kinds_for(first.tables["labels"], wanted)
    has_opinions = schema.teacher_columns(first.tables.get("predictions")) != []
    usable = [kind for kind in fitting if has_opinions or kind not in NEEDS_TEACHERS or wanted]
    if not usable:
        raise ConfigError(
            "There is no label that an error could be planted in: it needs labels for classification, detection, "
            "segmentation or tracking. Look at what was read: curate ingest SPEC."
        )
    return usable


def _opinions(first: RunResult, classes: tuple[str, ...]) -> Opinions | None:
    """Return the mean of the teachers' probabilities; a teacher without an answer for a label has no say there."""
    predictions = first.tables.get("predictions")
    names = schema.teacher_columns(predictions)
    if predictions is None or not names:
        return None
    from curate.teachers.label_columns import prob_matrix  # noqa: PLC0415 - pulls in SciPy

    stacked = np.stack([prob_matrix(predictions[name].combine_chunks(), len(classes), name) for name in names])
    known: np.ndarray = np.asarray(~np.isnan(stacked).all(axis=2))
    total = np.where(known[:, :, None], stacked, 0.0).sum(axis=0)
    judged = np.flatnonzero(known.any(axis=0))
    ids = predictions["label_id"].to_pylist()
    mean = total[judged] / known.sum(axis=0)[judged, None]
    return Opinions({ids[row]: at for at, row in enumerate(judged.tolist())}, mean, classes)


def _sequences(samples: pa.Table) -> Mapping[str, str]:
    """Return sample id → its video: the group of that name, else the first group, else one for all."""
    names = sorted(name for name in samples.column_names if name.startswith(schema.GROUP_PREFIX))
    video = f"{schema.GROUP_PREFIX}video"
    name = video if video in names else (names[0] if names else None)
    if name is None:
        return {}
    pairs = zip(samples["sample_id"].to_pylist(), samples[name].to_pylist(), strict=True)
    return {sample: str(group) for sample, group in pairs}


def _further_risk(second: RunResult, labels: pa.Table, classes: tuple[str, ...]) -> pa.Table | None:
    """Return the risk of all labels that classifiers judged, whether or not it led to a finding."""
    predictions = second.tables.get("predictions")
    if predictions is None or not schema.teacher_columns(predictions):
        return None
    judged = set(predictions["label_id"].to_pylist())
    ids = labels["label_id"].to_pylist()
    chosen = labels.filter(pa.array([one in judged for one in ids], pa.bool_()))
    named = chosen.select(["label_id", "label"]).rename_columns(["label_id", "given_label"])
    return risk_of(named, predictions, list(classes), dict(second.features))


def _share_cache(place: Path, other: Path) -> None:
    """Link what is known of the images into the copy's cache: they are the same, and files there never change."""
    for name in _SHARED_CACHE:
        for file in sorted((place / "cache" / name).rglob("*")):
            target = other / "cache" / name / file.relative_to(place / "cache" / name)
            if not file.is_file() or target.exists():
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                os.link(file, target)
            except OSError:
                shutil.copy2(file, target)
