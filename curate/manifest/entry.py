"""What is written beside versions and no ID covers: one line of JSON that holds its own sha256."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from curate import schema

SEALED = 2  # format_version from which an entry holds its own sha256


def seal(content: Mapping[str, Any]) -> bytes:
    """Return the line for `content`, its format version and the sha256 of both."""
    versioned = {**content, "format_version": SEALED}
    return (schema.canonical_json({**versioned, "sha256": _digest(versioned)}) + "\n").encode()


def unseal(written: bytes, *needed: str) -> dict[str, Any]:
    """Return the content of a line; one of format version 1 has no sha256 to be held against.

    Raises:
        ValueError: it is no JSON object, its sha256 is another one, or a needed key is missing or empty.
    """
    content = json.loads(written)
    if not isinstance(content, dict):
        raise ValueError("it is no JSON object")  # noqa: TRY004 - one kind of error for whatever is wrong with the line
    said = content.pop("sha256", None)
    if said != _digest(content) if said is not None else content.get("format_version") == SEALED:
        raise ValueError("its content does not have the sha256 that it should have")
    missing = [name for name in needed if content.get(name) in (None, "")]
    if missing:
        raise ValueError(f"it lacks {', '.join(missing)}")
    return content


def _digest(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(schema.canonical_json(content).encode()).hexdigest()
