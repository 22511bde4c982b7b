"""Tombstones: what is left of a version that was erased on request, beside the versions under its ID."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, overload

from curate import schema
from curate.adapters.object_store import StorePath
from curate.errors import VerificationError
from curate.manifest.place import Place, put_new

_FORMAT = "curate-tombstone"


@dataclass(frozen=True, slots=True)
class Tombstone:
    """Says that a version was erased, and which one took its place.

    Attributes:
        id: of the version that is gone.
        successor: of the version without the erased rows; None where it was never in the log.
        at: RFC 3339, UTC.
        why: as the person who erased said; no name, id or path.
        n_samples: samples that were taken out of it.
        n_rows: rows of `data/` and `excluded/` that were taken out of it.
        hashes: keyed hashes (HMAC-SHA256 with the workspace's secret) of the sample ids, sorted.
    """

    id: str
    successor: str | None
    at: str
    why: str
    n_samples: int
    n_rows: int
    hashes: Sequence[str]

    def to_json(self) -> dict[str, Any]:
        """Return it as it stands in the file."""
        return {
            "format": _FORMAT,
            "format_version": 1,
            "id": self.id,
            "successor": self.successor,
            "at": self.at,
            "why": self.why,
            "n_samples": self.n_samples,
            "n_rows": self.n_rows,
            "hashes": list(self.hashes),
        }


def write_tombstone(base: Place, tombstone: Tombstone) -> None:
    """Write a tombstone under the release folder `base`; one that is there stays as it is."""
    put_new(_file(base, tombstone.id), (schema.canonical_json(tombstone.to_json()) + "\n").encode())


def read_tombstone(base: Place, version_id: str) -> Tombstone | None:
    """Return the tombstone of a version of the release folder `base`; None where it was not erased.

    Raises:
        VerificationError: the file is not what curate writes.
    """
    file = _file(base, version_id)
    if not file.is_file():
        return None
    try:
        content = json.loads(file.read_bytes())
        if content["format"] != _FORMAT or content["id"] != version_id:
            raise ValueError("it is about something else")  # noqa: TRY301 - joins the others below
        successor = content["successor"]
        return Tombstone(
            id=version_id,
            successor=None if successor is None else str(successor),
            at=str(content["at"]),
            why=str(content["why"]),
            n_samples=int(content["n_samples"]),
            n_rows=int(content["n_rows"]),
            hashes=tuple(map(str, content["hashes"])),
        )
    except (ValueError, KeyError, TypeError) as error:
        msg = f"The tombstone {file} is not what curate wrote: {error!r}. Restore it from a copy."
        raise VerificationError(msg) from error


@overload
def _file(base: Path, version_id: str) -> Path: ...
@overload
def _file(base: StorePath, version_id: str) -> StorePath: ...
def _file(base: Place, version_id: str) -> Place:
    return base / "tombstones" / f"{version_id}.json"
