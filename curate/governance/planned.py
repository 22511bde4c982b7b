"""What an erasure would take out, as a value and in words: for a person to read and say yes to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from curate.governance.journal import Erasure
from curate.governance.targets import NearDuplicate

_SHOWN = 10


@dataclass(frozen=True, slots=True)
class AffectedVersion:
    """A version that holds something of what goes; `number` None: no entry of the log names it.

    `n_signatures` lie beside it; none of them is about its successor. `place` is the folder of releases that it is in,
    empty for the workspace's own.
    """

    dataset: str
    id: str
    number: int | None
    n_data: int
    n_excluded: int
    n_signatures: int = 0
    place: str = ""


@dataclass(frozen=True)
class Plan:
    """What would go.

    Attributes:
        name: of the dataset that was asked about.
        samples: sample_id, dataset and uri of each sample that goes.
        n_same_bytes: of these, how many were added since they are copies, byte by byte.
        near: pictures that look like them and stay, unless they are chosen.
        versions: that get a successor and a tombstone.
        derived: dataset -> what was derived -> how many.
        n_documents: of FiftyOne's datasets.
        training_runs: that are recorded to have used one of the versions.
        warnings: what is outside and stays: exports, datasets of others, open runs.
        erasure: the same for the machine.
    """

    name: str
    samples: Sequence[Mapping[str, str]]
    n_same_bytes: int
    near: Sequence[NearDuplicate]
    versions: Sequence[AffectedVersion]
    derived: Mapping[str, Mapping[str, int]]
    n_documents: int
    training_runs: Sequence[str]
    warnings: Sequence[str]
    erasure: Erasure

    def to_json(self) -> dict[str, Any]:
        """Return it for machines."""
        return {
            "name": self.name,
            "samples": list(self.samples),
            "n_same_bytes": self.n_same_bytes,
            "near_duplicates": [one.to_json() for one in self.near],
            "versions": [asdict(version) for version in self.versions],
            "derived": {name: dict(counts) for name, counts in self.derived.items()},
            "n_documents": self.n_documents,
            "training_runs": list(self.training_runs),
            "manifests": list(self.erasure.elsewhere),
            "out_of_reach": list(self.erasure.out_of_reach),
            "warnings": list(self.warnings),
        }

    def lines(self) -> list[str]:
        """Return it for people."""
        n = len(self.samples)
        told = [f"To erase from {self.name}: {n:,} sample{'s' * (n != 1)}"]
        told += [f"  {one['dataset']}: {one['uri']} ({one['sample_id']})" for one in self.samples[:_SHOWN]]
        told += [f"  … and {n - _SHOWN:,} more (--json lists all)"] if n > _SHOWN else []
        if self.n_same_bytes:
            told.append(f"  {self.n_same_bytes:,} of them were not named: their bytes are the same")
        told.append("Versions: a successor without the rows, a tombstone, and the old data is deleted")
        for version in self.versions:
            number = f"v{version.number}" if version.number else "not in the log"
            told.append(
                f"  {version.dataset} {number} ({version.id[:7]}): {version.n_data:,} released and "
                f"{version.n_excluded:,} excluded rows"
                f"{f', in {version.place}' if version.place else ''}"
                f"{'; SIGNED: sign its successor again' if version.n_signatures else ''}"
            )
        told += [] if self.versions else ["  none holds them"]
        told.append("Derived, deleted or rewritten")
        for name, counts in self.derived.items():
            told.append(
                f"  {name}: " + (", ".join(f"{n:,} {what}" for what, n in counts.items() if n) or "nothing")
            )
        told.append(f"  FiftyOne: {self.n_documents:,} samples, and the database's files are written anew")
        if self.training_runs:
            told.append("Training runs that used these versions (what they learnt stays in their weights)")
            told += [f"  {run}" for run in self.training_runs]
        if self.near:
            told.append("Near duplicates that stay: add --near-duplicates for all, or --sample for one")
            told += [_near_line(one) for one in self.near[:_SHOWN]]
            told += [f"  … and {len(self.near) - _SHOWN:,} more (--json)"] if len(self.near) > _SHOWN else []
        told += [
            f"OUT OF REACH: {place}; what is published there is not touched" for place in self.erasure.out_of_reach
        ]
        told += [f"warning: {warning}" for warning in self.warnings]
        return told


def _near_line(one: NearDuplicate) -> str:
    how = "the same pixels in other bytes" if one.same_pixels else f"{one.distance_bits} of 64 bits differ"
    return f"  {one.dataset}: {one.uri} ({one.sample_id}): {how}"
