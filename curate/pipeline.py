"""The composition root: labeled images in, a versioned manifest and a report out. Reads like the flow.

spec → ingest → scan → image checks → teachers → label checks → verdicts → review → manifest → report
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from traceback import clear_frames
from typing import Any

import pyarrow as pa

from curate import config, runs, views
from curate.adapters.execution import default_workers
from curate.errors import ExitCode, InputError
from curate.evaluation import against_truth
from curate.governance.journal import refuse_half_erased
from curate.ingest import Ingested, Media
from curate.ingest.media import open_media
from curate.manifest.build import Release
from curate.manifest.place import place_of
from curate.manifest.publish import Published, publish, require_writable
from curate.reasons import render
from curate.review.tags import added_tags
from curate.stages import Context, check, examine, read, teach
from curate.stages import audit as auditing
from curate.stages import release as releasing
from curate.stages import review as reviewing
from curate.state import Gathered, RunResult
from curate.teachers import require_plugins
from curate.verdicts import decide, held_back

STAGES = ("ingest", "scan", "check", "teach", "flag", "review", "manifest", "report")


def run(  # noqa: PLR0913 - one keyword for each option
    spec: str | Path,
    *,
    workspace: str | Path | None = None,
    until: str = "report",
    limit: int | None = None,
    rehash: bool = False,
    review: bool = True,
    workers: int | None = None,
    listener: runs.Listener | None = None,
    manifests: str | None = None,
    relabel: Callable[[Ingested], Ingested] | None = None,
    suffix: str = "",
    checks: Mapping[str, Mapping[str, Any]] | None = None,
) -> RunResult:
    """Run the pipeline on a dataset spec.

    Args:
        spec: a `datasets/*.yaml`.
        workspace: where to write; wins over the spec's; default `./workspace`.
        until: last stage to run (`STAGES`).
        limit: run on a sample of so many images, under the name `NAME-limit-N`, so that no real version is touched.
        rehash: read every image again instead of trusting size and time.
        review: load the FiftyOne dataset and pull decisions from it.
        workers: processes; default: the CPUs this process may use.
        listener: hears of stages and progress.
        manifests: where the version is published: a folder or the URL of an object store; wins over the spec's.
        relabel: changes the labels after they came in; give a suffix with it.
        suffix: of the name, so that no real version is touched.
        checks: check → parameters that win over the spec's; one that the spec leaves out stays out.

    Raises:
        ConfigError: the spec cannot be used.
        InputError: no input row could be used.
        StageError: a stage crashed; the same call goes on from there.
    """
    context = open_run(
        spec,
        workspace=workspace,
        limit=limit,
        rehash=rehash,
        workers=workers,
        listener=listener or runs.Silent(),
        manifests=manifests,
        suffix=suffix,
    )
    context = dataclasses.replace(context, relabel=relabel, loaded=_with_checks(context.loaded, checks or {}))
    try:
        if until in STAGES[STAGES.index("manifest") :]:  # a store that refuses does so before the work
            require_writable(context.run.workspace.published_at, context.run.workspace.name)
        result = _run_stages(context, until=until, with_review=review)
    except KeyboardInterrupt as interrupt:
        context.run.finish("interrupted")
        clear_frames(interrupt.__traceback__)  # they hold half-used generators, and those hold worker processes
        raise
    except Exception as error:
        context.run.finish("failed", error=f"{type(error).__name__}: {error}")
        raise
    context.run.finish("done", exit_code=int(result.exit_code), counts=dict(result.counts))
    return result


def _with_checks(loaded: config.LoadedSpec, checks: Mapping[str, Mapping[str, Any]]) -> config.LoadedSpec:
    given = dict(loaded.spec.checks)
    for name, parameters in checks.items():
        own = given.get(name, {})
        if own is not False:
            given[name] = {**own, **parameters}
    return dataclasses.replace(loaded, spec=loaded.spec.model_copy(update={"checks": given}))


def open_run(
    spec: str | Path,
    *,
    workspace: str | Path | None,
    limit: int | None,
    rehash: bool,
    workers: int | None,
    listener: runs.Listener,
    manifests: str | None = None,
    suffix: str = "",
) -> Context:
    """Read the spec, find the workspace and open the run's record."""
    loaded = config.load_spec(spec)
    check.enabled_checks(loaded.spec)  # a misspelt check is an error before anything is read
    require_plugins(loaded.spec.teachers)  # likewise a teacher whose package is broken
    given = workspace or (loaded.resolve(loaded.spec.workspace) if loaded.spec.workspace else None)
    name = loaded.spec.name if limit is None else f"{loaded.spec.name}-limit-{limit}"
    published_at = manifests or loaded.spec.manifests or ""
    if published_at and not manifests and "://" not in published_at:
        published_at = str(loaded.resolve(published_at))
    place_of(published_at)  # a URL that no store has is an error before anything is read
    place = runs.open_workspace(Path(given) if given else runs.default_workspace(), name + suffix, published_at)
    refuse_half_erased(place.root)
    run_record = runs.Run(
        place, listener, record={"spec": str(loaded.file), "description": loaded.spec.description}
    )
    context = Context(loaded, run_record, workers or default_workers(), limit, rehash)
    run_record.record["source_root"] = str(context.source_root)
    run_record.record["manifests"] = _recorded_place(place)
    return context


