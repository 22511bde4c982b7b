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
from curate.check import CheckResult
from curate.checks.attributes import AttributeDeclaration
from curate.errors import ExitCode, InputError
from curate.evaluation import against_truth
from curate.governance.journal import refuse_half_erased
from curate.ingest import Ingested, Media
from curate.ingest.media import open_media
from curate.manifest.build import Release, build_release
from curate.manifest.publish import Published, publish
from curate.spec import Spec
from curate.stages import Context, check, read, teach
from curate.stages import audit as auditing
from curate.stages import review as reviewing
from curate.state import Gathered, RunResult
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
    relabel: Callable[[Ingested], Ingested] | None = None,
    suffix: str = "",
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
        relabel: changes the labels after they came in; give a suffix with it.
        suffix: of the name, so that no real version is touched.

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
        suffix=suffix,
    )
    context = dataclasses.replace(context, relabel=relabel)
    try:
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


def open_run(
    spec: str | Path,
    *,
    workspace: str | Path | None,
    limit: int | None,
    rehash: bool,
    workers: int | None,
    listener: runs.Listener,
    suffix: str = "",
) -> Context:
    """Read the spec, find the workspace and open the run's record."""
    loaded = config.load_spec(spec)
    check.enabled_checks(loaded.spec)  # a misspelt check is an error before anything is read
    given = workspace or (loaded.resolve(loaded.spec.workspace) if loaded.spec.workspace else None)
    name = loaded.spec.name if limit is None else f"{loaded.spec.name}-limit-{limit}"
    place = runs.open_workspace(Path(given) if given else runs.default_workspace(), name + suffix)
    refuse_half_erased(place.root)
    run_record = runs.Run(
        place, listener, record={"spec": str(loaded.file), "description": loaded.spec.description}
    )
    context = Context(loaded, run_record, workers or default_workers(), limit, rehash)
    run_record.record["source_root"] = str(context.source_root)
    return context


def _run_stages(context: Context, *, until: str, with_review: bool) -> RunResult:
    steps = STAGES[: STAGES.index(until) + 1]
    ingested = read.ingest(context)
    found = Gathered(ingested.samples, ingested.labels, ingested.outcomes, ingested.classes)
    if ingested.annotations is not None:
        found.annotations = ingested.annotations
    _refuse_nothing(found.samples, found.outcomes, "could be used")
    media = open_media(context.source_root, context.run.workspace.media)
    if "scan" in steps:
        found.scan = read.scan(context, found.samples, media)
        read.withhold_erased(context, found)
        found.view = views.samples_view(found.samples, found.scan)
        _refuse_all_unreadable(found)
    if "check" in steps:
        check_images(context, found)
        check_labels(context, found, after_teachers=False)
    if "teach" in steps:
        found.predictions = teach.teach(context, found.view, found.labels, found.classes, media)
        found.statistics = pa.concat_tables([found.statistics, found.predictions.statistics])
    if "flag" in steps:
        check_labels(context, found, after_teachers=True)
        check_annotations(context, found)
        found.statistics = pa.concat_tables([found.statistics, against_truth(found.labels, found.findings)])
    if "review" in steps:
        found.decisions = reviewing.recall(context, enabled=with_review)
        found.add(held_back(found.view, readable_labels(found), found.findings, context.spec.policy))
        statistics, proof = auditing.carry(context, found, readable_labels(found))
        found.statistics = pa.concat_tables([found.statistics, statistics])
        found.evidence |= proof
        found.verdicts = decide(
            found.view, readable_labels(found), found.findings, context.spec.policy, found.decisions
        )
        if with_review:
            reviewing.show(context, found, media)
    release = build(context, found) if "manifest" in steps else None
    published = None
    if release is not None:
        with context.run.timed("manifest") as timing:
            published = publish(release, context.run.workspace.manifests, context.run.workspace.name)
            timing.note = f"v{published.number} ({published.id[:7]}){'' if published.is_new else ', unchanged'}"
    report = None
    if "report" in steps and release is not None and published is not None:
        report = write_report(context, found, published, media)
    return _result(context, found, release, published, report)


def check_images(context: Context, found: Gathered) -> None:
    """Run the checks that read images, and the expectations on the samples."""
    checks, left_out = check.enabled_checks(context.spec)
    of_images = [one for one in checks if one.view == "samples"]
    found.add(check.run_checks(context, found.view, of_images, _facts(context, found), "check"))
    found.evidence["checks_left_out"] = left_out
    statistics, proof = check.expectations(context, found.view, "samples", _allowed(found))
    found.statistics = pa.concat_tables([found.statistics, statistics])
    found.evidence["expectations_samples"] = proof


