"""The workspace's secret, and keyed hashes made with it: they recognise an erased sample and tell nobody which it was.

The secret is a file of its own, `WORKSPACE/secret/erasure.key`, never inside `manifests/`: whoever gets a copy of the
releases gets tombstones that cannot be tried against guessed names. `CURATE_ERASURE_KEY` names another place for it,
for example on a disk that is not backed up with the workspace.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
from pathlib import Path

from curate.errors import ConfigError, writing

KEY_FILE = "CURATE_ERASURE_KEY"
KEY_BYTES = 32


def secret_file(root: Path) -> Path:
    """Return where the secret of a workspace is."""
    given = os.environ.get(KEY_FILE)
    return Path(given).expanduser() if given else root / "secret" / "erasure.key"


def read_secret(root: Path) -> bytes:
    """Return the secret.

    Raises:
        ConfigError: it is not there or not what curate wrote: without it nothing that was erased is recognised.
    """
    file = secret_file(root)
    try:
        key = bytes.fromhex(file.read_text(encoding="ascii").strip())
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"What was erased from {root} is recognised by keyed hashes, and their key {file} cannot be read "
            f"({error}). Put it back (or set {KEY_FILE}): without it an erased sample could come back."
        ) from error
    if len(key) != KEY_BYTES:
        raise ConfigError(f"The key {file} must hold {KEY_BYTES} bytes as hex; it holds {len(key)}. Put it back.")
    return key


def ensure_secret(root: Path) -> bytes:
    """Return the secret of a workspace, made on first use; readable by its owner only."""
    file = secret_file(root)
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        beside = file.with_name(f".{file.name}.{os.getpid()}.{secrets.token_hex(4)}")
        handle = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with writing(file), os.fdopen(handle, "w", encoding="ascii") as stream:
                stream.write(secrets.token_hex(KEY_BYTES) + "\n")
                stream.flush()
                os.fsync(stream.fileno())
            file.hardlink_to(beside)  # of several at once one wins, and nobody sees half a key
        except FileExistsError:
            pass
        finally:
            beside.unlink(missing_ok=True)
    return read_secret(root)


def keyed(secret: bytes, kind: str, value: str) -> str:
    """Return HMAC-SHA256 of a value, 64 hex characters; `kind` keeps a sample's id apart from its bytes."""
    return hmac.new(secret, f"{kind}\0{value}".encode("utf-8", "surrogateescape"), hashlib.sha256).hexdigest()
