"""Signatures beside a version: DSSE envelopes over an in-toto statement that names its ID. Offline, ed25519.

`attestations/ID/*.dsse.json`: one file a signature, never rewritten. The statement (in-toto v1, predicate test-result
v0.1) says which release, which ID, and what its gates said. A signature says who vouches, not that they are right.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from curate import schema
from curate.errors import ConfigError, MissingExtraError, StageError, writing
from curate.manifest.place import Place, names_in, put_new, read_all
from curate.manifest.promise import Promise

STATEMENT = "https://in-toto.io/Statement/v1"
PREDICATE = "https://in-toto.io/attestation/test-result/v0.1"
PAYLOAD = "application/vnd.in-toto+json"
SUFFIX = ".dsse.json"
_RESULTS = {"passed": "PASSED", "warned": "WARNED", "failed": "FAILED"}


@dataclass(frozen=True, slots=True)
class Signed:
    """A signature in its place; `is_new` False where the same key had signed the version before."""

    path: Place
    version_id: str
    key_id: str
    is_new: bool


def sign(
    version: Place, manifest: Mapping[str, Any], gates: Sequence[Mapping[str, Any]], key: str | Path
) -> Signed:
    """Sign a version with a private key (ed25519, PKCS 8 in PEM, without a password).

    Raises:
        ConfigError: the key cannot be read or is of another kind.
        MissingExtraError: the extra `sign` is not installed.
    """
    signer = _signer(Path(key))
    from securesystemslib.dsse import Envelope  # noqa: PLC0415 - extra `sign`

    payload = schema.canonical_json(statement(version.name, manifest, gates)).encode()
    envelope = Envelope(payload, PAYLOAD, {})
    envelope.sign(signer)
    content = (schema.canonical_json(envelope.to_dict()) + "\n").encode()
    name = f"{signer.public_key.keyid[:16]}-{hashlib.sha256(content).hexdigest()[:8]}{SUFFIX}"
    place = _folder(version) / name
    is_new = not place.is_file() and put_new(place, content)
    return Signed(place, version.name, signer.public_key.keyid, is_new)


def statement(version_id: str, manifest: Mapping[str, Any], gates: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the in-toto statement about a version: its ID as the subject's digest, its gates as test results."""
    by_outcome: dict[str, list[str]] = {"passedTests": [], "warnedTests": [], "failedTests": []}
    for row in gates:
        name = row["statistic"] if row["group"] is None else f"{row['statistic']} ({row['group']})"
        kind = "passedTests" if row["outcome"] == "pass" else "failedTests" if row["blocks"] else "warnedTests"
        by_outcome[kind].append(name)
    inputs = sorted(manifest["inputs"].items())
    return {
        "_type": STATEMENT,
        "subject": [{"name": manifest["name"], "digest": {"sha256": version_id}}],
        "predicateType": PREDICATE,
        "predicate": {
            "result": _RESULTS[manifest["gates"]],
            "configuration": [{"name": name, "digest": {"sha256": d}} for name, d in inputs if len(d) == 64],
            **{kind: sorted(names) for kind, names in by_outcome.items()},
        },
    }


def signature_promise(version: Place, key: str | Path | None) -> Promise:
    """Return what is known of who vouches for a version; without a key nobody is trusted, and that is said.

    Raises:
        ConfigError: the key cannot be read or is of another kind.
        MissingExtraError: a key is given and the extra `sign` is not installed.
    """
    folder = _folder(version)
    names = [name for name in names_in(folder) if name.endswith(SUFFIX)]
    contents = dict(zip(names, read_all(folder, names), strict=True))
    if key is None:
        if not names:
            return Promise("signature", None, "UNSIGNED: nobody vouches for this version with a key")
        return Promise(
            "signature", None, f"NOT CHECKED: {_n(len(names))} beside it; say whose you trust: --key FILE"
        )
    trusted = _public_key(Path(key))
    if not names:
        return Promise("signature", ok=False, detail=f"UNSIGNED: no signature to hold against {key}")
    wrong, n_good = [], 0
    for name, content in contents.items():
        verdict = _held_against(trusted, content, version.name)
        n_good += verdict is None
        wrong += [f"{name}: {verdict}"] if verdict else []
    others = [line for line in wrong if line.endswith(_OTHER_KEY)]
    if n_good and len(others) == len(wrong):
        return Promise(
            "signature", ok=True, detail=f"{n_good} of {_n(len(names))} by the key {key} ({trusted.keyid[:16]})"
        )
    return Promise("signature", ok=False, detail="; ".join(wrong))


def n_signatures(version: Place) -> int:
    """Return how many signatures lie beside a version, checked or not."""
    return sum(name.endswith(SUFFIX) for name in names_in(_folder(version)))


