"""Who is corrupted, and how: decided by a hash of the id, so that row order leaves no trace."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Sequence

import pyarrow as pa

# One row an error that was planted.
PLANTED = pa.schema(
    [
        pa.field("label_id", pa.string(), nullable=False),  # of the changed, dropped or invented label
        pa.field("sample_id", pa.string(), nullable=False),
        pa.field("kind", pa.string(), nullable=False),
        pa.field("from_label", pa.string()),
        pa.field("to_label", pa.string()),  # null where the label is gone
        pa.field("seen_at", pa.string()),  # of a dropped box of a track: the next label of it, after the gap
        pa.field("bbox", pa.list_(pa.float64(), 4)),  # of a dropped box: where something should be found missing
    ]
)


def number_of(*parts: str) -> float:
    """Return a number in [0, 1) that depends on nothing but the parts."""
    digest = hashlib.sha256("\0".join(parts).encode("utf-8", "surrogateescape")).digest()
    return int.from_bytes(digest[:7], "big") / (1 << 56)


def pick(options: Sequence[str], *parts: str) -> str:
    """Return one of the options; each is as likely as the others."""
    return options[int(number_of(*parts) * len(options))]


def pick_weighted(options: Sequence[str], weights: Sequence[float], *parts: str) -> str:
    """Return one of the options with a chance in proportion to its weight; alike where all weigh nothing."""
    total = sum(weights)
    if total <= 0:
        return pick(options, *parts)
    left = number_of(*parts) * total
    for option, weight in zip(options, weights, strict=True):
        left -= weight
        if left < 0:
            return option
    return options[-1]


def chosen(ids: Sequence[str], n: int, seed: int, kind: str, taken: Collection[str]) -> list[str]:
    """Return up to `n` of the ids that are not taken, those with the smallest hashes."""
    free = [one for one in ids if one not in taken]
    return sorted(free, key=lambda one: (number_of("plant", str(seed), kind, one), one))[:n]
