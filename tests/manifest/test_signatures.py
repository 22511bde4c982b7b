from __future__ import annotations

import base64
import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from curate.errors import ConfigError, VerificationError
from curate.manifest import life, publish, verify
from curate.manifest.signatures import STATEMENT, new_keys
from curate.manifest.verbs import Verification, sign_version

Worlds = Callable[..., Any]


@pytest.fixture(scope="module")
def pristine(world: Worlds, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two versions of `zoo`, v1 signed by mine.pem; yours.pem is somebody else's key."""
    folder = tmp_path_factory.mktemp("signed")
    for seed in (0, 1):
        publish(world(seed=seed).release(), folder, "zoo")
    for name in ("mine.pem", "yours.pem"):
        new_keys(folder / name)
    sign_version(folder, "zoo@v1", folder / "mine.pem")
    return folder


@pytest.fixture
def root(pristine: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(pristine, tmp_path / "root"))


def path_of(root: Path, number: int) -> Path:
    entry = json.loads((root / "zoo" / "log" / f"{number:010d}.json").read_bytes())
    return root / "zoo" / "versions" / str(entry["id"])


def envelope_of(root: Path, number: int) -> Path:
    (only,) = (root / "zoo" / "attestations" / path_of(root, number).name).iterdir()
    return only


def signature(version: Path, key: Path | None) -> tuple[bool | None, str]:
    promise = next(promise for promise in verify(version, key=key) if promise.name == "signature")
    return promise.ok, promise.detail


def test_a_signature_is_kept_beside_the_version_and_is_held_against_the_callers_key(root: Path) -> None:
    ok, detail = signature(path_of(root, 1), root / "mine.pem.pub")
    assert ok is True
    assert detail.startswith("1 of 1 signature by the key")
    ok, detail = signature(path_of(root, 1), None)  # without a key nobody is trusted
    assert ok is None
    assert detail.startswith("NOT CHECKED: 1 signature")
    assert not Verification(path_of(root, 1), verify(path_of(root, 1), key=root / "yours.pem.pub")).ok


def test_the_statement_is_in_toto_and_names_the_version_and_its_gates(root: Path) -> None:
    envelope = json.loads(envelope_of(root, 1).read_bytes())
    said = json.loads(base64.b64decode(envelope["payload"]))
    assert envelope["payloadType"] == "application/vnd.in-toto+json"
    assert said["_type"] == STATEMENT
    assert said["subject"] == [{"name": "zoo", "digest": {"sha256": path_of(root, 1).name}}]
    manifest = json.loads((path_of(root, 1) / "manifest.json").read_bytes())
    assert said["predicate"]["result"] == {"failed": "FAILED"}[manifest["gates"]]
    assert said["predicate"]["failedTests"]
    assert {"name": "policy", "digest": {"sha256": manifest["inputs"]["policy"]}} in said["predicate"][
        "configuration"
    ]


def test_an_unsigned_version_is_said_to_be_unsigned(root: Path) -> None:
    ok, detail = signature(path_of(root, 2), None)
    assert (ok, detail.partition(":")[0]) == (None, "UNSIGNED")
    ok, detail = signature(path_of(root, 2), root / "mine.pem.pub")
    assert (ok, detail.partition(":")[0]) == (False, "UNSIGNED")


def test_the_same_key_signs_once_and_others_may_add_theirs(root: Path) -> None:
    assert not sign_version(root, "zoo@v1", root / "mine.pem")["is_new"]
    assert sign_version(root, "zoo@v1", root / "yours.pem")["is_new"]
    for name in ("mine", "yours"):
        ok, detail = signature(path_of(root, 1), root / f"{name}.pem.pub")
        assert (ok, detail[:20]) == (True, "1 of 2 signatures by")


def test_a_wrong_key(root: Path) -> None:
    ok, detail = signature(path_of(root, 1), root / "yours.pem.pub")
    assert ok is False
    assert detail.endswith("by another key")


@pytest.mark.parametrize("damage", ["payload", "signature", "key id", "half", "json", "empty", "no subject"])
def test_a_tampered_envelope(root: Path, damage: str) -> None:
    file = envelope_of(root, 1)
    envelope = json.loads(file.read_bytes())
    if damage == "payload":
        said = base64.b64decode(envelope["payload"]).replace(b'"FAILED"', b'"PASSED"')
        envelope["payload"] = base64.b64encode(said).decode()
    elif damage == "signature":
        raw = bytearray(base64.b64decode(envelope["signatures"][0]["sig"]))
        raw[0] ^= 1
        envelope["signatures"][0]["sig"] = base64.b64encode(raw).decode()
    elif damage == "key id":
        envelope["signatures"][0]["keyid"] = "0" * 64
    elif damage == "no subject":
        envelope["payload"] = base64.b64encode(b"{}").decode()
    content = json.dumps(envelope).encode()
    file.write_bytes({"half": content[:99], "json": b"[]", "empty": b""}.get(damage, content))
    ok, detail = signature(path_of(root, 1), root / "mine.pem.pub")
    assert ok is False
    assert file.name in detail


def test_a_signature_of_another_version_is_none_of_this_one(root: Path) -> None:
    away = root / "zoo" / "attestations" / path_of(root, 2).name
    shutil.copytree(envelope_of(root, 1).parent, away)
    ok, detail = signature(path_of(root, 2), root / "mine.pem.pub")
    assert ok is False
    assert "is about another version" in detail


def test_what_is_damaged_or_retracted_is_not_signed(root: Path) -> None:
    table = path_of(root, 2) / "data" / "part-00000.parquet"
    table.write_bytes(table.read_bytes()[:-1])
    with pytest.raises(VerificationError, match=r"data/part-00000\.parquet has"):
        sign_version(root, "zoo@v2", root / "mine.pem")
    life.retract(root, "zoo@v1", why="wrong license")
    with pytest.raises(ConfigError, match="was retracted"):
        sign_version(root, "zoo@v1", root / "mine.pem")


def test_keys_that_cannot_be_used(root: Path, tmp_path: Path) -> None:
    rsa = tmp_path / "rsa.pem"
    subprocess.run(["openssl", "genrsa", "-out", str(rsa), "2048"], check=True, capture_output=True)
    for bad in (tmp_path / "none.pem", rsa, root / "mine.pem.pub", tmp_path):
        with pytest.raises(ConfigError, match="must be a private ed25519 key in PEM"):
            sign_version(root, "zoo@v1", bad)
    with pytest.raises(ConfigError, match=r"it is a private key.* is .*mine\.pem\.pub") as refused:
        verify(path_of(root, 1), key=root / "mine.pem")
    assert "keys new --out" not in str(refused.value)
    with pytest.raises(ConfigError, match="must be a public ed25519 key in PEM"):
        verify(path_of(root, 1), key=tmp_path)
    with pytest.raises(
        ConfigError, match=r"none\.pem must .*: there is no such file\. Make a pair: curate keys new"
    ):
        sign_version(root, "zoo@v1", tmp_path / "none.pem")
    with pytest.raises(ConfigError, match=r"there is no such file\. Give the public key of whom you trust"):
        verify(path_of(root, 1), key=tmp_path / "none.pem.pub")
    with pytest.raises(ConfigError, match="is there already"):
        new_keys(root / "mine.pem")
    assert (root / "mine.pem").stat().st_mode & 0o777 == 0o600


def test_a_key_that_openssl_made_works(root: Path, tmp_path: Path) -> None:
    private, public = tmp_path / "k.pem", tmp_path / "k.pub"
    for arguments in (
        ["genpkey", "-algorithm", "ed25519", "-out", private],
        ["pkey", "-in", private, "-pubout", "-out", public],
    ):
        subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True)
    assert sign_version(root, "zoo@v2", private)["is_new"]
    assert signature(path_of(root, 2), public)[0] is True