def _recorded_place(place: runs.Workspace) -> str:
    """Return where the run publishes: a URL, or a folder relative to the workspace that it is in, so that both move."""
    if "://" in place.published_at:
        return place.published_at
    folder = Path(place.published_at).resolve()
    return (folder.relative_to(place.root) if folder.is_relative_to(place.root) else folder).as_posix()


def _run_stages(context: Context, *, until: str, with_review: bool) -> RunResult:
    steps = STAGES[: STAGES.index(until) + 1]
    found, media = _take_in(context, scanned="scan" in steps)
    context = dataclasses.replace(context, beyond=found.beyond)
    if "check" in steps:
        examine.check_images(context, found)
        examine.check_labels(context, found, after_teachers=False)
    if "teach" in steps:
        found.predictions = teach.teach(context, found.view, found.labels, found.classes, media)
        found.statistics = pa.concat_tables([found.statistics, found.predictions.statistics])
    if "flag" in steps:
        examine.check_against_teachers(context, found)
        found.statistics = pa.concat_tables([found.statistics, against_truth(found.labels, found.findings)])
    if "review" in steps:
        _decide(context, found, recalled=with_review)
        if with_review:
            reviewing.show(context, found, media)
    release = releasing.build(context, found) if "manifest" in steps else None
    published = None if release is None else _publish(context, release)
    report = None
    if "report" in steps and release is not None and published is not None:
        report = releasing.write_report(context, found, published, media)
    return _result(context, found, release, published, report)


def _take_in(context: Context, *, scanned: bool) -> tuple[Gathered, Media]:
    """Return what the source says, measured where that is asked for, and who reads its images."""
    ingested = read.ingest(context)
    found = Gathered(ingested.samples, ingested.labels, ingested.outcomes, ingested.classes)
    found.beyond = ingested.beyond
    if ingested.annotations is not None:
        found.annotations = ingested.annotations
    refuse_nothing(found.samples, found.outcomes, "could be used")
    media = open_media(context.source_root, context.run.workspace.media)
    if scanned:
        found.scan = read.scan(context, found.samples, media)
        read.withhold_erased(context, found)
        found.given = found.labels
        found.view = views.samples_view(found.samples, found.scan)
        _refuse_all_unreadable(found)
    return found, media


def _decide(context: Context, found: Gathered, *, recalled: bool) -> None:
    """Hold findings against people, the cap and the policy: one verdict a row."""
    policy = context.spec.policy
    found.decisions = reviewing.recall(context, enabled=recalled)
    found.add_labels(*added_tags(found.view, found.labels, found.findings, found.decisions))
    found.take_drawn_boxes()
    found.take_decided_regions()
    labels = found.readable_labels
    found.add(held_back(found.view, labels, found.findings, policy))
    statistics, proof = auditing.carry(context, found, labels)
    found.statistics = pa.concat_tables([found.statistics, statistics])
    found.evidence |= proof
    found.verdicts = decide(found.view, labels, found.findings, policy, found.decisions)


def _publish(context: Context, release: Release) -> Published:
    with context.run.timed("manifest") as timing:
        published = publish(release, context.run.workspace.published_at, context.run.workspace.name)
        timing.note = f"v{published.number} ({published.id[:7]}){'' if published.is_new else ', unchanged'}"
    return published


def refuse_nothing(samples: pa.Table, outcomes: pa.Table, what: str) -> None:
    """Raise an InputError that counts why, where no image is left."""
    if samples.num_rows:
        return
    reasons = [code for code in outcomes["reason_code"].to_pylist() if code]
    counts = ", ".join(f"{reasons.count(code):,} {code.replace('_', ' ')}" for code in sorted(set(reasons)))
    told = ""
    first = next((row for row in outcomes.to_pylist() if row["reason_code"]), None)
    if first:
        told = f" The first: {first['row']}: {render(first['reason_code'], first['reason_args'])}"
    raise InputError(
        f"None of the {outcomes.num_rows:,} input rows {what}: {counts or 'the source is empty'}.{told}"
    )


def _refuse_all_unreadable(found: Gathered) -> None:
    if views.readable(found.view).num_rows:
        return
    codes = found.scan["error_code"].to_pylist()
    counts = ", ".join(
        f"{codes.count(code):,} {code.replace('_', ' ')}" for code in sorted(set(filter(None, codes)))
    )
    raise InputError(f"None of the {found.samples.num_rows:,} images can be read: {counts}.")


def _result(
    context: Context, found: Gathered, release: Release | None, published: Published | None, report: Path | None
) -> RunResult:
    tables = {
        name: getattr(found, name)
        for name in ("samples", "labels", "outcomes", "scan", "findings", "statistics", "verdicts", "decisions")
    }
    if found.predictions is not None:
        tables["predictions"] = found.predictions.table
    failed = release is not None and not release.gates.passed
    note = "" if release is None or published is None else releasing.replaced_all(published, release)
    counts = {
        "n_rows_in": found.outcomes.num_rows,
        "n_images": found.samples.num_rows,
        "n_labels": found.labels.num_rows,
    }
    if release is not None:
        tables["statistics"] = release.statistics
        counts |= {"n_released": release.data.num_rows, "n_excluded": release.excluded.num_rows}
    return RunResult(
        name=context.run.workspace.name,
        run_id=context.run.run_id,
        run_file=context.run.file,
        tables=tables,
        release=release,
        published=published,
        report=report,
        counts=counts,
        exit_code=ExitCode.GATE_FAILED if failed else ExitCode.OK,
        notes=(note,) if note else (),
        features=dict(found.predictions.shared_features) if found.predictions is not None else {},
    )
