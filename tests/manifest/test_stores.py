"""Releases in an object store: an S3 server on loopback that honours put-if-absent."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import s3_server as s3

import curate
from curate.adapters.object_store import StoreError, StorePath, open_store
from curate.describe.verbs import describe_version
from curate.errors import ConfigError, StageError, VerificationError
from curate.feed.release import open_feed
from curate.manifest import diff, life, load_release, publish, publish_store, read_log, resolve, verify
from curate.manifest.publish import collect_leftovers
from curate.manifest.show import show
from curate.manifest.signatures import new_keys
from curate.manifest.used import read_uses, record_use
from curate.manifest.verbs import sign_version

Worlds = Callable[..., Any]


def broken(path: Any) -> dict[str, str]:  # noqa: ANN401 - a place
    return {promise.name: promise.detail for promise in verify(path) if promise.ok is False}


def test_a_version_in_a_store_is_the_same_as_in_a_folder(world: Worlds, bucket: StorePath, tmp_path: Path) -> None:
    release = world().release()
    here, there = publish(release, tmp_path, "zoo"), publish(release, bucket, "zoo")
    assert (there.id, there.number, there.is_new) == (here.id, 1, True)
    assert str(there.path) == f"{bucket}/zoo/versions/{here.id}"
    assert {f.path: f.n_bytes for f in there.path.below()} == {
        path.relative_to(here.path).as_posix(): path.stat().st_size for path in here.path.rglob("*.*")
    }
    assert broken(resolve(bucket, "zoo")) == {}
    loaded = load_release(str(there.path))  # by URL
    assert loaded.data.equals(release.data)
    assert loaded.soft.equals(release.soft)
    again = publish(release, bucket, "zoo")
    assert (again.is_new, again.repaired, len(read_log(bucket, "zoo"))) == (False, False, 1)
    assert list((bucket / "zoo" / "staging").below()) == []


def test_the_life_of_a_version_in_a_store(world: Worlds, bucket: StorePath, tmp_path: Path) -> None:
    first = publish(world().release(), bucket, "zoo")
    second = publish(world(labels_changed={5: "cat"}).release(), bucket, "zoo")
    assert diff(first.path, second.path).summary["changes"]["relabeled"] == 1
    life.tag(bucket, "zoo@v1", "gold")
    life.rollback(bucket, "zoo@gold")
    assert resolve(bucket, "zoo").name == first.id
    life.retract(bucket, "zoo@v1", why="wrong license")
    assert resolve(bucket, "zoo").name == second.id
    assert record_use(bucket, "zoo", second.id, by="run") == record_use(bucket, "zoo", second.id, by="run")
    new_keys(tmp_path / "k.pem")
    assert sign_version(bucket, "zoo", tmp_path / "k.pem")["is_new"]
    signed = {promise.name: promise for promise in verify(second.path, key=tmp_path / "k.pem.pub", deep=True)}
    assert [name for name, promise in signed.items() if promise.ok is False] == []
    assert signed["signature"].ok
    shown = show(bucket, "zoo", lineage=True)
    assert (shown["n_signatures"], len(shown["uses"]), shown["parents"]) == (1, 1, [first.id])


def test_a_feed_and_a_description_from_a_store(world: Worlds, bucket: StorePath, tmp_path: Path) -> None:
    release = world().release()
    here = publish(release, tmp_path / "manifests", "zoo")
    publish(release, bucket, "zoo")
    far = open_feed(
        "zoo",
        manifests=str(bucket),
        workspace=tmp_path / "w",
        images=tmp_path,
        used_by="run 1",
        allow_failed_gates=True,
    )
    near = open_feed(
        "zoo", manifests=tmp_path / "manifests", workspace=tmp_path / "w", images=tmp_path, allow_failed_gates=True
    )
    assert (far.version_id, far.rows.table.equals(near.rows.table)) == (here.id, True)
    assert far.rows.soft.arrays["probs"].tolist() == near.rows.soft.arrays["probs"].tolist()
    assert [use.by for use in read_uses(bucket, "zoo")] == ["run 1"]
    folders = {}
    for name, root in {"far": bucket, "near": tmp_path / "manifests"}.items():
        describe_version(tmp_path / "w", "zoo", out=tmp_path / name, root=root)
        folders[name] = {path.relative_to(tmp_path / name): path for path in (tmp_path / name).rglob("*.*")}
    assert folders["far"].keys() == folders["near"].keys()
    timed = {
        "openlineage.jsonl",
        "croissant.json",
        "README.md",
        "DATASHEET.md",
    }  # each was published at its own time
    for path in folders["far"]:
        assert path.name in timed or folders["far"][path].read_bytes() == folders["near"][path].read_bytes()
    kept = pq.read_table(tmp_path / "far" / "data")
    assert kept.num_rows == release.data.num_rows


def test_64_publishers_leave_one_version_and_one_entry(world: Worlds, bucket: StorePath) -> None:
    release = world().release()
    with ThreadPoolExecutor(max_workers=64) as pool:
        published = list(pool.map(lambda _: publish(release, bucket, "zoo"), range(64)))
    assert Counter(one.is_new for one in published) == {True: 1, False: 63}
    assert [entry.kind for entry in read_log(bucket, "zoo")] == ["publish"]
    assert broken(resolve(bucket, "zoo")) == {}
    assert list((bucket / "zoo" / "staging").below()) == []


def test_damage_in_a_store_is_found_and_written_over(world: Worlds, bucket: StorePath) -> None:
    release = world().release()
    path: Any = publish(release, bucket, "zoo").path
    part = path / "data" / "part-00000.parquet"
    whole = part.read_bytes()
    part.put(whole[:-9])
    assert f"data/part-00000.parquet has {len(whole) - 9} bytes" in broken(path)["files"]
    part.put(bytes([whole[0] ^ 1]) + whole[1:])
    assert "data/part-00000.parquet was changed" in broken(path)["files"]
    part.delete()
    assert "data/part-00000.parquet is missing" in broken(path)["files"]
    (path / "more.txt").put(b"x")
    assert broken(path)["nothing unlisted"] == "more.txt"
    (path / "more.txt").delete()
    assert publish(release, bucket, "zoo").repaired
    assert broken(path) == {}
    assert [entry.kind for entry in read_log(bucket, "zoo")] == ["publish", "repair"]
    (path / "manifest.json").delete()
    with pytest.raises(VerificationError, match="is not there"):
        resolve(bucket, "zoo")


KILLED = """
import pickle, sys
from curate.adapters import object_store
from curate.manifest import publish
n, real = int(sys.argv[3]), object_store.StorePath.put
def put(self, content):
    global n
    n -= 1
    if n < 0:
        import os, signal
        os.kill(os.getpid(), signal.SIGKILL)
    real(self, content)
