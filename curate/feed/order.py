"""In which order an epoch reads its rows, and which of them a worker reads. Pure; the same on every machine.

Every row has a key made from its id, so an order depends on ids, seed and epoch, never on positions or on how a
library shuffles. Rows whose bytes can only be read in blocks (row groups of Parquet) are shuffled inside windows of
a few blocks, with blocks and windows shuffled too: otherwise every image would cost a block.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from curate.errors import ConfigError

Keys = NDArray[np.uint64]
Ints = NDArray[np.int64]

WINDOW_BLOCKS = 4  # blocks that are shuffled together, and so held in memory together


def row_keys(ids: Sequence[str]) -> Keys:
    """Return 64 bits of the hash of each id."""
    digests = b"".join(hashlib.sha256(one.encode("utf-8", "surrogateescape")).digest()[:8] for one in ids)
    return np.frombuffer(digests, dtype="<u8").astype(np.uint64)


def epoch_order(keys: Keys, blocks: Ints, *, seed: int, epoch: int) -> Ints:
    """Return the rows 0 … n-1 in the order of an epoch.

    Args:
        keys: (n,) from `row_keys`.
        blocks: (n,) block of each row, -1 for rows that can be read one by one.
        seed: of the shuffle.
        epoch: another one is another order.
    """
    turned = _mixed(keys, _salt(seed, epoch))
    if (blocks < 0).all():
        return np.argsort(turned, kind="stable")
    named, first = np.unique(blocks, return_index=True)
    named, first = named[named >= 0], first[named >= 0]
    place = np.empty(named.size, dtype=np.int64)
    place[np.argsort(_mixed(keys[first], _salt(seed, epoch) ^ np.uint64(1)), kind="stable")] = np.arange(named.size)
    n_windows = -(-named.size // WINDOW_BLOCKS)
    window = (turned % np.uint64(n_windows)).astype(np.int64)  # single rows are spread over the windows
    in_block = blocks >= 0
    window[in_block] = place[np.searchsorted(named, blocks[in_block])] // WINDOW_BLOCKS
    return np.lexsort((turned, window))


def shard_of(order: Ints, shard: int, n_shards: int, *, even: bool = False) -> Ints:
    """Return what one of `n_shards` reads: each row is in exactly one; `even` drops up to n_shards - 1 rows.

    Raises:
        ConfigError: no such shard.
    """
    if not 0 <= shard < n_shards:
        raise ConfigError(f"A shard is one of 0 … n_shards - 1; given: shard {shard} of {n_shards}.")
    kept = order[: order.size - order.size % n_shards] if even else order
    return kept[shard::n_shards]


def rows_done(n_rows: Sequence[int], batch_size: int, n_batches: int) -> tuple[list[int], int]:
    """Return how many rows each worker of a DataLoader has given after `n_batches`, and which one is next.

    A DataLoader takes batches from its workers in turn and skips those that have none left.

    Raises:
        ConfigError: so many batches are not in an epoch.
    """
    done = [0] * len(n_rows)
    turn = 0
    for _ in range(n_batches):
        waiting = [
            w % len(n_rows)
            for w in range(turn, turn + len(n_rows))
            if done[w % len(n_rows)] < n_rows[w % len(n_rows)]
        ]
        if not waiting:
            raise ConfigError(f"An epoch has fewer than {n_batches} batches of {batch_size}.")
        worker = waiting[0]
        done[worker] = min(done[worker] + batch_size, n_rows[worker])
        turn = (worker + 1) % len(n_rows)
    return done, turn


def _salt(seed: int, epoch: int) -> np.uint64:
    return np.uint64(int.from_bytes(hashlib.sha256(f"{seed}\0{epoch}".encode()).digest()[:8], "little"))


def _mixed(keys: Keys, salt: np.uint64) -> Keys:
    """Return splitmix64 of keys and salt: one to one, so that rows with different keys never tie."""
    with np.errstate(over="ignore"):
        mixed = (keys ^ salt) + np.uint64(0x9E3779B97F4A7C15)
        mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        turned: Keys = mixed ^ (mixed >> np.uint64(31))
    return turned
