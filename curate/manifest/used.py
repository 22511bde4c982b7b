"""Which training runs used which version: a file a run, put if absent, never rewritten."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from curate.errors import ConfigError, VerificationError
from curate.manifest.entry import seal, unseal
from curate.manifest.log import now, predecessors, read_log, release_folder
from curate.manifest.place import Place, names_in, place_of, put_new, read_all


@dataclass(frozen=True, slots=True)
class Use:
    """A training run `by` that used the version `id`; `at` is RFC 3339, UTC."""

    id: str
    by: str
    at: str


def record_use(manifests: str | Place, name: str, version_id: str, by: str, at: str | None = None) -> Use:
    """Record that the training run `by` used a version; one that is recorded already is returned as it stands.

    Args:
        manifests: where releases are.
        name: of the release.
        version_id: the whole ID.
        by: the run, in whatever words find it again: a run id, a URL, a commit. Its ranks may all say it.
        at: RFC 3339, UTC; None = now.

    Raises:
        ConfigError: no words for the run, or a name that cannot be a folder's.
        VerificationError: an entry is not what curate wrote.
    """
    if not by.strip():
        raise ConfigError("A use needs the training run that it was: --by RUN (an id, a URL, a commit).")
    use = Use(version_id, by.strip(), at or now())
    content = {"format": "curate-used", "id": use.id, "by": use.by, "at": use.at}
    # a run that says it twice is one run
    place = release_folder(place_of(manifests), name) / "used" / version_id / _file_name(use.by)
    if put_new(place, seal(content)):
        return use
    return _read(place, place.read_bytes())


def read_uses(manifests: str | Place, name: str, version_id: str | None = None) -> list[Use]:
    """Return the recorded uses of a release's versions, or of one of them, oldest first.

    The uses of one include those of erased versions whose place it took; each names the version that was used.

    Raises:
        VerificationError: an entry is not what curate wrote.
    """
    place = place_of(manifests)
    folder = release_folder(place, name) / "used"
    found: list[Use] = []
    asked = [version_id, *predecessors(read_log(place, name), version_id)] if version_id else names_in(folder)
    for one in asked:
        names = [file for file in names_in(folder / one) if file.endswith(".json")]
        for file, content in zip(names, read_all(folder / one, names), strict=True):
            if content:  # a file without a byte was cut off by a power failure: never written
                found.append(_read(folder / one / file, content))
    return sorted(found, key=lambda use: (use.at, use.by))


def _read(place: Place, content: bytes) -> Use:
    try:
        said = unseal(content, "format", "id", "by", "at")
        use = Use(str(said["id"]), str(said["by"]), str(said["at"]))
        if (use.id, _file_name(use.by)) != (place.parent.name, place.name):
            raise ValueError("it is about another version or run than its path says")  # noqa: TRY301 - as below
    except ValueError as error:
        raise VerificationError(
            f"The record of use {place} is not what curate wrote: {error!r}. Restore it."
        ) from error
    return use


def _file_name(by: str) -> str:
    return f"{hashlib.sha256(by.encode()).hexdigest()[:24]}.json"
