"""The verbs. The only module that prints or sets exit codes; everything it does is one import away."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from curate import __version__
from curate.errors import ConfigError, CurateError, ExitCode

app = typer.Typer(
    name="curate",
    help="Labeled images in, a versioned release and a reason for every row out.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
db = typer.Typer(help="The workspace's embedded MongoDB.", no_args_is_help=True)
app.add_typer(db, name="db")

SpecArgument = Annotated[Path, typer.Argument(help="A dataset spec: datasets/NAME.yaml")]
WorkspaceOption = Annotated[Path | None, typer.Option("--workspace", help="Where to write. Default: ./workspace")]
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON object on stdout, for machines.")]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="No progress on stderr.")]
WorkersOption = Annotated[int | None, typer.Option("--workers", min=1, help="Processes. Default: the CPUs.")]
LimitOption = Annotated[int | None, typer.Option("--limit", min=1, help="Try it on a sample of N images.")]
INTERRUPTED = 130


@dataclass(frozen=True)
class Terminal:
    """Where a verb speaks: results to stdout, progress and errors to stderr."""

    out: Console
    err: Console
    as_json: bool
    quiet: bool

    def tell(self, result: Mapping[str, Any], lines: Callable[[], Iterable[str | Table]]) -> None:
        """Write the result as JSON, or as lines and tables for people."""
        if self.as_json:
            sys.stdout.write(json.dumps(result, ensure_ascii=False, sort_keys=True, default=str) + "\n")
            return
        for line in lines():
            if isinstance(line, Table):
                self.out.print(line)
            else:
                self.line(line)

    def line(self, text: str) -> None:
        """Write a line to stdout; the text is not markup."""
        self.out.print(escape(text), highlight=False, soft_wrap=True)


def _terminal(as_json: bool, quiet: bool) -> Terminal:
    return Terminal(Console(), Console(stderr=True), as_json, quiet)


@contextmanager
def _listening(terminal: Terminal) -> Iterator[Any]:
    from curate.runs import Silent  # noqa: PLC0415 - `curate --help` needs none of it
    from curate.terminal import Bars  # noqa: PLC0415 - as above

    if terminal.quiet:
        yield Silent()
        return
    bars = Bars(terminal.err)
    try:
        yield bars
    finally:
        bars.close()


@app.command()
def run(
    spec: SpecArgument,
    workspace: WorkspaceOption = None,
    limit: LimitOption = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done, with time and disk.")] = False,
    rehash: Annotated[bool, typer.Option("--rehash", help="Read every image again.")] = False,
    review: Annotated[bool, typer.Option("--review/--no-review", help="Load FiftyOne; pull decisions.")] = True,
    workers: WorkersOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Run the whole pipeline on a spec; print what it found and where report and manifest are."""
    terminal = _terminal(as_json, quiet)
    if dry_run:
        from curate.dry_run import estimate  # noqa: PLC0415 - only here

        plan = estimate(spec, workspace=workspace, limit=limit, workers=workers)
        terminal.tell(plan.to_json(), plan.lines)
        return
    from curate.pipeline import run as run_pipeline  # noqa: PLC0415 - pulls in pyarrow and SciPy

    with _listening(terminal) as listener:
        result = run_pipeline(
            spec,
            workspace=workspace,
            limit=limit,
            rehash=rehash,
            review=review,
            workers=workers,
            listener=listener,
        )
    from curate.summary import summarize, summary_lines  # noqa: PLC0415 - as above

    summary = summarize(result)
    terminal.tell(summary, lambda: summary_lines(summary))
    raise typer.Exit(result.exit_code)


def _stage_verb(name: str, doc: str) -> None:
    """Register a verb that runs the pipeline up to one stage and says what that stage made."""

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

        terminal = _terminal(as_json, quiet)
        with _listening(terminal) as listener:
            result = run_pipeline(
                spec, workspace=workspace, until=name, limit=limit, review=False, workers=workers, listener=listener
            )
        summary, lines = stage_summary(result, name)
        terminal.tell(summary, lambda: lines)

    verb.__doc__ = doc
    app.command(name)(verb)


