from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import end_to_end as e2e
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader

import curate.feed
from curate.errors import ConfigError
from curate.feed.release import Feed
from curate.feed.stream import Stream

Publish = Callable[..., Any]
ONE_FEED = settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def seen(batches: Any) -> list[int]:  # noqa: ANN401 - an iterable of batches
    return [int(at) for batch in batches for at in batch["index"]]


def test_a_batch_holds_what_a_trainer_needs(feed: Feed) -> None:
    (batch,) = feed.stream(batch_size=100, size_px=(16, 20), shuffle=False)
    assert batch["image"].shape == (45, 3, 16, 20)
    assert batch["image"].dtype == torch.uint8
    names = [feed.classes[at] for at in batch["label"].tolist()]
    uris = feed.rows.table["uri"].to_pylist()
    assert names == [Path(uri).parent.name for uri in uris]
    assert batch["weight"].tolist() == [1.0] * 45
    assert batch["soft"]["probs"].shape == (45, 3)
    assert batch["soft"]["known"].sum() == 44
    assert batch["id"] == feed.rows.table["label_id"].to_pylist()


@ONE_FEED
@given(ranks=st.integers(1, 4), batch_size=st.integers(1, 20), epoch=st.integers(0, 2), threads=st.integers(1, 3))
def test_every_row_once_an_epoch_over_ranks(
    feed: Feed, ranks: int, batch_size: int, epoch: int, threads: int
) -> None:
    rows = []
    for rank in range(ranks):
        stream = feed.stream(batch_size=batch_size, rank=rank, world_size=ranks, n_threads=threads, ahead=5)
        stream.set_epoch(epoch)
        rows += seen(stream)
        assert len(list(stream)) == len(stream)
    assert sorted(rows) == list(range(45))


@pytest.mark.parametrize(("n_workers", "yields"), [(2, "batches"), (2, "items")])
def test_every_row_once_an_epoch_over_ranks_and_real_workers(feed: Feed, n_workers: int, yields: str) -> None:
    batches = yields == "batches"
    rows = []
    for rank in range(2):
        stream = feed.stream(batch_size=4 if batches else None, rank=rank, world_size=2)
        loader: Any = DataLoader(
            stream,
            batch_size=None if batches else 4,
            collate_fn=None if batches else curate.feed.collate,
            num_workers=n_workers,
            multiprocessing_context="fork",
        )
        rows += seen(loader)
    assert sorted(rows) == list(range(45))


def test_even_ranks_have_the_same_number(feed: Feed) -> None:
    lengths = [len(seen(feed.stream(batch_size=4, rank=rank, world_size=4, even=True))) for rank in range(4)]
    assert lengths == [11] * 4


@ONE_FEED
@given(taken=st.integers(0, 12), batch_size=st.integers(1, 7), seed=st.integers(0, 3), epoch=st.integers(0, 2))
def test_resumed_the_remaining_order_is_the_same(
    feed: Feed, taken: int, batch_size: int, seed: int, epoch: int
) -> None:
    def open_stream() -> Stream:
        return feed.stream(batch_size=batch_size, seed=seed, rank=0, world_size=1)

    whole = open_stream()
    whole.set_epoch(epoch)
    batches = list(whole)
    first = open_stream()
    first.set_epoch(epoch)
    walk = iter(first)
    n_taken = min(taken, len(batches))
    for _ in range(n_taken):
        next(walk)
    state = json.loads(json.dumps(first.state_dict()))  # plain values: it can be saved as one likes
    walk.close()
    again = open_stream()
    again.load_state_dict(state)
    again.set_epoch(epoch)
    assert seen(again) == seen(batches[n_taken:])
    assert seen(again) == seen(batches)  # the next epoch is whole
    following = open_stream()
    following.load_state_dict(state)
    following.set_epoch(epoch + 1)
    assert len(seen(following)) == 45


@pytest.mark.parametrize("taken", [0, 1, 3, 6])
def test_resumed_in_real_workers_the_batches_come_in_the_same_order(feed: Feed, taken: int) -> None:
    def loader(stream: Stream) -> Any:  # noqa: ANN401 - a DataLoader
        return DataLoader(stream, batch_size=None, num_workers=2, multiprocessing_context="fork")

    whole = [seen([batch]) for batch in loader(feed.stream(batch_size=5))]
    state = feed.stream(batch_size=5).state_dict(n_batches=taken, n_workers=2)
    again = feed.stream(batch_size=5)
    again.load_state_dict(state)
    assert [seen([batch]) for batch in loader(again)] == whole[taken:]
    later = again.state_dict(n_batches=2, n_workers=2)
    third = feed.stream(batch_size=5)
    third.load_state_dict(later)
    assert [seen([batch]) for batch in loader(third)] == whole[taken + 2 :]


