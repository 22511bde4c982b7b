"""Verbs that bring people in."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from curate.cli.terminal import (
    JsonOption,
    LimitOption,
    QuietOption,
    SpecArgument,
    WorkersOption,
    WorkspaceOption,
    listening,
    place_of,
    terminal_for,
)


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


def plant(
    spec: SpecArgument,
    share: Annotated[float, typer.Option(help="Share of the labels to spoil, for each kind of error.")] = 0.05,
    kinds: Annotated[
        str | None, typer.Option(help="uniform,class,hard,drop,shift,swap,invent,erode,switch")
    ] = None,
    budget: Annotated[
        int | None, typer.Option(help="Labels a reviewer looks at. Default: as many as planted.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Which labels, and how.")] = 0,
    workspace: WorkspaceOption = None,
    limit: LimitOption = None,
    workers: WorkersOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Spoil a copy of your labels on purpose, run the same pipeline, and say how much of it is found."""
    from curate.plant.run import plant as plant_errors  # noqa: PLC0415 - pulls in pyarrow and SciPy

    terminal = terminal_for(as_json, quiet)
    wanted = [kind.strip() for kind in kinds.split(",")] if kinds else []
    with listening(terminal) as listener:
        found = plant_errors(
            spec,
            workspace=workspace,
            share=share,
            kinds=wanted,
            budget=budget,
            seed=seed,
            limit=limit,
            workers=workers,
            listener=listener,
        )
    terminal.tell(found.to_json(), found.lines)
