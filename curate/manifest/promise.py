"""A promise of a version, and whether it is kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

_SHOWN = 5


@dataclass(frozen=True, slots=True)
class Promise:
    """A promise of a version and whether it is kept; `ok` None = not checked, or not promised."""

    name: str
    ok: bool | None
    detail: str


def promise_of(name: str, wrong: Sequence[str], detail: str) -> Promise:
    """Return a promise that is kept where nothing is wrong; the first things that are stand in its line."""
    if not wrong:
        return Promise(name, ok=True, detail=detail)
    more = f"; and {len(wrong) - _SHOWN} more" if len(wrong) > _SHOWN else ""
    return Promise(name, ok=False, detail="; ".join(wrong[:_SHOWN]) + more)
