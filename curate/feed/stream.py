"""The iterable dataset of a feed: shuffled, sharded by worker and rank, resumable, decoded ahead in threads."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import IterableDataset, get_worker_info

from curate.errors import ConfigError
from curate.feed.batches import collate
from curate.feed.order import epoch_order, row_keys, rows_done, shard_of
from curate.feed.torch_data import Item, Places, Reading, item_of

if TYPE_CHECKING:
    from curate.feed.release import Feed

STATE_VERSION = 1


@dataclass(frozen=True)
class Order:
    """In which order, and which part of it; see `Feed.stream`."""

    shuffle: bool
    seed: int
    even: bool
    rank: int | None
    world_size: int | None

    def ranks(self) -> tuple[int, int]:
        """Return (rank, world size) as given, else those of torch.distributed, else (0, 1)."""
        started = torch.distributed.is_available() and torch.distributed.is_initialized()
        rank = self.rank if self.rank is not None else torch.distributed.get_rank() if started else 0
        size = self.world_size
        if size is None:
            size = torch.distributed.get_world_size() if started else 1
        if not 0 <= rank < size:
            raise ConfigError(f"rank is one of 0 … world_size - 1; given: {rank} of {size}.")
        return rank, size


class Stream(IterableDataset[Any]):
    """The iterable dataset of a feed.

    Use it alone, or in a DataLoader (with `batch_size=None` where it yields batches itself). `set_epoch` before each
    epoch, as with PyTorch's DistributedSampler: nobody else can tell its workers.
    """

    def __init__(
        self,
        feed: Feed,
        reading: Reading,
        order: Order,
        *,
        batch_size: int | None,
        n_threads: int | None,
        ahead: int,
    ) -> None:
        for name, value in (("batch_size", batch_size), ("n_threads", n_threads), ("ahead", ahead)):
            if value is not None and value < 1:
                raise ConfigError(f"{name} must be at least 1; given: {value}.")
        self.feed, self.reading, self.order = feed, reading, order
        self.batch_size, self.n_threads, self.ahead = batch_size, n_threads, ahead
        self.epoch = 0
        self._places = Places(feed.rows)
        self._keys = row_keys(self._places.ids)
        self._resumed: dict[str, Any] | None = None
        self._given = 0  # items given by this process since the epoch's start, or by its worker
        order.ranks()

    def set_epoch(self, epoch: int) -> None:
        """Choose the order; a position that was loaded counts in its own epoch only."""
        if epoch != self.epoch:
            self._resumed, self._given = None, 0
        self.epoch = epoch

    def __len__(self) -> int:
        """Return the items (batches, where it yields those) of this rank in an epoch, without workers."""
        n = self._shard(0, 1).size
        return n if self.batch_size is None else -(-n // self.batch_size)

    def __iter__(self) -> Iterator[Any]:
        info = get_worker_info()
        worker, n_workers = (info.id, info.num_workers) if info else (0, 1)
        done = [0] * n_workers
        if self._resumed is not None:
            done, first = self._resumed["done"], self._resumed["next_worker"]
            if len(done) != n_workers:
                raise ConfigError(
                    f"The state was saved with {len(done)} workers, this loader has {n_workers}. Resume with the same "
                    f"number, or begin the epoch anew: set_epoch."
                )
            worker = (worker + first) % n_workers  # so that batches come in the order that they would have come in
        todo = self._shard(worker, n_workers)[done[worker] :]
        self._given = done[worker]
        for made in self._batches(todo, n_workers) if self.batch_size else self._items(todo, n_workers):
            self._given += len(made["index"]) if self.batch_size else 1
            yield made
        if info is None:
            self._resumed, self._given = None, 0

    def state_dict(
        self, *, n_batches: int | None = None, batch_size: int | None = None, n_workers: int = 0
    ) -> dict[str, Any]:
        """Return where this rank is in the epoch, as plain values.

        Without workers it knows by itself. With a DataLoader of `n_workers`, which read ahead, say how many batches the
        training has taken in this epoch (since the last `load_state_dict`, where that was in this epoch).

        Raises:
            ConfigError: workers without `n_batches`, or without a batch size.
        """
        size = self.batch_size or batch_size
        state = self._about()
        if not n_workers:
            return {**state, "done": [self._given], "next_worker": 0}
        if n_batches is None or size is None:
            raise ConfigError(
                "With workers, state_dict needs n_batches, n_workers and (of the DataLoader) batch_size."
            )
        before, first = [0] * n_workers, 0
        if self._resumed is not None:
            before, first = list(self._resumed["done"]), self._resumed["next_worker"]
        turns = [(first + turn) % n_workers for turn in range(n_workers)]
        left = [self._shard(worker, n_workers).size - before[worker] for worker in turns]
        done, following = rows_done(left, size, n_batches)
        for worker, n in zip(turns, done, strict=True):
            before[worker] += n
        return {**state, "done": before, "next_worker": (first + following) % n_workers}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where `state_dict` was: the same remaining order.

        Raises:
            ConfigError: the state is of another version, split, seed, rank or kind of order.
        """
        about = self._about()
        told = {key: state.get(key) for key in about}
        differing = [key for key, value in about.items() if key != "epoch" and told[key] != value]
        if differing:
            shown = ", ".join(f"{key} {told[key]!r} then, {about[key]!r} now" for key in differing)
            raise ConfigError(f"The state is of another stream: {shown}. Open the same version in the same way.")
        self.epoch = int(state["epoch"])
        self._resumed = {"done": [int(n) for n in state["done"]], "next_worker": int(state["next_worker"])}
        self._given = self._resumed["done"][0] if len(self._resumed["done"]) == 1 else 0

    def _about(self) -> dict[str, Any]:
        rank, world_size = self.order.ranks()
        return {
            "state_version": STATE_VERSION,
            "version": self.feed.version_id,
            "n_items": len(self.feed),
            "epoch": self.epoch,
            "seed": self.order.seed,
            "shuffle": self.order.shuffle,
            "even": self.order.even,
            "rank": rank,
            "world_size": world_size,
        }

    def _shard(self, worker: int, n_workers: int) -> NDArray[np.int64]:
        rank, world_size = self.order.ranks()
        order: NDArray[np.int64] = np.arange(len(self.feed), dtype=np.int64)
        if self.order.shuffle:
            order = epoch_order(self._keys, self.feed.blocks, seed=self.order.seed, epoch=self.epoch)
        return shard_of(order, rank * n_workers + worker, world_size * n_workers, even=self.order.even)

    def _batches(self, todo: NDArray[np.int64], n_workers: int) -> Iterator[dict[str, Any]]:
        waiting: list[Item] = []
        for item in self._items(todo, n_workers):
            waiting.append(item)
            if len(waiting) == self.batch_size:
                yield collate(waiting)
                waiting = []
        if waiting:
            yield collate(waiting)

    def _items(self, todo: NDArray[np.int64], n_workers: int) -> Iterator[Item]:
        """Yield the items in order; at most `ahead` are read and decoded before they are asked for."""
        n_cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        pool = ThreadPoolExecutor(self.n_threads or max(1, n_cpus // n_workers), thread_name_prefix="curate-feed")
        queue: deque[Future[Item]] = deque()
        try:
            for at in todo.tolist():
                queue.append(pool.submit(self._item, at))
                if len(queue) >= self.ahead:
                    yield queue.popleft().result()
            while queue:
                yield queue.popleft().result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def _item(self, at: int) -> Item:
        data = self.feed.images.read(*self._places[at])
        generator = None
        if self.reading.augment is not None or self.reading.warp is not None:
            generator = np.random.default_rng([self.order.seed, self.epoch, int(self._keys[at])])
        return item_of(self.feed.rows, at, *self.reading.image(data, generator), self._places.ids[at])
