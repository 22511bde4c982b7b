"""Runs a pure function over shards: in this thread, in threads, or in processes that may die.

The three engines give the same results in the same order. Processes are the default for bytes that nobody
vouches for: a decoder that crashes takes its worker with it, and only the row that did it is lost.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
import threading
import types
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import resource_tracker
from typing import Any, Literal, Self, TypeVar

import pyarrow as pa

from curate.errors import ConfigError, StageError, did_you_mean

Engine = Literal["processes", "threads", "serial"]
ENGINES: tuple[Engine, ...] = ("processes", "threads", "serial")
Progress = Callable[[int, int | None], None]

S = TypeVar("S")
R = TypeVar("R")

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
IN_FLIGHT_PER_WORKER = 2  # one that runs and one that waits: a worker never idles, memory stays bounded


def default_workers() -> int:
    """Return how many CPUs this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return max(1, len(os.sched_getaffinity(0)))
    return max(1, os.cpu_count() or 1)


def slices(table: pa.Table, rows: int) -> list[pa.Table]:
    """Cut `table` into consecutive zero-copy slices of at most `rows` rows; no slice for an empty table."""
    return [table.slice(start, rows) for start in range(0, table.num_rows, max(1, rows))]


def map_shards(
    fn: Callable[[S], R],
    shards: Iterable[S],
    *,
    workers: int | None = None,
    engine: Engine = "processes",
    progress: Progress | None = None,
    quarantine: Callable[[S], R] | None = None,
) -> Iterator[R]:
    """Yield `fn(shard)` for each shard, in the order of the shards.

    Args:
        fn: pure; for `processes` it and its shards and results must pickle (a module-level function, or a
            `functools.partial` of one).
        shards: taken as they are needed: at most `2 * workers` are in flight. A `pa.Table` is weighed by its
            rows in `progress` and can be bisected; anything else counts 1 and is not divisible.
        workers: threads or processes; default: the CPUs this process may use.
        engine: `processes` survives a crash of a worker; `threads` and `serial` do not.
        progress: called with (rows done, rows in all or None where `shards` is a stream).
        quarantine: makes the result for a one-row shard whose processing kills the worker twice in a row, once
            beside others and once alone. `fn` must then return tables.

    Raises:
        ConfigError: no such engine.
        StageError: workers cannot start at all, or a shard kills its worker and there is no `quarantine`.
        Exception: whatever `fn` raises, at the place of its shard; workers are ended first.
    """
    if engine not in ENGINES:
        msg = f"There is no engine {engine!r}. Engines: {', '.join(ENGINES)}. {did_you_mean(engine, ENGINES)}"
        raise ConfigError(msg.rstrip())
    n_workers = max(1, workers if workers is not None else default_workers())
    total = sum(_weight(shard) for shard in shards) if isinstance(shards, Sequence) else None
    results: Generator[tuple[S, R], None, None]
    if engine == "serial":
        results = ((shard, fn(shard)) for shard in shards)
    elif engine == "threads":
        results = _in_threads(fn, shards, n_workers)
    else:
        results = _in_processes(fn, shards, n_workers, quarantine)
    return _counted(results, total, progress)


def _counted(
    results: Generator[tuple[S, R], None, None], total: int | None, progress: Progress | None
) -> Iterator[R]:
    done = 0
    with contextlib.closing(results) as pairs:
        for shard, result in pairs:
            done += _weight(shard)
            if progress:
                progress(done, total)
            yield result


def _weight(shard: object) -> int:
    return shard.num_rows if isinstance(shard, pa.Table) else 1


def _in_threads(fn: Callable[[S], R], shards: Iterable[S], workers: int) -> Generator[tuple[S, R], None, None]:
    pool = ThreadPoolExecutor(workers, thread_name_prefix="curate")
    window: deque[tuple[S, Future[R]]] = deque()
    try:
        for shard in shards:
            window.append((shard, pool.submit(fn, shard)))
            if len(window) >= workers * IN_FLIGHT_PER_WORKER:
                head, future = window.popleft()
                yield head, future.result()
        while window:
            head, future = window.popleft()
            yield head, future.result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


