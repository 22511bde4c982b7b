"""Where a verb speaks, and the options that every verb takes."""

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

SpecArgument = Annotated[Path, typer.Argument(help="A dataset spec: datasets/NAME.yaml")]
WorkspaceOption = Annotated[Path | None, typer.Option("--workspace", help="Where to write. Default: ./workspace")]
ManifestsOption = Annotated[
    str | None,
    typer.Option(
        "--manifests",
        envvar="CURATE_MANIFESTS",
        help="Where releases are: a folder, s3://…, gs://… or az://…. Default: WORKSPACE/manifests",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON object on stdout, for machines.")]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="No progress on stderr.")]
WorkersOption = Annotated[int | None, typer.Option("--workers", min=1, help="Processes. Default: the CPUs.")]
LimitOption = Annotated[int | None, typer.Option("--limit", min=1, help="Try it on a sample of N images.")]


class _Output(Console):
    """Stdout. A reader that has seen enough (`| head`) is no failure: the verb's own exit code stands."""

    def on_broken_pipe(self) -> None:
        self.quiet = True
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())  # what is still buffered goes there when Python ends


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


def terminal_for(as_json: bool, quiet: bool) -> Terminal:
    """Return the terminal for the options of a verb."""
    return Terminal(_Output(), Console(stderr=True), as_json, quiet)


@contextmanager
def listening(terminal: Terminal) -> Iterator[Any]:
    """Give a run's listener that draws bars on stderr; takes them away at the end."""
    from curate.cli.interrupt import Interruptible  # noqa: PLC0415 - as above
    from curate.runs import Silent  # noqa: PLC0415 - `curate --help` needs none of it

    if terminal.quiet:
        yield Interruptible(Silent())
        return
    from curate.cli.progress import Bars  # noqa: PLC0415 - as above

    bars = Bars(terminal.err)
    try:
        yield Interruptible(bars)
    finally:
        bars.close()


def releases_at(workspace: Path | None, manifests: str | None) -> Any:  # noqa: ANN401 - curate.manifest.place.Place
    """Return where releases are: what `--manifests` names, or the workspace's own folder."""
    from curate.manifest.place import place_of as opened  # noqa: PLC0415 - `curate --help` needs none of it

    return opened(manifests) if manifests else place_of(workspace) / "manifests"


def place_of(workspace: Path | None) -> Path:
    """Return the workspace that `--workspace` names, or the default one."""
    from curate.runs import default_workspace  # noqa: PLC0415 - `curate --help` needs none of it

    return (workspace or default_workspace()).resolve()
