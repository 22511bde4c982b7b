"""Verify: what a version promises, checked one by one; what is not checked or not promised is said to be so."""

from __future__ import annotations

from pathlib import Path

from curate.errors import VerificationError
from curate.manifest import log
from curate.manifest.place import Place, place_of, resolved
from curate.manifest.promise import Promise, promise_of
from curate.manifest.read import load_manifest
from curate.manifest.signatures import signature_promise
from curate.manifest.store import MANIFEST
from curate.manifest.tombstone import read_tombstone
from curate.manifest.used import read_uses
from curate.manifest.verify_deep import DEEP
from curate.manifest.verify_files import Progress, file_promises
from curate.manifest.verify_meaning import BY_MEANING, kept
from curate.manifest.verify_rows import Opened

__all__ = ["Promise", "file_promises", "require", "verify"]

NOT_PROMISED = (
    "that released labels are true, that the data is free of bias, that there is a lawful basis to use it"
)


def verify(
    version: str | Place,
    *,
    progress: Progress | None = None,
    deep: bool = False,
    only_bytes: bool = False,
    key: str | Path | None = None,
) -> list[Promise]:
    """Return every promise of the version at this path with what was found; see `require` for the exception.

    Checked: manifest.json can be read; the folder's name is its sha256; every listed file is there with its bytes
    and sha256, and nothing unlisted is; tables have the rows and columns described; counts add up; soft labels lie
    beside the rows they are about; verdicts and gates recompute from what is stored; parents are there; the
    signatures, where `key` says whose.

    Args:
        version: folder or URL of the version, `…/NAME/versions/ID`.
        progress: called with (bytes hashed, bytes in all).
        deep: also decode every value, run the expectation suite of the release again and recompute the statistics
            that the stored tables determine.
        only_bytes: only hash; what the tables mean is not checked, and that is said. As fast as the disk.
        key: public key in PEM; without a signature by it the promise "signature" is broken.

    Raises:
        ConfigError: the key cannot be read.
        InputError: there is no folder at this path.
    """
    version = place_of(version)
    promises = file_promises(version, progress=progress)
    checks = {**BY_MEANING, **(DEEP if deep else {})}
    damaged = any(promise.ok is False for promise in promises)
    if damaged or only_bytes:
        why = f"not checked: {'the files are not what was published' if damaged else 'only bytes were asked for'}"
        promises += [Promise(name, None, why) for name in checks]
    else:
        manifest, _ = load_manifest(version)
        opened = Opened(version, manifest)
        promises += [kept(name, check, opened) for name, check in checks.items()]
    promises += _from_log(version)
    promises.append(signature_promise(resolved(version), key))
    promises.append(Promise("not promised", None, NOT_PROMISED))
    return promises


def require(promises: list[Promise], version: str | Place) -> None:
    """Raise a VerificationError that names each broken promise; return if there is none."""
    broken = [promise for promise in promises if promise.ok is False]
    if broken:
        lines = "\n".join(f"  {promise.name}: {promise.detail}" for promise in broken)
        msg = f"{version} is not what was published:\n{lines}\nRestore it from a copy, or publish it again."
        raise VerificationError(msg)


def _from_log(version: Place) -> list[Promise]:
    """Return what only lies beside the version: its parents, damaged records of use, whether it was retracted."""
    version = resolved(version)
    base = version.parent.parent
    try:
        everything = log.read_log(base.parent, base.name)
    except Exception as error:  # noqa: BLE001 - whatever is wrong with the log is what this promise is about
        return [Promise("parents", ok=False, detail=str(error))]
    published = log.publications(everything).get(version.name)
    if published is None:
        return [Promise("parents", None, "not checked: no log beside this folder names the version")]
    parents = published.parents
    lost = [parent for parent in parents if not (version.parent / parent / MANIFEST).is_file()]
    try:
        erased = [parent for parent in parents if read_tombstone(base, parent) is not None]
    except VerificationError as error:
        return [Promise("parents", ok=False, detail=str(error))]
    missing = [f"{parent} is not there" for parent in lost if parent not in erased]
    detail = f"{len(parents) - len(erased)} parents are there"
    detail += f", {len(erased)} tombstoned (erased on request)" if erased else ""
    told = [promise_of("parents", missing, detail)]
    try:
        read_uses(base.parent, base.name, version.name)
    except VerificationError as error:
        told.append(Promise("uses", ok=False, detail=str(error)))
    gone = log.retractions(everything).get(version.name)
    if gone:
        told.append(Promise("retracted", None, f"RETRACTED {gone.at}: {gone.why}"))
    return told