def test_a_state_of_another_stream_is_refused(feed: Feed) -> None:
    state = feed.stream(batch_size=5, seed=1).state_dict()
    with pytest.raises(ConfigError, match="seed 1 then, 2 now"):
        feed.stream(batch_size=5, seed=2).load_state_dict(state)
    two = feed.stream(batch_size=5).state_dict(n_batches=1, n_workers=2)
    alone = feed.stream(batch_size=5)
    alone.load_state_dict(two)
    with pytest.raises(ConfigError, match="saved with 2 workers, this loader has 1"):
        next(iter(alone))
    with pytest.raises(ConfigError, match="needs n_batches"):
        alone.state_dict(n_workers=2)
    with pytest.raises(ConfigError, match="ahead must be at least 1; given: 0"):
        feed.stream(ahead=0)
    with pytest.raises(ConfigError, match="given: 2 of 2"):
        feed.stream(rank=2, world_size=2)


def jitter(pixels: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    return (pixels // 2 + generator.integers(0, 100, pixels.shape)).astype(np.uint8)


def test_augmentation_depends_on_seed_epoch_and_row_only(feed: Feed) -> None:
    def pixels(batch_size: int, n_threads: int, epoch: int) -> dict[int, str]:
        stream = feed.stream(batch_size=batch_size, n_threads=n_threads, augment=jitter)
        stream.set_epoch(epoch)
        return {
            int(at): hashlib.sha256(image.numpy().tobytes()).hexdigest()
            for batch in stream
            for at, image in zip(batch["index"], batch["image"], strict=True)
        }

    assert pixels(7, 1, 0) == pixels(4, 3, 0)
    assert set(pixels(7, 1, 0).values()).isdisjoint(pixels(7, 1, 1).values())


def test_no_more_than_so_many_images_are_decoded_ahead(feed: Feed) -> None:
    decoded = []
    stream = feed.stream(ahead=6, n_threads=2, transform=lambda pixels: decoded.append(1) or pixels.shape[0])
    walk = iter(stream)
    for n_taken in range(1, 10):
        next(walk)
        assert len(decoded) <= n_taken + 6
    walk.close()


def test_a_stopped_iteration_leaves_no_thread(feed: Feed) -> None:
    import threading  # noqa: PLC0415 - only here

    walk = iter(feed.stream(n_threads=2))
    next(walk)
    assert any(thread.name.startswith("curate-feed") for thread in threading.enumerate())
    walk.close()
    assert not any(thread.name.startswith("curate-feed") for thread in threading.enumerate())


def test_the_map_style_dataset_is_the_version_in_its_order(feed: Feed) -> None:
    dataset = feed.dataset(size_px=(16, 16), transform=lambda pixels: torch.from_numpy(pixels).float() / 255)
    assert len(dataset) == 45
    assert dataset[-1]["id"] == feed.rows.table["label_id"][44].as_py()
    with pytest.raises(IndexError, match="item 45 of 45"):
        dataset[45]
    loader: Any = DataLoader(dataset, batch_size=10, shuffle=True, collate_fn=curate.feed.collate)
    assert sorted(seen(loader)) == list(range(45))
    assert next(iter(loader))["image"].shape == (10, 16, 16, 3)
    plain: Any = DataLoader(dataset, batch_size=45)  # PyTorch's own collation takes the items too
    assert next(iter(plain))["soft"]["probs"].shape == (45, 3)


TRAINER = """
import sys, torch, curate.feed
torch.manual_seed(0)
torch.set_num_threads(1)
feed = curate.feed.open("pets", workspace=sys.argv[1], images=sys.argv[2], used_by="run-17")
model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 24 * 24, 3))
step = torch.optim.SGD(model.parameters(), lr=0.01)
stream = feed.stream(batch_size=9, seed=5)
for epoch in range(4):
    stream.set_epoch(epoch)
    for batch in stream:
        loss = curate.feed.distillation_loss(model(batch["image"] / 255), **curate.feed.targets(batch), alpha=0.2)
        step.zero_grad(); loss.backward(); step.step()
print(repr(loss.item()), sum(p.double().sum().item() for p in model.parameters()))
"""


def test_a_training_loop_ends_the_same_here_and_in_another_process(
    publish_version: Publish,
    pictures: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from curate.manifest.used import read_uses  # noqa: PLC0415 - only here

    published = publish_version(pictures, tmp_path)
    ended = subprocess.run(
        [sys.executable, "-c", TRAINER, tmp_path, pictures],
        env=e2e.environment(),
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    monkeypatch.setattr(sys, "argv", ["", str(tmp_path), str(pictures)])
    n_threads = torch.get_num_threads()
    exec(TRAINER, {})  # noqa: S102 - the program above
    torch.set_num_threads(n_threads)
    assert ended.stdout == capsys.readouterr().out
    assert [(use.id, use.by) for use in read_uses(tmp_path / "manifests", "pets")] == [(published.id, "run-17")]
