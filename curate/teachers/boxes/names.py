"""Which image a name means: its path in the source, a path that ends alike, its bare name, or the id of its sample."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

SHOWN = 3


@dataclass(frozen=True, slots=True)
class Named:
    """Images by name.

    Attributes:
        place: name as it was given → position of its image; a name that means none, or several, is absent.
        ambiguous: names that could mean several images, or that mean the same one as another name; sorted.
    """

    place: dict[str, int]
    ambiguous: tuple[str, ...]

    def complaint(self) -> str | None:
        """Return what to tell about ambiguous names."""
        if not self.ambiguous:
            return None
        shown = ", ".join(self.ambiguous[:SHOWN])
        return (
            f"{len(self.ambiguous):,} file names could mean several images and were not used: {shown}. "
            f"Write them with the folders that they have in the source."
        )


def find_images(names: Sequence[Any], uris: Sequence[str], sample_ids: Sequence[str]) -> Named:
    """Return the image that each name means.

    In this order: a path of the source, or a sample's id; the longest end of the path, folder by folder, that only
    one image has (so a path of another machine will do); the bare name without its extension. A name that is not text
    means nothing.

    Args:
        names: as a file gives them, in any order and more than once.
        uris: paths of the images, relative to the source.
        sample_ids: of the images, in the same order.
    """
    wanted = sorted({name for name in names if isinstance(name, str) and name})
    exact = {identity: at for at, identity in enumerate(sample_ids)} | {uri: at for at, uri in enumerate(uris)}
    ends: dict[str, int | None] = {}  # end of a path → its image; None = several
    stems: dict[str, int | None] = {}
    for at, uri in enumerate(uris):
        parts = _parts(uri)
        for first in range(len(parts)):
            end = "/".join(parts[first:])
            ends[end] = None if end in ends else at
        stem = parts[-1].rpartition(".")[0] if parts else ""
        stems[stem] = None if stem in stems else at
    place: dict[str, int] = {}
    ambiguous: set[str] = set()
    for name in wanted:
        parts = _parts(name)
        found = exact.get(name, -1)
        tries = [ends[end] for first in range(len(parts)) if (end := "/".join(parts[first:])) in ends]
        if found < 0 and not tries and name in stems:
            tries = [stems[name]]
        if found < 0 and tries:
            found = -2 if tries[0] is None else tries[0]
        if found >= 0:
            place[name] = found
        elif found == -2:
            ambiguous.add(name)
    return Named(*_without_collisions(place, ambiguous, exact))


def _parts(path: str) -> list[str]:
    return [part for part in path.replace("\\", "/").split("/") if part not in {"", "."}]


def _without_collisions(
    place: dict[str, int], ambiguous: set[str], exact: dict[str, int]
) -> tuple[dict[str, int], tuple[str, ...]]:
    """Take out names that mean the image of another name; one that is exactly the image's path or id stays."""
    by_image: dict[int, list[str]] = {}
    for name, at in place.items():
        by_image.setdefault(at, []).append(name)
    for several in (names for names in by_image.values() if len(names) > 1):
        loose = [name for name in several if name not in exact]
        for name in loose:
            del place[name]
        ambiguous |= set(loose)
    return place, tuple(sorted(ambiguous))
