"""Stores that refuse, are busy, are not there, and disks that cannot be written: what is told, and nothing published."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import end_to_end as e2e
import pytest
import s3_server as s3

from curate.adapters import store_answers
from curate.adapters.object_store import StoreError, StorePath, open_store
from curate.errors import StageError
from curate.manifest import publish, read_log, resolve, verify
from curate.manifest.publish import collect_leftovers, require_writable
from curate.manifest.used import read_uses

Worlds = Callable[..., Any]
Here = Callable[..., e2e.Done]
PLACE = "s3://releases/vision"
ALLOWED = {
    "nobody": [],
    "reader": ["s3:GetObject", "s3:ListBucket"],
    "lister": ["s3:ListBucket"],
    "writer": ["s3:PutObject"],
    "publisher": ["s3:GetObject", "s3:ListBucket", "s3:PutObject"],
    "owner": ["s3:*"],
}


def become(user: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> StorePath:
    for name, value in user.items():
        monkeypatch.setenv(name, value)
    return open_store(PLACE)


def content(store: StorePath) -> dict[str, bytes]:
    return {found.path: (store / found.path).read_bytes() for found in store.below()}


@pytest.fixture(scope="module")
def users(world: Worlds) -> Iterator[dict[str, dict[str, str]]]:
    """People with different rights on a bucket that holds a version, and two whom the store does not know."""
    with s3.serving() as address, pytest.MonkeyPatch.context() as patch:
        s3.make_bucket(address, "releases")
        publish(world().release(), become(s3.settings_for(address), patch), "zoo")
        made = s3.make_users(address, ALLOWED)
        made["wrong secret"] = made["owner"] | {"AWS_SECRET_ACCESS_KEY": "wrong"}
        made["unknown key"] = made["owner"] | {"AWS_ACCESS_KEY_ID": "AKIAUNKNOWN"}
        yield made


@pytest.mark.parametrize(
    ("who", "verb", "told"),
    [
        ("nobody", ("verify", "zoo"), f"{PLACE}/zoo/log: permission denied to list it"),
        ("writer", ("log", "zoo"), f"{PLACE}/zoo/log: permission denied to list it"),
        ("lister", ("show", "zoo"), f"{PLACE}/zoo/log/0000000001.json: permission denied to read it"),
        ("reader", ("tag", "zoo", "gold"), f"{PLACE}/zoo/log/0000000002.json: permission denied to write it"),
        ("reader", ("used", "zoo", "--by", "me"), "permission denied to write it"),
        ("reader", ("gc",), f"{PLACE}/zoo/staging/probe.json: permission denied to write it"),
        ("wrong secret", ("log", "zoo"), "does not accept the credentials in the environment (SignatureDoesNotMatch)"),
        ("unknown key", ("log", "zoo"), "does not accept the credentials in the environment (InvalidAccessKeyId)"),
    ],
)  # fmt: skip
def test_who_may_not_is_told_what_they_may_not(
    users: dict[str, dict[str, str]],
    here: Here,
    monkeypatch: pytest.MonkeyPatch,
    who: str,
    verb: tuple[str, ...],
    told: str,
) -> None:
    before = content(become(users["owner"], monkeypatch))
    become(users[who], monkeypatch)
    done = here(*verb, "--manifests", PLACE, "--json")
    assert (done.code, done.json["exit_code"]) == (4, 4), done.err
    assert told in done.json["error"]
    assert "<" not in done.json["error"]  # no XML of the server's
    assert content(become(users["owner"], monkeypatch)) == before


@pytest.mark.parametrize("who", ["nobody", "reader", "lister", "writer", "wrong secret"])
def test_who_may_not_publish_publishes_nothing(
    users: dict[str, dict[str, str]], world: Worlds, monkeypatch: pytest.MonkeyPatch, who: str
) -> None:
    before = content(become(users["owner"], monkeypatch))
    store = become(users[who], monkeypatch)
    with pytest.raises(StageError, match=r"permission denied.*Nothing was published"):
        publish(world(labels_changed={5: "cat"}).release(), store, "zoo")
    with pytest.raises(StoreError, match="permission denied"):
        require_writable(store, "zoo")  # what a run asks before it begins
    assert content(become(users["owner"], monkeypatch)) == before


def test_a_run_that_may_not_publish_says_so_before_it_works(
    users: dict[str, dict[str, str]], tmp_path: Path, here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    become(users["reader"], monkeypatch)
    e2e.write_classes(tmp_path / "data", n=6)
    spec = e2e.write_spec(tmp_path / "pets.yaml", "{format: folder, path: data}")
    told = here("run", spec, "--workspace", tmp_path, "--no-review", "--manifests", PLACE, "--json", "--quiet")
    assert (told.code, "permission denied to write it" in told.json["error"]) == (4, True)
    assert not (tmp_path / "pets" / "cache").exists()


def test_who_may_read_can_verify_and_who_may_not_delete_can_publish_and_holds_up_nobody(
    users: dict[str, dict[str, str]], world: Worlds, here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    become(users["reader"], monkeypatch)
    assert here("verify", "zoo", "--deep", "--manifests", PLACE).code == 0
    store = become(users["publisher"], monkeypatch)
    made = publish(world(labels_changed={4: "cat"}).release(), store, "zoo")
    assert [promise for promise in verify(made.path) if promise.ok is False] == []
    done = here("gc", "zoo", "--manifests", PLACE, "--json")
    assert (done.code, "permission denied to delete it" in done.json["error"]) == (4, True)
    left = {found.path.partition("-")[0] for found in (store / "zoo" / "staging").below()}
    assert left == {"publish", "probe.json"}  # no collector's, for which a publisher would wait
    assert publish(world(labels_changed={7: "cat"}).release(), store, "zoo").is_new
    assert collect_leftovers(become(users["owner"], monkeypatch), "zoo") == []


# -- a store that is busy, or gone ----------------------------------------------------------------------------


@contextmanager
def between(behind: str, answer: Callable[[str, str], int | None]) -> Iterator[str]:
    """Serve what the server `behind` serves, but answer with a status where `answer(method, path)` gives one."""

    class Between(BaseHTTPRequestHandler):
        def handle_one(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            status = answer(self.command, self.path)
            told, kept = b"<Error><Code>SlowDown</Code><Message>Reduce your request rate</Message></Error>", {}
            if status is None:
                link = HTTPConnection(behind.removeprefix("http://"))
                link.request(self.command, self.path, body or None, dict(self.headers.items()))
                with link.getresponse() as got:
                    status, told, kept = got.status, got.read(), dict(got.headers.items())
                link.close()
            self.send_response(status)
            for name, value in kept.items():
                if name.lower() not in {"connection", "transfer-encoding", "content-length"}:
                    self.send_header(name, value)
            self.send_header("Content-Length", kept.get("Content-Length", str(len(told))))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(told)

        do_GET = do_PUT = do_HEAD = do_POST = do_DELETE = handle_one  # noqa: N815 - names of the base class

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    serving = ThreadingHTTPServer(("127.0.0.1", 0), Between)
    threading.Thread(target=serving.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{serving.server_port}"
    finally:
        serving.shutdown()
        serving.server_close()


def test_a_store_that_is_busy_for_a_while_is_asked_again(
    world: Worlds, bucket: StorePath, server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: dict[str, int] = {}

    def busy(method: str, path: str) -> int | None:
        key = f"{method} {path.partition('?')[0]}"
        asked[key] = asked.get(key, 0) + 1
        patience = (
            7 if method == "PUT" and path.endswith("manifest.json") else 2
        )  # more than the client has by itself
        return 503 if asked[key] <= patience else None

    with between(server, busy) as address:
        monkeypatch.setenv("AWS_ENDPOINT_URL", address)
        published = publish(world().release(), open_store(str(bucket)), "zoo")
    assert max(asked.values()) > 7
    assert published.is_new
    assert [entry.kind for entry in read_log(bucket, "zoo")] == ["publish"]
    assert [promise for promise in verify(resolve(bucket, "zoo")) if promise.ok is False] == []


def test_a_store_that_stays_busy_is_said_to_be(
    world: Worlds, bucket: StorePath, server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_answers, "PATIENCE_S", 0.1)
    publish(world().release(), bucket, "zoo")
    before = content(bucket)
    with between(server, lambda method, _: 503 if method == "PUT" else None) as address:
        monkeypatch.setenv("AWS_ENDPOINT_URL", address)
        with pytest.raises(StageError, match=r"too busy to write it.*later\. Nothing was published"):
            publish(world(labels_changed={5: "cat"}).release(), open_store(str(bucket)), "zoo")
    assert content(bucket) == before


@pytest.mark.parametrize("verb", [("verify", "zoo"), ("where", "a.png"), ("gc",)])
def test_a_store_that_cannot_be_reached(here: Here, monkeypatch: pytest.MonkeyPatch, verb: tuple[str, ...]) -> None:
    for name, value in s3.settings_for("http://127.0.0.1:1").items():
        monkeypatch.setenv(name, value)
    done = here(*verb, "--manifests", PLACE, "--json")
    assert done.code == 4
    assert "cannot be reached. Check the network and the address" in done.json["error"]
    assert PLACE in done.json["error"]


def test_a_bucket_that_is_not_there_is_named_by_every_verb(
    here: Here, server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in s3.settings_for(server).items():
        monkeypatch.setenv(name, value)
    for verb in (("log", "zoo"), ("gc",), ("where", "a.png")):
        done = here(*verb, "--manifests", "s3://nowhere/x", "--json")
        assert (done.code, done.json["error"]) == (4, "There is no bucket of s3://nowhere/x. Make it first.")


# -- a folder that cannot be written --------------------------------------------------------------------------


def test_a_file_in_place_of_a_folder(world: Worlds, tmp_path: Path, here: Here) -> None:
    """What refuses root too: nothing can be made below a file."""
    (tmp_path / "taken").write_text("mine")
    with pytest.raises(StageError, match=r"taken/zoo.*Not a directory.*Nothing was published"):
        publish(world().release(), tmp_path / "taken", "zoo")
    publish(world().release(), tmp_path / "manifests", "zoo")
    before = {path: path.read_bytes() for path in (tmp_path / "manifests").rglob("*.*") if path.is_file()}
    for folder in ("used", "tombstones"):
        (tmp_path / "manifests" / "zoo" / folder).write_text("mine")
    done = here("used", "zoo", "--by", "me", "--workspace", tmp_path, "--json")
    assert (done.code, "zoo/used" in done.json["error"]) == (4, True), done
    (tmp_path / "manifests" / "zoo" / "used").unlink()
    assert read_uses(tmp_path / "manifests", "zoo") == []
    after = {path: path.read_bytes() for path in (tmp_path / "manifests").rglob("*.*") if path.is_file()}
    assert after == before
