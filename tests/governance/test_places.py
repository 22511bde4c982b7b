"""Releases outside the workspace are erased from too, whoever names the folder; what is out of reach stops it."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import end_to_end as e2e
import pytest
import s3_server as s3
from look import found, texts_of_files
from world import SUBJECT, URIS, World

from curate.adapters.object_store import StorePath
from curate.errors import ConfigError, StageError
from curate.governance.erase import erase, resume_erasure
from curate.governance.journal import journal_file, write_journal
from curate.governance.places import elsewhere
from curate.governance.plan import plan_erasure
from curate.manifest import log
from curate.manifest.tombstone import read_tombstone
from curate.manifest.verify import verify

Copied = Callable[..., World]


def moved_out(world: World) -> Path:
    """Move the releases out of the workspace; no record names the new folder."""
    target = world.folder / "mani3"
    shutil.move(world.workspace / "manifests", target)
    return target.resolve()


def name_it(world: World, how: str, folder: str, monkeypatch: pytest.MonkeyPatch) -> str | None:
    if how == "option":
        return folder
    if how == "environment":
        monkeypatch.setenv("CURATE_MANIFESTS", folder)
    if how == "spec":
        spec = world.folder / "faces.yaml"
        spec.write_text(spec.read_text() + f"manifests: {folder if '://' in folder else Path(folder).name}\n")
    if how == "record":
        file = next((world.workspace / "faces" / "runs").glob("2*/run.json"))
        file.write_text(json.dumps(json.loads(file.read_text()) | {"manifests": folder, "state": "running"}))
    return None


@pytest.mark.parametrize("how", ["option", "environment", "spec", "record"])
def test_releases_outside_the_workspace_are_erased_from(
    copied: Copied, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = copied()
    for spec in ("faces", "zoo"):  # records of the copied world name specs of the first
        for file in (world.workspace / spec / "runs").glob("2*/run.json"):
            record = json.loads(file.read_text())
            file.write_text(json.dumps(record | {"spec": str(world.folder / f"{spec}.yaml")}))
    folder = moved_out(world)
    given = name_it(world, how, str(folder), monkeypatch)
    old = log.resolve(folder, "faces").name
    plan = plan_erasure(world.workspace, "faces", subject=SUBJECT, manifests=given)
    assert {one.place for one in plan.versions} == {str(folder)}
    done = erase(world.workspace, plan)
    heir = log.resolve(folder, "faces")
    assert done.successors["faces"][old] == heir.name
    assert [promise for promise in verify(heir) if promise.ok is False] == []
    assert not (folder / "faces" / "versions" / old).exists()
    wanted = {uri: Path(uri).name.encode() for uri in URIS} | {one: one.encode() for one in world.sample_ids}
    assert found(texts_of_files(folder), wanted) == {}
    assert "and of 1 place of releases was decoded" in "\n".join(done.lines())


def uploaded(world: World, bucket: StorePath) -> None:
    """Move the releases out of the workspace into a bucket, with half of an upload among them."""
    top = world.workspace / "manifests"
    for file in sorted(path for path in top.rglob("*") if path.is_file()):
        (bucket / file.relative_to(top).as_posix()).put(file)
    begun = next((top / "faces" / "versions").iterdir())
    (bucket / f"faces/versions/{'0' * 64}/data/part-00000.parquet").put(begun / "data" / "part-00000.parquet")
    shutil.rmtree(top)


def fetched(bucket: StorePath, folder: Path) -> Path:
    """Copy every object of a bucket into a folder."""
    for one in bucket.below():
        file = folder / one.path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes((bucket / one.path).read_bytes())
    return folder


def test_releases_in_a_store_are_erased_from(copied: Copied, bucket: StorePath, tmp_path: Path) -> None:
    world = copied()
    uploaded(world, bucket)
    wanted = {uri: Path(uri).name.encode() for uri in URIS} | {one: one.encode() for one in world.sample_ids}
    assert found(texts_of_files(fetched(bucket, tmp_path / "before")), wanted) != {}
    old = log.resolve(bucket, "faces").name
    done = e2e.call(
        "erase", "faces", "--subject", SUBJECT, "--yes", "--json", "--workspace", world.workspace, "--manifests", bucket
    )  # fmt: skip
    assert (done.code, done.json["erased"]) == (0, True), done.err
    assert any("keeps old versions of objects" in told for told in done.json["warnings"])
    heir = log.resolve(bucket, "faces")
    assert done.json["successors"]["faces"][old] == heir.name
    assert [promise for promise in verify(heir) if promise.ok is False] == []
    assert not (bucket / "faces/versions" / old).is_dir()
    assert read_tombstone(bucket / "faces", old) is not None
    assert found(texts_of_files(fetched(bucket, tmp_path / "after")), wanted) == {}
    assert "erased" in str(e2e.call("verify", f"faces@{old[:12]}", "--manifests", bucket).err)


def test_a_store_that_stops_answering_half_way_is_gone_on_with(
    copied: Copied, bucket: StorePath, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = copied()
    uploaded(world, bucket)
    old = log.resolve(bucket, "faces").name
    plan = plan_erasure(world.workspace, "faces", subject=SUBJECT, manifests=str(bucket))
    assert {one.place for one in plan.versions} == {str(bucket)}
    address = os.environ["AWS_ENDPOINT_URL"]
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    with pytest.raises(StageError, match="did not answer"):
        erase(world.workspace, plan)
    assert journal_file(world.workspace).exists()
    monkeypatch.setenv("AWS_ENDPOINT_URL", address)
    assert resume_erasure(world.workspace).successors["faces"][old] == log.resolve(bucket, "faces").name
    assert not journal_file(world.workspace).exists()


def test_a_run_writes_down_where_it_publishes(tmp_path: Path) -> None:
    for index in range(12):
        file = tmp_path / "pets" / ("cat", "dog")[index % 2] / f"{index}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        e2e.picture(index % 2, index).save(file)
    e2e.write_spec(tmp_path / "pets.yaml", "{format: folder, path: pets}", name="pets")
    run = ("run", tmp_path / "pets.yaml", "--workspace", tmp_path / "ws", "--no-review", "--quiet", "--json")
    assert e2e.call(*run).code in {0, 1}
    assert elsewhere(tmp_path / "ws").folders == ()
    assert e2e.call(*run, "--manifests", tmp_path / "other").code in {0, 1}
    records = (tmp_path / "ws" / "pets" / "runs").glob("*/run.json")
    told = sorted(json.loads(file.read_text())["manifests"] for file in records)
    assert told == sorted(["manifests", str((tmp_path / "other").resolve())])
    assert elsewhere(tmp_path / "ws").folders == ((tmp_path / "other").resolve(),)


@pytest.mark.parametrize("place", ["s3://releases/vision", "/nowhere/at/all"])
def test_what_is_out_of_reach_stops_it_before_anything_is_touched_unless_that_is_wanted(
    copied: Copied, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in s3.settings_for("http://127.0.0.1:1").items():  # nobody answers there
        monkeypatch.setenv(name, value)
    world = copied()
    name_it(world, "record", place, monkeypatch)
    asked = ("erase", "faces", "--subject", SUBJECT, "--workspace", world.workspace)
    plan = plan_erasure(world.workspace, "faces", subject=SUBJECT)
    assert f"OUT OF REACH: {place}" in "\n".join(plan.lines())
    with pytest.raises(ConfigError, match="--reachable-only"):
        erase(world.workspace, plan)
    refused = e2e.call(*asked, "--yes", "--json")
    assert (refused.code, refused.json["kind"]) == (2, "usage")
    assert place in refused.json["error"]
    assert not journal_file(world.workspace).exists()
    assert len(list((world.workspace / "manifests" / "faces" / "versions").iterdir())) == 2
    done = erase(world.workspace, plan, reachable_only=True)
    assert done.to_json()["erased"] is False
    assert f"NOT ERASED from {place}" in "\n".join(done.lines())


def test_releases_that_a_run_published_and_nothing_finds_are_out_of_reach(copied: Copied) -> None:
    world = copied()
    folder = moved_out(world)
    plan = plan_erasure(world.workspace, "faces", subject=SUBJECT)
    assert len(plan.erasure.out_of_reach) == 2
    assert "a run published zoo there" in plan.erasure.out_of_reach[1]
    with pytest.raises(ConfigError, match="--manifests DIR"):
        erase(world.workspace, plan)
    assert elsewhere(world.workspace, str(folder)).out_of_reach == ()


def test_a_folder_that_is_gone_when_an_erasure_is_resumed_is_not_taken_for_clean(
    copied: Copied, tmp_path: Path
) -> None:
    world = copied()
    folder = moved_out(world)
    plan = plan_erasure(world.workspace, "faces", subject=SUBJECT, manifests=str(folder))
    write_journal(world.workspace, plan.erasure)
    folder.rename(tmp_path / "unmounted")
    with pytest.raises(StageError, match="not there any more"):
        resume_erasure(world.workspace)
    (tmp_path / "unmounted").rename(folder)
    assert resume_erasure(world.workspace).n_samples == 4
