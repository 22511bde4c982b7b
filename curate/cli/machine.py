"""Verbs about this machine: what works, and the workspace's MongoDB."""

from __future__ import annotations

import typer
from rich.table import Table

from curate.cli.terminal import JsonOption, QuietOption, WorkspaceOption, place_of, terminal_for
from curate.errors import ExitCode


def doctor(
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Say what works on this machine, what is missing and how to get it."""
    from curate.doctor import doctor as examine  # noqa: PLC0415 - looks at heavy packages

    terminal = terminal_for(as_json, quiet)
    found = examine(place_of(workspace))

    def lines() -> list[str | Table]:
        marks = {True: "ok", False: "MISSING", None: "-"}
        told: list[str | Table] = []
        for item in found:
            told.append(f"{marks[item.ok]:<8} {item.name:<22} {item.detail}")
            if item.remedy and item.ok is not True:
                told.append(f"{'':<31} → {item.remedy}")
        return told

    as_rows = [{"name": i.name, "ok": i.ok, "detail": i.detail, "remedy": i.remedy} for i in found]
    terminal.tell({"findings": as_rows}, lines)
    if any(item.ok is False for item in found):
        raise typer.Exit(ExitCode.USAGE)


def db_stop(workspace: WorkspaceOption = None, as_json: JsonOption = False, quiet: QuietOption = False) -> None:
    """Stop the workspace's embedded MongoDB."""
    from curate.adapters.mongod import stop_database  # noqa: PLC0415 - only here

    terminal = terminal_for(as_json, quiet)
    stopped = stop_database(place_of(workspace))
    told = "stopped" if stopped else "no embedded MongoDB was running"
    terminal.tell({"stopped": stopped}, lambda: [told])


def db_status(workspace: WorkspaceOption = None, as_json: JsonOption = False, quiet: QuietOption = False) -> None:
    """Say whether the workspace's MongoDB runs, and where."""
    from dataclasses import asdict  # noqa: PLC0415 - only here

    from curate.adapters.mongod import database_status  # noqa: PLC0415 - only here

    terminal = terminal_for(as_json, quiet)
    status = database_status(place_of(workspace))
    terminal.tell(asdict(status), lambda: [status.detail])
