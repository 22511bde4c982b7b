"""One name for each split, whatever its source calls it."""

from __future__ import annotations

import re

SPLIT_NAMES = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "dev": "val",
    "test": "test",
    "testing": "test",
}
_SHARD = re.compile(r"^(?P<split>.+?)[-_.]\d+(-of-\d+)?$")


def split_name(given: str | None) -> str | None:
    """Return train, val or test for the names in use for them, any other as it was given, null for an empty one."""
    return SPLIT_NAMES.get(given.strip().lower(), given) if given and given.strip() else None


def split_of_shard(path: str) -> str | None:
    """Return the split that a shard's path says: `data/train-00000-of-00002.parquet`, `test/0000.parquet`.

    Only the names in `SPLIT_NAMES` are taken from a folder; a file called NAME-00000-of-00001 may name any split.
    """
    *folders, name = path.split("/")
    stem = name.rsplit(".", 1)[0]
    match = _SHARD.match(stem)
    first = match["split"] if match else stem
    if first.lower() in SPLIT_NAMES or (match and match[2]):
        return split_name(first)
    return next((SPLIT_NAMES[part.lower()] for part in reversed(folders) if part.lower() in SPLIT_NAMES), None)
