"""A workspace in which one subject is everywhere, and copies of it to erase from."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import end_to_end as e2e
import pytest

from curate import schema
from curate.adapters.mongod import stop_database
from curate.review import ledger

sys.path.insert(0, str(Path(__file__).parent))  # tests are no package; the helpers here have plain names
from world import SOURCE, URIS, World, write_sources


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """The workspace as it is before anything is erased; tests change copies."""
    world = World(tmp_path_factory.mktemp("world"))
    write_sources(world.folder)
    rest = e2e.FAST_TEACHER + "groups: {subject: person}\npolicy: {attributes_released: [subject]}\n"
    e2e.write_spec(world.folder / "faces.yaml", SOURCE, name="faces", rest=rest)
    e2e.write_spec(world.folder / "zoo.yaml", "{format: folder, path: zoo}", name="zoo")
    first = world.run("faces", "--json", "--quiet")
    assert first.code in {0, 1}, first.err
    samples = world.sample_ids
    rows = [
        {"sample_id": samples[1], "decision": "drop", "why": f"blurred, like {URIS[0]}", "content_sha256": None},
        {
            "sample_id": schema.sample_id_of("faces", "faces/zq-0003.png"),
            "decision": "keep",
            "why": f"not the person of {URIS[2]}",
        },
    ]
    ledger.append(ledger.ledger_folder(world.workspace, "faces"), rows, reviewer="ada")
    for name in ("faces", "zoo"):
        done = world.run(name, "--json", "--quiet", "--no-review")
        assert done.code in {0, 1}, done.err
    torn = world.workspace / "faces" / "runs" / "20200101T000000Z-aaaaaa" / "run.json"
    torn.parent.mkdir()
    torn.write_text(json.dumps({"stages": [], "state": "failed", "error": f"cannot decode {URIS[0]}: torn"}))
    stop_database(world.workspace)
    yield world
    stop_database(world.workspace)


@pytest.fixture
def copied(whole: World, tmp_path: Path) -> Iterator[Callable[..., World]]:
    """Copy the world; without its database unless asked for."""
    made: list[World] = []

    def copy(name: str = "world", *, database: bool = False) -> World:
        target = tmp_path / name
        left_out = () if database else ("mongo",)
        shutil.copytree(whole.folder, target, ignore=shutil.ignore_patterns(*left_out))
        made.append(World(target))
        return made[-1]

    yield copy
    for world in made:
        stop_database(world.workspace)
