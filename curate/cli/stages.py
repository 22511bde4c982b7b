"""Verbs that make a release, as a whole or stage by stage."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from curate.cli.terminal import (
    JsonOption,
    LimitOption,
    ManifestsOption,
    QuietOption,
    SpecArgument,
    WorkersOption,
    WorkspaceOption,
    listening,
    place_of,
    terminal_for,
)
from curate.errors import ConfigError, ExitCode


def run(
    spec: SpecArgument,
    workspace: WorkspaceOption = None,
    limit: LimitOption = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done, with time and disk.")] = False,
    rehash: Annotated[bool, typer.Option("--rehash", help="Read every image again.")] = False,
    review: Annotated[bool, typer.Option("--review/--no-review", help="Load FiftyOne; pull decisions.")] = True,
    workers: WorkersOption = None,
    manifests: ManifestsOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Run the whole pipeline on a spec; print what it found and where report and manifest are."""
    terminal = terminal_for(as_json, quiet)
    if dry_run:
        from curate.dry_run import estimate  # noqa: PLC0415 - only here

        plan = estimate(spec, workspace=workspace, limit=limit, workers=workers, review=review)
        terminal.tell(plan.to_json(), plan.lines)
        return
    from curate.pipeline import run as run_pipeline  # noqa: PLC0415 - pulls in pyarrow and SciPy

    with listening(terminal) as listener:
        result = run_pipeline(
            spec,
            workspace=workspace,
            limit=limit,
            rehash=rehash,
            review=review,
            workers=workers,
            listener=listener,
            manifests=manifests,
        )
    from curate.commands import manifests_option, workspace_option  # noqa: PLC0415 - as above
    from curate.summary import summarize, summary_lines  # noqa: PLC0415 - as above

    summary = summarize(result)
    said = f"{workspace_option(result.run_file.parents[3])}{manifests_option(manifests)}"
    terminal.tell(summary, lambda: summary_lines(summary, options=said))
    raise typer.Exit(result.exit_code)


def _stage_verb(name: str, doc: str) -> Callable[..., None]:
    """Return a verb that runs the pipeline up to one stage and says what that stage made."""

    def verb(
        spec: SpecArgument,
        workspace: WorkspaceOption = None,
        limit: LimitOption = None,
        workers: WorkersOption = None,
        as_json: JsonOption = False,
        quiet: QuietOption = False,
    ) -> None:
        from curate.pipeline import run as run_pipeline  # noqa: PLC0415 - pulls in pyarrow and SciPy
        from curate.summary import stage_summary  # noqa: PLC0415 - as above

        terminal = terminal_for(as_json, quiet)
        with listening(terminal) as listener:
            result = run_pipeline(
                spec, workspace=workspace, until=name, limit=limit, review=False, workers=workers, listener=listener
            )
        summary, lines = stage_summary(result, name)
        terminal.tell(summary, lambda: lines)

    verb.__name__ = name
    verb.__doc__ = doc
    return verb


ingest = _stage_verb("ingest", "Read rows and labels of a spec; say what came in and what is out, and why.")
check = _stage_verb("check", "Run ingest, scan and the checks that need no teacher.")
teach = _stage_verb("teach", "Run everything up to the teachers' predictions.")


def scan(
    folder: Annotated[Path, typer.Argument(help="A folder, tar or zip of images")],
    out: Annotated[Path, typer.Option("--out", help="Parquet file to write")],
    max_pixels: Annotated[int, typer.Option(help="Larger images are not decoded.", min=1)] = 100_000_000,
    workers: WorkersOption = None,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Measure every image of a folder: hashes, sizes, quality. Needs no spec."""
    del workspace  # every verb takes it; this one writes to --out only
    from curate.runs import write_table  # noqa: PLC0415 - `curate --help` needs none of it
    from curate.scan import scan_folder  # noqa: PLC0415 - as above

    terminal = terminal_for(as_json, quiet)
    with listening(terminal) as listener:
        listener.stage_started("scan")
        table = scan_folder(folder, max_pixels=max_pixels, workers=workers, progress=listener.progress)
    write_table(out, table)
    codes = [code for code in table["error_code"].to_pylist() if code]
    errors = {code: codes.count(code) for code in sorted(set(codes))}
    result = {"n_images": table.num_rows, "n_unreadable": len(codes), "errors": errors, "out": str(out)}
    told = ", ".join(f"{count:,} {code.replace('_', ' ')}" for code, count in errors.items()) or "all readable"
    terminal.tell(result, lambda: [f"{table.num_rows:,} images ({told}) → {out}"])
    if table.num_rows == len(codes):
        raise typer.Exit(ExitCode.INPUT)


def flag(
    out: Annotated[Path, typer.Option("--out", help="Parquet file to write")],
    table: Annotated[
        Path | None, typer.Argument(help="Parquet with label and prob_<teacher> columns; other tasks: --labels")
    ] = None,
    task: Annotated[
        str,
        typer.Option(help="classification (TABLE), detection (COCO files), segmentation (folders), tracking (MOT)"),
    ] = "classification",
    labels: Annotated[Path | None, typer.Option(help="Labels, for a task other than classification")] = None,
    teacher: Annotated[list[str] | None, typer.Option(help="NAME=PATH of a teacher's output; repeatable")] = None,
    classes: Annotated[str | None, typer.Option(help="Class order: a,b,c")] = None,
    same_features: Annotated[
        list[str] | None,
        typer.Option(
            "--same-features",
            help="a,b: teachers of TABLE that stand on the same features, and err alike; repeatable",
        ),
    ] = None,
    ignore: Annotated[
        list[int] | None, typer.Option(help="Class id that says nothing, for masks; repeatable. Default: 255")
    ] = None,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Flag wrong labels: in a table of labels and teachers' probabilities, or in files of another task."""
    del workspace  # every verb takes it; this one writes to --out only
    os.environ.setdefault(
        "OPENBLAS_NUM_THREADS", "1"
    )  # threads that wait for matrix products, of which there are none
    from curate.cli.flagging import flag_files, flag_one_table  # noqa: PLC0415 - as above

    terminal = terminal_for(as_json, quiet)
    names = [name.strip() for name in classes.split(",")] if classes else None
    with listening(terminal) as listener:
        listener.stage_started("flag")
        if task == "classification":
            same = [[name.strip() for name in one.split(",")] for one in same_features or ()]
            result, lines = flag_one_table(
                table, labels, teacher, out, names, listener.progress, same_features=same
            )
        elif same_features:
            raise ConfigError(
                f"--same-features is for a TABLE of --task classification; for --task {task} leave it out."
            )
        else:
            result, lines = flag_files(task, table, labels, teacher, out, classes=names, ignore=ignore)
    terminal.tell(result, lambda: lines)


def init(
    path: Annotated[Path, typer.Argument(help="A folder or file with labeled images")],
    out: Annotated[Path | None, typer.Option("--out", help="Spec to write. Default: ./NAME.yaml")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a spec that is there.")] = False,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Recognise the format of a folder or file and write a commented spec that runs."""
    from curate.commands import workspace_option  # noqa: PLC0415 - `curate --help` needs none of it
    from curate.init import write_spec  # noqa: PLC0415 - pulls in the formats

    terminal = terminal_for(as_json, quiet)
    written = write_spec(path, out=out, force=force)
    there = workspace_option(place_of(workspace))
    terminal.tell(written.to_json(), lambda: written.lines(there))
