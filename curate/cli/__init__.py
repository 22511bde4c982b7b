"""The verbs. The only package that prints or sets exit codes; everything it does is one import away.

A verb is a function in one of the modules below and a line in `VERBS`.
"""

from __future__ import annotations

import gc
import json
import os
import signal
import sys
from collections.abc import Callable
from typing import Annotated

import typer

from curate import __version__
from curate.cli import auditing, life, machine, people, releases, stages
from curate.cli.interrupt import interrupt
from curate.cli.keep_out import keep_out
from curate.errors import ConfigError, CurateError, ExitCode

INTERRUPTED = 130

VERBS: dict[str, tuple[Callable[..., None], ...]] = {  # heading in --help -> verbs
    "Make a release": (
        stages.init,
        stages.run,
        releases.report,
        releases.export,
        releases.describe,
    ),
    "One stage, or files without a spec": (
        stages.ingest,
        stages.scan,
        stages.check,
        stages.teach,
        stages.flag,
    ),
    "People and evidence": (people.review, auditing.audit, people.plant),
    "The life of versions": (
        releases.log,
        releases.show,
        releases.diff,
        releases.verify,
        life.rollback,
        life.retract,
        life.tag,
        life.used,
        life.where,
        life.sign,
        life.gc,
        releases.erase,
    ),
    "This machine": (machine.doctor,),
}
DB_VERBS = {"stop": machine.db_stop, "status": machine.db_status}

app = typer.Typer(
    name="curate",
    help="Labeled images in, a versioned release and a reason for every row out.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
db = typer.Typer(help="The workspace's embedded MongoDB.", no_args_is_help=True)
app.add_typer(db, name="db", rich_help_panel="This machine")
for heading, verbs in VERBS.items():
    for verb in verbs:
        app.command(rich_help_panel=heading)(verb)
for name, verb in DB_VERBS.items():
    db.command(name)(verb)
keys = typer.Typer(help="Keys to sign versions with.", no_args_is_help=True)
app.add_typer(keys, name="keys", rich_help_panel="The life of versions")
keys.command("new")(life.keys_new)


@keys.callback()
def _keys() -> None:
    """Keys to sign versions with."""


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


def main(*, own_process: bool = True) -> None:
    """Run the command line and end the process: one line per error, a stack trace only where CURATE_DEBUG is set.

    Args:
        own_process: whether nothing else runs in the process later, so that what a verb never needs can be kept out.
    """
    if own_process and sys.argv[1:2] == ["flag"]:
        gc.set_threshold(100_000)  # what is loaded stays, and arrays are freed without it
        keep_out("pandas")  # Arrow loads it with the first array that it converts: a fifth of a second for nothing
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # not where the caller ignores Ctrl-C
        signal.signal(signal.SIGINT, interrupt)
    try:
        app()
    except CurateError as error:
        _fail(str(error), error.exit_code, error)
    except (KeyboardInterrupt, SystemExit) as ended:
        # typer turns a Ctrl-C in a verb into an exit with this code, and says nothing
        if isinstance(ended, SystemExit) and ended.code != INTERRUPTED:
            raise
        if os.environ.get("CURATE_DEBUG"):
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
    finally:
        if signal.getsignal(signal.SIGINT) is interrupt:  # all is done: what closes at the end is not to be torn
            signal.signal(signal.SIGINT, signal.SIG_IGN)


def _fail(message: str, code: ExitCode, error: BaseException) -> None:
    if os.environ.get("CURATE_DEBUG"):
        raise error
    kind = "usage" if isinstance(error, ConfigError) else code.name.lower()
    if "--json" in sys.argv:
        sys.stdout.write(json.dumps({"error": message, "kind": kind, "exit_code": int(code)}) + "\n")
    sys.stderr.write(f"curate: {message}\n")
    sys.exit(int(code))
