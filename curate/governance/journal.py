"""The journal of an erasure: written before anything is touched, gone when everything is; it names what goes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from curate.commands import workspace_option
from curate.errors import ConfigError
from curate.governance.traces import Traces
from curate.manifest.place import Place, place_of
from curate.runs import write_text


@dataclass(frozen=True)
class Erasure:
    """What an erasure takes out; all of it is in the journal while it lasts, and nowhere after.

    Attributes:
        at: RFC 3339, UTC; goes into the tombstones.
        why: for the tombstones: no name, id or path.
        datasets: names of the datasets that hold any of it.
        sample_ids: of the samples that go.
        label_ids: of their labels.
        finding_ids: of findings about them, or that name them.
        content_sha256: of their bytes.
        thumbnail_sha256: of their pixels.
        n_bytes: sizes of their files, to find copies without reading every file.
        uris: their paths.
        roots: folders that sources were read from.
        subject: that goes as a whole, or None.
        sources: in whose data the subject is called so.
        subject_is_a_word: whether its name is also that of a class, so that it cannot be taken out of texts.
        versions: dataset -> IDs of the versions that hold any of it, oldest first.
        signed: dataset -> IDs of those of them that somebody signed.
        elsewhere: folders and URLs of releases beside the workspace's own.
        out_of_reach: places of releases that nothing was taken out of, each with who names it.
    """

    at: str
    why: str
    datasets: Sequence[str]
    sample_ids: Sequence[str]
    label_ids: Sequence[str]
    finding_ids: Sequence[str]
    content_sha256: Sequence[str]
    thumbnail_sha256: Sequence[str]
    n_bytes: Sequence[int]
    uris: Sequence[str]
    roots: Sequence[str]
    subject: str | None
    sources: Sequence[str]
    subject_is_a_word: bool
    versions: dict[str, list[str]]
    signed: dict[str, list[str]] = field(default_factory=dict)
    elsewhere: Sequence[str] = ()
    out_of_reach: Sequence[str] = ()

    @property
    def places(self) -> tuple[Place, ...]:
        """Where releases are beside the workspace's own."""
        return tuple(map(place_of, self.elsewhere))

    def releases(self, root: Path) -> list[Place]:
        """Return the places of releases: the workspace's own first."""
        return [root / "manifests", *self.places]

    @property
    def traces(self) -> Traces:
        """What must not be found afterwards."""
        hashes = {
            *self.sample_ids,
            *self.label_ids,
            *self.finding_ids,
            *self.content_sha256,
            *self.thumbnail_sha256,
        }
        subjects = () if self.subject is None or self.subject_is_a_word else (self.subject,)
        return Traces(frozenset(hashes), tuple(self.uris), tuple(self.roots), subjects)


def journal_file(root: Path) -> Path:
    """Return where the journal of a workspace is while an erasure lasts."""
    return root / "erasure" / "journal.json"


def write_journal(root: Path, erasure: Erasure) -> None:
    """Write the journal; from here on the erasure is finished whatever happens."""
    write_text(journal_file(root), json.dumps(asdict(erasure), indent=1) + "\n")


def read_journal(root: Path) -> Erasure | None:
    """Return the erasure that was begun and not finished, or None.

    Raises:
        ConfigError: the journal cannot be read.
    """
    file = journal_file(root)
    if not file.exists():
        return None
    try:
        return Erasure(**json.loads(file.read_bytes()))
    except (OSError, ValueError, TypeError) as error:
        raise ConfigError(f"The journal {file} of an erasure cannot be read ({error}). Restore it.") from error


def refuse_half_erased(root: Path) -> None:
    """Raise where an erasure was begun and not finished: a run would copy what is going.

    Raises:
        ConfigError: there is a journal.
    """
    if journal_file(root).exists():
        raise ConfigError(
            f"An erasure in {root} was begun and not finished. Finish it first: "
            f"curate erase --resume{workspace_option(root)}"
        )