def new_keys(out: Path) -> tuple[Path, Path, str]:
    """Write a new ed25519 key pair as `out` (private, mode 600) and `out`.pub; return both and the key's id.

    Raises:
        ConfigError: a file is there already.
        MissingExtraError: the extra `sign` is not installed.
        StageError: the disk is full; no key is left.
    """
    _need()
    from cryptography.hazmat.primitives import serialization as pem  # noqa: PLC0415 - extra `sign`
    from securesystemslib.signer import CryptoSigner  # noqa: PLC0415 - as above

    public = out.with_name(f"{out.name}.pub")
    for path in (out, public):
        if path.exists():
            raise ConfigError(f"{path} is there already, and a key is not overwritten. Give another --out.")
    signer = CryptoSigner.generate_ed25519()
    private_key = pem.load_pem_private_key(signer.private_bytes, None)
    out.parent.mkdir(parents=True, exist_ok=True)
    told = private_key.public_key().public_bytes(pem.Encoding.PEM, pem.PublicFormat.SubjectPublicKeyInfo)
    try:
        with writing(out), os.fdopen(os.open(out, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(signer.private_bytes)
        with writing(public):
            public.write_bytes(told)
    except StageError:  # half a pair is none
        out.unlink(missing_ok=True)
        public.unlink(missing_ok=True)
        raise
    return out, public, str(signer.public_key.keyid)


_OTHER_KEY = "by another key"


def _held_against(trusted: Any, content: bytes, version_id: str) -> str | None:  # noqa: ANN401 - SSlibKey
    """Return what is wrong with an envelope, None where the trusted key signed this very version."""
    from securesystemslib.dsse import Envelope  # noqa: PLC0415 - extra `sign`
    from securesystemslib.exceptions import VerificationError as Refused  # noqa: PLC0415 - as above

    try:
        envelope = Envelope.from_dict(json.loads(content))
        said = json.loads(envelope.payload)
        subjects = [subject["digest"]["sha256"] for subject in said["subject"]]
    except Exception as error:  # noqa: BLE001 - any content may lie there
        return f"is no signed statement ({type(error).__name__})"
    if trusted.keyid not in envelope.signatures:
        return _OTHER_KEY
    try:
        envelope.verify([trusted], 1)
    except Refused:
        return "the signature does not match: it was changed, or made with another key"
    if (envelope.payload_type, said.get("_type")) != (PAYLOAD, STATEMENT) or subjects != [version_id]:
        return f"is about another version: {', '.join(map(str, subjects))[:80]}"
    return None


def _signer(path: Path) -> Any:  # noqa: ANN401 - CryptoSigner
    _need()
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey  # noqa: PLC0415 - extra `sign`
    from cryptography.hazmat.primitives.serialization import load_pem_private_key  # noqa: PLC0415 - as above
    from securesystemslib.signer import CryptoSigner  # noqa: PLC0415 - as above

    pem = _key_bytes(path, "private")
    try:
        loaded = load_pem_private_key(pem, None)
    except (ValueError, TypeError) as error:
        if b"PUBLIC KEY-----" in pem:
            raise ConfigError(
                f"{path} must be a private ed25519 key in PEM; it is a public key, which only verifies: curate verify "
                f"NAME --key {path}. The private one, beside which `curate keys new` wrote it, is "
                f"{path.with_suffix('') if path.suffix == '.pub' else 'the file without .pub'}."
            ) from error
        raise ConfigError(_wrong_key(path, "private", error)) from error
    if not isinstance(loaded, Ed25519PrivateKey):
        raise ConfigError(_wrong_key(path, "private", f"it is a {type(loaded).__name__}"))
    return CryptoSigner(loaded)


def _public_key(path: Path) -> Any:  # noqa: ANN401 - SSlibKey
    _need()
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey  # noqa: PLC0415 - extra `sign`
    from cryptography.hazmat.primitives.serialization import load_pem_public_key  # noqa: PLC0415 - as above
    from securesystemslib.signer import SSlibKey  # noqa: PLC0415 - as above

    pem = _key_bytes(path, "public")
    try:
        loaded = load_pem_public_key(pem)
    except (ValueError, TypeError) as error:
        if b"PRIVATE KEY-----" in pem:
            raise ConfigError(
                f"{path} must be a public ed25519 key in PEM; it is a private key, which only signs. The public one, "
                f"which `curate keys new` writes beside it, is {path}.pub: --key {path}.pub"
            ) from error
        raise ConfigError(_wrong_key(path, "public", error)) from error
    if not isinstance(loaded, Ed25519PublicKey):
        raise ConfigError(_wrong_key(path, "public", f"it is a {type(loaded).__name__}"))
    return SSlibKey.from_crypto(loaded)


def _key_bytes(path: Path, kind: str) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise ConfigError(_wrong_key(path, kind, "there is no such file")) from error
    except OSError as error:
        raise ConfigError(_wrong_key(path, kind, f"it cannot be read ({error.strerror})")) from error


_REMEDIES = {
    "private": "Make a pair: curate keys new --out mine.pem",
    "public": "Give the public key of whom you trust to have signed; curate keys new wrote it beside theirs: FILE.pub.",
}


def _wrong_key(path: Path, kind: str, why: object) -> str:
    return f"{path} must be a {kind} ed25519 key in PEM without a password: {why}. {_REMEDIES[kind]}"


def _need() -> None:
    try:
        import securesystemslib.signer  # noqa: F401, PLC0415 - is it there?
    except ImportError as error:
        raise MissingExtraError.from_extra("securesystemslib", "sign", needed_by="Signing") from error


def _folder(version: Place) -> Place:
    return version.parent.parent / "attestations" / version.name


def _n(n: int) -> str:
    return f"{n} signature{'s' * (n != 1)}"
