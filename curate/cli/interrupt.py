"""Ctrl-C: one exception, which neither an import nor a library that catches everything loses."""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass
from types import FrameType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from curate.runs import Listener

_PRESSED = threading.Event()


def interrupt(number: int, frame: FrameType | None) -> None:
    """Raise KeyboardInterrupt, but not inside the import machinery: it would keep its locks, and threads would hang."""
    if frame is not None and frame.f_code.co_filename.startswith("<frozen importlib"):
        threading.Timer(0.02, os.kill, (os.getpid(), number)).start()
        return
    _PRESSED.set()
    raise KeyboardInterrupt


@dataclass(frozen=True, slots=True)
class Interruptible:
    """A run's listener that ends a run which goes on though Ctrl-C was pressed.

    A module that is being imported may catch every exception, this one too. Then the run comes here again, with its
    next stage or step, and what ends a run never does.
    """

    inner: Listener

    def stage_started(self, stage: str) -> None:
        """Pass it on, or raise KeyboardInterrupt."""
        _refuse_to_go_on()
        self.inner.stage_started(stage)

    def progress(self, n_done: int, n_total: int | None) -> None:
        """Pass it on, or raise KeyboardInterrupt."""
        _refuse_to_go_on()
        self.inner.progress(n_done, n_total)

    def stage_done(self, stage: str, seconds: float, *, cached: bool, note: str) -> None:
        """Pass it on."""
        self.inner.stage_done(stage, seconds, cached=cached, note=note)


def _refuse_to_go_on() -> None:
    if _PRESSED.is_set():
        raise KeyboardInterrupt
