"""Erasure on a real workspace: what goes, what stays, what is said, and that nothing is left wherever one looks."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import end_to_end as e2e
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from look import found, sha256, texts_of_database, texts_of_files
from world import COPY, NEAR, SUBJECT, URIS, World

from curate.adapters.mongod import ensure_database, stop_database
from curate.errors import ConfigError, VerificationError
from curate.feed.release import open_feed
from curate.governance.erase import erase, resume_erasure
from curate.governance.journal import journal_file
from curate.governance.plan import plan_erasure
from curate.governance.planned import Plan
from curate.governance.secret import secret_file
from curate.manifest import life, log
from curate.manifest.signatures import new_keys
from curate.manifest.tombstone import read_tombstone
from curate.manifest.used import read_uses, record_use
from curate.manifest.verbs import sign_version
from curate.manifest.verify import verify
from curate.review import ledger

Copied = Callable[..., World]
NAMES = [Path(uri).name for uri in URIS]


def rows_of(world: World, pattern: str) -> list[dict[str, Any]]:
    return [row for file in world.workspace.glob(pattern) for row in pq.read_table(file).to_pylist()]


def needles(world: World) -> dict[str, bytes]:
    """Return everything by which the erased samples could be known, read from the workspace before it is erased."""
    told = {"subject": SUBJECT}
    ids = set(world.sample_ids)
    for number, uri in enumerate(URIS):
        told[f"uri {number}"] = Path(uri).name
        told[f"sha256 {number}"] = sha256(world.bytes_of(uri))
    told["uri of the copy"] = Path(COPY).name
    for number, sample in enumerate(world.sample_ids):
        told[f"sample id {number}"] = sample
    labels = [row for row in rows_of(world, "*/cache/ingest/*.labels.parquet") if row["sample_id"] in ids]
    told |= {f"label id {row['label_id']}": row["label_id"] for row in labels}
    scans = rows_of(world, "*/cache/scan/*.parquet")
    others = {
        row["phash"] for row in scans if row["sample_id"] not in ids
    }  # a near duplicate that stays has its own
    for row in (row for row in scans if row["sample_id"] in ids):
        told[f"pixels {row['sample_id']}"] = row["thumbnail_sha256"]
        if row["phash"] not in others:
            told[f"print {row['sample_id']}"] = str(row["phash"])
        told[f"scan key {row['sample_id']}"] = row["row_key"]
    for row in rows_of(world, "manifests/*/versions/*/findings/*.parquet"):
        if ids & {row["sample_id"], *(row["related_ids"] or ())}:
            told[f"finding {row['finding_id']}"] = row["finding_id"]
    bytes_of = {f"bytes {n}": world.bytes_of(uri)[40:140] for n, uri in enumerate(URIS)}
    return {name: text.encode() for name, text in told.items()} | bytes_of


def erased(world: World) -> Plan:
    plan = plan_erasure(world.workspace, "faces", subject=SUBJECT)
    erase(world.workspace, plan)
    return plan


def latest(world: World, name: str = "faces") -> Path:
    return log.resolve(world.workspace / "manifests", name)


def kept_promises(version: Path) -> None:
    assert [(p.name, p.detail) for p in verify(version) if p.ok is False] == []


@pytest.mark.mongo
@pytest.mark.slow
def test_nothing_of_a_subject_is_left_in_any_file_or_collection(copied: Copied) -> None:
    world = copied(database=True)
    wanted = needles(world)
    before = found(texts_of_files(world.workspace), wanted)
    assert set(before) == set(wanted), "the look finds each of them before"
    in_mongo = {place for places in before.values() for place in places if place.startswith("mongo/data")}
    assert in_mongo, "the look must be able to find something in the database's own files"
    sources = {
        file: file.read_bytes()
        for top in ("src", "zoo")
        for file in (world.folder / top).rglob("*")
        if file.is_file()
    }

    done = e2e.call("erase", "faces", "--subject", SUBJECT, "--yes", "--json", "--workspace", world.workspace)
    assert done.code == 0, done.err
    assert done.json["n_samples"] == 4
    assert done.json["n_documents"] == 3
    database = ensure_database(world.workspace)
    assert found(texts_of_database(database.uri), wanted) == {}
    assert sum("sample" in place for place, _ in texts_of_database(database.uri)) > 30
    stop_database(world.workspace)
    assert found(texts_of_files(world.workspace), wanted) == {}
    assert {file: file.read_bytes() for file in sources} == sources

    again = world.run("faces", "--json", "--quiet")  # with review: the dataset is shown from the rebuilt database
    assert again.code in {0, 1}, again.err
    assert again.json["counts"]["n_images"] == 40
    assert world.run("zoo", "--json", "--quiet", "--no-review").code in {0, 1}
    database = ensure_database(world.workspace)
    assert found(texts_of_database(database.uri), wanted) == {}
    stop_database(world.workspace)
    assert found(texts_of_files(world.workspace), wanted) == {}
    kept_promises(latest(world))


def test_successors_hold_every_other_row_as_it_was(copied: Copied) -> None:
    world = copied()
    gone = set(world.sample_ids)
    root = world.workspace / "manifests"
    before = {
        name: {path.name: ds.dataset(path / "data").to_table() for path in (root / name / "versions").iterdir()}
        for name in ("faces", "zoo")
    }
    assert [len(versions) for versions in before.values()] == [2, 1]
    plan = erased(world)
    assert {(one.dataset, one.number) for one in plan.versions} == {("faces", 1), ("faces", 2), ("zoo", 1)}
    same = [
        "sample_id",
        "label_id",
        "uri",
        "given_label",
        "released_label",
        "action",
        "reason_codes",
        "weight",
        "risk",
    ]
    for name, versions in before.items():
        for old, table in versions.items():
            stone = read_tombstone(root / name, old)
            assert stone is not None
            heir = root / name / "versions" / str(stone.successor)
            kept_promises(heir)
            rows = [row for row in table.select(same).to_pylist() if row["sample_id"] not in gone]
            assert ds.dataset(heir / "data").to_table().select(same).to_pylist() == rows
            soft = ds.dataset(heir / "soft").to_table()
            assert soft["sample_id"].to_pylist() == [row["sample_id"] for row in rows]
            assert not (root / name / "versions" / old).exists()


def test_the_chain_of_versions_says_tombstoned_and_the_latest_stays_the_latest(copied: Copied) -> None:
    world = copied()
    root = world.workspace / "manifests"
    old = latest(world).name
    erased(world)
    entries = log.read_log(root, "faces")
    assert [entry.kind for entry in entries] == ["publish", "publish", "erase", "erase"]
    assert entries[-1].parents == (old,)
    assert latest(world).name == entries[-1].id
    parents = {promise.name: promise for promise in verify(latest(world))}["parents"]
    assert parents.ok is True
    assert "1 tombstoned" in parents.detail
    with pytest.raises(ConfigError, match=r"was erased on .* Its successor is faces@"):
        log.resolve(root, "faces@v1")
    shown = e2e.call("log", "faces", "--workspace", world.workspace)
    assert "v1 (erased)" in shown.out
    assert "v4" in shown.out
    again = world.run("faces", "--json", "--quiet", "--no-review")
    assert again.code in {0, 1}, again.err
    kept_promises(latest(world))


def test_tombstones_hold_keyed_hashes_and_the_key_is_kept_apart(copied: Copied) -> None:
    world = copied()
    first = latest(world).name
    erased(world)
    stone = read_tombstone(world.workspace / "manifests" / "faces", first)
    assert stone is not None
    assert (stone.n_samples, len(stone.hashes)) == (3, 3)
    assert all(len(one) == 64 for one in stone.hashes)
    plain = {sha256(text.encode()) for text in (*world.sample_ids, *URIS, SUBJECT)}
    assert plain.isdisjoint(stone.hashes)
    key = secret_file(world.workspace)
    assert not key.is_relative_to(world.workspace / "manifests")
    assert key.stat().st_mode & 0o077 == 0
    other = copied("other")
    erased(other)
    elsewhere = read_tombstone(other.workspace / "manifests" / "faces", first)
    assert elsewhere is not None
    assert set(elsewhere.hashes).isdisjoint(stone.hashes), "another workspace has another key"
    key.rename(key.with_name("mislaid"))
    done = world.run("faces", "--json", "--quiet", "--no-review")
    assert (done.code, done.json["kind"]) == (2, "usage")
    assert "their key" in done.json["error"]


def test_the_ledger_forgets_by_a_line_that_says_so(copied: Copied) -> None:
    world = copied()
    folder = ledger.ledger_folder(world.workspace, "faces")
    before = ledger.read(folder).decisions.to_pylist()
    erased(world)
    after = ledger.read(folder)
    assert after.problems == ()
    dropped, kept = after.decisions.to_pylist()
    assert dropped["decision_id"] == before[0]["decision_id"]
    assert dropped["sample_id"].startswith("erased:")
    assert (dropped["decision"], dropped["why"]) == ("note", "erased on request")
    assert kept == {**before[1], "why": "not the person of (erased)"}
    assert ledger.standing(after.decisions)["decision_id"].to_pylist() == [kept["decision_id"]]


def test_the_next_run_says_erased_and_no_more(copied: Copied) -> None:
    world = copied()
    erased(world)
    done = world.run("faces", "--json", "--quiet", "--no-review")
    assert done.code in {0, 1}, done.err
    rows = ds.dataset(latest(world) / "excluded").to_table().to_pylist()
    out = [row for row in rows if row["stage"] == "ingest"]
    assert {(row["row"], row["reason_args"], row["sample_id"], row["uri"]) for row in out} == {
        ("an erased row", "{}", None, None)
    }
    assert [row["reason_codes"] for row in out] == [["erased"]] * 3
    statistics = json.loads((latest(world) / "evidence" / "statistics.json").read_text())
    assert next(row["value"] for row in statistics if row["name"] == "share_out") == 0.0


def test_what_was_erased_does_not_come_back_under_another_name_or_when_its_file_is_deleted(copied: Copied) -> None:
    world = copied()
    erased(world)
    shutil.copy(world.folder / "loose" / URIS[1], world.folder / "zoo" / "ape" / "a-new-name.png")
    done = world.run("zoo", "--json", "--quiet", "--no-review")
    assert done.code in {0, 1}, done.err
    assert done.json["counts"]["n_images"] == 30
    wanted = {"bytes": sha256(world.bytes_of(URIS[1])).encode(), "name": b"a-new-name.png"}
    assert set(found(texts_of_files(world.workspace), wanted)) <= {
        "name"
    }  # the name is new: nobody asked to erase it
    rows = [
        f"{row['file']},{row['label']}" for row in pq.read_table(world.folder / "src" / "faces.parquet").to_pylist()
    ]
    (world.folder / "src" / "faces.csv").write_text("\n".join(["file,label", *rows]) + "\n")
    shutil.copytree(world.folder / "loose" / "faces", world.folder / "src" / "faces", ignore=lambda *_: NAMES)
    source = "{format: table, path: src/faces.csv, columns: {image: file, label: label}}"
    e2e.write_spec(world.folder / "faces.yaml", source, name="faces")
    done = world.run("faces", "--json", "--quiet", "--no-review")
    assert done.code in {0, 1}, done.err
    assert done.json["counts"]["n_images"] == 40
    out = ds.dataset(latest(world) / "excluded").to_table().to_pylist()
    assert [row["reason_codes"] for row in out if row["stage"] == "ingest"] == [["erased"]] * 3
    assert found(texts_of_files(world.workspace), {name: name.encode() for name in NAMES}) == {}


def test_a_sample_by_uri_takes_its_copies_and_shows_what_looks_like_it(copied: Copied) -> None:
    world = copied()
    plan = plan_erasure(world.workspace, "faces", samples=[f"{URIS[0]}"])
    assert {row["sample_id"] for row in plan.samples} == {world.sample_ids[0], world.sample_ids[3]}
    assert plan.n_same_bytes == 1
    near = next(one for one in plan.near if one.uri.endswith(NEAR))
    assert not near.same_pixels
    assert near.distance_bits <= 4
    chosen = plan_erasure(world.workspace, "faces", samples=[f"{URIS[0]}"], with_near_duplicates=True)
    assert near.sample_id in {row["sample_id"] for row in chosen.samples}
    by_hand = plan_erasure(world.workspace, "faces", samples=[world.sample_ids[0], near.sample_id])
    assert near.sample_id in by_hand.erasure.sample_ids


def test_a_plan_changes_nothing_and_counts_what_is_there(copied: Copied) -> None:
    world = copied()
    e2e.call(
        "export",
        "faces",
        "--format",
        "csv",
        "--images",
        "none",
        "--out",
        world.folder / "ex",
        "--workspace",
        world.workspace,
    )
    before = {file: file.read_bytes() for file in world.workspace.rglob("*") if file.is_file()}
    done = e2e.call("erase", "faces", "--subject", SUBJECT, "--dry-run", "--json", "--workspace", world.workspace)
    assert done.code == 0, done.err
    assert {file: file.read_bytes() for file in world.workspace.rglob("*") if file.is_file()} == before
    told = done.json
    assert told["erased"] is False
    assert told["derived"]["faces"]["rows of features"] == 3
    assert told["derived"]["faces"]["rows of the scan"] == 3
    assert told["derived"]["faces"]["decisions"] == 2
    assert told["derived"]["faces"]["images and archives"] == 3
    assert told["derived"]["faces"]["pages"] == 1
    assert told["derived"]["faces"]["run records"] == 1
    assert any(str(world.folder / "ex") in warning for warning in told["warnings"])
    refused = e2e.call("erase", "faces", "--subject", SUBJECT, "--json", "--workspace", world.workspace)
    assert refused.code == 2
    assert "--yes" in refused.json["error"]


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({}, "--sample URI-or-id, or --subject S"),
        ({"samples": ["faces/zq-007.png"]}, "Did you mean 'faces/zq-"),
        ({"subject": "nobody"}, "is known to show the subject 'nobody'"),
        ({"subject": SUBJECT, "why": f"asked by {SUBJECT}"}, "must not name what is erased"),
    ],
)
def test_a_wrong_request_is_told(whole: World, asked: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        plan_erasure(whole.workspace, "faces", **asked)


def test_an_unknown_dataset_and_a_second_erasure_are_told(copied: Copied) -> None:
    world = copied()
    with pytest.raises(ConfigError, match="Did you mean 'faces'"):
        plan_erasure(world.workspace, "facse", subject=SUBJECT)
    erased(world)
    with pytest.raises(ConfigError, match="was erased before"):
        plan_erasure(world.workspace, "faces", samples=[world.sample_ids[0]])
    with pytest.raises(ConfigError, match="waits to be finished"):
        resume_erasure(world.workspace)


def test_a_version_that_cannot_be_read_stops_it_before_anything_is_touched(copied: Copied) -> None:
    world = copied()
    next((latest(world) / "data").iterdir()).write_bytes(b"torn")
    with pytest.raises(VerificationError, match="curate verify"):
        plan_erasure(world.workspace, "faces", subject=SUBJECT)
    assert not journal_file(world.workspace).exists()


def test_files_of_others_are_left_and_named(copied: Copied) -> None:
    world = copied()
    note = world.workspace / "notes.txt"
    note.write_text(f"ask about {URIS[0]}")
    unknown = world.workspace / "faces" / "thumbs" / f"{world.sample_ids[0]}.bin"
    unknown.parent.mkdir()
    unknown.write_bytes(b"derived by something newer")
    plan = plan_erasure(world.workspace, "faces", subject=SUBJECT)
    done = erase(world.workspace, plan)
    assert done.left == (note.resolve(),)
    assert not unknown.exists()
    assert done.n_swept_files == 1
    assert "notes.txt" in "\n".join(done.lines())


KILLED = """
import os, sys
from pathlib import Path
from curate.governance.erase import erase
from curate.governance.plan import plan_erasure
root, at, subject = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
plan = plan_erasure(root, "faces", subject=subject)
n = 0
def hook(event, arguments):
    global n
    writes = event == "open" and isinstance(arguments[1], str) and set(arguments[1]) & set("wxa+")
    if writes or event in {"os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.link", "shutil.rmtree"}:
        n += 1
        if n == at:
            os.kill(os.getpid(), 9)
