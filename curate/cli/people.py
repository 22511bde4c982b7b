"""Verbs that bring people in."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from curate.cli.terminal import JsonOption, QuietOption, WorkspaceOption, place_of, terminal_for


def review(
    name: Annotated[str, typer.Argument(help="Name of the dataset")],
    pull: Annotated[bool, typer.Option("--pull", help="Bring decisions back instead of opening the App.")] = False,
    view: Annotated[str | None, typer.Option(help="Saved view to open.")] = None,
    port: Annotated[int | None, typer.Option(help="Port of the App. Default: 5151, or a free one.")] = None,
    reviewer: Annotated[str | None, typer.Option(help="Who decides (self-declared).")] = None,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Open the FiftyOne App on the suspects; --pull writes what was decided there to the ledger."""
    from curate.review import verbs  # noqa: PLC0415 - FiftyOne takes seconds to import

    terminal = terminal_for(as_json, quiet)
    place = place_of(workspace)
    if pull:
        report = verbs.pull(place, name, reviewer=reviewer)
        terminal.tell(report.to_json(), report.lines)
        return
    opened = verbs.open_app(place, name, port=port, view=view)
    terminal.tell(opened.to_json(), opened.lines)
    sys.stdout.flush()
    opened.wait()