def check_labels(context: Context, found: Gathered, *, after_teachers: bool) -> None:
    """Run the checks that read labels: those that need no teacher first, the others when predictions are there."""
    checks, _ = check.enabled_checks(context.spec)
    chosen = [one for one in checks if one.view == "labels" and one.after_teachers == after_teachers]
    answers = found.predictions.table if after_teachers and found.predictions is not None else None
    view = views.labels_view(found.labels, found.view, answers)
    if after_teachers:
        chosen, silent = check.without_teacher(context.spec, chosen, view.column_names)
        found.add(silent)
    found.add(check.run_checks(context, view, chosen, _facts(context, found), "check"))
    if not after_teachers and found.labels.num_rows:
        statistics, proof = check.expectations(context, view, "labels", _allowed(found))
        found.statistics = pa.concat_tables([found.statistics, statistics])
        found.evidence["expectations_labels"] = proof


def check_annotations(context: Context, found: Gathered) -> None:
    """Run the checks that read every annotator's answers, the given ones and the others, beside the teachers."""
    checks, _ = check.enabled_checks(context.spec)
    chosen = [one for one in checks if one.view == "annotations"]
    if found.labels["annotator"].null_count == found.labels.num_rows:
        for one in chosen:
            found.add(check.not_applicable(one, "no label names its annotator"))
        return
    answers = found.predictions.table if found.predictions is not None else None
    view = views.annotations_view(found.labels, found.annotations, found.view, answers)
    told = check.run_checks(context, view, chosen, _facts(context, found), "check")
    given = found.labels["label_id"].combine_chunks()
    about_given = pa.compute.is_in(told.findings["label_id"], value_set=given)
    found.add(CheckResult(told.findings.filter(about_given), told.statistics))


def build(context: Context, found: Gathered) -> Release:
    """Return the release: what leaves, what stays behind and why, and the evidence for it."""
    taught = found.predictions

    def validate(data: pa.Table) -> tuple[pa.Table, Mapping[str, Any]]:
        statistics, proof = check.expectations(context, data, "manifest", _allowed(found))
        return statistics, {"expectations_manifest": proof}

    with context.run.timed("verdicts"):
        return build_release(
            samples=found.samples.drop_columns(["mtime_ns"]),
            labels=found.labels,
            scan=found.scan,
            verdicts=found.verdicts,
            findings=found.findings,
            outcomes=found.outcomes,
            policy=context.spec.policy,
            classes=found.classes,
            statistics=found.statistics,
            decisions=found.decisions,
            predictions=taught.table if taught else None,
            cards=taught.cards if taught else (),
            teacher_weights=teach.weights(found.statistics, taught) if taught else None,
            evidence={**found.evidence, **about(context.spec)},
            digests={"spec": runs.digest_json(spec_content(context.spec))},
            seed=context.spec.seed,
            validate=validate,
        )


def about(spec: Spec) -> Mapping[str, Any]:
    """Return the evidence of what people said in the spec; none where they said nothing."""
    said = spec.about.said()
    if not said:
        return {}
    obtained = {name: one.obtained for name, one in sorted(spec.attributes.items())}
    return {"about": {**said, "description": spec.description, "attributes_obtained": obtained}}


def spec_content(spec: Spec) -> Mapping[str, Any]:
    """Return what of a spec decides the content of a release: not where things are on this machine."""
    content: dict[str, Any] = spec.model_dump(mode="json", exclude={"workspace", "description", "about"})
    content["source"] = {key: value for key, value in content["source"].items() if key != "path"}
    return content


def write_report(context: Context, found: Gathered, published: Published, media: Media) -> Path:
    """Write the HTML page of the version and return where it is."""
    from curate.report import build_report  # noqa: PLC0415 - jinja2 and the pictures are needed here only

    run_record = context.run
    with run_record.timed("report"):
        return build_report(
            run_record.workspace, published.path, published.number, found.samples, media, run_record.record
        )


def readable_labels(found: Gathered) -> pa.Table:
    """Return the labels whose image could be decoded; the others are excluded with their image's reason."""
    good = views.readable(found.view)["sample_id"].combine_chunks()
    return found.labels.filter(pa.compute.is_in(found.labels["sample_id"], value_set=good))


def _allowed(found: Gathered) -> dict[str, list[str]]:
    """Return the sets that the suites leave open: they are known only once the data is."""
    return {"classes": list(found.classes), "splits": sorted(set(found.samples["split"].to_pylist()) - {None})}


def _facts(context: Context, found: Gathered) -> dict[str, Any]:
    """Return what checks may ask for by the name of a params field."""
    spec = context.spec
    facts: dict[str, Any] = {
        "classes": found.classes,
        "attributes": tuple(
            AttributeDeclaration(
                name=name,
                obtained=declared.obtained,
                reference=tuple(sorted(declared.reference.items())) if declared.reference else None,
                reference_name=declared.reference_name,
            )
            for name, declared in sorted(spec.attributes.items())
        ),
    }
    if found.predictions is not None:
        facts["features"] = found.predictions.shared_features
    return facts


def _refuse_nothing(samples: pa.Table, outcomes: pa.Table, what: str) -> None:
    if samples.num_rows:
        return
    reasons = [code for code in outcomes["reason_code"].to_pylist() if code]
    counts = ", ".join(f"{reasons.count(code):,} {code.replace('_', ' ')}" for code in sorted(set(reasons)))
    raise InputError(f"None of the {outcomes.num_rows:,} input rows {what}: {counts or 'the source is empty'}.")


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
    )