@dataclass(slots=True)
class _Pending:
    """A shard in flight; `future` is None once its pool broke: it is then run again, alone."""

    shard: Any
    future: Future[Any] | None


def _in_processes(
    fn: Callable[[S], R], shards: Iterable[S], workers: int, quarantine: Callable[[S], R] | None
) -> Generator[tuple[S, R], None, None]:
    window: deque[_Pending] = deque()
    with _Pool(workers, fn) as pool, _Pool(1, fn) as alone:

        def submit(shard: S) -> None:
            try:
                window.append(_Pending(shard, pool.submit(shard)))
            except BrokenProcessPool:  # it broke since the last look; this shard was never in it
                _mark_suspects(window)
                pool.kill()
                window.append(_Pending(shard, pool.submit(shard)))

        def finish(pending: _Pending) -> tuple[S, R]:
            if pending.future is not None:
                try:
                    return pending.shard, _unpacked(pending.future.result())
                except BrokenProcessPool:
                    _mark_suspects(window)
                    pool.kill()
            return pending.shard, _run_alone(alone, pending.shard, quarantine)

        for shard in shards:
            submit(shard)
            if len(window) >= workers * IN_FLIGHT_PER_WORKER:
                yield finish(window.popleft())
        while window:
            yield finish(window.popleft())


def _mark_suspects(window: Iterable[_Pending]) -> None:
    """Every shard that was in the broken pool may be the one that broke it: run each of them alone."""
    for pending in window:
        # a broken pool resolves all its futures, so this does not wait for work
        if pending.future is not None and isinstance(pending.future.exception(), BrokenProcessPool):
            pending.future = None


def _run_alone(alone: _Pool, shard: Any, quarantine: Callable[[Any], Any] | None) -> Any:  # noqa: ANN401 - generic
    """Run `shard` in a pool of its own; where that dies, halve it until the row that kills stands alone."""
    stack, results = [shard], []
    while stack:
        part = stack.pop()
        alone.ensure_started()
        try:
            results.append(_unpacked(alone.submit(part).result()))
            continue
        except BrokenProcessPool:
            alone.kill()
        if isinstance(part, pa.Table) and part.num_rows > 1:
            middle = part.num_rows // 2
            stack += [part.slice(middle), part.slice(0, middle)]  # the first half is popped first
        elif quarantine is None:
            msg = (
                "A worker process died (killed, or a native library crashed) on a shard that cannot be divided "
                "further, and this stage has no way to set a row aside. Run it again with more memory or fewer "
                f"workers. The shard: {_shown(part)}"
            )
            raise StageError(msg)
        else:
            results.append(quarantine(part))
    return results[0] if len(results) == 1 else pa.concat_tables(results)


def _shown(shard: object) -> str:
    text = str(shard.to_pylist()) if isinstance(shard, pa.Table) else repr(shard)
    return text if len(text) <= 300 else text[:297] + "..."


@dataclass(frozen=True, slots=True)
class _Packed:
    """A table as an Arrow IPC stream: to pickle a slice would send the whole table that it is a slice of."""

    stream: bytes


def _packed(value: object) -> object:
    if not isinstance(value, pa.Table):
        return value
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, value.schema) as writer:
        writer.write_table(value)
    return _Packed(sink.getvalue().to_pybytes())


def _unpacked(value: Any) -> Any:  # noqa: ANN401 - generic
    return pa.ipc.open_stream(value.stream).read_all() if isinstance(value, _Packed) else value


def _apply(fn: Callable[[Any], Any], shard: object) -> object:
    return _packed(fn(_unpacked(shard)))


class _Pool:
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
        return self._submit(_apply, self._fn, _packed(shard))

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
