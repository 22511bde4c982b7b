from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.errors import ConfigError
from curate.feed.order import WINDOW_BLOCKS, epoch_order, row_keys, rows_done, shard_of


def ids(n: int) -> list[str]:
    return [f"row {i}" for i in range(n)]


@settings(max_examples=60, deadline=None)
@given(
    n=st.integers(0, 80),
    n_blocks=st.integers(1, 20),
    single=st.floats(0, 1),
    n_shards=st.integers(1, 9),
    seed=st.integers(0, 5),
    epoch=st.integers(0, 3),
)
def test_every_row_is_in_exactly_one_shard(
    n: int, n_blocks: int, single: float, n_shards: int, seed: int, epoch: int
) -> None:
    generator = np.random.default_rng(seed)
    blocks = generator.integers(0, n_blocks, n)
    blocks[generator.random(n) < single] = -1
    order = epoch_order(row_keys(ids(n)), blocks, seed=seed, epoch=epoch)
    shards = [shard_of(order, at, n_shards) for at in range(n_shards)]
    assert sorted(np.concatenate(shards).tolist()) == list(range(n))
    sizes = {shard_of(order, at, n_shards, even=True).size for at in range(n_shards)}
    assert sizes == {n // n_shards}


@settings(max_examples=30, deadline=None)
@given(n=st.integers(2, 60), seed=st.integers(0, 9), rotation=st.integers(1, 20))
def test_an_order_follows_ids_not_positions(n: int, seed: int, rotation: int) -> None:
    names = ids(n)
    turned = names[rotation % n :] + names[: rotation % n]
    orders = [
        [given_names[at] for at in epoch_order(row_keys(given_names), np.full(n, -1), seed=seed, epoch=2)]
        for given_names in (names, turned)
    ]
    assert orders[0] == orders[1]


def test_epochs_and_seeds_are_other_orders_and_the_same_ones_stay() -> None:
    keys, blocks = row_keys(ids(50)), np.full(50, -1)
    orders = {
        tuple(epoch_order(keys, blocks, seed=seed, epoch=epoch).tolist()) for seed in (0, 1) for epoch in (0, 1, 2)
    }
    assert len(orders) == 6
    assert epoch_order(keys, blocks, seed=0, epoch=0)[:5].tolist() == [43, 42, 4, 20, 23]  # golden: for ever


def test_a_shuffle_has_no_preferred_place() -> None:
    keys, blocks = row_keys(ids(20)), np.full(20, -1)
    places = np.zeros((20, 20))
    for epoch in range(2000):
        places[np.arange(20), np.argsort(epoch_order(keys, blocks, seed=0, epoch=epoch))] += 1
    assert np.abs(places / 2000 - 0.05).max() < 6 * np.sqrt(0.05 * 0.95 / 2000)


def test_blocks_are_read_a_few_at_a_time() -> None:
    blocks = np.repeat(np.arange(30), 10)
    order = epoch_order(row_keys(ids(300)), blocks, seed=3, epoch=1)
    for start in range(0, 300, 10 * WINDOW_BLOCKS):
        window = blocks[order[start : start + 10 * WINDOW_BLOCKS]]
        assert len(set(window.tolist())) <= WINDOW_BLOCKS
        assert (np.diff(window) != 0).sum() > WINDOW_BLOCKS  # shuffled inside
    assert (np.diff(blocks[order[:: 10 * WINDOW_BLOCKS]]) < 0).any()  # windows are not in the order of the file


def test_rows_done_follows_the_turns_of_a_loader() -> None:
    assert rows_done([10, 10], 4, 3) == ([8, 4], 1)
    assert rows_done([10, 3], 4, 4) == ([10, 3], 1)  # worker 1 has none left after its first
    assert rows_done([10, 10], 4, 0) == ([0, 0], 0)
    with pytest.raises(ConfigError, match="fewer than 9 batches"):
        rows_done([10, 10], 4, 9)


def test_a_shard_that_is_not_there() -> None:
    with pytest.raises(ConfigError, match="shard 3 of 3"):
        shard_of(np.arange(5), 3, 3)
