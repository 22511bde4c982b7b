"""Verbs that bring people in."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from curate.cli.terminal import (
    JsonOption,
    LimitOption,
    ManifestsOption,
    QuietOption,
    SpecArgument,
    Terminal,
    WorkersOption,
    WorkspaceOption,
    listening,
    place_of,
    releases_at,
    terminal_for,
)
from curate.errors import ConfigError

if TYPE_CHECKING:
    from curate.audit.store import Audit


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


def audit(
    name: Annotated[
        str | None, typer.Argument(help="NAME of the dataset, or NAME@ID to draw from a version")
    ] = None,
    table: Annotated[Path | None, typer.Option(help="Audit a table of flags instead of a dataset.")] = None,
    budget: Annotated[int, typer.Option(help="How many looks; one of eleven is a second look.")] = 200,
    target_precision: Annotated[
        float | None, typer.Option(help="Precision that a threshold is to be certified for; name it now.")
    ] = None,
    csv: Annotated[Path | None, typer.Option("--csv", help="Write a sheet to fill in, instead of the App.")] = None,
    answers: Annotated[Path | None, typer.Option(help="Take in a filled sheet.")] = None,
    pull: Annotated[bool, typer.Option("--pull", help="Take in what was answered in the App.")] = False,
    result: Annotated[bool, typer.Option("--result", help="Say what the answers say.")] = False,
    new: Annotated[bool, typer.Option("--new", help="Draw another sample though there is one.")] = False,
    seed: Annotated[int, typer.Option(help="Seed of the draw.")] = 0,
    port: Annotated[int | None, typer.Option(help="Port of the App. Default: 5151, or a free one.")] = None,
    reviewer: Annotated[str | None, typer.Option(help="Who answers (self-declared).")] = None,
    workspace: WorkspaceOption = None,
    manifests: ManifestsOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Look at a few hundred labels drawn by chance; get precision, recall, noise rate and a threshold, with intervals."""
    terminal = terminal_for(as_json, quiet)
    if (name is None) == (table is None):
        raise ConfigError(
            "An audit is about a dataset or about a table: curate audit NAME, or --table FLAGS.parquet"
        )
    if sum([csv is not None, answers is not None, pull, result]) > 1:
        raise ConfigError("Give one of --csv, --answers, --pull and --result: each is a step of its own.")
    if table is not None:
        _audit_table(terminal, table, budget, seed, target_precision, csv, answers, reviewer)
        return
    from curate.audit import verbs  # noqa: PLC0415 - `curate --help` needs none of it
    from curate.audit.result import lines, result_of  # noqa: PLC0415 - as above
    from curate.review.ledger import ledger_folder  # noqa: PLC0415 - as above

    place, plain = place_of(workspace), (name or "").partition("@")[0]
    decided = ledger_folder(place, plain)
    if result:
        found = result_of(verbs.latest_audit(place, plain), target_precision=target_precision)
        terminal.tell(found.to_json(), lambda: lines(found))
        return
    if answers is not None:
        asked = verbs.latest_audit(place, plain)
        taken = verbs.take_sheet(
            asked,
            answers,
            reviewer=reviewer,
            ledger_folder=decided,
            classes=verbs.audited_classes(place, asked, releases_at(workspace, manifests)),
            target_precision=target_precision,
        )
        terminal.tell(taken.to_json(), taken.lines)
        return
    if pull:
        from curate.audit.app import pull_answers  # noqa: PLC0415 - FiftyOne takes seconds to import

        taken = pull_answers(
            place, plain, reviewer=reviewer, ledger_folder=decided, target_precision=target_precision
        )
        terminal.tell(taken.to_json(), taken.lines)
        return
    drawn, is_new = verbs.open_audit(
        place,
        name or "",
        budget=budget,
        seed=seed,
        target_precision=target_precision,
        new=new,
        root=releases_at(workspace, manifests),
    )
    if csv is not None:
        verbs.hand_out(drawn, csv)
        _tell_sheet(terminal, drawn, csv, f"curate audit {plain} --answers {csv}", is_new=is_new)
        return
    from curate.audit.app import open_app  # noqa: PLC0415 - as above

    opened = open_app(place, plain, drawn, port=port)
    terminal.tell(opened.to_json(), opened.lines)
    sys.stdout.flush()
    opened.wait()


def _audit_table(
    terminal: Terminal,
    table: Path,
    budget: int,
    seed: int,
    target_precision: float | None,
    csv: Path | None,
    answers: Path | None,
    reviewer: str | None,
) -> None:
    from curate.audit import store, verbs  # noqa: PLC0415 - `curate --help` needs none of it

    if answers is not None:
        audit = store.read(verbs.table_folder(answers))
        taken = verbs.take_sheet(
            audit, answers, reviewer=reviewer, ledger_folder=None, target_precision=target_precision
        )
        terminal.tell(taken.to_json(), taken.lines)
        return
    if csv is None:
        raise ConfigError("An audit of a table goes by a sheet: --csv SHEET.csv, then --answers SHEET.csv")
    drawn, is_new = verbs.open_table_audit(table, csv, budget=budget, seed=seed, target_precision=target_precision)
    verbs.hand_out(drawn, csv)
    _tell_sheet(terminal, drawn, csv, f"curate audit --table {table} --answers {csv}", is_new=is_new)


def _tell_sheet(terminal: Terminal, drawn: Audit, csv: Path, then: str, *, is_new: bool) -> None:
    design = drawn.design
    told = {
        "audit": design.digest,
        "sheet": str(csv),
        "is_new": is_new,
        "n_looks": len(design.looks),
        "n_open": len(drawn.open_looks),
        "n_drawn": len(design.items),
        "n_labels": design.n_population,
    }
    recorded = "recorded" if is_new else "recorded before"
    terminal.tell(
        told,
        lambda: [
            f"{len(design.looks)} looks at {len(design.items)} of {design.n_population:,} labels → {csv}",
            f"The sample and its probabilities are {recorded} (sha256 {design.digest[:16]}…): {drawn.folder}",
            "Fill in answer (correct, wrong, can't tell) and, where it is wrong and you know it, true_label. Then:",
            f"  {then}",
        ],
    )


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
