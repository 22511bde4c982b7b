"""Progress on stderr: a bar with rate and remaining time for everything that lasts over two seconds."""

from __future__ import annotations

import time

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

BAR_AFTER_S = 2.0


class RateColumn(ProgressColumn):
    """Rows per second."""

    def render(self, task: Task) -> Text:
        """Return the rate, or nothing while it is unknown."""
        speed = task.finished_speed or task.speed
        return Text(f"{speed:,.0f}/s" if speed else "", style="progress.data.speed")


class Bars:
    """A run's listener: a line per stage when it is done, a bar while it lasts.

    Args:
        console: writes to stderr; on a pipe only the lines are written, no bars.
    """

    def __init__(self, console: Console) -> None:
        self.console = console
        self._progress: Progress | None = None
        self._task: TaskID | None = None
        self._stage = ""
        self._began_s = 0.0

    def stage_started(self, stage: str) -> None:
        """Remember when; the bar comes when it lasts."""
        self._close()
        self._stage, self._began_s = stage, time.monotonic()
        if self.console.is_terminal:
            self._progress = Progress(
                SpinnerColumn(),
                TextColumn("{task.description}"),
                BarColumn(bar_width=28),
                MofNCompleteColumn(),
                RateColumn(),
                TimeElapsedColumn(),
                TimeRemainingColumn(),
                console=self.console,
                transient=True,
            )
            self._task = self._progress.add_task(stage, total=None, visible=False)
            self._progress.start()

    def progress(self, n_done: int, n_total: int | None) -> None:
        """Move the bar."""
        if self._progress is None or self._task is None:
            return
        late = time.monotonic() - self._began_s > BAR_AFTER_S
        self._progress.update(self._task, completed=n_done, total=n_total, visible=late)

    def stage_done(self, stage: str, seconds: float, *, cached: bool, note: str) -> None:
        """Write the stage's line."""
        self._close()
        told = " · ".join(part for part in ("unchanged" if cached else "", note) if part)
        line = f"  [green]✓[/] {stage:<34} {seconds:>7.1f} s  [dim]{escape(told)}[/]"
        self.console.print(line, highlight=False, soft_wrap=True)  # a log file has no width

    def close(self) -> None:
        """Take the bar away, whatever happened."""
        self._close()

    def _close(self) -> None:
        if self._progress is not None:
            self._progress.stop()
        self._progress = self._task = None