sys.addaudithook(hook)
erase(root, plan)
print(n)
"""


def killed(world: World, at: int) -> subprocess.CompletedProcess[str]:
    """Erase in a process of its own that is killed just before its `at`-th change to the disk."""
    command = [sys.executable, "-c", KILLED, str(world.workspace), str(at), SUBJECT]
    return subprocess.run(command, env=e2e.environment(), capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.slow
def test_killed_before_any_change_to_the_disk_it_resumes_and_ends_the_same(copied: Copied) -> None:
    whole = copied("undisturbed")
    wanted = needles(whole)
    n_changes = int(killed(whole, -1).stdout)
    assert n_changes > 100
    heirs = {entry.id for entry in log.read_log(whole.workspace / "manifests", "faces") if entry.kind == "erase"}
    for step in range(8):
        world = copied(f"killed-{step}")
        ended = killed(
            world, 2 + step * (n_changes - 3) // 7
        )  # the first change is the lock, the last the journal's
        assert ended.returncode == -9, ended.stderr
        kept_promises(latest(world))  # whatever happened, the latest version is whole
        if journal_file(world.workspace).exists():
            done = world.run("faces", "--json", "--quiet", "--no-review") if step == 3 else None
            assert done is None or (done.code, done.json["kind"]) == (2, "usage")
            if step == 3:
                told = e2e.call("erase", "--resume", "--json", "--workspace", world.workspace)
                assert (told.code, told.json["n_samples"]) == (0, 4), told.err
            else:
                resume_erasure(world.workspace)
        else:
            erased(world)  # killed before the journal: nothing was done
        assert found(texts_of_files(world.workspace), wanted) == {}
        entries = log.read_log(world.workspace / "manifests", "faces")
        assert {entry.id for entry in entries if entry.kind == "erase"} == heirs
        assert [entry.kind for entry in entries] == ["publish", "publish", "erase", "erase"]
        kept_promises(latest(world))


def test_a_successor_is_retracted_tagged_and_used_as_what_it_replaces_and_has_to_be_signed_again(
    copied: Copied, tmp_path: Path
) -> None:
    world = copied()
    root = world.workspace / "manifests"
    first, second = (entry.id for entry in log.read_log(root, "faces"))
    life.retract(root, "faces@v1", why="wrong labels")
    life.tag(root, "faces@v2", "gold")
    record_use(root, "faces", second, "train-17")
    key, _, _ = new_keys(tmp_path / "key.pem")
    sign_version(root, "faces@v2", key)

    plan = plan_erasure(world.workspace, "faces", subject=SUBJECT)
    assert [one.n_signatures for one in plan.versions] == [0, 1, 0]
    assert "SIGNED" in "\n".join(plan.lines())
    assert plan.training_runs == ["faces: train-17"]
    done = erase(world.workspace, plan)
    old, new = (str(done.successors["faces"][one]) for one in (first, second))
    assert done.sign_again == {"faces": [new]}
    assert f"sign it again: curate sign faces@{new[:12]}" in "\n".join(done.lines())

    with pytest.raises(ConfigError, match="was retracted"):
        open_feed(f"faces@{old}", workspace=world.workspace)
    with pytest.raises(ConfigError, match="wrong labels"):
        life.refuse_retracted(root, f"faces@{old}", old, allowed=False)
    with pytest.raises(ConfigError, match="wrong labels"):
        life.rollback(root, f"faces@{old}")
    told = {promise.name: promise.detail for promise in verify(root / "faces" / "versions" / old)}
    assert "wrong labels" in told["retracted"]
    assert log.resolve(root, "faces@gold").name == new
    assert [(use.id, use.by) for use in read_uses(root, "faces", new)] == [(second, "train-17")]
    assert life.retract(root, f"faces@{new}", why="too")[0] is not None
    with pytest.raises(ConfigError, match="Every version of faces is retracted"):
        log.resolve(root, "faces")
