"""Releases in Azure Blob Storage, by its emulator over HTTP: the same promises as in S3."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import azure_server as azure
import end_to_end as e2e
import pytest

from curate.adapters.object_store import StorePath, open_store
from curate.errors import StageError
from curate.feed.release import open_feed
from curate.manifest import diff, life, load_release, publish, read_log, resolve, verify
from curate.manifest.publish import collect_leftovers
from curate.manifest.tombstone import read_tombstone

pytestmark = pytest.mark.skipif(azure.PROGRAM is None, reason=azure.WHY_NOT)
Worlds = Callable[..., Any]
Here = Callable[..., e2e.Done]


@pytest.fixture(scope="module")
def azurite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with azure.serving(tmp_path_factory.mktemp("azurite")) as address:
        yield address


@pytest.fixture
def container(azurite: str, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> StorePath:
    """Return a new container with a prefix that has a space and an accent."""
    for name, value in azure.settings_for(azurite).items():
        monkeypatch.setenv(name, value)
    name = f"b{abs(hash(request.node.name))}"
    azure.make_container(azurite, name)
    return open_store(f"az://{name}/a b/é")


def test_the_life_of_a_version(world: Worlds, container: StorePath, tmp_path: Path) -> None:
    release = world().release()
    here, there = publish(release, tmp_path / "manifests", "zoo"), publish(release, container, "zoo")
    assert (there.id, there.number, there.is_new) == (here.id, 1, True)
    assert load_release(there.path).soft.equals(release.soft)
    second = publish(world(labels_changed={5: "cat"}).release(), container, "zoo")
    assert diff(there.path, second.path).summary["changes"]["relabeled"] == 1
    life.tag(container, "zoo@v1", "gold")
    life.rollback(container, "zoo@gold")
    assert resolve(container, "zoo").name == there.id
    assert [promise for promise in verify(there.path, deep=True) if promise.ok is False] == []
    feed = open_feed("zoo", manifests=str(container), workspace=tmp_path, images=tmp_path, allow_failed_gates=True)
    assert (feed.version_id, len(feed)) == (here.id, 10)
    part: Any = there.path / "data" / "part-00000.parquet"
    part.put(part.read_bytes()[:-9])
    assert next(promise.name for promise in verify(there.path) if promise.ok is False) == "files"
    assert publish(release, container, "zoo").repaired


def test_64_publishers_leave_one_version_and_one_entry(world: Worlds, container: StorePath) -> None:
    release = world().release()
    with ThreadPoolExecutor(max_workers=64) as pool:
        published = list(pool.map(lambda _: publish(release, container, "zoo"), range(64)))
        won = list(pool.map(lambda at: (container / "one").put_new(b"%d" % at), range(64)))
    assert Counter(one.is_new for one in published) == {True: 1, False: 63}
    assert [entry.kind for entry in read_log(container, "zoo")] == ["publish"]
    assert [promise for promise in verify(resolve(container, "zoo")) if promise.ok is False] == []
    assert list((container / "zoo" / "staging").below()) == []
    assert (container / "one").read_bytes() == b"%d" % won.index(True)
    assert sum(won) == 1


def test_leftovers_are_collected_and_versions_stay(world: Worlds, container: StorePath) -> None:
    published: Any = publish(world().release(), container, "zoo")
    half = container / "zoo" / "versions" / ("0" * 64) / "data" / "part-00000.parquet"
    half.put(b"half")
    assert collect_leftovers(container, "zoo") == []  # it may still be at work
    removed = collect_leftovers(container, "zoo", dead_after=timedelta(seconds=-1))
    assert removed == [f"versions/{'0' * 64}/data/part-00000.parquet"]
    assert [promise for promise in verify(published.path) if promise.ok is False] == []


def test_a_run_its_exports_and_an_erasure(tmp_path: Path, container: StorePath, here: Here) -> None:
    e2e.write_classes(tmp_path / "data", n=36)
    spec = e2e.write_spec(tmp_path / "pets.yaml", "{format: folder, path: data}")
    options = ("--workspace", tmp_path / "ws", "--manifests", container, "--json")
    assert here("run", spec, "--no-review", "--quiet", *options).code == 0
    for kind in ("csv", "hf", "webdataset"):
        done = here("export", "pets", "--format", kind, "--out", tmp_path / kind, *options)
        assert (done.code, done.json["n_images"]) == (0, 36), done.err
    old = resolve(container, "pets").name
    done = here("erase", "pets", "--sample", "train/cat/003.png", "--yes", *options)
    assert (done.code, done.json["erased"]) == (0, True), done.err
    assert read_tombstone(container / "pets", old) is not None
    assert not (container / "pets" / "versions" / old).is_dir()
    assert "003.png" not in str([(container / one.path).read_bytes() for one in container.below()])
    assert here("verify", "pets", *options).code == 0


def test_a_container_that_is_not_there_and_a_wrong_key(
    world: Worlds, container: StorePath, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(StageError, match=r"There is no bucket of az://nowhere/x\. Make it first"):
        publish(world().release(), "az://nowhere/x", "zoo")
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_KEY", "d3Jvbmc=")
    with pytest.raises(StageError, match=r"permission denied.*Nothing was published"):
        publish(world().release(), str(container), "zoo")
