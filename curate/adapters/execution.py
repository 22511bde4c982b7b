"""Runs a pure function over shards: in this thread, in threads, or in processes that may die.

The three engines give the same results in the same order. Processes are the default for bytes that nobody
vouches for: a decoder that crashes takes its worker with it, and only the row that did it is lost.
"""

from __future__ import annotations

import contextlib
import os
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import pyarrow as pa

from curate.adapters.processes import Pool, unpacked
from curate.errors import ConfigError, StageError, did_you_mean

Engine = Literal["processes", "threads", "serial"]
ENGINES: tuple[Engine, ...] = ("processes", "threads", "serial")
Progress = Callable[[int, int | None], None]

S = TypeVar("S")
R = TypeVar("R")

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
    with Pool(workers, fn) as pool, Pool(1, fn) as alone:

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
                    return pending.shard, unpacked(pending.future.result())
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


def _run_alone(alone: Pool, shard: Any, quarantine: Callable[[Any], Any] | None) -> Any:  # noqa: ANN401 - generic
    """Run `shard` in a pool of its own; where that dies, halve it until the row that kills stands alone."""
    stack, results = [shard], []
    while stack:
        part = stack.pop()
        alone.ensure_started()
        try:
            results.append(unpacked(alone.submit(part).result()))
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
