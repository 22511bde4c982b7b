"""What an erasure did, as a value and in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from curate.manifest.place import Place


@dataclass(frozen=True)
class Erased:
    """What an erasure did.

    Attributes:
        n_samples: that are gone.
        successors: dataset -> old ID -> ID of the version in its place.
        n_swept_files: files of the dataset's folder that were deleted beyond what the steps knew of.
        left: files in the workspace that are not curate's to change and still name something: sources, exports.
        out_of_reach: places of releases that nothing was taken out of, each with who names it.
        n_places: folders and stores of releases outside the workspace that were gone through.
        sign_again: dataset -> IDs of versions in the place of signed ones; a signature is about one ID and stays behind.
    """

    n_samples: int
    successors: Mapping[str, Mapping[str, str | None]]
    n_swept_files: int
    left: Sequence[Place]
    sign_again: Mapping[str, Sequence[str]]
    out_of_reach: Sequence[str] = ()
    n_places: int = 0

    def to_json(self) -> dict[str, Any]:
        """Return it for machines; `erased` only where no release is out of reach."""
        return {
            "erased": not self.out_of_reach,
            "out_of_reach": list(self.out_of_reach),
            "n_samples": self.n_samples,
            "successors": {name: dict(pairs) for name, pairs in self.successors.items()},
            "n_swept_files": self.n_swept_files,
            "left": [str(file) for file in self.left],
            "sign_again": {name: list(ids) for name, ids in self.sign_again.items()},
        }

    def lines(self) -> list[str]:
        """Return it for people."""
        where = " from what is in reach" if self.out_of_reach else ""
        told = [f"Erased{where}: {self.n_samples:,} sample{'s' * (self.n_samples != 1)}"]
        for name, pairs in self.successors.items():
            told += [f"  {name} {old[:7]} → {new[:7] if new else 'gone'}" for old, new in pairs.items()]
        told += [
            f"  was signed; sign it again: curate sign {name}@{one[:12]} --key FILE"
            for name, ids in self.sign_again.items()
            for one in ids
        ]
        told += [f"warning: {file} is not curate's to change and still names them" for file in self.left]
        places = f" and of {self.n_places} place{'s' * (self.n_places != 1)} of releases" if self.n_places else ""
        clean = f"Every file of the workspace{places} was decoded: nothing names them any more."
        return [
            *told,
            *([] if self.left else [clean]),
            *(f"NOT ERASED from {place}: versions there may still hold them." for place in self.out_of_reach),
            "No run brings them back.",
            f"next: curate run SPEC (checks and teachers anew) · curate verify {next(iter(self.successors), 'NAME')}",
        ]
