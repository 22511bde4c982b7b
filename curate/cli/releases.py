"""Verbs on published versions."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from curate.cli.terminal import (
    JsonOption,
    ManifestsOption,
    QuietOption,
    WorkspaceOption,
    listening,
    place_of,
    releases_at,
    terminal_for,
)
from curate.errors import ConfigError, ExitCode


def log(
    name: Annotated[str, typer.Argument(help="Name of the dataset")],
    workspace: WorkspaceOption = None,
    manifests: ManifestsOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Show the published versions, newest first."""
    from curate.manifest import verbs  # noqa: PLC0415 - pulls in pyarrow

    terminal = terminal_for(as_json, quiet)
    entries = verbs.log_entries(releases_at(workspace, manifests), name)

    def lines() -> list[str | Table]:
        heads = ("version", "id", "at", "rows", "excluded", "gates", "by")
        table = Table(box=None, header_style="bold")
        for head in heads:
            table.add_column(head, no_wrap=True, overflow="fold")
        for entry in entries:
            table.add_row(*(escape(str(value)) for value in verbs.log_row(entry)))
        return [table, *verbs.log_remarks(entries)]

    terminal.tell({"name": name, "versions": entries}, lines)


def diff(
    a: Annotated[str, typer.Argument(help="NAME, NAME@ID, NAME@vN or NAME@TAG: the earlier version")],
    b: Annotated[str, typer.Argument(help="the later version")],
    limit: Annotated[int, typer.Option("--limit", min=0, help="Changed rows to show of each kind.")] = 10,
    html: Annotated[
        Path | None, typer.Option("--html", help="Also write a page with pictures to this file.")
    ] = None,
    soft_from: Annotated[
        float,
        typer.Option(
            "--soft-from", min=0, max=1, help="Tell soft labels from this distance on; 0: all that differ."
        ),
    ] = 0.05,
    workspace: WorkspaceOption = None,
    manifests: ManifestsOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Say what changed between two versions, by meaning, each change with its reason."""
    from curate.manifest import verbs  # noqa: PLC0415 - pulls in pyarrow

    terminal = terminal_for(as_json, quiet)
    root = releases_at(workspace, manifests)
    result = verbs.diff_versions(root, a, b, limit=limit, soft_from=soft_from)
    if html is not None:
        from curate.report.diff_page import write_diff_page  # noqa: PLC0415 - jinja2 and pictures are needed here only

        page = write_diff_page(result.diff, a.partition("@")[0], html, place_of(workspace))
        result = replace(result, page=page)
    terminal.tell(result.to_json(), result.lines)


def verify(
    version: Annotated[str, typer.Argument(help="NAME, NAME@ID, NAME@vN or NAME@TAG")],
    deep: Annotated[
        bool, typer.Option("--deep", help="Decode every value, run the suite again, recompute statistics.")
    ] = False,
    only_bytes: Annotated[
        bool, typer.Option("--bytes", help="Only hash the files; as fast as the disk. Says what was not checked.")
    ] = False,
    key: Annotated[Path | None, typer.Option("--key", help="Public key (PEM) that must have signed it.")] = None,
    workspace: WorkspaceOption = None,
    manifests: ManifestsOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Check every promise of a version; exit code 5 if one is broken."""
    from curate.manifest import verbs  # noqa: PLC0415 - pulls in pyarrow

    terminal = terminal_for(as_json, quiet)
    with listening(terminal) as listener:
        listener.stage_started("verify")
        root = releases_at(workspace, manifests)
        result = verbs.verify_version(
            root, version, deep=deep, only_bytes=only_bytes, key=key, progress=listener.progress
        )
    terminal.tell(result.to_json(), result.lines)
    if not result.ok:
        raise typer.Exit(ExitCode.VERIFICATION)


def erase(
    name: Annotated[str | None, typer.Argument(help="Name of the dataset")] = None,
    sample: Annotated[list[str] | None, typer.Option("--sample", help="Its uri or id; may be repeated.")] = None,
    subject: Annotated[str | None, typer.Option("--subject", help="All samples of a subject.")] = None,
    near_duplicates: Annotated[
        bool, typer.Option("--near-duplicates", help="Also pictures that look the same; the plan lists them.")
    ] = False,
    why: Annotated[str, typer.Option("--why", help="For the tombstones; no name.")] = "erased on request",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the plan and change nothing.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Finish an erasure that was begun.")] = False,
    reachable_only: Annotated[
        bool, typer.Option("--reachable-only", help="Though releases are in a store or a folder out of reach.")
    ] = False,
    workspace: WorkspaceOption = None,
    manifests: ManifestsOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Take samples out of every version and everything derived, for good: plan, successors, tombstones."""
    from curate.governance import erase as erasing  # noqa: PLC0415 - pulls in pyarrow and SciPy
    from curate.governance.plan import plan_erasure  # noqa: PLC0415 - as above

    terminal, place = terminal_for(as_json, quiet), place_of(workspace)
    if resume:
        with listening(terminal) as listener:
            done = erasing.resume_erasure(place, listener=listener)
        terminal.tell(done.to_json(), done.lines)
        return
    if name is None:
        raise ConfigError(
            "An erasure needs the name of a dataset: curate erase NAME --sample URI-or-id | --subject S"
        )
    plan = plan_erasure(
        place,
        name,
        samples=sample or (),
        subject=subject,
        with_near_duplicates=near_duplicates,
        why=why,
        manifests=manifests,
    )
    if dry_run:
        told = {"erased": False, **plan.to_json()}
        terminal.tell(told, lambda: [*plan.lines(), "Nothing was erased (--dry-run)."])
        return
    if not as_json:
        for line in plan.lines():
            terminal.line(line)
    erasing.refuse_out_of_reach(plan, reachable_only=reachable_only)
    if not yes:
        _ask_for_good(as_json)
    with listening(terminal) as listener:
        done = erasing.erase(place, plan, reachable_only=reachable_only, listener=listener)
    terminal.tell({**plan.to_json(), **done.to_json()}, done.lines)


def _ask_for_good(as_json: bool) -> None:
    """Ask a person whether the plan they see is to be done; who cannot be asked has to say --yes."""
    if as_json or not sys.stdin.isatty():
        raise ConfigError("Nothing was erased: look at the plan (--dry-run), then give --yes.")
    typer.confirm("Erase this for good?", abort=True)


def export(
    version: Annotated[str, typer.Argument(help="NAME, NAME@ID, NAME@vN or NAME@TAG")],
    format: Annotated[str, typer.Option("--format", help="coco | yolo | voc | mot | csv | hf | webdataset")],  # noqa: A002 - the option's name
    out: Annotated[Path, typer.Option("--out", help="Folder to write; must not be there yet")],
    images: Annotated[str, typer.Option(help="link | copy | none")] = "link",
    retracted: Annotated[bool, typer.Option("--retracted", help="Even a version that was retracted.")] = False,
    allow_failed_gates: Annotated[
        bool, typer.Option("--allow-failed-gates", help="Even a version whose gates failed.")
    ] = False,
    workspace: WorkspaceOption = None,
    manifests: ManifestsOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Write released labels for trainers that want COCO, YOLO, VOC, MOT, CSV, Hugging Face datasets or WebDataset."""
    from curate.export import verbs  # noqa: PLC0415 - pulls in pyarrow

    terminal = terminal_for(as_json, quiet)
    result = verbs.export_version(
        place_of(workspace),
        version,
        format=format,
        out=out,
        images=images,
        root=releases_at(workspace, manifests),
        retracted=retracted,
        allow_failed_gates=allow_failed_gates,
    )
    terminal.tell(result, lambda: verbs.export_lines(result))


def describe(
    version: Annotated[str, typer.Argument(help="NAME, NAME@ID or NAME@vN")],
    out: Annotated[Path, typer.Option("--out", help="Folder to write; must not be there yet")],
    files: Annotated[str, typer.Option(help="The version's files beside it: link | copy | none")] = "link",
    workspace: WorkspaceOption = None,
    manifests: ManifestsOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Write Croissant, a dataset card, a datasheet and OpenLineage events, all made from the release."""
    from curate.describe import verbs  # noqa: PLC0415 - pulls in pyarrow

    terminal = terminal_for(as_json, quiet)
    root = releases_at(workspace, manifests)
    result = verbs.describe_version(place_of(workspace), version, out=out, files=files, root=root)
    terminal.tell(result, lambda: verbs.describe_lines(result))


def report(
    name: Annotated[str, typer.Argument(help="Name of the dataset")],
    workspace: WorkspaceOption = None,
    manifests: ManifestsOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Rebuild the HTML report of the latest release."""
    from curate.report import rebuild_report  # noqa: PLC0415 - pulls in plotly

    terminal = terminal_for(as_json, quiet)
    page = rebuild_report(place_of(workspace), name, root=releases_at(workspace, manifests))
    terminal.tell({"report": str(page)}, lambda: [f"report → {page}"])


def show(
    version: Annotated[str, typer.Argument(help="NAME, NAME@ID, NAME@vN or NAME@TAG")],
    lineage: Annotated[
        bool, typer.Option("--lineage", help="Also the versions that it came from, and led to.")
    ] = False,
    row: Annotated[
        str | None, typer.Option("--row", help="An image or label: what became of it, and why. Path or id.")
    ] = None,
    workspace: WorkspaceOption = None,
    manifests: ManifestsOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Show a version: rows, gates, tags, signatures, parents, and who used it; exit code 5 where a file is missing."""
    from curate.errors import ExitCode  # noqa: PLC0415 - beside the next
    from curate.manifest import show as showing  # noqa: PLC0415 - pulls in pyarrow

    terminal = terminal_for(as_json, quiet)
    if row is not None:
        from curate.manifest.explain import explain, explain_lines  # noqa: PLC0415 - as above

        told = explain(releases_at(workspace, manifests), version, row)
        terminal.tell(told, lambda: explain_lines(told))
        return
    shown = showing.show(releases_at(workspace, manifests), version, lineage=lineage)
    terminal.tell(shown, lambda: showing.show_lines(shown))
    if shown["damage"]:
        raise typer.Exit(ExitCode.VERIFICATION)