_stage_verb("ingest", "Read rows and labels of a spec; say what came in and what is out, and why.")
_stage_verb("check", "Run ingest, scan and the checks that need no teacher.")
_stage_verb("teach", "Run everything up to the teachers' predictions.")


@app.command()
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

    terminal = _terminal(as_json, quiet)
    with _listening(terminal) as listener:
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


@app.command()
def flag(
    table: Annotated[Path, typer.Argument(help="Parquet with label and prob_<teacher> columns")],
    out: Annotated[Path, typer.Option("--out", help="Parquet file to write")],
    classes: Annotated[str | None, typer.Option(help="Class order: a,b,c")] = None,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Flag wrong labels in any table of labels and teachers' probabilities."""
    del workspace  # every verb takes it; this one writes to --out only
    from curate.summary import flag_lines  # noqa: PLC0415 - `curate --help` needs none of it
    from curate.teachers.flag_table import flag_table  # noqa: PLC0415 - pulls in SciPy

    terminal = _terminal(as_json, quiet)
    names = [name.strip() for name in classes.split(",")] if classes else None
    with _listening(terminal) as listener:
        listener.stage_started("flag")
        summary = flag_table(table, out, classes=names, progress=listener.progress)
    terminal.tell(summary.to_json(), lambda: flag_lines(summary))


@app.command()
def init(
    path: Annotated[Path, typer.Argument(help="A folder or file with labeled images")],
    out: Annotated[Path | None, typer.Option("--out", help="Spec to write. Default: ./NAME.yaml")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a spec that is there.")] = False,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Recognise the format of a folder or file and write a commented spec that runs."""
    del workspace
    from curate.init import write_spec  # noqa: PLC0415 - pulls in the formats

    terminal = _terminal(as_json, quiet)
    written = write_spec(path, out=out, force=force)
    terminal.tell(written.to_json(), written.lines)


@app.command()
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

    terminal = _terminal(as_json, quiet)
    place = _place(workspace)
    if pull:
        report = verbs.pull(place, name, reviewer=reviewer)
        terminal.tell(report.to_json(), report.lines)
        return
    opened = verbs.open_app(place, name, port=port, view=view)
    terminal.tell(opened.to_json(), opened.lines)
    sys.stdout.flush()
    opened.wait()


@app.command()
def log(
    name: Annotated[str, typer.Argument(help="Name of the dataset")],
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Show the published versions, newest first."""
    from curate.manifest import verbs  # noqa: PLC0415 - pulls in pyarrow

    terminal = _terminal(as_json, quiet)
    entries = verbs.log_entries(_place(workspace), name)

    def lines() -> list[str | Table]:
        table = Table("version", "id", "at", "rows", "excluded", "gates", "by", box=None, header_style="bold")
        for entry in entries:
            table.add_row(*(escape(str(value)) for value in verbs.log_row(entry)))
        return [table]

    terminal.tell({"name": name, "versions": entries}, lines)


@app.command()
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

    terminal = _terminal(as_json, quiet)
    result = verbs.diff_versions(_place(workspace), a, b, limit=limit)
    terminal.tell(result.to_json(), result.lines)


@app.command()
def verify(
    version: Annotated[str, typer.Argument(help="NAME, NAME@ID or NAME@vN")],
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Check every promise of a version; exit code 5 if one is broken."""
    from curate.manifest import verbs  # noqa: PLC0415 - pulls in pyarrow

    terminal = _terminal(as_json, quiet)
    result = verbs.verify_version(_place(workspace), version)
    terminal.tell(result.to_json(), result.lines)
    if not result.ok:
        raise typer.Exit(ExitCode.VERIFICATION)


@app.command()
def export(
    version: Annotated[str, typer.Argument(help="NAME, NAME@ID or NAME@vN")],
    format: Annotated[str, typer.Option("--format", help="coco | yolo | voc | csv")],  # noqa: A002 - the option's name
    out: Annotated[Path, typer.Option("--out", help="Folder to write; must not be there yet")],
    images: Annotated[str, typer.Option(help="link | copy | none")] = "link",
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Write released labels for trainers that want COCO, YOLO, VOC or CSV."""
    from curate.export import verbs  # noqa: PLC0415 - pulls in pyarrow

    terminal = _terminal(as_json, quiet)
    result = verbs.export_version(_place(workspace), version, format=format, out=out, images=images)
    terminal.tell(result, lambda: verbs.export_lines(result))


@app.command()
def report(
    name: Annotated[str, typer.Argument(help="Name of the dataset")],
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Rebuild the HTML report of the latest release."""
    from curate.report import rebuild_report  # noqa: PLC0415 - pulls in plotly

    terminal = _terminal(as_json, quiet)
    page = rebuild_report(_place(workspace), name)
    terminal.tell({"report": str(page)}, lambda: [f"report → {page}"])


@app.command()
def doctor(
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Say what works on this machine, what is missing and how to get it."""
    from curate.doctor import doctor as examine  # noqa: PLC0415 - looks at heavy packages

    terminal = _terminal(as_json, quiet)
    found = examine(_place(workspace))

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


@db.command("stop")
def db_stop(workspace: WorkspaceOption = None, as_json: JsonOption = False, quiet: QuietOption = False) -> None:
    """Stop the workspace's embedded MongoDB."""
    from curate.adapters.mongod import stop_database  # noqa: PLC0415 - only here

    terminal = _terminal(as_json, quiet)
    stopped = stop_database(_place(workspace))
    told = "stopped" if stopped else "no embedded MongoDB was running"
    terminal.tell({"stopped": stopped}, lambda: [told])


@db.command("status")
def db_status(workspace: WorkspaceOption = None, as_json: JsonOption = False, quiet: QuietOption = False) -> None:
    """Say whether the workspace's MongoDB runs, and where."""
    from dataclasses import asdict  # noqa: PLC0415 - only here

    from curate.adapters.mongod import database_status  # noqa: PLC0415 - only here

    terminal = _terminal(as_json, quiet)
    status = database_status(_place(workspace))
    terminal.tell(asdict(status), lambda: [status.detail])


def _place(workspace: Path | None) -> Path:
    from curate.runs import default_workspace  # noqa: PLC0415 - `curate --help` needs none of it

    return (workspace or default_workspace()).resolve()


def _version(value: bool) -> None:
    if value:
        sys.stdout.write(f"curate {__version__}\n")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Labeled images in, a versioned release and a reason for every row out."""


def main() -> None:
    """Run the command line: one line per error, a stack trace only where CURATE_DEBUG is set."""
    try:
        app()
    except CurateError as error:
        _fail(str(error), error.exit_code, error)
    except (KeyboardInterrupt, SystemExit) as ended:
        # typer turns a Ctrl-C in a verb into an exit with this code, and says nothing
        if isinstance(ended, SystemExit) and ended.code != INTERRUPTED:
            raise
        sys.stderr.write("Interrupted. What was done is kept; the same command goes on from there.\n")
        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(ExitCode.OK)
    except Exception as error:  # noqa: BLE001 - the last line of defence: a sentence and a code, not a stack trace
        message = (
            f"curate crashed: {type(error).__name__}: {error}. What was done before is kept. "
            f"Set CURATE_DEBUG=1 for the stack trace."
        )
        _fail(message, ExitCode.CRASHED, error)


def _fail(message: str, code: ExitCode, error: BaseException) -> None:
    if os.environ.get("CURATE_DEBUG"):
        raise error
    kind = "usage" if isinstance(error, ConfigError) else code.name.lower()
    if "--json" in sys.argv:
        sys.stdout.write(json.dumps({"error": message, "kind": kind, "exit_code": int(code)}) + "\n")
    sys.stderr.write(f"curate: {message}\n")
    sys.exit(int(code))