object_store.StorePath.put = put
publish(pickle.load(open(sys.argv[1], "rb")), sys.argv[2], "zoo")
"""


def settled(place: StorePath) -> list[str]:
    """Return what is there once nothing comes any more: a server finishes what it had received before the kill."""
    seen: list[str] | None = None
    for _ in range(40):
        now = [found.path for found in place.below()]
        if now == seen:
            return now
        seen = now
        time.sleep(0.5)
    pytest.fail(f"the store never came to rest: {seen}")


@pytest.mark.parametrize("n_puts", [1, 7])
def test_an_upload_that_was_cut_off_is_no_version_and_is_collected(
    world: Worlds, bucket: StorePath, server: str, tmp_path: Path, n_puts: int
) -> None:
    import pickle  # noqa: PLC0415 - only here

    release = world().release()
    (tmp_path / "release").write_bytes(pickle.dumps(release))
    environment = {**os.environ, **s3.settings_for(server), "PYTHONPATH": str(Path(curate.__file__).parents[1])}
    command = [sys.executable, "-c", KILLED, str(tmp_path / "release"), str(bucket), str(n_puts)]
    ended = subprocess.run(command, env=environment, check=False, capture_output=True)
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    left = settled(bucket / "zoo")
    assert any(path.startswith("staging/publish-") for path in left)
    assert not any(path.endswith("manifest.json") for path in left)
    with pytest.raises(ConfigError, match="No version of 'zoo'"):
        resolve(bucket, "zoo")
    assert collect_leftovers(bucket, "zoo") == []  # it may still be at work
    removed = collect_leftovers(bucket, "zoo", dead_after=timedelta(seconds=-1))
    assert sorted(removed) == sorted(left)
    assert publish(release, bucket, "zoo").is_new


def test_collecting_touches_no_version_and_no_publisher_at_work(world: Worlds, bucket: StorePath) -> None:
    published: Any = publish(world().release(), bucket, "zoo")
    half = bucket / "zoo" / "versions" / ("0" * 64) / "data" / "part-00000.parquet"
    half.put(b"half")
    with publish_store._announced(bucket / "zoo", "publish", "0" * 64):
        time.sleep(2.1)  # the store tells time in seconds
        with publish_store._announced(bucket / "zoo", "publish", "0" * 64):
            assert collect_leftovers(bucket, "zoo", dead_after=timedelta(seconds=1))[0].startswith(
                "staging/publish-"
            )
            assert half.is_file()
    assert broken(published.path) == {}


def test_a_publisher_waits_for_a_collector(
    world: Worlds, bucket: StorePath, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publish_store, "_WAIT_S", 0.5)
    release = world().release()
    with (
        publish_store._announced(bucket / "zoo", "collect", ""),
        pytest.raises(StageError, match=r"curate gc is at work.*Nothing was published"),
    ):
        publish(release, bucket, "zoo")
    assert read_log(bucket, "zoo") == []
    assert publish(release, bucket, "zoo").is_new


@pytest.fixture
def forbidding(monkeypatch: pytest.MonkeyPatch) -> Iterator[StorePath]:
    """Give a store that answers every request with 403."""

    class Forbidden(BaseHTTPRequestHandler):
        def answer(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            body = b"<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"
            self.send_response(403)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(b"" if self.command == "HEAD" else body)

        do_GET = do_PUT = do_HEAD = do_POST = do_DELETE = answer  # noqa: N815 - names of the base class

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    serving = ThreadingHTTPServer(("127.0.0.1", 0), Forbidden)
    threading.Thread(target=serving.serve_forever, daemon=True).start()
    for name, value in s3.settings_for(f"http://127.0.0.1:{serving.server_port}").items():
        monkeypatch.setenv(name, value)
    yield open_store("s3://locked/releases")
    serving.shutdown()
    serving.server_close()


def test_a_store_without_permission(world: Worlds, forbidding: StorePath) -> None:
    with pytest.raises(StageError, match=r"s3://locked/releases/zoo.*permission denied.*Nothing was published"):
        publish(world().release(), forbidding, "zoo")
    with pytest.raises(StoreError, match="permission denied"):
        read_log(forbidding, "zoo")
    environment = {**os.environ, "PYTHONPATH": str(Path(curate.__file__).parents[1])}
    command = [sys.executable, "-m", "curate", "verify", "zoo", "--manifests", str(forbidding), "--json"]
    ended = subprocess.run(command, env=environment, check=False, capture_output=True, text=True)
    assert ended.returncode == 4
    assert "permission denied" in json.loads(ended.stdout)["error"]
    assert "Traceback" not in ended.stderr


def test_a_bucket_that_is_not_there(world: Worlds, bucket: StorePath) -> None:
    with pytest.raises(StageError, match=r"There is no bucket of s3://nowhere/x\. Make it first"):
        publish(world().release(), "s3://nowhere/x", "zoo")
    assert str(bucket).startswith("s3://")


@pytest.mark.parametrize("url", ["ftp://a/b", "s3://", "s3://key:secret@bucket/x", "http://a/b", "s3:///x"])
def test_urls_that_are_no_store(url: str) -> None:
    with pytest.raises(ConfigError, match=r"s3://BUCKET/PREFIX.*given") as raised:
        open_store(url)
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize(
    ("url", "key"), [("gs://bucket/a", "AZURE_STORAGE_ACCOUNT_NAME"), ("az://box/a", "AZURE_STORAGE_ACCOUNT_NAME")]
)
def test_other_clouds_open_by_url(url: str, key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(key, "account")
    place = open_store(f"{url}/") / "zoo" / "log"
    assert (str(place), place.name, place.parent.name) == (f"{url}/zoo/log", "log", "zoo")
