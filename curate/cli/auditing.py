"""`curate audit`: each option that names a step is a step of its own."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from curate.cli.terminal import (
    JsonOption,
    ManifestsOption,
    QuietOption,
    Terminal,
    WorkspaceOption,
    place_of,
    releases_at,
    terminal_for,
)
from curate.errors import ConfigError

if TYPE_CHECKING:
    from curate.audit.store import Audit
    from curate.manifest.place import Place


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
    place, root, known = place_of(workspace), releases_at(workspace, manifests), name or ""
    if result:
        _tell_result(terminal, place, known.partition("@")[0], target_precision)
    elif answers is not None or pull:
        _take(terminal, place, root, known.partition("@")[0], answers, reviewer, target_precision)
    else:
        from curate.audit.verbs import open_audit  # noqa: PLC0415 - `curate --help` needs none of it

        drawn, is_new = open_audit(
            place, known, budget=budget, seed=seed, target_precision=target_precision, new=new, root=root
        )
        _hand_out(terminal, place, drawn, csv, port, is_new=is_new)


def _tell_result(terminal: Terminal, place: Path, name: str, target_precision: float | None) -> None:
    from curate.audit.result import lines, result_of  # noqa: PLC0415 - `curate --help` needs none of it
    from curate.audit.verbs import latest_audit  # noqa: PLC0415 - as above

    found = result_of(latest_audit(place, name), target_precision=target_precision)
    terminal.tell(found.to_json(), lambda: lines(found))


def _take(
    terminal: Terminal,
    place: Path,
    root: Place,
    name: str,
    answers: Path | None,
    reviewer: str | None,
    target_precision: float | None,
) -> None:
    """Take in a filled sheet, or what was answered in the App where there is none."""
    from curate.audit import verbs  # noqa: PLC0415 - `curate --help` needs none of it
    from curate.review.ledger import ledger_folder  # noqa: PLC0415 - as above

    decided = ledger_folder(place, name)
    if answers is None:
        from curate.audit.app import pull_answers  # noqa: PLC0415 - FiftyOne takes seconds to import

        taken = pull_answers(
            place, name, reviewer=reviewer, ledger_folder=decided, target_precision=target_precision
        )
    else:
        asked = verbs.latest_audit(place, name)
        taken = verbs.take_sheet(
            asked,
            answers,
            reviewer=reviewer,
            ledger_folder=decided,
            classes=verbs.audited_classes(place, asked, root),
            target_precision=target_precision,
        )
    terminal.tell(taken.to_json(), taken.lines)


def _hand_out(
    terminal: Terminal, place: Path, drawn: Audit, csv: Path | None, port: int | None, *, is_new: bool
) -> None:
    """Write the sheet of an audit, or open the App on it."""
    name = drawn.design.subject["name"]
    if csv is not None:
        from curate.audit.verbs import hand_out  # noqa: PLC0415 - `curate --help` needs none of it

        hand_out(drawn, csv)
        _tell_sheet(terminal, drawn, csv, f"curate audit {name} --answers {csv}", is_new=is_new)
        return
    from curate.audit.app import open_app  # noqa: PLC0415 - FiftyOne takes seconds to import

    opened = open_app(place, name, drawn, port=port)
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
    from curate.audit import verbs  # noqa: PLC0415 - `curate --help` needs none of it

    if answers is not None:
        taken = verbs.take_table_sheet(table, answers, reviewer=reviewer, target_precision=target_precision)
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
