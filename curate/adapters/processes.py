"""Worker processes: started without forking this one, silent on the terminal, gone when the driver is gone."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
import threading
import types
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import resource_tracker
from typing import Any, Self

import pyarrow as pa

from curate.errors import StageError

# once in the fork server, not once in each worker; so is the module of the first function that is mapped
PRELOADED = [
    "numpy",
    "pyarrow",
    "pyarrow.compute",
    "cv2",
    "PIL.JpegImagePlugin",
    "PIL.PngImagePlugin",
    "threadpoolctl",
]


@dataclass(frozen=True, slots=True)
class _Packed:
    """A table as an Arrow IPC stream: to pickle a slice would send the whole table that it is a slice of."""

    stream: bytes


def packed(value: object) -> object:
    """Return a table as bytes, anything else as it is."""
    if not isinstance(value, pa.Table):
        return value
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, value.schema) as writer:
        writer.write_table(value)
    return _Packed(sink.getvalue().to_pybytes())


def unpacked(value: Any) -> Any:  # noqa: ANN401 - generic
    """Return what was packed."""
    return pa.ipc.open_stream(value.stream).read_all() if isinstance(value, _Packed) else value


def _apply(fn: Callable[[Any], Any], shard: object) -> object:
    return packed(fn(unpacked(shard)))


class Pool:
    """A pool of processes that is started when first needed, and again after it was killed."""

    def __init__(self, workers: int, fn: Callable[[Any], Any]) -> None:
        self._workers = workers
        self._fn = fn
        self._executor: ProcessPoolExecutor | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def submit(self, shard: object) -> Future[Any]:
        """Hand a shard to a worker."""
        return self._submit(_apply, self._fn, packed(shard))

    def ensure_started(self) -> None:
        """Start the pool and see one trivial call succeed, so that a row is never blamed for the machine."""
        if self._executor is not None:
            return
        try:
            self._submit(os.getpid).result()
        except BrokenProcessPool as error:
            self.kill()
            msg = (
                "Worker processes cannot start on this machine, or end at once (no memory, a limit on processes, "
                "or a script that starts curate outside `if __name__ == '__main__':`). "
                "Use the engine threads or serial instead."
            )
            raise StageError(msg) from error

    def _submit(self, call: Callable[..., Any], *args: object) -> Future[Any]:
        with _interrupts_held_back():
            if self._executor is None:
                self._executor = ProcessPoolExecutor(
                    self._workers, mp_context=_context(self._fn), initializer=_start_worker
                )
            with _hidden_main(self._fn):
                return self._executor.submit(call, *args)

    def kill(self) -> None:
        """End the workers now, whatever they do, and reap them."""
        executor, self._executor = self._executor, None
        if executor is None:
            return
        # before the shutdown: it frees semaphores that a worker which is just being born still wants to open
        for process in list((executor._processes or {}).values()):  # noqa: SLF001 - kill_workers() is new in 3.14
            with contextlib.suppress(ValueError):  # closed: it is gone already
                process.kill()
        executor.shutdown(wait=True, cancel_futures=True)


def _context(fn: object) -> Any:  # noqa: ANN401 - one of three context classes
    """Never fork this process: it has threads (Arrow, BLAS), and a forked lock may stay locked for good."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    module = getattr(_inner(fn), "__module__", None) or "__main__"
    context.set_forkserver_preload(PRELOADED if module == "__main__" else [*PRELOADED, module])
    return context


@contextlib.contextmanager
def _interrupts_held_back() -> Iterator[None]:
    """Let a Ctrl-C wait until a process has been started.

    It goes to the whole process group: a fork server that is still importing would write a stack trace, so it is
    born with the signal blocked. Here a mask is not enough, another thread may take the signal: a worker that is
    just being born would not be known to its pool yet, and outlive it.
    """
    is_main = threading.current_thread() is threading.main_thread()  # nobody else hears of a Ctrl-C
    if not is_main or not hasattr(signal, "pthread_sigmask") or signal.getsignal(signal.SIGINT) is None:
        yield
        return
    held: list[int] = []
    handler = signal.signal(signal.SIGINT, lambda number, _: held.append(number))
    resource_tracker.ensure_running()  # first: it unblocks the signal when it starts
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        signal.signal(signal.SIGINT, handler)
        if held:
            signal.raise_signal(signal.SIGINT)


def _start_worker() -> None:
    """Leave Ctrl-C to the driver, end when the driver is gone, even by SIGKILL, and write nothing to its terminal.

    Native libraries (libpng, libjpeg) print warnings for odd files; what a worker raises travels another way.
    BLAS gets one thread: as many as CPUs in each of as many workers wait for each other most of the time, and the
    bits of a product would depend on how many there are.
    """
    import threadpoolctl  # type: ignore[import-untyped]  # noqa: PLC0415 - in workers only

    threadpoolctl.threadpool_limits(limits=1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sink = os.open(os.devnull, os.O_WRONLY)
    os.dup2(sink, 2)
    os.close(sink)
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent,), daemon=True, name="curate-parent-watch").start()


def _end_with(parent: Any) -> None:  # noqa: ANN401 - multiprocessing's private parent handle
    parent.join()
    os._exit(1)


def _inner(fn: object) -> object:
    return getattr(fn, "func", fn)  # functools.partial


@contextlib.contextmanager
def _hidden_main(fn: object) -> Iterator[None]:
    """Keep new workers from importing the caller's script, which would run it again where it has no guard.

    A function that lives in the script itself needs that import, so then nothing is hidden.
    """
    main = sys.modules.get("__main__")
    if main is None or getattr(_inner(fn), "__module__", None) == "__main__":
        yield
        return
    sys.modules["__main__"] = types.ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main
