"""Verbs on published versions."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from curate.cli.terminal import JsonOption, QuietOption, WorkspaceOption, place_of, terminal_for
from curate.errors import ExitCode


def log(
    name: Annotated[str, typer.Argument(help="Name of the dataset")],
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Show the published versions, newest first."""
    from curate.manifest import verbs  # noqa: PLC0415 - pulls in pyarrow

    terminal = terminal_for(as_json, quiet)
    entries = verbs.log_entries(place_of(workspace), name)

    def lines() -> list[str | Table]:
        table = Table("version", "id", "at", "rows", "excluded", "gates", "by", box=None, header_style="bold")
        for entry in entries:
            table.add_row(*(escape(str(value)) for value in verbs.log_row(entry)))
        return [table]

    terminal.tell({"name": name, "versions": entries}, lines)


def diff(
    a: Annotated[str, typer.Argument(help="NAME, NAME@ID or NAME@vN: the earlier version")],
    b: Annotated[str, typer.Argument(help="the later version")],
    limit: Annotated[int, typer.Option("--limit", min=0, help="Changed rows to show of each kind.")] = 10,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Say what changed between two versions, by meaning, each change with its reason."""
    from curate.manifest import verbs  # noqa: PLC0415 - pulls in pyarrow

    terminal = terminal_for(as_json, quiet)
    result = verbs.diff_versions(place_of(workspace), a, b, limit=limit)
    terminal.tell(result.to_json(), result.lines)


def verify(
    version: Annotated[str, typer.Argument(help="NAME, NAME@ID or NAME@vN")],
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Check every promise of a version; exit code 5 if one is broken."""
    from curate.manifest import verbs  # noqa: PLC0415 - pulls in pyarrow

    terminal = terminal_for(as_json, quiet)
    result = verbs.verify_version(place_of(workspace), version)
    terminal.tell(result.to_json(), result.lines)
    if not result.ok:
        raise typer.Exit(ExitCode.VERIFICATION)


def export(
    version: Annotated[str, typer.Argument(help="NAME, NAME@ID or NAME@vN")],
    format: Annotated[str, typer.Option("--format", help="coco | yolo | voc | csv | hf | webdataset")],  # noqa: A002 - the option's name
    out: Annotated[Path, typer.Option("--out", help="Folder to write; must not be there yet")],
    images: Annotated[str, typer.Option(help="link | copy | none")] = "link",
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Write released labels for trainers that want COCO, YOLO, VOC, CSV, Hugging Face datasets or WebDataset."""
    from curate.export import verbs  # noqa: PLC0415 - pulls in pyarrow

    terminal = terminal_for(as_json, quiet)
    result = verbs.export_version(place_of(workspace), version, format=format, out=out, images=images)
    terminal.tell(result, lambda: verbs.export_lines(result))


def report(
    name: Annotated[str, typer.Argument(help="Name of the dataset")],
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Rebuild the HTML report of the latest release."""
    from curate.report import rebuild_report  # noqa: PLC0415 - pulls in plotly

    terminal = terminal_for(as_json, quiet)
    page = rebuild_report(place_of(workspace), name)
    terminal.tell({"report": str(page)}, lambda: [f"report → {page}"])
